/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compaction of one choice of files. Steps, and what a crash after each leaves:
 *  1. the live slots are written to a new file behind room for its index: nobody names it; swept at
 * open;
 *  2. the index is written and the file synced: the same;
 *  3. one transaction names the new file in its groups' rows and deletes the old files' rows: old
 * files are swept at open;
 *  4. memory is switched; old files go to the pool when their last reader is done.
 * Slots that die meanwhile are copied for nothing, and stay dead: liveness is not stored in the
 * file.
 */
#include "egroup/compact.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/reached.h"
#include "codec/crc32c.h"
#include "egroup/cursor.h"
#include "egroup/index.h"
#include "egroup/store_priv.h"
#include "pool/pool_buffer.h"
#include "pool/pool_disk.h"
#include "pool/pool_io.h"

#define CHUNK_BLOCKS 256u /* copied at a time: 1 MiB */
#define CHUNK_BYTES  ((size_t)CHUNK_BLOCKS * BLOCK_BYTES)

struct move { /* one group that goes along */
	struct egroup *group;
	uint32_t base;
	struct slotset slots; /* live at the start */
};

struct compaction {
	struct egroup_store *store;
	const struct compact_choice *choice;
	struct move *moves;
	uint32_t move_count;
	uint32_t page_groups; /* of them, the first */
	uint32_t total_slots;
	uint32_t blocks; /* of the index */
	void *index;
	char *buffer; /* CHUNK_BLOCKS: what is to be written ... */
	char *source; /* ... and as much behind it: what was read */
	uint32_t buffered;
	uint64_t write_offset;
	struct pool_file *target;
	bool sequential;
	bool stopped; /* by the target or by `pause`: no source is to blame */
	int (*pause)(void *arg, uint64_t read, uint64_t written);
	void *arg;
};

static uint32_t live_slots(const struct egroup_file *file)
{
	struct egroup *group;
	uint32_t live = 0;

	LIST_FOR_EACH (&file->groups, group, struct egroup, link)
		live += group->live.count;
	return live;
}

/* Groups that go along when the file is compacted. */
static uint32_t live_groups(const struct egroup_file *file)
{
	struct egroup *group;
	uint32_t count = 0;

	LIST_FOR_EACH (&file->groups, group, struct egroup, link)
		count += group->live.count > 0;
	return count;
}

static bool may_compact(const struct egroup_file *file)
{
	struct egroup *group;

	if (file->busy || file->dying || file->group_count == 0 || egroup_file_is_avoided(file))
		return false;
	LIST_FOR_EACH (&file->groups, group, struct egroup, link)
		if (!group->sealed || group->pinned || egroup_is_kept(file->store, group))
			return false;
	return true;
}

unsigned compact_file_use(const struct egroup_file *file)
{
	if (!may_compact(file))
		return 101;
	if (file->allocated_bytes == 0)
		return 100;
	return (unsigned)MIN((uint64_t)live_slots(file) * BLOCK_BYTES * 100 / file->allocated_bytes,
			     UINT64_C(100));
}

#define CANDIDATES ARRAY_SIZE(((struct compact_choice *)NULL)->files)

struct candidates { /* the emptiest so far, in order; referenced */
	struct egroup_file *files[CANDIDATES];
	unsigned uses[CANDIDATES];
	uint32_t count;
};

static void add_candidate(struct candidates *candidates, struct egroup_file *file, unsigned use)
{
	uint32_t at = candidates->count;

	if (at == CANDIDATES) {
		if (use >= candidates->uses[--at])
			return;
		egroup_file_unref(candidates->files[at]);
		candidates->count--;
	}
	for (; at > 0 && candidates->uses[at - 1] > use; at--) {
		candidates->files[at] = candidates->files[at - 1];
		candidates->uses[at] = candidates->uses[at - 1];
	}
	egroup_file_hold(file);
	candidates->files[at] = file;
	candidates->uses[at] = use;
	candidates->count++;
}

static void find_candidates(struct egroup_store *store, unsigned max_use,
			    struct candidates *candidates)
{
	struct egroup_cursor cursor;
	struct egroup_file *file;

	candidates->count = 0;
	egroup_cursor_init(&cursor, store, 0);
	while ((file = egroup_cursor_step(&cursor))) {
		unsigned use = compact_file_use(file);

		if (use <= max_use)
			add_candidate(candidates, file, use);
	}
	egroup_cursor_done(&cursor);
}

