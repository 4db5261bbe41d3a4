/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is put right in the catalog, at the end of the check: each row by itself, if it is still as
 * it was read, through the catalog's own door, so that its mirrors have it, too. A row that was
 * changed needs no other row to be changed with it, so a crash between two leaves one more to be
 * found. Nothing is deleted when the rows contradict each other: what a row seems to lack may be
 * named by another that is wrong, and the next start takes the files of a row that is gone.
 *
 * The catalog is opened before the first thing is written anywhere: when a mirror is newer, the
 * state directory was set back, and nothing on the disks may be held against it. When opening it
 * finds it damaged, or makes it again from a mirror, it is not what the check has read: nothing is
 * put right by what that said.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "catalog/mirror.h"
#include "egroup/store.h"
#include "fsck/fsck_priv.h"

#define BATCH 64u /* changes of one commit */

static const char *refusal_of(int error)
{
	switch (error) {
	case -ESTALE:
		return "a mirror of the catalog has changes that it lacks: this state directory "
		       "was set back";
	case -ENODATA:
		return "the catalog is damaged, and no mirror can take its place";
	default:
		return strerror(-error);
	}
}

/* What the check has read is not what was opened. */
static int refuse_other(struct fsck *fsck, const struct catalog_report *report)
{
	catalog_close(TAKE_PTR(fsck->catalog));
	fsck->refused = true;
	if (report->restored)
		fsck_find(fsck, FSCK_REPAIR, "catalog",
			  "it was damaged or missing, and was made again from the mirror in %s: "
			  "nothing is put right by what it said before; run this again",
			  report->directory);
	else
		fsck_find(fsck, FSCK_REPAIR, "catalog",
			  "it is damaged, and was not when it was read: nothing is put right");
	return -EUCLEAN;
}

static int open_catalog(struct fsck *fsck)
{
	_cleanup_free_ struct catalog_report *report = calloc(1, sizeof(*report)); /* large */
	const struct catalog_options options = {
		.path = fsck->options->catalog, .vfs = fsck->options->vfs, .report = report};
	int r = report ? catalog_open(fsck->options->world, &options, &fsck->catalog) : -ENOMEM;

	if (r == 0)
		return report->restored || report->damage ? refuse_other(fsck, report) : 0;
	fsck->catalog = NULL;
	fsck->refused = true;
	fsck_find(fsck, FSCK_REPAIR, "catalog", "it cannot be opened, nothing is put right: %s",
		  refusal_of(r));
	return r;
}

/* Where rows are missing, it is not known what the others should say. */
bool fsck_may_repair(struct fsck *fsck)
{
	if (!fsck->options->repair || fsck->rows_missing || fsck->refused)
		return false;
	return fsck->catalog || open_catalog(fsck) == 0;
}

