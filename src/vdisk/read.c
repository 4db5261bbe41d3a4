/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads. A request is cut into parts, each contiguous in one file; whole, aligned blocks are read
 * straight into the caller's memory, others into a bounce block. Every block is verified against
 * the map's CRC. The common hit runs in callbacks; where a map page or a file is missing, a fiber
 * fetches it and goes on with the same loop.
 *
 * Where another copy could do if a disk hangs, everything goes through bounce blocks: the kernel
 * may keep them, but it must not keep the caller's memory beyond the end of the request. The part
 * stays with them then, and another, its heir, goes on in its place. Where the heir finds that no
 * other copy has it right, it waits for that disk after all, without a fiber, and asks the others
 * again now and then.
 *
 * A mismatch in the caller's memory is read once more into memory of ours before it counts as
 * damage: the caller may have changed its memory meanwhile, or a bit may have flipped on the way.
 */
#include <errno.h>
#include <string.h>

#include "base/reached.h"
#include "block/iov.h"
#include "codec/crc32c.h"
#include "vdisk/read_part.h"
#include "vdisk/vdisk_priv.h"

static bool read_loop(struct vdisk *vdisk, struct block_request *request);

/* The bytes of `block` that the request wants: [*ret_skip, + *ret_bytes) of the block. */
static void wanted_bytes(const struct block_request *request, uint64_t block, uint32_t *ret_skip,
			 uint32_t *ret_bytes)
{
	uint64_t start = MAX(block * BLOCK_BYTES, request->offset);
	uint64_t end = MIN((block + 1) * BLOCK_BYTES, request->offset + request->length);

	*ret_skip = (uint32_t)(start - block * BLOCK_BYTES);
	*ret_bytes = (uint32_t)(end - start);
}

static uint64_t data_offset(const struct block_request *request, uint64_t block)
{
	return MAX(block * BLOCK_BYTES, request->offset) - request->offset;
}

/* How many whole blocks from `block` on lie in whole, aligned pages of the caller, up to `limit`.
 */
static uint32_t direct_blocks(const struct block_request *request, uint64_t block, uint32_t limit)
{
	uint64_t skip = data_offset(request, block), left;
	const struct iovec *iov = request->iov;
	uint32_t count = 0;

	if (block * BLOCK_BYTES < request->offset)
		return 0;
	left = request->offset + request->length - block * BLOCK_BYTES;
	limit = (uint32_t)MIN((uint64_t)limit, left / BLOCK_BYTES);
	while (count < limit) {
		while (skip >= iov->iov_len && skip > 0) {
			skip -= iov->iov_len;
			iov++;
		}
		if (!IS_ALIGNED((uintptr_t)iov->iov_base + skip, (uintptr_t)BLOCK_BYTES) ||
		    iov->iov_len - skip < BLOCK_BYTES)
			break;
		skip += BLOCK_BYTES;
		count++;
	}
	return count;
}

static void finish_if_done(struct vdisk *vdisk, struct block_request *request)
{
	struct vdisk_request *state = vdisk_request(request);

	if (state->outstanding > 0 || state->working)
		return;
	if (state->error || state->cursor == state->end)
		vdisk_finish(vdisk, request, state->error);
}

/* Requests that found no part go on, until one finds none again: one that is resumed may need none
 * any more, and then the next must not be forgotten. */
static void wake_part_waiters(struct vdisk_cache *cache)
{
	struct list_node *waiter;
	struct list waiting;

	list_init(&waiting);
	list_splice_back(&waiting, &cache->part_waiters);
	while (list_is_empty(&cache->part_waiters) && (waiter = list_pop_front(&waiting)))
		vdisk_read_resume(LIST_ENTRY(waiter, struct block_request, link));
	list_splice_back(&cache->part_waiters, &waiting);
}

static void await_parts(struct vdisk_cache *cache);

