/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/mirror_disk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "reactor/io.h"

#define LOG_BYTES_MAX (UINT64_C(1) << 30) /* of a log that is read; far above what is written */
#define NEW_SUFFIX    ".new"

void mirror_path_of(const char *directory, const char *kind, uint64_t number,
		    struct mirror_path *ret_path)
{
	int length =
		kind ? snprintf(ret_path->text, sizeof(ret_path->text), "%s/catalog/%s-%016" PRIx64,
				directory, kind, number)
		     : snprintf(ret_path->text, sizeof(ret_path->text), "%s/catalog", directory);

	ASSERT(length < (int)sizeof(ret_path->text)); /* CATALOG_MIRROR_DIRECTORY_MAX leaves room */
}

int mirror_file_open(const char *path, unsigned flags, struct world_file **ret_file)
{
	int r = io_open(path, flags | WORLD_FILE_DIRECT, ret_file);

	return r == -EINVAL ? io_open(path, flags & ~(unsigned)WORLD_FILE_EXCLUSIVE, ret_file) : r;
}

static bool name_parse(const char *name, const char *kind, uint64_t *ret_number)
{
	size_t length = strlen(kind);
	char *end;

	if (strncmp(name, kind, length) != 0 || name[length] != '-' ||
	    strlen(name) != length + 17 || strspn(name + length + 1, "0123456789abcdef") != 16)
		return false;
	*ret_number = strtoull(name + length + 1, &end, 16);
	return true;
}

/* The part of a file that is read into memory, padded to whole blocks. */
struct content {
	uint8_t *data;
	size_t length;
};

static void content_done(struct content *content)
{
	free(content->data);
	*content = (struct content){0};
}

static int content_read_from(struct world_file *file, uint64_t offset, size_t most,
			     struct content *ret_content)
{
	struct world_stat stat;
	uint64_t left;
	uint8_t *data;
	int64_t n;
	int r = io_file_stat(file, &stat);

	if (r)
		return r;
	left = stat.size_bytes > offset ? stat.size_bytes - offset : 0;
	if (left > LOG_BYTES_MAX)
		return -EUCLEAN;
	left = MIN(ALIGN_UP(left, (uint64_t)MIRROR_BLOCK), (uint64_t)most);
	data = aligned_alloc(MIRROR_BLOCK, MAX((size_t)left, (size_t)MIRROR_BLOCK));
	if (!data)
		return -ENOMEM;
	n = left > 0 ? io_read(file, data, (size_t)left, offset) : 0;
	if (n < 0) {
		free(data);
		return (int)n;
	}
	/* A part of a block is no block: it stays, as something that is not zero. */
	if (!IS_ALIGNED((uint64_t)n, MIRROR_BLOCK))
		memset(data + n, UINT8_MAX, ALIGN_UP((size_t)n, (size_t)MIRROR_BLOCK) - (size_t)n);
	*ret_content = (struct content){data, ALIGN_UP((size_t)n, (size_t)MIRROR_BLOCK)};
	return 0;
}

static int content_read(const char *path, uint64_t offset, size_t most, struct content *ret_content)
{
	struct world_file *file;
	int r, r2;

	r = mirror_file_open(path, WORLD_FILE_READ_ONLY, &file);
	if (r)
		return r;
	r = content_read_from(file, offset, most, ret_content);
	r2 = io_close(file);
	if (r == 0 && r2 < 0)
		content_done(ret_content);
	return r ? r : r2;
}

struct reading {
	const char *directory;
	struct mirror_look *look;
	/* NULL: headers and logs only. */
	int (*apply)(void *arg, const struct mirror_entry *entry);
	void *arg;
	bool has_gap; /* between two logs: a rebuild that did not end, or did not begin here */
};