static uint64_t target_bytes(uint32_t groups, uint32_t slots)
{
	return ((uint64_t)index_blocks(MAX(groups, 1u), slots) + slots) << BLOCK_SHIFT;
}

/* Of the candidates those that still are some, as many as fit into one target. */
static void fill_choice(const struct egroup_store *store, unsigned max_use,
			const struct candidates *candidates, struct compact_choice *choice,
			uint32_t *ret_groups)
{
	uint32_t groups = 0;

	for (uint32_t i = 0; i < candidates->count; i++) {
		struct egroup_file *file = candidates->files[i];
		uint32_t live = live_slots(file), more = live_groups(file);

		if (compact_file_use(file) > max_use)
			continue;
		if (groups + more > INDEX_GROUPS_MAX ||
		    target_bytes(groups + more, choice->live_slots + live) >
			    pool_group_bytes(store->pool))
			break;
		choice->files[choice->count++] = file;
		choice->live_slots += live;
		choice->allocated_bytes += file->allocated_bytes;
		groups += more;
	}
	*ret_groups = groups;
}

bool compact_choose(struct egroup_store *store, unsigned max_use, struct compact_choice *ret_choice)
{
	_cleanup_free_ struct candidates *candidates = malloc(sizeof(*candidates));
	struct compact_choice choice = {0};
	uint32_t groups;

	if (!candidates || !store->liveness_known)
		return false;
	find_candidates(store, max_use, candidates);
	fill_choice(store, max_use, candidates, &choice, &groups);
	for (uint32_t i = 0; i < candidates->count; i++)
		egroup_file_unref(candidates->files[i]);
	/* Worth it when at least an eighth of what is moved comes back. */
	if (!store->liveness_known || choice.count == 0 ||
	    target_bytes(groups, choice.live_slots) + choice.allocated_bytes / 8 >
		    choice.allocated_bytes)
		return false;
	*ret_choice = choice;
	return true;
}

static int copy_set(struct slotset *to, const struct slotset *from)
{
	slotset_init(to);
	for (uint32_t slot = slotset_next(from, 0); slot < SLOTS_PER_GROUP;
	     slot = slotset_next(from, slot + 1))
		if (slotset_add(to, slot) < 0)
			return -ENOMEM;
	return 0;
}

static int add_moves(struct compaction *compaction, struct egroup_file *file,
		     enum record_stream stream)
{
	struct egroup *group;

	LIST_FOR_EACH (&file->groups, group, struct egroup, link) {
		struct move *move = &compaction->moves[compaction->move_count];

		if (group->live.count == 0 || group->stream != stream)
			continue;
		if (copy_set(&move->slots, &group->live) < 0)
			return -ENOMEM;
		move->group = group;
		move->base = compaction->total_slots;
		compaction->total_slots += move->slots.count;
		compaction->move_count++;
	}
	return 0;
}

/* Map pages first, so that the index can say which groups hold some. */
static int plan_moves(struct compaction *compaction)
{
	const struct compact_choice *choice = compaction->choice;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < choice->count; i++)
		r = add_moves(compaction, choice->files[i], RECORD_STREAM_PAGES);
	compaction->page_groups = compaction->move_count;
	for (uint32_t i = 0; r == 0 && i < choice->count; i++)
		r = add_moves(compaction, choice->files[i], RECORD_STREAM_LOG);
	return r;
}

static int plan(struct compaction *compaction)
{
	const struct compact_choice *choice = compaction->choice;
	size_t groups = 0;
	int r;

	for (uint32_t i = 0; i < choice->count; i++)
		groups += choice->files[i]->group_count;
	compaction->moves = calloc(groups, sizeof(struct move));
	if (!compaction->moves)
		return -ENOMEM;
	r = plan_moves(compaction);
	if (r < 0)
		return r;
	compaction->blocks = index_blocks(MAX(compaction->move_count, 1u), compaction->total_slots);
	compaction->index = aligned_alloc(BLOCK_BYTES, (size_t)compaction->blocks * BLOCK_BYTES);
	compaction->buffer = aligned_alloc(BLOCK_BYTES, 2 * CHUNK_BYTES);
	if (!compaction->index || !compaction->buffer)
		return -ENOMEM;
	compaction->source = compaction->buffer + CHUNK_BYTES;
	return 0;
}

