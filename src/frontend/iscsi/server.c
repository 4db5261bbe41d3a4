/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server: its listener, and which target is at home on which reactor. What is asked of it is
 * done by the target's shard, in a fiber there; this side only knows names.
 *
 * Home reactor: the one given. Functions of iscsi.h run in fibers of it.
 *
 * Invariants
 *  1. A place is in the list as long as its shard has the target, and a little longer while it is
 *     made, moved or removed: who finds no target there asks again.
 *  2. One fiber at a time moves or removes a target; the others that want it wait or get -ENOENT.
 *  3. Messages from here to a shard keep their order: connections that were sent there have
 *     arrived when iscsi_shard_free() runs.
 */
#include "frontend/iscsi/server_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define BACKLOG  128
#define RETRY_NS NSEC_PER_SEC /* after an accept that failed */

/* --- Calls to a shard --- */

struct call {
	struct iscsi_shard *shard;
	const char *name;
	uint16_t number; /* a LUN, or a session */
	const struct iscsi_lun *spec;
	const struct iscsi_access *access;
	const struct block_volume *volume;
	struct iscsi_target *target;
	struct iscsi_session_info *infos;
	size_t count;
};

static int call(struct call *call, int (*fn)(void *arg))
{
	return fiber_call(call->shard->reactor, FIBER_CONTROL, fn, call);
}

static int add_target_there(void *arg)
{
	const struct call *call = arg;

	return iscsi_shard_add_target(call->shard, call->name);
}

static int remove_target_there(void *arg)
{
	const struct call *call = arg;

	return iscsi_shard_remove_target(call->shard, call->name);
}

static int add_lun_there(void *arg)
{
	const struct call *call = arg;

	return iscsi_shard_add_lun(call->shard, call->name, call->number, call->spec);
}

static int remove_lun_there(void *arg)
{
	const struct call *call = arg;

	return iscsi_shard_remove_lun(call->shard, call->name, call->number);
}

static int set_access_there(void *arg)
{
	const struct call *call = arg;

	return iscsi_shard_set_access(call->shard, call->name, call->access);
}

static int release_there(void *arg)
{
	struct call *call = arg;

	call->target = iscsi_shard_release_target(call->shard, call->name);
	return call->target ? 0 : -EBUSY;
}

static int take_there(void *arg)
{
	const struct call *call = arg;

	iscsi_shard_take_target(call->shard, call->target);
	return 0;
}

static int resized_there(void *arg)
{
	const struct call *call = arg;

	iscsi_shard_resized(call->shard, call->volume);
	return 0;
}

static int drop_session_there(void *arg)
{
	const struct call *call = arg;

	return iscsi_shard_drop_session(call->shard, call->number);
}

static int sessions_there(void *arg)
{
	struct call *call = arg;

	return iscsi_shard_sessions(call->shard, &call->infos, &call->count);
}

static int free_there(void *arg)
{
	iscsi_shard_free(arg);
	return 0;
}

/* --- Places --- */

struct iscsi_place *iscsi_server_find_place(const struct iscsi_server *server, const char *name)
{
	struct iscsi_place *place;

	LIST_FOR_EACH (&server->places, place, struct iscsi_place, link) {
		if (strcmp(place->name, name) == 0)
			return place;
	}
	return NULL;
}

/* One that stays where it is. NULL: there is none. */
static struct iscsi_place *await_place(struct iscsi_server *server, const char *name)
{
	struct iscsi_place *place = iscsi_server_find_place(server, name);

	while (place && place->moving) {
		fiber_queue_wait(&server->changed);
		place = iscsi_server_find_place(server, name);
	}
	return place && !place->leaving ? place : NULL;
}

static void free_place(struct iscsi_place *place)
{
	list_remove(&place->link);
	iscsi_guard_done(&place->guard);
	free(place);
}

static struct iscsi_shard *shard_on(const struct iscsi_server *server,
				    const struct reactor *reactor)
{
	for (unsigned i = 0; i < server->shard_count; i++) {
		if (server->shards[i]->reactor == reactor)
			return server->shards[i];
	}
	return NULL;
}

/* To where its first volume is: requests then need no messages. */
static void move_unused(struct iscsi_server *server, struct iscsi_place *place,
			struct iscsi_shard *to)
{
	struct call from = {.shard = place->shard, .name = place->name};

	if (!to || to == place->shard)
		return;
	place->moving = true;
	if (call(&from, release_there) == 0) {
		struct call there = {.shard = to, .target = from.target};

		(void)call(&there, take_there); /* always 0 */
		place->shard = to;
	}
	place->moving = false;
	fiber_queue_wake_all(&server->changed);
}

/* --- Listening --- */

static void accept_one(struct iscsi_server *server)
{
	server->accepting = true;
	server->world->socket_accept(server->port, server->listener, &server->accepted,
				     &server->accept_op);
}

