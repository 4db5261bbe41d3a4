/* SPDX-License-Identifier: Apache-2.0 */
/* The directories of pools: labels, and which files are there. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fsck/fsck_file_name.h"
#include "fsck/fsck_priv.h"
#include "reactor/io.h"

#define DIRECTORIES 256u

struct fsck_disk *fsck_disk_of(const struct fsck *fsck, const struct fsck_file *file, unsigned copy)
{
	uint64_t id = file->row.copies.disks[copy];

	for (size_t i = 0; i < fsck->disk_count; i++)
		/* Disk 0: the pool's first, which comes first. */
		if (fsck->disks[i].pool == file->pool && (fsck->disks[i].id == id || id == 0))
			return &fsck->disks[i];
	return NULL;
}

unsigned fsck_file_copies(const struct fsck *fsck, const struct fsck_file *file)
{
	return file->there & ~file->row.copies.stale;
}

void fsck_file_path(const struct fsck *fsck, const struct fsck_file *file, unsigned copy,
		    char path[4096])
{
	const struct fsck_disk *disk = fsck_disk_of(fsck, file, copy);

	snprintf(path, 4096, "%s/groups/%02x/%016" PRIx64 ".eg", disk->directory,
		 (unsigned)(file->row.id & 0xff), file->row.id);
}

int fsck_file_open(const struct fsck *fsck, const struct fsck_file *file, unsigned copy,
		   struct world_file **ret_file)
{
	char path[4096];

	fsck_file_path(fsck, file, copy, path);
	return io_open(path, WORLD_FILE_READ_ONLY | WORLD_FILE_DIRECT, ret_file);
}

uint64_t fsck_file_needs(const struct fsck_file *file)
{
	if (file->row.compacted)
		return ((uint64_t)file->row.index_blocks + file->row.total_slots) * BLOCK_BYTES;
	return file->group && file->group->row.sealed
		       ? (uint64_t)file->group->row.slots * BLOCK_BYTES
		       : 0;
}

void fsck_file_object(const struct fsck_file *file, uint64_t disk, char object[FSCK_OBJECT_MAX])
{
	snprintf(object, FSCK_OBJECT_MAX,
		 disk ? "vDisk %" PRIu64 ", file %016" PRIx64 " on disk %" PRIu64
		      : "vDisk %" PRIu64 ", file %016" PRIx64,
		 file->vdisk, file->row.id, disk);
}

static void found_file(struct fsck *fsck, const struct fsck_disk *disk, struct fsck_file *file,
		       const char *path)
{
	struct world_stat stat;
	char object[FSCK_OBJECT_MAX];
	int r = io_stat(path, &stat);

	fsck_file_object(file, disk->id, object);
	if (r < 0)
		fsck_find(fsck, FSCK_READ, object, "the file cannot be looked at: %s",
			  strerror(-r));
	for (unsigned copy = 0; copy < file->row.copies.count; copy++) {
		if (fsck_disk_of(fsck, file, copy) != disk)
			continue;
		if (r < 0) {
			file->unseen |= 1u << copy;
			continue;
		}
		file->found_bytes[copy] = stat.size_bytes;
		if (stat.size_bytes >= fsck_file_needs(file))
			file->there |= 1u << copy;
	}
}

static bool is_copy_on(const struct fsck *fsck, const struct fsck_file *file,
		       const struct fsck_disk *disk)
{
	for (unsigned copy = 0; file && copy < file->row.copies.count; copy++)
		if (fsck_disk_of(fsck, file, copy) == disk)
			return true;
	return false;
}

/* Its row goes, because no group is in it. */
static bool loses_row(const struct fsck *fsck, const struct fsck_file *file)
{
	const struct fsck_vdisk *vdisk = fsck_vdisk_find(fsck, file->vdisk);

	return file->group_count == 0 && !(vdisk && vdisk->row.deleting) && !fsck->rows_missing &&
	       !fsck->rows_doubtful;
}

