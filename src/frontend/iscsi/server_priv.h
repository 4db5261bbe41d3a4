/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The server's own state, for the files of this folder. */
#include "frontend/iscsi/connection.h"
#include "frontend/iscsi/memory.h"
#include "reactor/fiber.h"

#define ISCSI_DEFAULT_SESSIONS 256
#define ISCSI_DEFAULT_MEMORY   (64 * MIB)
#define ISCSI_HALF_OPEN_MAX    128 /* connections in their login phase */
#define ISCSI_LOGIN_NS         (15 * NSEC_PER_SEC)
#define ISCSI_STALL_NS         (30 * NSEC_PER_SEC) /* neither reads nor sends data due */
#define ISCSI_PING_NS          (30 * NSEC_PER_SEC)
#define ISCSI_LOGOUT_NS        (3 * NSEC_PER_SEC) /* for initiators that are asked to log out */

struct iscsi_server {
	struct reactor *reactor;
	const struct world_ops *world;
	struct world_port *port;
	unsigned max_sessions;
	struct iscsi_memory memory;

	struct world_socket *listener;
	struct world_socket *accepted;
	struct world_op accept_op;
	bool accepting, closing;
	struct reactor_timer tick;

	struct iscsi_guard discovery_guard;
	struct list targets, sessions, connections;
	unsigned session_count, half_open;
	iscsi_save_fn *save; /* NULL: reservations are not saved */
	void *save_arg;
	unsigned saves; /* units that are saving */
	uint16_t last_tsih;
	struct list memory_waiters; /* tasks, by wait_link */
	struct list tmf_waiters;    /* tasks, by wait_link */
	struct reactor_work memory_work;
	bool memory_work_armed;
	struct fiber_queue changed; /* wakes when a session, connection or task has ended */
};

struct iscsi_target *iscsi_server_find_target(struct iscsi_server *server, const char *name);
/* By initiator, ISID and target, dead ones too; or by TSIH when that is not 0. */
struct iscsi_session *iscsi_server_find_session(struct iscsi_server *server,
						const struct iscsi_login_state *login,
						const struct iscsi_target *target);
/* Have the target, or this initiator there, as many sessions as they may? */
bool iscsi_server_is_crowded(struct iscsi_server *server, const struct iscsi_target *target,
			     const struct iscsi_login_state *login);
/* Memory came back: tasks that wait for it go on. */
void iscsi_server_memory_freed(struct iscsi_server *server);
/* A TSIH that no session has; never 0. */
uint16_t iscsi_server_new_tsih(struct iscsi_server *server);
extern const struct iscsi_login_ops iscsi_server_login_ops;
