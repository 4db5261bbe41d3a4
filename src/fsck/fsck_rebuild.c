/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order: what there is of a catalog and of mirrors is looked at, and nothing is done when any of it
 * can be used; everything is read; the new rows are made; a new database is filled beside the old
 * one; files of what is not made go aside, and what lay aside and is named comes back; the old
 * mirrors go aside; the new database takes its place. A crash before the last step leaves no
 * catalog that could be used, as before, and the next run finds the files that went aside.
 *
 * With --force a catalog that can be used, or a mirror, may be replaced, and without it one of
 * which a row is damaged: a daemon opens that all the same. A crash leaves it, or the new one. Some
 * steps come after the last then (apply_after); when a crash comes between, or before, the daemon
 * misses files that went aside or refuses the old mirrors, nothing is lost, and another run ends
 * it.
 */
#include "fsck/fsck_rebuild.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "catalog/catalog_make.h"
#include "fsck/fsck_priv.h"
#include "fsck/fsck_rebuild_priv.h"
#include "reactor/io.h"

#define PROGRESS_NS (200 * NSEC_PER_MSEC)

static void tell(struct rebuild *rebuild, enum fsck_rebuild_kind kind, const char *advice,
		 const char *object, const char *text, va_list arguments)
{
	char words[REBUILD_TEXT_MAX];
	const struct fsck_rebuild_note note = {
		.kind = kind, .object = object, .text = words, .advice = advice};

	vsnprintf(words, sizeof(words), text, arguments);
	rebuild->report.doubts += kind == FSCK_REBUILD_DOUBT;
	rebuild->options->note(rebuild->options->arg, &note);
}

void rebuild_tell(struct rebuild *rebuild, enum fsck_rebuild_kind kind, const char *advice,
		  const char *object, const char *text, ...)
{
	va_list arguments;

	va_start(arguments, text);
	tell(rebuild, kind, advice, object, text, arguments);
	va_end(arguments);
}

void rebuild_doubt(struct rebuild *rebuild, struct rebuild_vdisk *vdisk, const char *advice,
		   const char *text, ...)
{
	char object[128];
	va_list arguments;

	vdisk->is_doubtful = true;
	snprintf(object, sizeof(object), "vDisk %" PRIu64 "%s%s%s", vdisk->id,
		 vdisk->row.name[0] ? " (" : "", vdisk->row.name, vdisk->row.name[0] ? ")" : "");
	va_start(arguments, text);
	tell(rebuild, FSCK_REBUILD_DOUBT, advice, object, text, arguments);
	va_end(arguments);
}

int rebuild_progress(struct rebuild *rebuild, uint64_t bytes)
{
	const struct fsck_rebuild_options *options = rebuild->options;
	uint64_t now = world_now_ns(options->world);

	rebuild->report.bytes += bytes;
	if (!options->progress || now - rebuild->last_progress_ns < PROGRESS_NS)
		return 0;
	rebuild->last_progress_ns = now;
	return options->progress(options->arg, MIN(rebuild->report.bytes, rebuild->total_bytes),
				 rebuild->total_bytes)
		       ? 0
		       : -ECANCELED;
}

static const struct identity *newer(const struct identity *a, const struct identity *b)
{
	return !a || (b && b->written_wall_ns > a->written_wall_ns) ? b : a;
}

const struct identity *rebuild_identity(const struct rebuild *rebuild, uint64_t pool)
{
	const struct identity *newest = NULL;

	for (size_t i = 0; i < rebuild->root_count; i++)
		if (rebuild->roots[i].pool == pool)
			newest = newer(newest, rebuild->roots[i].identity);
	for (size_t i = 0; i < rebuild->vdisk_count; i++)
		if (rebuild->vdisks[i].pool == pool)
			newest = newer(newest, rebuild->vdisks[i].identity);
	return newest;
}

int rebuild_reserve(void **items, size_t *capacity, size_t count, size_t size)
{
	size_t more = MAX(2 * *capacity, (size_t)64);
	void *grown;

	if (count < *capacity)
		return 0;
	grown = realloc(*items, more * size);
	if (!grown)
		return -ENOMEM;
	*items = grown;
	*capacity = more;
	return 0;
}

static void ignore_finding(void *arg, const struct fsck_finding *finding)
{
	(void)arg;
	(void)finding;
}