static void note_id(const struct fsck *fsck, const struct fsck_disk *disk, uint64_t id)
{
	struct fsck_pool *pool = fsck_pool_find(fsck, disk->pool);

	if (pool)
		pool->largest_file = MAX(pool->largest_file, id);
}

static void tell_stranger(struct fsck *fsck, const char *path)
{
	fsck_find(fsck, FSCK_FILE_LEFT, path, "this is no file of a pool");
}

static int found_name(struct fsck *fsck, const struct fsck_disk *disk, unsigned directory,
		      const char *name)
{
	char path[4096];
	struct fsck_file *file;
	uint64_t id;

	if (snprintf(path, sizeof(path), "%s/groups/%02x/%s", disk->directory, directory, name) >=
	    (int)sizeof(path))
		return 0;
	if (!fsck_file_name_parse(name, ".eg", &id) || id > FSCK_ID_MAX ||
	    (id & 0xff) != directory) {
		tell_stranger(fsck, path);
		return 0;
	}
	note_id(fsck, disk, id);
	file = fsck_file_find(fsck, disk->pool, id);
	if (!is_copy_on(fsck, file, disk) || loses_row(fsck, file))
		return fsck_left_file(fsck, disk, path, id);
	found_file(fsck, disk, file, path);
	return 0;
}

static bool parse_spare(const char *name, uint64_t *ret_id)
{
	return fsck_file_name_parse(name, ".sp", ret_id) ||
	       fsck_file_name_parse(name, ".new", ret_id);
}

static bool parse_unclaimed(const char *name, uint64_t *ret_id)
{
	unsigned number;

	return fsck_file_name_parse_unclaimed(name, ret_id, &number);
}

/* Ids are not given twice: those of files that lie elsewhere count. */
static int note_ids(struct fsck *fsck, const struct fsck_disk *disk, const char *directory,
		    bool (*parse)(const char *name, uint64_t *ret_id))
{
	struct world_names names;
	char path[4096];
	uint64_t id;
	int length, r;

	length = snprintf(path, sizeof(path), "%s/%s", disk->directory, directory);
	if (length >= (int)sizeof(path))
		return -ENAMETOOLONG;
	r = io_directory_list(path, &names);
	if (r < 0) /* it need not be there, and nothing is known of it then */
		return r == -ESHUTDOWN || r == -ENOMEM ? r : 0;
	for (size_t i = 0; i < names.count; i++) {
		bool is_ours = parse(names.names[i], &id);

		if (is_ours && id <= FSCK_ID_MAX) {
			note_id(fsck, disk, id);
		} else if (!is_ours || id != UINT64_MAX) { /* that is left of trying the disk */
			snprintf(path + length, sizeof(path) - (size_t)length, "/%s",
				 names.names[i]);
			tell_stranger(fsck, path);
		}
	}
	world_names_free(&names);
	return 0;
}

static int list_directory(struct fsck *fsck, struct fsck_disk *disk, unsigned directory)
{
	struct world_names names;
	char path[4096];
	int r;

	if (snprintf(path, sizeof(path), "%s/groups/%02x", disk->directory, directory) >=
	    (int)sizeof(path))
		return -ENAMETOOLONG;
	r = io_directory_list(path, &names);
	if (r == -ESHUTDOWN || r == -ENOMEM)
		return r;
	if (r < 0) {
		fsck_bit_set(disk->unlisted, directory);
		fsck_find(fsck, FSCK_DISK, path, "the directory cannot be listed: %s",
			  strerror(-r));
		return 0;
	}
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = found_name(fsck, disk, directory, names.names[i]);
	world_names_free(&names);
	return r;
}