static int grow(void **array, size_t count, size_t *capacity, size_t size)
{
	size_t more = MAX(2 * *capacity, (size_t)64);
	void *grown;

	if (count < *capacity)
		return 0;
	grown = realloc(*array, more * size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*capacity = more;
	return 0;
}

static int add_change(struct fsck *fsck, const struct fsck_change *change)
{
	void *array = fsck->changes;
	int r = grow(&array, fsck->change_count, &fsck->change_capacity, sizeof(*fsck->changes));

	fsck->changes = array;
	if (r == 0)
		fsck->changes[fsck->change_count++] = *change;
	return r;
}

static int add_pending(struct fsck *fsck, uint32_t change, const struct fsck_finding *finding)
{
	struct fsck_pending pending = {.kind = finding->kind,
				       .change = change,
				       .object = strdup(finding->object),
				       .cause = strdup(finding->cause),
				       .done = finding->done};
	void *array = fsck->pending;
	int r = grow(&array, fsck->pending_count, &fsck->pending_capacity, sizeof(*fsck->pending));

	fsck->pending = array;
	if (r == 0 && pending.object && pending.cause) {
		fsck->pending[fsck->pending_count++] = pending;
		return 0;
	}
	free(pending.object);
	free(pending.cause);
	return -ENOMEM;
}

int fsck_fix(struct fsck *fsck, const struct fsck_change *change, enum fsck_kind kind,
	     const char *object, const char *done, const char *cause, ...)
{
	char text[FSCK_CAUSE_MAX];
	const struct fsck_finding finding = {
		.kind = kind, .object = object, .cause = text, .done = done};
	va_list arguments;
	int r;

	va_start(arguments, cause);
	vsnprintf(text, sizeof(text), cause, arguments);
	va_end(arguments);
	if (!fsck_may_repair(fsck) || (change->kind == CATALOG_DELETE && fsck->rows_doubtful)) {
		fsck_tell(fsck, kind, object, text, NULL);
		return 0;
	}
	r = add_change(fsck, change);
	return r < 0 ? r : add_pending(fsck, (uint32_t)fsck->change_count - 1, &finding);
}

/* The row's change, made when it is the first. */
static int change_row(struct fsck *fsck, const struct fsck_change *as, uint32_t *change)
{
	const struct catalog_row *row = fsck_row_find(fsck, &as->key);
	int r = 0;

	if (*change == 0)
		r = add_change(fsck, as);
	if (r < 0)
		return r;
	if (*change == 0)
		*change = (uint32_t)fsck->change_count;
	fsck->changes[*change - 1] = *as;
	fsck->changes[*change - 1].version = row ? row->version : 0;
	return 0;
}

/* As it was read, but for size and copies: what else is in it stays. */
static void encode_file(const struct fsck *fsck, const struct fsck_file *file,
			struct fsck_change *ret_change)
{
	struct pool_copies copies = file->row.copies;
	const struct catalog_row *row;

	for (unsigned copy = 0; copy < copies.count; copy++) {
		const struct fsck_disk *disk = fsck_disk_of(fsck, file, copy);

		if (disk) /* 0 is the pool's first */
			copies.disks[copy] = disk->id;
	}
	*ret_change = (struct fsck_change){.kind = CATALOG_PUT,
					   .key = catalog_key(CATALOG_EGFILE),
					   .length = EGROUP_ROW_BYTES};
	catalog_key_add(&ret_change->key, file->pool);
	catalog_key_add(&ret_change->key, file->vdisk);
	catalog_key_add(&ret_change->key, file->row.id);
	row = fsck_row_find(fsck, &ret_change->key);
	ASSERT(row && row->length == EGROUP_ROW_BYTES);
	memcpy(ret_change->value, row->value, EGROUP_ROW_BYTES);
	pool_rows_encode_file(file->row.size_bytes, &copies, ret_change->value);
}

/* `as` is already in the struct. */
static int fix_row(struct fsck *fsck, const struct fsck_change *as, uint32_t *change,
		   const struct fsck_finding *finding)
{
	int r = 0;

	if (!fsck_may_repair(fsck)) {
		fsck_tell(fsck, finding->kind, finding->object, finding->cause, NULL);
		return 0;
	}
	r = change_row(fsck, as, change);
	return r < 0 ? r : add_pending(fsck, *change - 1, finding);
}

int fsck_fix_file(struct fsck *fsck, struct fsck_file *file, enum fsck_kind kind,
		  const char *object, const char *done, const char *cause, ...)
{
	char text[FSCK_CAUSE_MAX];
	const struct fsck_finding finding = {
		.kind = kind, .object = object, .cause = text, .done = done};
	struct fsck_change change;
	va_list arguments;

	va_start(arguments, cause);
	vsnprintf(text, sizeof(text), cause, arguments);
	va_end(arguments);
	encode_file(fsck, file, &change);
	return fix_row(fsck, &change, &file->change, &finding);
}

int fsck_fix_vdisk(struct fsck *fsck, struct fsck_vdisk *vdisk, enum fsck_kind kind,
		   const char *object, const char *done, const char *cause, ...)
{
	char text[FSCK_CAUSE_MAX];
	const struct fsck_finding finding = {
		.kind = kind, .object = object, .cause = text, .done = done};
	struct fsck_change change = {.kind = CATALOG_PUT,
				     .key = vdisk_row_key(vdisk->row.id),
				     .length = VDISK_ROW_BYTES};
	va_list arguments;

	va_start(arguments, cause);
	vsnprintf(text, sizeof(text), cause, arguments);
	va_end(arguments);
	vdisk_row_encode(&vdisk->row, change.value);
	return fix_row(fsck, &change, &vdisk->change, &finding);
}

static void free_pending(struct fsck_pending *pending)
{
	free(pending->object);
	free(pending->cause);
}

/* All up to change `end`, in the order in which they were found as far as rows allow. */
static void tell_pending(struct fsck *fsck, uint32_t first, uint32_t end, bool made)
{
	size_t kept = 0;

	for (size_t i = 0; i < fsck->pending_count; i++) {
		struct fsck_pending *pending = &fsck->pending[i];

		if (pending->change < first || pending->change >= end) {
			fsck->pending[kept++] = *pending;
			continue;
		}
		fsck_tell(fsck, pending->kind, pending->object, pending->cause,
			  made && !fsck->changes[pending->change].dropped ? pending->done : NULL);
		free_pending(pending);
	}
	fsck->pending_count = kept;
}

static int apply(struct fsck *fsck, const struct fsck_change *from, size_t count)
{
	struct catalog_change changes[2 * BATCH];
	size_t made = 0;

	for (size_t i = 0; i < count; i++) {
		if (from[i].dropped)
			continue;
		changes[made++] = (struct catalog_change){
			.kind = CATALOG_EXPECT, .key = from[i].key, .version = from[i].version};
		changes[made++] = (struct catalog_change){.kind = from[i].kind,
							  .key = from[i].key,
							  .value = from[i].value,
							  .length = from[i].length};
	}
	return made > 0 ? catalog_commit(fsck->catalog, changes, made) : 0;
}

void fsck_repair_keep_rows(struct fsck *fsck)
{
	for (size_t i = 0; i < fsck->change_count; i++)
		fsck->changes[i].dropped |= fsck->changes[i].kind == CATALOG_DELETE;
}

int fsck_repair(struct fsck *fsck)
{
	int r = 0;

	for (size_t at = 0; r == 0 && at < fsck->change_count; at += BATCH) {
		size_t count = MIN((size_t)BATCH, fsck->change_count - at);

		r = fsck_progress(fsck, 0);
		if (r == 0)
			r = apply(fsck, &fsck->changes[at], count);
		if (r == 0)
			tell_pending(fsck, (uint32_t)at, (uint32_t)(at + count), true);
	}
	if (r < 0)
		log_error("fsck", "the repairs could not be written", "error=%d changes=%zu", r,
			  fsck->change_count);
	return r;
}

void fsck_repair_done(struct fsck *fsck)
{
	tell_pending(fsck, 0, UINT32_MAX, false);
	free(fsck->pending);
	free(fsck->changes);
	if (fsck->catalog)
		catalog_close(fsck->catalog);
}
