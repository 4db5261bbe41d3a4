/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which state a vDisk has, by its groups alone.
 *
 *  1. Of the log, a record counts unless a group of a later epoch begins with it or one before
 *     it: a recovery had ended the log before. And nothing of an earlier epoch counts behind a
 *     checkpoint. Records that were issued again in the same epoch are equal, and the map may
 *     name either.
 *  2. The map is that of the newest checkpoint all of whose pages are there, if the log has every
 *     record from there to the newest checkpoint of which there is any page. A checkpoint that was
 *     not committed is as good: its log was synced before its pages were written.
 *  3. Without such a map the log alone will do, if it begins at record 1 and has no gap.
 *  4. Else the newest checkpoint is taken if its root is there: what lies below bad pages fails to
 *     be read, and everything else is right. If its root is not there either, what could be made
 *     would be older than what was: the vDisk is not made, unless that is forced.
 * What comes after the checkpoint in the log is left to the recovery of the next open.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fsck/fsck_rebuild_priv.h"
#include "vdisk/map.h"

#define ROOTS_TRIED 64u
#define EPOCH_GAP   16u /* what was lost may have had greater ones */
#define PAGES_GAP   1024u

static bool is_log(const struct rebuild_group *group)
{
	return group->stream == RECORD_STREAM_LOG && !group->is_compacted && !group->is_dropped;
}

static uint64_t epoch_limit(const struct rebuild_vdisk *vdisk, uint64_t epoch)
{
	uint64_t limit = UINT64_MAX;

	for (size_t i = 0; i < vdisk->root_count; i++) {
		const struct rebuild_root *root = &vdisk->roots[i];

		if (root->identity && root->identity->epoch > epoch)
			limit = MIN(limit, root->lsn + 1);
	}
	return limit;
}

static int cut_log(struct rebuild *rebuild, struct rebuild_vdisk *vdisk)
{
	/* First records of groups: of the epoch that is gone through, and of those after it. */
	uint64_t first = UINT64_MAX, limit = UINT64_MAX, epoch = UINT64_MAX;
	int r = 0;

	for (size_t i = vdisk->group_count; r == 0 && i-- > 0;) {
		struct rebuild_group *group = &vdisk->groups[i];

		if (!is_log(group))
			continue;
		if (group->epoch < epoch) {
			limit = MIN(MIN(limit, first), epoch_limit(vdisk, group->epoch));
			first = UINT64_MAX;
			epoch = group->epoch;
		}
		if (limit <= group->last_lsn)
			r = rebuild_group_cut(rebuild, group, limit);
		if (!group->is_dropped)
			first = MIN(first, group->first_lsn);
	}
	return r;
}

/* How far the log goes without a gap: the last record, or `from` - 1. */
static uint64_t log_end(const struct rebuild_vdisk *vdisk, uint64_t from)
{
	for (size_t i = 0; i < vdisk->group_count; i++) {
		const struct rebuild_group *group = &vdisk->groups[i];

		if (is_log(group) && group->first_lsn <= from && group->run_lsn >= from)
			from = group->run_lsn + 1;
	}
	return from - 1;
}

/* Only what says so is a root, where anything does. */
static bool is_root(const struct rebuild_vdisk *vdisk, const struct rebuild_root *root)
{
	unsigned level = 0;
	bool any = false;

	for (size_t i = 0; i < vdisk->root_count; i++) {
		any |= vdisk->roots[i].identity != NULL;
		level = MAX(level, vdisk->roots[i].level);
	}
	return any ? root->identity != NULL : root->level == level;
}

/* Slot 0: nothing is there. */
static bool is_behind(const struct rebuild_root *root, uint64_t group, uint32_t slot)
{
	uint64_t at = address_group(root->address);

	return slot && (group > at || (group == at && slot > address_slot(root->address)));
}

/* Where pages were written after it that are bad now, one may have been a newer root, all of whose
 * log is gone already. Of single bad pages that is not believed while the log goes on behind the
 * root: a crash in the next checkpoint leaves such. A file of pages that cannot be used at all is
 * another matter: it may be of any time, and log groups in between may be gone while an earlier one
 * still has something live. */
static bool may_be_older(const struct rebuild_vdisk *vdisk, const struct rebuild_root *root)
{
	uint64_t at = address_group(root->address);

	if (vdisk->lost_pages > at) /* when they were written is not known */
		return true;
	if (log_end(vdisk, root->lsn + 1) > root->lsn)
		return false;
	for (size_t i = 0; i < vdisk->group_count; i++) {
		const struct rebuild_group *group = &vdisk->groups[i];

		if (group->stream == RECORD_STREAM_PAGES &&
		    (is_behind(root, group->id, group->bad > 0 ? group->last_bad : 0) ||
		     is_behind(root, group->id, group->torn)))
			return true;
	}
	return false;
}

