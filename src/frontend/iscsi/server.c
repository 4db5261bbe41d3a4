/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server: its listener, the lists of targets, sessions and connections, and what changes them
 * from outside.
 *
 * Home reactor: the one given. Functions of iscsi.h run in fibers of it and wait in `changed` for
 * sessions and tasks to end; everything else is callbacks.
 *
 * Invariants
 *  1. A target is freed when no session has it, a unit when no task and no nexus has it.
 *  2. memory.used is what tasks and reserves of sessions hold; it is 0 when no session is left.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "frontend/iscsi/server_priv.h"
#include "frontend/iscsi/task.h"

#define TICK_NS    NSEC_PER_SEC
#define BACKLOG    128
#define MEMORY_MIN (4 * ISCSI_MEMORY_BLOCK_MAX) /* a quarter of it holds any command */

/* --- Lookups --- */

struct iscsi_target *iscsi_server_find_target(struct iscsi_server *server, const char *name)
{
	struct iscsi_target *target;

	LIST_FOR_EACH (&server->targets, target, struct iscsi_target, link) {
		if (strcmp(target->scsi.name, name) == 0)
			return target;
	}
	return NULL;
}

struct iscsi_session *iscsi_server_find_session(struct iscsi_server *server,
						const struct iscsi_login_state *login,
						const struct iscsi_target *target)
{
	struct iscsi_session *session;

	LIST_FOR_EACH (&server->sessions, session, struct iscsi_session, link) {
		if (session->target == target &&
		    memcmp(session->isid, login->isid, sizeof(session->isid)) == 0 &&
		    strcmp(session->initiator, login->initiator) == 0 &&
		    (login->tsih == 0 || login->tsih == session->tsih))
			return session;
	}
	return NULL;
}

uint16_t iscsi_server_new_tsih(struct iscsi_server *server)
{
	const struct iscsi_session *session;
	bool taken;

	do {
		taken = ++server->last_tsih == 0;
		LIST_FOR_EACH (&server->sessions, session, struct iscsi_session, link)
			taken = taken || session->tsih == server->last_tsih;
	} while (taken);
	return server->last_tsih;
}

/* --- Who may log in --- */

static enum iscsi_login_status admit_by(const struct iscsi_guard *guard,
					struct iscsi_login_state *login)
{
	if (!iscsi_guard_admits(guard, login->initiator))
		return ISCSI_LOGIN_FORBIDDEN;
	login->chap = *iscsi_guard_chap(guard, login->initiator);
	login->generation = guard->generation;
	return ISCSI_LOGIN_SUCCESS;
}

static enum iscsi_login_status admit(void *arg, struct iscsi_login_state *login)
{
	struct iscsi_connection *connection = arg;
	struct iscsi_server *server = connection->server;
	const struct iscsi_target *target;

	if (server->closing)
		return ISCSI_LOGIN_UNAVAILABLE;
	if (login->discovery)
		return admit_by(&server->discovery_guard, login);
	target = iscsi_server_find_target(server, login->target);
	if (!target || target->leaving)
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
	struct world *world = reactor_world(((struct iscsi_connection *)arg)->server->reactor);

	world->ops->random(world, bytes, length);
}

const struct iscsi_login_ops iscsi_server_login_ops = {.admit = admit, .random = random_bytes};

