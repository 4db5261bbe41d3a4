/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The builder: a fiber that gives a mirror new files, because it has none, has failed, or its log
 * has grown long. One mirror at a time.
 *
 * Happy path: a new log is begun, and from then on gets the frames. All rows are read, a part at a
 * time between commits, and written as a snapshot, which becomes valid by being renamed. As the
 * frames of the new log name rows with their values, the snapshot and they give the state of the
 * last frame, though the snapshot's rows were read at different times. Then the mirror takes its
 * standing, and the old files go.
 *
 * Invariants
 *  1. Until the snapshot has its name, the old files are a whole mirror: a log that was begun for
 *     one in good standing continues the older one.
 *  2. Nothing of another catalog or of a later state of this one is written over.
 *  3. A mirror is made only beside a pool's label: without it the disk is not mounted.
 *  4. While something of an earlier build or removal is under way in a directory, none is begun
 *     there: what lands late lands in no file of a newer build.
 *
 * Failure modes: a step that fails ends the build. When the disk hangs in one, the build is left
 * alone (mirror_task.h): the mirror is lost, and built again when that has ended.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "catalog/catalog_priv.h"
#include "catalog/mirror_task.h"
#include "reactor/io.h"

/* A log is left behind when it is larger than the snapshot, but not below and in any case above: */
#define LOG_LEAST (1 * MIB)
#define LOG_MOST  (16 * MIB)

struct build {
	struct mirror_task task;
	struct mirror *mirror;
	struct catalog *catalog;
	uint64_t number;
	struct mirror_path path; /* of the snapshot */
	char new_path[MIRROR_PATH_BYTES + 8];
	struct world_file *file;
	uint8_t *buffer;
	uint64_t offset, entries;
	uint32_t index;
};

static int label_check(const char *directory)
{
	char path[MIRROR_PATH_BYTES];
	struct world_stat stat;

	snprintf(path, sizeof(path), "%s/label", directory);
	return io_stat(path, &stat);
}

/* What is there may be replaced. */
static int replace_check(struct build *build)
{
	struct mirror *mirror = build->mirror;
	struct mirror_look look;
	int r = mirror_look(mirror->directory, &look);

	if (r == 0)
		r = mirror_compare(&mirror->catalog->mirrors, &look);
	if (build->task.is_late)
		return -ETIMEDOUT;
	mirror->refused = r == -EEXIST || r == -ESTALE || r == -EPROTONOSUPPORT;
	return r == -ENOENT || r == -EAGAIN || r == -EUCLEAN ? 0 : r;
}

/* How large its log becomes before it is left behind. */
static uint64_t log_limit(const struct mirror *mirror)
{
	uint64_t snapshot = mirror->bytes - MIN(mirror->bytes, mirror->log_bytes);

	return MIN(MAX(snapshot, (uint64_t)LOG_LEAST), (uint64_t)LOG_MOST);
}

/* Zeros are written where frames will be: a sync then has no size and no extents to commit. */
static int log_fill(struct build *build, struct world_file *file)
{
	uint64_t size = ALIGN_UP(log_limit(build->mirror), MIB);
	int r = 0;

	memset(build->buffer, 0, MIB);
	for (uint64_t at = 0; r == 0 && at < size; at += MIB)
		r = io_write(file, build->buffer, MIB, at);
	return r ? r : io_sync(file);
}

/* Still gets frames: one that failed meanwhile has lost its log. */
static int still_joined(const struct build *build)
{
	const struct mirror *mirror = build->mirror;

	return build->task.is_late                 ? -ETIMEDOUT
	       : mirror->catalog->mirrors.stopping ? -ECANCELED
	       : mirror->joined                    ? 0
	       : mirror->error                     ? mirror->error
						   : -EIO;
}

static int log_create(struct build *build)
{
	struct mirror_path path, directory;
	struct world_file *file;
	int r;

	mirror_path_of(build->mirror->directory, "log", build->number, &path);
	mirror_path_of(build->mirror->directory, NULL, 0, &directory);
	r = mirror_file_open(path.text, WORLD_FILE_CREATE | WORLD_FILE_EXCLUSIVE, &file);
	if (r)
		return r;
	r = log_fill(build, file);
	if (r == 0)
		r = io_directory_sync(directory.text);
	if (r == 0)
		r = build->task.is_late ? -ETIMEDOUT
					: mirror_join(build->mirror, file, build->number);
	if (r) {
		(void)io_close(file); /* it holds nothing */
		return r;
	}
	return still_joined(build);
}

