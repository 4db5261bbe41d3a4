/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shard's targets and units, as they are changed from outside.
 *
 * Home reactor: the shard's. All of it runs in fibers. Whoever has waited looks its target up
 * again, by name: it may be gone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/iscsi/shard.h"
#include "frontend/iscsi/task.h"

/* --- Targets --- */

int iscsi_shard_add_target(struct iscsi_shard *shard, const char *name)
{
	struct iscsi_target *target;

	reactor_assert_home(shard->reactor);
	ASSERT(!iscsi_shard_find_target(shard, name));
	target = calloc(1, sizeof(*target));
	if (!target)
		return -ENOMEM;
	memcpy(target->scsi.name, name, strlen(name) + 1); /* is_name() bounds it */
	list_push_back(&shard->targets, &target->link);
	return 0;
}

static unsigned count_sessions(const struct iscsi_shard *shard, const struct iscsi_target *target)
{
	const struct iscsi_session *session;
	unsigned count = 0;

	LIST_FOR_EACH (&shard->sessions, session, struct iscsi_session, link)
		count += session->target == target;
	return count;
}

static void ask_to_log_out(struct iscsi_shard *shard, const struct iscsi_target *target)
{
	struct iscsi_session *session;
	struct iscsi_connection *connection;

	LIST_FOR_EACH (&shard->sessions, session, struct iscsi_session, link) {
		LIST_FOR_EACH (&session->connections, connection, struct iscsi_connection,
			       session_link) {
			if (session->target == target)
				iscsi_connection_event(connection, ISCSI_ASYNC_LOGOUT_REQUEST);
		}
	}
}

/* --- Who is still welcome --- */

void iscsi_shard_end_unwelcome(struct iscsi_shard *shard, const struct iscsi_target *target,
			       const struct iscsi_guard *guard)
{
	struct iscsi_session *session;

	LIST_FOR_EACH (&shard->sessions, session, struct iscsi_session, link) {
		if (session->target == target &&
		    (guard->redirect[0] != '\0' || !iscsi_guard_admits(guard, session->initiator)))
			iscsi_session_kill(session);
	}
}

/* Sessions are asked to log out, and find the new place when they log in again. */
static void move_away(struct iscsi_shard *shard, const char *name)
{
	uint64_t deadline_ns = reactor_now_ns(shard->reactor) + ISCSI_LOGOUT_NS;
	struct iscsi_target *target = iscsi_shard_find_target(shard, name);

	ask_to_log_out(shard, target);
	while (target && count_sessions(shard, target) > 0 &&
	       fiber_queue_wait_until(&shard->changed, deadline_ns))
		target = iscsi_shard_find_target(shard, name);
	target = iscsi_shard_find_target(shard, name);
	if (target)
		iscsi_shard_end_unwelcome(shard, target, &target->guard);
}

int iscsi_shard_set_access(struct iscsi_shard *shard, const char *name,
			   const struct iscsi_access *access)
{
	struct iscsi_target *target = iscsi_shard_find_target(shard, name);
	int r;

	reactor_assert_home(shard->reactor);
	if (!target || target->leaving)
		return -ENOENT;
	r = iscsi_guard_set(&target->guard, access);
	if (r < 0)
		return r;
	if (target->guard.redirect[0] != '\0')
		move_away(shard, name);
	else
		iscsi_shard_end_unwelcome(shard, target, &target->guard);
	return 0;
}

