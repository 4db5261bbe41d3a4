/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/mirror_task.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/reached.h"

#define LOOK_AGAIN_NS (1 * NSEC_PER_SEC)

static void task_run(struct fiber_task *fiber_task)
{
	struct mirror_task *task = CONTAINER_OF(fiber_task, struct mirror_task, task);
	struct mirrors *mirrors = &task->mirror->catalog->mirrors;

	task->fiber = fiber_current();
	task->result = task->run(task);
	task->fiber = NULL;
	task->done = true;
	mirrors->asking--;
	if (task->is_late) {
		REACHED("mirror.late-ended");
		task->mirror->late = false;
		task->free(task);
	} else {
		fiber_queue_wake_all(&task->ended);
	}
	fiber_queue_wake_all(&mirrors->changed);
}

/* Only what the disk takes counts: the task may wait for a commit, too. */
static bool wait_for(struct mirror_task *task)
{
	struct reactor *home = task->mirror->catalog->home;
	uint64_t seen = 0, since_ns = 0;

	while (!task->done) {
		uint64_t now_ns = reactor_now_ns(home);
		uint64_t steps = task->fiber ? fiber_op_steps(task->fiber) : 0;

		if (steps != seen || steps % 2 == 0) {
			seen = steps;
			since_ns = now_ns;
		} else if (now_ns - since_ns >= MIRROR_LIMIT_NS) {
			return false;
		}
		(void)fiber_queue_wait_until(&task->ended, now_ns + LOOK_AGAIN_NS); /* or woken */
	}
	return true;
}

/* An append of its, meanwhile. */
static bool has_failed(const struct mirror *mirror)
{
	return mirror->next_try_ns > reactor_now_ns(mirror->catalog->home);
}

bool mirror_task_run(struct mirror_task *task)
{
	struct mirror *mirror = task->mirror;
	struct mirrors *mirrors = &mirror->catalog->mirrors;

	ASSERT(mirrors->work.owner == fiber_current() && !mirror->late);
	fiber_queue_init(&task->ended);
	task->done = task->is_late = false;
	task->fiber = NULL;
	task->task = (struct fiber_task){.run = task_run};
	mirrors->asking++;
	fiber_spawn(mirror->catalog->home, FIBER_CONTROL, &task->task);
	if (wait_for(task))
		return true;
	REACHED("mirror.late");
	task->is_late = true;
	mirror->late = true;
	if (!mirror->removed && (mirror->standing || !has_failed(mirror)))
		mirror_lose(mirror, -ETIMEDOUT);
	return false;
}

struct clearing {
	struct mirror_task task;
	bool sweeps;
};

static int clear_run(struct mirror_task *task)
{
	const struct clearing *clearing = CONTAINER_OF(task, struct clearing, task);
	int r = mirror_close_files(task->mirror);

	if (r == 0 && clearing->sweeps && !task->is_late)
		(void)mirror_sweep(task->mirror->directory, UINT64_MAX); /* gone with its disk? */
	return r;
}

static void clear_free(struct mirror_task *task)
{
	free(CONTAINER_OF(task, struct clearing, task));
}

void mirror_clear(struct mirror *mirror, bool sweeps)
{
	struct clearing *clearing = calloc(1, sizeof(*clearing));

	if (!clearing) {
		mirror_kick(mirror->catalog); /* the builder tries it again */
		return;
	}
	clearing->task =
		(struct mirror_task){.mirror = mirror, .run = clear_run, .free = clear_free};
	clearing->sweeps = sweeps;
	if (!mirror_task_run(&clearing->task))
		return;
	if (clearing->task.result == 0)
		mirror_free(mirror);
	free(clearing);
}
