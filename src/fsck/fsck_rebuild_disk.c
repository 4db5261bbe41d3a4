/* SPDX-License-Identifier: Apache-2.0 */
/* The directories of pools, while a catalog is made again: labels, which files are there, mirrors
 * of the old catalog, and what is moved. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "catalog/mirror_disk.h"
#include "fsck/fsck_rebuild_priv.h"
#include "reactor/io.h"

#define DIRECTORIES 256u

/* Two labels must not contradict each other. */
static int check_label(struct rebuild *rebuild, const struct rebuild_disk *disk)
{
	for (size_t i = 0; i < rebuild->disk_count; i++) {
		const struct pool_label *other = &rebuild->disks[i].label;

		if (memcmp(other->uuid, disk->label.uuid, sizeof(other->uuid)) == 0 ||
		    other->disk_id == disk->label.disk_id) {
			rebuild_tell(rebuild, FSCK_REBUILD_REFUSED, "give each disk once",
				     disk->directory, "it has the same identity as %s",
				     rebuild->disks[i].directory);
			return -EEXIST;
		}
		if (other->pool_id == disk->label.pool_id &&
		    strcmp(other->name, disk->label.name) != 0) {
			rebuild_tell(rebuild, FSCK_REBUILD_REFUSED,
				     "give the disks of one node alone", disk->directory,
				     "its pool, %s, has the number of pool %s", disk->label.name,
				     other->name);
			return -EEXIST;
		}
	}
	return 0;
}

static int read_disk(struct rebuild *rebuild, const char *directory)
{
	struct rebuild_disk disk = {.directory = (char *)directory};
	char path[4096];
	int r;

	if (strlen(directory) > POOL_DIRECTORY_MAX)
		return -ENAMETOOLONG;
	snprintf(path, sizeof(path), "%s/label", directory);
	r = pool_label_read(path, &disk.label);
	if (rebuild_is_fatal(r))
		return r;
	if (r < 0) {
		rebuild_tell(rebuild, FSCK_REBUILD_REFUSED,
			     "mount the disk, or leave it out and give --force", directory,
			     "its label cannot be read: %s",
			     r == -EUCLEAN ? "it is damaged" : strerror(-r));
		return rebuild->options->force ? 0 : -EEXIST;
	}
	r = check_label(rebuild, &disk);
	if (r < 0)
		return r;
	disk.directory = strdup(directory);
	if (!disk.directory)
		return -ENOMEM;
	rebuild->disks[rebuild->disk_count++] = disk;
	return 0;
}

static int compare_disks(const void *a, const void *b)
{
	const struct rebuild_disk *x = a, *y = b;

	if (x->label.pool_id != y->label.pool_id)
		return x->label.pool_id < y->label.pool_id ? -1 : 1;
	return x->label.disk_id < y->label.disk_id ? -1 : x->label.disk_id > y->label.disk_id;
}

int rebuild_disks_read(struct rebuild *rebuild)
{
	const struct fsck_rebuild_options *options = rebuild->options;
	int r = 0;

	rebuild->disks = calloc(options->directory_count + 1, sizeof(*rebuild->disks));
	if (!rebuild->disks)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < options->directory_count; i++)
		r = read_disk(rebuild, options->directories[i]);
	if (r < 0)
		return r;
	if (rebuild->disk_count == 0) {
		rebuild_tell(rebuild, FSCK_REBUILD_REFUSED,
			     "name the directories of all disks of all pools of this node", "disks",
			     "there is none that can be used");
		return -EEXIST;
	}
	qsort(rebuild->disks, rebuild->disk_count, sizeof(rebuild->disks[0]), compare_disks);
	rebuild->report.disks = rebuild->disk_count;
	return 0;
}

static int refuse_usable(struct rebuild *rebuild, const char *directory)
{
	bool force = rebuild->options->force;
	char advice[4096 + 64];

	snprintf(advice, sizeof(advice), "sarsend --restore-catalog %s", directory);
	rebuild_tell(rebuild, force ? FSCK_REBUILD_NOTE : FSCK_REBUILD_REFUSED, advice, directory,
		     "a mirror of the catalog is there that can be used; it knows more than the "
		     "groups do");
	return force ? 0 : -EEXIST;
}

static int refuse_mirror(struct rebuild *rebuild, const char *directory)
{
	struct mirror_rows rows = {0};
	struct mirror_look look;
	int r = mirror_load(directory, &look, &rows);
	bool is_usable = r == 0 && !look.damaged && rows.count > 0;

	mirror_rows_done(&rows);
	if (is_usable)
		return refuse_usable(rebuild, directory);
	if (r == 0 || r == -ENOENT || r == -ENOTDIR || r == -EUCLEAN)
		return 0;
	return rebuild_refuse(rebuild, r,
			      "mend what is in the way, and run this again; a newer program may "
			      "be able to read it",
			      directory, "it is not known whether its mirror can be used");
}

