/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See scan.h. Pieces are read ahead from one copy (ahead.h); a block that is not as its checksum
 * says is asked of the other copies, which also puts the bad copy right.
 *
 * A damaged header hides how long its record is and what its blocks should be. The scan then goes
 * on block by block until it finds another header; what lies between is handed on as the copy has
 * it. The same holds behind the last record of a group of map pages that a crash left: nobody
 * wrote there, or nobody names it.
 */
#include "egroup/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/reached.h"
#include "codec/crc32c.h"
#include "egroup/index.h"
#include "egroup/store_priv.h"
#include "pool/pool_io.h"

struct scan {
	const struct egroup_scan *hooks;
	struct egroup_file *file;
	unsigned copy;
	struct ahead *ahead;
	struct ahead_piece *piece;              /* that is looked at */
	char *buffer;                           /* of it */
	uint64_t unreadable[AHEAD_BLOCKS / 64]; /* blocks of it that are not what the copy has */
	/* The record that the scan is in, of a plain file. */
	struct egroup *group;
	uint32_t header_slot, record_end;
	bool lost; /* between a bad header and the next good one */
	/* The first bad header of a group whose end is not known: a good one behind it tells that
	 * it was not the end. */
	bool doubts;
	uint32_t doubtful_slot;
	int doubtful_error;
	struct egroup_tried doubtful_tried;
	struct record_header_disk header;
};

/* Blocks of the vDisk that the record holds at its payload block `at`, or (`at` UINT32_MAX) that
 * its first extent of data does. */
static void find_blocks(const struct scan *scan, uint32_t at, struct egroup_finding *finding)
{
	struct record_extent extent;
	uint32_t cursor = 0;

	for (uint32_t i = 0; i < record_extent_count(&scan->header); i++) {
		record_get_extent(&scan->header, i, &cursor, &extent);
		if (extent.kind != RECORD_EXTENT_DATA)
			continue;
		if (at == UINT32_MAX) {
			finding->block = extent.block;
			finding->block_count = extent.count;
			return;
		}
		if (at >= extent.first_payload && at - extent.first_payload < extent.count) {
			finding->block = extent.block + (at - extent.first_payload);
			finding->block_count = 1;
			return;
		}
	}
}

/* The block that the scan has at `block`, from all copies, the scan's first. */
static int read_again(const struct scan *scan, uint64_t place,
		      int (*check)(void *arg, const void *block), void *arg, char *block,
		      struct egroup_tried *ret_tried)
{
	const struct egroup_read read = {
		.file = scan->file,
		.buffer = block,
		.length = BLOCK_BYTES,
		.offset = place << BLOCK_SHIFT,
		.first = scan->copy,
		.check = check,
		.arg = arg,
		.tried = ret_tried,
	};

	return egroup_file_read(&read);
}

/* `finding` says what it is and where; `error`: of reading it again, from all copies. */
static void tell(const struct scan *scan, struct egroup_finding *finding,
		 const struct egroup_tried *tried)
{
	bool right = finding->error == 0;
	unsigned away = right ? tried->away & 1u << scan->copy : tried->away;

	/* The same copy had it right this time: a bit had flipped on the way. */
	if (right && tried->wrong == 0 && away == 0)
		return;
	REACHED("scan.finding");
	finding->copy = scan->copy;
	finding->slots = MAX(finding->slots, 1u);
	finding->right_elsewhere = right;
	finding->put_right = right && tried->unmended == 0 && away == 0;
	finding->wrong = tried->wrong;
	finding->away = away;
	finding->unread = tried->unread;
	if (finding->kind == EGROUP_FINDING_BLOCK && !scan->file->compacted)
		find_blocks(scan, finding->slot - scan->header_slot - 1, finding);
	else if (finding->kind == EGROUP_FINDING_HEADER && right)
		find_blocks(scan, UINT32_MAX, finding);
	if (scan->hooks->finding)
		scan->hooks->finding(scan->hooks->arg, finding);
}

