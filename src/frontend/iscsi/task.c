/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a SCSI command: data-out, steps on the volume, data-in, status.
 *
 * Home reactor: the shard's.
 *
 * Happy path of a 4 KiB write with immediate data: command_header() takes a buffer, the receiver
 * fills it, deliver() starts the command, advance() finds the data there and submits the write,
 * io_done() advances to the status, which waits in the sender for the end of the turn.
 *
 * Invariants
 *  1. Data-out arrives in order: the next byte is `received` (DataPDUInOrder and
 * DataSequenceInOrder are negotiated to Yes; a command whose data breaks this fails).
 *  2. A command starts only when its CmdSN is due and all its unsolicited data is there, so nothing
 * is received into its buffer unless it waits in state DATA.
 *  3. Every byte of data-out lies in [out_base, out_base + buffer_size).
 *  4. A task in state IO or SENDING, or that is receiving, is not ended by an abort; it ends when
 * that is over.
 */
#include "frontend/iscsi/task.h"

#include <errno.h>
#include <string.h>

#include "base/reached.h"
#include "frontend/iscsi/shard.h"

static void advance(struct iscsi_task *task);

struct iscsi_task *iscsi_task_new(struct iscsi_connection *connection, const struct iscsi_bhs *bhs)
{
	struct iscsi_session *session = connection->session;
	struct list_node *node = list_pop_front(&session->free_tasks);
	struct iscsi_task *task;

	if (node)
		task = LIST_ENTRY(node, struct iscsi_task, link);
	else if (session->pool_touched < session->pool_size)
		task = &session->pool[session->pool_touched++];
	else
		return NULL;
	memset(task, 0, offsetof(struct iscsi_task, generation));
	task->state = ISCSI_TASK_RECEIVING;
	task->session = session;
	task->connection = connection;
	list_node_init(&task->wait_link);
	list_push_back(&session->tasks, &task->link);
	task->bhs = *bhs;
	task->itt = get_be32(bhs->itt);
	task->immediate = iscsi_pdu_is_immediate(bhs);
	task->cmd_sn = get_be32(((const struct iscsi_request *)bhs)->cmd_sn);
	task->ttt = ISCSI_RESERVED_TAG;
	return task;
}

void iscsi_task_mark_answered(struct iscsi_task *task)
{
	if (task->counted)
		task->session->queued--;
	task->counted = false;
	task->answered = true;
}

static void free_buffer(struct iscsi_task *task)
{
	if (task->buffer)
		iscsi_session_free(task->session, task->buffer, task->buffer_size);
	task->buffer = NULL;
}

void iscsi_task_end(struct iscsi_task *task)
{
	struct iscsi_session *session = task->session;
	struct iscsi_shard *shard = session->shard;

	scsi_command_drop(&task->scsi);
	free_buffer(task);
	iscsi_task_mark_answered(task);
	list_remove(&task->wait_link);
	if (task->unit && --task->unit->tasks == 0)
		fiber_queue_wake_all(&shard->changed);
	if (task->connection && task->connection->receiving == task)
		task->connection->receiving = NULL;
	/* Data that still comes for it finds nobody. */
	task->state = ISCSI_TASK_FREE;
	task->generation++;
	list_remove(&task->link);
	list_push_front(&session->free_tasks, &task->link);
	if (task->aborted)
		iscsi_tmf_task_ended(shard);
	if (session->dead)
		iscsi_session_unref(session);
	else if (!task->connection)
		iscsi_session_wake_joiners(session);
}

void iscsi_task_abort(struct iscsi_task *task)
{
	task->aborted = true;
	list_remove(&task->wait_link);
	if (task->receiving)
		return;
	switch (task->state) {
	case ISCSI_TASK_RECEIVING:
		if (!task->connection)
			iscsi_task_end(task);
		break;
	case ISCSI_TASK_EARLY:
		if (task->session->dead)
			iscsi_task_end(task);
		break; /* its number is still to be counted */
	case ISCSI_TASK_UNSOLICITED:
	case ISCSI_TASK_MEMORY:
	case ISCSI_TASK_DATA:
	case ISCSI_TASK_WAITING:
		iscsi_task_end(task);
		break;
	default:
		break;
	}
}

