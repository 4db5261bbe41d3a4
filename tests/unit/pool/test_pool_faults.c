/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The n-th disk operation fails, or the process or the power dies at it: for each n ("all", the
 * slow suite) or some, over making, opening, using and deleting a pool. Afterwards, without faults,
 * what was reported must be what is there.
 */
#include "pool_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FILES 3

static bool sweep_is_complete;

struct outcome {
	bool created, deleted;
	uint64_t named[FILES]; /* files whose rows are known to be there */
	uint64_t forgotten;    /* a file whose row is known to be gone */
};

enum fault { FAULT_DISK, FAULT_CRASH };

struct sweep {
	struct pool_rig *rig;
	enum fault fault;
	int error;
	enum sim_crash crash;
	uint64_t n;
	bool hit, delete_it;
	struct outcome outcome;
};

static bool is_expected(int r)
{
	return r == 0 || r == -EIO || r == -ENOSPC || r == -EROFS || r == -ENOMEM ||
	       r == -ESHUTDOWN || r == -ENOTRECOVERABLE;
}

static void use_file(struct sweep *s, unsigned i)
{
	struct pool_rig *rig = s->rig;
	struct pool_file *file;
	int r = take_file(rig->pool, POOL_USE_DATA, MIB, &file);

	ASSERT(is_expected(r));
	if (r)
		return;
	r = pool_rig_name(rig, file);
	if (r == 0)
		s->outcome.named[i] = pool_file_id(file);
	if (r == 0)
		r = pool_rig_write(file, (uint8_t)i);
	ASSERT(is_expected(r));
	r = pool_file_trim(file, MIB / 2 + 4096);
	ASSERT(is_expected(r));
	pool_file_close(file);
}

static void drop_file(struct sweep *s, unsigned i)
{
	struct pool_rig *rig = s->rig;
	uint64_t id = s->outcome.named[i];
	int r;

	if (!id)
		return;
	r = pool_rig_unname(rig, id);
	s->outcome.named[i] = 0;
	if (r)
		return;
	s->outcome.forgotten = id;
	ASSERT(is_expected(discard_file_id(rig->pool, id)));
}

static void reopen_file(struct sweep *s, unsigned i)
{
	struct pool_file *file;
	uint64_t id = s->outcome.named[i];
	int r = id ? open_file(s->rig->pool, id, &file) : -EIO;

	ASSERT(is_expected(r));
	if (r == 0)
		pool_file_close(file);
}

static void scenario(struct sweep *s)
{
	struct pool_rig *rig = s->rig;
	int r = pool_rig_open(rig, POOL_MIN_BYTES);

	/* SQLite opens for reading what cannot be written, and then does not find it. */
	ASSERT(is_expected(r) || (s->error == -EROFS && r == -ENOENT));
	s->outcome.created = r == 0;
	if (r)
		return;
	for (unsigned i = 0; i < FILES; i++)
		use_file(s, i);
	reopen_file(s, 1);
	drop_file(s, 0); /* to spare/ */
	use_file(s, 0);  /* and back */
	pool_check(rig->pool);
	if (!s->delete_it)
		return;
	for (unsigned i = 0; i < FILES; i++)
		drop_file(s, i);
	r = pool_delete(rig->pool);
	ASSERT(is_expected(r) || r == -EBUSY);
	s->outcome.deleted = r == 0;
	if (r == 0)
		rig->pool = NULL;
}

static void arm(struct sweep *s)
{
	if (s->fault == FAULT_DISK)
		sim_fail_nth(s->rig->sim.sim, s->n, s->error);
	else
		sim_crash_nth(s->rig->sim.sim, s->n, s->crash);
}

static void disarm(struct sweep *s)
{
	s->hit = sim_fault_hit(s->rig->sim.sim) || sim_is_dead(s->rig->sim.sim);
	sim_fail_nth(s->rig->sim.sim, 0, 0);
	sim_crash_nth(s->rig->sim.sim, 0, SIM_CRASH_POWER);
}

