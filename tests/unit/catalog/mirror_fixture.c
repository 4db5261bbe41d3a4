/* SPDX-License-Identifier: Apache-2.0 */
#include "mirror_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "reactor/io.h"

struct sim_rig rig;
struct catalog *catalog;
struct catalog_report report;
const char *const mirrored_disks[3] = {"/m0", "/m1", "/m2"};

uint64_t mirrored_timeout_ns;

static unsigned labels;

static void run_without_argument(void *arg)
{
	void (*const *run)(void) = arg;

	(*run)();
}

void mirrored_in_fiber(void (*run)(void))
{
	sim_rig_run(&rig, 0, run_without_argument, &run);
}

static void make_labels(void)
{
	for (unsigned i = 0; i < labels; i++) {
		char path[20];
		struct world_file *file;

		snprintf(path, sizeof(path), "%s/label", mirrored_disks[i]);
		ASSERT(io_open(path, WORLD_FILE_CREATE, &file) == 0 && io_close(file) == 0);
		ASSERT(io_directory_sync(mirrored_disks[i]) == 0);
	}
}

void mirrored_rig_begin(uint64_t seed, unsigned disks)
{
	if (!getenv("SARSEN_LOG"))
		sim_rig_silence_log();
	sim_rig_init(&rig, seed, 1);
	ASSERT(sim_disk_add(rig.sim, STATE, DISK_BYTES) == 0);
	labels = disks;
	for (unsigned i = 0; i < disks; i++)
		ASSERT(sim_disk_add(rig.sim, mirrored_disks[i], DISK_BYTES) == 0);
	mirrored_in_fiber(make_labels);
	catalog = NULL;
}

void mirrored_rig_end(void)
{
	sim_rig_done(&rig);
	log_set_sink(NULL, NULL);
}

int mirrored_open(const char *restore_from)
{
	const struct catalog_options options = {.path = PATH,
						.vfs = SIM_VFS_NAME,
						.create = true,
						.restore_from = restore_from,
						.disk_timeout_ns = mirrored_timeout_ns,
						.report = &report};

	return catalog_open(sim_world(rig.sim), &options, &catalog);
}

void mirrored_close(void)
{
	if (catalog)
		catalog_close(TAKE_PTR(catalog));
}

static struct catalog_key key_of(uint64_t number)
{
	struct catalog_key key = catalog_key(CATALOG_JOB);

	catalog_key_add(&key, number);
	return key;
}

int mirrored_put(uint64_t number, uint8_t byte, uint32_t length)
{
	_cleanup_free_ uint8_t *value = malloc(length + 1);
	const struct catalog_change change = {
		.kind = CATALOG_PUT, .key = key_of(number), .value = value, .length = length};

	ASSERT(value);
	memset(value, byte, length);
	return catalog_commit(catalog, &change, 1);
}

int mirrored_drop(uint64_t number)
{
	const struct catalog_change change = {.kind = CATALOG_DELETE_PREFIX, .key = key_of(number)};

	return catalog_commit(catalog, &change, 1);
}

int mirrored_look(uint64_t number)
{
	const struct catalog_key key = key_of(number);
	struct catalog_row row = {0};
	int r = catalog_get(catalog, &key, &row);

	for (uint32_t i = 1; r == 0 && i < row.length; i++)
		ASSERT(row.value[i] == row.value[0]);
	if (r == 0)
		r = row.value[0];
	catalog_row_done(&row);
	return r;
}
