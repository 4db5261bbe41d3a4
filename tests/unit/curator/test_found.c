/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "curator/found.h"

static struct scrub_found found;

static void find(unsigned count, uint64_t file, bool put_right)
{
	const struct vdisk_finding finding = {.file = file, .put_right = put_right};

	for (unsigned i = 0; i < count; i++)
		scrub_found_add(&found, &finding);
}

static void expect(unsigned count, uint64_t untold)
{
	assert_int_equal(found.count, count);
	assert_int_equal(found.untold, untold);
}

/* What is found again when a file is read again is neither kept nor counted twice. */
static void counts_what_is_done(void **state)
{
	(void)state;
	found = (struct scrub_found){0};
	find(3, 7, false);
	find(2, 8, true);
	find(4, 8, false);
	scrub_found_end(&found, 7);
	expect(5, 0);
	assert_int_equal(found.findings[4].what.file, 8);
	assert_true(found.findings[4].what.put_right);
	scrub_found_end(&found, UINT64_MAX);
	expect(5, 0);
}

static void counts_what_is_untold_once(void **state)
{
	(void)state;
	found = (struct scrub_found){0};
	find(SCRUB_FOUND_MAX - 1, 5, false);
	find(3, 6, false); /* two of them are not kept */
	find(10, 7, false);
	find(4, 9, false);
	find(1, 9, true);
	scrub_found_end(&found, 7);
	expect(SCRUB_FOUND_MAX, 2 + 10 + 1);
	/* The next part reads 9 again. */
	found = (struct scrub_found){0};
	find(SCRUB_FOUND_MAX + 4, 9, false);
	scrub_found_end(&found, 9);
	expect(SCRUB_FOUND_MAX, 4);
	/* One whole part. */
	found = (struct scrub_found){0};
	find(SCRUB_FOUND_MAX + 4, 9, false);
	scrub_found_end(&found, UINT64_MAX);
	expect(SCRUB_FOUND_MAX, 4);
	/* Not even one file is done. */
	found = (struct scrub_found){0};
	find(SCRUB_FOUND_MAX + 4, 9, false);
	scrub_found_end(&found, 0);
	expect(0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_what_is_done),
		cmocka_unit_test(counts_what_is_untold_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
