/* SPDX-License-Identifier: Apache-2.0 */
#include "fsck/fsck.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "catalog/raw.h"
#include "fsck/fsck_priv.h"
#include "reactor/io.h"

#define PROGRESS_NS (200 * NSEC_PER_MSEC)
#define COPY_BYTES  (1 * MIB)

struct kind {
	const char *code;
	enum fsck_class class;
	const char *advice;
};

static const struct kind kinds[FSCK_KIND_COUNT] = {
	[FSCK_CATALOG] = {"catalog", FSCK_ERROR,
			  "restore it from a disk's mirror: sarsend --restore-catalog"},
	[FSCK_CATALOG_END] = {"catalog-end", FSCK_NOTE,
			      "nothing after a crash; after a clean stop, check the disk"},
	[FSCK_ROW] = {"catalog-row", FSCK_ERROR,
		      "restore it from a disk's mirror: sarsend --restore-catalog; or make it "
		      "again: sarsen-fsck --rebuild-catalog"},
	[FSCK_REFERENCE] = {"catalog-reference", FSCK_ERROR,
			    "restore it from a disk's mirror: sarsend --restore-catalog; or make "
			    "it again: sarsen-fsck --rebuild-catalog"},
	[FSCK_NAME] = {"catalog-name", FSCK_MINOR, "run sarsen-fsck without -n"},
	[FSCK_COUNTER] = {"catalog-counter", FSCK_MINOR, "run sarsen-fsck without -n"},
	[FSCK_DISK] = {"disk", FSCK_ERROR, "mount the disk at its directory, or put it back"},
	[FSCK_FILE_MISSING] =
		{"file-missing", FSCK_ERROR,
		 "put the file back, or run sarsen-fsck without -n when another copy is whole"},
	[FSCK_FILE_END] = {"file-end", FSCK_NOTE, "nothing after a crash: the next start copes"},
	[FSCK_FILE_LEFT] = {"file-left", FSCK_NOTE, "nothing: the next start takes it as spare"},
	[FSCK_FILE_UNCLAIMED] = {"file-unclaimed", FSCK_NOTE,
				 "after a crash nothing; to keep what it holds, run sarsen-fsck "
				 "without -n before the next start, which takes it as spare"},
	[FSCK_FILE_SIZE] = {"file-size", FSCK_NOTE, "run sarsen-fsck without -n"},
	[FSCK_FILE_EMPTY] = {"file-empty", FSCK_MINOR, "run sarsen-fsck without -n"},
	[FSCK_READ] = {"read-error", FSCK_ERROR, "check the disk, and replace it"},
	[FSCK_HEADER] = {"record-header", FSCK_ERROR,
			 "check the disk; data are read through the map and need no header"},
	[FSCK_INDEX] = {"file-index", FSCK_ERROR,
			"check the disk; restore what the file's groups hold"},
	[FSCK_COPY] = {"copy-damaged", FSCK_ERROR, "check the disk; run sarsen-fsck without -n"},
	[FSCK_COPY_OLD] = {"copy-old", FSCK_ERROR,
			   "was the disk set back? run sarsen-fsck without -n"},
	[FSCK_BLOCK_UNUSED] = {"block-unused", FSCK_ERROR,
			       "check the disk; no data are lost with it"},
	[FSCK_BLOCK] = {"block-damaged", FSCK_ERROR,
			"restore the guest's data there from a backup, or write them anew"},
	[FSCK_MAP_PAGE] = {"map-page", FSCK_ERROR,
			   "restore the guest's data there from a backup, or write them anew"},
	[FSCK_MAP_ENTRY] = {"map-entry", FSCK_ERROR,
			    "restore the guest's data there from a backup, or write them anew"},
	[FSCK_LOST] = {"block-lost", FSCK_ERROR,
		       "restore the guest's data there from a backup, or write them anew"},
	[FSCK_LIVE] = {"live-count", FSCK_NOTE, "nothing: the next start counts again"},
	[FSCK_EPOCH] = {"vdisk-epoch", FSCK_MINOR, "run sarsen-fsck without -n"},
	[FSCK_LOG] = {"log-end", FSCK_ERROR, "the vDisk does not open: restore it from a backup"},
	[FSCK_REPAIR] = {"repair", FSCK_ERROR, "remove the cause, then run sarsen-fsck again"},
};