/* --- Data-out --- */

static int reject(struct iscsi_task *task, uint8_t reason)
{
	task->reject = reason;
	task->unsolicited_open = false;
	return 0;
}

static uint32_t expected_length(const struct iscsi_task *task)
{
	return get_be32(((const struct iscsi_scsi_command *)&task->bhs)->expected_length);
}

/* Room for all the data that may come without being asked for. What finds none is dropped, and the
 * command answered with TASK SET FULL: the initiator tries again later. */
static void take_unsolicited_buffer(struct iscsi_task *task, uint32_t expected)
{
	uint32_t first_burst = MIN(task->session->params.first_burst, expected);

	if (!task->unsolicited_open)
		first_burst = iscsi_pdu_data_length(&task->bhs);
	task->buffer = iscsi_session_alloc(task->session, MIN(expected, SCSI_SEGMENT_BYTES),
					   first_burst, &task->buffer_size);
	task->drop_data = !task->buffer;
}

int iscsi_task_command_header(struct iscsi_task *task, const uint8_t *ahs, uint8_t **ret_data)
{
	const struct iscsi_scsi_command *command = (const void *)&task->bhs;
	const struct iscsi_params *params = &task->session->params;
	uint32_t length = iscsi_pdu_data_length(&task->bhs), expected = expected_length(task);
	bool is_write = command->flags & ISCSI_COMMAND_WRITE;

	if (!task->session->target)
		return reject(task, ISCSI_REJECT_PROTOCOL);
	if (iscsi_pdu_get_cdb(command, ahs, task->scsi.cdb, SCSI_CDB_MAX) < 0)
		return reject(task, ISCSI_REJECT_INVALID_FIELD);
	task->unsolicited_open = !(command->flags & ISCSI_FINAL_BIT);
	/* 11.3.1 and 13.10, 13.11, 13.14: what may come without being asked for. */
	if (length > 0 && (!is_write || !params->immediate_data || length > params->first_burst ||
			   length > expected))
		return reject(task, ISCSI_REJECT_PROTOCOL);
	if (task->unsolicited_open && (!is_write || params->initial_r2t || expected == 0))
		return reject(task, ISCSI_REJECT_PROTOCOL);
	if (length > 0 || task->unsolicited_open)
		take_unsolicited_buffer(task, expected);
	task->received = length;
	*ret_data = task->buffer;
	return 0;
}

static struct iscsi_task *find_solicited(struct iscsi_connection *connection, uint32_t ttt)
{
	struct iscsi_session *session = connection->session;
	unsigned index = ttt & 0xffff;
	struct iscsi_task *task;

	if (index >= session->pool_size)
		return NULL;
	task = &session->pool[index];
	return task->state == ISCSI_TASK_DATA && task->ttt == ttt && task->connection == connection
		       ? task
		       : NULL;
}

static struct iscsi_task *find_unsolicited(struct iscsi_connection *connection, uint32_t itt)
{
	struct iscsi_task *task;

	LIST_FOR_EACH (&connection->session->unsolicited, task, struct iscsi_task, wait_link) {
		if (task->itt == itt && task->connection == connection)
			return task;
	}
	return NULL;
}

/* May this PDU carry the task's next bytes? */
static bool data_fits(const struct iscsi_task *task, const struct iscsi_data_out *pdu)
{
	uint32_t length = get_be24(pdu->data_length), end = task->r2t_end;
	bool final = pdu->flags & ISCSI_FINAL_BIT;

	if (get_be32(pdu->itt) != task->itt || get_be32(pdu->buffer_offset) != task->received ||
	    get_be32(pdu->data_sn) != task->data_sn)
		return false;
	if (task->unsolicited_open)
		end = MIN(task->session->params.first_burst, expected_length(task));
	if (length > end - task->received)
		return false;
	/* 11.7.1: a solicited burst ends with all of what was asked for, and not before. */
	return task->unsolicited_open || final == (task->received + length == end);
}

