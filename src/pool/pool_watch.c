/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks that hang: whose operations neither succeed nor fail. A dead controller or a hard mount
 * without its server can keep them in the kernel for ever.
 *
 * Each reactor has a list of what it has under way on the pool's disks. While that is not empty a
 * timer looks at it some times within the time that a disk may take. What takes longer is late; a
 * disk with something late is silent. From then on everything under way there counts as late at
 * once, what is begun there is refused as long as others can do it, and the keeper takes the disk
 * for missing. Whoever began an operation that is late is told, again and again, and may go on
 * without it; whether he may is his affair (pool_io.c). What was under way on a disk when it was
 * declared failed is late soon, for most need not wait for it any more.
 *
 * Invariants
 *  1. A late operation keeps what it was given: its memory, its handle, its disk and its pool. Only
 *     its end lets go of them.
 *  2. A silent disk is not swept, and no file of it is given to another use, until all that is late
 *     has ended: a write that lands late lands in the file that it was meant for.
 *  3. handle->busy and ->late change on the reactor that opened the file; the last reference closes
 *     the handle, wherever that is.
 */
#include "pool/pool_watch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/reached.h"
#include "pool/pool_piece.h"
#include "reactor/io.h"

#define LOOKS          10u /* within the time that a disk may take */
#define FLOWS_MAX      4u  /* at a time, of one disk */
#define LEAVE_NS       (100 * NSEC_PER_MSEC)
#define LEAVE_TRIES    20u
#define NSEC_PER_TENTH (NSEC_PER_SEC / 10)

static atomic_uint silent_disks; /* of this process */

unsigned pool_disks_silent(void)
{
	return atomic_load(&silent_disks);
}

/* Silence */

/* `silent_since_ns` is looked at while something is late only: whoever makes the disk silent sets
 * it, and nobody takes it back, for that could be later than the next silence. */
static void be_late(struct pool_disk *disk, uint64_t start_ns)
{
	uint64_t now_ns = reactor_now_ns(reactor_current());

	if (!pool_disk_is_silent(disk))
		atomic_store(&disk->silent_since_ns, start_ns);
	if (atomic_fetch_add(&disk->late, 1) > 0)
		return;
	REACHED("pool.disk-silent");
	atomic_fetch_add(&silent_disks, 1);
	atomic_store(&disk->silent_since_ns, start_ns);
	pool_disk_count_silence(disk, now_ns);
	log_error("pool", "a disk does not answer",
		  "pool=%s disk=%" PRIu64 " directory=\"%s\" seconds=%" PRIu64 ".%" PRIu64,
		  disk->pool->name, disk->id, disk->row.directory,
		  (now_ns - start_ns) / NSEC_PER_SEC,
		  (now_ns - start_ns) % NSEC_PER_SEC / NSEC_PER_TENTH);
	pool_keeper_post(disk->pool);
}

static void be_late_no_more(struct pool_disk *disk)
{
	unsigned before = atomic_fetch_sub(&disk->late, 1);

	ASSERT(before > 0);
	if (before > 1)
		return;
	atomic_fetch_sub(&silent_disks, 1);
	atomic_store(&disk->answered, true);
	log_warning("pool", "a disk answers again", "pool=%s disk=%" PRIu64 " directory=\"%s\"",
		    disk->pool->name, disk->id, disk->row.directory);
	pool_keeper_post(disk->pool);
}

/* Looking */

/* What takes no longer than a disk takes as a rule ends by itself. */
static void hurry(struct pool_flight *flight, uint64_t now_ns)
{
	struct pool_disk *disk = flight->disk;

	if (pool_disk_is_failed(disk) && flight->start_ns <= atomic_load(&disk->state_since_ns))
		flight->due_ns = MIN(flight->due_ns, now_ns + disk->pool->timeout_ns / LOOKS);
}