bool iscsi_server_is_crowded(struct iscsi_server *server, const struct iscsi_target *target,
			     const struct iscsi_login_state *login)
{
	const struct iscsi_guard *guard = &target->guard;
	unsigned all = 0, own = 0;
	const struct iscsi_session *session;

	LIST_FOR_EACH (&server->sessions, session, struct iscsi_session, link) {
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
	struct iscsi_server *server = CONTAINER_OF(work, struct iscsi_server, memory_work);
	struct list waiters;
	struct list_node *node;

	server->memory_work_armed = false;
	list_init(&waiters);
	list_splice_back(&waiters, &server->memory_waiters);
	while ((node = list_pop_front(&waiters))) {
		struct iscsi_task *task = LIST_ENTRY(node, struct iscsi_task, wait_link);

		if (!iscsi_task_retry_memory(task))
			list_push_back(&server->memory_waiters, &task->wait_link);
	}
}

void iscsi_server_memory_freed(struct iscsi_server *server)
{
	if (list_is_empty(&server->memory_waiters) || server->memory_work_armed)
		return;
	server->memory_work_armed = true;
	reactor_defer(server->reactor, &server->memory_work);
}

/* --- Listening --- */

static void accept_one(struct iscsi_server *server)
{
	server->accepting = true;
	server->world->socket_accept(server->port, server->listener, &server->accepted,
				     &server->accept_op);
}

static void accepted(struct world_op *op, int64_t result)
{
	struct iscsi_server *server = CONTAINER_OF(op, struct iscsi_server, accept_op);

	server->accepting = false;
	if (server->closing) {
		if (result == 0)
			server->world->socket_close(server->accepted);
		fiber_queue_wake_all(&server->changed);
		return;
	}
	if (result < 0) { /* the next tick tries again */
		log_warning("iscsi", "accept failed", "error=%d", (int)result);
		return;
	}
	if (iscsi_connection_new(server, server->accepted) < 0)
		log_warning("iscsi", "no memory for a connection");
	accept_one(server);
}

static void tick_run(struct reactor_timer *timer)
{
	struct iscsi_server *server = CONTAINER_OF(timer, struct iscsi_server, tick);
	uint64_t now_ns = reactor_turn_ns(server->reactor);
	struct iscsi_connection *connection;

	LIST_FOR_EACH (&server->connections, connection, struct iscsi_connection, link)
		iscsi_connection_tick(connection, now_ns);
	if (!server->accepting && !server->closing)
		accept_one(server);
	reactor_timer_arm(server->reactor, &server->tick, now_ns + TICK_NS);
}

static int parse_address(const char *text, uint16_t port, struct sockaddr_storage *ret_address,
			 socklen_t *ret_length)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	memset(ret_address, 0, sizeof(*ret_address));
	if (inet_pton(AF_INET, text, &in.sin_addr) == 1) {
		memcpy(ret_address, &in, sizeof(in));
		*ret_length = sizeof(in);
		return 0;
	}
	if (inet_pton(AF_INET6, text, &in6.sin6_addr) == 1) {
		memcpy(ret_address, &in6, sizeof(in6));
		*ret_length = sizeof(in6);
		return 0;
	}
	return -EINVAL;
}

static int listen_on(struct iscsi_server *server, const char *text, uint16_t port)
{
	struct sockaddr_storage address;
	socklen_t length;
	int r = parse_address(text, port, &address, &length);

	if (r < 0)
		return r;
	return server->world->socket_listen(server->port, (const struct sockaddr *)&address, length,
					    BACKLOG, &server->listener);
}

/* --- Life --- */

static void init_lists(struct iscsi_server *server)
{
	list_init(&server->targets);
	list_init(&server->sessions);
	list_init(&server->connections);
	list_init(&server->memory_waiters);
	list_init(&server->tmf_waiters);
	fiber_queue_init(&server->changed);
}

/* So many that their reserves take half of the memory at most. */
static unsigned session_limit(const struct iscsi_server *server, unsigned wanted)
{
	size_t fit = server->memory.size / 2 / ISCSI_RESERVE_BYTES;

	return (unsigned)MIN((size_t)(wanted ? wanted : ISCSI_DEFAULT_SESSIONS), fit);
}

int iscsi_server_new(struct reactor *reactor, const struct iscsi_server_options *options,
		     struct iscsi_server **ret_server)
{
	_cleanup_free_ struct iscsi_server *server = calloc(1, sizeof(*server));
	uint64_t memory_bytes =
		options->memory_bytes ? options->memory_bytes : ISCSI_DEFAULT_MEMORY;
	int r;

	reactor_assert_home(reactor);
	if (!server)
		return -ENOMEM;
	server->reactor = reactor;
	server->world = reactor_world(reactor)->ops;
	server->save = options->save_reservations;
	server->save_arg = options->save_arg;
	server->port = reactor_port(reactor);
	init_lists(server);
	server->memory_work.run = memory_work_run;
	server->accept_op.done = accepted;
	server->tick.run = tick_run;
	r = listen_on(server, options->address, options->port);
	if (r == -EADDRINUSE && options->port_fallback)
		r = listen_on(server, options->address, 0);
	if (r < 0)
		return r;
	r = iscsi_memory_init(&server->memory, MAX((size_t)memory_bytes, (size_t)MEMORY_MIN));
	if (r < 0) {
		server->world->socket_close(server->listener);
		return r;
	}
	server->max_sessions = session_limit(server, options->max_sessions);
	reactor_timer_arm(reactor, &server->tick, reactor_now_ns(reactor) + TICK_NS);
	accept_one(server);
	*ret_server = TAKE_PTR(server);
	return 0;
}