int rebuild_refuse(struct rebuild *rebuild, int error, const char *advice, const char *object,
		   const char *text)
{
	bool force = rebuild->options->force;

	if (rebuild_is_fatal(error))
		return error;
	rebuild_tell(rebuild, force ? FSCK_REBUILD_NOTE : FSCK_REBUILD_REFUSED, advice, object,
		     "%s: %s", text, strerror(-error));
	return force ? 0 : -EEXIST;
}

/* Not so when it is only the scratch directory that is not there. */
static bool is_gone(const char *path)
{
	struct world_stat stat;

	return io_stat(path, &stat) == -ENOENT;
}

/* What can still be read of the old catalog; none of it is believed. Only what is gone or damaged
 * may be replaced: any other error says nothing of it, and may pass. */
static int read_old(struct rebuild *rebuild, struct fsck *old, struct fsck_options *options)
{
	int r;

	*options = (struct fsck_options){.world = rebuild->options->world,
					 .catalog = rebuild->options->catalog,
					 .vfs = rebuild->options->vfs,
					 .scratch = rebuild->options->scratch,
					 .finding = ignore_finding};
	*old = (struct fsck){.options = options, .buffer = rebuild->buffer};
	r = fsck_catalog_read(old);
	if (r == 0)
		return 0;
	old->rows_missing = true;
	if (r == -EUCLEAN || (r == -ENOENT && is_gone(rebuild->options->catalog)))
		return 0;
	rebuild->has_catalog = true; /* for all that is known */
	return rebuild_refuse(
		rebuild, r, "make room, or mend what is in the way, and run this again",
		rebuild->options->catalog, "it is not known whether the catalog can be used");
}

/* One without a pool is what a daemon makes that finds none. */
static int refuse_catalog(struct rebuild *rebuild, const struct fsck *old)
{
	bool names_pools = false, force = rebuild->options->force;

	for (size_t i = 0; i < old->rows.count; i++)
		names_pools |= old->rows.rows[i].key.bytes[0] == CATALOG_POOL;
	rebuild->has_catalog |= names_pools; /* a daemon serves what is whole of it */
	if (old->rows_missing || !names_pools)
		return 0;
	rebuild->is_catalog_whole = true;
	rebuild_tell(rebuild, force ? FSCK_REBUILD_NOTE : FSCK_REBUILD_REFUSED,
		     "check it with sarsen-fsck", rebuild->options->catalog,
		     "the catalog is there and can be read; it knows more than the groups do");
	return force ? 0 : -EEXIST;
}

static int add_directory(struct fsck_rebuild_options *options, const char *directory)
{
	char **grown;

	for (size_t i = 0; i < options->directory_count; i++)
		if (strcmp(options->directories[i], directory) == 0)
			return 0;
	grown = realloc((void *)options->directories,
			(options->directory_count + 1) * sizeof(char *));
	if (!grown)
		return -ENOMEM;
	options->directories = grown;
	grown[options->directory_count] = strdup(directory);
	return grown[options->directory_count++] ? 0 : -ENOMEM;
}

/* Where the old rows and the hint say that disks are. */
static int find_directories(struct fsck_rebuild_options *options, const struct fsck *old)
{
	_cleanup_free_ struct pool_disk_row *disk = calloc(1, sizeof(*disk)); /* large */
	struct catalog_make_hint hint = {0};
	int r = disk ? catalog_make_read_hint(options->catalog, &hint) : -ENOMEM;

	for (unsigned i = 0; r == 0 && i < hint.count; i++)
		r = add_directory(options, hint.directories[i]);
	for (size_t i = 0; r == 0 && i < old->rows.count; i++)
		if (old->rows.rows[i].key.bytes[0] == CATALOG_DISK &&
		    pool_rows_decode_disk(&old->rows.rows[i], disk) == 0)
			r = add_directory(options, disk->directory);
	catalog_make_hint_done(&hint);
	return r;
}

static bool has_disk(const struct rebuild *rebuild, uint64_t pool, uint64_t disk)
{
	for (size_t i = 0; i < rebuild->disk_count; i++)
		if (rebuild->disks[i].label.pool_id == pool &&
		    rebuild->disks[i].label.disk_id == disk)
			return true;
	return false;
}

static bool wants_disk(const struct identity *identity, uint64_t disk)
{
	for (unsigned i = 0; i < identity->disk_count; i++)
		if (identity->disks[i] == disk)
			return true;
	return false;
}

