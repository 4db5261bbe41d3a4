/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What is done on a mirror's disk while `work` is held, so while others wait: by a fiber of its own
 * with memory of its own. When an operation takes longer than MIRROR_LIMIT_NS, it is left alone.
 * Until it has ended some day, the mirror is `late`: nothing else is begun in its directory, so
 * what still lands there lands in no file of a newer build.
 */
#include "catalog/catalog_priv.h"

struct mirror_task {
	struct fiber_task task;
	struct mirror *mirror;
	int (*run)(struct mirror_task *task);
	void (*free)(struct mirror_task *task);
	struct fiber *fiber;
	struct fiber_queue ended;
	bool done;
	bool is_late; /* nobody waits for it: it changes nothing of the mirror and begins nothing
			 new */
	int result;
};

/*
 * In the fiber that has `work`; the mirror is not late. Runs task->run. True: it ended, with
 * task->result, and the task is the caller's. False: it hangs and frees itself, the mirror is late
 * and has been lost.
 */
bool mirror_task_run(struct mirror_task *task);

/* Closes the mirror's files and sweeps its directory when `sweeps`; then frees the mirror, unless
 * it hangs: the builder does so when it has ended. */
void mirror_clear(struct mirror *mirror, bool sweeps);
