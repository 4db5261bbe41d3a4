/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mirrors when the catalog is opened: what their disks have is read, compared and made durable, by
 * tasks that run beside each other, so that disks that hang hold up the start once, and lose their
 * mirrors (mirror_task.h). Home: the catalog's; in fibers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "catalog/mirror_task.h"
#include "reactor/io.h"

#define ROLL_PAUSE_NS (1 * NSEC_PER_SEC) /* since the start, until a long log is left behind */

struct adoption {
	struct mirror_task task;
	struct mirror_look look;
	struct world_file *file; /* of the newest log */
	bool renew;
};

/* What a process that was killed wrote last may be in the kernel only. */
static int settle_files(struct adoption *adoption)
{
	const char *directory = adoption->task.mirror->directory;
	const struct mirror_look *look = &adoption->look;
	struct mirror_path path;
	struct world_file *file;
	int r = io_sync(adoption->file), r2;

	if (r == 0 && look->tail_number != look->log_number) {
		mirror_path_of(directory, "log", look->tail_number, &path);
		r = mirror_file_open(path.text, 0, &file);
		if (r)
			return r;
		r = io_sync(file);
		r2 = io_close(file);
		r = r ? r : r2;
	}
	mirror_path_of(directory, NULL, 0, &path);
	return r ? r : io_directory_sync(path.text);
}

static int adopt_files(struct adoption *adoption)
{
	struct mirror *mirror = adoption->task.mirror;
	struct mirror_path path;
	int r = mirror_look(mirror->directory, &adoption->look);

	if (r == 0)
		r = mirror_compare(&mirror->catalog->mirrors, &adoption->look);
	if (r == 0 && adoption->renew)
		r = -EAGAIN;
	if (r == 0 && adoption->task.is_late)
		r = -ETIMEDOUT;
	if (r)
		return r;
	mirror_path_of(mirror->directory, "log", adoption->look.log_number, &path);
	r = mirror_file_open(path.text, 0, &adoption->file);
	return r ? r : settle_files(adoption);
}

static int adopt_run(struct mirror_task *task)
{
	struct adoption *adoption = CONTAINER_OF(task, struct adoption, task);
	int r = adopt_files(adoption);

	if (adoption->file && (r || task->is_late))
		(void)io_close(TAKE_PTR(adoption->file)); /* nothing was written */
	return r;
}

static void adoption_free(struct mirror_task *task)
{
	free(CONTAINER_OF(task, struct adoption, task));
}

static struct adoption *adoption_new(struct mirror *mirror, bool renew)
{
	struct adoption *adoption = calloc(1, sizeof(*adoption));

	if (!adoption)
		return NULL;
	adoption->task =
		(struct mirror_task){.mirror = mirror, .run = adopt_run, .free = adoption_free};
	adoption->renew = renew;
	return adoption;
}

static void tell_newer(const struct mirror *mirror, const struct mirror_look *look,
		       struct catalog_report *report)
{
	const struct mirrors *mirrors = &mirror->catalog->mirrors;

	report->catalog_sequence = mirrors->position.sequence;
	report->mirror_sequence = look->end.sequence;
	report->mirror_forked = mirror_is_forked(&look->end, &mirrors->position, &mirrors->lineage);
	memcpy(report->directory, mirror->directory, strlen(mirror->directory) + 1);
}

static void take_standing(struct mirror *mirror, struct adoption *adoption)
{
	const struct mirror_look *look = &adoption->look;

	mirror->file = TAKE_PTR(adoption->file);
	mirror->standing = mirror->joined = true;
	/* Each attempt leaves a log behind: not one with every start. */
	mirror->next_try_ns = reactor_now_ns(mirror->catalog->home) + ROLL_PAUSE_NS;
	mirror->offset = look->log_bytes;
	mirror->number = look->log_number;
	mirror->log_bytes = look->frame_bytes;
	mirror->bytes = look->snapshot.bytes + look->frame_bytes;
	mirror->sequence = look->end.sequence;
	mirror->made_wall_ns = look->snapshot.made_wall_ns;
}

/* What is wrong with a mirror is no reason not to open, unless it is newer. */
static int adopt_end(struct adoption *adoption, struct catalog_report *report)
{
	struct mirror *mirror = adoption->task.mirror;
	int r = adoption->task.result;

	if (r == 0) {
		take_standing(mirror, adoption);
		return 0;
	}
	if (r == -ESTALE)
		tell_newer(mirror, &adoption->look, report);
	if (r == -ESTALE || r == -ESHUTDOWN || r == -ENOMEM)
		return r;
	log_warning("catalog", "a mirror has no standing", "directory=\"%s\" error=%d",
		    mirror->directory, r);
	mirror->refused = r == -EEXIST;
	mirror->error = r == -EAGAIN ? 0 : r;
	return 0;
}

/* The first that is newer is told of. */
static int adopt_end_all(struct mirror_task **tasks, unsigned count, struct catalog_report *report)
{
	int first = 0;

	for (unsigned i = 0; i < count; i++) {
		struct adoption *adoption;

		if (!tasks[i]) /* its disk hangs, which was logged */
			continue;
		adoption = CONTAINER_OF(tasks[i], struct adoption, task);
		if (first == 0)
			first = adopt_end(adoption, report);
		if (adoption->file)
			(void)io_close(adoption->file); /* nothing was written */
		free(adoption);
	}
	return first;
}

int mirrors_adopt(struct catalog *catalog, bool renew, struct catalog_report *report)
{
	struct mirror_task *tasks[CATALOG_MIRRORS_MAX];
	struct mirror *mirror;
	unsigned count = 0;

	LIST_FOR_EACH (&catalog->mirrors.list, mirror, struct mirror, link) {
		struct adoption *adoption = adoption_new(mirror, renew);

		if (!adoption) {
			while (count > 0)
				adoption_free(tasks[--count]);
			return -ENOMEM;
		}
		tasks[count++] = &adoption->task;
	}
	mirror_tasks_run(catalog, tasks, count);
	return adopt_end_all(tasks, count, report);
}
