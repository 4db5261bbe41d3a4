/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/mirror_task.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/reached.h"

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
	}
	fiber_queue_wake_all(&mirrors->changed);
}

bool mirror_patience_ended(struct mirror_patience *patience, const struct fiber *fiber,
			   uint64_t limit_ns)
{
	uint64_t now_ns = reactor_now_ns(reactor_current());
	uint64_t steps = fiber ? fiber_op_steps(fiber) : 0;

	if (steps == patience->steps && steps % 2 == 1)
		return now_ns - patience->since_ns >= limit_ns;
	*patience = (struct mirror_patience){steps, now_ns};
	return false;
}

/* An append of its, meanwhile. */
static bool has_failed(const struct mirror *mirror)
{
	return mirror->next_try_ns > reactor_now_ns(mirror->catalog->home);
}

static void start(struct mirror_task *task)
{
	struct mirror *mirror = task->mirror;

	ASSERT(!mirror->late);
	task->done = task->is_late = false;
	task->fiber = NULL;
	task->patience = (struct mirror_patience){0};
	task->task = (struct fiber_task){.run = task_run};
	mirror->catalog->mirrors.asking++;
	fiber_spawn(mirror->catalog->home, FIBER_CONTROL, &task->task);
}

static void leave(struct mirror_task *task)
{
	struct mirror *mirror = task->mirror;

	REACHED("mirror.late");
	task->is_late = true;
	mirror->late = true;
	if (!mirror->removed && (mirror->standing || !has_failed(mirror)))
		mirror_lose(mirror, -ETIMEDOUT);
}

/* Whether any is still to be waited for. */
static bool look_at(const struct mirrors *mirrors, struct mirror_task **tasks, unsigned count)
{
	bool waits = false;

	for (unsigned i = 0; i < count; i++) {
		struct mirror_task *task = tasks[i];

		if (!task || task->done)
			continue;
		if (mirror_patience_ended(&task->patience, task->fiber, mirrors->limit_ns))
			leave(TAKE_PTR(tasks[i]));
		else
			waits = true;
	}
	return waits;
}

void mirror_tasks_run(struct catalog *catalog, struct mirror_task **tasks, unsigned count)
{
	struct mirrors *mirrors = &catalog->mirrors;

	ASSERT(mirrors->work.owner == fiber_current());
	for (unsigned i = 0; i < count; i++)
		start(tasks[i]);
	while (look_at(mirrors, tasks, count))
		(void)fiber_queue_wait_until(&mirrors->changed,
					     reactor_now_ns(catalog->home) +
						     MIRROR_LOOK_AGAIN_NS); /* or woken */
}

bool mirror_task_run(struct mirror_task *task)
{
	mirror_tasks_run(task->mirror->catalog, &task, 1);
	return task;
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