static bool is_newest(const struct rebuild_vdisk *vdisk, const struct rebuild_root *root)
{
	return log_end(vdisk, root->lsn + 1) >= vdisk->newest_lsn && !may_be_older(vdisk, root);
}

struct choice {
	const struct rebuild_root *root; /* NULL: the log alone */
	struct rebuild_walk walk;
	bool is_settled;
	bool is_whole; /* every page is there; it was walked last */
};

static int choose_whole(struct rebuild *rebuild, const struct rebuild_vdisk *vdisk,
			struct choice *choice)
{
	const struct rebuild_root *first = NULL;
	struct rebuild_walk walk, first_walk = {0};
	unsigned tried = 0;

	for (size_t i = 0; i < vdisk->root_count && tried < ROOTS_TRIED; i++) {
		const struct rebuild_root *root = &vdisk->roots[i];
		int r;

		if (!is_root(vdisk, root))
			continue;
		tried++;
		r = rebuild_map_walk(rebuild, vdisk, root, &walk);
		if (r < 0)
			return r;
		if (!first) {
			first = root;
			first_walk = walk;
		}
		if (walk.bad_pages == 0 && is_newest(vdisk, root)) {
			*choice = (struct choice){
				.root = root, .walk = walk, .is_settled = true, .is_whole = true};
			return 0;
		}
	}
	*choice = (struct choice){.root = first, .walk = first_walk};
	return 0;
}

/* By force: the newest map that there is, or as far as the log goes alone. */
static void choose_older(struct rebuild *rebuild, struct rebuild_vdisk *vdisk, uint64_t alone,
			 struct choice *choice)
{
	uint64_t lsn = choice->root ? choice->root->lsn : alone;

	if (lsn == 0)
		return;
	choice->is_settled = true;
	rebuild_doubt(rebuild, vdisk, "restore it from a backup",
		      "it is as it was at record %" PRIu64
		      " of its log, or a little after: a newer "
		      "checkpoint, at record %" PRIu64 " or after, cannot be used",
		      lsn, MAX(vdisk->newest_lsn, lsn));
}

static int choose(struct rebuild *rebuild, struct rebuild_vdisk *vdisk, struct choice *choice)
{
	uint64_t alone = log_end(vdisk, 1);
	int r = choose_whole(rebuild, vdisk, choice);

	if (r < 0 || choice->is_settled)
		return r;
	if (alone >= 1 && alone >= vdisk->newest_lsn && !vdisk->lost_pages) {
		*choice = (struct choice){.is_settled = true};
		return 0;
	}
	choice->is_settled = choice->root && is_newest(vdisk, choice->root);
	if (!choice->is_settled && rebuild->options->force)
		choose_older(rebuild, vdisk, alone, choice);
	return 0;
}

static void tell_unsettled(struct rebuild *rebuild, const struct rebuild_vdisk *vdisk)
{
	char object[64];

	snprintf(object, sizeof(object), "vDisk %" PRIu64, vdisk->id);
	rebuild_tell(
		rebuild, FSCK_REBUILD_DOUBT,
		"bring back the disks that are missing, and run this again; or, if it was "
		"deleted, remove the files",
		object,
		"it is not made: of %zu groups there is no map that is whole, nor the log from "
		"its beginning. It was deleted, or too much is missing. Its files go to "
		"unclaimed/ of their disks",
		vdisk->group_count);
}

static void seal_group(struct rebuild_group *group, uint64_t checkpoint)
{
	bool known = group->stream == RECORD_STREAM_PAGES ? group->bad == 0
							  : group->last_lsn <= checkpoint;

	group->row_lsn = group->last_lsn;
	group->is_sealed = true;
	if (group->stream == RECORD_STREAM_PAGES && !known)
		group->row_lsn = 0; /* it is not known where it ends */
	if (group->stream == RECORD_STREAM_PAGES || known ||
	    (group->is_cut && group->run_lsn == group->last_lsn))
		return;
	group->is_sealed = false;
	rebuild_file_settle(group->file, true);
}

/* What a recovery left behind the end of the log that it found, in a group that the checkpoint has:
 * nobody names it, and the group ends before. */
static int cut_torn(struct rebuild *rebuild, struct rebuild_group *group, uint64_t checkpoint)
{
	if (!is_log(group) || group->bad == 0 || group->last_lsn > checkpoint ||
	    group->named_end > group->run_end)
		return 0;
	return rebuild_group_cut(rebuild, group, group->run_lsn + 1);
}