static void look_at(struct pool_flight *flight, uint64_t now_ns)
{
	struct pool_disk *disk = flight->disk;

	if (!flight->late) {
		hurry(flight, now_ns);
		if (!pool_disk_is_silent(disk) && now_ns < flight->due_ns)
			return;
		flight->late = true;
		be_late(disk, flight->start_ns);
		if (flight->handle) {
			flight->handle->late++;
			fiber_queue_wake_all(&flight->handle->idle);
		}
	}
	if (flight->overdue)
		flight->overdue(flight);
}

static void arm(struct pool_watch *watch)
{
	struct reactor *reactor = reactor_current();

	watch->look_ns = reactor_turn_ns(reactor) + watch->pool->timeout_ns / LOOKS;
	reactor_timer_arm(reactor, &watch->timer, watch->look_ns);
}

/* The machine had no time for this reactor, or stood still: what the disks did meanwhile is not
 * known yet, and that time is not theirs. */
static uint64_t stood_still(const struct pool_watch *watch, uint64_t now_ns)
{
	uint64_t delay_ns = now_ns > watch->look_ns ? now_ns - watch->look_ns : 0;

	return delay_ns > watch->pool->timeout_ns / LOOKS ? delay_ns : 0;
}

static void watch_looks(struct reactor_timer *timer)
{
	struct pool_watch *watch = CONTAINER_OF(timer, struct pool_watch, timer);
	uint64_t now_ns = reactor_now_ns(reactor_current());
	uint64_t lost_ns = stood_still(watch, now_ns);
	struct pool_flight *flight;

	if (list_is_empty(&watch->flights)) {
		pool_pieces_trim(watch);
		return;
	}
	/* What is told may end no operation: that is the kernel's to do. */
	LIST_FOR_EACH (&watch->flights, flight, struct pool_flight, link) {
		flight->due_ns += lost_ns;
		look_at(flight, now_ns);
	}
	arm(watch);
}

struct pool_watch *pool_watch_of(struct pool *pool)
{
	struct reactor *reactor = reactor_current();
	struct pool_watch *watch = &pool->watches[reactor_index(reactor)];

	if (LIKELY(atomic_load_explicit(&watch->reactor, memory_order_relaxed)))
		return watch;
	list_init(&watch->flights);
	watch->pool = pool;
	watch->timer.run = watch_looks;
	atomic_store(&watch->reactor, reactor);
	return watch;
}

void pool_flight_begins(struct pool_flight *flight, struct pool_disk *disk,
			struct pool_handle *handle)
{
	struct pool_watch *watch = pool_watch_of(disk->pool);

	list_node_init(&flight->link);
	flight->disk = disk;
	flight->handle = handle;
	flight->start_ns = reactor_turn_ns(reactor_current());
	flight->due_ns = flight->start_ns + disk->pool->timeout_ns;
	flight->late = false;
	list_push_back(&watch->flights, &flight->link);
	if (UNLIKELY(!watch->timer.armed))
		arm(watch);
	if (!handle)
		return;
	handle->busy++;
	atomic_fetch_add_explicit(&handle->references, 1, memory_order_relaxed);
}

void pool_flight_ends(struct pool_flight *flight)
{
	struct pool_handle *handle = flight->handle;

	list_remove(&flight->link);
	if (handle) {
		ASSERT(handle->busy > 0 && handle->late >= flight->late);
		handle->busy--;
		handle->late -= flight->late;
		fiber_queue_wake_all(&handle->idle);
		pool_handle_unref(handle);
	}
	if (UNLIKELY(flight->late))
		be_late_no_more(flight->disk);
}

void pool_flight_steps(struct pool_flight *flight)
{
	flight->start_ns = reactor_turn_ns(reactor_current());
	flight->due_ns = flight->start_ns + flight->disk->pool->timeout_ns;
	if (!flight->late)
		return;
	flight->late = false;
	be_late_no_more(flight->disk);
}

/* Handles */