void fsck_tell(struct fsck *fsck, enum fsck_kind kind, const char *object, const char *cause,
	       const char *done)
{
	const struct fsck_finding finding = {.kind = kind,
					     .class = kinds[kind].class,
					     .code = kinds[kind].code,
					     .object = object,
					     .cause = cause,
					     .advice = kinds[kind].advice,
					     .done = done};

	if (finding.class == FSCK_ERROR)
		fsck->report.errors++;
	else if (finding.class == FSCK_MINOR)
		fsck->report.minors++;
	else
		fsck->report.notes++;
	if (done && finding.class != FSCK_NOTE)
		fsck->report.corrected++;
	fsck->options->finding(fsck->options->arg, &finding);
}

void fsck_find(struct fsck *fsck, enum fsck_kind kind, const char *object, const char *cause, ...)
{
	char text[FSCK_CAUSE_MAX];
	va_list arguments;

	va_start(arguments, cause);
	vsnprintf(text, sizeof(text), cause, arguments);
	va_end(arguments);
	fsck_tell(fsck, kind, object, text, NULL);
}

void fsck_find_done(struct fsck *fsck, enum fsck_kind kind, const char *object, const char *done,
		    const char *cause, ...)
{
	char text[FSCK_CAUSE_MAX];
	va_list arguments;

	va_start(arguments, cause);
	vsnprintf(text, sizeof(text), cause, arguments);
	va_end(arguments);
	fsck_tell(fsck, kind, object, text, done);
}

int fsck_progress(struct fsck *fsck, uint64_t bytes)
{
	const struct fsck_options *options = fsck->options;
	uint64_t now = world_now_ns(options->world);

	fsck->report.bytes += bytes;
	if (!options->progress || now - fsck->last_progress_ns < PROGRESS_NS)
		return 0;
	fsck->last_progress_ns = now;
	return options->progress(options->arg, MIN(fsck->report.bytes, fsck->total_bytes),
				 fsck->total_bytes)
		       ? 0
		       : -ECANCELED;
}

static int copy_content(struct world_file *from, struct world_file *to)
{
	_cleanup_free_ char *buffer = malloc(COPY_BYTES);
	int64_t got = buffer ? 1 : -ENOMEM;
	int r = 0;

	for (uint64_t at = 0; r == 0 && got > 0; at += (uint64_t)got) {
		got = io_read(from, buffer, COPY_BYTES, at);
		if (got > 0)
			r = io_write(to, buffer, (size_t)got, at);
	}
	return r < 0 ? r : (int)MIN(got, (int64_t)0);
}

static int copy_file(const char *from, const char *to)
{
	struct world_file *source, *target;
	int r, closed;

	r = io_open(from, WORLD_FILE_READ_ONLY, &source);
	if (r < 0)
		return r;
	r = io_open(to, WORLD_FILE_CREATE, &target);
	if (r == 0) {
		r = copy_content(source, target);
		closed = io_close(target);
		r = r < 0 ? r : closed;
	}
	(void)io_close(source); /* was only read */
	return r;
}

struct reading {
	struct fsck *fsck;
	struct catalog_raw raw;
	int result;
};

static void on_damage(void *arg, const struct catalog_raw_damage *damage)
{
	struct fsck *fsck = arg;
	char object[FSCK_OBJECT_MAX] = "catalog";
	size_t length = strlen(object);

	fsck->rows_missing = true;
	for (unsigned i = 0; i < damage->key.length && length + 4 < sizeof(object); i++)
		length += (size_t)snprintf(object + length, sizeof(object) - length,
					   i ? "%02x" : " row %02x", damage->key.bytes[i]);
	fsck_find(fsck, damage->key.length ? FSCK_ROW : FSCK_CATALOG, object, "%s", damage->what);
}