static void tell_header(const struct scan *scan, uint32_t slot, int r,
			const struct egroup_tried *tried)
{
	struct egroup_finding finding = {
		.kind = EGROUP_FINDING_HEADER,
		.group = scan->group->id,
		.place = slot,
		.slot = slot,
		.slots = scan->record_end - slot,
		.error = r,
	};

	tell(scan, &finding, tried);
}

static bool ends_scan(int r)
{
	return r == -ESHUTDOWN || r == -ENOMEM || r == -ECANCELED;
}

static void begin_reading(struct scan *scan, uint32_t first, uint32_t end)
{
	const struct ahead_options options = {
		.file = scan->file,
		.copy = scan->copy,
		.first = first,
		.end = end,
		.pace = scan->hooks->pace,
		.arg = scan->hooks->arg,
	};

	ahead_begin(scan->ahead, &options);
}

/* What could not be read in one piece is read block by block. */
static int open_piece(struct scan *scan, struct ahead_piece *piece)
{
	struct pool_file *file = egroup_file_handle(scan->file);
	int r = piece->result;

	piece->unreadable = 0;
	scan->piece = piece;
	scan->buffer = piece->buffer;
	scan->file->store->read_bytes += (uint64_t)piece->blocks * BLOCK_BYTES;
	memset(scan->unreadable, 0, sizeof(scan->unreadable));
	for (uint32_t i = 0; r < 0 && !ends_scan(r) && i < piece->blocks; i++) {
		char *block = scan->buffer + (size_t)i * BLOCK_BYTES;
		int one = pool_io_read_copy(file, scan->copy, block, BLOCK_BYTES,
					    ((uint64_t)piece->first + i) << BLOCK_SHIFT);

		if (ends_scan(one))
			return one;
		if (one < 0) {
			memset(block, 0, BLOCK_BYTES);
			piece->unreadable++;
			scan->unreadable[i / 64] |= UINT64_C(1) << (i % 64);
		}
	}
	return ends_scan(r) ? r : 0;
}

static bool is_unreadable(const struct scan *scan, uint32_t at)
{
	return UNLIKELY(scan->unreadable[at / 64] >> (at % 64) & 1);
}

/* Of the block as it will be handed on. */
static uint32_t take_crc(struct ahead_piece *piece, uint32_t at)
{
	piece->crcs[at] = crc32c(piece->buffer + (size_t)at * BLOCK_BYTES, BLOCK_BYTES);
	return piece->crcs[at];
}

static bool is_intact(const struct scan *scan, uint32_t at, uint32_t crc)
{
	return LIKELY(take_crc(scan->piece, at) == crc) && !is_unreadable(scan, at);
}

/* A block of the buffer against its checksum; what another copy has right takes its place. */
static int settle(struct scan *scan, uint64_t place, uint32_t at, uint32_t crc, uint64_t group,
		  uint32_t slot)
{
	char *block = scan->buffer + (size_t)at * BLOCK_BYTES;
	struct egroup_finding finding = {.kind = EGROUP_FINDING_BLOCK,
					 .group = group,
					 .place = (uint32_t)place,
					 .slot = slot};
	struct egroup_tried tried = {0};

	if (is_intact(scan, at, crc))
		return 0;
	finding.error = read_again(scan, place, egroup_check_crc, &crc, block, &tried);
	if (ends_scan(finding.error))
		return finding.error;
	(void)take_crc(scan->piece, at);
	tell(scan, &finding, &tried);
	return 0;
}

/* `r`: of looking at it. */
static int hand_on(struct scan *scan, struct ahead_piece *piece, int r)
{
	const struct egroup_scan *hooks = scan->hooks;
	uint64_t bytes = (uint64_t)piece->blocks * BLOCK_BYTES;

	if (r == 0 && hooks->content)
		r = hooks->content(hooks->arg, piece);
	else
		ahead_put(piece);
	if (r == 0 && hooks->pause)
		r = hooks->pause(hooks->arg, bytes);
	return r;
}