static int seal_groups(struct rebuild *rebuild, struct rebuild_vdisk *vdisk, bool map_is_whole)
{
	uint64_t checkpoint = vdisk->row.checkpoint_lsn;
	int r = 0;

	for (size_t i = 0; r == 0 && i < vdisk->group_count; i++) {
		struct rebuild_group *group = &vdisk->groups[i];

		if (map_is_whole)
			r = cut_torn(rebuild, group, checkpoint);
		if (r < 0 || group->is_dropped)
			continue;
		group->file->is_named = true;
		if (!group->is_compacted)
			seal_group(group, checkpoint);
	}
	return r;
}

/* Where the log goes on: with the first group that has more than the map. */
static void set_position(struct rebuild_vdisk *vdisk, const struct rebuild_root *root)
{
	const struct rebuild_group *tail = NULL;
	uint64_t last = 0;

	for (size_t i = 0; i < vdisk->group_count; i++) {
		const struct rebuild_group *group = &vdisk->groups[i];

		if (group->is_dropped)
			continue;
		last = group->id;
		if (!tail && is_log(group) && group->last_lsn > vdisk->row.checkpoint_lsn)
			tail = group;
	}
	vdisk->row.log_group = tail ? tail->id : last;
	vdisk->row.log_slot = tail || !last ? 0 : SLOTS_PER_GROUP;
	if (tail && root && root->identity && root->identity->log_group == tail->id)
		vdisk->row.log_slot = root->identity->log_slot;
}

static void set_counters(struct rebuild_vdisk *vdisk)
{
	struct vdisk_row *row = &vdisk->row;

	for (size_t i = 0; i < vdisk->group_count; i++) {
		const struct rebuild_group *group = &vdisk->groups[i];

		row->epoch = MAX(row->epoch, group->epoch);
		if (group->stream == RECORD_STREAM_PAGES)
			row->page_lsn = MAX(row->page_lsn, group->last_lsn);
	}
	for (size_t i = 0; i < vdisk->root_count; i++)
		if (vdisk->roots[i].identity)
			row->epoch = MAX(row->epoch, vdisk->roots[i].identity->epoch);
	row->epoch += EPOCH_GAP;
	row->page_lsn += PAGES_GAP;
}

/* The newest: that of a group of the log which began after the checkpoint, or the checkpoint's. */
static const struct identity *newest_identity(const struct rebuild_vdisk *vdisk,
					      const struct rebuild_root *root)
{
	const struct rebuild_group *group = rebuild_group_find(vdisk, vdisk->identity_group);

	if (!root || !root->identity)
		return vdisk->identity;
	if (vdisk->identity && group && is_log(group) && group->first_lsn > root->lsn)
		return vdisk->identity;
	return root->identity;
}

static void set_names(struct rebuild *rebuild, struct rebuild_vdisk *vdisk,
		      const struct identity *identity)
{
	struct vdisk_row *row = &vdisk->row;

	vdisk->factor = 1;
	row->block_bytes = 512;
	if (!identity) {
		snprintf(row->name, sizeof(row->name), "vdisk-%" PRIu64, vdisk->id);
		rebuild_doubt(rebuild, vdisk,
			      "look at what is in it, and give it its name and size",
			      "its name, size and block size are not known: older programs did "
			      "not write them. It may have been deleted");
		return;
	}
	memcpy(row->name, identity->name, sizeof(row->name));
	memcpy(vdisk->container_name, identity->container_name, sizeof(vdisk->container_name));
	row->container = identity->container;
	row->size_bytes = identity->size_bytes;
	row->block_bytes = identity->block_bytes;
	row->created_wall_ns = identity->created_wall_ns;
	vdisk->factor = identity->factor;
	vdisk->written_wall_ns = identity->written_wall_ns;
}

/* Behind the last block that something tells of; when its size is not known, also of what the map
 * has by now: a map of that height was made for more than a lower one could hold. */
static uint64_t find_block_end(const struct rebuild_vdisk *vdisk, const struct rebuild_walk *walk,
			       bool is_known)
{
	uint64_t blocks = walk->block_end;

	for (size_t i = 0; i < vdisk->group_count; i++) {
		const struct rebuild_group *group = &vdisk->groups[i];

		if (is_log(group) && (!is_known || group->last_lsn > vdisk->row.checkpoint_lsn))
			blocks = MAX(blocks, group->block_end);
	}
	if (!is_known && vdisk->row.root_level > 1)
		blocks = MAX(blocks, map_child_span(vdisk->row.root_level) + 1);
	return MIN(blocks, VDISK_MAX_BYTES / BLOCK_BYTES);
}