int iscsi_shard_remove_target(struct iscsi_shard *shard, const char *name)
{
	struct iscsi_target *target = iscsi_shard_find_target(shard, name);
	uint64_t deadline_ns = reactor_now_ns(shard->reactor) + ISCSI_LOGOUT_NS;
	struct iscsi_session *session;

	reactor_assert_home(shard->reactor);
	if (!target || target->leaving)
		return -ENOENT;
	target->leaving = true;
	ask_to_log_out(shard, target);
	while (count_sessions(shard, target) > 0 &&
	       fiber_queue_wait_until(&shard->changed, deadline_ns))
		;
	LIST_FOR_EACH (&shard->sessions, session, struct iscsi_session, link) {
		if (session->target == target)
			iscsi_session_kill(session);
	}
	while (count_sessions(shard, target) > 0)
		fiber_queue_wait(&shard->changed);
	iscsi_target_free(target);
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

static void remove_nexuses(struct iscsi_shard *shard, const struct iscsi_target *target,
			   uint16_t lun)
{
	struct iscsi_session *session;

	LIST_FOR_EACH (&shard->sessions, session, struct iscsi_session, link) {
		if (session->target == target)
			iscsi_session_remove_nexus(session, lun);
	}
}

static int add_nexuses(struct iscsi_shard *shard, const struct iscsi_target *target,
		       struct scsi_unit *unit)
{
	struct iscsi_session *session;

	LIST_FOR_EACH (&shard->sessions, session, struct iscsi_session, link) {
		int r = session->target == target ? iscsi_session_add_nexus(session, unit) : 0;

		if (r < 0) {
			remove_nexuses(shard, target, unit->lun);
			return r;
		}
	}
	return 0;
}

int iscsi_shard_add_lun(struct iscsi_shard *shard, const char *name, uint16_t lun,
			const struct iscsi_lun *spec)
{
	struct iscsi_target *target = iscsi_shard_find_target(shard, name);
	struct iscsi_unit *unit;
	int r;

	reactor_assert_home(shard->reactor);
	if (!target || target->leaving)
		return -ENOENT;
	if (lun >= SCSI_LUNS)
		return -EINVAL;
	if (target->scsi.units[lun] || target->leaving_luns[lun])
		return -EEXIST;
	r = iscsi_unit_new(shard, lun, spec, &unit);
	if (r < 0)
		return r;
	r = add_nexuses(shard, target, &unit->scsi);
	if (r < 0) {
		iscsi_unit_free(unit);
		return r;
	}
	luns_changed(target);
	target->scsi.units[lun] = &unit->scsi;
	return 0;
}

int iscsi_shard_remove_lun(struct iscsi_shard *shard, const char *name, uint16_t lun)
{
	struct iscsi_target *target = iscsi_shard_find_target(shard, name);
	struct iscsi_unit *unit;

	reactor_assert_home(shard->reactor);
	if (!target || target->leaving || lun >= SCSI_LUNS || !target->scsi.units[lun])
		return -ENOENT;
	unit = iscsi_unit_of(target->scsi.units[lun]);
	target->scsi.units[lun] = NULL;
	target->leaving_luns[lun] = true;
	luns_changed(target);
	while (unit->tasks > 0)
		fiber_queue_wait(&shard->changed);
	remove_nexuses(shard, target, lun);
	iscsi_unit_free(unit);
	if (iscsi_shard_find_target(shard, name) == target) /* it may have been removed meanwhile */
		target->leaving_luns[lun] = false;
	return 0;
}

/* What serves that volume here, one LUN after the other. */
static void each_unit(struct iscsi_shard *shard, const struct block_volume *volume,
		      void (*fn)(struct iscsi_unit *unit, const void *arg), const void *arg)
{
	struct iscsi_target *target;

	reactor_assert_home(shard->reactor);
	LIST_FOR_EACH (&shard->targets, target, struct iscsi_target, link) {
		for (unsigned lun = 0; lun < SCSI_LUNS; lun++) {
			struct scsi_unit *unit = target->scsi.units[lun];

			if (unit && iscsi_unit_of(unit)->source == volume)
				fn(iscsi_unit_of(unit), arg);
		}
	}
}

static void resize_unit(struct iscsi_unit *unit, const void *arg)
{
	(void)arg;
	iscsi_unit_resized(unit);
}

void iscsi_shard_resized(struct iscsi_shard *shard, const struct block_volume *volume)
{
	each_unit(shard, volume, resize_unit, NULL);
}

struct space {
	uint64_t available, total;
};

static void set_unit_space(struct iscsi_unit *unit, const void *arg)
{
	const struct space *space = arg;

	scsi_unit_set_space(&unit->scsi, space->available, space->total);
}

void iscsi_shard_set_space(struct iscsi_shard *shard, const struct block_volume *volume,
			   uint64_t available, uint64_t total)
{
	each_unit(shard, volume, set_unit_space, &(struct space){available, total});
}

/* --- From one shard to another --- */

static bool has_units(const struct iscsi_target *target)
{
	for (unsigned lun = 0; lun < SCSI_LUNS; lun++) {
		if (target->scsi.units[lun] || target->leaving_luns[lun])
			return true;
	}
	return false;
}

struct iscsi_target *iscsi_shard_release_target(struct iscsi_shard *shard, const char *name)
{
	struct iscsi_target *target = iscsi_shard_find_target(shard, name);

	reactor_assert_home(shard->reactor);
	if (!target || target->leaving || has_units(target) || count_sessions(shard, target) > 0)
		return NULL;
	list_remove(&target->link);
	return target;
}

void iscsi_shard_take_target(struct iscsi_shard *shard, struct iscsi_target *target)
{
	reactor_assert_home(shard->reactor);
	list_push_back(&shard->targets, &target->link);
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

int iscsi_shard_drop_session(struct iscsi_shard *shard, uint16_t id)
{
	struct iscsi_session *session;

	reactor_assert_home(shard->reactor);
	LIST_FOR_EACH (&shard->sessions, session, struct iscsi_session, link) {
		if (session->tsih != id || session->dead)
			continue;
		iscsi_session_kill(session);
		return 0;
	}
	return -ENOENT;
}

int iscsi_shard_sessions(struct iscsi_shard *shard, struct iscsi_session_info **ret_infos,
			 size_t *ret_count)
{
	struct iscsi_session_info *infos = calloc(shard->session_count + 1, sizeof(*infos));
	const struct iscsi_session *session;
	size_t count = 0;

	reactor_assert_home(shard->reactor);
	if (!infos)
		return -ENOMEM;
	LIST_FOR_EACH (&shard->sessions, session, struct iscsi_session, link) {
		if (!session->dead)
			describe(session, &infos[count++]);
	}
	*ret_infos = infos;
	*ret_count = count;
	return 0;
}
