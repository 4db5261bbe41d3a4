/* SPDX-License-Identifier: Apache-2.0 */
/* What counts as written in sequence, on the patterns of programs that guests run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/macros.h"
#include "block/chance.h"
#include "vdisk/pattern.h"

#define BLOCKS(bytes) ((uint64_t)(bytes) / 4096)
#define DISK          BLOCKS(64 * GIB)

struct trial {
	struct pattern pattern;
	struct chance chance;
	unsigned changes;
};

static void begin(struct trial *trial)
{
	*trial = (struct trial){0};
	pattern_init(&trial->pattern);
	chance_init(&trial->chance, 1);
	assert_false(trial->pattern.sequential);
}

static void write_at(struct trial *trial, uint64_t first, uint64_t blocks)
{
	trial->changes += pattern_note(&trial->pattern, first, first + blocks);
}

/* dd, one write after the other. */
static void stream(struct trial *trial, uint64_t from, uint64_t bytes, uint64_t blocks)
{
	for (uint64_t at = 0; at < BLOCKS(bytes); at += blocks)
		write_at(trial, from + at, blocks);
}

static void at_random(struct trial *trial, uint64_t area, uint64_t bytes, uint64_t blocks)
{
	for (uint64_t done = 0; done < BLOCKS(bytes); done += blocks)
		write_at(trial, chance_below(&trial->chance, area / blocks) * blocks, blocks);
}

static void one_stream(void **state)
{
	static const uint64_t sizes[] = {1, 2, 16, 32, 256};
	struct trial trial;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		begin(&trial);
		stream(&trial, 12345, 9 * MIB, sizes[i]);
		assert_true(trial.pattern.sequential);
		stream(&trial, 7, 100 * MIB, sizes[i]); /* and another one elsewhere */
		assert_true(trial.pattern.sequential);
		assert_int_equal(trial.changes, 1);
	}
}

/* fio with a queue of 32: each arrives up to 31 places early or late. */
static void out_of_order(struct trial *trial, uint64_t from, uint64_t bytes, uint64_t blocks)
{
	uint64_t queue[32], next = 0, count = BLOCKS(bytes) / blocks;
	unsigned waiting = 0;

	while (next < count || waiting > 0) {
		unsigned pick;

		while (waiting < ARRAY_SIZE(queue) && next < count)
			queue[waiting++] = from + next++ * blocks;
		pick = (unsigned)chance_below(&trial->chance, waiting);
		write_at(trial, queue[pick], blocks);
		queue[pick] = queue[--waiting];
		/* None is overtaken for ever: the oldest goes now and then. */
		for (unsigned i = 0; waiting > 0 && i < waiting; i++)
			if (queue[i] + 64 * blocks < from + next * blocks) {
				write_at(trial, queue[i], blocks);
				queue[i] = queue[--waiting];
			}
	}
}

static void deep_queue(void **state)
{
	struct trial trial;

	(void)state;
	for (uint64_t blocks = 1; blocks <= 256; blocks *= 4) {
		begin(&trial);
		out_of_order(&trial, 999, 64 * MIB, blocks);
		assert_true(trial.pattern.sequential);
		assert_int_equal(trial.changes, 1);
	}
}

static void database(void **state)
{
	static const uint64_t areas[] = {BLOCKS(MIB), BLOCKS(16 * MIB), BLOCKS(64 * MIB),
					 BLOCKS(GIB), DISK};
	struct trial trial;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(areas); i++) {
		begin(&trial);
		at_random(&trial, areas[i], 200 * MIB, 1);
		at_random(&trial, areas[i], 200 * MIB, 4);
		assert_false(trial.pattern.sequential);
		assert_int_equal(trial.changes, 0);
	}
}

/* The same block over and over, and a few that take turns, are no sequence either. */
static void hot_blocks(void **state)
{
	struct trial trial;

	(void)state;
	begin(&trial);
	for (unsigned i = 0; i < 10000; i++)
		write_at(&trial, 5 + i % 2, 1);
	assert_false(trial.pattern.sequential);
}

/* ext4: data at random, then the journal, which is a sequence: descriptor, some blocks, commit;
 * what it held is written to its place later. */
