/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares all rows of a mirror with those of the catalog, while commits go on.
 *
 * The mirror is read from its disk as it is at some moment; then the catalog is read, a part at a
 * time; then the frames that came meanwhile. A row that one of these names may differ and is left
 * out: its frame was just read and checked. The builder is held off, so no file goes meanwhile.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "catalog/mirror_task.h"

#define TOLD_MAX       16 /* differences of a mirror that are logged one by one */
#define QUIET_TRIES    20
#define QUIET_PAUSE_NS (50 * NSEC_PER_MSEC)

struct verify {
	struct mirror_task task;
	struct catalog *catalog;
	struct mirror *mirror;
	struct mirror_look look;
	struct mirror_rows rows; /* of the mirror */
	struct mirror_rows own;  /* of the catalog */
	struct mirror_rows touched;
	uint64_t differences;
};

static void verify_free(struct verify *verify)
{
	if (!verify)
		return;
	mirror_rows_done(&verify->rows);
	mirror_rows_done(&verify->own);
	mirror_rows_done(&verify->touched);
	free(verify);
}

static void task_free(struct mirror_task *task)
{
	verify_free(CONTAINER_OF(task, struct verify, task));
}

/* The catalog itself is judged first: a mirror that differs from one that lacks rows is right.
 * Other commits wait until the walk over the rows is done, as when it was opened. */
static int check_own(struct catalog *catalog)
{
	struct call call = {.request = {.kind = STORE_CHECK}};

	return catalog_call_run(catalog, &call);
}

static int read_own(struct verify *verify)
{
	struct call call = {.request = {.kind = STORE_DUMP, .dump.bytes = MIRROR_CHUNK_AIM}};
	int r;

	do {
		struct catalog_rows *rows = &call.request.dump.rows;
		struct catalog_key after = call.request.dump.after;

		call = (struct call){
			.request = {.kind = STORE_DUMP,
				    .dump = {.after = after, .bytes = MIRROR_CHUNK_AIM}}};
		r = catalog_call_run(verify->catalog, &call);
		if (r)
			return r;
		for (size_t i = 0; r == 0 && i < rows->count; i++) {
			const struct mirror_entry entry = {.kind = CATALOG_PUT,
							   .key = rows->rows[i].key,
							   .version = rows->rows[i].version,
							   .length = rows->rows[i].length,
							   .value = rows->rows[i].value};

			r = mirror_rows_add(&verify->own, &entry);
			call.request.dump.after = entry.key;
		}
		if (r == 0 && rows->count > 0)
			r = 1;
		catalog_rows_done(rows);
	} while (r > 0);
	return r;
}

static int touch(void *arg, const struct mirror_entry *entry)
{
	struct verify *verify = arg;
	struct mirror_entry mark = {.kind = CATALOG_PUT, .key = entry->key};

	mark.version = entry->kind == CATALOG_DELETE_PREFIX;
	return mirror_rows_apply(&verify->touched, &mark);
}

/* Named by a frame that came meanwhile, itself or by a prefix. */
static bool is_touched(const struct verify *verify, const struct catalog_key *key)
{
	struct catalog_key prefix = *key;
	const struct catalog_row *mark = mirror_rows_find(&verify->touched, key);

	while (!mark && --prefix.length > 0) {
		mark = mirror_rows_find(&verify->touched, &prefix);
		if (mark && mark->version == 0)
			mark = NULL;
	}
	return mark;
}

static void differ(struct verify *verify, const struct catalog_key *key, const char *how)
{
	char text[2 * CATALOG_KEY_MAX + 1];

	if (is_touched(verify, key) || verify->differences++ >= TOLD_MAX)
		return;
	for (unsigned i = 0; i < key->length; i++)
		snprintf(text + 2 * i, 3, "%02x", key->bytes[i]);
	log_error("catalog", "a mirror differs", "directory=\"%s\" key=%s how=%s",
		  verify->mirror->directory, text, how);
}

static void compare(struct verify *verify)
{
	const struct mirror_rows *a = &verify->own, *b = &verify->rows;
	size_t i = 0, j = 0;

	while (i < a->count || j < b->count) {
		int order = i == a->count   ? 1
			    : j == b->count ? -1
					    : mirror_key_compare(&a->rows[i].key, &b->rows[j].key);

		if (order < 0) {
			differ(verify, &a->rows[i++].key, "missing");
			continue;
		}
		if (order > 0) {
			differ(verify, &b->rows[j++].key, "too-many");
			continue;
		}
		if (a->rows[i].version != b->rows[j].version ||
		    a->rows[i].length != b->rows[j].length ||
		    memcmp(a->rows[i].value, b->rows[j].value, a->rows[i].length) != 0)
			differ(verify, &a->rows[i].key, "value");
		i++;
		j++;
	}
}