static void free_target(struct iscsi_server *server, struct iscsi_target *target)
{
	for (unsigned lun = 0; lun < SCSI_LUNS; lun++) {
		if (target->scsi.units[lun])
			iscsi_unit_free(iscsi_unit_of(target->scsi.units[lun]));
	}
	iscsi_guard_done(&target->guard);
	list_remove(&target->link);
	free(target);
}

void iscsi_server_free(struct iscsi_server *server)
{
	struct iscsi_connection *connection;
	struct iscsi_session *session;
	struct iscsi_target *target;

	if (!server)
		return;
	reactor_assert_home(server->reactor);
	server->closing = true;
	reactor_timer_cancel(server->reactor, &server->tick);
	if (server->accepting)
		reactor_world(server->reactor)->ops->cancel(server->port, &server->accept_op);
	LIST_FOR_EACH (&server->sessions, session, struct iscsi_session, link)
		iscsi_session_kill(session);
	LIST_FOR_EACH (&server->connections, connection, struct iscsi_connection, link)
		iscsi_connection_close(connection, "server stops");
	while (server->accepting || server->memory_work_armed || server->saves > 0 ||
	       !list_is_empty(&server->connections) || !list_is_empty(&server->sessions)) {
		if (server->memory_work_armed)
			fiber_yield();
		else
			fiber_queue_wait(&server->changed);
	}
	server->world->socket_close(server->listener);
	LIST_FOR_EACH (&server->targets, target, struct iscsi_target, link)
		free_target(server, target);
	iscsi_guard_done(&server->discovery_guard);
	iscsi_memory_done(&server->memory);
	free(server);
}

void iscsi_server_address(const struct iscsi_server *server, char *ret_text, size_t size,
			  uint16_t *ret_port)
{
	struct sockaddr_storage address;
	socklen_t length;

	ret_text[0] = '\0';
	*ret_port = 0;
	if (server->world->socket_address(server->listener, false, &address, &length) < 0)
		return;
	if (address.ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)&address;

		(void)inet_ntop(AF_INET6, &in6->sin6_addr, ret_text, (socklen_t)size);
		*ret_port = ntohs(in6->sin6_port);
	} else {
		const struct sockaddr_in *in = (const void *)&address;

		(void)inet_ntop(AF_INET, &in->sin_addr, ret_text, (socklen_t)size);
		*ret_port = ntohs(in->sin_port);
	}
}

/* --- Targets and units --- */

bool iscsi_is_name(const char *name)
{
	return iscsi_text_is_name(name);
}

int iscsi_server_add_target(struct iscsi_server *server, const char *name)
{
	struct iscsi_target *target;

	reactor_assert_home(server->reactor);
	if (!iscsi_text_is_name(name))
		return -EINVAL;
	if (iscsi_server_find_target(server, name))
		return -EEXIST;
	target = calloc(1, sizeof(*target));
	if (!target)
		return -ENOMEM;
	memcpy(target->scsi.name, name, strlen(name) + 1); /* is_name() bounds it */
	list_push_back(&server->targets, &target->link);
	return 0;
}

static unsigned count_sessions(const struct iscsi_server *server, const struct iscsi_target *target)
{
	const struct iscsi_session *session;
	unsigned count = 0;

	LIST_FOR_EACH (&server->sessions, session, struct iscsi_session, link)
		count += session->target == target;
	return count;
}

static void ask_to_log_out(struct iscsi_server *server, const struct iscsi_target *target)
{
	struct iscsi_session *session;
	struct iscsi_connection *connection;

	LIST_FOR_EACH (&server->sessions, session, struct iscsi_session, link) {
		LIST_FOR_EACH (&session->connections, connection, struct iscsi_connection,
			       session_link) {
			if (session->target == target)
				iscsi_connection_event(connection, ISCSI_ASYNC_LOGOUT_REQUEST);
		}
	}
}