static bool label_is_right(struct fsck *fsck, const struct fsck_disk *disk)
{
	struct pool_label label;
	char path[4096];
	int r;

	if (snprintf(path, sizeof(path), "%s/label", disk->directory) >= (int)sizeof(path))
		return false;
	r = pool_label_read(path, &label);
	if (r < 0)
		fsck_find(fsck, FSCK_DISK, path, "%s",
			  r == -ENOENT    ? "there is no label: is the disk mounted?"
			  : r == -EUCLEAN ? "the label is damaged"
					  : (r == -EPROTONOSUPPORT
						     ? "the label was written by a newer version"
						     : strerror(-r)));
	else if (label.pool_id != disk->pool || label.disk_id != disk->id ||
		 memcmp(label.uuid, disk->uuid, sizeof(disk->uuid)) != 0)
		fsck_find(fsck, FSCK_DISK, path,
			  "the label is that of disk %" PRIu64 " of pool %" PRIu64 " (%s)",
			  label.disk_id, label.pool_id, label.name);
	else
		return true;
	return false;
}

static int check_disk(struct fsck *fsck, struct fsck_disk *disk)
{
	int r = 0;

	disk->usable = label_is_right(fsck, disk);
	for (unsigned i = 0; r == 0 && disk->usable && i < DIRECTORIES; i++)
		r = list_directory(fsck, disk, i);
	if (r == 0 && disk->usable)
		r = note_ids(fsck, disk, "spare", parse_spare);
	if (r == 0 && disk->usable)
		r = note_ids(fsck, disk, "unclaimed", parse_unclaimed);
	return r;
}

void fsck_file_missing(struct fsck *fsck, struct fsck_file *file)
{
	char object[FSCK_OBJECT_MAX];

	for (unsigned copy = 0; !file->told && copy < file->row.copies.count; copy++) {
		if (!(file->missing >> copy & 1))
			continue;
		fsck_file_object(file, fsck_disk_of(fsck, file, copy)->id, object);
		if (file->found_bytes[copy] == 0)
			fsck_find(fsck, FSCK_FILE_MISSING, object, "the file is missing");
		else
			fsck_find(fsck, FSCK_FILE_MISSING, object,
				  "the file has %" PRIu64 " bytes, its groups need %" PRIu64,
				  file->found_bytes[copy], fsck_file_needs(file));
	}
	file->told = true;
}

/* Copies on disks that are not there were told with the disk; stale ones may be missing. */
static void find_missing(struct fsck *fsck, struct fsck_file *file)
{
	const struct fsck_vdisk *vdisk = fsck_vdisk_find(fsck, file->vdisk);

	for (unsigned copy = 0; copy < file->row.copies.count; copy++) {
		const struct fsck_disk *disk = fsck_disk_of(fsck, file, copy);

		if (disk && fsck_bit(disk->unlisted, (unsigned)(file->row.id & 0xff)))
			file->unseen |= 1u << copy;
		if (disk && disk->usable &&
		    !((file->there | file->unseen | file->row.copies.stale) >> copy & 1))
			file->missing |= 1u << copy;
	}
	/* A delete removes the file before its row is gone for certain; the row of an empty one
	 * goes. */
	file->told = vdisk && (vdisk->row.deleting || loses_row(fsck, file));
	/* Others: once it is known what the other copies have. */
	if (!vdisk || vdisk->row.pool != file->pool || !file->group)
		fsck_file_missing(fsck, file);
}

/* The next start of the daemon clears it; it may have no label any more. */
static bool is_being_deleted(const struct fsck *fsck, const struct fsck_disk *disk)
{
	const struct fsck_pool *pool = fsck_pool_find(fsck, disk->pool);

	return pool && pool->row.deleting;
}

int fsck_disks_check(struct fsck *fsck)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < fsck->disk_count; i++)
		if (!is_being_deleted(fsck, &fsck->disks[i]))
			r = check_disk(fsck, &fsck->disks[i]);
	for (size_t i = 0; r == 0 && i < fsck->file_count; i++) {
		struct fsck_file *file = &fsck->files[i];

		find_missing(fsck, file);
		fsck->total_bytes += (unsigned)__builtin_popcount(fsck_file_copies(fsck, file)) *
				     MAX(fsck_file_needs(file), (uint64_t)BLOCK_BYTES);
	}
	return r;
}