struct pool_handle *pool_handle_new(struct pool_disk *disk, struct world_file *file)
{
	struct pool_handle *handle = calloc(1, sizeof(*handle));

	if (!handle)
		return NULL;
	handle->file = file;
	handle->disk = disk;
	atomic_store(&handle->references, 1);
	fiber_queue_init(&handle->idle);
	return handle;
}

static void late_closed(struct world_op *op, int64_t result)
{
	(void)result; /* nothing depends on it: durability is by sync */
	free(CONTAINER_OF(op, struct pool_handle, close_op));
}

void pool_handle_unref(struct pool_handle *handle)
{
	struct reactor *reactor = reactor_current();
	int r;

	if (!handle || atomic_fetch_sub(&handle->references, 1) > 1)
		return;
	if (!fiber_current() || pool_disk_is_silent(handle->disk)) {
		REACHED("pool.closed-late");
		handle->close_op.done = late_closed;
		handle->disk->pool->world->ops->file_close(reactor_port(reactor), handle->file,
							   &handle->close_op);
		return;
	}
	r = io_close(handle->file);
	if (r && r != -ESHUTDOWN)
		log_warning("pool", "closing a file failed", "pool=%s disk=%" PRIu64 " error=%d",
			    handle->disk->pool->name, handle->disk->id, r);
	free(handle);
}

void pool_handle_settle(struct pool_handle *handle)
{
	while (handle && handle->busy > handle->late)
		fiber_queue_wait(&handle->idle);
}

/* Flows */

struct pool_flow {
	struct fiber_task task;
	struct pool_flight flight;
	struct pool_disk *disk;
	const struct pool_flow_ops *ops;
	void *arg;
	struct fiber_queue told; /* who waits for it */
	int result;
	bool left; /* it is not waited for any more */
	bool begun, ended, overdue;
};

static void flow_ends(struct pool_flow *flow)
{
	struct pool_disk *disk = flow->disk;

	disk->names_busy--;
	disk->flows--;
	fiber_queue_wake_one(&disk->flow_queue);
	if (flow->begun)
		pool_flight_ends(&flow->flight);
}

static void flow_run(struct fiber_task *task)
{
	struct pool_flow *flow = CONTAINER_OF(task, struct pool_flow, task);

	/* Not before: waiting for a fiber is not the disk's fault. */
	pool_flight_begins(&flow->flight, flow->disk, NULL);
	flow->begun = true;
	flow->result = flow->ops->run(flow->arg);
	flow->ended = true;
	if (!flow->left) {
		flow_ends(flow);
		fiber_queue_wake_all(&flow->told);
		return;
	}
	REACHED("pool.flow-late");
	flow->ops->drop(flow->arg, flow->result);
	flow_ends(flow);
	free(flow);
}

static void flow_overdue(struct pool_flight *flight)
{
	struct pool_flow *flow = CONTAINER_OF(flight, struct pool_flow, flight);

	if (flow->left || !pool_disk_can_be_spared(flow->disk))
		return;
	flow->overdue = true;
	fiber_queue_wake_all(&flow->told);
}

/* One of few: a disk that hangs must not take all fibers and workers with it. */
static bool enter(struct pool_disk *disk)
{
	while (disk->flows >= FLOWS_MAX && !pool_disk_is_given_up(disk))
		(void)fiber_queue_wait_until(&disk->flow_queue,
					     reactor_now_ns(disk->pool->home) + LEAVE_NS);
	return !pool_disk_is_given_up(disk);
}

/* Disks that hang, some seventy on one reactor, have all its fibers for flows. That is not this
 * disk's fault, and not counted against it, but others may do without it. */
static bool finds_no_fiber(struct pool_flow *flow, uint64_t since_ns)
{
	struct pool *pool = flow->disk->pool;

	return !flow->begun && reactor_now_ns(pool->home) >= since_ns + pool->timeout_ns &&
	       pool_disk_can_be_spared(flow->disk) && fiber_unspawn(pool->home, &flow->task);
}