static void fill_index(struct compaction *compaction)
{
	const struct index_id id = {.pool = pool_id(compaction->store->pool),
				    .vdisk = compaction->store->vdisk,
				    .file = pool_file_id(compaction->target)};
	struct index_group_disk *groups;
	uint16_t *slots;

	index_begin(compaction->index, &id, compaction->move_count, compaction->total_slots);
	index_set_page_groups(compaction->index, compaction->page_groups);
	groups = index_groups(compaction->index);
	slots = index_slots(compaction->index);
	for (uint32_t i = 0; i < compaction->move_count; i++) {
		const struct move *move = &compaction->moves[i];
		uint32_t n = move->base;

		groups[i].group = htole64(move->group->id);
		groups[i].base = htole32(move->base);
		groups[i].count = htole32(move->slots.count);
		for (uint32_t slot = slotset_next(&move->slots, 0); slot < SLOTS_PER_GROUP;
		     slot = slotset_next(&move->slots, slot + 1))
			slots[n++] = htole16((uint16_t)slot);
	}
}

static int step(const struct compaction *compaction, uint64_t read, uint64_t written)
{
	return compaction->pause ? compaction->pause(compaction->arg, read, written) : 0;
}

static int write_buffer(struct compaction *compaction)
{
	uint64_t bytes = (uint64_t)compaction->buffered * BLOCK_BYTES;
	int r;

	if (bytes == 0)
		return 0;
	r = pool_io_write(compaction->target, compaction->buffer, bytes, compaction->write_offset);
	if (r == 0) {
		compaction->write_offset += bytes;
		compaction->buffered = 0;
		compaction->store->written_bytes += bytes;
		r = step(compaction, 0, bytes);
	}
	compaction->stopped = r < 0;
	return r;
}

/* Takes one stored block over into the buffer and its CRC, as it was when it was written, into the
 * index. */
static int take_block(struct compaction *compaction, const char *block, uint32_t position,
		      uint32_t crc)
{
	index_crcs(compaction->index)[position] = htole32(crc);
	memcpy(compaction->buffer + (size_t)compaction->buffered * BLOCK_BYTES, block, BLOCK_BYTES);
	if (++compaction->buffered < CHUNK_BLOCKS)
		return 0;
	return write_buffer(compaction);
}

static int read_source(struct compaction *compaction, const struct egroup *group, uint64_t first,
		       uint32_t blocks)
{
	uint64_t bytes = (uint64_t)blocks * BLOCK_BYTES;
	const struct egroup_read read = {
		.file = group->file,
		.buffer = compaction->source,
		.length = bytes,
		.offset = first << BLOCK_SHIFT,
		.first = EGROUP_ANY_COPY,
	};
	int r = egroup_file_read(&read);

	if (r < 0)
		return r;
	r = step(compaction, bytes, 0);
	compaction->stopped = r < 0;
	return r;
}

static void report_damage(const struct compaction *compaction, const struct egroup *group,
			  uint32_t slot)
{
	REACHED("compact.damage");
	log_error("egroup", "a block does not match its checksum; compaction leaves it so",
		  "vdisk=%" PRIu64 " group=%" PRIu64 " slot=%" PRIu32, compaction->store->vdisk,
		  group->id, slot);
}

/* One block of the group's file from whichever copy has it. */
static int read_again(const struct egroup *group, uint64_t place,
		      int (*check)(void *arg, const void *block), void *arg, void *block)
{
	const struct egroup_read read = {
		.file = group->file,
		.buffer = block,
		.length = BLOCK_BYTES,
		.offset = place << BLOCK_SHIFT,
		.first = EGROUP_ANY_COPY,
		.check = check,
		.arg = arg,
	};

	return egroup_file_read(&read);
}

/*
 * The block at `at` of what was read, checked. A mismatch is read once more: what flipped on the
 * way must not be written as if it were so. What is damaged on the medium is moved as it is, under
 * its old CRC, so that reading it goes on failing; but not while a copy cannot be read (-EIO), for
 * it may have it right, and goes with the file.
 */
static int checked_block(struct compaction *compaction, const struct egroup *group, uint32_t slot,
			 uint64_t place, uint32_t at, uint32_t crc)
{
	char *block = compaction->source + (size_t)at * BLOCK_BYTES;
	int r;

	if (crc32c(block, BLOCK_BYTES) == crc)
		return 0;
	REACHED("compact.read-again");
	r = read_again(group, place, egroup_check_crc, &crc, block);
	if (r != -EBADMSG)
		return r;
	report_damage(compaction, group, slot);
	return 0;
}

