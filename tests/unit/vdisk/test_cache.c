/* SPDX-License-Identifier: Apache-2.0 */
/* Pools of buffers of which a disk that hangs keeps some. */
#include "vdisk/cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fail_alloc.h"

static struct vdisk_cache *new_cache(void)
{
	struct vdisk_cache *cache;

	assert_int_equal(vdisk_cache_new(NULL, 64 * MIB, &cache), 0);
	return cache;
}

/* Free ones. */
static unsigned count(const struct cache_pool *pool)
{
	unsigned free = pool->pieces - pool->taken_once;

	for (const struct cache_free_item *item = pool->free; item; item = item->next)
		free++;
	return free;
}

static void what_is_lent_is_replaced(void **state)
{
	struct vdisk_cache *cache = new_cache();
	void *held = cache_take(&cache->records);

	(void)state;
	assert_true(cache_lend_record(cache));
	assert_int_equal(count(&cache->records), CACHE_RECORDS);
	assert_false(cache_is_whole(cache));
	cache_record_back(cache, held);
	assert_true(cache_is_whole(cache));
	assert_int_equal(count(&cache->records), CACHE_RECORDS + 1);
	/* The next one has its replacement already. */
	held = cache_take(&cache->records);
	assert_true(cache_lend_record(cache));
	assert_int_equal(count(&cache->records), CACHE_RECORDS);
	cache_record_back(cache, held);
	vdisk_cache_free(cache);
}

/* What came back makes up for nothing then: there was nothing in its place. */
static void without_memory_the_pool_keeps_its_size(void **state)
{
	struct vdisk_cache *cache = new_cache();
	void *held[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		held[i] = cache_take(&cache->records);
	fail_alloc_nth(1);
	assert_true(cache_lend_record(cache));
	assert_true(fail_alloc_disarm());
	cache_record_back(cache, held[0]);
	assert_int_equal(count(&cache->records), CACHE_RECORDS - 2);
	held[0] = cache_take(&cache->records);
	assert_true(cache_lend_record(cache));
	assert_int_equal(count(&cache->records), CACHE_RECORDS - 2);
	for (unsigned i = 0; i < 3; i++) {
		if (i > 0)
			assert_true(cache_lend_record(cache));
		cache_record_back(cache, held[i]);
	}
	vdisk_cache_free(cache);
}

/* A surplus that is in use is none, and one that was not used stays. */
static void there_is_one_to_go_on_with(void **state)
{
	struct vdisk_cache *cache = new_cache();
	void *held[CACHE_RECORDS + 2];
	unsigned taken = 0;

	(void)state;
	held[taken++] = cache_take(&cache->records);
	assert_true(cache_lend_record(cache));
	cache_record_back(cache, held[--taken]);
	while (count(&cache->records) > 0)
		held[taken++] = cache_take(&cache->records);
	assert_int_equal(taken, CACHE_RECORDS + 1);
	fail_alloc_nth(1);
	assert_false(cache_lend_record(cache));
	assert_true(fail_alloc_disarm());
	assert_true(cache_is_whole(cache) && cache->lent_records.surplus == 1);
	assert_true(cache_lend_record(cache));
	assert_int_equal(count(&cache->records), 1);
	cache_record_back(cache, held[--taken]);
	while (taken > 0)
		cache_give(&cache->records, held[--taken]);
	vdisk_cache_free(cache);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_lent_is_replaced),
		cmocka_unit_test(without_memory_the_pool_keeps_its_size),
		cmocka_unit_test(there_is_one_to_go_on_with),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