/* What lies on a disk that is not there may be newer than all that is. */
static int check_disks(struct rebuild *rebuild, uint64_t pool, const struct identity *newest)
{
	bool force = rebuild->options->force;
	char object[64];
	int r = 0;

	for (unsigned i = 0; i < newest->disk_count; i++) {
		if (has_disk(rebuild, pool, newest->disks[i]))
			continue;
		snprintf(object, sizeof(object), "disk %" PRIu64 " of pool %" PRIu64,
			 newest->disks[i], pool);
		rebuild_tell(rebuild, force ? FSCK_REBUILD_DOUBT : FSCK_REBUILD_REFUSED,
			     "name its directory too; or, when it is gone for good, give --force",
			     object, "it was of the pool lately, and is not here");
		r = force ? 0 : -EEXIST;
	}
	for (size_t i = 0; i < rebuild->disk_count; i++)
		if (rebuild->disks[i].label.pool_id == pool &&
		    !wants_disk(newest, rebuild->disks[i].label.disk_id))
			rebuild_tell(rebuild, FSCK_REBUILD_NOTE, NULL, rebuild->disks[i].directory,
				     "it was not of the pool lately: added since, or removed long "
				     "ago");
	return r;
}

/* Nothing in it says which disks it has. */
static int check_unknown(struct rebuild *rebuild, const struct rebuild_disk *disk)
{
	bool force = rebuild->options->force, is_empty = true;

	for (size_t i = 0; i < rebuild->group_count; i++)
		is_empty &= rebuild->groups[i].pool != disk->label.pool_id;
	rebuild_tell(rebuild, is_empty && !force ? FSCK_REBUILD_REFUSED : FSCK_REBUILD_DOUBT,
		     "name all disks of the pool; if these are all, give --force", disk->label.name,
		     is_empty ? "there are no groups in the pool"
			      : "which disks the pool has is not known: older programs did not "
				"write it");
	return is_empty && !force ? -EEXIST : 0;
}

static int check_pools(struct rebuild *rebuild)
{
	int r = 0;

	for (size_t i = 0; i < rebuild->disk_count; i++) {
		uint64_t pool = rebuild->disks[i].label.pool_id;
		int one;

		if (i > 0 && rebuild->disks[i - 1].label.pool_id == pool)
			continue;
		one = rebuild_identity(rebuild, pool)
			      ? check_disks(rebuild, pool, rebuild_identity(rebuild, pool))
			      : check_unknown(rebuild, &rebuild->disks[i]);
		r = r < 0 ? r : one;
	}
	return r;
}

/* Two pools of different nodes may have vDisks with one id: a catalog cannot. */
static void keep_ids_apart(struct rebuild *rebuild)
{
	for (size_t i = 0; i < rebuild->vdisk_count; i++)
		for (size_t n = 0; rebuild->vdisks[i].is_made && n < i; n++) {
			struct rebuild_vdisk *vdisk = &rebuild->vdisks[i];

			if (rebuild->vdisks[n].id != vdisk->id || !rebuild->vdisks[n].is_made)
				continue;
			rebuild_doubt(rebuild, vdisk, "give the disks of one node alone",
				      "it is not made: two pools have a vDisk of this number");
			vdisk->is_made = false;
			for (size_t g = 0; g < vdisk->group_count; g++)
				vdisk->groups[g].file->is_named = false;
		}
}

static void tell_vdisks(struct rebuild *rebuild)
{
	const char *pool_name = "";

	for (size_t i = 0; i < rebuild->vdisk_count; i++) {
		const struct rebuild_vdisk *vdisk = &rebuild->vdisks[i];

		for (size_t n = 0; n < rebuild->disk_count; n++)
			if (rebuild->disks[n].label.pool_id == vdisk->pool)
				pool_name = rebuild->disks[n].label.name;
		const struct fsck_rebuild_vdisk told = {
			.pool = vdisk->pool,
			.id = vdisk->id,
			.pool_name = pool_name,
			.container = vdisk->container_name,
			.name = vdisk->row.name,
			.size_bytes = vdisk->row.size_bytes,
			.live_bytes = vdisk->row.live_slots * BLOCK_BYTES,
			.block_bytes = vdisk->row.block_bytes,
			.copies = vdisk->factor,
			.checkpoint_lsn = vdisk->row.checkpoint_lsn,
			.log_lsn = vdisk->log_lsn,
			.written_wall_ns = vdisk->written_wall_ns,
			.is_doubtful = vdisk->is_doubtful,
		};

		if (vdisk->is_made)
			rebuild->options->vdisk(rebuild->options->arg, &told);
	}
}