static bool is_quiet(const struct verify *verify, uint64_t sequence)
{
	return verify->catalog->mirrors.stage == MIRRORS_IDLE &&
	       verify->mirror->sequence == sequence;
}

/*
 * The frames since, and what lies behind them. All that was there before a read must be in it. What
 * is not whole is damage only when nothing was appended meanwhile.
 */
static int follow(struct mirror_task *task)
{
	struct verify *verify = CONTAINER_OF(task, struct verify, task);

	for (unsigned i = 0; i < QUIET_TRIES; i++) {
		uint64_t before = verify->mirror->sequence;
		bool quiet = is_quiet(verify, before);
		int r;

		verify->look.torn = false;
		r = mirror_follow(verify->mirror->directory, &verify->look, touch, verify);
		if (r || task->is_late)
			return r;
		quiet = quiet && is_quiet(verify, before);
		if (verify->look.end.sequence < before || (verify->look.torn && quiet))
			return -EUCLEAN;
		if (!verify->look.torn)
			break;
		fiber_sleep(QUIET_PAUSE_NS);
	}
	return 0;
}

static int load(struct mirror_task *task)
{
	struct verify *verify = CONTAINER_OF(task, struct verify, task);

	return mirror_load(verify->mirror->directory, &verify->look, &verify->rows);
}

static bool is_ours(int error)
{
	return error == -ENOMEM || error == -ESHUTDOWN;
}

/* What is wrong with the mirror goes to *ret_error. When its disk hangs it takes the verify. */
static int read_mirror(struct verify **verify, int (*run)(struct mirror_task *task), int *ret_error)
{
	struct mirror_task *task = &(*verify)->task;

	task->run = run;
	if (mirror_task_run(task)) {
		*ret_error = task->result;
		return is_ours(*ret_error) ? *ret_error : 0;
	}
	*verify = NULL;
	*ret_error = -ETIMEDOUT;
	return 0;
}

static int verify_run(struct verify **verify, int *ret_error)
{
	int r = read_mirror(verify, load, ret_error);

	if (r || *ret_error)
		return r;
	r = read_own(*verify);
	if (r == 0)
		r = read_mirror(verify, follow, ret_error);
	if (r || *ret_error)
		return r;
	r = mirror_rows_settle(&(*verify)->touched);
	if (r == 0)
		compare(*verify);
	return r;
}

static struct verify *verify_new(struct mirror *mirror)
{
	struct verify *verify = calloc(1, sizeof(*verify));

	if (!verify)
		return NULL;
	verify->task = (struct mirror_task){.mirror = mirror, .free = task_free};
	verify->catalog = mirror->catalog;
	verify->mirror = mirror;
	return verify;
}

static void verify_freep(struct verify **verify)
{
	verify_free(*verify);
}

static int verify_mirror(struct mirror *mirror, struct catalog_verify *total)
{
	_cleanup_(verify_freep) struct verify *verify = verify_new(mirror);
	uint64_t differences = 0;
	int error, r = verify ? verify_run(&verify, &error) : -ENOMEM;

	if (r)
		return r;
	if (verify) {
		differences = verify->differences;
		total->rows += verify->own.count;
	}
	if (error == 0 && differences > 0)
		error = -EUCLEAN;
	total->mirrors++;
	total->differences += error ? MAX(differences, UINT64_C(1)) : 0;
	if (!error)
		return 0;
	if (mirror->standing) {
		mirror_lose(mirror, error);
		mirror->next_try_ns = 0;
	} else if (!mirror->late) {
		return 0;
	}
	return mirrors_tell_wait(mirror->catalog);
}

static int verify_locked(struct catalog *catalog, struct catalog_verify *total)
{
	struct mirror *mirror;
	int r = 0;

	LIST_FOR_EACH (&catalog->mirrors.list, mirror, struct mirror, link)
		if (r == 0 && mirror->standing)
			r = verify_mirror(mirror, total);
	return r;
}

int catalog_verify(struct catalog *catalog, struct catalog_verify *ret_verify)
{
	struct catalog_verify total = {0};
	int r;

	reactor_assert_home(catalog->home);
	fiber_mutex_lock(&catalog->mirrors.work);
	r = check_own(catalog);
	if (r == 0)
		r = verify_locked(catalog, &total);
	fiber_mutex_unlock(&catalog->mirrors.work);
	if (r == 0)
		*ret_verify = total;
	return r;
}