static int snapshot_look(const char *directory, uint64_t number, struct mirror_snapshot *ret)
{
	_cleanup_(content_done) struct content block = {0};
	struct mirror_path path;
	struct world_stat stat;
	int r;

	mirror_path_of(directory, "snapshot", number, &path);
	r = content_read(path.text, 0, MIRROR_BLOCK, &block);
	if (r == 0 && block.length < MIRROR_BLOCK)
		r = -EUCLEAN;
	if (r == 0)
		r = mirror_snapshot_read(block.data, ret);
	if (r == 0)
		r = io_stat(path.text, &stat);
	if (r == 0 && stat.size_bytes != ret->bytes)
		r = -EUCLEAN;
	if (r == -EUCLEAN)
		log_error("catalog", "a snapshot of a mirror is damaged", "path=\"%s\"", path.text);
	return r;
}

static int entries_apply(const struct reading *reading, const uint8_t *data, size_t length,
			 uint64_t *entries)
{
	while (length > 0) {
		struct mirror_entry entry;
		int64_t n = mirror_entry_read(data, length, &entry);
		int r;

		if (n < 0)
			return (int)n;
		r = reading->apply(reading->arg, &entry);
		if (r)
			return r;
		data += n;
		length -= (size_t)n;
		(*entries)++;
	}
	return 0;
}

/* The chunk at `offset`, in a buffer for the greatest. Its blocks, or an error. */
static int chunk_load(const struct reading *reading, struct world_file *file, uint64_t offset,
		      uint32_t index, uint8_t *buffer, uint64_t *entries)
{
	const struct mirror_snapshot *snapshot = &reading->look->snapshot;
	struct mirror_chunk chunk;
	uint64_t before = *entries;
	size_t bytes;
	int r = io_read_exactly(file, buffer, MIRROR_BLOCK, offset);

	if (r == 0)
		r = mirror_chunk_peek(buffer, &chunk);
	if (r)
		return r == -ENODATA ? -EUCLEAN : r;
	bytes = mirror_chunk_bytes(chunk.payload);
	if (chunk.sequence != snapshot->start.sequence || chunk.index != index ||
	    offset + bytes > snapshot->bytes)
		return -EUCLEAN;
	if (bytes > MIRROR_BLOCK)
		r = io_read_exactly(file, buffer, bytes, offset);
	if (r == 0)
		r = mirror_chunk_check(buffer, &chunk);
	if (r == 0)
		r = entries_apply(reading, buffer + MIRROR_CHUNK_HEADER, chunk.payload, entries);
	if (r)
		return r == -ENODATA ? -EUCLEAN : r;
	return *entries - before == chunk.count ? (int)(bytes / MIRROR_BLOCK) : -EUCLEAN;
}

static int chunks_load(const struct reading *reading, struct world_file *file)
{
	_cleanup_free_ uint8_t *buffer = aligned_alloc(MIRROR_BLOCK, MIRROR_CHUNK_MAX);
	uint64_t offset = MIRROR_BLOCK, entries = 0;

	if (!buffer)
		return -ENOMEM;
	for (uint32_t index = 0; offset < reading->look->snapshot.bytes; index++) {
		int blocks = chunk_load(reading, file, offset, index, buffer, &entries);

		if (blocks < 0)
			return blocks;
		offset += (uint64_t)blocks * MIRROR_BLOCK;
	}
	return entries == reading->look->snapshot.entries ? 0 : -EUCLEAN;
}

static int snapshot_load(const struct reading *reading)
{
	struct mirror_path path;
	struct world_file *file;
	int r, r2;

	mirror_path_of(reading->directory, "snapshot", reading->look->number, &path);
	r = mirror_file_open(path.text, WORLD_FILE_READ_ONLY, &file);
	if (r)
		return r;
	r = chunks_load(reading, file);
	r2 = io_close(file);
	if (r == -EUCLEAN)
		log_error("catalog", "a snapshot of a mirror is damaged", "path=\"%s\"", path.text);
	return r ? r : r2;
}

/* What lies behind the last frame: nothing, the torn end of a crash, or frames that cannot be
 * reached because one before them is bad. */
