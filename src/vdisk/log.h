/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The log of a vDisk: guest writes are copied into records, records are appended to extent groups.
 *
 * Invariants:
 *  1. LSNs are given in the order in which records are cut; records in flight are a list in that
 * order.
 *  2. A record is acknowledged (its extents enter the map, its requests complete) when it and all
 * earlier ones are on disk: acked_lsn only grows, one by one.
 *  3. durable_lsn <= acked_lsn < next_lsn. A group takes no record before its rows and directory
 * entry are durable.
 *  4. A group that failed on any of its copies gets no more records. What was not acknowledged
 * goes, in order and under the same LSNs, into a new group, up to LOG_REROUTES_MAX times; if that
 * fails, too, the log has failed and takes no more writes until it is opened again (log_fail()).
 *  5. A failed sync is never repeated: the copy does not count any more and its group gets no more
 * records; when no copy is left, the log has failed.
 * Home: the vDisk's reactor. The happy path runs in callbacks: log_add(), the turn-end hook cuts
 * and issues, the world completes, log_acknowledge. Fibers make groups ready, sync, and issue again
 * after a failure.
 */
#include "egroup/store.h"
#include "vdisk/record_buffer.h"

#define LOG_IN_FLIGHT_MAX     8u  /* records */
#define LOG_CUT_BLOCKS        16u /* a record that gathers requests is cut at 64 KiB */
#define LOG_FIRST_GROUP_BYTES (1 * MIB)
#define LOG_REROUTES_MAX      5u /* until then the pool has noticed which disks err */

struct vdisk;

struct log_group {
	struct egroup *group;
	struct list_node link; /* of log->groups */
	uint32_t slots;        /* that are allocated */
	uint32_t next_slot;
	uint32_t
		acked_slots; /* end of the last acknowledged record: the length when it is sealed */
	uint64_t last_lsn;   /* of the last record issued to it */
	uint64_t written,
		synced; /* completed writes; how many of them the last good sync covered */
	bool internal;  /* taken out of the reserve: for records without payload only */
	bool leaving;   /* the checkpoint under way lets go of it */
	bool retired;   /* gets no more records, though there is room */
};

struct log {
	struct vdisk *vdisk;
	struct list pending; /* requests to be cut, in order of arrival */
	struct list in_flight;
	unsigned in_flight_count;
	struct list groups; /* from the checkpoint's position to the current one, in order */
	struct log_group *current;
	struct log_group *ready; /* the next one */
	bool ready_renewed;      /* since the current group was begun */
	uint64_t next_lsn, acked_lsn, durable_lsn;
	uint64_t prev_group;
	uint32_t prev_slot;
	uint64_t next_group_bytes;
	uint64_t tail_bytes; /* issued since the last checkpoint's freeze */
	bool reserve_gone;   /* not even the pool's reserve had room for a group, lately */
	int failed;

	struct reactor_hook hook;
	struct reactor_hook waiter; /* in the cache's list for a record buffer */
	struct fiber_task provision_task;
	bool provisioning;
	uint64_t space_deadline_ns; /* of the wait for space under way; 0 = none */
	struct reactor_timer space_timer;
	struct fiber_task reroute_task;
	bool rerouting, reroute_started;
	struct fiber_queue settled; /* a record has finished */

	struct list sync_waiters; /* requests, by request->link */
	struct fiber_mutex sync_mutex;
	struct fiber_task sync_task;
	bool syncing;
};

void log_init(struct log *log, struct vdisk *vdisk);
/* Nothing pending or in flight, no fiber of it running. Fiber. Leaves groups to the store. */
void log_done(struct log *log);
/* Continues after `lsn` (recovery). */
void log_start(struct log *log, uint64_t lsn);
/* A group that recovery found, sealed: held until the next checkpoint. */
int log_add_old_group(struct log *log, struct egroup *group);

/* A write, write-zeroes or unmap in whole blocks: completes by vdisk_write_acked(). */
void log_add(struct log *log, struct block_request *request);
/* Completes the request when all up to `lsn` is durable. */
void log_add_sync(struct log *log, struct block_request *request, uint64_t lsn);
/* Makes everything acknowledged so far durable. Fiber. */
int log_sync(struct log *log);
/* No write of it is under way and no fiber of it runs. Fiber. */
void log_drain(struct log *log);
/* Cuts more records if possible; at the end of the turn. */
void log_kick(struct log *log);
/* No more writes: everything pending and in flight completes with `error`. */
void log_fail(struct log *log, int error);

/* Requests that wait to be cut complete with `error`; with -ENOSPC only those that need space, as
 * long as the reserve has some for the others. */
void log_fail_pending(struct log *log, int error);

/* Where record `lsn` starts, or would start next: the position that a checkpoint at lsn - 1
 * commits. */
void log_position(const struct log *log, uint64_t lsn, uint64_t *ret_group, uint32_t *ret_slot);
/* Stops using the current group, so that it can be sealed. */
void log_close_current(struct log *log);
/* The same, as soon as what is in flight allows it. */
void log_retire_current(struct log *log);
/* Gives the group made ahead back. Fiber. */
void log_drop_ready(struct log *log);
/* For the checkpoint: groups that are no longer needed once the log up to `lsn` is in the map. */
bool log_group_is_done(const struct log *log, const struct log_group *group, uint64_t lsn);
/* Forgets it; gives its file back to the store's idle ones. */
void log_group_release(struct log *log, struct log_group *group);

/* log_group.c */
/* May records with payload go there? Not into room lent by a full pool's reserve. */
bool log_group_takes_data(const struct log *log, struct log_group *group);
void log_provision(struct log *log);
/* The first record in flight has failed. */
void log_reroute(struct log *log);
void log_reroute_continue(struct log *log);
/* log.c */
void log_issue(struct log *log, struct record_buffer *record, bool reroute);
