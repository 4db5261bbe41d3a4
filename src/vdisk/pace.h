/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * How fast background work goes through files while guests use the pool: in small requests, one at
 * a time, with pauses that follow what they do to the guest's slowest hundredth of requests. Home:
 * the vDisk's reactor; one for all fibers of the work.
 */
#include "base/histogram.h"
#include "egroup/ahead.h"

struct vdisk;

struct pace {
	struct vdisk *vdisk;
	bool urgent;
	struct fiber_mutex waiting;   /* who pauses: others of the same work wait as well */
	uint64_t pause_ns;            /* after each request */
	uint64_t quiet_ns, beside_ns; /* 99th percentiles, means of some windows; 0 = not known */
	uint64_t window_end_ns;       /* of work; 0 = there is none */
	struct histogram before;      /* the guest's latencies when the window began */
};

void pace_init(struct pace *pace, struct vdisk *vdisk, bool urgent);
/* For struct ahead_options; `arg` is the pace. */
void pace_ask(void *arg, struct egroup_pace *ret_pace);
/* After each request: lets others run, for as long as they need. Fiber. */
void pace_wait(struct pace *pace);
