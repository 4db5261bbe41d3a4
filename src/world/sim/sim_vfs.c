/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SQLite's view of the simulated disks, as close to its own unix VFS as matters: errors map to the
 * same codes, sectors and device characteristics are the same. Calls come from worker jobs and
 * take no virtual time; the fault, crash and durability rules are those of sim_file.c. There is no
 * shared memory, so WAL mode works only with locking_mode=EXCLUSIVE.
 *
 * The first sync of a journal that was opened also syncs its directory. The unix VFS does so only
 * when it created the journal, and otherwise leans on what Linux's file systems do: a sync of a
 * file commits its name too. Without that, SQLite has a hole: a process makes a new WAL in place of
 * a deleted one and dies; the next one commits to it; after a loss of power the old WAL is back.
 *
 * SQLite's own random numbers are seeded too, because they end up in files.
 */
#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "world/sim/sim_priv.h"

#define SECTOR_BYTES 4096 /* what the unix VFS says */
#define PATH_MAX_BYTES 1024

struct vfs_file {
	sqlite3_file base;
	struct world_file *file;
	char *path;          /* NULL for a temporary file */
	bool sync_directory; /* with the next sync */
	bool delete_on_close;
	bool keep_wal;
	int lock;
};

static struct sim *served; /* NULL while no simulation exists */

static struct vfs_file *own(sqlite3_file *file)
{
	return (struct vfs_file *)file;
}

/* Remembers the error for sqlite3_system_errno(). */
static int fail(int error, int code)
{
	served->vfs_errno = -error;
	return error == -ENOSPC ? SQLITE_FULL : code;
}

static int unlock(sqlite3_file *base, int level)
{
	struct vfs_file *file = own(base);
	struct sim_node *node = file->file->node;

	if (file->lock <= level)
		return SQLITE_OK;
	if (node->lock_exclusive == file)
		node->lock_exclusive = NULL;
	if (node->lock_reserved == file)
		node->lock_reserved = NULL;
	if (level == SQLITE_LOCK_NONE)
		node->lock_shared--;
	file->lock = level;
	return SQLITE_OK;
}

static int lock(sqlite3_file *base, int level)
{
	struct vfs_file *file = own(base);
	struct sim_node *node = file->file->node;
	bool excluded = node->lock_exclusive && node->lock_exclusive != file;
	bool reserved = node->lock_reserved && node->lock_reserved != file;

	if (file->lock >= level)
		return SQLITE_OK;
	if (excluded || (level > SQLITE_LOCK_SHARED && reserved) ||
	    (level == SQLITE_LOCK_EXCLUSIVE && node->lock_shared > 1))
		return SQLITE_BUSY;
	if (file->lock == SQLITE_LOCK_NONE)
		node->lock_shared++;
	if (level == SQLITE_LOCK_RESERVED)
		node->lock_reserved = file;
	if (level == SQLITE_LOCK_EXCLUSIVE)
		node->lock_exclusive = file;
	file->lock = level;
	return SQLITE_OK;
}

static int check_reserved_lock(sqlite3_file *base, int *ret_reserved)
{
	const struct sim_node *node = own(base)->file->node;

	*ret_reserved = node->lock_reserved || node->lock_exclusive;
	return SQLITE_OK;
}

static int vfs_close(sqlite3_file *base)
{
	struct vfs_file *file = own(base);

	(void)unlock(base, SQLITE_LOCK_NONE); /* cannot fail */
	sim_file_free(file->file);
	if (file->delete_on_close && file->path)
		(void)sim_path_do_unlink(served, file->path); /* as in the unix VFS */
	free(file->path);
	return SQLITE_OK;
}

static int vfs_read(sqlite3_file *base, void *buffer, int length, sqlite3_int64 offset)
{
	struct iovec iov = {.iov_base = buffer, .iov_len = (size_t)length};
	struct world_file *file = own(base)->file;
	int64_t n = sim_file_do_read(file, sim_cursor(&iov, 1), (uint64_t)offset);

	sim_trace(served, "vfs-read", file->node->id, (uint64_t)offset, n);
	if (n < 0)
		return fail((int)n, SQLITE_IOERR_READ);
	if (n == length)
		return SQLITE_OK;
	memset((uint8_t *)buffer + n, 0, (size_t)(length - n));
	return SQLITE_IOERR_SHORT_READ;
}

static int vfs_write(sqlite3_file *base, const void *buffer, int length, sqlite3_int64 offset)
{
	struct iovec iov = {.iov_base = (void *)buffer, .iov_len = (size_t)length};
	struct world_file *file = own(base)->file;
	uint64_t change;
	int64_t n = sim_file_do_write(file, sim_cursor(&iov, 1), (uint64_t)offset, &change);

	sim_undo_completed(file->node, change, ++served->stamp);
	sim_trace(served, "vfs-write", file->node->id, (uint64_t)offset, n);
	return n < 0 ? fail((int)n, SQLITE_IOERR_WRITE) : SQLITE_OK;
}