static int gather(struct rebuild *rebuild)
{
	int r = rebuild_disks_read(rebuild);

	if (r == 0)
		r = rebuild_refuse_mirrors(rebuild);
	if (r == 0)
		r = rebuild_files_list(rebuild);
	if (r == 0)
		r = rebuild_files_scan(rebuild);
	if (r == 0)
		r = check_pools(rebuild);
	for (size_t i = 0; r == 0 && i < rebuild->vdisk_count; i++)
		r = rebuild_vdisk_settle(rebuild, &rebuild->vdisks[i]);
	if (r < 0)
		return r;
	keep_ids_apart(rebuild);
	r = rebuild_rows_make(rebuild);
	if (r == 0)
		tell_vdisks(rebuild);
	return r;
}

/* Before the new catalog is in place. With an old one that can come back, what that does not name
 * may not be in groups/: its daemon would sweep it. A mirror that may be better than the catalog
 * stays until then. */
static int apply_before(struct rebuild *rebuild)
{
	int r = rebuild_files_move(rebuild);

	if (r == 0 && !rebuild->has_catalog && !rebuild->has_mirror)
		r = rebuild_files_claim(rebuild);
	if (r == 0 && (rebuild->is_catalog_whole || !rebuild->has_mirror))
		r = rebuild_mirrors_move(rebuild);
	return r;
}

static int apply_after(struct rebuild *rebuild)
{
	int r = 0;

	if (rebuild->has_catalog || rebuild->has_mirror)
		r = rebuild_files_claim(rebuild);
	if (r == 0 && !rebuild->is_catalog_whole && rebuild->has_mirror)
		r = rebuild_mirrors_move(rebuild);
	return r;
}

static int apply(struct rebuild *rebuild)
{
	const struct catalog_options options = {.path = rebuild->options->catalog,
						.vfs = rebuild->options->vfs};
	struct world *world = rebuild->options->world;
	int r;

	snprintf(rebuild->suffix, sizeof(rebuild->suffix), ".replaced-%" PRIu64,
		 world->ops->wall_ns(world) / NSEC_PER_SEC);
	r = catalog_make_new(&options, &rebuild->rows);
	if (r == 0)
		r = apply_before(rebuild);
	if (r == 0)
		r = catalog_make_replace(&options, rebuild->suffix);
	return r < 0 ? r : apply_after(rebuild);
}

static void done(struct rebuild *rebuild)
{
	for (size_t i = 0; i < rebuild->disk_count; i++)
		free(rebuild->disks[i].directory);
	for (size_t i = 0; i < rebuild->group_count; i++)
		free(rebuild->groups[i].stored);
	for (size_t i = 0; i < rebuild->root_count; i++)
		free(rebuild->roots[i].identity);
	for (size_t i = 0; i < rebuild->vdisk_count; i++)
		free(rebuild->vdisks[i].identity);
	free(rebuild->disks);
	for (size_t i = 0; i < rebuild->copy_count; i++)
		rebuild_index_free(rebuild->copies[i].index);
	free(rebuild->copies);
	free(rebuild->files);
	free(rebuild->groups);
	free(rebuild->roots);
	free(rebuild->vdisks);
	free(rebuild->page_groups);
	free(rebuild->names);
	free(rebuild->buffer);
	catalog_rows_done(&rebuild->rows);
}

static void directories_done(struct fsck_rebuild_options *options)
{
	for (size_t i = 0; i < options->directory_count; i++)
		free(options->directories[i]);
	free((void *)options->directories);
}

static int run(struct rebuild *rebuild, struct fsck_rebuild_options *options)
{
	struct fsck_options old_options;
	struct fsck old = {0};
	int r = read_old(rebuild, &old, &old_options);

	if (r == 0)
		r = refuse_catalog(rebuild, &old);
	if (r == 0 && options->directory_count == 0)
		r = find_directories(options, &old);
	catalog_rows_done(&old.rows);
	if (r == 0)
		r = gather(rebuild);
	return r < 0 || options->show_only ? r : apply(rebuild);
}

int fsck_rebuild(const struct fsck_rebuild_options *options, struct fsck_rebuild_report *ret_report)
{
	struct fsck_rebuild_options own = *options;
	struct rebuild rebuild = {.options = &own};
	int r;

	if (options->directory_count == 0)
		own.directories = NULL; /* those that are found are added */
	rebuild.buffer = aligned_alloc(BLOCK_BYTES, (size_t)REBUILD_WINDOW_BLOCKS * BLOCK_BYTES);
	r = rebuild.buffer ? run(&rebuild, &own) : -ENOMEM;
	if (options->directory_count == 0)
		directories_done(&own);
	*ret_report = rebuild.report;
	done(&rebuild);
	return r;
}