static int chunk_write(struct build *build, const struct catalog_rows *rows)
{
	struct mirror_chunk chunk = {.sequence = build->mirror->start.sequence,
				     .index = build->index,
				     .count = (uint32_t)rows->count};
	uint8_t *at = build->buffer + MIRROR_CHUNK_HEADER;
	size_t bytes;
	int r;

	for (size_t i = 0; i < rows->count; i++) {
		const struct catalog_row *row = &rows->rows[i];
		const struct mirror_entry entry = {.kind = CATALOG_PUT,
						   .key = row->key,
						   .version = row->version,
						   .length = row->length,
						   .value = row->value};

		mirror_entry_write(at, &entry);
		at += mirror_entry_bytes(&entry);
	}
	chunk.payload = (uint32_t)(at - build->buffer) - MIRROR_CHUNK_HEADER;
	mirror_chunk_seal(build->buffer, &chunk);
	bytes = mirror_chunk_bytes(chunk.payload);
	r = io_write(build->file, build->buffer, bytes, build->offset);
	if (r)
		return r;
	build->offset += bytes;
	build->entries += rows->count;
	build->index++;
	return 0;
}

/* The next rows after `after`, as one chunk. 1: there were some. */
static int chunk_copy(struct build *build, struct catalog_key *after)
{
	struct call call = {.request = {.kind = STORE_DUMP,
					.dump = {.after = *after, .bytes = MIRROR_CHUNK_AIM}}};
	int r = still_joined(build);

	if (r == 0)
		r = catalog_call_run(build->catalog, &call);
	if (r)
		return r;
	if (call.request.dump.rows.count > 0) {
		*after = call.request.dump.rows.rows[call.request.dump.rows.count - 1].key;
		r = chunk_write(build, &call.request.dump.rows);
		r = r ? r : 1;
	}
	catalog_rows_done(&call.request.dump.rows);
	return r;
}

static int header_write(struct build *build)
{
	struct world *world = build->catalog->world;
	const struct mirror_snapshot snapshot = {.start = build->mirror->start,
						 .end_sequence =
							 build->catalog->mirrors.position.sequence,
						 .bytes = build->offset,
						 .entries = build->entries,
						 .made_wall_ns = world->ops->wall_ns(world)};
	int r;

	mirror_snapshot_write(build->buffer, &snapshot);
	r = io_write(build->file, build->buffer, MIRROR_BLOCK, 0);
	if (r == 0)
		r = io_sync(build->file);
	if (r == 0)
		r = still_joined(build);
	if (r == 0)
		build->mirror->made_wall_ns = snapshot.made_wall_ns;
	return r;
}

static int snapshot_fill(struct build *build)
{
	struct catalog_key after = {0};
	int r;

	build->offset = MIRROR_BLOCK;
	do
		r = chunk_copy(build, &after);
	while (r > 0);
	return r ? r : header_write(build);
}

static int snapshot_write(struct build *build)
{
	int r, r2;

	r = mirror_file_open(build->new_path, WORLD_FILE_CREATE, &build->file);
	if (r)
		return r;
	r = io_resize(build->file, 0, WORLD_RESIZE_TRUNCATE);
	if (r == 0)
		r = snapshot_fill(build);
	r2 = io_close(build->file);
	return r ? r : r2;
}

static int snapshot_publish(struct build *build)
{
	struct mirror_path directory;
	int r = still_joined(build);

	mirror_path_of(build->mirror->directory, NULL, 0, &directory);
	if (r == 0)
		r = io_rename(build->new_path, build->path.text);
	return r ? r : io_directory_sync(directory.text);
}

static int stand(struct build *build)
{
	struct mirror *mirror = build->mirror;
	int r = still_joined(build);

	if (r || mirror->standing)
		return r;
	mirror->standing = true;
	r = mirrors_tell_wait(mirror->catalog);
	if (r) {
		mirror->catalog->mirrors.dirty = true;
		mirror->standing = false;
		return r;
	}
	return mirror->standing ? 0 : mirror->error;
}