static int vfs_truncate(sqlite3_file *base, sqlite3_int64 size)
{
	struct world_file *file = own(base)->file;
	uint64_t change;
	int r = sim_file_do_resize(file, (uint64_t)size, false, &change);

	sim_undo_completed(file->node, change, ++served->stamp);
	sim_trace(served, "vfs-truncate", file->node->id, (uint64_t)size, r);
	return r < 0 ? fail(r, SQLITE_IOERR_TRUNCATE) : SQLITE_OK;
}

static int sync_directory_of(const char *path)
{
	_cleanup_free_ char *directory = strdup(path);
	char *slash = directory ? strrchr(directory, '/') : NULL;

	if (!directory)
		return -ENOMEM;
	if (!slash)
		return 0;
	slash[slash == directory] = '\0';
	return sim_path_do_directory_sync(served, directory, ++served->stamp);
}

static int vfs_sync(sqlite3_file *base, int flags)
{
	struct vfs_file *file = own(base);
	int r = sim_file_do_sync(file->file, ++served->stamp);

	(void)flags; /* every sync is a full one */
	sim_trace(served, "vfs-sync", file->file->node->id, 0, r);
	if (r < 0)
		return fail(r, SQLITE_IOERR_FSYNC);
	if (!file->sync_directory)
		return SQLITE_OK;
	r = sync_directory_of(file->path);
	if (r < 0)
		return fail(r, SQLITE_IOERR_DIR_FSYNC);
	file->sync_directory = false;
	return SQLITE_OK;
}

static int vfs_file_size(sqlite3_file *base, sqlite3_int64 *ret_size)
{
	int r = sim_gate(served, 0);

	if (r < 0)
		return fail(r, SQLITE_IOERR_FSTAT);
	*ret_size = (sqlite3_int64)own(base)->file->node->size_bytes;
	return SQLITE_OK;
}

static int vfs_control(sqlite3_file *base, int operation, void *arg)
{
	struct vfs_file *file = own(base);
	int *value = arg;

	if (operation == SQLITE_FCNTL_LOCKSTATE) {
		*value = file->lock;
		return SQLITE_OK;
	}
	if (operation != SQLITE_FCNTL_PERSIST_WAL)
		return SQLITE_NOTFOUND;
	if (*value < 0)
		*value = file->keep_wal;
	else
		file->keep_wal = *value > 0;
	return SQLITE_OK;
}

static int vfs_sector_size(sqlite3_file *base)
{
	(void)base;
	return SECTOR_BYTES;
}

static int vfs_characteristics(sqlite3_file *base)
{
	(void)base;
	/* A torn write damages no bytes outside of it. */
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods methods = {
	.iVersion = 1,
	.xClose = vfs_close,
	.xRead = vfs_read,
	.xWrite = vfs_write,
	.xTruncate = vfs_truncate,
	.xSync = vfs_sync,
	.xFileSize = vfs_file_size,
	.xLock = lock,
	.xUnlock = unlock,
	.xCheckReservedLock = check_reserved_lock,
	.xFileControl = vfs_control,
	.xSectorSize = vfs_sector_size,
	.xDeviceCharacteristics = vfs_characteristics,
};

/* A file without a name, on the first disk. */
static int open_temporary(struct world_file **ret_file)
{
	struct sim_disk *disk;
	struct sim_node *node;
	int r = sim_gate(served, 0);

	if (r < 0)
		return r;
	if (list_is_empty(&served->disks))
		return -ENOENT;
	disk = CONTAINER_OF(list_front(&served->disks), struct sim_disk, link);
	node = sim_tree_node_new(disk, false);
	*ret_file = sim_file_new(served, node, 0);
	sim_node_unref(node);
	return 0;
}

static int open_named(const char *path, int *flags, struct world_file **ret_file)
{
	unsigned own_flags = *flags & SQLITE_OPEN_READWRITE ? 0 : WORLD_FILE_READ_ONLY;
	int r;

	if (*flags & SQLITE_OPEN_CREATE)
		own_flags |= WORLD_FILE_CREATE;
	if (*flags & SQLITE_OPEN_EXCLUSIVE)
		own_flags |= WORLD_FILE_EXCLUSIVE;
	r = sim_file_do_open(served, path, own_flags, ret_file);
	if (r != -EROFS || !(*flags & SQLITE_OPEN_READWRITE))
		return r;
	*flags &= ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
	*flags |= SQLITE_OPEN_READONLY;
	return sim_file_do_open(served, path, WORLD_FILE_READ_ONLY, ret_file);
}

static int vfs_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags,
		    int *ret_flags)
{
	const int journals =
		SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL;
	struct vfs_file *file = own(base);
	struct world_file *opened = NULL;
	char *copy = NULL;
	int r;

	(void)vfs;
	memset(file, 0, sizeof(*file)); /* no methods: SQLite does not close it when this fails */
	r = path ? open_named(path, &flags, &opened) : open_temporary(&opened);
	sim_trace(served, "vfs-open", (uint64_t)flags, path ? strlen(path) : 0, r);
	if (r < 0)
		return fail(r, SQLITE_CANTOPEN);
	if (path) {
		copy = strdup(path);
		ASSERT(copy);
	}
	file->base.pMethods = &methods;
	opened->never_flips = true;
	file->file = opened;
	file->path = copy;
	file->sync_directory = path && (flags & journals);
	file->delete_on_close = flags & SQLITE_OPEN_DELETEONCLOSE;
	if (ret_flags)
		*ret_flags = flags;
	return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *path, int sync_directory)
{
	int r = sim_path_do_unlink(served, path);

	(void)vfs;
	sim_trace(served, "vfs-delete", strlen(path), (uint64_t)sync_directory, r);
	if (r < 0)
		return fail(r, r == -ENOENT ? SQLITE_IOERR_DELETE_NOENT : SQLITE_IOERR_DELETE);
	if (!sync_directory)
		return SQLITE_OK;
	r = sync_directory_of(path);
	return r < 0 ? fail(r, SQLITE_IOERR_DIR_FSYNC) : SQLITE_OK;
}