struct plain_walk { /* through the records of a plain file */
	uint32_t header_slot;
	uint32_t end; /* of the record: the next header */
	uint32_t crcs[RECORD_BLOCKS_MAX];
};

/* A header, in memory at `at`. -EBADMSG: it is none. */
static int enter_record(struct compaction *compaction, const struct egroup *group, uint32_t slot,
			uint32_t at, struct plain_walk *walk)
{
	const struct record_id id = {.pool = pool_id(compaction->store->pool),
				     .vdisk = compaction->store->vdisk,
				     .group = group->id,
				     .slot = slot,
				     .stream = group->stream};
	struct record_header_disk *header =
		(struct record_header_disk *)(compaction->source + (size_t)at * BLOCK_BYTES);
	int r = record_check(header, &id);

	if (r < 0)
		r = read_again(group, slot, egroup_check_header, (void *)&id, header);
	if (r < 0)
		return r;
	walk->header_slot = slot;
	walk->end = slot + 1 + record_payload_blocks(header);
	for (uint32_t i = 0; i < record_payload_blocks(header); i++)
		walk->crcs[i] = le32toh(header->block_crcs[i]);
	return 0;
}

static int copy_checked(struct compaction *compaction, const struct move *move, uint32_t slot,
			uint64_t place, uint32_t at, uint32_t crc)
{
	int r = checked_block(compaction, move->group, slot, place, at, crc);

	return r < 0 ? r
		     : take_block(compaction, compaction->source + (size_t)at * BLOCK_BYTES,
				  move->base + slotset_rank(&move->slots, slot), crc);
}

static int copy_window(struct compaction *compaction, const struct move *move,
		       struct plain_walk *walk, uint32_t first, uint32_t blocks)
{
	int r = 0;

	for (uint32_t at = 0; r == 0 && at < blocks; at++) {
		uint32_t slot = first + at, crc;

		if (slot == walk->end) {
			r = enter_record(compaction, move->group, slot, at, walk);
			continue;
		}
		if (!slotset_has(&move->slots, slot))
			continue;
		crc = walk->crcs[slot - walk->header_slot - 1];
		r = copy_checked(compaction, move, slot, slot, at, crc);
	}
	return r;
}

static uint32_t last_slot(const struct slotset *set)
{
	uint32_t last = 0;

	for (uint32_t slot = slotset_next(set, 0); slot < SLOTS_PER_GROUP;
	     slot = slotset_next(set, slot + 1))
		last = slot;
	return last;
}

/* A file with one group, as it was written: all of it is read, for the CRCs are in its headers. */
static int copy_plain(struct compaction *compaction, const struct move *move)
{
	_cleanup_free_ struct plain_walk *walk = calloc(1, sizeof(*walk));
	uint32_t end = last_slot(&move->slots) + 1;
	int r = 0;

	if (!walk)
		return -ENOMEM;
	for (uint32_t first = 0; r == 0 && first < end; first += CHUNK_BLOCKS) {
		uint32_t blocks = MIN(CHUNK_BLOCKS, end - first);

		r = read_source(compaction, move->group, first, blocks);
		if (r == 0)
			r = copy_window(compaction, move, walk, first, blocks);
	}
	if (r == -EBADMSG)
		report_damage(compaction, move->group, walk->end);
	return r;
}

/* The group's part of a file that was compacted before: the CRCs are in the file's index. */
static int copy_compacted(struct compaction *compaction, const struct move *move)
{
	struct egroup *group = move->group;
	uint64_t place = (uint64_t)group->file->index_blocks + group->base;
	uint32_t at, slot = slotset_next(&group->stored, 0);
	_cleanup_free_ uint32_t *crcs = NULL;
	int r = egroup_index_crcs(group, &crcs);

	for (uint32_t i = 0; r == 0 && i < group->stored_count; i++) {
		at = i % CHUNK_BLOCKS;
		if (at == 0)
			r = read_source(compaction, group, place + i,
					MIN(CHUNK_BLOCKS, group->stored_count - i));
		if (r == 0 && slotset_has(&move->slots, slot))
			r = copy_checked(compaction, move, slot, place + i, at, crcs[i]);
		slot = slotset_next(&group->stored, slot + 1);
	}
	return r;
}

/* The error of a source, which is left out of the next choices. */
static int blame(struct compaction *compaction, struct egroup_file *file, int error)
{
	if (compaction->stopped || error == -ENOMEM || error == -ESHUTDOWN)
		return error;
	egroup_file_avoid(file, error);
	return -EAGAIN;
}

