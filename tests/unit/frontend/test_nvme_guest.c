/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "frontend/nvme/guest.h"

static struct guest guest;
static unsigned char memory[16384];
static uint32_t gone[8];
static unsigned gone_count;

static void let_go(void *context, uint32_t id)
{
	gone[gone_count++] = id;
}

static int set_up(void **state)
{
	gone_count = 0;
	guest_init(&guest, let_go, NULL);
	return 0;
}

static int map(uint64_t address, uint64_t length, uint32_t id, unsigned flags)
{
	const struct vfu_map range = {address, length, id, flags};

	return guest_map(&guest, &range, memory + (address & 0x3fff));
}

static void ranges_are_found(void **state)
{
	uint64_t there;
	unsigned char bytes[8];

	assert_int_equal(map(0x8000, 0x1000, 1, VFU_MAP_READ), 0);
	assert_int_equal(map(0x1000, 0x1000, 2, VFU_MAP_READ | VFU_MAP_WRITE), 0);
	assert_int_equal(map(0x2000, 0x1000, 3, VFU_MAP_READ | VFU_MAP_WRITE), 0);
	assert_ptr_equal(guest_at(&guest, 0x1010, VFU_MAP_WRITE, &there), memory + 0x1010);
	assert_int_equal(there, 0xff0);
	assert_null(guest_at(&guest, 0xfff, 0, &there));
	assert_null(guest_at(&guest, 0x3000, 0, &there));
	assert_null(guest_at(&guest, UINT64_MAX, 0, &there));
	assert_null(guest_at(&guest, 0x8000, VFU_MAP_WRITE, &there));
	assert_non_null(guest_span(&guest, 0x1000, 0x1000, 0));
	assert_null(guest_span(&guest, 0x1800, 0x1000, 0)); /* in two ranges */
	assert_true(guest_read(&guest, 0x1ffc, bytes, 8));
	assert_false(guest_read(&guest, 0x2ffc, bytes, 8));
}

static void a_range_goes_when_its_users_have_ended(void **state)
{
	unsigned first, second;
	uint64_t there;

	assert_int_equal(map(0x1000, 0x1000, 1, 0), 0);
	assert_int_equal(map(0x2000, 0x1000, 2, 0), 0);
	first = guest_enter(&guest);
	assert_true(guest_unmap(&guest, 1));
	assert_null(guest_at(&guest, 0x1000, 0, &there));
	assert_int_equal(gone_count, 0);
	second = guest_enter(&guest); /* cannot have it */
	assert_true(guest_unmap(&guest, 2));
	assert_false(guest_unmap(&guest, 2));
	guest_leave(&guest, first);
	assert_int_equal(gone_count, 1);
	assert_int_equal(gone[0], 1);
	guest_leave(&guest, second);
	assert_int_equal(gone_count, 2);
	assert_int_equal(gone[1], 2);
}

static void without_users_it_goes_at_once(void **state)
{
	assert_int_equal(map(0x1000, 0x1000, 1, 0), 0);
	assert_true(guest_unmap(&guest, 1));
	assert_int_equal(gone_count, 1);
	assert_int_equal(map(0x1000, 0x1000, 1, 0), 0);
}

static void what_cannot_be_is_refused(void **state)
{
	assert_int_equal(map(0x1000, 0x1000, 1, 0), 0);
	assert_int_equal(map(0x1fff, 1, 2, 0), -EEXIST);
	assert_int_equal(map(0x0, 0x1001, 2, 0), -EEXIST);
	assert_int_equal(map(0x0, 0x4000, 2, 0), -EEXIST);
	assert_int_equal(map(0x5000, 0x1000, 1, 0), -EEXIST);
	assert_int_equal(map(0x5000, 0, 2, 0), -EINVAL);
	assert_int_equal(map(UINT64_MAX - 4094, 4096, 2, 0), -EINVAL);
	assert_int_equal(map(UINT64_MAX - 4095, 4096, 2, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(ranges_are_found, set_up),
		cmocka_unit_test_setup(a_range_goes_when_its_users_have_ended, set_up),
		cmocka_unit_test_setup(without_users_it_goes_at_once, set_up),
		cmocka_unit_test_setup(what_cannot_be_is_refused, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
