/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The n-th allocation fails, for each n ("all", the slow suite) or some, over a life of a catalog
 * with mirrors and its restoration. In the real world: the simulated one allocates too and must not
 * fail.
 */
#include "real_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "catalog/mirror.h"
#include "fail_alloc.h"
#include "sim_rig.h"

#define ROWS 4

struct sweep {
	struct real_rig rig;
	char path[160], disks[2][160];
	struct catalog *catalog;
	struct catalog_report report;
	uint8_t known[ROWS], maybe[ROWS];
	uint64_t n;
};

static int open_any(struct sweep *s)
{
	struct catalog_options options = {.path = s->path, .create = true, .report = &s->report};

	return catalog_open(s->rig.world, &options, &s->catalog);
}

static void close_any(struct sweep *s)
{
	if (s->catalog)
		catalog_close(TAKE_PTR(s->catalog));
}

static struct catalog_key row_key(unsigned row)
{
	struct catalog_key key = catalog_key(CATALOG_JOB);

	catalog_key_add(&key, row);
	return key;
}

static int put(struct sweep *s, unsigned row, uint8_t byte)
{
	uint8_t value[600];
	struct catalog_change change = {
		.kind = CATALOG_PUT, .key = row_key(row), .value = value, .length = sizeof(value)};
	int r;

	memset(value, byte, sizeof(value));
	r = catalog_commit(s->catalog, &change, 1);
	if (r == 0)
		s->known[row] = byte;
	if (r == 0 || r == -ENOTRECOVERABLE)
		s->maybe[row] = byte;
	return r;
}

static void check_rows(struct sweep *s)
{
	for (unsigned row = 0; row < ROWS; row++) {
		struct catalog_key key = row_key(row);
		struct catalog_row found = {0};
		int r = catalog_get(s->catalog, &key, &found);
		uint8_t byte = r == 0 ? found.value[0] : 0;

		ASSERT(r == 0 || r == -ENOENT);
		ASSERT(byte == s->known[row] || byte == s->maybe[row]);
		s->known[row] = s->maybe[row] = byte;
		catalog_row_done(&found);
	}
}

static bool is_expected(int r)
{
	return r == 0 || r == -ENOMEM || r == -ENOTRECOVERABLE;
}

static int use(struct sweep *s)
{
	struct catalog_mirror_info *infos = NULL;
	struct catalog_verify verify;
	size_t count;
	int r = put(s, 0, 1), r2;

	for (unsigned i = 0; i < 2; i++) {
		r2 = catalog_mirror_add(s->catalog, s->disks[i]);
		ASSERT(is_expected(r2));
	}
	catalog_mirror_wait(s->catalog);
	for (unsigned row = 0; row < ROWS; row++) {
		r2 = put(s, row, 2);
		ASSERT(is_expected(r2));
	}
	r2 = catalog_verify(s->catalog, &verify);
	ASSERT(is_expected(r2));
	r2 = catalog_mirror_list(s->catalog, &infos, &count);
	ASSERT(is_expected(r2));
	if (r2 == 0)
		free(infos);
	r2 = catalog_mirror_remove(s->catalog, s->disks[1]);
	ASSERT(is_expected(r2) || r2 == -ENOENT);
	return r;
}

static int life_run(void *arg)
{
	struct sweep *s = arg;
	int r;

	fail_alloc_nth(s->n);
	r = open_any(s);
	if (r == 0)
		r = use(s);
	ASSERT(is_expected(r));
	close_any(s);
	return fail_alloc_disarm();
}

static int settle_run(void *arg)
{
	struct sweep *s = arg;

	ASSERT(open_any(s) == 0);
	check_rows(s);
	for (unsigned i = 0; i < 2; i++)
		ASSERT(catalog_mirror_add(s->catalog, s->disks[i]) == 0);
	catalog_mirror_wait(s->catalog);
	close_any(s);
	ASSERT(unlink(s->path) == 0);
	return 0;
}

/* The database is gone. */
static int restore_run(void *arg)
{
	struct sweep *s = arg;
	int hit, r;

	fail_alloc_nth(s->n);
	r = open_any(s);
	hit = fail_alloc_disarm();
	ASSERT(is_expected(r));
	if (r == 0)
		check_rows(s);
	close_any(s);
	ASSERT(open_any(s) == 0);
	check_rows(s);
	close_any(s);
	return hit;
}

static bool sweep_is_complete;

static void prepare(struct sweep *s)
{
	char base[100];

	memset(s->known, 0, sizeof(s->known));
	memset(s->maybe, 0, sizeof(s->maybe));
	snprintf(base, sizeof(base), "%s/%llu", s->rig.directory, (unsigned long long)s->n);
	ASSERT(mkdir(base, 0700) == 0);
	snprintf(s->path, sizeof(s->path), "%s/catalog.db", base);
	for (unsigned i = 0; i < 2; i++) {
		char label[180];
		FILE *file;

		snprintf(s->disks[i], sizeof(s->disks[i]), "%s/disk%u", base, i);
		ASSERT(mkdir(s->disks[i], 0700) == 0);
		snprintf(label, sizeof(label), "%s/label", s->disks[i]);
		file = fopen(label, "w");
		ASSERT(file && fclose(file) == 0);
	}
}

static void failed_allocations(void **state)
{
	struct sweep *s = calloc(1, sizeof(*s));
	bool hit = true;

	(void)state;
	assert_non_null(s);
	if (!getenv("SARSEN_LOG"))
		sim_rig_silence_log();
	real_rig_init(&s->rig);
	for (s->n = 1; hit; s->n += sweep_is_complete ? 1 : 5) {
		prepare(s);
		hit = real_rig_run(&s->rig, 0, life_run, s);
		assert_int_equal(real_rig_run(&s->rig, 0, settle_run, s), 0);
		hit |= real_rig_run(&s->rig, 0, restore_run, s);
	}
	real_rig_done(&s->rig);
	log_set_sink(NULL, NULL);
	print_message("beyond %llu\n", (unsigned long long)s->n);
	assert_true(s->n > 20);
	free(s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(failed_allocations),
	};

	sweep_is_complete = argc > 1 && strcmp(argv[1], "all") == 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