static int build_begin(struct build *build)
{
	struct mirror *mirror = build->mirror;
	int r = mirror_close_files(mirror);

	if (r == 0 && !mirror->standing)
		r = label_check(mirror->directory);
	if (r == 0 && !mirror->standing)
		r = replace_check(build);
	if (r == 0)
		r = mirror_highest(mirror->directory, &build->number);
	if (r)
		return r;
	build->number++;
	mirror_path_of(mirror->directory, "snapshot", build->number, &build->path);
	snprintf(build->new_path, sizeof(build->new_path), "%s.new", build->path.text);
	build->buffer = aligned_alloc(MIRROR_BLOCK, MIRROR_CHUNK_MAX);
	return build->buffer ? log_create(build) : -ENOMEM;
}

static int build_files(struct mirror_task *task)
{
	struct build *build = CONTAINER_OF(task, struct build, task);
	int r = build_begin(build);

	if (r == 0)
		r = snapshot_write(build);
	if (r == 0)
		r = snapshot_publish(build);
	return r;
}

static int build_sweep(struct mirror_task *task)
{
	struct build *build = CONTAINER_OF(task, struct build, task);
	int r = mirror_sweep(build->mirror->directory, build->number);

	if (r)
		log_warning("catalog", "old files of a mirror stay", "directory=\"%s\" error=%d",
			    build->mirror->directory, r);
	return 0;
}

static void build_free(struct mirror_task *task)
{
	struct build *build = CONTAINER_OF(task, struct build, task);

	free(build->buffer);
	free(build);
}

/* Frees the build, or leaves it alone when the disk hangs: -ETIMEDOUT, and the mirror is late. */
static int build_run(struct build *build)
{
	struct mirror *mirror = build->mirror;
	int r;

	if (!mirror_task_run(&build->task))
		return -ETIMEDOUT;
	r = build->task.result;
	if (r == 0)
		r = stand(build);
	if (r == 0) {
		mirror->log_bytes = mirror->offset;
		mirror->bytes = build->offset + mirror->offset;
		mirror->error = 0;
		mirror->tries = 0;
		build->task.run = build_sweep;
		if (!mirror_task_run(&build->task))
			return -ETIMEDOUT;
	}
	build_free(&build->task);
	return r;
}

static struct build *build_new(struct mirror *mirror)
{
	struct build *build = calloc(1, sizeof(*build)); /* its paths are large for a stack */

	if (!build)
		return NULL;
	build->task =
		(struct mirror_task){.mirror = mirror, .run = build_files, .free = build_free};
	build->mirror = mirror;
	build->catalog = mirror->catalog;
	return build;
}

static void build_failed(struct mirror *mirror, int error)
{
	uint64_t now_ns = reactor_now_ns(mirror->catalog->home);

	if (mirror->standing) {
		/* The older snapshot and its logs go on. */
		log_warning("catalog", "a mirror's log cannot be rolled",
			    "directory=\"%s\" error=%d", mirror->directory, error);
		mirror->next_try_ns = now_ns + 60 * NSEC_PER_SEC;
	} else if (error != -ECANCELED && mirror->next_try_ns <= now_ns) {
		mirror_lose(mirror, error); /* unless an append of its has failed before */
	}
}

static void build(struct mirror *mirror)
{
	struct catalog *catalog = mirror->catalog;
	struct build *build = build_new(mirror);
	bool stood = mirror->standing;
	int r;

	mirror->building = true;
	r = build ? build_run(build) : -ENOMEM;
	mirror->building = false;
	if (r == 0)
		log_info("catalog", stood ? "a mirror's log was rolled" : "a mirror is good",
			 "directory=\"%s\" sequence=%" PRIu64 " bytes=%" PRIu64, mirror->directory,
			 mirror->sequence, mirror->bytes);
	else if (!mirror->late)
		build_failed(mirror, r);
	mirror->joined = mirror->standing;
	fiber_queue_wake_all(&catalog->mirrors.changed);
}

/* One that was removed and is not freed yet may have something under way in its directory. */
static bool is_occupied(const struct mirror *mirror)
{
	const struct mirror *other;

	LIST_FOR_EACH (&mirror->catalog->mirrors.list, other, struct mirror, link)
		if (other != mirror && other->removed &&
		    strcmp(other->directory, mirror->directory) == 0)
			return true;
	return false;
}