static void journal(struct trial *trial, unsigned commits, unsigned data_blocks)
{
	uint64_t at = DISK - BLOCKS(128 * MIB), end = DISK;

	for (unsigned i = 0; i < commits; i++) {
		write_at(trial, chance_below(&trial->chance, DISK / 2), data_blocks);
		write_at(trial, at, 3);
		write_at(trial, at + 3, 1);
		at = at + 8 > end ? DISK - BLOCKS(128 * MIB) : at + 4;
		if (i % 2)
			write_at(trial, chance_below(&trial->chance, 4096) * 8192, 1);
	}
}

static void journal_and_data(void **state)
{
	struct trial trial;

	(void)state;
	for (unsigned blocks = 1; blocks <= 64; blocks *= 4) {
		begin(&trial);
		journal(&trial, 20000, blocks);
		assert_false(trial.pattern.sequential);
		assert_int_equal(trial.changes, 0);
	}
}

/* A backup: several streams at a time, each with a queue, and a little metadata. */
static void backup(void **state)
{
	struct trial trial;

	(void)state;
	begin(&trial);
	for (unsigned i = 0; i < 64; i++) {
		for (unsigned s = 0; s < 4; s++)
			stream(&trial, s * DISK / 5 + i * BLOCKS(MIB), MIB, 32);
		journal(&trial, 1, 2);
	}
	assert_true(trial.pattern.sequential);
	assert_int_equal(trial.changes, 1);
}

/* A quarter at random is too much; and it follows what is done, there and back. */
static void follows_the_guest(void **state)
{
	struct trial trial;

	(void)state;
	begin(&trial);
	stream(&trial, 0, 100 * MIB, 32);
	assert_true(trial.pattern.sequential);
	at_random(&trial, DISK, 17 * MIB, 1);
	assert_false(trial.pattern.sequential);
	for (unsigned i = 0; i < 100; i++) {
		stream(&trial, i * BLOCKS(MIB), 768 * KIB, 32);
		at_random(&trial, DISK, 256 * KIB, 1);
	}
	assert_false(trial.pattern.sequential);
	stream(&trial, 0, 17 * MIB, 32);
	assert_true(trial.pattern.sequential);
	assert_int_equal(trial.changes, 3);
}

/* Eight writes, or 1 MiB: exactly. */
static void limits(void **state)
{
	struct trial trial;

	(void)state;
	begin(&trial);
	stream(&trial, 100, 7 * 4096, 1);
	assert_int_equal(trial.pattern.sequential_blocks, 0);
	write_at(&trial, 107, 1);
	assert_int_equal(trial.pattern.sequential_blocks, 8);
	begin(&trial);
	write_at(&trial, 0, PATTERN_RUN_BLOCKS - 1);
	assert_int_equal(trial.pattern.sequential_blocks, 0);
	write_at(&trial, PATTERN_RUN_BLOCKS - 1, 1);
	assert_int_equal(trial.pattern.sequential_blocks, PATTERN_RUN_BLOCKS);
	/* Backwards is a run, too; a gap or an overlap ends it. */
	begin(&trial);
	for (uint64_t at = 1000; at > 992; at--)
		write_at(&trial, at, 1);
	assert_int_equal(trial.pattern.sequential_blocks, 8);
	begin(&trial);
	for (uint64_t at = 0; at < 100; at++)
		write_at(&trial, at * 3, 2);
	for (uint64_t at = 0; at < 100; at++)
		write_at(&trial, at * 3, 4);
	assert_int_equal(trial.pattern.sequential_blocks, 0);
	/* What is not told yet, and what was, is all there is. */
	assert_true(trial.pattern.random_blocks <= 600 &&
		    trial.pattern.random_blocks >= 600 - PATTERN_RUNS * 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_stream),        cmocka_unit_test(deep_queue),
		cmocka_unit_test(database),          cmocka_unit_test(hot_blocks),
		cmocka_unit_test(journal_and_data),  cmocka_unit_test(backup),
		cmocka_unit_test(follows_the_guest), cmocka_unit_test(limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
