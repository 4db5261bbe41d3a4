/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copies of each file are looked at one by one; what the best of them has is what the file has.
 * A group may be in several files, when a crash or a missing disk left what compaction had
 * replaced: of these the one with the fewest bad blocks counts, and among equals the newest.
 *
 * Which copies count: those that reach as far as the longest and are without a bad block. When
 * there is none such, each may have what another has not: all that are large enough count, every
 * read is held against the map, and scrub makes them equal. At the end of the log all count:
 * recovery makes them equal. What does not count is left to the pool as spare files, and repair
 * makes new ones; but see rebuild_files_move().
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
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

static bool is_whole(const struct rebuild_content *content, const struct rebuild_content *best)
{
	return content->end == best->end && content->bad == 0;
}

/* Whether it lacks what others have. */
static bool is_stale(const struct rebuild_copy *copy, const struct rebuild_content *best,
		     bool any_whole)
{
	return copy->size_bytes < (uint64_t)best->end * BLOCK_BYTES ||
	       (any_whole && !is_whole(&copy->content, best));
}

/* A row names a disk once: the better one of what is there. */
static void choose_on_disk(struct rebuild_file *file, unsigned at)
{
	struct rebuild_copy *copy = &file->copies[at];

	for (unsigned i = 0; i < at; i++) {
		struct rebuild_copy *other = &file->copies[i];

		if (other->disk != copy->disk || !other->is_used || !copy->is_used)
			continue;
		if (other->is_stale || is_better(&copy->content, &other->content))
			other->is_used = false;
		else
			copy->is_used = false;
	}
}

void rebuild_file_settle(struct rebuild_file *file, bool takes_all)
{
	struct rebuild_content *best = &file->content;
	bool any_whole = false;

	*best = file->copies[0].content;
	for (unsigned i = 1; i < file->copy_count; i++)
		if (is_better(&file->copies[i].content, best))
			*best = file->copies[i].content;
	for (unsigned i = 0; i < file->copy_count; i++) {
		struct rebuild_copy *copy = &file->copies[i];

		copy->is_used = best->kind != REBUILD_NOTHING && is_same(&copy->content, best);
		any_whole |= copy->is_used && is_whole(&copy->content, best);
	}
	for (unsigned i = 0; i < file->copy_count; i++) {
		struct rebuild_copy *copy = &file->copies[i];

		copy->is_stale = is_stale(copy, best, any_whole && !takes_all);
		choose_on_disk(file, i);
		if (!copy->is_used)
			continue;
		best->run_lsn = MAX(best->run_lsn, copy->content.run_lsn);
		best->run_end = MAX(best->run_end, copy->content.run_end);
		best->durable_lsn = MAX(best->durable_lsn, copy->content.durable_lsn);
	}
}

/* A file that nothing is known of may be a part of any vDisk, and the newest of it. */
static int refuse_unread(struct rebuild *rebuild, const struct rebuild_file *file, unsigned copy,
			 int error)
{
	char path[4096];

	rebuild_file_path(rebuild, file, copy, path);
	return rebuild_refuse(rebuild, error,
			      "mend the disk, or leave it out; with --force the file goes to "
			      "unclaimed/, and what it has is missing",
			      path, "the file cannot be read, and no copy of it can");
}

/* What its pages of a map, or its log, would have said is missed. */
static int note_lost(struct rebuild *rebuild, const struct rebuild_file *file)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < file->copy_count; i++) {
		const struct rebuild_content *content = &file->copies[i].content;
		struct rebuild_vdisk *vdisk;

		if (content->lost_pages + content->lost_durable == 0 ||
		    content->lost_pages > REBUILD_GROUP_MAX || content->lost_vdisk == 0 ||
		    content->lost_vdisk > REBUILD_ID_MAX)
			continue;
		r = rebuild_vdisk_add(rebuild, file->pool, content->lost_vdisk, &vdisk);
		if (r < 0)
			break;
		vdisk->lost_pages = MAX(vdisk->lost_pages, content->lost_pages);
		vdisk->lost_durable = MAX(vdisk->lost_durable, content->lost_durable);
	}
	return r;
}