/*
 * 7.9 and 7.8: a gap in the sequence means that a PDU was lost. At error recovery level 0 the task
 * ends with a CHECK CONDITION; what else comes for it is dropped.
 */
static void break_sequence(struct iscsi_task *task)
{
	task->broken = true;
	task->unsolicited_open = false;
	list_remove(&task->wait_link);
	if (task->state == ISCSI_TASK_UNSOLICITED) {
		iscsi_task_deliver(task);
	} else if (task->state == ISCSI_TASK_DATA) {
		scsi_command_fail(&task->scsi, SCSI_ABORTED_COMMAND, SCSI_ASC_CRC_ERROR);
		advance(task);
	}
}

int iscsi_task_data_header(struct iscsi_connection *connection, const struct iscsi_bhs *bhs,
			   uint8_t **ret_data)
{
	const struct iscsi_data_out *pdu = (const void *)bhs;
	uint32_t ttt = get_be32(pdu->ttt);
	struct iscsi_task *task = ttt == ISCSI_RESERVED_TAG
					  ? find_unsolicited(connection, get_be32(pdu->itt))
					  : find_solicited(connection, ttt);

	/* Data of a task that was aborted, rejected or is unknown: dropped without a word. */
	if (!task)
		return 0;
	if (!data_fits(task, pdu)) {
		break_sequence(task);
		return 0;
	}
	connection->receiving = task;
	task->receiving = true;
	if (!task->drop_data)
		*ret_data = task->buffer + (task->received - task->out_base);
	return 0;
}

static void send_out(struct iscsi_task *task,
		     enum iscsi_out_fill (*fill)(struct iscsi_out *, struct iscsi_pdu_out *),
		     void (*sent)(struct iscsi_out *))
{
	task->state = ISCSI_TASK_SENDING;
	task->out.fill = fill;
	task->out.sent = sent;
	iscsi_connection_send(task->connection, &task->out);
}

static enum iscsi_out_fill fill_r2t(struct iscsi_out *out, struct iscsi_pdu_out *pdu)
{
	struct iscsi_task *task = CONTAINER_OF(out, struct iscsi_task, out);
	struct iscsi_r2t *r2t = (void *)pdu->header;

	if (task->aborted)
		return ISCSI_OUT_NONE;
	r2t->opcode = ISCSI_OP_R2T;
	r2t->flags = ISCSI_FINAL_BIT;
	memcpy(r2t->lun, task->bhs.lun, sizeof(r2t->lun));
	put_be32(r2t->itt, task->itt);
	put_be32(r2t->ttt, task->ttt);
	iscsi_connection_stamp(task->connection, pdu->header, false);
	put_be32(r2t->r2t_sn, task->r2t_sn++);
	put_be32(r2t->buffer_offset, task->received);
	put_be32(r2t->desired_length, task->r2t_end - task->received);
	/* The data may come before we learn that this was sent. */
	task->state = ISCSI_TASK_DATA;
	return ISCSI_OUT_GONE;
}

/* Only of an R2T that will never be sent. */
static void r2t_dropped(struct iscsi_out *out)
{
	iscsi_task_end(CONTAINER_OF(out, struct iscsi_task, out));
}

static void ask(struct iscsi_task *task)
{
	unsigned index = (unsigned)(task - task->session->pool);

	task->r2t_end = MIN(task->step_end, task->received + task->session->params.max_burst);
	task->ttt = (uint32_t)task->generation << 16 | index;
	task->data_sn = 0;
	task->asked_ns = reactor_turn_ns(task->session->shard->reactor);
	send_out(task, fill_r2t, r2t_dropped);
}

