/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool as an object: opening, closing, paths, information.
 *
 * Home reactor: the one that opened it. What others may use is said in pool.h and pool_priv.h.
 *
 * Opening reads the catalog's rows, compares the label, and sweeps the directories. Failure modes:
 * -ENOENT no such pool; -ENODEV the directory or its label is missing, or the label is another's;
 * -EUCLEAN, -EPROTONOSUPPORT the label or a row is damaged or too new. Nothing is changed on the
 * disk before the label has proved that it is the pool's.
 */
#include "pool/pool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "pool/pool_priv.h"
#include "pool/pool_rows.h"
#include "reactor/io.h"

static const char *const state_names[] = {
	[POOL_ONLINE] = "online",
	[POOL_FULL] = "full",
	[POOL_READ_ONLY] = "read-only",
};

/* Directories are at most POOL_DIRECTORY_MAX long, so nothing is ever cut. */
static void path_format(struct pool_path *ret_path, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void path_format(struct pool_path *ret_path, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(ret_path->text, sizeof(ret_path->text), format, arguments);
	va_end(arguments);
	ASSERT(length > 0 && (size_t)length < sizeof(ret_path->text));
}

void pool_path_of(const char *directory, const char *name, struct pool_path *ret_path)
{
	path_format(ret_path, "%s/%s", directory, name);
}

void pool_path_group_directory(const struct pool *pool, unsigned index, struct pool_path *ret_path)
{
	path_format(ret_path, "%s/groups/%02x", pool->directory, index);
}

void pool_path_group(const struct pool *pool, uint64_t file_id, struct pool_path *ret_path)
{
	path_format(ret_path, "%s/groups/%02x/%016" PRIx64 ".eg", pool->directory,
		    (unsigned)(file_id & 0xff), file_id);
}

void pool_path_spare(const struct pool *pool, uint64_t file_id, const char *suffix,
		     struct pool_path *ret_path)
{
	path_format(ret_path, "%s/spare/%016" PRIx64 "%s", pool->directory, file_id, suffix);
}

bool pool_path_parse(const char *name, const char *suffix, uint64_t *ret_id)
{
	uint64_t id = 0;

	if (strlen(name) != 16 + strlen(suffix) || strcmp(name + 16, suffix) != 0)
		return false;
	for (int i = 0; i < 16; i++) {
		const char *digits = "0123456789abcdef";
		const char *digit = strchr(digits, name[i]);

		if (!digit)
			return false;
		id = id << 4 | (uint64_t)(digit - digits);
	}
	if (id == 0)
		return false;
	*ret_id = id;
	return true;
}

/* A crash between the pool's rows and the last step of making it leaves label.new. */
static int label_find(const struct pool *pool, struct pool_label *ret_label, bool *ret_is_new)
{
	struct pool_path path;
	int r;

	pool_path_of(pool->directory, "label", &path);
	r = pool_label_read(path.text, ret_label);
	*ret_is_new = false;
	if (r != -ENOENT)
		return r;
	pool_path_of(pool->directory, "label.new", &path);
	*ret_is_new = true;
	return pool_label_read(path.text, ret_label);
}

static int label_finish(const struct pool *pool)
{
	struct pool_path from, to;
	int r;

	pool_path_of(pool->directory, "label.new", &from);
	pool_path_of(pool->directory, "label", &to);
	r = io_rename(from.text, to.text);
	return r ? r : io_directory_sync(pool->directory);
}

static int label_check(const struct pool *pool, bool read_only)
{
	struct pool_label label;
	bool is_new;
	int r = label_find(pool, &label, &is_new);

	if (r == -ENOENT) {
		log_error("pool", "the pool's label is missing: is its disk mounted?",
			  "pool=%s directory=\"%s\"", pool->name, pool->directory);
		return -ENODEV;
	}
	if (r)
		return r;
	if (label.pool_id != pool->id || label.disk_id != pool->disk_id ||
	    memcmp(label.uuid, pool->uuid, sizeof(pool->uuid)) != 0) {
		log_error("pool", "the directory belongs to another pool",
			  "pool=%s directory=\"%s\" label=%s label_id=%" PRIu64, pool->name,
			  pool->directory, label.name, label.pool_id);
		return -ENODEV;
	}
	return is_new && !read_only ? label_finish(pool) : 0;
}

static int read_identity(struct pool *pool, uint64_t *ret_capacity_bytes)
{
	_cleanup_(catalog_row_done) struct catalog_row raw = {0};
	struct pool_row row;
	struct pool_disk_row disk;
	int r = pool_rows_get_pool(pool->catalog, pool->id, &raw, &row);

	if (r == 0)
		r = pool_rows_get_disk(pool->catalog, pool->id, &pool->disk_id, &disk);
	if (r)
		return r;
	memcpy(pool->name, row.name, sizeof(pool->name));
	memcpy(pool->uuid, disk.uuid, sizeof(pool->uuid));
	pool->directory = strdup(disk.directory);
	if (!pool->directory)
		return -ENOMEM;
	snprintf(pool->file_counter, sizeof(pool->file_counter), "pool/%016" PRIx64 "/file",
		 pool->id);
	*ret_capacity_bytes = row.capacity_bytes;
	return 0;
}

static int find_directory(struct pool *pool, struct world_fs_stat *ret_fs)
{
	int r = io_fs_stat(pool->directory, ret_fs);

	if (r == 0)
		return 0;
	log_error("pool", "the pool's directory cannot be reached",
		  "pool=%s directory=\"%s\" error=%d", pool->name, pool->directory, r);
	return r == -ENOENT || r == -ENOTDIR ? -ENODEV : r;
}

static int open_at(struct pool *pool)
{
	struct world_fs_stat fs;
	uint64_t capacity;
	int r = read_identity(pool, &capacity);

	if (r == 0)
		r = find_directory(pool, &fs);
	if (r == 0)
		r = label_check(pool, fs.read_only);
	if (r)
		return r;
	pool_space_init(pool, pool_space_capacity(capacity, &fs));
	if (fs.read_only)
		(void)pool_state_note(pool, -EROFS); /* returns its argument */
	return pool_sweep(pool, fs.read_only);
}

static void pool_free(struct pool *pool)
{
	pool_spare_done(pool);
	pool_table_done(&pool->files);
	free(pool->directory);
	free(pool);
}

int pool_open(struct world *world, struct catalog *catalog, uint64_t id, struct pool **ret_pool)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	int r;

	ASSERT(fiber_current());
	if (!pool)
		return -ENOMEM;
	pool->world = world;
	pool->catalog = catalog;
	pool->home = reactor_current();
	pool->id = id;
	list_init(&pool->spares);
	pool_wait_init(pool);
	pool_keeper_start(pool);
	r = open_at(pool);
	if (r) {
		pool_close(pool);
		return r;
	}
	*ret_pool = pool;
	return 0;
}