/* --- Who is still welcome --- */

static void end_unwelcome(struct iscsi_server *server, const struct iscsi_target *target,
			  const struct iscsi_guard *guard)
{
	struct iscsi_session *session;

	LIST_FOR_EACH (&server->sessions, session, struct iscsi_session, link) {
		if (session->target == target &&
		    (guard->redirect[0] != '\0' || !iscsi_guard_admits(guard, session->initiator)))
			iscsi_session_kill(session);
	}
}

/* Sessions are asked to log out, and find the new place when they log in again. */
static void move_away(struct iscsi_server *server, const char *name)
{
	uint64_t deadline_ns = reactor_now_ns(server->reactor) + ISCSI_LOGOUT_NS;
	struct iscsi_target *target = iscsi_server_find_target(server, name);

	ask_to_log_out(server, target);
	while (target && count_sessions(server, target) > 0 &&
	       fiber_queue_wait_until(&server->changed, deadline_ns))
		target = iscsi_server_find_target(server, name);
	target = iscsi_server_find_target(server, name);
	if (target)
		end_unwelcome(server, target, &target->guard);
}

int iscsi_server_set_access(struct iscsi_server *server, const char *target_name,
			    const struct iscsi_access *access)
{
	struct iscsi_target *target = NULL;
	struct iscsi_guard *guard = &server->discovery_guard;
	int r;

	reactor_assert_home(server->reactor);
	if (target_name) {
		target = iscsi_server_find_target(server, target_name);
		if (!target || target->leaving)
			return -ENOENT;
		guard = &target->guard;
	}
	r = iscsi_guard_set(guard, access);
	if (r < 0)
		return r;
	if (target && guard->redirect[0] != '\0')
		move_away(server, target_name);
	else
		end_unwelcome(server, target, guard);
	return 0;
}

int iscsi_server_remove_target(struct iscsi_server *server, const char *name)
{
	struct iscsi_target *target = iscsi_server_find_target(server, name);
	uint64_t deadline_ns = reactor_now_ns(server->reactor) + ISCSI_LOGOUT_NS;
	struct iscsi_session *session;

	reactor_assert_home(server->reactor);
	if (!target || target->leaving)
		return -ENOENT;
	target->leaving = true;
	ask_to_log_out(server, target);
	while (count_sessions(server, target) > 0 &&
	       fiber_queue_wait_until(&server->changed, deadline_ns))
		;
	LIST_FOR_EACH (&server->sessions, session, struct iscsi_session, link) {
		if (session->target == target)
			iscsi_session_kill(session);
	}
	while (count_sessions(server, target) > 0)
		fiber_queue_wait(&server->changed);
	free_target(server, target);
	return 0;
}

/* To the nexuses of all units of the target: the list of LUNs is another one now. */
static void luns_changed(struct iscsi_target *target)
{
	for (unsigned lun = 0; lun < SCSI_LUNS; lun++) {
		if (target->scsi.units[lun])
			scsi_unit_attention(target->scsi.units[lun], SCSI_ATTENTION_LUNS_CHANGED,
					    NULL);
	}
}

static void remove_nexuses(struct iscsi_server *server, const struct iscsi_target *target,
			   uint16_t lun)
{
	struct iscsi_session *session;

	LIST_FOR_EACH (&server->sessions, session, struct iscsi_session, link) {
		if (session->target == target)
			iscsi_session_remove_nexus(session, lun);
	}
}

static int add_nexuses(struct iscsi_server *server, const struct iscsi_target *target,
		       struct scsi_unit *unit)
{
	struct iscsi_session *session;

	LIST_FOR_EACH (&server->sessions, session, struct iscsi_session, link) {
		int r = session->target == target ? iscsi_session_add_nexus(session, unit) : 0;

		if (r < 0) {
			remove_nexuses(server, target, unit->lun);
			return r;
		}
	}
	return 0;
}