/* Where few parts come back, most are held by a disk that hangs, and vDisks on others need some. */
static void look_for_parts(struct reactor_timer *timer)
{
	struct vdisk_cache *cache = CONTAINER_OF(timer, struct vdisk_cache, part_patience);

	if (list_is_empty(&cache->part_waiters))
		return;
	if (cache->parts_given < CACHE_READ_PARTS / 2)
		cache_more_parts(cache);
	await_parts(cache);
	wake_part_waiters(cache);
}

static void await_parts(struct vdisk_cache *cache)
{
	if (cache->part_patience.armed)
		return;
	cache->parts_given = 0;
	cache->part_patience.run = look_for_parts;
	reactor_timer_arm(cache->reactor, &cache->part_patience,
			  reactor_turn_ns(cache->reactor) + CACHE_PATIENCE_NS);
}

static void free_part(struct read_part *part)
{
	struct vdisk_cache *cache = part->cache;

	if (part->held)
		part->held->heir = NULL;
	if (part->file)
		egroup_file_unref(part->file);
	for (uint32_t i = 0; i < part->bounces; i++)
		cache_give(&cache->bounces, part->iov[i].iov_base);
	cache_give(&cache->parts, part);
	cache->parts_given++;
	wake_part_waiters(cache);
}

static void part_ends(struct vdisk *vdisk, struct read_part *part, int result)
{
	struct block_request *request = part->request;
	struct vdisk_request *state = vdisk_request(request);

	if (result < 0)
		state->error = result;
	state->outstanding--;
	free_part(part);
	finish_if_done(vdisk, request);
}

static bool part_is_intact(const struct read_part *part)
{
	const struct iovec *iov = part->iov;
	size_t skip = 0;

	for (uint32_t i = 0; i < part->count; i++) {
		if (crc32c((const char *)iov->iov_base + skip, BLOCK_BYTES) != part->crcs[i])
			return false;
		skip += BLOCK_BYTES;
		if (skip == iov->iov_len) {
			skip = 0;
			iov++;
		}
	}
	return true;
}

struct again {
	unsigned first; /* this copy first, so that one that was found wrong is put right */
	bool waits_itself;
};

/* 0, -EAGAIN: the block was moved or overwritten meanwhile, or an error. */
static int read_once(struct vdisk *vdisk, uint64_t block, const struct again *how, char *buffer)
{
	struct map_entry entry, moved;
	int r;

	r = vdisk_lookup(vdisk, block, &entry);
	if (r < 0)
		return r;
	if (entry.address == 0) {
		memset(buffer, 0, BLOCK_BYTES);
		return 0;
	}
	r = vdisk_read_address(vdisk, &(struct vdisk_read){.address = entry.address,
							   .buffer = buffer,
							   .first = how->first,
							   .waits_itself = how->waits_itself,
							   .check = egroup_check_crc,
							   .arg = &entry.crc});
	if (r < 0 && vdisk_lookup(vdisk, block, &moved) == 0 && moved.address != entry.address)
		return -EAGAIN;
	return r;
}

static int read_verified(struct vdisk *vdisk, uint64_t block, const struct again *how, char *buffer)
{
	int r;

	while ((r = read_once(vdisk, block, how, buffer)) == -EAGAIN)
		;
	if (r == 0 || r == -ESHUTDOWN || r == -EINPROGRESS)
		return r;
	vdisk_report_damage(vdisk, "a block cannot be read", block, r);
	return r;
}

