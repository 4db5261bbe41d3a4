/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shard: its lists, who may log in at its targets, memory and time.
 *
 * Home reactor: its own. Everything is callbacks, but what the server calls, which runs in fibers
 * and waits in `changed` for sessions and tasks to end.
 *
 * Invariants
 *  1. A target is freed when no session has it, a unit when no task and no nexus has it.
 *  2. memory.used is what tasks and reserves of sessions hold; it is 0 when no session is left.
 *  3. A session's TSIH modulo the number of shards is the shard's index.
 */
#include "frontend/iscsi/shard.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/iscsi/server_priv.h"
#include "frontend/iscsi/task.h"

#define TICK_NS    NSEC_PER_SEC
#define MEMORY_MIN (4 * ISCSI_MEMORY_BLOCK_MAX) /* a quarter of it holds any command */

/* --- Lookups --- */

struct iscsi_target *iscsi_shard_find_target(struct iscsi_shard *shard, const char *name)
{
	struct iscsi_target *target;

	LIST_FOR_EACH (&shard->targets, target, struct iscsi_target, link) {
		if (strcmp(target->scsi.name, name) == 0)
			return target;
	}
	return NULL;
}

struct iscsi_session *iscsi_shard_find_session(struct iscsi_shard *shard,
					       const struct iscsi_login_state *login,
					       const struct iscsi_target *target)
{
	struct iscsi_session *session;

	LIST_FOR_EACH (&shard->sessions, session, struct iscsi_session, link) {
		if (session->target == target &&
		    memcmp(session->isid, login->isid, sizeof(session->isid)) == 0 &&
		    strcmp(session->initiator, login->initiator) == 0 &&
		    (login->tsih == 0 || login->tsih == session->tsih))
			return session;
	}
	return NULL;
}

uint16_t iscsi_shard_new_tsih(struct iscsi_shard *shard)
{
	unsigned shards = shard->server->shard_count, count = (UINT16_MAX + 1u) / shards;
	const struct iscsi_session *session;
	unsigned tsih;
	bool taken;

	do {
		shard->last_session = (shard->last_session + 1) % count;
		tsih = shard->last_session * shards + shard->index;
		taken = tsih == 0;
		LIST_FOR_EACH (&shard->sessions, session, struct iscsi_session, link)
			taken = taken || session->tsih == tsih;
	} while (taken);
	return (uint16_t)tsih;
}

/* --- Who may log in --- */

static bool is_here(void *arg, const struct iscsi_login_state *login)
{
	struct iscsi_connection *connection = arg;
	struct iscsi_shard *shard = connection->shard;
	const struct iscsi_place *place;

	if (login->discovery || shard->index != 0)
		return true;
	place = iscsi_server_find_place(shard->server, login->target);
	if (!place || place->shard == shard)
		return true;
	connection->destination = place->shard;
	return false;
}

static enum iscsi_login_status admit_by(const struct iscsi_guard *guard,
					struct iscsi_login_state *login)
{
	if (!iscsi_guard_admits(guard, login->initiator))
		return ISCSI_LOGIN_FORBIDDEN;
	login->chap = *iscsi_guard_chap(guard, login->initiator);
	login->generation = guard->generation;
	return ISCSI_LOGIN_SUCCESS;
}

/* One that the server knows, or knew when it sent the connection, has just moved or is being
 * removed: whoever tries again learns which. */
static enum iscsi_login_status admit_nowhere(const struct iscsi_shard *shard,
					     const struct iscsi_login_state *login)
{
	if (shard->index != 0 || iscsi_server_find_place(shard->server, login->target))
		return ISCSI_LOGIN_UNAVAILABLE;
	return ISCSI_LOGIN_NOT_FOUND;
}

static enum iscsi_login_status admit(void *arg, struct iscsi_login_state *login)
{
	struct iscsi_connection *connection = arg;
	struct iscsi_shard *shard = connection->shard;
	const struct iscsi_target *target;

	if (shard->closing)
		return ISCSI_LOGIN_UNAVAILABLE;
	if (login->discovery) /* on shard 0, see is_here() */
		return admit_by(&shard->server->discovery_guard, login);
	target = iscsi_shard_find_target(shard, login->target);
	if (!target)
		return admit_nowhere(shard, login);
	if (target->leaving)
		return ISCSI_LOGIN_NOT_FOUND;
	if (target->guard.redirect[0] != '\0' &&
	    iscsi_guard_admits(&target->guard, login->initiator)) {
		memcpy(login->redirect, target->guard.redirect, sizeof(login->redirect));
		return ISCSI_LOGIN_MOVED_TEMPORARILY;
	}
	return admit_by(&target->guard, login);
}

static void random_bytes(void *arg, void *bytes, size_t length)
{
	struct world *world = reactor_world(((struct iscsi_connection *)arg)->shard->reactor);

	world->ops->random(world, bytes, length);
}

const struct iscsi_login_ops iscsi_shard_login_ops = {
	.is_here = is_here, .admit = admit, .random = random_bytes};

