/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copies of each file are looked at one by one; what the best of them has is what the file has.
 * A group may be in several files, when a crash or a missing disk left what compaction had
 * replaced: of these the one with the fewest bad blocks counts, and among equals the newest.
 *
 * Which copies count: those that reach as far as the longest, and are without a bad block when one
 * is. The others are left to the pool as spare files, and repair makes new ones. At the end of the
 * log all count: recovery makes them equal.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "egroup/index.h"
#include "fsck/fsck_rebuild_priv.h"
#include "reactor/io.h"

static int compare_vdisk(const struct rebuild_vdisk *vdisk, uint64_t pool, uint64_t id)
{
	if (vdisk->pool != pool)
		return vdisk->pool < pool ? -1 : 1;
	return vdisk->id < id ? -1 : vdisk->id > id;
}

static size_t vdisk_place(const struct rebuild *rebuild, uint64_t pool, uint64_t id)
{
	size_t low = 0, high = rebuild->vdisk_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (compare_vdisk(&rebuild->vdisks[middle], pool, id) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct rebuild_vdisk *rebuild_vdisk_find(struct rebuild *rebuild, uint64_t pool, uint64_t id)
{
	size_t at = vdisk_place(rebuild, pool, id);

	return at < rebuild->vdisk_count && compare_vdisk(&rebuild->vdisks[at], pool, id) == 0
		       ? &rebuild->vdisks[at]
		       : NULL;
}

int rebuild_vdisk_add(struct rebuild *rebuild, uint64_t pool, uint64_t id,
		      struct rebuild_vdisk **ret_vdisk)
{
	size_t at = vdisk_place(rebuild, pool, id);
	int r;

	if (at == rebuild->vdisk_count || compare_vdisk(&rebuild->vdisks[at], pool, id) != 0) {
		r = rebuild_reserve((void **)&rebuild->vdisks, &rebuild->vdisk_capacity,
				    rebuild->vdisk_count, sizeof(rebuild->vdisks[0]));
		if (r < 0)
			return r;
		memmove(&rebuild->vdisks[at + 1], &rebuild->vdisks[at],
			(rebuild->vdisk_count - at) * sizeof(rebuild->vdisks[0]));
		rebuild->vdisks[at] = (struct rebuild_vdisk){.pool = pool, .id = id};
		rebuild->vdisk_count++;
	}
	*ret_vdisk = &rebuild->vdisks[at];
	return 0;
}

struct rebuild_group *rebuild_group_find(const struct rebuild_vdisk *vdisk, uint64_t id)
{
	size_t low = 0, high = vdisk->group_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (vdisk->groups[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < vdisk->group_count && vdisk->groups[low].id == id ? &vdisk->groups[low] : NULL;
}

static bool is_same(const struct rebuild_content *a, const struct rebuild_content *b)
{
	return a->kind == b->kind && a->vdisk == b->vdisk && a->group == b->group &&
	       a->epoch == b->epoch && a->index_blocks == b->index_blocks &&
	       a->total_slots == b->total_slots;
}

static bool is_better(const struct rebuild_content *a, const struct rebuild_content *b)
{
	if (a->kind == REBUILD_NOTHING || b->kind == REBUILD_NOTHING)
		return a->kind != REBUILD_NOTHING && b->kind == REBUILD_NOTHING;
	/* Whose records name the file, against what an older program may have left behind. */
	if (a->is_old != b->is_old)
		return b->is_old;
	return a->end != b->end ? a->end > b->end : a->bad < b->bad;
}

void rebuild_file_settle(struct rebuild_file *file, bool takes_all)
{
	struct rebuild_content *best = &file->content;

	*best = file->copies[0].content;
	for (unsigned i = 1; i < file->copy_count; i++)
		if (is_better(&file->copies[i].content, best))
			*best = file->copies[i].content;
	for (unsigned i = 0; i < file->copy_count; i++) {
		struct rebuild_copy *copy = &file->copies[i];
		const struct rebuild_content *content = &copy->content;

		copy->is_used = best->kind != REBUILD_NOTHING && is_same(content, best);
		copy->is_stale = copy->size_bytes < (uint64_t)best->end * BLOCK_BYTES ||
				 (!takes_all && (content->end < best->end ||
						 (content->bad > 0 && best->bad == 0)));
		if (!copy->is_used)
			continue;
		best->run_lsn = MAX(best->run_lsn, content->run_lsn);
		best->run_end = MAX(best->run_end, content->run_end);
		best->durable_lsn = MAX(best->durable_lsn, content->durable_lsn);
	}
}

static int scan_copies(struct rebuild *rebuild, struct rebuild_file *file, uint64_t limit_lsn)
{
	for (unsigned i = 0; i < file->copy_count; i++) {
		char path[4096];
		int r = rebuild_scan(rebuild, file, i, limit_lsn);

		if (rebuild_is_fatal(r))
			return r;
		if (r == 0)
			continue;
		rebuild_file_path(rebuild, file, i, path);
		rebuild_tell(rebuild, FSCK_REBUILD_DOUBT, "check the disk", path,
			     "the file cannot be read: %s", strerror(-r));
	}
	rebuild_file_settle(file, false);
	return 0;
}

static void fill_plain(struct rebuild_group *group)
{
	const struct rebuild_content *content = &group->file->content;

	group->id = content->group;
	group->vdisk = content->vdisk;
	group->epoch = content->epoch;
	group->stream = content->stream;
	group->first_lsn = content->first_lsn;
	group->last_lsn = content->last_lsn;
	group->run_lsn = content->run_lsn;
	group->durable_lsn = content->durable_lsn;
	group->block_end = content->block_end;
	group->slots = content->end;
	group->bad = content->bad;
	group->last_bad = content->last_bad;
	group->run_end = content->run_end;
}

static int add_group(struct rebuild *rebuild, const struct rebuild_group *group)
{
	int r = rebuild_reserve((void **)&rebuild->groups, &rebuild->group_capacity,
				rebuild->group_count, sizeof(*group));

	if (r < 0)
		return r;
	rebuild->groups[rebuild->group_count++] = *group;
	rebuild->highest_group = MAX(rebuild->highest_group, group->id);
	return 0;
}

static bool has_pages(const struct rebuild *rebuild, const struct rebuild_group *group)
{
	for (size_t i = rebuild->page_group_count; i-- > 0;)
		if (rebuild->page_groups[i] == group->id)
			return true;
	return false;
}

/* One group of a compacted file. The places of map pages are kept, for the walk. */
static int add_stored(struct rebuild *rebuild, struct rebuild_file *file,
		      const struct index_view *index, uint32_t at)
{
	struct rebuild_group group = {
		.pool = file->pool,
		.vdisk = file->content.vdisk,
		.id = le64toh(index->groups[at].group),
		.stream = RECORD_STREAM_LOG,
		.file = file,
		.is_compacted = true,
		.is_sealed = true,
		.bad = file->content.bad,
		.base = le32toh(index->groups[at].base),
		.stored_count = le32toh(index->groups[at].count),
	};
	int r;

	if (group.id == 0 || group.id >> 40)
		return 0;
	if (group.id == file->content.last_bad_group)
		group.last_bad = MAX(file->content.last_bad, 1u);
	if (index->streams_known ? at < index->page_groups : has_pages(rebuild, &group))
		group.stream = RECORD_STREAM_PAGES;
	if (group.stream == RECORD_STREAM_PAGES || !index->streams_known) {
		group.stored = calloc(group.stored_count + 1u, sizeof(*group.stored));
		if (!group.stored)
			return -ENOMEM;
		for (uint32_t i = 0; i < group.stored_count; i++)
			group.stored[i] = le16toh(index->slots[group.base + i]);
	}
	r = add_group(rebuild, &group);
	if (r < 0)
		free(group.stored);
	return r;
}

static int add_compacted(struct rebuild *rebuild, struct rebuild_file *file)
{
	_cleanup_free_ void *memory = NULL;
	const struct index_header_disk *header;
	struct index_view index;
	struct index_id id = {.pool = file->pool, .vdisk = file->content.vdisk, .file = file->id};
	struct world_file *handle;
	unsigned copy = 0;
	int r;

	while (!file->copies[copy].is_used || file->copies[copy].is_stale)
		copy++;
	r = rebuild_file_open(rebuild, file, copy, &handle);
	if (r < 0)
		return r;
	r = rebuild_index_read(rebuild, file, copy, handle, &memory);
	(void)io_close(handle); /* was only read */
	if (r < 0)
		return r;
	header = memory;
	r = index_check(memory, le32toh(header->index_blocks), &id, &index);
	for (uint32_t i = 0; r == 0 && i < index.group_count; i++)
		r = add_stored(rebuild, file, &index, i);
	return r;
}

static int scan_file(struct rebuild *rebuild, struct rebuild_file *file)
{
	struct rebuild_group group = {.pool = file->pool, .file = file};
	int r;

	rebuild->page_group_count = 0; /* of this file */
	r = scan_copies(rebuild, file, UINT64_MAX);
	if (r < 0 || file->content.kind == REBUILD_NOTHING)
		return r;
	if (file->content.kind == REBUILD_COMPACTED)
		return add_compacted(rebuild, file);
	fill_plain(&group);
	return add_group(rebuild, &group);
}

int rebuild_group_cut(struct rebuild *rebuild, struct rebuild_group *group, uint64_t limit_lsn)
{
	int r = scan_copies(rebuild, group->file, limit_lsn);

	if (r < 0)
		return r;
	group->is_dropped = group->file->content.kind != REBUILD_PLAIN;
	if (!group->is_dropped)
		fill_plain(group);
	group->is_cut = true;
	return 0;
}

static int compare_groups(const void *a, const void *b)
{
	const struct rebuild_group *x = a, *y = b;

	if (x->pool != y->pool)
		return x->pool < y->pool ? -1 : 1;
	if (x->vdisk != y->vdisk)
		return x->vdisk < y->vdisk ? -1 : 1;
	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	if (x->bad != y->bad)
		return x->bad < y->bad ? -1 : 1;
	return x->file->id > y->file->id ? -1 : x->file->id < y->file->id;
}

static int compare_roots(const void *a, const void *b)
{
	const struct rebuild_root *x = a, *y = b;
	uint64_t group_x = address_group(x->address), group_y = address_group(y->address);

	if (x->pool != y->pool)
		return x->pool < y->pool ? -1 : 1;
	if (x->vdisk != y->vdisk)
		return x->vdisk < y->vdisk ? -1 : 1;
	if (x->lsn != y->lsn)
		return x->lsn > y->lsn ? -1 : 1;
	/* In a fold all index pages of number 0 have its LSN: the root is the highest of them. */
	if (x->level != y->level)
		return x->level > y->level ? -1 : 1;
	if (group_x != group_y)
		return group_x > group_y ? -1 : 1;
	return address_slot(x->address) > address_slot(y->address)
		       ? -1
		       : address_slot(x->address) < address_slot(y->address);
}

/* The best place of each group, in order. */
static void sort_groups(struct rebuild *rebuild)
{
	struct rebuild_group *groups = rebuild->groups;
	size_t count = 0;

	if (rebuild->group_count)
		qsort(groups, rebuild->group_count, sizeof(*groups), compare_groups);
	for (size_t i = 0; i < rebuild->group_count; i++) {
		const struct rebuild_group *last = count ? &groups[count - 1] : NULL;

		if (last && last->pool == groups[i].pool && last->vdisk == groups[i].vdisk &&
		    last->id == groups[i].id)
			free(groups[i].stored);
		else
			groups[count++] = groups[i];
	}
	rebuild->group_count = count;
}

static void sort_roots(struct rebuild *rebuild)
{
	struct rebuild_root *roots = rebuild->roots;
	size_t count = 0;

	if (rebuild->root_count)
		qsort(roots, rebuild->root_count, sizeof(*roots), compare_roots);
	for (size_t i = 0; i < rebuild->root_count; i++) {
		if (count && compare_roots(&roots[count - 1], &roots[i]) == 0)
			free(roots[i].identity); /* from another copy */
		else
			roots[count++] = roots[i];
	}
	rebuild->root_count = count;
}

static void attach(struct rebuild *rebuild)
{
	for (size_t i = 0; i < rebuild->group_count; i++) {
		struct rebuild_group *group = &rebuild->groups[i];
		struct rebuild_vdisk *vdisk =
			rebuild_vdisk_find(rebuild, group->pool, group->vdisk);

		if (vdisk->group_count++ == 0)
			vdisk->groups = group;
	}
	for (size_t i = 0; i < rebuild->root_count; i++) {
		struct rebuild_root *root = &rebuild->roots[i];
		struct rebuild_vdisk *vdisk = rebuild_vdisk_find(rebuild, root->pool, root->vdisk);

		if (vdisk->root_count++ == 0)
			vdisk->roots = root;
	}
}

int rebuild_files_scan(struct rebuild *rebuild)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < rebuild->file_count; i++)
		r = scan_file(rebuild, &rebuild->files[i]);
	if (r < 0)
		return r;
	sort_groups(rebuild);
	sort_roots(rebuild);
	attach(rebuild);
	return 0;
}