/* Sealed by a recovery that could not know where it ends. */
static bool end_is_unknown(const struct egroup *group)
{
	return group->stream == RECORD_STREAM_PAGES && group->last_lsn == 0;
}

static int enter_record(struct scan *scan, uint32_t slot, uint32_t at)
{
	struct egroup *group = scan->group;
	const struct record_id id = {.pool = pool_id(scan->file->store->pool),
				     .vdisk = scan->file->store->vdisk,
				     .group = group->id,
				     .slot = slot,
				     .stream = group->stream};
	char *block = scan->buffer + (size_t)at * BLOCK_BYTES;
	const struct record_header_disk *header = (const struct record_header_disk *)block;
	struct egroup_tried tried = {0};
	bool told = false;
	int r = is_unreadable(scan, at) ? -EIO : record_check(header, &id);

	if (r < 0 && !scan->lost) {
		r = read_again(scan, slot, egroup_check_header, (void *)&id, block, &tried);
		if (ends_scan(r))
			return r;
		scan->doubts = r < 0 && end_is_unknown(group);
		scan->doubtful_slot = slot;
		scan->doubtful_error = r;
		scan->doubtful_tried = tried;
		told = !scan->doubts;
	}
	if (r == 0 && scan->doubts) {
		tell_header(scan, scan->doubtful_slot, scan->doubtful_error, &scan->doubtful_tried);
		scan->doubts = false;
	}
	if (scan->hooks->content)
		(void)take_crc(scan->piece, at);
	scan->lost = r < 0;
	scan->header_slot = slot;
	scan->record_end = slot + 1;
	if (r == 0) {
		scan->header = *header;
		scan->record_end += record_payload_blocks(header);
	}
	if (told)
		tell_header(scan, slot, r, &tried);
	return 0;
}

static int look_at_plain(struct scan *scan, uint32_t first, uint32_t blocks)
{
	int r = 0;

	for (uint32_t at = 0; r == 0 && at < blocks; at++) {
		uint32_t slot = first + at;

		if (slot == scan->record_end)
			r = enter_record(scan, slot, at);
		else
			r = settle(scan, slot, at,
				   le32toh(scan->header.block_crcs[slot - scan->header_slot - 1]),
				   scan->group->id, slot);
	}
	return r;
}

/* One group, as it was written; slot n lies at block n. */
static int scan_plain(struct scan *scan)
{
	struct ahead_piece *piece;
	int r = 0;

	if (list_is_empty(&scan->file->groups))
		return 0;
	scan->group = LIST_ENTRY(list_front(&scan->file->groups), struct egroup, link);
	scan->doubts = false;
	begin_reading(scan, 0, scan->group->slots);
	while (r == 0 && (piece = ahead_next(scan->ahead))) {
		r = open_piece(scan, piece);
		if (r == 0)
			r = look_at_plain(scan, piece->first, piece->blocks);
		r = hand_on(scan, piece, r);
	}
	return r;
}

/* The index from the scan's copy first, so that a bad one is noticed though others are right. */
static int read_index(struct scan *scan, char *memory, struct index_view *ret_view)
{
	struct egroup_finding finding = {.kind = EGROUP_FINDING_INDEX};
	struct egroup_file *file = scan->file;
	struct egroup_tried tried = {0};
	int r = pool_io_read_copy(egroup_file_handle(file), scan->copy, memory,
				  (size_t)file->index_blocks * BLOCK_BYTES, 0);

	if (r == 0)
		r = egroup_index_check(file, memory, ret_view);
	if (r == 0 || ends_scan(r))
		return r;
	r = egroup_index_read(file, scan->copy, memory, ret_view, &tried);
	if (ends_scan(r))
		return r;
	finding.error = r;
	tell(scan, &finding, &tried);
	return r < 0 ? -EUCLEAN : 0;
}

