/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See pace.h. A request of ours is in the way of a guest's for as long as it takes, so while guests
 * are active there is one at a time, and a small one. How often is a matter of feedback: work goes
 * in windows, with a short rest between them, and when the 99th percentile of the requests that the
 * guest had completed in a window is far above that of the rests, pauses become longer, else
 * shorter.
 *
 * Invariants
 *  1. A pause is never longer than its limit, and rests are a fixed share: work always goes on.
 *  2. Windows in which the guest did too little to tell change nothing but that pauses go back to
 *     where they begin: the guests that are active are those of other vDisks.
 */
#include "vdisk/pace.h"

#include "base/reached.h"
#include "vdisk/vdisk_priv.h"

#define ACTIVE_BLOCKS 16u /* 64 KiB */
#define BEGIN_NS      (1 * NSEC_PER_MSEC)
#define SHORTEST_NS   (20 * NSEC_PER_USEC)
#define LONGEST_NS    (8 * NSEC_PER_MSEC) /* 4 MB/s are copied, as each byte is met twice */
#define URGENT_NS     (2 * NSEC_PER_MSEC) /* the same with one copy left: 16 MB/s */
#define WINDOW_NS     (200 * NSEC_PER_MSEC)
#define REST_NS       (50 * NSEC_PER_MSEC)
#define SAMPLES_MIN   100u
#define MEAN_SHIFT    2 /* a new window counts a quarter */

static uint64_t now_ns(const struct pace *pace)
{
	return reactor_now_ns(pace->vdisk->reactor);
}

static void get_latencies(const struct pace *pace, struct histogram *ret_latencies)
{
	*ret_latencies = pace->vdisk->read_latency;
	histogram_merge(ret_latencies, &pace->vdisk->write_latency);
}

/* Of what has completed since then; 0: too little to tell. */
static uint64_t slowest_since(const struct pace *pace)
{
	struct histogram since;

	get_latencies(pace, &since);
	if (since.count - pace->before.count < SAMPLES_MIN)
		return 0;
	since.count -= pace->before.count;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		since.buckets[i] -= pace->before.buckets[i];
	return histogram_percentile_ns(&since, 99);
}

static void mean_add(uint64_t *mean, uint64_t value)
{
	*mean = *mean == 0 ? value : *mean - (*mean >> MEAN_SHIFT) + (value >> MEAN_SHIFT);
}

/* Longer at once, shorter bit by bit. */
static void adapt(struct pace *pace)
{
	uint64_t longest = pace->urgent ? URGENT_NS : LONGEST_NS;

	if (pace->beside_ns > pace->quiet_ns + pace->quiet_ns / 2) {
		REACHED("pace.slower");
		pace->pause_ns = MIN(pace->pause_ns * 2, longest);
	} else {
		REACHED("pace.faster");
		pace->pause_ns = MAX(pace->pause_ns - pace->pause_ns / 4, SHORTEST_NS);
	}
}

static void begin_window(struct pace *pace)
{
	pace->window_end_ns = now_ns(pace) + WINDOW_NS;
	get_latencies(pace, &pace->before);
}

static void end_window(struct pace *pace)
{
	uint64_t beside = slowest_since(pace), quiet;

	get_latencies(pace, &pace->before);
	fiber_sleep(REST_NS);
	quiet = slowest_since(pace);
	if (beside > 0 && quiet > 0) {
		mean_add(&pace->beside_ns, beside);
		mean_add(&pace->quiet_ns, quiet);
		adapt(pace);
	} else {
		pace->pause_ns = BEGIN_NS;
	}
	begin_window(pace);
}

void pace_init(struct pace *pace, struct vdisk *vdisk, bool urgent)
{
	*pace = (struct pace){.vdisk = vdisk, .urgent = urgent, .pause_ns = BEGIN_NS};
	fiber_mutex_init(&pace->waiting);
}

void pace_ask(void *arg, struct egroup_pace *ret_pace)
{
	const struct pace *pace = arg;

	if (pool_guest_is_active(pace->vdisk->pool, now_ns(pace)))
		*ret_pace = (struct egroup_pace){.blocks = ACTIVE_BLOCKS, .pieces = 1};
}

void pace_wait(struct pace *pace)
{
	if (!pool_guest_is_active(pace->vdisk->pool, now_ns(pace))) {
		pace->window_end_ns = 0;
		fiber_yield();
		return;
	}
	fiber_mutex_lock(&pace->waiting);
	if (pace->window_end_ns == 0)
		begin_window(pace);
	else if (now_ns(pace) >= pace->window_end_ns)
		end_window(pace);
	fiber_sleep(pace->pause_ns);
	fiber_mutex_unlock(&pace->waiting);
}
