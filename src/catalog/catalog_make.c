/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/catalog_make.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "catalog/catalog_priv.h"
#include "reactor/io.h"

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

static int move_aside(const char *path, const char *name, const char *suffix)
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

/* The hint first: without it nothing is made again from mirrors, should this end here. The old WAL
 * must be gone before the new database has the name that it belongs to. */
int catalog_make_replace(const char *path, const char *suffix)
{
	_cleanup_free_ char *new_path = NULL;
	int r;

	if (asprintf(&new_path, "%s-new", path) < 0)
		return -ENOMEM;
	r = move_aside(path, "-mirrors", suffix);
	if (r == 0)
		r = move_aside(path, "", suffix);
	if (r == 0)
		r = move_aside(path, "-wal", suffix);
	if (r == 0)
		r = io_directory_sync_above(path);
	if (r == 0)
		r = io_rename(new_path, path);
	return r ? r : io_directory_sync_above(path);
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