static int vfs_access(sqlite3_vfs *vfs, const char *path, int flags, int *ret_result)
{
	struct sim_place place;
	int r = sim_gate(served, 0);

	(void)vfs;
	if (r < 0)
		return fail(r, SQLITE_IOERR_ACCESS);
	r = sim_tree_resolve(served, path, &place);
	*ret_result = r == 0 && place.node;
	/* As in the unix VFS, an empty file counts as absent. */
	if (*ret_result && flags == SQLITE_ACCESS_EXISTS && !place.node->directory)
		*ret_result = place.node->size_bytes > 0;
	if (*ret_result && flags == SQLITE_ACCESS_READWRITE)
		*ret_result = !place.disk->read_only;
	return SQLITE_OK;
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *path, int size, char *ret_path)
{
	(void)vfs;
	if (strlen(path) >= (size_t)size)
		return SQLITE_CANTOPEN;
	memcpy(ret_path, path, strlen(path) + 1);
	return SQLITE_OK;
}

static int vfs_randomness(sqlite3_vfs *vfs, int length, char *ret_bytes)
{
	(void)vfs;
	sim_random_fill(&served->program, ret_bytes, (size_t)length);
	return length;
}

static int vfs_sleep(sqlite3_vfs *vfs, int microseconds)
{
	(void)vfs;
	return microseconds;
}

static int vfs_time(sqlite3_vfs *vfs, sqlite3_int64 *ret_ms)
{
	const sqlite3_int64 unix_epoch_ms = 24405875 * (sqlite3_int64)8640000;

	(void)vfs;
	*ret_ms = unix_epoch_ms + (sqlite3_int64)((served->now_ns + served->wall_offset_ns) /
						  NSEC_PER_MSEC);
	return SQLITE_OK;
}

static int vfs_last_error(sqlite3_vfs *vfs, int size, char *ret_text)
{
	(void)vfs;
	(void)size;
	(void)ret_text;
	return served->vfs_errno;
}

static sqlite3_vfs sim_vfs = {
	.iVersion = 2,
	.szOsFile = sizeof(struct vfs_file),
	.mxPathname = PATH_MAX_BYTES,
	.zName = SIM_VFS_NAME,
	.xOpen = vfs_open,
	.xDelete = vfs_delete,
	.xAccess = vfs_access,
	.xFullPathname = vfs_full_path,
	.xRandomness = vfs_randomness,
	.xSleep = vfs_sleep,
	.xGetLastError = vfs_last_error,
	.xCurrentTimeInt64 = vfs_time,
};

void sim_vfs_register(struct sim *sim)
{
	int rc;

	served = sim;
	rc = sqlite3_vfs_register(&sim_vfs, 0);
	ASSERT(rc == SQLITE_OK);
	rc = sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, (int)(sim->seed | 1), NULL);
	ASSERT(rc == SQLITE_OK);
}

void sim_vfs_unregister(struct sim *sim)
{
	int rc = sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, 0, NULL);

	ASSERT(served == sim && rc == SQLITE_OK);
	rc = sqlite3_vfs_unregister(&sim_vfs);
	ASSERT(rc == SQLITE_OK);
	served = NULL;
}