int vdisk_read_blocks(struct vdisk *vdisk, uint64_t block, uint64_t count, void *buffer)
{
	const struct again how = {.first = EGROUP_ANY_COPY};

	for (uint64_t i = 0; i < count; i++) {
		int r = read_verified(vdisk, block + i, &how, (char *)buffer + i * BLOCK_BYTES);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Block by block into memory of ours, then to the caller. */
static int read_again(const struct read_part *part, bool waits_itself)
{
	struct block_request *request = part->request;
	struct vdisk *vdisk = vdisk_request(request)->vdisk;
	const struct again how = {.first = part->read.copy, .waits_itself = waits_itself};
	_cleanup_free_ char *buffer = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	int r = buffer ? 0 : -ENOMEM;

	for (uint32_t i = 0; r == 0 && i < part->count; i++) {
		uint32_t skip, bytes;

		r = read_verified(vdisk, part->block + i, &how, buffer);
		wanted_bytes(request, part->block + i, &skip, &bytes);
		if (r == 0)
			iov_write(request->iov, data_offset(request, part->block + i),
				  buffer + skip, bytes);
	}
	return r;
}

static void second_try(struct fiber_task *task)
{
	struct read_part *part = CONTAINER_OF(task, struct read_part, task);
	struct vdisk *vdisk = vdisk_request(part->request)->vdisk;
	int r;

	REACHED("read.second-try");
	r = read_again(part, part->held != NULL);
	if (r == -EINPROGRESS && !part->held) /* that disk has answered meanwhile */
		r = read_again(part, false);
	if (r == -EINPROGRESS)
		part->waits = true;
	else
		part_ends(vdisk, part, r);
	vdisk_task_ends(vdisk);
}

static void wait_no_more(struct read_part *heir)
{
	if (!heir || !heir->waits)
		return;
	heir->waits = false;
	vdisk_spawn(vdisk_request(heir->request)->vdisk, &heir->task, second_try);
}

/* To the caller's memory. */
static void copy_bounces(const struct read_part *part)
{
	uint64_t at = part->data_offset;
	uint32_t skip = part->skip, left = part->bytes;

	for (uint32_t i = 0; i < part->bounces; i++) {
		uint32_t bytes = MIN((uint32_t)BLOCK_BYTES - skip, left);

		iov_write(part->request->iov, at, (const char *)part->iov[i].iov_base + skip,
			  bytes);
		at += bytes;
		left -= bytes;
		skip = 0;
	}
}

/* The kernel has an abandoned part no more. */
static void part_back(struct pool_read *read)
{
	struct read_part *part = CONTAINER_OF(read, struct read_part, read);
	struct vdisk_cache *cache = part->cache;
	struct read_part *heir = part->heir;

	for (uint32_t i = 0; i < part->bounces; i++)
		cache_bounce_back(cache, part->iov[i].iov_base);
	cache_part_back(cache, part);
	if (heir)
		heir->held = NULL;
	wait_no_more(heir);
	wake_part_waiters(cache);
}

/* That disk may have been declared failed meanwhile, or another copy be there again. */
static void part_kept(struct pool_read *read)
{
	struct read_part *held = CONTAINER_OF(read, struct read_part, read);

	if (held->heir)
		REACHED("read.asks-again");
	wait_no_more(held->heir);
}

/* The disk hangs and keeps the part: another goes on, with the second try from other copies. NULL:
 * there is no memory for one. */
static struct read_part *replace_part(struct read_part *held)
{
	struct vdisk_cache *cache = held->cache;
	struct read_part *part;

	if (!cache_lend_part(cache))
		return NULL;
	part = cache_take(&cache->parts);
	REACHED("read.part-replaced");
	for (uint32_t i = 0; i < held->bounces; i++)
		cache_lend_bounce(cache);
	part->cache = cache;
	part->request = held->request;
	part->block = held->block;
	part->count = held->count;
	part->bounces = 0;
	part->file = TAKE_PTR(held->file);
	part->read.copy = EGROUP_ANY_COPY;
	part->held = held;
	part->heir = NULL;
	part->waits = false;
	held->heir = part;
	held->read.released = part_back;
	held->read.kept = part_kept;
	return part;
}

static void part_is_late(struct read_part *held)
{
	struct vdisk *vdisk = vdisk_request(held->request)->vdisk;
	struct read_part *part = replace_part(held);

	if (part)
		vdisk_spawn(vdisk, &part->task, second_try);
}

/* Without a part to go on with, it waits for the disk after all. */
static void part_released(struct pool_read *read)
{
	struct read_part *part = CONTAINER_OF(read, struct read_part, read);

	vdisk_spawn(vdisk_request(part->request)->vdisk, &part->task, second_try);
}

static void part_done(struct pool_read *read, int64_t result)
{
	struct read_part *part = CONTAINER_OF(read, struct read_part, read);
	struct block_request *request = part->request;
	struct vdisk *vdisk = vdisk_request(request)->vdisk;

	if (UNLIKELY(pool_read_is_held(read))) {
		part_is_late(part);
		return;
	}

	if (UNLIKELY(result == -ESHUTDOWN)) {
		part_ends(vdisk, part, -ESHUTDOWN);
		return;
	}
	if (UNLIKELY(result != (int64_t)part->count * BLOCK_BYTES || !part_is_intact(part))) {
		vdisk_spawn(vdisk, &part->task, second_try);
		return;
	}
	copy_bounces(part);
	part_ends(vdisk, part, 0);
}

static void issue_part(struct vdisk *vdisk, struct read_part *part, uint64_t offset)
{
	vdisk_request(part->request)->outstanding++;
	vdisk->stats.device_read_bytes += (uint64_t)part->count * BLOCK_BYTES;
	part->read.done = part_done;
	part->read.released = part->bounces ? part_released : NULL;
	part->read.kept = NULL;
	pool_file_read(egroup_file_handle(part->file), part->iov, part->iov_count, offset,
		       &part->read);
}

struct placed { /* a run of blocks at one place */
	struct egroup_file *file;
	uint64_t offset;
	uint32_t count;
	uint32_t crcs[READ_PART_BLOCKS];
};

/* The longest run from the cursor on, at least one block. 0, -EAGAIN, or an error. count 0: zeros.
 */
static int place_run(struct vdisk *vdisk, uint64_t block, uint32_t limit, struct placed *run)
{
	struct egroup_file *file;
	struct map_entry entry;
	uint64_t offset;
	int r;

	run->count = 0;
	while (run->count < limit) {
		r = map_lookup(&vdisk->map, block + run->count, &entry);
		if (r == 0 && entry.address == 0)
			return 0;
		if (r == 0)
			r = egroup_resolve(vdisk->store, address_group(entry.address),
					   address_slot(entry.address), &file, &offset);
		if (r < 0)
			return run->count ? 0 : r;
		if (run->count == 0) {
			run->file = file;
			run->offset = offset;
		} else if (file != run->file ||
			   offset != run->offset + (uint64_t)run->count * BLOCK_BYTES) {
			return 0;
		}
		run->crcs[run->count++] = entry.crc;
	}
	return 0;
}

/* As many bounce blocks as there are, up to `count`. */
static void take_bounces(struct read_part *part, uint32_t count)
{
	part->bounces = 0;
	while (part->bounces < count) {
		void *bounce = cache_take(&part->cache->bounces);

		if (!bounce)
			return;
		part->iov[part->bounces++] = (struct iovec){bounce, BLOCK_BYTES};
	}
}

/* Builds and issues the part for a run; `direct` blocks of it may go straight to the caller. False:
 * no memory for a part now. */
static bool start_part(struct vdisk *vdisk, struct block_request *request, struct placed *run,
		       uint32_t direct)
{
	struct vdisk_cache *cache = vdisk->cache;
	struct vdisk_request *state = vdisk_request(request);
	struct read_part *part = cache_take(&cache->parts);

	if (!part)
		return false;
	part->cache = cache;
	part->request = request;
	part->block = state->cursor;
	part->file = NULL;
	part->data_offset = data_offset(request, state->cursor);
	part->bounces = 0;
	part->held = part->heir = NULL;
	part->waits = false;
	part->count = MIN(run->count, MAX(direct, 1u));
	if (direct == 0 || pool_file_reads_apart(egroup_file_handle(run->file))) {
		take_bounces(part, part->count);
		if (part->bounces == 0) {
			cache_give(&cache->parts, part);
			return false;
		}
		wanted_bytes(request, state->cursor, &part->skip, &part->bytes);
		part->count = part->bounces;
		if (direct > 0)
			part->bytes = part->count * BLOCK_BYTES;
		part->iov_count = (int)part->count;
	} else {
		part->iov_count = iov_slice(request->iov, part->data_offset,
					    (size_t)part->count * BLOCK_BYTES, part->iov);
	}
	memcpy(part->crcs, run->crcs, part->count * sizeof(part->crcs[0]));
	part->file = run->file;
	egroup_file_ref(part->file);
	state->cursor += part->count;
	issue_part(vdisk, part, run->offset);
	return true;
}

static void zero_block(struct block_request *request)
{
	struct vdisk_request *state = vdisk_request(request);
	uint32_t skip, bytes;

	wanted_bytes(request, state->cursor, &skip, &bytes);
	iov_clear(request->iov, data_offset(request, state->cursor), bytes);
	state->cursor++;
}

static void read_fiber(struct fiber_task *task)
{
	struct vdisk_request *state = CONTAINER_OF(task, struct vdisk_request, task);
	struct block_request *request = block_request_of(state);
	struct vdisk *vdisk = state->vdisk;
	struct map_entry entry;
	int r;

	REACHED("read.load");
	r = vdisk_lookup(vdisk, state->cursor, &entry);
	if (r == 0 && entry.address)
		r = egroup_prepare(vdisk->store, address_group(entry.address));
	if (r < 0) {
		state->error = r;
		vdisk_report_damage(vdisk, "a block cannot be found", state->cursor, r);
	}
	state->working = false;
	if (r < 0)
		finish_if_done(vdisk, request);
	else
		vdisk_read_resume(request);
	vdisk_task_ends(vdisk);
}

/* Cuts parts from the cursor on. False: something else goes on with the request later. */
static bool read_loop(struct vdisk *vdisk, struct block_request *request)
{
	struct vdisk_request *state = vdisk_request(request);
	struct placed run;

	while (state->cursor < state->end && !state->error) {
		uint32_t direct, limit = (uint32_t)MIN(state->end - state->cursor,
						       (uint64_t)READ_PART_BLOCKS);
		int r;

		direct = direct_blocks(request, state->cursor, limit);
		r = place_run(vdisk, state->cursor, direct ? direct : 1, &run);
		if (r == -EAGAIN) {
			vdisk_spawn(vdisk, &state->task, read_fiber);
			return false;
		}
		if (r < 0) {
			vdisk_report_damage(vdisk, "the map names a slot that is not there",
					    state->cursor, r);
			state->error = r;
		} else if (run.count == 0) {
			zero_block(request);
		} else if (!start_part(vdisk, request, &run, direct)) {
			REACHED("read.no-part");
			list_push_back(&vdisk->cache->part_waiters, &request->link);
			await_parts(vdisk->cache);
			return false;
		}
	}
	return true;
}

/* `working` stays set while something else will go on with the request. */
void vdisk_read_resume(struct block_request *request)
{
	struct vdisk_request *state = vdisk_request(request);
	struct vdisk *vdisk = state->vdisk;

	state->working = true;
	if (!read_loop(vdisk, request))
		return;
	state->working = false;
	finish_if_done(vdisk, request);
}

void vdisk_read_start(struct vdisk *vdisk, struct block_request *request)
{
	struct vdisk_request *state = vdisk_request(request);

	state->working = true;
	if (!read_loop(vdisk, request))
		return;
	state->working = false;
	/* Nothing had to be read: not on the submitter's stack. */
	if (state->outstanding == 0)
		vdisk_finish_later(vdisk, request, state->error);
}