static void log_end(struct mirror_look *look, const uint8_t *data, size_t left)
{
	struct mirror_frame_info info;

	for (size_t at = 0; at < left; at += MIRROR_BLOCK) {
		int r = mirror_frame_read(data + at, left - at, &info);

		look->torn |= r != -ENODATA;
		if (r == 0 && memcmp(info.after.uuid, look->end.uuid, MIRROR_UUID_BYTES) == 0 &&
		    catalog_position_compare(&info.after, &look->end) > 0)
			look->damaged = true;
	}
}

static int log_walk(struct reading *reading, const struct content *content)
{
	struct mirror_look *look = reading->look;
	struct mirror_frame_info info;
	uint64_t entries = 0;
	size_t at = 0;

	while (at < content->length &&
	       mirror_frame_read(content->data + at, content->length - at, &info) == 0 &&
	       mirror_frame_follows(&info, &look->end)) {
		int r = reading->apply
				? entries_apply(reading, content->data + at + MIRROR_FRAME_HEADER,
						info.payload, &entries)
				: 0;

		if (r)
			return r;
		look->end = info.after;
		at += info.bytes;
	}
	look->log_bytes += at;
	look->frame_bytes += at;
	log_end(look, content->data + at, content->length - at);
	return 0;
}

/* Whether a log goes on where the one before it ended; an empty one may. */
static bool log_follows(const struct reading *reading, const struct content *content)
{
	struct mirror_frame_info info;

	return content->length == 0 ||
	       mirror_frame_read(content->data, content->length, &info) != 0 ||
	       mirror_frame_follows(&info, &reading->look->end);
}

static int log_read(struct reading *reading, uint64_t number)
{
	_cleanup_(content_done) struct content content = {0};
	struct mirror_look *look = reading->look;
	struct mirror_path path;
	int r;

	mirror_path_of(reading->directory, "log", number, &path);
	r = content_read(path.text, 0, (size_t)LOG_BYTES_MAX, &content);
	if (r)
		return r;
	if (number != look->number && !log_follows(reading, &content)) {
		reading->has_gap = true;
		look->torn = true;
		return 0;
	}
	look->log_number = number;
	look->log_bytes = 0;
	r = log_walk(reading, &content);
	if (look->log_bytes > 0 || look->tail_number == 0)
		look->tail_number = number;
	return r;
}

static int logs_read(struct reading *reading, const struct world_names *names)
{
	struct mirror_look *look = reading->look;
	bool has_first = false;
	uint64_t number;
	int r = 0;

	for (size_t i = 0; r == 0 && i < names->count; i++) {
		if (!name_parse(names->names[i], "log", &number) || number < look->number ||
		    reading->has_gap)
			continue;
		has_first |= number == look->number;
		/* Where a log ended torn, no other was begun in good standing. */
		if (look->torn) {
			reading->has_gap = true;
			continue;
		}
		r = log_read(reading, number);
	}
	if (r == 0 && (!has_first || look->end.sequence < look->snapshot.end_sequence)) {
		log_error("catalog", "the log of a mirror is missing or cut short",
			  "directory=\"%s\" sequence=%" PRIu64 " needed=%" PRIu64,
			  reading->directory, look->end.sequence, look->snapshot.end_sequence);
		r = -EUCLEAN;
	}
	return r;
}

static uint64_t names_highest(const struct world_names *names)
{
	uint64_t number, highest = 0;

	for (size_t i = 0; i < names->count; i++)
		if (name_parse(names->names[i], "log", &number) ||
		    name_parse(names->names[i], "snapshot", &number))
			highest = MAX(highest, number);
	return highest;
}

/* The newest whose header is good. */
static int snapshot_choose(const char *directory, const struct world_names *names,
			   struct mirror_look *look)
{
	uint64_t number;
	int r = -ENOENT;

	for (size_t i = names->count; i-- > 0;) {
		if (!name_parse(names->names[i], "snapshot", &number))
			continue;
		r = snapshot_look(directory, number, &look->snapshot);
		if (r != -EUCLEAN) {
			look->number = number;
			look->end = look->snapshot.start;
			break;
		}
	}
	return r;
}

static int names_read(const char *directory, struct world_names *ret_names)
{
	struct mirror_path path;

	mirror_path_of(directory, NULL, 0, &path);
	return io_directory_list(path.text, ret_names);
}