int rebuild_refuse_mirrors(struct rebuild *rebuild)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < rebuild->disk_count; i++)
		r = refuse_mirror(rebuild, rebuild->disks[i].directory);
	return r;
}

void rebuild_file_path(const struct rebuild *rebuild, const struct rebuild_file *file,
		       unsigned copy, char path[4096])
{
	const struct rebuild_copy *from = &file->copies[copy];
	const char *directory = rebuild->disks[from->disk].directory;

	if (from->is_unclaimed)
		snprintf(path, 4096, "%s/unclaimed/%016" PRIx64 ".eg", directory, file->id);
	else
		snprintf(path, 4096, "%s/groups/%02x/%016" PRIx64 ".eg", directory,
			 (unsigned)(file->id & 0xff), file->id);
}

int rebuild_file_open(const struct rebuild *rebuild, const struct rebuild_file *file, unsigned copy,
		      struct world_file **ret_handle)
{
	char path[4096];

	rebuild_file_path(rebuild, file, copy, path);
	return io_open(path, WORLD_FILE_READ_ONLY | WORLD_FILE_DIRECT, ret_handle);
}

static bool parse_name(const char *name, const char *suffix, uint64_t *ret_id)
{
	char expected[32];
	uint64_t id = 0;

	(void)sscanf(name, "%16" SCNx64, &id); /* what it is not, the comparison tells */
	snprintf(expected, sizeof(expected), "%016" PRIx64 "%s", id, suffix);
	*ret_id = id;
	return id != 0 && strcmp(expected, name) == 0;
}

/* A name on one disk; copies are brought together when all are known. */
static int add_file(struct rebuild *rebuild, unsigned disk, uint64_t id, bool is_unclaimed)
{
	struct rebuild_file file = {
		.pool = rebuild->disks[disk].label.pool_id, .id = id, .copy_count = 1};
	struct world_stat stat;
	char path[4096];
	int r;

	file.copies[0] = (struct rebuild_copy){.disk = disk, .is_unclaimed = is_unclaimed};
	rebuild_file_path(rebuild, &file, 0, path);
	r = io_stat(path, &stat);
	if (rebuild_is_fatal(r))
		return r;
	file.copies[0].size_bytes = r < 0 ? 0 : MIN(stat.size_bytes, POOL_GROUP_BYTES);
	r = rebuild_reserve((void **)&rebuild->files, &rebuild->file_capacity, rebuild->file_count,
			    sizeof(file));
	if (r < 0)
		return r;
	rebuild->files[rebuild->file_count++] = file;
	rebuild->total_bytes += file.copies[0].size_bytes;
	rebuild->highest_file = MAX(rebuild->highest_file, id);
	return 0;
}

/* What is in a directory of group files; -ENOENT is nothing. */
static int list_groups(struct rebuild *rebuild, unsigned disk, const char *path, bool is_unclaimed)
{
	struct world_names names;
	int r = io_directory_list(path, &names);
	uint64_t id;

	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r < 0 && !rebuild_is_fatal(r)) {
		rebuild_tell(rebuild, FSCK_REBUILD_DOUBT, "check the disk", path,
			     "the directory cannot be listed: %s", strerror(-r));
		return 0;
	}
	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < names.count; i++)
		if (parse_name(names.names[i], ".eg", &id))
			r = add_file(rebuild, disk, id, is_unclaimed);
	world_names_free(&names);
	return r;
}

/* Ids that spare files have, or had, are not to be given again. */
static int note_spare(struct rebuild *rebuild, const char *path, uint64_t id)
{
	_cleanup_free_ struct record_header_disk *header = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	const struct record_id any = {0};
	struct world_file *handle;
	int r = header ? io_open(path, WORLD_FILE_READ_ONLY | WORLD_FILE_DIRECT, &handle) : -ENOMEM;

	rebuild->highest_file = MAX(rebuild->highest_file, id);
	if (r < 0)
		return rebuild_is_fatal(r) ? r : 0;
	r = io_read_exactly(handle, header, BLOCK_BYTES, 0);
	(void)io_close(handle); /* was only read */
	if (r == 0 && record_check(header, &any) == 0)
		rebuild->highest_group = MAX(rebuild->highest_group, le64toh(header->group));
	return rebuild_is_fatal(r) ? r : 0;
}

static int list_spares(struct rebuild *rebuild, const struct rebuild_disk *disk)
{
	struct world_names names;
	char path[4096];
	uint64_t id;
	int r;

	snprintf(path, sizeof(path), "%s/spare", disk->directory);
	r = io_directory_list(path, &names);
	if (r < 0)
		return rebuild_is_fatal(r) ? r : 0;
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		if (!parse_name(names.names[i], ".sp", &id) &&
		    !parse_name(names.names[i], ".new", &id))
			continue;
		snprintf(path, sizeof(path), "%s/spare/%s", disk->directory, names.names[i]);
		r = note_spare(rebuild, path, id);
	}
	world_names_free(&names);
	return r;
}