static int copy_all(struct compaction *compaction)
{
	int r;

	compaction->write_offset = (uint64_t)compaction->blocks << BLOCK_SHIFT;
	for (uint32_t i = 0; i < compaction->move_count; i++) {
		const struct move *move = &compaction->moves[i];

		r = move->group->file->compacted ? copy_compacted(compaction, move)
						 : copy_plain(compaction, move);
		if (r < 0)
			return blame(compaction, move->group->file, r);
	}
	r = write_buffer(compaction);
	if (r < 0)
		return r;
	index_seal(compaction->index);
	r = pool_io_write(compaction->target, compaction->index,
			  (size_t)compaction->blocks * BLOCK_BYTES, 0);
	return r < 0 ? r : pool_io_sync(compaction->target);
}

/* The rows as they shall be: the new file, its groups in it; old files and empty groups gone. */
static int commit(struct compaction *compaction, struct egroup_file *target)
{
	const struct compact_choice *choice = compaction->choice;
	_cleanup_free_ struct catalog_change *changes = NULL;
	_cleanup_free_ uint8_t(*values)[EGROUP_ROW_BYTES] = NULL;
	struct egroup_store *store = compaction->store;
	struct egroup *group;
	size_t n = 0, most = 1;

	for (uint32_t i = 0; i < choice->count; i++)
		most += choice->files[i]->group_count + 1;
	most += compaction->move_count;
	changes = calloc(most, sizeof(*changes));
	values = calloc(most, EGROUP_ROW_BYTES);
	if (!changes || !values)
		return -ENOMEM;
	for (uint32_t i = 0; i < choice->count; i++) {
		changes[n].kind = CATALOG_DELETE;
		changes[n++].key = egroup_key(CATALOG_EGFILE, store, choice->files[i]->id);
		LIST_FOR_EACH (&choice->files[i]->groups, group, struct egroup, link) {
			changes[n].kind = CATALOG_DELETE;
			changes[n++].key = egroup_key(CATALOG_EGROUP, store, group->id);
		}
	}
	for (uint32_t i = 0; i < compaction->move_count; i++) {
		struct egroup row = *compaction->moves[i].group;

		row.file = target;
		row.base = compaction->moves[i].base;
		row.stored_count = compaction->moves[i].slots.count;
		egroup_row(&row, values[n]);
		changes[n] =
			(struct catalog_change){.kind = CATALOG_PUT,
						.key = egroup_key(CATALOG_EGROUP, store, row.id),
						.value = values[n],
						.length = EGROUP_ROW_BYTES};
		n++;
	}
	if (compaction->move_count > 0) {
		egroup_file_row(target, values[n]);
		changes[n] = (struct catalog_change){
			.kind = CATALOG_PUT,
			.key = egroup_key(CATALOG_EGFILE, store, target->id),
			.value = values[n],
			.length = EGROUP_ROW_BYTES};
		n++;
	}
	ASSERT(n <= most);
	return catalog_commit(store->catalog, changes, n);
}

static void switch_memory(struct compaction *compaction, struct egroup_file *target)
{
	const struct compact_choice *choice = compaction->choice;
	struct egroup_store *store = compaction->store;
	struct egroup *group;

	for (uint32_t i = 0; i < compaction->move_count; i++) {
		struct move *move = &compaction->moves[i];

		group = move->group;
		egroup_move(group, target);
		group->base = move->base;
		group->stored_count = move->slots.count;
		slotset_done(&group->stored);
		group->stored = move->slots;
		slotset_init(&move->slots);
	}
	for (uint32_t i = 0; i < choice->count; i++) {
		struct egroup_file *file = choice->files[i];

		LIST_FOR_EACH (&file->groups, group, struct egroup, link)
			egroup_free(store, group);
		file->busy = false;
		egroup_file_discard(file);
		egroup_file_unref(file);
	}
}

/* Most of what goes there was written in sequence. */
static bool is_sequential(const struct compaction *compaction)
{
	uint32_t slots = 0;

	for (uint32_t i = 0; i < compaction->move_count; i++)
		if (compaction->moves[i].group->file->sequential)
			slots += compaction->moves[i].slots.count;
	return slots > compaction->total_slots / 2;
}