/* At least what there is. */
static void set_size(struct rebuild *rebuild, struct rebuild_vdisk *vdisk,
		     const struct rebuild_walk *walk, bool is_known)
{
	uint64_t bytes = find_block_end(vdisk, walk, is_known) * BLOCK_BYTES;

	if (is_known && bytes <= vdisk->row.size_bytes)
		return;
	vdisk->row.size_bytes = MAX(ALIGN_UP(bytes, MIB), VDISK_MIN_BYTES);
	rebuild_doubt(rebuild, vdisk, "resize it, if need be",
		      is_known ? "it had grown: its size is made to fit what was written, %" PRIu64
				 " MiB"
			       : "its size is not known: it is made to fit what its map and log "
				 "cover, %" PRIu64 " MiB",
		      vdisk->row.size_bytes / MIB);
}

static void check_whole(struct rebuild *rebuild, struct rebuild_vdisk *vdisk,
			const struct choice *choice)
{
	uint64_t durable = 0, last = 0;

	if (choice->walk.bad_pages)
		rebuild_doubt(rebuild, vdisk, "restore what cannot be read from a backup",
			      "%" PRIu64 " pages of its map are damaged or missing: reading what "
			      "lies below them fails",
			      choice->walk.bad_pages);
	if (choice->walk.missing_blocks)
		rebuild_doubt(rebuild, vdisk,
			      "bring back the disk that had them, and run this again; or restore "
			      "from a backup",
			      "%" PRIu64 " of its blocks are in groups that are not there: reading "
			      "them fails. A deletion may have been under way",
			      choice->walk.missing_blocks);
	for (size_t i = 0; i < vdisk->group_count; i++)
		if (is_log(&vdisk->groups[i])) {
			durable = MAX(durable, vdisk->groups[i].durable_lsn);
			last = MAX(last, vdisk->groups[i].last_lsn);
		}
	if (durable <= vdisk->log_lsn && last > vdisk->log_lsn)
		rebuild_tell(rebuild, FSCK_REBUILD_NOTE, NULL, vdisk->row.name,
			     "its log ends at record %" PRIu64
			     "; what is behind a gap, up to record %" PRIu64
			     ", was torn by a loss of power, or is damaged",
			     vdisk->log_lsn, last);
	if (vdisk->lost_durable > vdisk->log_lsn)
		rebuild_doubt(rebuild, vdisk, "restore it from a backup",
			      "its log ends at record %" PRIu64
			      ", and what was flushed after it, up to "
			      "record %" PRIu64 ", was in a file whose beginning is damaged",
			      vdisk->log_lsn, vdisk->lost_durable);
	if (durable > vdisk->log_lsn)
		rebuild_doubt(rebuild, vdisk, "restore it from a backup",
			      "its log ends at record %" PRIu64 ", but was durable up to %" PRIu64
			      ": it does not open",
			      vdisk->log_lsn, durable);
}

static int make_row(struct rebuild *rebuild, struct rebuild_vdisk *vdisk,
		    const struct choice *choice)
{
	const struct rebuild_root *root = choice->root;
	const struct identity *identity = newest_identity(vdisk, root);
	struct vdisk_row *row = &vdisk->row;

	vdisk->is_made = true;
	row->id = vdisk->id;
	row->pool = vdisk->pool;
	row->root_level = root ? root->level : 1;
	if (root)
		row->root = (struct map_entry){.crc = root->crc, .address = root->address};
	row->checkpoint_lsn = root ? root->lsn : 0;
	row->live_slots = choice->walk.slots;
	set_names(rebuild, vdisk, identity);
	set_size(rebuild, vdisk, &choice->walk, identity != NULL);
	set_position(vdisk, root);
	set_counters(vdisk);
	vdisk->log_lsn = log_end(vdisk, row->checkpoint_lsn + 1);
	check_whole(rebuild, vdisk, choice);
	return seal_groups(rebuild, vdisk, choice->is_whole);
}

static bool has_anything(const struct rebuild_vdisk *vdisk)
{
	for (size_t i = 0; i < vdisk->group_count; i++)
		if (!vdisk->groups[i].is_dropped)
			return true;
	return false;
}

int rebuild_vdisk_settle(struct rebuild *rebuild, struct rebuild_vdisk *vdisk)
{
	struct choice choice = {0};
	int r = cut_log(rebuild, vdisk);

	if (r == 0 && !has_anything(vdisk))
		return 0;
	if (r == 0)
		r = choose(rebuild, vdisk, &choice);
	if (r < 0)
		return r;
	if (choice.is_settled && choice.root && choice.root->level > 4)
		choice.is_settled = false;
	if (choice.is_settled)
		return make_row(rebuild, vdisk, &choice);
	tell_unsettled(rebuild, vdisk);
	return 0;
}
