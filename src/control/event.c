/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events go from event_emit() to `pending`, from there in batches to the catalog by a fiber of
 * their own, and then to `kept`, which is what readers see.
 *
 * Invariants, all on the home reactor:
 *  1. Numbers are given when a batch is committed, so they have no gaps, and none is seen before it
 *     is durable: a number that was seen never means another event after a crash.
 *  2. Event N is in slot N % EVENTS_KEPT, of `kept` and of the catalog: the newest replace the
 *     oldest. All rows have one size, so once the slots are filled, events are written to a full
 *     disk too.
 *  3. `first` to `last` are kept.
 * Failure modes: while the catalog takes nothing, events wait, and it is tried again; more than
 * PENDING_MAX are only logged.
 */
#include "control/event.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "reactor/fiber.h"

#define PENDING_MAX 64
#define BATCH       16
#define RETRY_NS    NSEC_PER_SEC
#define ROW_VERSION 1

/* docs/format.md, "Event row". Texts end with a NUL. */
struct event_value {
	uint8_t version;
	uint8_t zero[7];
	uint8_t id[8];
	uint8_t wall_ns[8];
	uint8_t reason[40];
	uint8_t object[EVENT_OBJECT_MAX + 1];
	uint8_t text[EVENT_TEXT_MAX + 1];
};
_Static_assert(sizeof(struct event_value) == 512, "on disk");
_Static_assert(offsetof(struct event_value, reason) == 24, "on disk");
_Static_assert(offsetof(struct event_value, text) == 192, "on disk");
_Static_assert(EVENTS_KEPT > BATCH, "a batch writes each slot once");

struct events {
	struct reactor *home;
	struct catalog *catalog;
	uint64_t first, last; /* last = 0: none */
	struct event pending[PENDING_MAX];
	unsigned pending_count;
	bool stopping, closing, writer_runs;
	struct fiber_task writer;
	struct fiber_queue wanted, changed; /* of the writer; of readers */
	struct event_value batch[BATCH];
	struct event kept[EVENTS_KEPT];
};

static struct catalog_key row_key(uint64_t id)
{
	struct catalog_key key = catalog_key(CATALOG_EVENT);

	catalog_key_add(&key, id % EVENTS_KEPT);
	return key;
}

static void encode(const struct event *event, struct event_value *value)
{
	*value = (struct event_value){.version = ROW_VERSION};
	put_le64(value->id, event->id);
	put_le64(value->wall_ns, event->wall_ns);
	memcpy(value->reason, event->reason, sizeof(value->reason));
	memcpy(value->object, event->object, sizeof(value->object));
	memcpy(value->text, event->text, sizeof(value->text));
}

static int decode(const struct catalog_row *row, struct event *ret_event)
{
	const struct event_value *value = (const struct event_value *)row->value;

	if (row->length != sizeof(*value) || value->version != ROW_VERSION ||
	    !memchr(value->reason, 0, sizeof(value->reason)) ||
	    !memchr(value->object, 0, sizeof(value->object)) ||
	    !memchr(value->text, 0, sizeof(value->text)))
		return -EUCLEAN;
	ret_event->id = get_le64(value->id);
	ret_event->wall_ns = get_le64(value->wall_ns);
	memcpy(ret_event->reason, value->reason, sizeof(value->reason));
	memcpy(ret_event->object, value->object, sizeof(value->object));
	memcpy(ret_event->text, value->text, sizeof(value->text));
	if (row->key.length != 1 + 8 || ret_event->id == 0 ||
	    ret_event->id % EVENTS_KEPT != catalog_key_number(&row->key, 0))
		return -EUCLEAN;
	return 0;
}

/* What cannot be understood is left out: it must not keep the daemon from starting. */
static int load(struct events *events)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	const struct catalog_key prefix = catalog_key(CATALOG_EVENT);
	int r = catalog_scan(events->catalog, &prefix, NULL, 0, &rows);

	for (size_t i = 0; r == 0 && i < rows.count; i++) {
		struct event event;

		if (decode(&rows.rows[i], &event) < 0) {
			log_error("event", "ignoring a row that is not understood", "row=%zu", i);
			continue;
		}
		events->kept[event.id % EVENTS_KEPT] = event;
		events->last = MAX(events->last, event.id);
	}
	events->first = events->last;
	while (events->first > 1 &&
	       events->kept[(events->first - 1) % EVENTS_KEPT].id == events->first - 1)
		events->first--;
	return r;
}

