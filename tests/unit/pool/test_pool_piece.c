/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of memory for operations of fibers: what is kept of them, how much, and for how long. */
#include "pool/pool_piece.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "fail_alloc.h"
#include "pool_rig.h"

#define PAGE    4096
#define IDLE_NS (3 * NSEC_PER_SEC) /* after which no memory is kept */

static int setup(void **state)
{
	struct pool_rig *rig = pool_rig_new(POOL_RIG_DISK_BYTES);

	ASSERT(sim_disk_add(rig->sim.sim, "/disk2", POOL_RIG_DISK_BYTES) == 0);
	*state = rig;
	return 0;
}

static unsigned kept(struct pool_rig *rig, size_t *ret_bytes)
{
	const struct pool_watch *watch = pool_watch_of(rig->pool);
	unsigned count = 0;

	*ret_bytes = 0;
	for (const struct pool_piece *piece = watch->pieces; piece; piece = piece->next) {
		ASSERT(!piece->memory_bytes == !piece->iov.iov_base);
		*ret_bytes += piece->memory_bytes;
		count++;
	}
	ASSERT(count == watch->piece_count && count <= POOL_PIECES_KEPT);
	return count;
}

static unsigned kept_count(struct pool_rig *rig)
{
	size_t bytes;

	return kept(rig, &bytes);
}

static size_t kept_bytes(struct pool_rig *rig)
{
	size_t bytes;

	(void)kept(rig, &bytes);
	return bytes;
}

static void end(struct pool_rig *rig, struct pool_file *file)
{
	pool_file_discard(file);
	pool_check(rig->pool);
	pool_rig_close(rig);
}

static void sync_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);

	for (unsigned i = 0; i < 3; i++) {
		ASSERT(pool_io_sync(file) == 0);
		ASSERT(kept_count(rig) == POOL_COPIES_MAX);
	}
	fiber_sleep(IDLE_NS);
	ASSERT(kept_count(rig) == POOL_COPIES_MAX && kept_bytes(rig) == 0);
	end(rig, file);
}

/* So it allocates nothing but the first time. */
static void a_sync_uses_what_the_last_one_left(void **state)
{
	pool_rig_run(*state, sync_run);
}

static void memory_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	_cleanup_free_ char *memory = aligned_alloc(PAGE, MIB);

	ASSERT(memory);
	memset(memory, 'm', MIB);
	fiber_sleep(IDLE_NS);
	ASSERT(kept_bytes(rig) == 0);
	for (unsigned i = 0; i < 3; i++) {
		ASSERT(pool_io_write(file, memory, MIB, 0) == 0);
		ASSERT(pool_io_read_copy(file, 1, memory, MIB, 0) == 0);
		ASSERT(memory[0] == 'm' && memory[MIB - 1] == 'm');
		ASSERT(kept_bytes(rig) == MIB);
	}
	/* The smallest that will do; the large one stays. */
	ASSERT(pool_io_sync(file) == 0);
	ASSERT(kept_bytes(rig) == MIB);
	fiber_sleep(IDLE_NS);
	ASSERT(kept_bytes(rig) == 0 && kept_count(rig) > 0);
	ASSERT(pool_io_write(file, memory, PAGE, 0) == 0);
	ASSERT(kept_bytes(rig) == PAGE);
	end(rig, file);
}

static void memory_is_kept_while_the_disks_are_busy(void **state)
{
	pool_rig_run(*state, memory_run);
}

static void take_and_put(struct pool_rig *rig, unsigned count, size_t length)
{
	struct pool_piece *pieces[POOL_PIECES_KEPT + 2];

	ASSERT(count <= ARRAY_SIZE(pieces));
	for (unsigned i = 0; i < count; i++) {
		pieces[i] = pool_piece_take(rig->pool, length);
		ASSERT(pieces[i] && pieces[i]->iov.iov_len == length);
		ASSERT(!pieces[i]->waiter && !pieces[i]->ended);
		memset(pieces[i]->iov.iov_base, (int)i, length);
	}
	for (unsigned i = 0; i < count; i++) {
		ASSERT(*(char *)pieces[i]->iov.iov_base == (char)i);
		pool_piece_put(pieces[i]);
	}
}

