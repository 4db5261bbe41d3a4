/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions.
 *
 * Home reactor: the shard's.
 *
 * Invariants
 *  1. exp_cmd_sn <= max_cmd_sn + 1, and max_cmd_sn never falls (RFC 7143 4.2.2.1).
 *  2. Numbered tasks that are not answered, delivered or early, are at most ISCSI_WINDOW.
 *  3. A dead session has no open connection and delivers nothing.
 *  4. Each unit of the target has one nexus here, from its arrival or the session's start.
 */
#include "frontend/iscsi/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/reached.h"
#include "frontend/iscsi/shard.h"
#include "frontend/iscsi/task.h"

#define PRESSURE_WINDOW 16 /* while most of the memory is in use */

static void session_done(struct iscsi_session *session)
{
	for (unsigned lun = 0; lun < SCSI_LUNS; lun++)
		iscsi_session_remove_nexus(session, (uint16_t)lun);
	iscsi_memory_free(&session->shard->memory, session->reserve);
	free(session->pool);
	free(session);
}

static void session_donep(struct iscsi_session **session)
{
	if (*session)
		session_done(*session);
}

static void name_port(struct iscsi_session *session)
{
	const uint8_t *isid = session->isid;

	/* SPC-4 7.6.4.6: the TransportID's form of an initiator port. */
	snprintf(session->port_name, sizeof(session->port_name), "%s,i,0x%02x%02x%02x%02x%02x%02x",
		 session->initiator, isid[0], isid[1], isid[2], isid[3], isid[4], isid[5]);
}

static int add_tasks(struct iscsi_session *session)
{
	/* Twice the window: answered tasks stay until the socket has taken the answer, while their
	 * places in the window are free again. */
	session->pool_size =
		session->target ? 2 * ISCSI_WINDOW + ISCSI_IMMEDIATE_MAX : ISCSI_DISCOVERY_TASKS;
	session->pool = calloc(session->pool_size, sizeof(*session->pool));
	return session->pool ? 0 : -ENOMEM;
}