int iscsi_task_data_arrived(struct iscsi_connection *connection)
{
	struct iscsi_task *task = connection->receiving;

	connection->receiving = NULL;
	if (!task)
		return 0;
	task->receiving = false;
	if (task->aborted) {
		iscsi_task_abort(task);
		return 0;
	}
	task->received += iscsi_pdu_data_length(&connection->bhs);
	task->data_sn++;
	task->asked_ns = reactor_turn_ns(connection->shard->reactor);
	if (task->unsolicited_open) {
		if (!(connection->bhs.flags & ISCSI_FINAL_BIT))
			return 0;
		task->unsolicited_open = false;
		list_remove(&task->wait_link);
		if (task->state == ISCSI_TASK_UNSOLICITED)
			iscsi_task_deliver(task);
		return 0;
	}
	if (task->received < task->r2t_end)
		return 0;
	if (task->received < task->step_end)
		ask(task);
	else
		advance(task);
	return 0;
}

/* The data of the step is in the buffer, or was asked for. */
static bool have_data_out(struct iscsi_task *task)
{
	const struct scsi_command *scsi = &task->scsi;
	uint32_t start = (uint32_t)scsi->out_offset;

	ASSERT(scsi->step_data == task->buffer && scsi->step_bytes <= task->buffer_size);
	if (start > task->out_base) { /* unsolicited data may reach beyond the last step */
		memmove(task->buffer, task->buffer + (start - task->out_base),
			task->received - start);
		task->out_base = start;
	}
	task->step_end = start + scsi->step_bytes;
	if (task->received >= task->step_end)
		return true;
	ask(task);
	return false;
}

/* --- Data-in and status --- */

/* RFC 7143 11.4.5: how far what the command moves is from what the initiator expects. */
static uint8_t residual(const struct iscsi_task *task, uint32_t *ret_count)
{
	const struct scsi_command *scsi = &task->scsi;
	uint64_t moved = scsi->out_bytes, expected = expected_length(task);

	if (scsi->out_bytes == 0)
		moved = scsi->status == SCSI_CHECK_CONDITION ? task->data_in_bytes : scsi->in_bytes;
	if (moved == expected) {
		*ret_count = 0;
		return 0;
	}
	*ret_count = (uint32_t)(moved > expected ? moved - expected : expected - moved);
	return moved > expected ? ISCSI_RESIDUAL_OVERFLOW : ISCSI_RESIDUAL_UNDERFLOW;
}

static void answered(struct iscsi_out *out)
{
	iscsi_task_end(CONTAINER_OF(out, struct iscsi_task, out));
}

static enum iscsi_out_fill fill_response(struct iscsi_out *out, struct iscsi_pdu_out *pdu)
{
	struct iscsi_task *task = CONTAINER_OF(out, struct iscsi_task, out);
	struct iscsi_scsi_response *response = (void *)pdu->header;
	uint32_t count;
	size_t length;

	if (task->aborted)
		return ISCSI_OUT_NONE;
	iscsi_task_mark_answered(task);
	response->opcode = ISCSI_OP_SCSI_RESPONSE;
	response->flags = ISCSI_FINAL_BIT | residual(task, &count);
	response->status = (uint8_t)task->scsi.status;
	put_be32(response->itt, task->itt);
	iscsi_connection_stamp(task->connection, pdu->header, true);
	put_be32(response->exp_data_sn, task->r2t_sn + task->data_in_sn);
	put_be32(response->residual, count);
	length = scsi_command_sense(&task->scsi, task->sense + 2);
	if (length > 0) {
		put_be16(task->sense, (uint16_t)length);
		pdu->data = task->sense;
		pdu->length = (uint32_t)length + 2;
	}
	return ISCSI_OUT_LAST;
}

/* The last one carries the status, too (11.7.1: S bit). */
static enum iscsi_out_fill fill_data_in(struct iscsi_out *out, struct iscsi_pdu_out *pdu)
{
	struct iscsi_task *task = CONTAINER_OF(out, struct iscsi_task, out);
	struct iscsi_data_in *data_in = (void *)pdu->header;
	uint32_t offset = (uint32_t)task->scsi.in_offset + task->step_sent, n, count;
	bool end_of_step, end;