void pool_close(struct pool *pool)
{
	if (!pool)
		return;
	reactor_assert_home(pool->home);
	pool_keeper_stop(pool);
	pool_wait_done(pool);
	for (size_t i = 0; i < pool->files.capacity; i++)
		ASSERT(pool->files.entries[i].state == POOL_TABLE_CLOSED);
	pool_free(pool);
}

uint64_t pool_id(const struct pool *pool)
{
	return pool->id;
}

uint64_t pool_first_disk(const struct pool *pool)
{
	return pool->disk_id;
}

struct catalog *pool_catalog(struct pool *pool)
{
	return pool->catalog;
}

uint64_t pool_group_bytes(const struct pool *pool)
{
	return pool->group_bytes;
}

void pool_get_info(struct pool *pool, struct pool_info *ret_info)
{
	*ret_info = (struct pool_info){
		.id = pool->id,
		.state = state_names[atomic_load(&pool->state)],
	};
	memcpy(ret_info->name, pool->name, sizeof(ret_info->name));
	memcpy(ret_info->directory, pool->directory, strlen(pool->directory));
	pool_get_space(pool, &ret_info->space);
}

void pool_check(const struct pool *pool)
{
	struct pool *p = (struct pool *)pool;
	uint64_t used = 0, spare_bytes = 0;
	struct pool_spare *spare;
	unsigned count = 0;

	reactor_assert_home(pool->home);
	for (size_t i = 0; i < pool->files.capacity; i++)
		used += pool->files.entries[i].pages * POOL_PAGE_BYTES;
	LIST_FOR_EACH (&p->spares, spare, struct pool_spare, link) {
		spare_bytes += spare->size_bytes;
		count++;
	}
	ASSERT(used <= atomic_load(&p->used)); /* more while a file is being taken */
	ASSERT(spare_bytes == atomic_load(&p->spare) && count == pool->spare_count);
	ASSERT(count <= POOL_SPARES_MAX);
}
