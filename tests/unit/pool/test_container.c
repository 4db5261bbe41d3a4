/* SPDX-License-Identifier: Apache-2.0 */
#include "pool_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"

static int create(struct pool_rig *rig, const char *name, uint64_t *ret_id)
{
	return container_create(rig->catalog, sim_world(rig->sim.sim), rig->pool_id, name, ret_id);
}

static void lives_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct container_info info, *infos;
	uint64_t a, b, c;
	size_t count;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	ASSERT(create(rig, "default", &a) == 0);
	ASSERT(create(rig, "default", &b) == -EEXIST);
	ASSERT(create(rig, "second", &b) == 0 && a != b);
	ASSERT(container_create(rig->catalog, sim_world(rig->sim.sim), 999, "x", &c) == -ENOENT);
	ASSERT(container_find(rig->catalog, "second", &info) == 0);
	ASSERT(info.id == b && info.pool_id == rig->pool_id && strcmp(info.name, "second") == 0);
	ASSERT(container_find(rig->catalog, "third", &info) == -ENOENT);
	ASSERT(container_list(rig->catalog, &infos, &count) == 0);
	ASSERT(count == 2 && infos[0].id == a && infos[1].id == b);
	free(infos);
	ASSERT(pool_delete(rig->pool) == -EBUSY);
	ASSERT(container_delete(rig->catalog, a) == 0);
	ASSERT(container_delete(rig->catalog, a) == -ENOENT);
	ASSERT(container_get(rig->catalog, a, &info) == -ENOENT);
	ASSERT(create(rig, "default", &c) == 0 && c > b);
	ASSERT(container_delete(rig->catalog, b) == 0);
	ASSERT(container_delete(rig->catalog, c) == 0);
	ASSERT(pool_delete(TAKE_PTR(rig->pool)) == 0);
	pool_rig_close(rig);
}

static void lives(void **state)
{
	pool_rig_run(*state, lives_run);
}

static void names_run(void *arg)
{
	struct pool_rig *rig = arg;
	static const char *const bad[] = {
		"", "-a", ".a", "_", "A", "a/b", "a b", "\xc3\xa4", "a\n",
	};
	char name[CONTAINER_NAME_MAX + 2];
	uint64_t id;

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		ASSERT(create(rig, bad[i], &id) == -EINVAL);
	memset(name, 'a', sizeof(name));
	name[CONTAINER_NAME_MAX + 1] = '\0';
	ASSERT(create(rig, name, &id) == -EINVAL);
	name[CONTAINER_NAME_MAX] = '\0';
	ASSERT(create(rig, name, &id) == 0);
	ASSERT(create(rig, "0.-_z", &id) == 0);
	pool_rig_close(rig);
}

static void checks_names(void **state)
{
	pool_rig_run(*state, names_run);
}

static void vdisks_run(void *arg)
{
	struct pool_rig *rig = arg;
	uint64_t id;
	struct catalog_row row;
	struct catalog_key key;
	struct catalog_change changes[3] = {
		{.kind = CATALOG_PUT, .value = "12345678", .length = 8},
	};

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	ASSERT(create(rig, "c", &id) == 0);
	key = container_key(id);
	ASSERT(catalog_get(rig->catalog, &key, &row) == 0);
	changes[0].key = catalog_name_key(CATALOG_NAME_VDISK, id, "disk0");
	catalog_touch(&row, &changes[1]);
	ASSERT(catalog_commit(rig->catalog, changes, 3) == 0);
	ASSERT(container_delete(rig->catalog, id) == -ENOTEMPTY);

	/* A vDisk that is added while its container goes must fail. */
	changes[0].kind = CATALOG_DELETE;
	ASSERT(catalog_commit(rig->catalog, changes, 1) == 0);
	ASSERT(container_delete(rig->catalog, id) == 0);
	changes[0].kind = CATALOG_PUT;
	ASSERT(catalog_commit(rig->catalog, changes, 3) == -ESTALE);
	catalog_row_done(&row);
	pool_rig_close(rig);
}

static void stays_while_it_has_vdisks(void **state)
{
	pool_rig_run(*state, vdisks_run);
}

static void damage_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct container_info info, *infos;
	size_t count;
	uint64_t id;
	struct catalog_row row;
	struct catalog_key key;
	struct catalog_change change = {.kind = CATALOG_PUT};

	ASSERT(pool_rig_open(rig, POOL_MIN_BYTES) == 0);
	ASSERT(create(rig, "c", &id) == 0);
	change.key = key = container_key(id);
	ASSERT(catalog_get(rig->catalog, &key, &row) == 0);
	change.value = row.value;
	for (uint32_t length = 0; length < row.length; length += 29) {
		change.length = length;
		ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
		ASSERT(container_get(rig->catalog, id, &info) == -EUCLEAN);
		ASSERT(container_list(rig->catalog, &infos, &count) == -EUCLEAN);
	}
	change.length = row.length;
	memset(row.value + 24, 'a', 64); /* a name without an end */
	ASSERT(catalog_commit(rig->catalog, &change, 1) == 0);
	ASSERT(container_get(rig->catalog, id, &info) == -EUCLEAN);
	ASSERT(container_delete(rig->catalog, id) == -EUCLEAN);
	catalog_row_done(&row);
	pool_rig_close(rig);
}

static void refuses_damaged_rows(void **state)
{
	pool_rig_run(*state, damage_run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(lives, pool_rig_setup, pool_rig_teardown),
		cmocka_unit_test_setup_teardown(checks_names, pool_rig_setup, pool_rig_teardown),
		cmocka_unit_test_setup_teardown(stays_while_it_has_vdisks, pool_rig_setup,
						pool_rig_teardown),
		cmocka_unit_test_setup_teardown(refuses_damaged_rows, pool_rig_setup,
						pool_rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