	if (task->aborted)
		return ISCSI_OUT_NONE;
	n = MIN(task->connection->max_send, task->burst_left);
	n = MIN(n, task->step_length - task->step_sent);
	pdu->data = task->scsi.step_data + task->step_sent;
	pdu->length = n;
	task->step_sent += n;
	task->burst_left -= n;
	end_of_step = task->step_sent == task->step_length;
	end = end_of_step && task->scsi.last;
	data_in->opcode = ISCSI_OP_DATA_IN;
	data_in->flags = end || task->burst_left == 0 ? ISCSI_FINAL_BIT : 0;
	put_be32(data_in->itt, task->itt);
	put_be32(data_in->ttt, ISCSI_RESERVED_TAG);
	put_be32(data_in->data_sn, task->data_in_sn++);
	put_be32(data_in->buffer_offset, offset);
	if (task->burst_left == 0)
		task->burst_left = task->session->params.max_burst;
	if (end) {
		iscsi_task_mark_answered(task);
		data_in->flags |= ISCSI_DATA_IN_STATUS | residual(task, &count);
		data_in->status = (uint8_t)task->scsi.status;
		put_be32(data_in->residual, count);
	}
	iscsi_connection_stamp(task->connection, pdu->header, end);
	if (!end) /* 11.7.4: no StatSN without a status */
		put_be32(data_in->stat_sn, 0);
	return end_of_step ? ISCSI_OUT_LAST : ISCSI_OUT_MORE;
}

static void data_in_sent(struct iscsi_out *out)
{
	struct iscsi_task *task = CONTAINER_OF(out, struct iscsi_task, out);

	if (task->aborted || task->scsi.last || task->connection->state == ISCSI_CONNECTION_CLOSING)
		iscsi_task_end(task);
	else
		advance(task);
}

/* False: the initiator takes nothing (more). */
static bool send_data_in(struct iscsi_task *task)
{
	const struct scsi_command *scsi = &task->scsi;

	if (scsi->in_offset >= scsi->expected_in)
		return false;
	task->step_length =
		(uint32_t)MIN((uint64_t)scsi->step_bytes, scsi->expected_in - scsi->in_offset);
	task->step_sent = 0;
	if (task->burst_left == 0)
		task->burst_left = task->session->params.max_burst;
	task->data_in_bytes += task->step_length;
	task->session->bytes_read += task->step_length;
	send_out(task, fill_data_in, data_in_sent);
	return true;
}

/* --- Steps --- */

/* Not while the unit is in use elsewhere: whoever removes it waits for that. */
static void release_unit(struct iscsi_task *task, struct iscsi_unit **unit)
{
	if (*unit && --(*unit)->tasks == 0)
		fiber_queue_wake_all(&task->session->shard->changed);
	*unit = NULL;
}

static void io_done(struct block_request *request, int result)
{
	struct iscsi_task *task = CONTAINER_OF(request, struct iscsi_task, scsi.request);

	task->scsi.io_result = result;
	release_unit(task, &task->io_unit);
	if (!task->aborted) {
		advance(task);
		return;
	}
	REACHED("iscsi.abort-io");
	iscsi_task_end(task);
}

static void submit_io(struct iscsi_task *task)
{
	struct block_request *request = &task->scsi.request;
	struct scsi_unit *unit = task->scsi.io_unit;

	if (unit) { /* a copy, which may reach other units */
		task->io_unit = iscsi_unit_of(unit);
		task->io_unit->tasks++;
	} else {
		unit = &task->unit->scsi;
	}
	task->state = ISCSI_TASK_IO;
	request->done = io_done;
	if (request->op == BLOCK_WRITE || request->op == BLOCK_COMPARE_AND_WRITE)
		task->session->bytes_written += request->length;
	block_submit(unit->volume, request);
}

static void background_sent(struct iscsi_out *out)
{
	struct iscsi_task *task = CONTAINER_OF(out, struct iscsi_task, out);

	if (task->aborted || task->connection->state == ISCSI_CONNECTION_CLOSING)
		iscsi_task_end(task);
	else
		advance(task);
}