bool iscsi_shard_is_crowded(struct iscsi_shard *shard, const struct iscsi_target *target,
			    const struct iscsi_login_state *login)
{
	const struct iscsi_guard *guard = &target->guard;
	unsigned all = 0, own = 0;
	const struct iscsi_session *session;

	LIST_FOR_EACH (&shard->sessions, session, struct iscsi_session, link) {
		if (session->target != target)
			continue;
		all++;
		own += strcmp(session->initiator, login->initiator) == 0;
	}
	return (guard->max_sessions > 0 && all >= guard->max_sessions) ||
	       (guard->max_sessions_initiator > 0 && own >= guard->max_sessions_initiator);
}

/* --- Memory --- */

/* In order of arrival; a session that is at its quota lets others pass. */
static void memory_work_run(struct reactor_work *work)
{
	struct iscsi_shard *shard = CONTAINER_OF(work, struct iscsi_shard, memory_work);
	struct list waiters;
	struct list_node *node;

	shard->memory_work_armed = false;
	list_init(&waiters);
	list_splice_back(&waiters, &shard->memory_waiters);
	while ((node = list_pop_front(&waiters))) {
		struct iscsi_task *task = LIST_ENTRY(node, struct iscsi_task, wait_link);

		if (!iscsi_task_retry_memory(task))
			list_push_back(&shard->memory_waiters, &task->wait_link);
	}
}

void iscsi_shard_memory_freed(struct iscsi_shard *shard)
{
	if (list_is_empty(&shard->memory_waiters) || shard->memory_work_armed)
		return;
	shard->memory_work_armed = true;
	reactor_defer(shard->reactor, &shard->memory_work);
}

/* --- Life --- */

static void tick_run(struct reactor_timer *timer)
{
	struct iscsi_shard *shard = CONTAINER_OF(timer, struct iscsi_shard, tick);
	uint64_t now_ns = reactor_turn_ns(shard->reactor);
	struct iscsi_connection *connection;

	LIST_FOR_EACH (&shard->connections, connection, struct iscsi_connection, link)
		iscsi_connection_tick(connection, now_ns);
	reactor_timer_arm(shard->reactor, &shard->tick, now_ns + TICK_NS);
}

static void init_lists(struct iscsi_shard *shard)
{
	list_init(&shard->targets);
	list_init(&shard->sessions);
	list_init(&shard->connections);
	list_init(&shard->memory_waiters);
	list_init(&shard->tmf_waiters);
	fiber_queue_init(&shard->changed);
}

/* So many that their reserves take half of the memory at most. */
static unsigned session_limit(const struct iscsi_shard *shard, unsigned wanted)
{
	size_t fit = shard->memory.size / 2 / ISCSI_RESERVE_BYTES;

	return (unsigned)MIN((size_t)(wanted ? wanted : ISCSI_DEFAULT_SESSIONS), fit);
}

int iscsi_shard_new(struct iscsi_server *server, unsigned index, struct reactor *reactor,
		    struct iscsi_shard **ret_shard)
{
	_cleanup_free_ struct iscsi_shard *shard = calloc(1, sizeof(*shard));
	uint64_t memory_bytes = server->memory_bytes ? server->memory_bytes : ISCSI_DEFAULT_MEMORY;
	int r;

	reactor_assert_home(reactor);
	if (!shard)
		return -ENOMEM;
	shard->server = server;
	shard->index = index;
	shard->reactor = reactor;
	shard->world = reactor_world(reactor)->ops;
	shard->port = reactor_port(reactor);
	init_lists(shard);
	shard->memory_work.run = memory_work_run;
	shard->tick.run = tick_run;
	r = iscsi_memory_init(&shard->memory, MAX((size_t)memory_bytes, (size_t)MEMORY_MIN));
	if (r < 0)
		return r;
	shard->max_sessions = session_limit(shard, server->max_sessions);
	reactor_timer_arm(reactor, &shard->tick, reactor_now_ns(reactor) + TICK_NS);
	*ret_shard = TAKE_PTR(shard);
	return 0;
}

void iscsi_shard_free(struct iscsi_shard *shard)
{
	struct iscsi_connection *connection;
	struct iscsi_session *session;
	struct iscsi_target *target;

	if (!shard)
		return;
	reactor_assert_home(shard->reactor);
	shard->closing = true;
	reactor_timer_cancel(shard->reactor, &shard->tick);
	LIST_FOR_EACH (&shard->sessions, session, struct iscsi_session, link)
		iscsi_session_kill(session);
	LIST_FOR_EACH (&shard->connections, connection, struct iscsi_connection, link)
		iscsi_connection_close(connection, "server stops");
	while (shard->memory_work_armed || shard->saves > 0 ||
	       !list_is_empty(&shard->connections) || !list_is_empty(&shard->sessions)) {
		if (shard->memory_work_armed)
			fiber_yield();
		else
			fiber_queue_wait(&shard->changed);
	}
	LIST_FOR_EACH (&shard->targets, target, struct iscsi_target, link)
		iscsi_target_free(target);
	iscsi_memory_done(&shard->memory);
	free(shard);
}
