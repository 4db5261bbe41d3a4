/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A task: one request of an initiator in the full-feature phase, from its header to the last byte
 * of the answer. SCSI commands are the hot kind (task.c); the others are served in request.c.
 *
 * From its session's pool. Its states:
 *
 *     RECEIVING -> EARLY -> UNSOLICITED -> [MEMORY] -> DATA | IO | SENDING, in turns -> free
 *
 * An aborted task goes no further: it ends as soon as neither a volume nor the socket uses its
 * memory.
 */
#include "frontend/iscsi/scsi/command.h"
#include "frontend/iscsi/sender.h"
#include "frontend/iscsi/session.h"

enum iscsi_task_state {
	ISCSI_TASK_FREE,
	ISCSI_TASK_RECEIVING,   /* its own PDU is arriving */
	ISCSI_TASK_EARLY,       /* waits for the turn of its CmdSN */
	ISCSI_TASK_UNSOLICITED, /* waits for the rest of its unsolicited data */
	ISCSI_TASK_MEMORY,      /* waits for a buffer */
	ISCSI_TASK_DATA,        /* waits for data that it asked for */
	ISCSI_TASK_IO,          /* waits for its volume */
	ISCSI_TASK_SENDING,     /* waits for the socket */
	ISCSI_TASK_WAITING,     /* waits for the tasks that it aborted, or for a save */
};

struct iscsi_discovery;

struct iscsi_task {
	struct iscsi_session *session;
	struct iscsi_connection *connection; /* NULL once that is gone */
	struct list_node link;               /* in the session's tasks or free tasks */
	struct list_node wait_link;          /* in unsolicited, or a list of waiters of the shard */
	struct iscsi_out out;
	enum iscsi_task_state state;
	struct iscsi_bhs bhs;
	uint32_t itt, cmd_sn;
	bool immediate, counted, aborted, receiving, drop_data;
	bool background;  /* its status is sent while it goes on: an abort does not mean it */
	bool answered;    /* its status was handed to the socket: there is nothing left to abort */
	bool broken;      /* its data-out came in a wrong order */
	uint8_t reject;   /* reason, when the request is to be rejected */
	uint8_t response; /* of task management and logout */

	struct iscsi_unit *unit;    /* counted in unit->tasks; or NULL */
	struct iscsi_unit *io_unit; /* another one, that a request is at; counted, too */
	uint8_t *buffer;
	uint32_t buffer_size;

	/* Data-out. `received` counts from the command's first byte; the buffer starts at out_base.
	 */
	bool unsolicited_open;
	uint32_t received, out_base, data_sn;
	uint32_t step_end;        /* of the data that the current step needs */
	uint32_t r2t_end, r2t_sn; /* end of the burst that was asked for */
	uint32_t ttt;
	uint64_t
		asked_ns; /* when data was last asked for or came, or its wait for its turn began */

	/* Data-in. */
	uint32_t step_length, step_sent, data_in_sn, burst_left;
	uint64_t data_in_bytes;

	uint16_t generation; /* makes target transfer tags of a reused task differ */
	uint8_t sense[2 + SCSI_SENSE_BYTES];
	struct scsi_command scsi;
};

/* NULL when the session has none left. */
struct iscsi_task *iscsi_task_new(struct iscsi_connection *connection, const struct iscsi_bhs *bhs);
/* Gives it back. No volume and no socket operation uses it. */
void iscsi_task_end(struct iscsi_task *task);
/* Ends it now or as soon as possible, without an answer. */
void iscsi_task_abort(struct iscsi_task *task);
/* Its status goes to the socket: its place in the window is free again, and no function aborts it.
 */
void iscsi_task_mark_answered(struct iscsi_task *task);

/* A header of a SCSI command or Data-Out PDU arrived: where its data goes. For a command the task
 * was made. A negative errno: the connection is to be closed. */
int iscsi_task_command_header(struct iscsi_task *task, const uint8_t *ahs, uint8_t **ret_data);
int iscsi_task_data_header(struct iscsi_connection *connection, const struct iscsi_bhs *bhs,
			   uint8_t **ret_data);
/* The Data-Out PDU for connection->receiving is complete. */
int iscsi_task_data_arrived(struct iscsi_connection *connection);
/* Its turn has come. */
void iscsi_task_deliver(struct iscsi_task *task);
/* What it waited for in state WAITING has come. */
void iscsi_task_resume(struct iscsi_task *task);
/* Memory may be there now. False: still none. */
bool iscsi_task_retry_memory(struct iscsi_task *task);

/* Requests that are no SCSI commands (request.c). */
int iscsi_request_header(struct iscsi_task *task, uint8_t **ret_data);
void iscsi_request_deliver(struct iscsi_task *task);
/* Queues the task's only answer; the task ends when that was sent. */
void iscsi_request_answer(struct iscsi_task *task,
			  enum iscsi_out_fill (*fill)(struct iscsi_out *, struct iscsi_pdu_out *));

/* Task management (tmf.c). */
void iscsi_tmf_deliver(struct iscsi_task *task);
/* PREEMPT AND ABORT: aborts the tasks of the nexuses that were preempted. True: the command waits
 * until the last of them has ended. */
bool iscsi_tmf_abort_preempted(struct iscsi_task *task);
/* A task has ended: those functions that waited for it answer. */
void iscsi_tmf_task_ended(struct iscsi_shard *shard);

/* Text requests (discovery.c). Fills the answer's PDU. */
void iscsi_discovery_deliver(struct iscsi_task *task);
void iscsi_discovery_done(struct iscsi_discovery *discovery);