static int write_target(struct compaction *compaction)
{
	struct egroup_store *store = compaction->store;
	uint64_t bytes = ((uint64_t)compaction->blocks + compaction->total_slots) << BLOCK_SHIFT;
	struct egroup_stripe *stripe = &store->stripes[EGROUP_KIND_COMPACTED];
	const struct egroup_stripe before = *stripe;
	struct pool_want want = {.use = POOL_USE_INTERNAL,
				 .size_bytes = bytes,
				 .copies = store->factor,
				 .quota = store->quota,
				 .tiers = store->tiers};
	struct pool_copies copies;
	int r;

	compaction->sequential = is_sequential(compaction);
	if (compaction->sequential)
		want.tiers = store->tiers_sequential;
	egroup_stripe_want(&before, store->width, &want);
	r = pool_file_take(store->pool, &want, &compaction->target);
	if (r < 0)
		return r;
	pool_file_get_copies(compaction->target, &copies);
	egroup_stripe_note(stripe, &copies);
	pool_buffer_populate(compaction->buffer, 2 * CHUNK_BYTES);
	fill_index(compaction);
	r = copy_all(compaction);
	/* What cannot be given back now is in its row as it is. */
	if (r == 0 && pool_file_size(compaction->target) > bytes &&
	    pool_file_trim(compaction->target, bytes) == -ESHUTDOWN)
		return -ESHUTDOWN;
	return r;
}

static int adopt_target(struct compaction *compaction)
{
	struct egroup_store *store = compaction->store;
	struct egroup_file *target = egroup_file_new(store, pool_file_id(compaction->target));
	int r;

	if (!target)
		return -ENOMEM;
	target->allocated_bytes = pool_file_size(compaction->target);
	pool_file_get_copies(compaction->target, &target->copies);
	target->copies.stale |= pool_file_failed(compaction->target);
	target->compacted = true;
	target->sequential = compaction->sequential;
	target->index_loaded = true;
	target->index_blocks = compaction->blocks;
	target->total_slots = compaction->total_slots;
	target->references = 1;
	r = commit(compaction, target);
	if (r < 0) {
		target->references = 0;
		egroup_file_free(target);
		/* Where the commit may have happened all the same, both files must stay. */
		if (r == -ENOTRECOVERABLE)
			pool_file_close(TAKE_PTR(compaction->target));
		return r;
	}
	target->file = TAKE_PTR(compaction->target);
	store->open_count++;
	if (target->copies.stale)
		pool_file_set_copies(target->file, &target->copies);
	switch_memory(compaction, target);
	egroup_file_unref(target);
	return 0;
}

/* Nothing was live any more: the files simply go. */
static int drop_all(struct compaction *compaction)
{
	int r = commit(compaction, NULL);

	if (r == 0)
		switch_memory(compaction, NULL);
	return r;
}

static int open_sources(struct compaction *compaction, uint32_t *ret_opened)
{
	const struct compact_choice *choice = compaction->choice;

	for (uint32_t i = 0; i < choice->count; i++) {
		int r = egroup_file_open(choice->files[i]);

		*ret_opened = i;
		if (r < 0)
			return blame(compaction, choice->files[i], r);
	}
	*ret_opened = choice->count;
	return 0;
}

static void compaction_done(struct compaction *compaction)
{
	if (compaction->target)
		pool_file_discard(compaction->target);
	for (uint32_t i = 0; i < compaction->move_count; i++)
		slotset_done(&compaction->moves[i].slots);
	free(compaction->moves);
	free(compaction->index);
	free(compaction->buffer);
}

int compact_run(struct egroup_store *store, const struct compact_choice *choice,
		int (*pause)(void *arg, uint64_t read, uint64_t written), void *arg)
{
	struct compaction compaction = {
		.store = store, .choice = choice, .pause = pause, .arg = arg};
	uint32_t opened = 0;
	int r;

	for (uint32_t i = 0; i < choice->count; i++)
		choice->files[i]->busy = true;
	r = open_sources(&compaction, &opened);
	if (r == 0)
		r = plan(&compaction);
	if (r == 0 && compaction.move_count > 0)
		r = write_target(&compaction);
	if (r == 0)
		r = compaction.move_count > 0 ? adopt_target(&compaction) : drop_all(&compaction);
	if (r == 0)
		REACHED("compact.done");
	for (uint32_t i = 0; r < 0 && i < choice->count; i++) {
		choice->files[i]->busy = false;
		if (i < opened)
			egroup_file_unref(choice->files[i]);
	}
	compaction_done(&compaction);
	return r;
}