/* Whose block is at position `position` of what is stored. */
static void owner_of(const struct index_view *view, uint32_t position, uint64_t *ret_group,
		     uint32_t *ret_slot)
{
	*ret_group = 0;
	*ret_slot = le16toh(view->slots[position]);
	for (uint32_t i = 0; i < view->group_count; i++)
		if (position - le32toh(view->groups[i].base) < le32toh(view->groups[i].count))
			*ret_group = le64toh(view->groups[i].group);
}

static int look_at_compacted(struct scan *scan, const struct index_view *view, uint64_t place,
			     uint32_t position, uint32_t blocks)
{
	int r = 0;

	for (uint32_t at = 0; r == 0 && at < blocks; at++) {
		uint32_t crc = le32toh(view->crcs[position + at]), slot;
		uint64_t group;

		if (is_intact(scan, at, crc))
			continue;
		owner_of(view, position + at, &group, &slot);
		r = settle(scan, place + at, at, crc, group, slot);
	}
	return r;
}

_Static_assert(sizeof(struct index_header_disk) +
			       INDEX_GROUPS_MAX * sizeof(struct index_group_disk) +
			       SLOTS_PER_GROUP * (sizeof(uint16_t) + sizeof(uint32_t)) <=
		       AHEAD_BLOCKS * BLOCK_BYTES,
	       "an index that was checked fits a piece");

static int hand_on_index(struct scan *scan, const void *memory)
{
	const struct egroup_scan *hooks = scan->hooks;
	struct ahead_piece *piece;

	if (!hooks->content)
		return 0;
	piece = ahead_make(scan->ahead, memory, 0, scan->file->index_blocks);
	if (!piece)
		return -ENOMEM;
	for (uint32_t at = 0; at < piece->blocks; at++)
		(void)take_crc(piece, at);
	return hooks->content(hooks->arg, piece);
}

static int scan_compacted(struct scan *scan)
{
	uint32_t index = scan->file->index_blocks;
	_cleanup_free_ char *memory = aligned_alloc(BLOCK_BYTES, (size_t)index * BLOCK_BYTES);
	struct ahead_piece *piece;
	struct index_view view;
	int r;

	if (!memory)
		return -ENOMEM;
	r = read_index(scan, memory, &view);
	if (r == 0)
		r = hand_on_index(scan, memory);
	if (r < 0)
		return r;
	begin_reading(scan, index, index + view.total_slots);
	while (r == 0 && (piece = ahead_next(scan->ahead))) {
		r = open_piece(scan, piece);
		if (r == 0)
			r = look_at_compacted(scan, &view, piece->first, piece->first - index,
					      piece->blocks);
		r = hand_on(scan, piece, r);
	}
	return r;
}

uint64_t egroup_scan_bytes(const struct egroup_file *file)
{
	const struct egroup *group;

	if (file->compacted)
		return ((uint64_t)file->index_blocks + file->total_slots) << BLOCK_SHIFT;
	if (file->group_count == 0)
		return 0;
	group = LIST_ENTRY(file->groups.head.next, struct egroup, link);
	return group->sealed ? (uint64_t)group->slots << BLOCK_SHIFT : file->allocated_bytes;
}

int egroup_scan(struct egroup_file *file, unsigned copy, const struct egroup_scan *hooks)
{
	_cleanup_free_ struct scan *scan = calloc(1, sizeof(*scan));
	int r;

	ASSERT(file->references > 0);
	if (!scan)
		return -ENOMEM;
	scan->hooks = hooks;
	scan->file = file;
	scan->ahead = hooks->ahead;
	scan->copy =
		copy < file->copies.count ? copy : pool_file_best_copy(egroup_file_handle(file));
	r = file->compacted ? scan_compacted(scan) : scan_plain(scan);
	ahead_settle(scan->ahead);
	return r;
}
