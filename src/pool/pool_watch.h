/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Operations under way on disks, and what is done about those that neither succeed nor fail: see
 * pool_watch.c. For the pool_*.c files.
 */
#include "pool/pool_io.h"
#include "pool/pool_priv.h"

/* The current reactor's. */
struct pool_watch *pool_watch_of(struct pool *pool);
/* On the current reactor; `overdue` is set, `handle` may be NULL. The flight and all that it uses
 * stay until it ends. */
void pool_flight_begins(struct pool_flight *flight, struct pool_disk *disk,
			struct pool_handle *handle);
/* On the same. */
void pool_flight_ends(struct pool_flight *flight);
/* It has got somewhere: the clock starts anew. */
void pool_flight_steps(struct pool_flight *flight);

/* Takes over the file; NULL without memory. */
struct pool_handle *pool_handle_new(struct pool_disk *disk, struct world_file *file);
/* The last one closes it: in a fiber, unless something was under way that took too long. */
void pool_handle_unref(struct pool_handle *handle);
/* Waits until nothing is under way but what is late. A fiber of its reactor. */
void pool_handle_settle(struct pool_handle *handle);

/* Whether something takes too long there. Any reactor. */
static inline bool pool_disk_is_silent(const struct pool_disk *disk)
{
	return atomic_load_explicit(&((struct pool_disk *)disk)->late, memory_order_relaxed) > 0;
}
/* ... and there are others: nothing more is begun there that waits for it. */
static inline bool pool_disk_is_given_up(const struct pool_disk *disk)
{
	return pool_disk_is_silent(disk) && pool_disk_can_be_spared(disk);
}

/*
 * Runs run(arg) in a fiber of its own at home, and waits for it, but not longer than the disk may
 * take, nor as long again for a fiber, where others can do: -ETIMEDOUT then, `arg` is not the
 * caller's any more, and drop(arg, result) gets it when it has ended. `arg` is on the heap. Home,
 * fiber.
 */
struct pool_flow_ops {
	int (*run)(void *arg);
	void (*drop)(void *arg, int result);
};
int pool_flow(struct pool_disk *disk, const struct pool_flow_ops *ops, void *arg);

/* The same in two halves, so that several run at once; who begins one must end it. An error of the
 * first half is one of pool_flow(): there is nothing to end. */
struct pool_flow;
int pool_flow_begin(struct pool_disk *disk, const struct pool_flow_ops *ops, void *arg,
		    struct pool_flow **ret_flow);
int pool_flow_end(struct pool_flow *flow);

/* Home. False: something there has not ended; the pool must stay in memory. */
bool pool_watch_stop(struct pool *pool);