int iscsi_server_add_lun(struct iscsi_server *server, const char *target_name, uint16_t lun,
			 const struct iscsi_lun *spec)
{
	struct iscsi_target *target = iscsi_server_find_target(server, target_name);
	struct iscsi_unit *unit;
	int r;

	reactor_assert_home(server->reactor);
	if (!target || target->leaving)
		return -ENOENT;
	if (lun >= SCSI_LUNS)
		return -EINVAL;
	if (target->scsi.units[lun] || target->leaving_luns[lun])
		return -EEXIST;
	r = iscsi_unit_new(server, server->reactor, lun, spec, &unit);
	if (r < 0)
		return r;
	r = add_nexuses(server, target, &unit->scsi);
	if (r < 0) {
		iscsi_unit_free(unit);
		return r;
	}
	luns_changed(target);
	target->scsi.units[lun] = &unit->scsi;
	return 0;
}

int iscsi_server_remove_lun(struct iscsi_server *server, const char *target_name, uint16_t lun)
{
	struct iscsi_target *target = iscsi_server_find_target(server, target_name);
	struct iscsi_unit *unit;

	reactor_assert_home(server->reactor);
	if (!target || target->leaving || lun >= SCSI_LUNS || !target->scsi.units[lun])
		return -ENOENT;
	unit = iscsi_unit_of(target->scsi.units[lun]);
	target->scsi.units[lun] = NULL;
	target->leaving_luns[lun] = true;
	luns_changed(target);
	while (unit->tasks > 0)
		fiber_queue_wait(&server->changed);
	remove_nexuses(server, target, lun);
	iscsi_unit_free(unit);
	target->leaving_luns[lun] = false;
	return 0;
}

void iscsi_server_resized(struct iscsi_server *server, struct block_volume *volume)
{
	struct iscsi_target *target;

	reactor_assert_home(server->reactor);
	LIST_FOR_EACH (&server->targets, target, struct iscsi_target, link) {
		for (unsigned lun = 0; lun < SCSI_LUNS; lun++) {
			struct scsi_unit *unit = target->scsi.units[lun];

			if (unit && iscsi_unit_of(unit)->source == volume)
				iscsi_unit_resized(iscsi_unit_of(unit));
		}
	}
}

void iscsi_server_set_space(struct iscsi_server *server, struct block_volume *volume,
			    uint64_t available, uint64_t total)
{
	struct iscsi_target *target;

	reactor_assert_home(server->reactor);
	LIST_FOR_EACH (&server->targets, target, struct iscsi_target, link) {
		for (unsigned lun = 0; lun < SCSI_LUNS; lun++) {
			struct scsi_unit *unit = target->scsi.units[lun];

			if (unit && iscsi_unit_of(unit)->source == volume)
				scsi_unit_set_space(unit, available, total);
		}
	}
}

/* --- What is going on --- */

static void describe(const struct iscsi_session *session, struct iscsi_session_info *ret_info)
{
	const struct list_node *node = list_front(&session->connections);

	*ret_info = (struct iscsi_session_info){
		.id = session->tsih,
		.connections = (unsigned)list_count(&session->connections),
		.created_wall_ns = session->created_wall_ns,
		.commands = session->commands,
		.bytes_read = session->bytes_read,
		.bytes_written = session->bytes_written,
	};
	memcpy(ret_info->initiator, session->initiator, sizeof(ret_info->initiator));
	if (session->target)
		memcpy(ret_info->target, session->target->scsi.name, sizeof(ret_info->target));
	if (node)
		memcpy(ret_info->peer,
		       LIST_ENTRY(node, const struct iscsi_connection, session_link)->peer,
		       sizeof(ret_info->peer));
}

int iscsi_server_drop_session(struct iscsi_server *server, uint16_t id)
{
	struct iscsi_session *session;

	reactor_assert_home(server->reactor);
	LIST_FOR_EACH (&server->sessions, session, struct iscsi_session, link) {
		if (session->tsih != id || session->dead)
			continue;
		iscsi_session_kill(session);
		return 0;
	}
	return -ENOENT;
}

int iscsi_server_sessions(struct iscsi_server *server, struct iscsi_session_info **ret_infos,
			  size_t *ret_count)
{
	struct iscsi_session_info *infos = calloc(server->session_count + 1, sizeof(*infos));
	const struct iscsi_session *session;
	size_t count = 0;

	reactor_assert_home(server->reactor);
	if (!infos)
		return -ENOMEM;
	LIST_FOR_EACH (&server->sessions, session, struct iscsi_session, link) {
		if (!session->dead)
			describe(session, &infos[count++]);
	}
	*ret_infos = infos;
	*ret_count = count;
	return 0;
}