static int write_batch(struct events *events, unsigned count)
{
	struct catalog_change changes[BATCH];

	for (unsigned i = 0; i < count; i++) {
		events->pending[i].id = events->last + 1 + i;
		encode(&events->pending[i], &events->batch[i]);
		changes[i] = (struct catalog_change){.kind = CATALOG_PUT,
						     .key = row_key(events->pending[i].id),
						     .value = &events->batch[i],
						     .length = sizeof(events->batch[i])};
	}
	return catalog_commit(events->catalog, changes, count);
}

static void keep_batch(struct events *events, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const struct event *event = &events->pending[i];

		events->kept[event->id % EVENTS_KEPT] = *event;
		events->last = event->id;
	}
	events->pending_count -= count;
	memmove(events->pending, events->pending + count,
		events->pending_count * sizeof(events->pending[0]));
	events->first = MAX(events->first, UINT64_C(1));
	if (events->last - events->first >= EVENTS_KEPT)
		events->first = events->last - EVENTS_KEPT + 1;
	fiber_queue_wake_all(&events->changed);
}

static void writer_run(struct fiber_task *task)
{
	struct events *events = CONTAINER_OF(task, struct events, writer);

	while (events->pending_count > 0 || !events->closing) {
		unsigned count = MIN(events->pending_count, (unsigned)BATCH);
		int r = count ? write_batch(events, count) : 0;

		if (r == 0 && count)
			keep_batch(events, count);
		else if (r == 0)
			fiber_queue_wait(&events->wanted);
		else if (events->closing)
			break;
		else
			(void)fiber_queue_wait_until(&events->wanted,
						     reactor_now_ns(events->home) + RETRY_NS);
	}
	if (events->pending_count > 0)
		log_warning("event", "the catalog did not take the last events", "count=%u",
			    events->pending_count);
	events->writer_runs = false;
	fiber_queue_wake_all(&events->changed);
}

int events_open(struct reactor *home, struct catalog *catalog, struct events **ret_events)
{
	struct events *events = calloc(1, sizeof(*events));
	int r;

	reactor_assert_home(home);
	if (!events)
		return -ENOMEM;
	events->home = home;
	events->catalog = catalog;
	fiber_queue_init(&events->wanted);
	fiber_queue_init(&events->changed);
	r = load(events);
	if (r < 0) {
		free(events);
		return r;
	}
	events->writer.run = writer_run;
	events->writer_runs = true;
	fiber_spawn(home, FIBER_CONTROL, &events->writer);
	*ret_events = events;
	return 0;
}

void events_begin_close(struct events *events)
{
	if (!events)
		return;
	events->stopping = true;
	fiber_queue_wake_all(&events->changed);
}

void events_close(struct events *events)
{
	if (!events)
		return;
	events->closing = true;
	fiber_queue_wake_all(&events->wanted);
	while (events->writer_runs)
		fiber_queue_wait(&events->changed);
	free(events);
}

static void to_log(enum event_severity severity, const struct event *event)
{
	static const enum log_level levels[] = {LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR};

	log_write(levels[severity], "event", event->text, "reason=%s object=%s", event->reason,
		  event->object);
}

void event_emit(struct events *events, enum event_reason reason, const char *object,
		const char *format, ...)
{
	const struct event_kind *kind = event_kind(reason);
	struct event event = {0};
	struct world *world;
	va_list arguments;

	if (!events)
		return;
	reactor_assert_home(events->home);
	world = reactor_world(events->home);
	event.wall_ns = world->ops->wall_ns(world);
	snprintf(event.reason, sizeof(event.reason), "%s", kind->name);
	snprintf(event.object, sizeof(event.object), "%s", object);
	va_start(arguments, format);
	vsnprintf(event.text, sizeof(event.text), format, arguments);
	va_end(arguments);
	to_log(kind->severity, &event);
	if (events->pending_count == PENDING_MAX || !events->writer_runs)
		return;
	events->pending[events->pending_count++] = event;
	fiber_queue_wake_all(&events->wanted);
}

uint64_t events_last(const struct events *events)
{
	return events->last;
}

bool events_next(const struct events *events, uint64_t after, struct event *ret_event)
{
	uint64_t id = MAX(after, events->first > 0 ? events->first - 1 : 0) + 1;

	reactor_assert_home(events->home);
	if (after >= events->last)
		return false;
	*ret_event = events->kept[id % EVENTS_KEPT];
	return true;
}

void events_wait(struct events *events, uint64_t after, uint64_t deadline_ns)
{
	while (events->last <= after && !events->stopping)
		if (!fiber_queue_wait_until(&events->changed, deadline_ns))
			return;
}