static int list_disk(struct rebuild *rebuild, unsigned disk)
{
	const char *directory = rebuild->disks[disk].directory;
	char path[4096];
	int r = 0;

	for (unsigned i = 0; r == 0 && i < DIRECTORIES; i++) {
		snprintf(path, sizeof(path), "%s/groups/%02x", directory, i);
		r = list_groups(rebuild, disk, path, false);
	}
	snprintf(path, sizeof(path), "%s/unclaimed", directory);
	if (r == 0)
		r = list_groups(rebuild, disk, path, true);
	return r < 0 ? r : list_spares(rebuild, &rebuild->disks[disk]);
}

static int compare_files(const void *a, const void *b)
{
	const struct rebuild_file *x = a, *y = b;

	if (x->pool != y->pool)
		return x->pool < y->pool ? -1 : 1;
	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->copies[0].disk < y->copies[0].disk ? -1 : x->copies[0].disk > y->copies[0].disk;
}

int rebuild_files_list(struct rebuild *rebuild)
{
	size_t count = 0;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < rebuild->disk_count; i++)
		r = list_disk(rebuild, i);
	if (r < 0)
		return r;
	if (rebuild->file_count)
		qsort(rebuild->files, rebuild->file_count, sizeof(rebuild->files[0]),
		      compare_files);
	for (size_t i = 0; i < rebuild->file_count; i++) {
		struct rebuild_file *file = &rebuild->files[i],
				    *last = count ? &rebuild->files[count - 1] : NULL;

		if (!last || last->pool != file->pool || last->id != file->id)
			rebuild->files[count++] = *file;
		else if (last->copy_count < REBUILD_COPIES_MAX &&
			 last->copies[last->copy_count - 1].disk != file->copies[0].disk)
			last->copies[last->copy_count++] = file->copies[0];
	}
	rebuild->file_count = count;
	return 0;
}

static int make_directory(const char *path)
{
	int r = io_directory_make(path);

	return r == -EEXIST ? 0 : r;
}

/* Of vDisks that are made, to where the pool looks; of others, to where it does not. */
static int move_copy(struct rebuild *rebuild, const struct rebuild_file *file, unsigned copy)
{
	struct rebuild_file as = *file;
	const char *directory = rebuild->disks[file->copies[copy].disk].directory;
	char from[4096], to[4096], above[4096];
	int r;

	as.copies[copy].is_unclaimed = !file->is_named;
	rebuild_file_path(rebuild, file, copy, from);
	rebuild_file_path(rebuild, &as, copy, to);
	if (file->is_named)
		snprintf(above, sizeof(above), "%s/groups/%02x", directory,
			 (unsigned)(file->id & 0xff));
	else
		snprintf(above, sizeof(above), "%s/unclaimed", directory);
	r = make_directory(above);
	if (r == 0)
		r = io_directory_sync_above(above);
	if (r == 0)
		r = io_rename(from, to);
	return r < 0 ? r : io_directory_sync(above);
}

static bool is_unclaimed(struct rebuild *rebuild, const struct rebuild_file *file)
{
	const struct rebuild_vdisk *vdisk =
		rebuild_vdisk_find(rebuild, file->pool, file->content.vdisk);

	if (file->content.kind == REBUILD_NOTHING)
		return file->content.is_damaged_index;
	return !(vdisk && vdisk->is_made);
}

int rebuild_files_move(struct rebuild *rebuild)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < rebuild->file_count; i++) {
		const struct rebuild_file *file = &rebuild->files[i];
		bool aside = is_unclaimed(rebuild, file);

		for (unsigned copy = 0; r == 0 && copy < file->copy_count; copy++)
			if ((file->is_named && file->copies[copy].is_unclaimed) ||
			    (aside && !file->copies[copy].is_unclaimed))
				r = move_copy(rebuild, file, copy);
	}
	return r;
}

/* Of another catalog from now on: the new one would refuse the directory. */
static int move_mirror(struct rebuild *rebuild, const char *directory)
{
	char from[4096], to[4096], path[4608], aside[4608];
	struct world_names names;
	int r;

	snprintf(from, sizeof(from), "%s/catalog", directory);
	snprintf(to, sizeof(to), "%s/catalog%s", directory, rebuild->suffix);
	r = io_directory_list(from, &names);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (names.count > 0)
		r = make_directory(to);
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		snprintf(path, sizeof(path), "%s/%s", from, names.names[i]);
		snprintf(aside, sizeof(aside), "%s/%s", to, names.names[i]);
		r = io_rename(path, aside);
	}
	if (r == 0 && names.count > 0)
		r = io_directory_sync(to);
	if (r == 0)
		r = io_directory_sync(from);
	world_names_free(&names);
	return r < 0 ? r : io_directory_sync(directory);
}

int rebuild_mirrors_move(struct rebuild *rebuild)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < rebuild->disk_count; i++)
		r = move_mirror(rebuild, rebuild->disks[i].directory);
	return r;
}
