/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Task management functions (RFC 7143 11.5, SAM-5 section 7). What a function aborts is marked at
 * once; the answer waits until the last of it has ended, because no answer of an aborted task may
 * follow it.
 */
#include "frontend/iscsi/shard.h"
#include "frontend/iscsi/task.h"

static uint8_t function_of(const struct iscsi_task *task)
{
	return task->bhs.flags & 0x7f;
}

static struct iscsi_unit *unit_of(const struct iscsi_task *task)
{
	int lun = iscsi_pdu_get_lun(task->bhs.lun);
	struct scsi_unit *unit = NULL;

	if (lun >= 0 && lun < SCSI_LUNS)
		unit = task->session->target->scsi.units[lun];
	return unit ? iscsi_unit_of(unit) : NULL;
}

/* SPC-4 5.17: a copy in the background outlives its command, but not a reset. */
static bool is_reset(const struct iscsi_task *function)
{
	switch (function_of(function)) {
	case ISCSI_TMF_LUN_RESET:
	case ISCSI_TMF_TARGET_WARM_RESET:
	case ISCSI_TMF_TARGET_COLD_RESET:
		return true;
	default:
		return false;
	}
}

static bool is_over(const struct iscsi_task *task, bool background_counts)
{
	return task->answered && !(task->background && background_counts);
}

/* Does `function` mean `task`? Tasks that have not started know their LUN only from the header. */
static bool in_scope(const struct iscsi_task *function, const struct iscsi_task *task)
{
	const struct iscsi_task_management *request = (const void *)&function->bhs;
	bool same_unit = iscsi_pdu_get_lun(task->bhs.lun) == iscsi_pdu_get_lun(request->lun);

	if (iscsi_pdu_opcode(&task->bhs) != ISCSI_OP_SCSI_COMMAND ||
	    is_over(task, is_reset(function)) || task->session->target != function->session->target)
		return false;
	switch (function_of(function)) {
	case ISCSI_TMF_ABORT_TASK:
		return task->session == function->session &&
		       task->itt == get_be32(request->referenced_itt);
	case ISCSI_TMF_ABORT_TASK_SET:
		return task->session == function->session && same_unit;
	case ISCSI_TMF_CLEAR_TASK_SET:
	case ISCSI_TMF_LUN_RESET:
		return same_unit;
	default: /* the resets of the target */
		return true;
	}
}

/* 11.5.1: commands that were sent after an immediate function are not its business. */
static bool came_before(const struct iscsi_task *function, const struct iscsi_task *task)
{
	return task->session != function->session || task->immediate ||
	       iscsi_sn_before(task->cmd_sn, function->cmd_sn);
}

static bool abort_in_session(const struct iscsi_task *function, struct iscsi_session *session)
{
	bool by_tag = function_of(function) == ISCSI_TMF_ABORT_TASK, found = false;
	struct iscsi_task *task;

	LIST_FOR_EACH (&session->tasks, task, struct iscsi_task, link) {
		if (!in_scope(function, task) || !(by_tag || came_before(function, task)))
			continue;
		found = true;
		iscsi_task_abort(task);
	}
	return found;
}

static bool abort_tasks(const struct iscsi_task *function)
{
	struct iscsi_session *session;
	bool found = false;

	LIST_FOR_EACH (&function->session->shard->sessions, session, struct iscsi_session, link) {
		bool here = abort_in_session(function, session);
		struct iscsi_unit *unit = unit_of(function);

		found = found || here;
		if (here && session != function->session && unit &&
		    function_of(function) == ISCSI_TMF_CLEAR_TASK_SET)
			scsi_nexus_attention(session->nexuses[unit->scsi.lun],
					     SCSI_ATTENTION_COMMANDS_CLEARED);
	}
	return found;
}

/* Is something that it aborted still at work? */
static bool must_wait(const struct iscsi_task *function)
{
	struct iscsi_session *session;
	struct iscsi_task *task;

	LIST_FOR_EACH (&function->session->shard->sessions, session, struct iscsi_session, link) {
		LIST_FOR_EACH (&session->tasks, task, struct iscsi_task, link) {
			if (task->aborted && in_scope(function, task) &&
			    task->state != ISCSI_TASK_EARLY)
				return true;
		}
	}
	return false;
}

static enum iscsi_out_fill fill_response(struct iscsi_out *out, struct iscsi_pdu_out *pdu)
{
	struct iscsi_task *task = CONTAINER_OF(out, struct iscsi_task, out);
	struct iscsi_response *response = (void *)pdu->header;

	if (task->aborted)
		return ISCSI_OUT_NONE;
	iscsi_task_mark_answered(task);
	response->opcode = ISCSI_OP_TASK_MANAGEMENT_RESPONSE;
	response->flags = ISCSI_FINAL_BIT;
	response->specific[0] = task->response;
	put_be32(response->itt, task->itt);
	iscsi_connection_stamp(task->connection, pdu->header, true);
	return ISCSI_OUT_LAST;
}