static void read_raw(void *arg)
{
	struct reading *reading = arg;

	reading->result = catalog_raw_read(&reading->raw, &reading->fsck->rows);
}

/* SQLite takes over what is in the WAL when it opens: not in what we were given. */
int fsck_catalog_read(struct fsck *fsck)
{
	const struct fsck_options *options = fsck->options;
	char from[4096], to[4096], wal[4096];
	struct reading reading = {
		.fsck = fsck,
		.raw = {.path = to, .vfs = options->vfs, .damage = on_damage, .arg = fsck}};
	int r;

	if (snprintf(from, sizeof(from), "%s-wal", options->catalog) >= (int)sizeof(from) ||
	    snprintf(to, sizeof(to), "%s/catalog.db", options->scratch) >= (int)sizeof(to) ||
	    snprintf(wal, sizeof(wal), "%s/catalog.db-wal", options->scratch) >= (int)sizeof(wal))
		return -ENAMETOOLONG;
	r = copy_file(options->catalog, to);
	if (r < 0)
		return r;
	r = copy_file(from, wal);
	if (r == 0)
		r = fsck_wal_check(fsck, wal);
	if (r == 0 || r == -ENOENT) /* there need not be one */
		r = io_job(read_raw, &reading);
	(void)io_unlink(wal);
	(void)io_unlink(to); /* the directory is the caller's, who removes it with all in it */
	r = r < 0 ? r : reading.result;
	if (r == 0 && !fsck->rows_missing && !catalog_raw_is_whole(&fsck->rows)) {
		fsck->rows_missing = true;
		fsck_find(fsck, FSCK_CATALOG, "catalog",
			  "rows are missing or too many: it has not as many as it counts");
	}
	return r;
}

static int check_all(struct fsck *fsck)
{
	int r = fsck_rows_read(fsck);

	if (r == 0)
		r = fsck_rows_check(fsck);
	if (r == 0)
		r = fsck_names_check(fsck);
	fsck->rows_doubtful = fsck->report.errors > 0;
	if (fsck->rows_doubtful)
		fsck_repair_keep_rows(fsck);
	if (r == 0)
		r = fsck_disks_check(fsck);
	if (r == 0)
		r = fsck_counters_check(fsck);
	for (size_t i = 0; r == 0 && i < fsck->vdisk_count; i++)
		r = fsck_vdisk_check(fsck, &fsck->vdisks[i]);
	return r;
}

static void done(struct fsck *fsck)
{
	for (size_t i = 0; i < fsck->disk_count; i++)
		free(fsck->disks[i].directory);
	for (size_t i = 0; i < fsck->group_count; i++) {
		fsck_content_free(&fsck->groups[i]);
		free(fsck->groups[i].stored);
	}
	free(fsck->pools);
	free(fsck->disks);
	free(fsck->files);
	free(fsck->groups);
	free(fsck->vdisks);
	free(fsck->by_id);
	free(fsck->buffer);
	catalog_rows_done(&fsck->rows);
}

int fsck_run(const struct fsck_options *options, struct fsck_report *ret_report)
{
	struct fsck fsck = {.options = options};
	int r;

	fsck.buffer = aligned_alloc(BLOCK_BYTES, POOL_COPIES_MAX * FSCK_WINDOW_BYTES);
	r = fsck.buffer ? fsck_catalog_read(&fsck) : -ENOMEM;
	if (r == 0)
		r = check_all(&fsck);
	if (r == 0)
		r = fsck_repair(&fsck);
	fsck_repair_done(&fsck);
	*ret_report = fsck.report;
	done(&fsck);
	return r;
}
