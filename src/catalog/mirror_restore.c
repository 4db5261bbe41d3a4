/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the database again from a mirror.
 *
 * Order: the mirror is read and checked in whole; the hint says where it is, so that a crash in the
 * middle leads here again; a new database is filled under another name and synced; what was there
 * is renamed to FILE.replaced-SECONDS; the new one takes its name. Its generation is greater than
 * that of all mirrors and of what was replaced, so these are older from now on, and if the replaced
 * file comes back, the mirrors prove that it is.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "catalog/catalog_priv.h"
#include "reactor/io.h"

struct restore {
	const struct catalog_options *options;
	struct catalog_report *report;
	struct mirror_look look;
	struct mirror_rows rows;
	char *directory; /* of the mirror that is taken */
	struct catalog_position position;
	struct lineage lineage; /* of the database that is there */
	uint64_t timeout_ns;    /* of a disk */
	int result;
};

static void restore_free(struct restore *restore)
{
	mirror_rows_done(&restore->rows);
	free(restore->directory);
	free(restore);
}

DEFINE_CLEANUP(struct restore *, restore_free)

static void tell_report(struct restore *restore, const char *directory, int error)
{
	struct catalog_report *report = restore->report;
	size_t length = MIN(strlen(directory), sizeof(report->directory) - 1);

	memcpy(report->directory, directory, length);
	report->directory[length] = '\0';
	report->mirror_error = error;
}

static int take(struct restore *restore, const char *directory)
{
	int r;

	mirror_rows_done(&restore->rows);
	free(restore->directory);
	restore->directory = strdup(directory);
	r = restore->directory ? mirror_load_within(directory, restore->timeout_ns, &restore->look,
						    &restore->rows)
			       : -ENOMEM;
	if (r == 0 && restore->look.damaged)
		r = -EUCLEAN;
	if (r) {
		log_error("catalog", "a mirror cannot be read", "directory=\"%s\" error=%d",
			  directory, r);
		tell_report(restore, directory, r);
	}
	return r;
}

static bool is_fatal(int error)
{
	return error == -ENOMEM || error == -ESHUTDOWN;
}

static int lineage_of(const struct mirror_rows *rows, struct lineage *ret_lineage)
{
	const struct catalog_key key = lineage_key();
	const struct catalog_row *row = mirror_rows_find(rows, &key);

	*ret_lineage = (struct lineage){0};
	return row ? lineage_decode(row->value, row->length, ret_lineage) : 0;
}

/* How another mirror is to the one that was taken. */
enum relation {
	RELATION_NONE, /* older, of another catalog, or not to be read whole: it helps nobody */
	RELATION_NEWER,
	RELATION_FORKED,
};

/* Of one that can be read whole. */
static int relate_rows(const struct restore *restore, const struct mirror_look *look,
		       const struct mirror_rows *rows)
{
	const struct catalog_position *taken = &restore->look.end;
	bool is_newer = catalog_position_compare(&look->end, taken) > 0;
	struct lineage *lineage = calloc(1, sizeof(*lineage)); /* large for a stack */
	bool is_forked;
	int r;

	if (!lineage)
		return -ENOMEM;
	r = lineage_of(is_newer ? rows : &restore->rows, lineage);
	is_forked = r == 0 && (is_newer ? mirror_is_forked(taken, &look->end, lineage)
					: mirror_is_forked(&look->end, taken, lineage));
	free(lineage);
	return is_forked ? RELATION_FORKED : is_newer ? RELATION_NEWER : RELATION_NONE;
}

/* A relation, or an error that is fatal. */
static int relate(const struct restore *restore, const char *directory,
		  struct mirror_look *ret_look)
{
	struct mirror_rows rows;
	int r;