/* 11.5.1: a cold reset ends all sessions with the target. */
static void cold_reset_sent(struct iscsi_out *out)
{
	struct iscsi_task *task = CONTAINER_OF(out, struct iscsi_task, out);
	struct iscsi_shard *shard = task->session->shard;
	struct iscsi_target *target = task->session->target;
	struct iscsi_session *session;

	iscsi_task_end(task);
	LIST_FOR_EACH (&shard->sessions, session, struct iscsi_session, link) {
		if (session->target == target)
			iscsi_session_kill(session);
	}
}

static void answer(struct iscsi_task *task)
{
	bool cold = function_of(task) == ISCSI_TMF_TARGET_COLD_RESET;

	iscsi_request_answer(task, fill_response);
	if (cold && task->response == ISCSI_TMF_COMPLETE)
		task->out.sent = cold_reset_sent;
}

static void reset_target(struct iscsi_target *target)
{
	for (unsigned lun = 0; lun < SCSI_LUNS; lun++) {
		if (target->scsi.units[lun])
			scsi_unit_reset(target->scsi.units[lun], NULL);
	}
}

static uint8_t perform(struct iscsi_task *task)
{
	struct iscsi_unit *unit = unit_of(task);
	uint8_t function = function_of(task);

	switch (function) {
	case ISCSI_TMF_ABORT_TASK:
		return abort_tasks(task) ? ISCSI_TMF_COMPLETE : ISCSI_TMF_NO_TASK;
	case ISCSI_TMF_ABORT_TASK_SET:
	case ISCSI_TMF_CLEAR_TASK_SET:
	case ISCSI_TMF_LUN_RESET:
		if (!unit)
			return ISCSI_TMF_NO_LUN;
		(void)abort_tasks(task);
		if (function == ISCSI_TMF_LUN_RESET)
			scsi_unit_reset(&unit->scsi, NULL);
		return ISCSI_TMF_COMPLETE;
	case ISCSI_TMF_TARGET_WARM_RESET:
	case ISCSI_TMF_TARGET_COLD_RESET:
		(void)abort_tasks(task);
		reset_target(task->session->target);
		return ISCSI_TMF_COMPLETE;
	case ISCSI_TMF_TASK_REASSIGN:
		return ISCSI_TMF_NO_REASSIGN;
	case ISCSI_TMF_CLEAR_ACA:
		return ISCSI_TMF_NOT_SUPPORTED;
	default:
		return ISCSI_TMF_REJECTED;
	}
}

void iscsi_tmf_deliver(struct iscsi_task *task)
{
	task->response = perform(task);
	if (!must_wait(task)) {
		answer(task);
		return;
	}
	task->state = ISCSI_TASK_WAITING;
	list_push_back(&task->session->shard->tmf_waiters, &task->wait_link);
}

/* Does the task belong to a nexus that was preempted at the unit of `command`? */
static bool is_preempted(const struct iscsi_task *command, const struct iscsi_task *task)
{
	uint16_t lun = command->unit->scsi.lun;
	const struct scsi_nexus *nexus = task->session->nexuses[lun];

	bool at_unit = iscsi_pdu_get_lun(task->bhs.lun) == lun || task->io_unit == command->unit;

	return task->session->target == command->session->target && nexus && nexus->preempted &&
	       iscsi_pdu_opcode(&task->bhs) == ISCSI_OP_SCSI_COMMAND && !is_over(task, true) &&
	       task != command && at_unit;
}

/* Looks at all tasks of preempted nexuses; aborts them first if asked to. Is one still at work? */
static bool preempted_at_work(const struct iscsi_task *command, bool abort)
{
	struct iscsi_session *session;
	struct iscsi_task *task;
	bool at_work = false;

	LIST_FOR_EACH (&command->session->shard->sessions, session, struct iscsi_session, link) {
		LIST_FOR_EACH (&session->tasks, task, struct iscsi_task, link) {
			if (is_preempted(command, task) && abort)
				iscsi_task_abort(task);
		}
		LIST_FOR_EACH (&session->tasks, task, struct iscsi_task, link) {
			if (is_preempted(command, task) && task->aborted &&
			    task->state != ISCSI_TASK_EARLY)
				at_work = true;
		}
	}
	return at_work;
}

bool iscsi_tmf_abort_preempted(struct iscsi_task *task)
{
	if (!preempted_at_work(task, true))
		return false;
	task->state = ISCSI_TASK_WAITING;
	list_push_back(&task->session->shard->tmf_waiters, &task->wait_link);
	return true;
}

static bool still_waits(const struct iscsi_task *task)
{
	if (iscsi_pdu_opcode(&task->bhs) == ISCSI_OP_SCSI_COMMAND)
		return preempted_at_work(task, false);
	return must_wait(task);
}

void iscsi_tmf_task_ended(struct iscsi_shard *shard)
{
	struct iscsi_task *task;

	LIST_FOR_EACH (&shard->tmf_waiters, task, struct iscsi_task, wait_link) {
		if (still_waits(task))
			continue;
		list_remove(&task->wait_link);
		if (iscsi_pdu_opcode(&task->bhs) == ISCSI_OP_SCSI_COMMAND)
			iscsi_task_resume(task);
		else
			answer(task);
	}
}