static void limits_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);

	take_and_put(rig, POOL_PIECES_KEPT, POOL_PIECE_MEMORY);
	ASSERT(kept_count(rig) == POOL_PIECES_KEPT);
	ASSERT(kept_bytes(rig) == POOL_PIECES_KEPT * POOL_PIECE_MEMORY);
	take_and_put(rig, POOL_PIECES_KEPT + 2, PAGE);
	ASSERT(kept_count(rig) == POOL_PIECES_KEPT);
	take_and_put(rig, 2, POOL_PIECE_MEMORY + PAGE);
	ASSERT(kept_count(rig) == POOL_PIECES_KEPT);
	ASSERT(kept_bytes(rig) <= (POOL_PIECES_KEPT - 2) * POOL_PIECE_MEMORY);
	end(rig, file);
}

static void no_more_is_kept_than_the_limit(void **state)
{
	pool_rig_run(*state, limits_run);
}

/* Each allocation of taking one fails: nothing is lost of what there was. */
static void memory_short_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	struct pool_piece *piece;
	bool hit;

	pool_pieces_done(pool_watch_of(rig->pool));
	pool_watch_of(rig->pool)->stopped = false;
	for (uint64_t n = 1; n <= 2; n++) {
		fail_alloc_nth(n);
		piece = pool_piece_take(rig->pool, PAGE);
		hit = fail_alloc_disarm();
		ASSERT(!piece && hit);
		ASSERT(kept_count(rig) == n - 1 && kept_bytes(rig) == 0);
	}
	fail_alloc_nth(2);
	take_and_put(rig, 1, PAGE); /* the piece was kept: memory for it is all */
	take_and_put(rig, 1, PAGE); /* and that then, too */
	hit = fail_alloc_disarm();
	ASSERT(!hit && kept_bytes(rig) == PAGE);
	end(rig, file);
}

static void tells_when_memory_is_short(void **state)
{
	pool_rig_run(*state, memory_short_run);
}

/* What a disk has that hangs is kept by nobody until it has ended. */
static void hang_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	_cleanup_free_ char *page = aligned_alloc(PAGE, PAGE);
	unsigned before;

	ASSERT(page);
	memset(page, 'h', PAGE);
	take_and_put(rig, POOL_PIECES_KEPT, PAGE);
	sim_disk_set_hung(rig->sim.sim, "/disk2", true);
	before = kept_count(rig);
	ASSERT(pool_io_write(file, page, PAGE, 0) == -ETIMEDOUT);
	ASSERT(kept_count(rig) == before - 1);
	sim_disk_set_hung(rig->sim.sim, "/disk2", false);
	fiber_sleep(NSEC_PER_SEC);
	ASSERT(kept_count(rig) == before);
	sim_disk_set_hung(rig->sim.sim, "/disk2", true);
	ASSERT(pool_io_read_copy(file, pool_rig_copy_on(file, 2), page, PAGE, 0) == -ETIMEDOUT);
	ASSERT(kept_count(rig) == before - 1);
	sim_disk_set_hung(rig->sim.sim, "/disk2", false);
	fiber_sleep(NSEC_PER_SEC);
	ASSERT(kept_count(rig) == before);
	end(rig, file);
}

static void what_a_disk_has_is_not_kept(void **state)
{
	pool_rig_run(*state, hang_run);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, pool_rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_sync_uses_what_the_last_one_left),
		TEST(memory_is_kept_while_the_disks_are_busy),
		TEST(no_more_is_kept_than_the_limit),
		TEST(tells_when_memory_is_short),
		TEST(what_a_disk_has_is_not_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