/* `copy` cannot be read, or not all of it. */
static int tell_unread(struct rebuild *rebuild, const struct rebuild_file *file, unsigned copy)
{
	int error = file->copies[copy].error;
	char path[4096];

	if (file->content.kind == REBUILD_NOTHING)
		return refuse_unread(rebuild, file, copy, error);
	rebuild_file_path(rebuild, file, copy, path);
	rebuild_tell(rebuild, FSCK_REBUILD_DOUBT, "check the disk", path,
		     "the file cannot be read, or not all of it: %s", strerror(-error));
	return 0;
}

/* None of it can be used, although the disk gives all of it. A crash may leave such a file, too,
 * and then nobody misses it. */
static void tell_damaged(struct rebuild *rebuild, const struct rebuild_file *file, unsigned copy)
{
	uint64_t vdisk = file->copies[copy].content.lost_vdisk;
	char path[4096], whose[64] = "";

	rebuild_file_path(rebuild, file, copy, path);
	if (vdisk)
		snprintf(whose, sizeof(whose), ", but it seems to be of vDisk %" PRIu64, vdisk);
	rebuild_tell(rebuild, FSCK_REBUILD_NOTE, NULL, path,
		     "its beginning is damaged, and nothing of it can be used%s", whose);
}

static int scan_copies(struct rebuild *rebuild, struct rebuild_file *file)
{
	int r = 0;

	for (unsigned i = 0; i < file->copy_count; i++) {
		struct rebuild_copy *copy = &file->copies[i];

		r = rebuild_scan(rebuild, file, i);
		if (rebuild_is_fatal(r))
			return r;
		if (r < 0)
			copy->content = (struct rebuild_content){0};
		copy->error = r < 0 ? r : copy->content.unread ? -EIO : 0;
	}
	rebuild_file_settle(file, false);
	r = file->content.kind == REBUILD_NOTHING ? note_lost(rebuild, file) : 0;
	for (unsigned i = 0; r == 0 && i < file->copy_count; i++)
		if (file->copies[i].error)
			r = tell_unread(rebuild, file, i);
		else if (file->content.kind == REBUILD_NOTHING &&
			 file->copies[i].content.is_damaged && !file->copies[i].content.is_reused)
			tell_damaged(rebuild, file, i);
	return r;
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
	group->torn = content->torn;
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

	if (group.id == 0 || group.id > REBUILD_GROUP_MAX)
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
	const struct index_view *index = NULL;
	int r = 0;

	for (unsigned i = 0; !index && i < file->copy_count; i++)
		if (file->copies[i].is_used && !file->copies[i].is_stale)
			index = &file->copies[i].index->view;
	ASSERT(index);
	for (uint32_t i = 0; r == 0 && i < index->group_count; i++)
		r = add_stored(rebuild, file, index, i);
	return r;
}

static int add_groups(struct rebuild *rebuild, struct rebuild_file *file)
{
	struct rebuild_group group = {.pool = file->pool, .file = file};

	if (file->content.kind == REBUILD_NOTHING)
		return 0;
	if (file->content.kind == REBUILD_COMPACTED)
		return add_compacted(rebuild, file);
	fill_plain(&group);
	return add_group(rebuild, &group);
}

static int scan_file(struct rebuild *rebuild, struct rebuild_file *file)
{
	int r;

	rebuild->page_group_count = 0; /* of this file */
	r = scan_copies(rebuild, file);
	if (r == 0)
		r = add_groups(rebuild, file);
	for (unsigned i = 0; i < file->copy_count; i++) {
		rebuild_index_free(file->copies[i].index);
		file->copies[i].index = NULL;
	}
	return r;
}

int rebuild_group_cut(struct rebuild *rebuild, struct rebuild_group *group, uint64_t limit_lsn)
{
	struct rebuild_file *file = group->file;

	for (unsigned i = 0; i < file->copy_count; i++) {
		char path[4096];
		int r = 0;

		if (file->copies[i].is_used)
			r = rebuild_scan_cut(rebuild, file, i, limit_lsn);
		else
			file->copies[i].content = (struct rebuild_content){0};
		if (r == 0)
			continue;
		if (rebuild_is_fatal(r))
			return r;
		rebuild_file_path(rebuild, file, i, path);
		rebuild_tell(rebuild, FSCK_REBUILD_REFUSED, "check the disk, and run this again",
			     path, "the file could be read, and now it cannot: %s", strerror(-r));
		return -EEXIST;
	}
	rebuild_file_settle(file, false);
	group->is_dropped = file->content.kind != REBUILD_PLAIN;
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
