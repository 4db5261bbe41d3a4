/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A session: one I_T nexus, its order of commands (CmdSN window, RFC 7143 section 4.2.2.1), its
 * tasks and its connections.
 *
 * Owned by the shard of its target. A session dies when its last connection is gone or when it is
 * killed; it is freed, and those who wait for that go on, when the last of its tasks has ended.
 */
#include "frontend/iscsi/memory.h"
#include "frontend/iscsi/params.h"
#include "frontend/iscsi/pdu.h"
#include "frontend/iscsi/target.h"

#define ISCSI_WINDOW          128 /* commands of a session at once; a power of two */
#define ISCSI_IMMEDIATE_MAX   64  /* immediate requests and rejects beside them */
#define ISCSI_DISCOVERY_TASKS 16
#define ISCSI_RESERVE_BYTES   ISCSI_FIRST_BURST_BYTES /* of each session's own memory */

struct iscsi_shard;
struct iscsi_connection;
struct iscsi_task;

struct iscsi_session {
	struct iscsi_shard *shard;
	struct list_node link;       /* in the shard's sessions */
	struct iscsi_target *target; /* NULL in a discovery session */
	struct list connections;
	char initiator[ISCSI_NAME_MAX + 1];
	uint8_t isid[ISCSI_ISID_BYTES];
	uint16_t tsih;
	char port_name[SCSI_PORT_BYTES]; /* SCSI name of the initiator port */
	struct iscsi_params params;      /* of the leading connection */
	bool dead, ending;               /* ending: being killed, not to be freed yet */
	uint64_t created_wall_ns, commands, bytes_read, bytes_written;

	uint32_t exp_cmd_sn, max_cmd_sn;
	unsigned queued;                        /* numbered tasks delivered and not yet answered */
	struct iscsi_task *early[ISCSI_WINDOW]; /* by CmdSN: arrived before its turn */

	struct iscsi_task *pool;
	unsigned pool_size, pool_touched; /* those beyond were never used */
	struct list free_tasks, tasks;
	struct list unsolicited; /* tasks whose unsolicited data is still due */

	uint8_t *reserve; /* a block of its own, so that it moves when the shared memory is used up
			   */
	bool reserve_used;
	size_t memory_used;

	struct scsi_nexus *nexuses[SCSI_LUNS]; /* one for each unit of the target */
	struct list waiters; /* connections that log in again and wait for this one's end */
	struct list joiners; /* others that wait until the tasks of lost connections are over */
};

struct iscsi_login_state;

/* A session without connections, with the names and parameters of the login. -ENOMEM. */
int iscsi_session_new(struct iscsi_shard *shard, const struct iscsi_login_state *login,
		      struct iscsi_target *target, struct iscsi_session **ret_session);
/* Ends it: closes its connections, drops what has not reached a volume. Frees it at once or, when
 * tasks are at work, later. */
void iscsi_session_kill(struct iscsi_session *session);
/* A connection or a task has gone: frees a dead session that has neither. */
void iscsi_session_unref(struct iscsi_session *session);

/* Is a task of a connection that is gone still at a volume? */
bool iscsi_session_has_orphans(const struct iscsi_session *session);
/* Such a task has ended, or a connection has gone: those who wait to join look again. */
void iscsi_session_wake_joiners(struct iscsi_session *session);

/* A unit came to the session's target. -ENOMEM. */
int iscsi_session_add_nexus(struct iscsi_session *session, struct scsi_unit *unit);
void iscsi_session_remove_nexus(struct iscsi_session *session, uint16_t lun);

/* Is the CmdSN of a request that is not immediate one to take? */
bool iscsi_session_accepts(const struct iscsi_session *session, uint32_t cmd_sn);
/* The task's PDU has arrived whole: delivers it, and those that waited for it, in order. */
void iscsi_session_submit(struct iscsi_session *session, struct iscsi_task *task);
/* The last CmdSN that the initiator may send now. */
uint32_t iscsi_session_window(struct iscsi_session *session);

/* Memory for a task's data: at most `wanted`, at least `minimum` bytes. NULL: none now. */
uint8_t *iscsi_session_alloc(struct iscsi_session *session, uint32_t wanted, uint32_t minimum,
			     uint32_t *ret_size);
void iscsi_session_free(struct iscsi_session *session, uint8_t *block, uint32_t size);
