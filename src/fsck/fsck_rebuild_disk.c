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

#define DIRECTORIES   256u
#define UNCLAIMED_MAX 9999u

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
	rebuild->has_mirror = true;
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
	rebuild->has_mirror = true; /* for all that is known */
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

static void copy_path(const struct rebuild *rebuild, const struct rebuild_copy *copy,
		      char path[4096])
{
	const char *directory = rebuild->disks[copy->disk].directory;

	if (!copy->is_unclaimed)
		snprintf(path, 4096, "%s/groups/%02x/%016" PRIx64 ".eg", directory,
			 (unsigned)(copy->id & 0xff), copy->id);
	else if (copy->number == 0)
		snprintf(path, 4096, "%s/unclaimed/%016" PRIx64 ".eg", directory, copy->id);
	else
		snprintf(path, 4096, "%s/unclaimed/%016" PRIx64 ".eg.%u", directory, copy->id,
			 copy->number);
}

void rebuild_file_path(const struct rebuild *rebuild, const struct rebuild_file *file,
		       unsigned copy, char path[4096])
{
	copy_path(rebuild, &file->copies[copy], path);
}

int rebuild_file_open(const struct rebuild *rebuild, const struct rebuild_file *file, unsigned copy,
		      struct world_file **ret_handle)
{
	char path[4096];

	rebuild_file_path(rebuild, file, copy, path);
	return io_open(path, WORLD_FILE_READ_ONLY | WORLD_FILE_DIRECT, ret_handle);
}

/* ID.eg, or in unclaimed/ ID.eg.NUMBER. */
static bool parse_group(const char *name, struct rebuild_copy *copy)
{
	if (copy->is_unclaimed)
		return fsck_file_name_parse_unclaimed(name, &copy->id, &copy->number);
	return fsck_file_name_parse(name, ".eg", &copy->id);
}

/* A name on one disk; copies are brought together when all are known. */
static int add_copy(struct rebuild *rebuild, struct rebuild_copy *copy)
{
	struct world_stat stat = {0};
	char path[4096];
	int r;

	copy->pool = rebuild->disks[copy->disk].label.pool_id;
	copy_path(rebuild, copy, path);
	r = io_stat(path, &stat);
	if (rebuild_is_fatal(r))
		return r;
	copy->error = r;
	copy->size_bytes = MIN(stat.size_bytes, POOL_GROUP_BYTES);
	r = rebuild_reserve((void **)&rebuild->copies, &rebuild->copy_capacity, rebuild->copy_count,
			    sizeof(*copy));
	if (r < 0)
		return r;
	rebuild->copies[rebuild->copy_count++] = *copy;
	rebuild->total_bytes += copy->size_bytes;
	rebuild->highest_file = MAX(rebuild->highest_file, copy->id);
	return 0;
}

/* What cannot be listed may have the newest of a vDisk, and would be swept. */
static int refuse_directory(struct rebuild *rebuild, const char *path, int error)
{
	return rebuild_refuse(rebuild, error, "mend the disk, or leave it out and give --force",
			      path, "the directory cannot be listed");
}

/* No pool has such an id. What is there would be swept, so a person has to look at it. */
static int refuse_name(struct rebuild *rebuild, const char *path, const char *name)
{
	rebuild_tell(rebuild, FSCK_REBUILD_REFUSED, "move it elsewhere", path,
		     "the file %s is not of this program", name);
	return -EEXIST;
}

/* What is in a directory of group files. */
static int list_groups(struct rebuild *rebuild, unsigned disk, const char *path, bool is_unclaimed)
{
	struct world_names names;
	int r = io_directory_list(path, &names);

	if (r == -ENOENT && is_unclaimed)
		return 0; /* it is made when there is something for it */
	if (r < 0) {
		rebuild->disks[disk].lacks_directories |= r == -ENOENT;
		return refuse_directory(rebuild, path, r);
	}
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		struct rebuild_copy copy = {.disk = disk, .is_unclaimed = is_unclaimed};

		if (!parse_group(names.names[i], &copy))
			continue;
		r = copy.id > REBUILD_ID_MAX ? refuse_name(rebuild, path, names.names[i])
					     : add_copy(rebuild, &copy);
	}
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

	if (id <= REBUILD_ID_MAX)
		rebuild->highest_file = MAX(rebuild->highest_file, id);
	if (r < 0)
		return rebuild_is_fatal(r) ? r : 0;
	r = io_read_exactly(handle, header, BLOCK_BYTES, 0);
	(void)io_close(handle); /* was only read */
	if (r == 0 && record_check(header, &any) == 0 &&
	    le64toh(header->group) <= REBUILD_GROUP_MAX)
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
		if (!fsck_file_name_parse(names.names[i], ".sp", &id) &&
		    !fsck_file_name_parse(names.names[i], ".new", &id))
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

static int compare_copies(const void *a, const void *b)
{
	const struct rebuild_copy *x = a, *y = b;

	if (x->pool != y->pool)
		return x->pool < y->pool ? -1 : 1;
	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	if (x->disk != y->disk)
		return x->disk < y->disk ? -1 : 1;
	if (x->is_unclaimed != y->is_unclaimed)
		return y->is_unclaimed ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

int rebuild_files_list(struct rebuild *rebuild)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < rebuild->disk_count; i++)
		r = list_disk(rebuild, i);
	if (r < 0)
		return r;
	if (rebuild->copy_count)
		qsort(rebuild->copies, rebuild->copy_count, sizeof(rebuild->copies[0]),
		      compare_copies);
	rebuild->files = calloc(rebuild->copy_count + 1, sizeof(rebuild->files[0]));
	if (!rebuild->files)
		return -ENOMEM;
	for (size_t i = 0; i < rebuild->copy_count; i++) {
		struct rebuild_copy *copy = &rebuild->copies[i];
		struct rebuild_file *file = &rebuild->files[rebuild->file_count];

		if (rebuild->file_count > 0 && file[-1].pool == copy->pool &&
		    file[-1].id == copy->id) {
			file[-1].copy_count++;
			continue;
		}
		*file = (struct rebuild_file){
			.pool = copy->pool, .id = copy->id, .copies = copy, .copy_count = 1};
		rebuild->file_count++;
	}
	return 0;
}