/* False: it has not begun, and will not. */
static bool flow_wait_to_end(struct pool_flow *flow)
{
	struct pool *pool = flow->disk->pool;
	uint64_t since_ns = reactor_now_ns(pool->home), next_ns = since_ns;

	while (!flow->ended && !flow->overdue) {
		if (finds_no_fiber(flow, since_ns))
			return false;
		next_ns = flow->begun ? UINT64_MAX : next_ns + pool->timeout_ns;
		(void)fiber_queue_wait_until(&flow->told, next_ns); /* or woken */
	}
	return true;
}

int pool_flow_end(struct pool_flow *flow)
{
	int r;

	if (!flow_wait_to_end(flow)) {
		REACHED("pool.flow-without-fiber");
		flow_ends(flow);
		flow->result = -ETIMEDOUT;
	} else if (!flow->ended) {
		flow->left = true;
		return -ETIMEDOUT;
	}
	r = flow->result;
	if (r == -ETIMEDOUT) /* so says also a file system of its own server */
		flow->ops->drop(flow->arg, r);
	free(flow);
	return r;
}

int pool_flow_begin(struct pool_disk *disk, const struct pool_flow_ops *ops, void *arg,
		    struct pool_flow **ret_flow)
{
	struct pool_flow *flow;

	reactor_assert_home(disk->pool->home);
	if (!enter(disk)) {
		ops->drop(arg, -ETIMEDOUT);
		return -ETIMEDOUT;
	}
	flow = calloc(1, sizeof(*flow));
	if (!flow)
		return -ENOMEM;
	*flow = (struct pool_flow){.disk = disk, .ops = ops, .arg = arg};
	fiber_queue_init(&flow->told);
	flow->task.run = flow_run;
	flow->flight.overdue = flow_overdue;
	disk->names_busy++;
	disk->flows++;
	fiber_spawn(disk->pool->home, FIBER_DISK, &flow->task);
	*ret_flow = flow;
	return 0;
}

int pool_flow(struct pool_disk *disk, const struct pool_flow_ops *ops, void *arg)
{
	struct pool_flow *flow;
	int r = pool_flow_begin(disk, ops, arg, &flow);

	return r ? r : pool_flow_end(flow);
}

/* The end */

static int stop_here(void *arg)
{
	struct pool_watch *watch = arg;

	reactor_timer_cancel(reactor_current(), &watch->timer);
	pool_pieces_done(watch);
	return 0;
}

static bool anything_late(struct pool *pool)
{
	struct pool_disk *disk;

	POOL_FOR_EACH_DISK(pool, disk)
	if (pool_disk_is_silent(disk))
		return true;
	for (disk = pool->removed; disk; disk = disk->next_removed)
		if (pool_disk_is_silent(disk))
			return true;
	return false;
}

static void stop_all(struct pool *pool)
{
	for (unsigned i = 0; i < POOL_WATCHES_MAX; i++) {
		struct reactor *reactor = atomic_load(&pool->watches[i].reactor);

		if (reactor)
			(void)fiber_call(reactor, FIBER_CONTROL, stop_here,
					 &pool->watches[i]); /* is 0 */
	}
}

/* Fibers that a disk held up go on when it answers: they look at the pool until they end. */
static bool is_held_up(struct pool *pool)
{
	return anything_late(pool) || pool->tasks > 0;
}

/* The last that was late may have ended just now, and who ended it still look at the pool: only
 * what was no more before every reactor was visited is no more for certain. */
bool pool_watch_stop(struct pool *pool)
{
	bool held_up;

	do {
		for (unsigned i = 0; i < LEAVE_TRIES && is_held_up(pool); i++)
			fiber_sleep(LEAVE_NS);
		held_up = is_held_up(pool);
		stop_all(pool);
	} while (held_up && !is_held_up(pool));
	pool_keeper_settle(pool);
	return !held_up;
}
