/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What is done on a mirror's disk while `work` is held, so while others wait: by a fiber of its own
 * with memory of its own. When an operation takes longer than mirrors->limit_ns, it is left alone.
 * Until it has ended some day, the mirror is `late`: nothing else is begun in its directory, so
 * what still lands there lands in no file of a newer build.
 */
#include "catalog/catalog_priv.h"

/* With a fiber that may hang in an operation. */
struct mirror_patience {
	uint64_t steps, since_ns; /* as seen last, and first so */
};

/* How often it has to be looked at. */
#define MIRROR_LOOK_AGAIN_NS (1 * NSEC_PER_SEC)

/* Whether the fiber (NULL: it has not begun, or has ended) waits for one operation for longer than
 * that. Only operations count: it may wait for a commit, too. On the fiber's reactor. */
bool mirror_patience_ended(struct mirror_patience *patience, const struct fiber *fiber,
			   uint64_t limit_ns);

struct mirror_task {
	struct fiber_task task;
	struct mirror *mirror;
	int (*run)(struct mirror_task *task);
	void (*free)(struct mirror_task *task);
	struct fiber *fiber;
	struct mirror_patience patience;
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

/* The same for several mirrors at a time: tasks[i] becomes NULL when it hangs. */
void mirror_tasks_run(struct catalog *catalog, struct mirror_task **tasks, unsigned count);

/* Closes the mirror's files and sweeps its directory when `sweeps`; then frees the mirror, unless
 * it hangs: the builder does so when it has ended. */
void mirror_clear(struct mirror *mirror, bool sweeps);