static int make_directory(const char *path)
{
	int r = io_directory_make(path);

	return r == -EEXIST ? 0 : r;
}

/* -EEXIST: something has the name. Nobody else uses the state, so it stays free. */
static int check_free(const char *path)
{
	struct world_stat stat;
	int r = io_stat(path, &stat);

	return r == 0 ? -EEXIST : r == -ENOENT ? 0 : r;
}

/* A name that is free, where the pool looks or where it does not. */
static int find_place(const struct rebuild *rebuild, struct rebuild_copy *to, char path[4096])
{
	int r;

	for (to->number = 0;; to->number++) {
		copy_path(rebuild, to, path);
		r = check_free(path);
		if (r != -EEXIST || !to->is_unclaimed || to->number == UNCLAIMED_MAX)
			return r;
	}
}

static int move_copy(const struct rebuild *rebuild, struct rebuild_copy *copy)
{
	const char *directory = rebuild->disks[copy->disk].directory;
	struct rebuild_copy as = *copy;
	char from[4096], to[4096], above[4096];
	int r;

	as.is_unclaimed = !copy->is_unclaimed;
	if (as.is_unclaimed)
		snprintf(above, sizeof(above), "%s/unclaimed", directory);
	else
		snprintf(above, sizeof(above), "%s/groups/%02x", directory,
			 (unsigned)(copy->id & 0xff));
	r = make_directory(above);
	if (r == 0)
		r = io_directory_sync_above(above);
	if (r == 0)
		r = find_place(rebuild, &as, to);
	if (r < 0)
		return r;
	copy_path(rebuild, copy, from);
	r = io_rename(from, to);
	if (r == 0)
		r = io_directory_sync(above);
	if (r == 0)
		r = io_directory_sync_above(from);
	if (r == 0)
		*copy = as;
	return r;
}

/* Whether the row names a copy that lacks nothing. */
static bool has_whole(const struct rebuild_file *file)
{
	for (unsigned i = 0; i < file->copy_count; i++)
		if (file->copies[i].is_named && file->copies[i].content.bad == 0)
			return true;
	return false;
}

/* Two that have one number, as a catalog that was set back gives it twice. */
static bool is_other(const struct rebuild_file *file, const struct rebuild_copy *copy)
{
	const struct rebuild_content *content = &copy->content, *best = &file->content;

	return content->kind != REBUILD_NOTHING &&
	       (content->kind != best->kind || content->vdisk != best->vdisk ||
		content->group != best->group);
}

/* Of what no row names, the next start of the daemon makes spare files. That is right where it is
 * known that nobody misses it. */
static bool may_be_missed(struct rebuild *rebuild, const struct rebuild_file *file,
			  const struct rebuild_copy *copy)
{
	const struct rebuild_vdisk *vdisk;

	if (has_whole(file) && !is_other(file, copy))
		return false;
	if (copy->vdisk == 0)
		return copy->error || copy->content.is_damaged;
	vdisk = rebuild_vdisk_find(rebuild, copy->pool, copy->vdisk);
	return !vdisk->is_made || vdisk->is_doubtful;
}

static bool is_in_the_way(const struct rebuild_file *file, const struct rebuild_copy *copy)
{
	for (unsigned i = 0; i < file->copy_count; i++)
		if (file->copies[i].disk == copy->disk && file->copies[i].is_named &&
		    file->copies[i].is_unclaimed)
			return true;
	return false;
}

/* A pool is not opened without them. */
static int make_directories(const struct rebuild_disk *disk)
{
	char path[4096];
	int r;

	snprintf(path, sizeof(path), "%s/groups", disk->directory);
	r = make_directory(path);
	if (r == 0)
		r = io_directory_sync(disk->directory);
	for (unsigned i = 0; r == 0 && i < DIRECTORIES; i++) {
		snprintf(path, sizeof(path), "%s/groups/%02x", disk->directory, i);
		r = make_directory(path);
	}
	return r < 0 ? r : io_directory_sync_above(path);
}

int rebuild_files_move(struct rebuild *rebuild)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < rebuild->disk_count; i++)
		if (rebuild->disks[i].lacks_directories)
			r = make_directories(&rebuild->disks[i]);
	for (size_t i = 0; r == 0 && i < rebuild->file_count; i++) {
		const struct rebuild_file *file = &rebuild->files[i];

		for (unsigned n = 0; r == 0 && n < file->copy_count; n++) {
			struct rebuild_copy *copy = &file->copies[n];

			if (!copy->is_unclaimed && !copy->is_named &&
			    (may_be_missed(rebuild, file, copy) || is_in_the_way(file, copy)))
				r = move_copy(rebuild, copy);
		}
	}
	return r;
}

int rebuild_files_claim(struct rebuild *rebuild)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < rebuild->copy_count; i++)
		if (rebuild->copies[i].is_unclaimed && rebuild->copies[i].is_named)
			r = move_copy(rebuild, &rebuild->copies[i]);
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
		return r == -ENOENT || r == -ENOTDIR ? 0 : r;
	if (names.count > 0)
		r = make_directory(to);
	if (r == 0 && names.count > 0)
		r = io_directory_sync_above(to);
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