	if (strcmp(directory, restore->directory) == 0)
		return RELATION_NONE;
	r = mirror_look_within(NULL, directory, restore->timeout_ns, ret_look);
	if (r)
		return is_fatal(r) ? r : RELATION_NONE;
	if (memcmp(ret_look->end.uuid, restore->look.end.uuid, MIRROR_UUID_BYTES) != 0 ||
	    ret_look->end.generation < restore->look.end.generation)
		return RELATION_NONE;
	r = mirror_load_within(directory, restore->timeout_ns, ret_look, &rows);
	if (r == 0) {
		r = ret_look->damaged ? -EUCLEAN : relate_rows(restore, ret_look, &rows);
		mirror_rows_done(&rows);
	}
	if (r < 0 && !is_fatal(r))
		log_error("catalog", "another mirror is not whole and is passed over",
			  "directory=\"%s\" sequence=%" PRIu64 " error=%d", directory,
			  ret_look->end.sequence, r);
	return r >= 0 || is_fatal(r) ? r : RELATION_NONE;
}

/* The mirrors that this one knows of: a better one is named instead of being passed over. Of two
 * histories a person may choose one, by naming its mirror; nobody else does. */
static int compare_others(struct restore *restore, bool is_chosen)
{
	_cleanup_(mirror_standings_done) struct mirror_standings standings = {0};
	struct catalog_key key = catalog_key(CATALOG_META);
	const struct catalog_row *row;

	catalog_key_add_text(&key, "mirrors");
	row = mirror_rows_find(&restore->rows, &key);
	if (!row || mirror_standings_decode(row->value, row->length, &standings) != 0)
		return 0;
	for (unsigned i = 0; i < standings.count; i++) {
		const char *directory = standings.mirrors[i].directory;
		struct mirror_look look;
		int r = relate(restore, directory, &look);

		if (r < 0)
			return r;
		if (r == RELATION_NONE || (r == RELATION_FORKED && is_chosen))
			continue;
		restore->report->catalog_sequence = restore->look.end.sequence;
		restore->report->mirror_sequence = look.end.sequence;
		restore->report->mirror_forked = r == RELATION_FORKED;
		tell_report(restore, directory, -ESTALE);
		return -ENODATA;
	}
	return 0;
}

/* A mirror that stands by the hint has all that was acknowledged: the first that can be read whole
 * will do, unless it knows of a newer one: then the hint was set back. One whose end is torn may
 * lack its last change or not: that is not for us to say. */
static int choose_by_hint(struct restore *restore, const struct mirror_standings *hint)
{
	for (unsigned i = 0; i < hint->count; i++) {
		int r;

		if (!hint->mirrors[i].standing)
			continue;
		r = take(restore, hint->mirrors[i].directory);
		if (is_fatal(r))
			return r;
		if (r)
			continue;
		if (restore->look.torn || restore->look.end.generation < hint->generation ||
		    memcmp(restore->look.end.uuid, hint->uuid, MIRROR_UUID_BYTES) != 0) {
			restore->report->mirror_torn = restore->look.torn;
			tell_report(restore, hint->mirrors[i].directory, -ESTALE);
			continue;
		}
		r = compare_others(restore, false);
		if (r != -ENODATA)
			return r;
	}
	return -ENODATA;
}

static void look_at(const struct store *store, struct restore *restore)
{
	store_get_position(store, &restore->position);
	store_get_lineage(store, &restore->lineage);
}

static void look_work(void *arg)
{
	struct restore *restore = arg;
	struct catalog_options options = *restore->options;
	struct store *store = NULL;

	options.create = false;
	restore->result = store_open(&options, &store);
	if (restore->result == 0)
		restore->result = store_check(store);
	if (restore->result == 0)
		look_at(store, restore);
	store_close(store);
}

/* A good database that is not older than the mirror is not replaced, unless both have changes that
 * the other lacks. */
static int compare_present(struct restore *restore)
{
	int r = io_job(look_work, restore);

	if (r == 0)
		r = restore->result;
	if (r)
		return is_fatal(r) || r == -EBUSY ? r : 0;
	if (memcmp(restore->position.uuid, restore->look.end.uuid, MIRROR_UUID_BYTES) != 0 ||
	    catalog_position_compare(&restore->position, &restore->look.end) < 0 ||
	    mirror_is_forked(&restore->look.end, &restore->position, &restore->lineage))
		return 0;
	restore->report->catalog_sequence = restore->position.sequence;
	restore->report->mirror_sequence = restore->look.end.sequence;
	tell_report(restore, restore->directory, -EEXIST);
	return -EEXIST;
}

