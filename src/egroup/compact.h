/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Compaction: the live slots of several sparse files become one dense file. Addresses do not
 * change, so no map is touched; readers under way keep the old files until the last of them is
 * done.
 */
#include "egroup/store.h"

struct compact_choice {
	struct egroup_file *files[64];
	uint32_t count;
	uint32_t live_slots;
	uint64_t allocated_bytes; /* what the files take now */
};

/* Live share of what the file takes, in percent; 101 when it may not be compacted. */
unsigned compact_file_use(const struct egroup_file *file);
/* Chooses files with at most `max_use` percent live, the emptiest first, to fill one target. Goes
 * through all of them, in turns. False when compacting would gain nothing. Fiber. */
bool compact_choose(struct egroup_store *store, unsigned max_use,
		    struct compact_choice *ret_choice);
/* Fiber. `pause` is called between steps of 1 MiB at most with the bytes that the step read or
 * wrote, and may suspend; non-zero stops. The files of the choice must be as compact_choose()
 * returned them: no suspension in between. -EAGAIN: one of them cannot be read; choose again,
 * without it. */
int compact_run(struct egroup_store *store, const struct compact_choice *choice,
		int (*pause)(void *arg, uint64_t read, uint64_t written), void *arg);