static int add_nexuses(struct iscsi_session *session)
{
	for (unsigned lun = 0; session->target && lun < SCSI_LUNS; lun++) {
		struct scsi_unit *unit = session->target->scsi.units[lun];
		int r = unit ? iscsi_session_add_nexus(session, unit) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

static void init_lists(struct iscsi_session *session)
{
	list_node_init(&session->link);
	list_init(&session->connections);
	list_init(&session->free_tasks);
	list_init(&session->tasks);
	list_init(&session->unsolicited);
	list_init(&session->waiters);
	list_init(&session->joiners);
}

int iscsi_session_new(struct iscsi_shard *shard, const struct iscsi_login_state *login,
		      struct iscsi_target *target, struct iscsi_session **ret_session)
{
	_cleanup_(session_donep) struct iscsi_session *session = calloc(1, sizeof(*session));
	int r;

	if (!session)
		return -ENOMEM;
	session->shard = shard;
	session->target = target;
	init_lists(session);
	memcpy(session->initiator, login->initiator, sizeof(session->initiator));
	memcpy(session->isid, login->isid, sizeof(session->isid));
	name_port(session);
	session->params = login->params;
	session->exp_cmd_sn = login->cmd_sn;
	session->max_cmd_sn = login->cmd_sn - 1;
	session->created_wall_ns = shard->world->wall_ns(reactor_world(shard->reactor));
	r = add_tasks(session);
	if (r == 0)
		r = add_nexuses(session);
	if (r < 0)
		return r;
	if (target) {
		session->reserve = iscsi_memory_alloc(&shard->memory, ISCSI_RESERVE_BYTES);
		if (!session->reserve)
			return -ENOMEM;
	}
	session->tsih = iscsi_shard_new_tsih(shard);
	list_push_back(&shard->sessions, &session->link);
	shard->session_count++;
	*ret_session = TAKE_PTR(session);
	return 0;
}

int iscsi_session_add_nexus(struct iscsi_session *session, struct scsi_unit *unit)
{
	struct scsi_nexus *nexus = malloc(sizeof(*nexus));

	if (!nexus)
		return -ENOMEM;
	scsi_nexus_init(nexus, unit, session->port_name);
	session->nexuses[unit->lun] = nexus;
	return 0;
}

void iscsi_session_remove_nexus(struct iscsi_session *session, uint16_t lun)
{
	struct scsi_nexus *nexus = session->nexuses[lun];

	if (!nexus)
		return;
	scsi_nexus_done(nexus);
	free(nexus);
	session->nexuses[lun] = NULL;
}

static void wake_waiters(struct list *waiters)
{
	struct list_node *node;

	while ((node = list_pop_front(waiters)))
		iscsi_connection_bind(LIST_ENTRY(node, struct iscsi_connection, wait_link));
}

bool iscsi_session_has_orphans(const struct iscsi_session *session)
{
	const struct iscsi_task *task;

	LIST_FOR_EACH (&session->tasks, task, const struct iscsi_task, link) {
		if (!task->connection && task->state == ISCSI_TASK_IO)
			return true;
	}
	return false;
}

void iscsi_session_wake_joiners(struct iscsi_session *session)
{
	struct iscsi_connection *connection;
	struct list joiners;

	if (list_is_empty(&session->joiners) || session->dead || iscsi_session_has_orphans(session))
		return;
	list_init(&joiners);
	list_splice_back(&joiners, &session->joiners);
	LIST_FOR_EACH (&joiners, connection, struct iscsi_connection, wait_link)
		connection->joining = NULL;
	wake_waiters(&joiners);
}

/* The session is dead: they will be told when it has ended. */
static void turn_joiners_away(struct iscsi_session *session)
{
	struct iscsi_connection *connection;

	LIST_FOR_EACH (&session->joiners, connection, struct iscsi_connection, wait_link)
		connection->joining = NULL;
	list_splice_back(&session->waiters, &session->joiners);
}

void iscsi_session_unref(struct iscsi_session *session)
{
	struct iscsi_shard *shard = session->shard;
	struct list waiters;

	if (!list_is_empty(&session->connections) || session->ending)
		return;
	if (!session->dead) {
		if (list_is_empty(&session->joiners))
			iscsi_session_kill(session);
		return;
	}
	if (!list_is_empty(&session->tasks))
		return;
	list_init(&waiters);
	list_splice_back(&waiters, &session->waiters);
	list_remove(&session->link);
	shard->session_count--;
	session_done(session);
	fiber_queue_wake_all(&shard->changed);
	wake_waiters(&waiters);
}

void iscsi_session_kill(struct iscsi_session *session)
{
	struct iscsi_connection *connection;
	struct iscsi_task *task;

	if (session->dead)
		return;
	session->dead = true;
	turn_joiners_away(session);
	log_info("iscsi", "session ended", "initiator=%s target=%s tsih=%u", session->initiator,
		 session->target ? session->target->scsi.name : "(discovery)", session->tsih);
	LIST_FOR_EACH (&session->connections, connection, struct iscsi_connection, session_link)
		iscsi_connection_close(connection, "session ended");
	memset(session->early, 0, sizeof(session->early));
	session->ending = true;
	LIST_FOR_EACH (&session->tasks, task, struct iscsi_task, link)
		iscsi_task_abort(task);
	session->ending = false;
	iscsi_session_unref(session);
}

bool iscsi_session_accepts(const struct iscsi_session *session, uint32_t cmd_sn)
{
	return !session->dead && !iscsi_sn_before(cmd_sn, session->exp_cmd_sn) &&
	       !iscsi_sn_before(session->max_cmd_sn, cmd_sn);
}

void iscsi_session_submit(struct iscsi_session *session, struct iscsi_task *task)
{
	struct iscsi_task **early = &session->early[task->cmd_sn % ISCSI_WINDOW];

	if (task->unsolicited_open)
		list_push_back(&session->unsolicited, &task->wait_link);
	if (task->immediate) {
		iscsi_task_deliver(task);
		return;
	}
	if (task->cmd_sn != session->exp_cmd_sn) {
		if (*early || iscsi_sn_before(task->cmd_sn, session->exp_cmd_sn)) {
			iscsi_task_end(task); /* the same number over another connection */
			return;
		}
		task->state = ISCSI_TASK_EARLY;
		task->asked_ns = reactor_turn_ns(session->shard->reactor);
		*early = task;
		return;
	}
	while (task) {
		session->exp_cmd_sn++;
		session->queued++;
		task->counted = true;
		iscsi_task_deliver(task);
		early = &session->early[session->exp_cmd_sn % ISCSI_WINDOW];
		task = *early;
		*early = NULL;
	}
}

uint32_t iscsi_session_window(struct iscsi_session *session)
{
	const struct iscsi_memory *memory = &session->shard->memory;
	unsigned limit = ISCSI_WINDOW;
	uint32_t max;

	if (!session->target)
		limit = ISCSI_DISCOVERY_TASKS / 4;
	else if (memory->used > memory->size / 4 * 3)
		limit = PRESSURE_WINDOW;
	max = session->exp_cmd_sn + (limit > session->queued ? limit - session->queued : 0) - 1;
	if (iscsi_sn_before(session->max_cmd_sn, max))
		session->max_cmd_sn = max;
	return session->max_cmd_sn;
}

/* A quarter of the memory is the most that one session may hold beside its reserve. */
static uint8_t *alloc_shared(struct iscsi_session *session, uint32_t size)
{
	struct iscsi_memory *memory = &session->shard->memory;
	size_t block_size = iscsi_memory_block_size(size);
	uint8_t *block;

	if (session->memory_used + block_size > memory->size / 4)
		return NULL;
	block = iscsi_memory_alloc(memory, size);
	if (block)
		session->memory_used += block_size;
	return block;
}

uint8_t *iscsi_session_alloc(struct iscsi_session *session, uint32_t wanted, uint32_t minimum,
			     uint32_t *ret_size)
{
	uint32_t size = MIN(wanted, ISCSI_MEMORY_BLOCK_MAX);

	ASSERT(minimum > 0 && minimum <= size);
	for (;;) {
		uint8_t *block = alloc_shared(session, size);

		if (block) {
			*ret_size = size;
			return block;
		}
		if (size == minimum)
			break;
		size = MAX(size / 2, minimum);
	}
	if (!session->reserve || session->reserve_used || minimum > ISCSI_RESERVE_BYTES)
		return NULL;
	REACHED("iscsi.reserve");
	session->reserve_used = true;
	*ret_size = MIN(wanted, ISCSI_RESERVE_BYTES);
	return session->reserve;
}

void iscsi_session_free(struct iscsi_session *session, uint8_t *block, uint32_t size)
{
	if (block == session->reserve) {
		session->reserve_used = false;
	} else {
		iscsi_memory_free(&session->shard->memory, block);
		session->memory_used -= iscsi_memory_block_size(size);
	}
	iscsi_shard_memory_freed(session->shard);
}
