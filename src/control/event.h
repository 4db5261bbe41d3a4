/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The event log: what an operator should know afterwards, each with a reason code that programs can
 * rely on. Events are durable rows of the catalog, numbered from 1 without gaps; the last
 * EVENTS_KEPT are kept. The number is the cursor: who asks for those after the last one seen misses
 * none, also over restarts.
 *
 * Lives on the node's home reactor.
 */
#include <jansson.h>

#include "catalog/catalog.h"

struct events;

#define EVENTS_KEPT      1024
#define EVENT_OBJECT_MAX 127
#define EVENT_TEXT_MAX   319

/* docs/events.md; the table is in event.c. Numbers are not part of any format, names are. */
enum event_reason {
	EVENT_NODE_STARTED,
	EVENT_NODE_RECOVERED,
	EVENT_NODE_STOPPED,
	EVENT_NODE_TOOK_OVER,
	EVENT_NODE_ALONE,
	EVENT_POOL_ONLINE,
	EVENT_POOL_FAILED,
	EVENT_POOL_IN_DOUBT,
	EVENT_POOL_FULL,
	EVENT_POOL_READ_ONLY,
	EVENT_POOL_SPACE_OK,
	EVENT_POOL_SPACE_NOTICE,
	EVENT_POOL_SPACE_LOW,
	EVENT_POOL_SPACE_CRITICAL,
	EVENT_POOL_DEGRADED,
	EVENT_POOL_HEALTHY,
	EVENT_SCRUB_REPAIRED,
	EVENT_SCRUB_LEFT,
	EVENT_SCRUB_DAMAGE,
	EVENT_SCRUB_PENDING,
	EVENT_REPAIR_MISMATCH,
	EVENT_DISK_ONLINE,
	EVENT_DISK_TROUBLE,
	EVENT_DISK_FAILED,
	EVENT_DISK_RESIZED,
	EVENT_DISK_DRAINING,
	EVENT_DISK_DRAINED,
	EVENT_DISK_KEPT,
	EVENT_DISK_REMOVED,
	EVENT_CONTAINER_SPACE_OK,
	EVENT_CONTAINER_SPACE_NOTICE,
	EVENT_CONTAINER_SPACE_LOW,
	EVENT_CONTAINER_SPACE_CRITICAL,
	EVENT_CONTAINER_TIER_FULL,
	EVENT_VDISK_RECOVERED,
	EVENT_VDISK_FAILED,
	EVENT_VDISK_OPENED,
	EVENT_VDISK_READ_ONLY,
	EVENT_VDISK_ONLINE,
	EVENT_VDISK_DAMAGED,
	EVENT_EXPORT_FAILED,
	EVENT_KEEPER_LOST,
	EVENT_CONTROLLER_FAILED,
	EVENT_CATALOG_RESTORED,
	EVENT_CATALOG_DAMAGED,
	EVENT_CATALOG_MIRROR_LOST,
	EVENT_CATALOG_MIRROR_GOOD,
	EVENT_CATALOG_MIRROR_REFUSED,
	EVENT_JOB_DONE,
	EVENT_JOB_FAILED,
	EVENT_JOB_CANCELLED,
	EVENT_REASON_COUNT,
};

enum event_severity {
	EVENT_INFO,
	EVENT_WARNING,
	EVENT_ERROR,
};

struct event_kind {
	const char *name;
	enum event_severity severity;
	const char *meaning; /* and what to do */
};

const struct event_kind *event_kind(enum event_reason reason);
/* EVENT_INFO for a name that this version does not know. */
enum event_severity event_severity_by_name(const char *reason);
const char *event_severity_name(enum event_severity severity);

struct event {
	uint64_t id;
	uint64_t wall_ns;
	char reason[40];
	char object[EVENT_OBJECT_MAX + 1];
	char text[EVENT_TEXT_MAX + 1];
};

int events_open(struct reactor *home, struct catalog *catalog, struct events **ret_events);
/* Those who wait get their answer. NULL is fine for both. */
void events_begin_close(struct events *events);
/* Writes what is left, as long as the catalog takes it. */
void events_close(struct events *events);

/* Never suspends: the row follows soon. Also written to the log. `events` may be NULL. */
void event_emit(struct events *events, enum event_reason reason, const char *object,
		const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Of the newest durable event; 0 when there was none ever. */
uint64_t events_last(const struct events *events);
/* The one with the least number greater than `after` that is kept; false when there is none. */
bool events_next(const struct events *events, uint64_t after, struct event *ret_event);
/* Until there is one after `after`, the deadline passed, or the node stops. */
void events_wait(struct events *events, uint64_t after, uint64_t deadline_ns);
