/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/catalog_make.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "catalog/catalog_priv.h"
#include "catalog/store.h"
#include "reactor/io.h"

#define COPY_BYTES (256u << 10)

_Static_assert(ARRAY_SIZE(((struct catalog_make_hint *)0)->directories) == CATALOG_MIRRORS_MAX,
	       "room for all mirrors");

static int compare_rows(const void *a, const void *b)
{
	const struct catalog_row *x = a, *y = b;

	return mirror_key_compare(&x->key, &y->key);
}

int catalog_make_new(const struct catalog_options *options, struct catalog_rows *rows)
{
	const struct mirror_rows all = {
		.count = rows->count, .capacity = rows->count, .rows = rows->rows};
	/* The row of the format is there in every new database. */
	struct catalog_position position = {
		.generation = 1, .sequence = 1, .rows = rows->count + 1};
	struct world *world = reactor_world(reactor_current());

	qsort(rows->rows, rows->count, sizeof(rows->rows[0]), compare_rows);
	for (size_t i = 0; i < rows->count; i++) {
		rows->rows[i].version = 1;
		if (i > 0 && compare_rows(&rows->rows[i - 1], &rows->rows[i]) == 0)
			return -EUCLEAN;
	}
	world->ops->random(world, position.uuid, sizeof(position.uuid));
	return mirror_restore_fill(options, &all, &position);
}

static int rename_aside(const char *path, const char *name, const char *suffix)
{
	_cleanup_free_ char *from = NULL, *to = NULL;
	int r;

	if (asprintf(&from, "%s%s", path, name) < 0)
		return -ENOMEM;
	if (asprintf(&to, "%s%s%s", path, suffix, name) < 0)
		return -ENOMEM;
	r = io_rename(from, to);
	return r == -ENOENT ? 0 : r;
}

static int copy_bytes(struct world_file *from, struct world_file *to, void *buffer)
{
	uint64_t offset = 0;
	int64_t got;
	int r = 0;

	while (r == 0) {
		got = io_read(from, buffer, COPY_BYTES, offset);
		if (got <= 0)
			return got < 0 ? (int)got : io_sync(to);
		r = io_write(to, buffer, (size_t)got, offset);
		offset += (uint64_t)got;
	}
	return r;
}

static int copy_file(const char *from, const char *to)
{
	_cleanup_free_ void *buffer = malloc(COPY_BYTES);
	struct world_file *source, *target;
	int r = buffer ? io_unlink(to) : -ENOMEM; /* of a run that was cut off */

	if (r == 0 || r == -ENOENT)
		r = io_open(from, WORLD_FILE_READ_ONLY, &source);
	if (r < 0)
		return r;
	r = io_open(to, WORLD_FILE_CREATE, &target);
	if (r == 0) {
		r = copy_bytes(source, target, buffer);
		(void)io_close(target); /* was synced, or is of no use */
	}
	(void)io_close(source); /* was only read */
	return r;
}

struct folding {
	const struct catalog_options *options;
	int result;
};

static void fold_work(void *arg)
{
	struct folding *folding = arg;
	struct catalog_options options = *folding->options;
	struct store *store = NULL;

	options.create = false;
	folding->result = store_open(&options, &store);
	store_close(store);
}

/* What is in the WAL of a catalog that can be used goes into its database: that is all of it then,
 * and can be replaced in one step. Another cannot be lost any more. */
static int fold_wal(const struct catalog_options *options, bool *ret_is_usable)
{
	struct folding folding = {.options = options};
	int r = io_job(fold_work, &folding);

	*ret_is_usable = r == 0 && folding.result == 0;
	if (r == 0 && (folding.result == -ENOMEM || folding.result == -ESHUTDOWN))
		r = folding.result;
	return r;
}

/* The old WAL must be gone before the new database has the name that it belongs to. */
int catalog_replace(const struct catalog_options *options, const char *suffix)
{
	_cleanup_free_ char *new_path = NULL, *aside = NULL;
	const char *path = options->path;
	bool is_usable;
	int r;

	if (asprintf(&new_path, "%s-new", path) < 0)
		return -ENOMEM;
	if (asprintf(&aside, "%s%s", path, suffix) < 0)
		return -ENOMEM;
	r = fold_wal(options, &is_usable);
	if (r == 0)
		r = is_usable ? copy_file(path, aside) : rename_aside(path, "", suffix);
	if (r == 0)
		r = rename_aside(path, "-wal", suffix);
	if (r == 0)
		r = io_directory_sync_above(path);
	if (r == 0)
		r = io_rename(new_path, path);
	return r ? r : io_directory_sync_above(path);
}

/* The hint first: without it nothing is made again from mirrors, should this end here. */
int catalog_make_replace(const struct catalog_options *options, const char *suffix)
{
	int r = rename_aside(options->path, "-mirrors", suffix);

	return r ? r : catalog_replace(options, suffix);
}

int catalog_make_read_hint(const char *path, struct catalog_make_hint *ret_hint)
{
	_cleanup_(mirror_standings_done) struct mirror_standings standings = {0};
	int r = mirror_hint_read(path, &standings);

	*ret_hint = (struct catalog_make_hint){0};
	if (r == -ENOENT || r == -EUCLEAN)
		return 0;
	for (unsigned i = 0; r == 0 && i < standings.count; i++) {
		ret_hint->directories[i] = strdup(standings.mirrors[i].directory);
		if (!ret_hint->directories[i])
			r = -ENOMEM;
		ret_hint->count++;
	}
	if (r < 0)
		catalog_make_hint_done(ret_hint);
	return r;
}

void catalog_make_hint_done(struct catalog_make_hint *hint)
{
	for (unsigned i = 0; i < hint->count; i++)
		free(hint->directories[i]);
	*hint = (struct catalog_make_hint){0};
}
