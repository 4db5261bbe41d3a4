/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/iscsi/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "block/chance.h"

#define SIZE   (2u * ISCSI_MEMORY_BLOCK_MAX)
#define BLOCKS 300

static void blocks_of_all_sizes(void **state)
{
	struct iscsi_memory memory;

	(void)state;
	assert_int_equal(iscsi_memory_init(&memory, 1), 0);
	assert_int_equal(memory.size, ISCSI_MEMORY_BLOCK_MAX);
	for (size_t size = 1; size <= ISCSI_MEMORY_BLOCK_MAX; size = size * 2 + 1) {
		uint8_t *block = iscsi_memory_alloc(&memory, size);

		assert_non_null(block);
		assert_int_equal((uintptr_t)block % ISCSI_MEMORY_PAGE, 0);
		assert_int_equal(memory.used, iscsi_memory_block_size(size));
		assert_true(memory.used >= size);
		memset(block, 0xff, size);
		iscsi_memory_free(&memory, block);
		assert_int_equal(memory.used, 0);
	}
	iscsi_memory_free(&memory, NULL);
	iscsi_memory_done(&memory);
}

static void fills_up_and_joins_again(void **state)
{
	struct iscsi_memory memory;
	void *blocks[SIZE / ISCSI_MEMORY_PAGE];

	(void)state;
	assert_int_equal(iscsi_memory_init(&memory, SIZE), 0);
	for (size_t i = 0; i < ARRAY_SIZE(blocks); i++)
		assert_non_null(blocks[i] = iscsi_memory_alloc(&memory, 1));
	assert_null(iscsi_memory_alloc(&memory, 1));
	for (size_t i = 0; i < ARRAY_SIZE(blocks); i += 2)
		iscsi_memory_free(&memory, blocks[i]);
	assert_null(iscsi_memory_alloc(&memory, ISCSI_MEMORY_PAGE + 1)); /* only single pages */
	for (size_t i = 1; i < ARRAY_SIZE(blocks); i += 2)
		iscsi_memory_free(&memory, blocks[i]);
	for (size_t i = 0; i < 2; i++)
		assert_non_null(blocks[i] = iscsi_memory_alloc(&memory, ISCSI_MEMORY_BLOCK_MAX));
	assert_null(iscsi_memory_alloc(&memory, 1));
	iscsi_memory_free(&memory, blocks[0]);
	iscsi_memory_free(&memory, blocks[1]);
	iscsi_memory_done(&memory);
}

/* Blocks keep what is written to them, so they never overlap. */
static void random_use(void **state)
{
	struct iscsi_memory memory;
	struct chance chance;
	uint8_t *blocks[BLOCKS] = {NULL};
	size_t sizes[BLOCKS];

	(void)state;
	chance_init(&chance, 1);
	assert_int_equal(iscsi_memory_init(&memory, SIZE), 0);
	for (unsigned round = 0; round < 20000; round++) {
		size_t i = chance_below(&chance, BLOCKS);

		if (blocks[i]) {
			assert_int_equal(blocks[i][0], i % 251);
			assert_int_equal(blocks[i][sizes[i] - 1], i % 251);
			iscsi_memory_free(&memory, blocks[i]);
			blocks[i] = NULL;
			continue;
		}
		sizes[i] = 1 + (chance_next(&chance) >> (64 - 19 + chance_below(&chance, 12)));
		blocks[i] = iscsi_memory_alloc(&memory, sizes[i]);
		if (!blocks[i])
			continue;
		blocks[i][0] = (uint8_t)(i % 251);
		blocks[i][sizes[i] - 1] = (uint8_t)(i % 251);
	}
	for (size_t i = 0; i < BLOCKS; i++)
		iscsi_memory_free(&memory, blocks[i]);
	iscsi_memory_done(&memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_of_all_sizes),
		cmocka_unit_test(fills_up_and_joins_again),
		cmocka_unit_test(random_use),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