static void advance(struct iscsi_task *task)
{
	for (;;) {
		switch (scsi_command_next(&task->scsi)) {
		case SCSI_STEP_DATA_OUT:
			if (!have_data_out(task))
				return;
			break;
		case SCSI_STEP_IO:
			submit_io(task);
			return;
		case SCSI_STEP_DATA_IN:
			if (send_data_in(task))
				return;
			break;
		case SCSI_STEP_SAVE:
			task->state = ISCSI_TASK_WAITING;
			list_push_back(&task->unit->savers, &task->wait_link);
			iscsi_unit_save(task->unit);
			return;
		case SCSI_STEP_ABORT:
			if (iscsi_tmf_abort_preempted(task))
				return;
			break;
		case SCSI_STEP_STATUS:
			task->background = true;
			send_out(task, fill_response, background_sent);
			return;
		case SCSI_STEP_DONE:
			if (task->background)
				iscsi_task_end(task);
			else
				send_out(task, fill_response, answered);
			return;
		}
	}
}

void iscsi_task_resume(struct iscsi_task *task)
{
	advance(task);
}

/* A buffer as the command needs it; unsolicited data that came moves into it. */
static bool take_buffer(struct iscsi_task *task)
{
	struct scsi_command *scsi = &task->scsi;
	uint32_t size;
	uint8_t *buffer;

	if (scsi->buffer_bytes > 0 && (!task->buffer || task->buffer_size < scsi->buffer_minimum)) {
		buffer = iscsi_session_alloc(task->session, scsi->buffer_bytes,
					     scsi->buffer_minimum, &size);
		if (!buffer)
			return false;
		if (task->buffer)
			memcpy(buffer, task->buffer, MIN(task->received, size));
		free_buffer(task);
		task->buffer = buffer;
		task->buffer_size = size;
	}
	scsi->buffer = task->buffer;
	scsi->buffer_size = task->buffer_size;
	return true;
}

static void start(struct iscsi_task *task)
{
	const struct iscsi_scsi_command *command = (const void *)&task->bhs;
	struct iscsi_session *session = task->session;
	struct scsi_command *scsi = &task->scsi;
	int lun = iscsi_pdu_get_lun(task->bhs.lun);
	bool is_known = lun >= 0 && lun < SCSI_LUNS;

	scsi->target = &session->target->scsi;
	scsi->unit = is_known ? scsi->target->units[lun] : NULL;
	scsi->nexus = scsi->unit ? session->nexuses[lun] : NULL;
	scsi->expected_out = command->flags & ISCSI_COMMAND_WRITE ? expected_length(task) : 0;
	scsi->expected_in = command->flags & ISCSI_COMMAND_READ ? expected_length(task) : 0;
	if (scsi->unit) {
		task->unit = iscsi_unit_of(scsi->unit);
		task->unit->tasks++;
	}
	session->commands++;
	if (task->broken) {
		scsi_command_refuse(scsi, SCSI_GOOD);
		scsi_command_fail(scsi, SCSI_ABORTED_COMMAND, SCSI_ASC_CRC_ERROR);
	} else if (task->drop_data) {
		REACHED("iscsi.task-set-full");
		scsi_command_refuse(scsi, SCSI_TASK_SET_FULL);
	} else {
		scsi_command_start(scsi);
	}
}

bool iscsi_task_retry_memory(struct iscsi_task *task)
{
	if (!take_buffer(task))
		return false;
	list_remove(&task->wait_link);
	advance(task);
	return true;
}

void iscsi_task_deliver(struct iscsi_task *task)
{
	if (task->aborted) {
		iscsi_task_end(task);
		return;
	}
	if (task->reject || iscsi_pdu_opcode(&task->bhs) != ISCSI_OP_SCSI_COMMAND) {
		iscsi_request_deliver(task);
		return;
	}
	if (task->unsolicited_open) {
		task->state = ISCSI_TASK_UNSOLICITED;
		task->asked_ns = reactor_turn_ns(task->session->shard->reactor);
		return;
	}
	start(task);
	if (take_buffer(task)) {
		advance(task);
		return;
	}
	REACHED("iscsi.memory-wait");
	task->state = ISCSI_TASK_MEMORY;
	list_push_back(&task->session->shard->memory_waiters, &task->wait_link);
}