static int remember(const struct restore *restore, const struct mirror_standings *old)
{
	struct mirror_standings hint = {.count = 1, .number = old->number + 1};

	hint.mirrors[0] = (struct mirror_standing){restore->directory, true};
	memcpy(hint.uuid, restore->look.end.uuid, sizeof(hint.uuid));
	hint.generation = restore->look.end.generation;
	return mirror_hint_write(restore->options->path, &hint);
}

struct filling {
	const struct catalog_options *options;
	const struct mirror_rows *rows;
	const struct catalog_position *position;
	int result;
};

static void fill_work(void *arg)
{
	struct filling *filling = arg;
	_cleanup_free_ char *path = NULL;
	struct catalog_options options = *filling->options;
	struct store *store = NULL;

	filling->result = -ENOMEM;
	if (asprintf(&path, "%s-new", options.path) < 0)
		return;
	options.path = path;
	options.create = true;
	filling->result = store_open(&options, &store);
	if (filling->result == 0)
		filling->result = store_restore(store, filling->rows, filling->position);
	store_close(store);
}

static int unlink_if_there(const char *path, const char *suffix)
{
	_cleanup_free_ char *text = NULL;
	int r;

	if (asprintf(&text, "%s%s", path, suffix) < 0)
		return -ENOMEM;
	r = io_unlink(text);
	return r == -ENOENT ? 0 : r;
}

int mirror_restore_fill(const struct catalog_options *options, const struct mirror_rows *rows,
			const struct catalog_position *position)
{
	struct filling filling = {.options = options, .rows = rows, .position = position};
	const char *path = options->path;
	int r = unlink_if_there(path, "-new");

	if (r == 0)
		r = unlink_if_there(path, "-new-wal");
	if (r == 0)
		r = io_job(fill_work, &filling);
	if (r == 0)
		r = filling.result;
	/* Its WAL is empty: all is in the database. */
	return r ? r : unlink_if_there(path, "-new-wal");
}

static int replace(struct world *world, const struct catalog_options *options)
{
	char suffix[40];

	snprintf(suffix, sizeof(suffix), ".replaced-%" PRIu64,
		 world->ops->wall_ns(world) / NSEC_PER_SEC);
	return catalog_replace(options, suffix);
}

static int choose(struct restore *restore, const char *from, const struct mirror_standings *hint)
{
	int r;

	if (!from)
		return choose_by_hint(restore, hint);
	r = take(restore, from);
	if (r)
		return is_fatal(r) ? r : -ENODATA;
	r = compare_others(restore, true);
	return r ? r : compare_present(restore);
}

static int restore_run(struct world *world, struct restore *restore, const char *from)
{
	_cleanup_(mirror_standings_done) struct mirror_standings hint = {0};
	int r = mirror_hint_read(restore->options->path, &hint);

	if (r && (!from || is_fatal(r)))
		return r;
	r = choose(restore, from, &hint);
	if (r)
		return r;
	restore->position = restore->look.end;
	restore->position.generation = MAX(restore->look.end.generation, hint.generation) + 1;
	r = remember(restore, &hint);
	if (r == 0)
		r = mirror_restore_fill(restore->options, &restore->rows, &restore->position);
	return r ? r : replace(world, restore->options);
}

int mirror_restore(struct world *world, const struct catalog_options *options, const char *from,
		   struct catalog_report *report)
{
	_cleanup_(restore_freep) struct restore *restore = calloc(1, sizeof(*restore));
	int r;

	if (!restore)
		return -ENOMEM;
	restore->options = options;
	restore->report = report;
	restore->timeout_ns =
		options->disk_timeout_ns ? options->disk_timeout_ns : MIRROR_TIMEOUT_NS;
	r = restore_run(world, restore, from);
	if (r)
		return r;
	log_warning("catalog", "the catalog was restored from a mirror",
		    "directory=\"%s\" sequence=%" PRIu64 " rows=%zu torn=%d", restore->directory,
		    restore->look.end.sequence, restore->rows.count, restore->look.torn);
	report->restored = true;
	report->mirror_sequence = restore->look.end.sequence;
	report->mirror_torn = restore->look.torn;
	tell_report(restore, restore->directory, 0);
	return 0;
}