static void retry_run(struct reactor_timer *timer)
{
	accept_one(CONTAINER_OF(timer, struct iscsi_server, retry));
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
	if (result < 0) {
		log_warning("iscsi", "accept failed", "error=%d", (int)result);
		reactor_timer_arm(server->reactor, &server->retry,
				  reactor_turn_ns(server->reactor) + RETRY_NS);
		return;
	}
	if (iscsi_connection_new(server->shards[0], server->accepted) < 0)
		log_warning("iscsi", "no memory for a connection");
	accept_one(server);
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

static void free_server(struct iscsi_server *server)
{
	struct iscsi_place *place;

	if (!server)
		return;
	for (unsigned i = 0; i < server->shard_count; i++) {
		struct iscsi_shard *shard = server->shards[i];

		if (shard)
			(void)fiber_call(shard->reactor, FIBER_CONTROL, free_there, shard);
	}
	LIST_FOR_EACH (&server->places, place, struct iscsi_place, link)
		free_place(place);
	if (server->listener)
		server->world->socket_close(server->listener);
	iscsi_guard_done(&server->discovery_guard);
	free(server);
}
DEFINE_CLEANUP(struct iscsi_server *, free_server)

struct new_shard {
	struct iscsi_server *server;
	unsigned index;
	struct reactor *reactor;
};

static int new_there(void *arg)
{
	const struct new_shard *new = arg;

	return iscsi_shard_new(new->server, new->index, new->reactor,
			       &new->server->shards[new->index]);
}

static int make_shards(struct iscsi_server *server, const struct iscsi_server_options *options)
{
	int r = 0;

	server->shard_count = MAX(options->reactor_count, 1u);
	for (unsigned i = 0; i < server->shard_count && r == 0; i++) {
		struct reactor *reactor =
			options->reactor_count > 0 ? options->reactors[i] : server->reactor;
		struct new_shard new = {server, i, reactor};

		ASSERT(i > 0 || reactor == server->reactor);
		r = fiber_call(reactor, FIBER_CONTROL, new_there, &new);
	}
	return r;
}

static struct iscsi_server *alloc_server(struct reactor *reactor,
					 const struct iscsi_server_options *options)
{
	struct iscsi_server *server = calloc(1, sizeof(*server));

	if (!server)
		return NULL;
	server->reactor = reactor;
	server->world = reactor_world(reactor)->ops;
	server->port = reactor_port(reactor);
	server->memory_bytes = options->memory_bytes;
	server->max_sessions = options->max_sessions;
	server->save = options->save_reservations;
	server->save_arg = options->save_arg;
	server->accept_op.done = accepted;
	server->retry.run = retry_run;
	list_init(&server->places);
	fiber_queue_init(&server->changed);
	return server;
}

int iscsi_server_new(struct reactor *reactor, const struct iscsi_server_options *options,
		     struct iscsi_server **ret_server)
{
	_cleanup_(free_serverp) struct iscsi_server *server = NULL;
	int r;

	reactor_assert_home(reactor);
	if (options->reactor_count > ISCSI_REACTORS_MAX)
		return -EINVAL;
	server = alloc_server(reactor, options);
	if (!server)
		return -ENOMEM;
	r = listen_on(server, options->address, options->port);
	if (r == -EADDRINUSE && options->port_fallback)
		r = listen_on(server, options->address, 0);
	if (r == 0)
		r = make_shards(server, options);
	if (r < 0)
		return r;
	if (!options->closed)
		iscsi_server_open(server);
	*ret_server = TAKE_PTR(server);
	return 0;
}

void iscsi_server_open(struct iscsi_server *server)
{
	reactor_assert_home(server->reactor);
	if (!server->open)
		accept_one(server);
	server->open = true;
}

void iscsi_server_free(struct iscsi_server *server)
{
	if (!server)
		return;
	reactor_assert_home(server->reactor);
	server->closing = true;
	reactor_timer_cancel(server->reactor, &server->retry);
	if (server->accepting)
		server->world->cancel(server->port, &server->accept_op);
	while (server->accepting)
		fiber_queue_wait(&server->changed);
	free_server(server);
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
	struct call there = {.shard = server->shards[0], .name = name};
	struct iscsi_place *place;
	int r;

	reactor_assert_home(server->reactor);
	if (!iscsi_text_is_name(name))
		return -EINVAL;
	if (iscsi_server_find_place(server, name))
		return -EEXIST;
	place = calloc(1, sizeof(*place));
	if (!place)
		return -ENOMEM;
	memcpy(place->name, name, strlen(name) + 1); /* is_name() bounds it */
	place->shard = there.shard;
	list_push_back(&server->places, &place->link);
	r = call(&there, add_target_there);
	if (r < 0)
		free_place(place);
	return r;
}

int iscsi_server_remove_target(struct iscsi_server *server, const char *name)
{
	struct iscsi_place *place = await_place(server, name);
	struct call there = {.name = name};
	int r;

	reactor_assert_home(server->reactor);
	if (!place)
		return -ENOENT;
	place->leaving = true; /* so nobody else removes the place */
	there.shard = place->shard;
	r = call(&there, remove_target_there);
	free_place(place);
	return r;
}

static int set_discovery_access(struct iscsi_server *server, const struct iscsi_access *access)
{
	int r = iscsi_guard_set(&server->discovery_guard, access);

	if (r == 0)
		iscsi_shard_end_unwelcome(server->shards[0], NULL, &server->discovery_guard);
	return r;
}

int iscsi_server_set_access(struct iscsi_server *server, const char *target_name,
			    const struct iscsi_access *access)
{
	struct call there = {.name = target_name, .access = access};
	struct iscsi_place *place;
	int r;

	reactor_assert_home(server->reactor);
	if (!target_name)
		return set_discovery_access(server, access);
	place = await_place(server, target_name);
	if (!place)
		return -ENOENT;
	r = iscsi_guard_set(&place->guard, access);
	if (r < 0)
		return r;
	there.shard = place->shard;
	return call(&there, set_access_there);
}

int iscsi_server_add_lun(struct iscsi_server *server, const char *target_name, uint16_t lun,
			 const struct iscsi_lun *spec)
{
	struct call there = {.name = target_name, .number = lun, .spec = spec};
	struct iscsi_place *place = await_place(server, target_name);

	reactor_assert_home(server->reactor);
	if (!place)
		return -ENOENT;
	if (lun >= SCSI_LUNS)
		return -EINVAL;
	move_unused(server, place, shard_on(server, spec->volume->home));
	there.shard = place->shard;
	return call(&there, add_lun_there);
}

int iscsi_server_remove_lun(struct iscsi_server *server, const char *target_name, uint16_t lun)
{
	struct call there = {.name = target_name, .number = lun};
	struct iscsi_place *place = await_place(server, target_name);

	reactor_assert_home(server->reactor);
	if (!place)
		return -ENOENT;
	there.shard = place->shard;
	return call(&there, remove_lun_there);
}

void iscsi_server_resized(struct iscsi_server *server, struct block_volume *volume)
{
	reactor_assert_home(server->reactor);
	for (unsigned i = 0; i < server->shard_count; i++) {
		struct call there = {.shard = server->shards[i], .volume = volume};

		(void)call(&there, resized_there); /* always 0 */
	}
}

struct space {
	struct world_message message;
	struct iscsi_shard *shard;
	const struct block_volume *volume; /* only a name here: it may be gone */
	uint64_t available, total;
};

static void space_arrived(struct world_message *message)
{
	struct space *space = CONTAINER_OF(message, struct space, message);

	iscsi_shard_set_space(space->shard, space->volume, space->available, space->total);
	free(space);
}

/* The caller looks through lists, so it is not made to wait. */
void iscsi_server_set_space(struct iscsi_server *server, struct block_volume *volume,
			    uint64_t available, uint64_t total)
{
	reactor_assert_home(server->reactor);
	iscsi_shard_set_space(server->shards[0], volume, available, total);
	for (unsigned i = 1; i < server->shard_count; i++) {
		struct space *space = malloc(sizeof(*space));

		if (!space) /* a few seconds later it is told again */
			return;
		*space = (struct space){.message.run = space_arrived,
					.shard = server->shards[i],
					.volume = volume,
					.available = available,
					.total = total};
		reactor_post(space->shard->reactor, &space->message);
	}
}

/* --- What is going on --- */

int iscsi_server_drop_session(struct iscsi_server *server, uint16_t id)
{
	struct call there = {.shard = server->shards[id % server->shard_count], .number = id};

	reactor_assert_home(server->reactor);
	return call(&there, drop_session_there);
}

static int append(struct iscsi_session_info **infos, size_t *count, const struct call *more)
{
	struct iscsi_session_info *all =
		realloc(*infos, (*count + more->count + 1) * sizeof(**infos));

	if (!all)
		return -ENOMEM;
	if (more->count > 0)
		memcpy(all + *count, more->infos, more->count * sizeof(*all));
	*infos = all;
	*count += more->count;
	return 0;
}

int iscsi_server_sessions(struct iscsi_server *server, struct iscsi_session_info **ret_infos,
			  size_t *ret_count)
{
	_cleanup_free_ struct iscsi_session_info *infos = NULL;
	size_t count = 0;

	reactor_assert_home(server->reactor);
	for (unsigned i = 0; i < server->shard_count; i++) {
		struct call there = {.shard = server->shards[i]};
		int r = call(&there, sessions_there);

		if (r == 0)
			r = append(&infos, &count, &there);
		free(there.infos);
		if (r < 0)
			return r;
	}
	*ret_infos = TAKE_PTR(infos);
	*ret_count = count;
	return 0;
}
