/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mirrors, as commits see them. On the catalog's home reactor, in callbacks: commits need no fiber.
 *
 * Happy path of a commit: the store has committed (SQLite's WAL is synced); what it changed is one
 * frame, which is appended to the log of every mirror that joined and synced there, all at a time;
 * then the callers are told.
 *
 * Invariants
 *  1. SQLite goes first. So no mirror is ever ahead of an honest database, and one that is found
 *     ahead proves that the database was set back. So does one that is behind, but ends in an epoch
 *     that the database has never been in, or later in it than the database was (lineage.h).
 *  2. A mirror that is standing has every change that was acknowledged. One that fails an append
 *     loses its standing, and nothing is acknowledged before that is durable: in the hint, in the
 *     database's row, and, because that row is a change like any other, in the other mirrors.
 *  3. The hint is written before the row, and says that a mirror stands only when it has all that
 *     is acknowledged. So when the database is gone, any mirror that stands by the hint will do.
 *     A start that finds it otherwise tells so before anything is read.
 *  4. The catalog stays busy from a write until its frame is through; frames never overlap.
 *  5. A sync is never retried: a mirror that failed gets new files (mirror_build.c).
 *
 * Failure modes: while the standing cannot be told (the state's disk fails), commits end with
 * -ENOTRECOVERABLE and each tries to tell it first. A mirror that does not answer in time has
 * failed; its operation is left alone to end some day. In a dead world all ends with -ESHUTDOWN.
 */
#include "catalog/mirror.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/reached.h"
#include "catalog/catalog_priv.h"
#include "catalog/mirror_task.h"
#include "reactor/io.h"

#define TRY_AGAIN_NS (5 * NSEC_PER_SEC)
#define TRIES_MAX    5 /* the pause doubles so many times at most */

static void written_done(struct catalog *catalog);

static struct catalog_key mirrors_key(void)
{
	struct catalog_key key = catalog_key(CATALOG_META);

	catalog_key_add_text(&key, "mirrors");
	return key;
}

void mirror_kick(struct catalog *catalog)
{
	fiber_queue_wake_all(&catalog->mirrors.changed);
}

void mirror_lose(struct mirror *mirror, int error)
{
	struct catalog *catalog = mirror->catalog;
	unsigned doubled = MIN(mirror->tries, (unsigned)TRIES_MAX);

	log_error("catalog",
		  mirror->standing ? "a mirror lost its standing" : "a mirror cannot be built",
		  "directory=\"%s\" error=%d sequence=%" PRIu64, mirror->directory, error,
		  mirror->sequence);
	catalog->mirrors.dirty |= mirror->standing;
	mirror->standing = false;
	mirror->joined = false;
	mirror->error = error;
	mirror->was_lost = true;
	mirror->next_try_ns = reactor_now_ns(catalog->home) + (TRY_AGAIN_NS << doubled);
	mirror->tries++;
	mirror_kick(catalog);
}

static void mirror_switch(struct mirror *mirror)
{
	mirror->old_file = mirror->file;
	mirror->file = TAKE_PTR(mirror->next_file);
	mirror->offset = 0;
	mirror->joined = true;
	mirror->start = mirror->catalog->mirrors.position;
	mirror->sequence = mirror->start.sequence;
}

int mirror_join(struct mirror *mirror, struct world_file *file, uint64_t number)
{
	struct mirrors *mirrors = &mirror->catalog->mirrors;

	ASSERT(!mirror->next_file && !mirror->old_file);
	if (mirror->abandoned) {
		REACHED("mirror.join-late");
		return -ETIMEDOUT;
	}
	mirror->next_file = file;
	mirror->number = number;
	if (mirrors->stage != MIRRORS_APPEND)
		mirror_switch(mirror);
	while (mirror->next_file)
		fiber_queue_wait(&mirrors->changed);
	return 0;
}

/* Appends. */

static void append_finished(struct mirror *mirror, int error)
{
	struct catalog *catalog = mirror->catalog;

	mirror->in_flight = false;
	mirror_frame_unref(TAKE_PTR(mirror->frame));
	if (mirror->abandoned) {
		REACHED("mirror.append-late");
		mirror->abandoned = false;
		mirror_kick(catalog);
		return;
	}
	mirror->failed = error;
	if (--catalog->mirrors.pending == 0)
		written_done(catalog);
}

static void append_done(struct world_op *op, int64_t result)
{
	struct mirror *mirror = CONTAINER_OF(op, struct mirror, op);
	struct catalog *catalog = mirror->catalog;

	if (result < 0 || mirror->syncing || mirror->abandoned) {
		append_finished(mirror, result < 0 ? (int)result : 0);
		return;
	}
	mirror->syncing = true;
	mirror->op = (struct world_op){.done = append_done};
	catalog->world->ops->file_sync(reactor_port(catalog->home), mirror->file, &mirror->op);
}

static void append_start(struct mirror *mirror, struct mirror_frame *frame)
{
	struct catalog *catalog = mirror->catalog;

	ASSERT(!mirror->in_flight && mirror->file);
	frame->users++;
	mirror->frame = frame;
	mirror->in_flight = true;
	mirror->syncing = false;
	mirror->failed = 0;
	mirror->iov = (struct iovec){frame->data, frame->length};
	mirror->op = (struct world_op){.done = append_done};
	catalog->world->ops->file_write(reactor_port(catalog->home), mirror->file, &mirror->iov, 1,
					mirror->offset, &mirror->op);
}

static void append_timeout(struct reactor_timer *timer)
{
	struct mirrors *mirrors = CONTAINER_OF(timer, struct mirrors, timer);
	struct catalog *catalog = CONTAINER_OF(mirrors, struct catalog, mirrors);
	struct mirror *mirror;

	LIST_FOR_EACH (&mirrors->list, mirror, struct mirror, link) {
		if (!mirror->in_flight || mirror->abandoned)
			continue;
		mirror->abandoned = true;
		mirror->failed = -ETIMEDOUT;
		mirrors->pending--;
	}
	written_done(catalog);
}

static void append_all(struct catalog *catalog)
{
	struct mirrors *mirrors = &catalog->mirrors;
	struct mirror *mirror;

	mirrors->stage = MIRRORS_APPEND;
	mirrors->pending = 1; /* until all are started */
	LIST_FOR_EACH (&mirrors->list, mirror, struct mirror, link) {
		if (!mirror->joined)
			continue;
		append_start(mirror, mirrors->frame);
		mirrors->pending++;
	}
	if (--mirrors->pending == 0)
		written_done(catalog);
	else
		reactor_timer_arm(catalog->home, &mirrors->timer,
				  reactor_now_ns(catalog->home) + mirrors->limit_ns);
}

static void lose_all(struct catalog *catalog, int error)
{
	struct mirror *mirror;

	LIST_FOR_EACH (&catalog->mirrors.list, mirror, struct mirror, link)
		if (mirror->joined)
			mirror_lose(mirror, error);
}

static void tell_ended(struct catalog *catalog, int error)
{
	struct mirrors *mirrors = &catalog->mirrors;

	mirrors->stage = MIRRORS_IDLE;
	mirrors->telling = false;
	mirrors->wanted = false;
	if (error) {
		mirrors->dirty = true;
		mirrors->told = error;
	}
	mirror_kick(catalog);
	catalog_write_end(catalog, error);
}

/* All that joined have the frame, or have failed. */
static void frame_settle(struct catalog *catalog)
{
	struct mirrors *mirrors = &catalog->mirrors;
	struct mirror *mirror;

	mirrors->position = mirrors->frame->after;
	LIST_FOR_EACH (&mirrors->list, mirror, struct mirror, link) {
		if (mirror->joined && mirror->failed) {
			mirror_lose(mirror, mirror->failed);
		} else if (mirror->joined) {
			mirror->offset += mirrors->frame->length;
			mirror->log_bytes += mirrors->frame->length;
			mirror->bytes += mirrors->frame->length;
			mirror->sequence = mirrors->position.sequence;
		}
		mirror->failed = 0;
		if (mirror->next_file && !mirror->abandoned) {
			mirror_switch(mirror);
		} else if (mirror->next_file) {
			REACHED("mirror.join-abandoned");
			mirror->old_file = TAKE_PTR(mirror->next_file); /* the builder gives up */
		}
	}
	mirror_frame_unref(TAKE_PTR(mirrors->frame));
	mirror_kick(catalog);
}

static bool world_is_dead(const struct mirrors *mirrors)
{
	struct mirror *mirror;

	LIST_FOR_EACH (&mirrors->list, mirror, struct mirror, link)
		if (mirror->failed == -ESHUTDOWN)
			return true;
	return false;
}

static void written_done(struct catalog *catalog)
{
	struct mirrors *mirrors = &catalog->mirrors;
	bool is_dead = world_is_dead(mirrors);

	reactor_timer_cancel(catalog->home, &mirrors->timer);
	if (mirrors->frame)
		frame_settle(catalog);
	mirrors->stage = MIRRORS_IDLE;
	if (is_dead) {
		tell_ended(catalog, -ESHUTDOWN);
		return;
	}
	if (mirrors->dirty)
		mirrors_tell(catalog);
	else if (mirrors->telling)
		tell_ended(catalog, 0);
	else
		catalog_write_end(catalog, 0);
}

static void lineage_update(struct catalog *catalog)
{
	struct mirrors *mirrors = &catalog->mirrors;
	struct catalog_position position;

	store_get_position(catalog->store, &position);
	if (position.epoch != lineage_current(&mirrors->lineage))
		store_get_lineage(catalog->store, &mirrors->lineage);
}

void mirrors_written(struct catalog *catalog)
{
	struct mirrors *mirrors = &catalog->mirrors;
	int r = store_take_frame(catalog->store, &mirrors->frame);

	lineage_update(catalog);
	if (r) {
		/* What was committed cannot be told to them. */
		store_get_position(catalog->store, &mirrors->position);
		lose_all(catalog, r);
	}
	if (mirrors->frame)
		append_all(catalog);
	else
		written_done(catalog);
}

/* Telling the standing. */

bool mirrors_must_tell(const struct catalog *catalog)
{
	const struct mirrors *mirrors = &catalog->mirrors;

	return mirrors->dirty && (mirrors->wanted || !list_is_empty(&catalog->writes));
}

static void hint_done(struct world_op *op, int64_t result)
{
	struct mirrors *mirrors = CONTAINER_OF(op, struct mirrors, hint_op);
	struct catalog *catalog = CONTAINER_OF(mirrors, struct catalog, mirrors);

	if (result < 0) {
		log_error("catalog", "the standing of mirrors cannot be written down",
			  "error=%" PRId64, result);
		tell_ended(catalog, result == -ESHUTDOWN ? -ESHUTDOWN : -ENOTRECOVERABLE);
		return;
	}
	if (!mirrors->hint_syncing) {
		mirrors->hint_syncing = true;
		mirrors->hint_op = (struct world_op){.done = hint_done};
		catalog->world->ops->file_sync(reactor_port(catalog->home), mirrors->hint_file,
					       &mirrors->hint_op);
		return;
	}
	mirrors->stage = MIRRORS_ROW;
	mirrors->row_request = (struct store_request){
		.kind = STORE_COMMIT,
		.result = -ESHUTDOWN,
		.commit = {.changes = &mirrors->row_change, .count = 1, .is_urgent = true}};
	catalog_job_row(catalog);
}

static void hint_start(struct catalog *catalog, uint64_t number)
{
	struct mirrors *mirrors = &catalog->mirrors;

	mirrors->hint_syncing = false;
	mirrors->hint_iov = (struct iovec){mirrors->hint_data, MIRROR_HINT_SLOT};
	mirrors->hint_op = (struct world_op){.done = hint_done};
	catalog->world->ops->file_write(reactor_port(catalog->home), mirrors->hint_file,
					&mirrors->hint_iov, 1, number % 2 * MIRROR_HINT_SLOT,
					&mirrors->hint_op);
}

void mirrors_tell(struct catalog *catalog)
{
	struct mirrors *mirrors = &catalog->mirrors;
	struct mirror_standings standings = {.generation = mirrors->position.generation,
					     .number = ++mirrors->hint_number};
	struct mirror *mirror;

	mirrors->telling = true;
	mirrors->dirty = false;
	mirrors->stage = MIRRORS_HINT;
	memcpy(standings.uuid, mirrors->position.uuid, sizeof(standings.uuid));
	LIST_FOR_EACH (&mirrors->list, mirror, struct mirror, link)
		if (!mirror->removed)
			standings.mirrors[standings.count++] = (struct mirror_standing){
				.directory = mirror->directory, .standing = mirror->standing};
	mirror_hint_fill(mirrors->hint_data, &standings);
	mirrors->row_change = (struct catalog_change){
		.kind = CATALOG_PUT,
		.key = mirrors_key(),
		.value = mirrors->row_value,
		.length = (uint32_t)mirror_standings_encode(&standings, mirrors->row_value)};
	hint_start(catalog, standings.number);
}

void mirrors_row_written(struct catalog *catalog)
{
	int r = catalog->mirrors.row_request.result;

	if (r == 0) {
		mirrors_written(catalog);
		return;
	}
	tell_ended(catalog, r == -ESHUTDOWN ? -ESHUTDOWN : -ENOTRECOVERABLE);
}

int mirrors_tell_wait(struct catalog *catalog)
{
	struct mirrors *mirrors = &catalog->mirrors;

	ASSERT(mirrors->work.owner == fiber_current());
	mirrors->dirty = true;
	mirrors->wanted = true;
	mirrors->told = 0;
	catalog_job_start(catalog);
	while (mirrors->told == 0 && (mirrors->dirty || mirrors->telling))
		fiber_queue_wait(&mirrors->changed);
	return mirrors->told;
}

/* Opening, closing. */

void mirrors_init(struct mirrors *mirrors)
{
	list_init(&mirrors->list);
	fiber_queue_init(&mirrors->changed);
	fiber_mutex_init(&mirrors->work);
	mirrors->timer.run = append_timeout;
}

bool mirror_is_forked(const struct catalog_position *copy, const struct catalog_position *other,
		      const struct lineage *lineage)
{
	if (copy->generation != other->generation || copy->sequence > other->sequence)
		return false;
	if (copy->sequence == other->sequence)
		return copy->chain != other->chain;
	return !lineage_includes(lineage, copy->epoch, copy->sequence);
}

int mirror_compare(const struct mirrors *mirrors, const struct mirror_look *look)
{
	const struct catalog_position *own = &mirrors->position;
	int order = catalog_position_compare(&look->end, own);

	if (memcmp(look->end.uuid, own->uuid, sizeof(own->uuid)) != 0)
		return -EEXIST;
	if (order > 0 || mirror_is_forked(&look->end, own, &mirrors->lineage))
		return -ESTALE;
	return order == 0 && !look->torn && !look->damaged ? 0 : -EAGAIN;
}

static bool standings_match(struct mirrors *mirrors, const struct mirror_standings *standings)
{
	bool match = standings->count == mirrors->count &&
		     standings->generation == mirrors->position.generation;

	for (unsigned i = 0; match && i < standings->count; i++) {
		const struct mirror *mirror = mirror_find(mirrors, standings->mirrors[i].directory);

		match = mirror && mirror->standing == standings->mirrors[i].standing;
	}
	return match;
}

/* Whether a mirror stands by the hint, but lacks something or is not there. A database that was
 * just restored has what the mirror has: its first change is made after it told its generation. */
static bool hint_is_false(struct mirrors *mirrors, const struct mirror_standings *hint)
{
	if (hint->generation != mirrors->position.generation)
		return false;
	for (unsigned i = 0; i < hint->count; i++) {
		const struct mirror *mirror = mirror_find(mirrors, hint->mirrors[i].directory);

		if (hint->mirrors[i].standing && !(mirror && mirror->standing))
			return true;
	}
	return false;
}

/* Before anything is read: the database may have a change that was cut off before the mirrors had
 * it. Who reads it relies on it, so no mirror may stand that lacks it. */
static int tell_before_reads(struct catalog *catalog)
{
	struct mirrors *mirrors = &catalog->mirrors;
	int r;

	fiber_mutex_lock(&mirrors->work);
	r = mirrors_tell_wait(catalog);
	fiber_mutex_unlock(&mirrors->work);
	return r == -ESHUTDOWN ? r : 0; /* with others it is still dirty, and commits end so, too */
}

/* Whether what was found is what the hint and the row say. */
static int standings_compare(struct catalog *catalog, const char *path,
			     const struct mirror_standings *row)
{
	struct mirrors *mirrors = &catalog->mirrors;
	_cleanup_(mirror_standings_done) struct mirror_standings hint = {0};
	bool is_false;
	int r = mirror_hint_read(path, &hint);

	if (r == -ENOMEM || r == -ESHUTDOWN)
		return r;
	mirrors->hint_number = hint.number;
	mirrors->dirty = r < 0 || !standings_match(mirrors, &hint);
	for (unsigned i = 0; i < row->count; i++) {
		const struct mirror *mirror = mirror_find(mirrors, row->mirrors[i].directory);

		mirrors->dirty |= mirror->standing != row->mirrors[i].standing;
	}
	is_false = r == 0 && hint_is_false(mirrors, &hint);
	r = mirrors_prepare(mirrors);
	return r == 0 && is_false ? tell_before_reads(catalog) : r;
}

static int row_read(struct catalog *catalog, struct mirror_standings *ret_standings)
{
	_cleanup_(catalog_row_done) struct catalog_row row = {0};
	struct catalog_key key = mirrors_key();
	int r = catalog_get(catalog, &key, &row);

	if (r == 0)
		r = mirror_standings_decode(row.value, row.length, ret_standings);
	if (r == -EUCLEAN)
		log_error("catalog", "the row of the mirrors is damaged", "length=%u", row.length);
	return r == -ENOENT ? 0 : r;
}

static int adopt(struct catalog *catalog, bool renew, struct catalog_report *report)
{
	struct mirrors *mirrors = &catalog->mirrors;
	int r;

	fiber_mutex_lock(&mirrors->work);
	r = mirrors_adopt(catalog, renew, report);
	fiber_mutex_unlock(&mirrors->work);
	return r;
}

int mirrors_open(struct catalog *catalog, const struct catalog_options *options,
		 struct catalog_report *report)
{
	const char *path = options->path;
	_cleanup_(mirror_standings_done) struct mirror_standings row = {0};
	struct mirrors *mirrors = &catalog->mirrors;
	int r;

	mirrors->hint_path = strdup(path);
	store_get_position(catalog->store, &mirrors->position);
	store_get_lineage(catalog->store, &mirrors->lineage);
	mirrors->timeout_ns =
		options->disk_timeout_ns ? options->disk_timeout_ns : MIRROR_TIMEOUT_NS;
	mirrors->limit_ns = 2 * mirrors->timeout_ns;
	r = mirrors->hint_path ? row_read(catalog, &row) : -ENOMEM;
	for (unsigned i = 0; r == 0 && i < row.count; i++)
		r = mirror_new(catalog, row.mirrors[i].directory) ? 0 : -ENOMEM;
	if (r == 0)
		r = adopt(catalog, options->renew_mirrors, report);
	if (r == 0 && row.count > 0)
		r = standings_compare(catalog, path, &row);
	if (r == 0 && row.count > 0)
		mirror_builder_start(catalog);
	return r;
}

void mirrors_stop(struct catalog *catalog)
{
	struct mirrors *mirrors = &catalog->mirrors;

	mirrors->stopping = true;
	mirror_kick(catalog);
	while (mirrors->builder_runs || mirrors->asking > 0)
		fiber_queue_wait(&mirrors->changed);
}

void mirrors_close(struct catalog *catalog)
{
	struct mirrors *mirrors = &catalog->mirrors;
	struct mirror *mirror;

	ASSERT(mirrors->stage == MIRRORS_IDLE && !mirrors->frame);
	LIST_FOR_EACH (&mirrors->list, mirror, struct mirror, link) {
		mirror->joined = false;
		while (mirror->in_flight) /* its memory is here */
			fiber_queue_wait(&mirrors->changed);
		(void)mirror_close_files(mirror); /* nothing is under way */
		mirror_free(mirror);
	}
	if (mirrors->hint_file)
		(void)io_close(mirrors->hint_file); /* all was synced */
	free(mirrors->hint_path);
	free(mirrors->hint_data);
	free(mirrors->row_value);
}

void catalog_get_position(struct catalog *catalog, struct catalog_position *ret_position)
{
	reactor_assert_home(catalog->home);
	*ret_position = catalog->mirrors.position;
}