static void fault_run(void *arg)
{
	struct sweep *s = arg;

	arm(s);
	scenario(s);
	disarm(s);
	pool_rig_close(s->rig);
}

static void verify_file(struct sweep *s, unsigned i)
{
	struct pool_file *file;
	uint8_t byte = 0;

	if (!s->outcome.named[i])
		return;
	ASSERT(open_file(s->rig->pool, s->outcome.named[i], &file) == 0);
	if (pool_file_size(file) > 0)
		ASSERT(pool_rig_read(file, &byte) == 0);
	pool_file_close(file);
}

/* As the daemon does: what was cut off is completed. */
static void finish_deletion(struct pool_rig *rig)
{
	_cleanup_free_ struct pool_info *infos = NULL;
	size_t count;

	ASSERT(pool_list(rig->catalog, &infos, &count) == 0);
	for (size_t i = 0; i < count; i++)
		if (infos[i].deleting)
			ASSERT(pool_delete_finish(rig->catalog, infos[i].id) == 0);
}

static void verify_run(void *arg)
{
	struct sweep *s = arg;
	struct pool_rig *rig = s->rig;
	struct pool_file *file;
	uint64_t id;
	int r;

	ASSERT(pool_rig_open_catalog(rig) == 0);
	if (s->outcome.deleted)
		ASSERT(pool_find(rig->catalog, "p", &id) == -ENOENT);
	else if (s->outcome.created && !s->delete_it)
		ASSERT(pool_find(rig->catalog, "p", &id) == 0);
	finish_deletion(rig);
	r = pool_rig_open(rig, POOL_MIN_BYTES);
	if (r)
		fprintf(stderr, "n=%llu: opening gives %d\n", (unsigned long long)s->n, r);
	ASSERT(r == 0);
	for (unsigned i = 0; i < FILES; i++)
		verify_file(s, i);
	if (s->outcome.forgotten)
		ASSERT(open_file(rig->pool, s->outcome.forgotten, &file) == -ENOENT);
	ASSERT(take_file(rig->pool, POOL_USE_DATA, MIB, &file) == 0);
	ASSERT(pool_rig_write(file, 1) == 0);
	pool_file_discard(file);
	pool_check(rig->pool);
	pool_rig_close(rig);
}

static void one(struct sweep *s)
{
	s->rig = pool_rig_new(POOL_RIG_DISK_BYTES);
	s->outcome = (struct outcome){0};
	sim_rig_run(&s->rig->sim, 0, fault_run, s);
	if (sim_is_dead(s->rig->sim.sim))
		sim_rig_restart(&s->rig->sim);
	sim_rig_run(&s->rig->sim, 0, verify_run, s);
	pool_rig_free(s->rig);
}

static void sweep(struct sweep s, uint64_t step)
{
	s.n = getenv("SARSEN_N") ? strtoull(getenv("SARSEN_N"), NULL, 10) : 1;
	for (s.hit = true; s.hit; s.n += sweep_is_complete ? 1 : step)
		one(&s);
	print_message("beyond %llu\n", (unsigned long long)s.n);
}

static void disk_faults(void **state)
{
	(void)state;
	sweep((struct sweep){.fault = FAULT_DISK, .error = -EIO}, 101);
	sweep((struct sweep){.fault = FAULT_DISK, .error = -EIO, .delete_it = true}, 103);
	sweep((struct sweep){.fault = FAULT_DISK, .error = -ENOSPC}, 107);
	sweep((struct sweep){.fault = FAULT_DISK, .error = -EROFS}, 109);
}

static void crashes(void **state)
{
	(void)state;
	sweep((struct sweep){.fault = FAULT_CRASH, .crash = SIM_CRASH_POWER, .delete_it = true},
	      97);
	sweep((struct sweep){.fault = FAULT_CRASH, .crash = SIM_CRASH_PROCESS}, 211);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(disk_faults),
		cmocka_unit_test(crashes),
	};

	sweep_is_complete = argc > 1 && strcmp(argv[1], "all") == 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