static bool is_wanted(const struct mirror *mirror)
{
	if (mirror->removed || mirror->abandoned || mirror->probe || mirror->late ||
	    is_occupied(mirror))
		return false;
	return !mirror->standing || mirror->log_bytes > log_limit(mirror);
}

static bool is_due(const struct mirror *mirror, uint64_t now_ns)
{
	return is_wanted(mirror) && now_ns >= mirror->next_try_ns;
}

static struct mirror *next_due(struct catalog *catalog)
{
	uint64_t now_ns = reactor_now_ns(catalog->home);
	struct mirror *mirror;

	LIST_FOR_EACH (&catalog->mirrors.list, mirror, struct mirror, link)
		if (is_due(mirror, now_ns))
			return mirror;
	return NULL;
}

/* When one has to be tried again, or UINT64_MAX. */
static uint64_t next_time_ns(struct catalog *catalog)
{
	uint64_t now_ns = reactor_now_ns(catalog->home), next_ns = UINT64_MAX;
	const struct mirror *mirror;

	LIST_FOR_EACH (&catalog->mirrors.list, mirror, struct mirror, link)
		if (is_wanted(mirror) && mirror->next_try_ns > now_ns)
			next_ns = MIN(next_ns, mirror->next_try_ns);
	return next_ns;
}

/* Those that were removed while their disks hung. */
static void free_removed(struct catalog *catalog)
{
	struct mirror *mirror;

	LIST_FOR_EACH (&catalog->mirrors.list, mirror, struct mirror, link) {
		if (mirror->removed && !mirror->in_flight && !mirror->late)
			mirror_clear(mirror, false);
	}
}

/* One without standing is built when its disk is known to answer: `work` is held meanwhile. */
static void serve(struct mirror *mirror)
{
	if (!mirror->standing && !mirror->answers) {
		mirror_probe_start(mirror);
		return;
	}
	mirror->answers = false;
	build(mirror);
}

static void builder_run(struct fiber_task *task)
{
	struct mirrors *mirrors = CONTAINER_OF(task, struct mirrors, task);
	struct catalog *catalog = CONTAINER_OF(mirrors, struct catalog, mirrors);
	struct mirror *mirror;

	while (!mirrors->stopping) {
		fiber_mutex_lock(&mirrors->work);
		free_removed(catalog);
		mirror = mirrors->stopping ? NULL : next_due(catalog);
		if (mirror)
			serve(mirror);
		fiber_mutex_unlock(&mirrors->work);
		if (!mirror && !mirrors->stopping)
			(void)fiber_queue_wait_until(&mirrors->changed, next_time_ns(catalog));
	}
	mirrors->builder_runs = false;
	fiber_queue_wake_all(&mirrors->changed);
}

void mirror_builder_start(struct catalog *catalog)
{
	struct mirrors *mirrors = &catalog->mirrors;

	if (mirrors->builder_runs) {
		mirror_kick(catalog);
		return;
	}
	mirrors->builder_runs = true;
	mirrors->task = (struct fiber_task){.run = builder_run};
	fiber_spawn(catalog->home, FIBER_CONTROL, &mirrors->task);
}

int mirror_close_files(struct mirror *mirror)
{
	struct mirrors *mirrors = &mirror->catalog->mirrors;

	if (mirror->old_file)
		(void)io_close(TAKE_PTR(mirror->old_file)); /* all that counts was synced */
	if (mirror->joined)
		return 0;
	while (mirror->in_flight && !mirror->abandoned)
		fiber_queue_wait(&mirrors->changed);
	if (mirror->in_flight)
		return -ETIMEDOUT;
	if (mirror->file)
		(void)io_close(TAKE_PTR(mirror->file));
	return 0;
}

static bool is_settled(struct catalog *catalog)
{
	uint64_t now_ns = reactor_now_ns(catalog->home);
	const struct mirror *mirror;

	LIST_FOR_EACH (&catalog->mirrors.list, mirror, struct mirror, link)
		if (mirror->building || mirror->probe || mirror->late || is_due(mirror, now_ns) ||
		    (!mirror->removed && is_occupied(mirror)))
			return false;
	return true;
}

void catalog_mirror_wait(struct catalog *catalog)
{
	reactor_assert_home(catalog->home);
	while (!is_settled(catalog))
		fiber_queue_wait(&catalog->mirrors.changed);
}
