/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The part of the server that lives on one reactor: targets that are at home there with all that
 * their sessions share, those sessions, and their connections. Nothing of it is touched from
 * elsewhere; the server (server.c) calls the functions below in fibers of the shard's reactor.
 *
 * The server's own reactor has a shard, too: there connections are accepted, and discovery sessions
 * live.
 */
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

struct iscsi_shard {
	struct iscsi_server *server; /* at home elsewhere, unless this is its shard 0 */
	unsigned index;
	struct reactor *reactor;
	const struct world_ops *world;
	struct world_port *port;
	unsigned max_sessions;
	struct iscsi_memory memory;
	bool closing;
	struct reactor_timer tick;

	struct list targets, sessions, connections;
	unsigned session_count, half_open;
	unsigned saves; /* units that are saving */
	unsigned last_session;
	struct list memory_waiters; /* tasks, by wait_link */
	struct list tmf_waiters;    /* tasks, by wait_link */
	struct reactor_work memory_work;
	bool memory_work_armed;
	struct fiber_queue changed; /* wakes when a session, connection or task has ended */
};

/* On `reactor`, which becomes the shard's. -ENOMEM. */
int iscsi_shard_new(struct iscsi_server *server, unsigned index, struct reactor *reactor,
		    struct iscsi_shard **ret_shard);
/* Ends all sessions, waits for their requests, frees everything. NULL is fine. */
void iscsi_shard_free(struct iscsi_shard *shard);

struct iscsi_target *iscsi_shard_find_target(struct iscsi_shard *shard, const char *name);
/* By initiator, ISID and target, dead ones too; or by TSIH when that is not 0. */
struct iscsi_session *iscsi_shard_find_session(struct iscsi_shard *shard,
					       const struct iscsi_login_state *login,
					       const struct iscsi_target *target);
/* Have the target, or this initiator there, as many sessions as they may? */
bool iscsi_shard_is_crowded(struct iscsi_shard *shard, const struct iscsi_target *target,
			    const struct iscsi_login_state *login);
/* Memory came back: tasks that wait for it go on. */
void iscsi_shard_memory_freed(struct iscsi_shard *shard);
/* A TSIH that no session has, here or elsewhere; never 0. It tells the shard. */
uint16_t iscsi_shard_new_tsih(struct iscsi_shard *shard);
extern const struct iscsi_login_ops iscsi_shard_login_ops;

/* What the server's functions of the same names do at home of the target (shard_target.c). */
int iscsi_shard_add_target(struct iscsi_shard *shard, const char *name);
int iscsi_shard_remove_target(struct iscsi_shard *shard, const char *name);
int iscsi_shard_add_lun(struct iscsi_shard *shard, const char *name, uint16_t lun,
			const struct iscsi_lun *spec);
int iscsi_shard_remove_lun(struct iscsi_shard *shard, const char *name, uint16_t lun);
int iscsi_shard_set_access(struct iscsi_shard *shard, const char *name,
			   const struct iscsi_access *access);
void iscsi_shard_resized(struct iscsi_shard *shard, const struct block_volume *volume);
void iscsi_shard_set_space(struct iscsi_shard *shard, const struct block_volume *volume,
			   uint64_t available, uint64_t total);
int iscsi_shard_drop_session(struct iscsi_shard *shard, uint16_t id);
int iscsi_shard_sessions(struct iscsi_shard *shard, struct iscsi_session_info **ret_infos,
			 size_t *ret_count);
/* Sessions that `guard` does not let in end; `target` NULL: discovery sessions. */
void iscsi_shard_end_unwelcome(struct iscsi_shard *shard, const struct iscsi_target *target,
			       const struct iscsi_guard *guard);
/* A target without LUNs and sessions leaves for another shard: NULL when it has some. */
struct iscsi_target *iscsi_shard_release_target(struct iscsi_shard *shard, const char *name);
void iscsi_shard_take_target(struct iscsi_shard *shard, struct iscsi_target *target);