static int reading_run(struct reading *reading)
{
	struct world_names names;
	int r = names_read(reading->directory, &names);

	if (r)
		return r;
	r = snapshot_choose(reading->directory, &names, reading->look);
	if (r == 0 && reading->apply)
		r = snapshot_load(reading);
	if (r == 0)
		r = logs_read(reading, &names);
	world_names_free(&names);
	return r;
}

int mirror_highest(const char *directory, uint64_t *ret_number)
{
	struct world_names names;
	int r = names_read(directory, &names);

	if (r)
		return r;
	*ret_number = names_highest(&names);
	world_names_free(&names);
	return 0;
}

int mirror_look(const char *directory, struct mirror_look *ret_look)
{
	struct mirror_look look = {0};
	struct reading reading = {.directory = directory, .look = &look};
	int r = reading_run(&reading);

	if (r == 0)
		*ret_look = look;
	return r;
}

struct load {
	struct mirror_rows rows;
	const struct mirror_look *look;
	uint64_t added;
};

static void load_done(struct load *load)
{
	mirror_rows_done(&load->rows);
}

static int load_apply(void *arg, const struct mirror_entry *entry)
{
	struct load *load = arg;

	/* Entries of the log follow those of the snapshot. */
	if (load->added < load->look->snapshot.entries) {
		load->added++;
		return mirror_rows_add(&load->rows, entry);
	}
	return mirror_rows_apply(&load->rows, entry);
}

int mirror_load(const char *directory, struct mirror_look *ret_look, struct mirror_rows *ret_rows)
{
	struct mirror_look look = {0};
	_cleanup_(load_done) struct load load = {.look = &look};
	struct reading reading = {
		.directory = directory, .look = &look, .apply = load_apply, .arg = &load};
	int r = reading_run(&reading);

	if (r == 0)
		r = mirror_rows_settle(&load.rows);
	if (r)
		return r;
	if (load.rows.count != look.end.rows) {
		log_error("catalog", "a mirror has not the rows that it should",
			  "directory=\"%s\" rows=%zu expected=%" PRIu64, directory, load.rows.count,
			  look.end.rows);
		return -EUCLEAN;
	}
	*ret_look = look;
	*ret_rows = load.rows;
	load.rows = (struct mirror_rows){0};
	return 0;
}

int mirror_follow(const char *directory, struct mirror_look *look,
		  int (*fn)(void *arg, const struct mirror_entry *entry), void *arg)
{
	_cleanup_(content_done) struct content content = {0};
	struct reading reading = {.directory = directory, .look = look, .apply = fn, .arg = arg};
	struct mirror_path path;
	int r;

	mirror_path_of(directory, "log", look->log_number, &path);
	r = content_read(path.text, look->log_bytes, (size_t)LOG_BYTES_MAX, &content);
	return r ? r : log_walk(&reading, &content);
}

static bool is_leftover(const char *name, uint64_t keep)
{
	size_t length = strlen(name);
	uint64_t number;

	if (length > strlen(NEW_SUFFIX) &&
	    strcmp(name + length - strlen(NEW_SUFFIX), NEW_SUFFIX) == 0)
		return true;
	return (name_parse(name, "log", &number) || name_parse(name, "snapshot", &number)) &&
	       number < keep;
}

bool mirror_owns(const char *name)
{
	return is_leftover(name, UINT64_MAX);
}

int mirror_sweep(const char *directory, uint64_t keep)
{
	struct world_names names;
	struct mirror_path path;
	int r = names_read(directory, &names), r2;

	if (r)
		return r;
	mirror_path_of(directory, NULL, 0, &path);
	for (size_t i = 0; i < names.count; i++) {
		char text[2 * MIRROR_PATH_BYTES];

		if (!is_leftover(names.names[i], keep))
			continue;
		snprintf(text, sizeof(text), "%s/%s", path.text, names.names[i]);
		r2 = io_unlink(text);
		r = r ? r : r2;
	}
	world_names_free(&names);
	return r;
}
