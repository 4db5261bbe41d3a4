/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/container.h"
#include "pool/pool_disk.h"
#include "pool/pool_quota.h"

#define CATALOG_PATH ENGINE_RIG_DISK "/catalog.db"
#define POOL_PATH    ENGINE_RIG_DISK "/pool"
#define TEXTS        (4 * ENGINE_RIG_DISKS_MAX)

void engine_rig_init_with(struct engine_rig *rig, const struct sim_options *options,
			  uint64_t capacity_bytes, unsigned reactors)
{
	*rig = (struct engine_rig){.capacity_bytes = capacity_bytes, .budget_bytes = 64 * MIB};
	sim_rig_init_options(&rig->sim, options, reactors);
	ASSERT(sim_disk_add(rig->sim.sim, ENGINE_RIG_DISK, capacity_bytes + GIB) == 0);
}

void engine_rig_init(struct engine_rig *rig, uint64_t seed, bool trace, uint64_t capacity_bytes)
{
	const struct sim_options options = {.seed = seed, .trace = trace};

	engine_rig_init_with(rig, &options, capacity_bytes, 1);
}

const char *engine_rig_disk(unsigned n)
{
	static char texts[ENGINE_RIG_DISKS_MAX][16];

	ASSERT(n < ENGINE_RIG_DISKS_MAX);
	snprintf(texts[n], sizeof(texts[n]), "/p%u", n);
	return texts[n];
}

const char *engine_rig_directory(unsigned n, unsigned generation)
{
	static char texts[TEXTS][32];
	char *text = texts[(n * 4 + generation % 4) % TEXTS];

	snprintf(text, sizeof(texts[0]), "/p%u/pool%u", n, generation);
	return text;
}

void engine_rig_set_disks(struct engine_rig *rig, unsigned disks, unsigned factor)
{
	rig->disks = disks;
	rig->factor = factor;
	for (unsigned i = 0; i < disks; i++)
		ASSERT(sim_disk_add(rig->sim.sim, engine_rig_disk(i), rig->capacity_bytes + GIB) ==
		       0);
}

void engine_rig_done(struct engine_rig *rig)
{
	vdisk_cache_free(rig->cache);
	sim_rig_done(&rig->sim);
}

static int open_catalog(struct engine_rig *rig, bool create)
{
	const struct catalog_options options = {
		.path = CATALOG_PATH, .vfs = SIM_VFS_NAME, .create = create};

	return catalog_open(sim_world(rig->sim.sim), &options, &rig->catalog);
}

void engine_rig_set_policy(struct engine_rig *rig, enum policy_property property, uint64_t value)
{
	struct policy_set set = {0};
	struct container_policy policy;

	ASSERT(policy_set_put(&set, property, value) == 0);
	ASSERT(container_put_policy(rig->catalog, rig->container_id, &set) == 0);
	policy_merge(&set, NULL, &policy);
	ASSERT(pool_quota_set(rig->pool, rig->container_id, &policy) == 0);
}

int engine_rig_start(struct engine_rig *rig)
{
	int r = open_catalog(rig, false);

	if (r == 0)
		r = pool_open(sim_world(rig->sim.sim), rig->catalog, rig->pool_id, &rig->pool);
	if (r == 0 && !rig->cache)
		r = vdisk_cache_new(reactor_current(), rig->budget_bytes, &rig->cache);
	if (r < 0)
		engine_rig_stop(rig);
	return r;
}

void engine_rig_stop(struct engine_rig *rig)
{
	if (rig->pool)
		pool_close(rig->pool);
	if (rig->catalog)
		catalog_close(rig->catalog);
	rig->pool = NULL;
	rig->catalog = NULL;
}

static int add_disks(struct engine_rig *rig)
{
	int r = pool_open(sim_world(rig->sim.sim), rig->catalog, rig->pool_id, &rig->pool);

	for (unsigned i = 1; r == 0 && i < rig->disks; i++) {
		const struct pool_disk_spec spec = {
			.directory = engine_rig_directory(i, 0),
			.capacity_bytes = rig->capacity_bytes,
			.tier = rig->tiers[i],
		};
		uint64_t id;

		r = pool_disk_add(rig->pool, &spec, &id);
	}
	return r;
}

int engine_rig_create(struct engine_rig *rig)
{
	const struct pool_spec spec = {
		.name = "p",
		.directory = rig->disks ? engine_rig_directory(0, 0) : POOL_PATH,
		.capacity_bytes = rig->capacity_bytes,
		.tier = rig->tiers[0],
	};
	int r = open_catalog(rig, true);

	if (r == 0)
		r = pool_create(sim_world(rig->sim.sim), rig->catalog, &spec, &rig->pool_id);
	if (r == 0)
		r = container_create(rig->catalog, sim_world(rig->sim.sim), rig->pool_id, "c",
				     &rig->container_id);
	if (r == 0 && rig->disks > 1)
		r = add_disks(rig);
	engine_rig_stop(rig);
	return r;
}

int engine_rig_create_vdisk(struct engine_rig *rig, const char *name, uint64_t size_bytes)
{
	const struct vdisk_spec spec = {.name = name,
					.container_id = rig->container_id,
					.size_bytes = size_bytes,
					.block_bytes = 512};

	struct policy_set policy = {0};
	int r = vdisk_create(rig->pool, &spec, &rig->vdisk_id);

	if (r == 0 && rig->factor > 1)
		r = policy_set_put(&policy, POLICY_REPLICATION_FACTOR, rig->factor);
	if (r == 0 && rig->tier_order_sequential)
		r = policy_set_put(&policy, POLICY_TIER_ORDER_SEQUENTIAL,
				   rig->tier_order_sequential);
	return r < 0 || policy.count == 0 ? r
					  : policy_put_vdisk(rig->catalog, rig->vdisk_id, &policy);
}

int engine_rig_open_vdisk(struct engine_rig *rig)
{
	int r = vdisk_open(rig->pool, rig->cache, rig->vdisk_id, &rig->vdisk);

	if (r == 0)
		rig->volume = vdisk_volume(rig->vdisk);
	return r;
}

int engine_rig_close_vdisk(struct engine_rig *rig)
{
	struct vdisk *vdisk = TAKE_PTR(rig->vdisk);

	rig->volume = NULL;
	return vdisk ? vdisk_close(vdisk) : 0;
}

static int make_vdisk(struct engine_rig *rig)
{
	int r = engine_rig_create(rig);

	if (r == 0)
		r = engine_rig_start(rig);
	return r < 0 ? r : engine_rig_create_vdisk(rig, "disk", rig->vdisk_bytes);
}

int engine_rig_make(struct engine_rig *rig)
{
	int r = make_vdisk(rig);

	engine_rig_stop(rig);
	return r;
}

int engine_rig_bring_up(struct engine_rig *rig)
{
	int r = make_vdisk(rig);

	return r < 0 ? r : engine_rig_open_vdisk(rig);
}

int engine_rig_open_again(struct engine_rig *rig)
{
	int r = rig->catalog ? 0 : engine_rig_start(rig);

	return r < 0 ? r : engine_rig_open_vdisk(rig);
}

struct call {
	struct engine_rig *rig;
	int (*fn)(struct engine_rig *rig);
	int result;
};

static void run_call(void *arg)
{
	struct call *call = arg;

	call->result = call->fn(call->rig);
}

int engine_rig_call(struct engine_rig *rig, int (*fn)(struct engine_rig *rig))
{
	struct call call = {.rig = rig, .fn = fn};

	sim_rig_run(&rig->sim, 0, run_call, &call);
	return call.result;
}

static int close_dead(struct engine_rig *rig)
{
	(void)engine_rig_close_vdisk(rig);
	engine_rig_stop(rig);
	return 0;
}

void engine_rig_crashed(struct engine_rig *rig)
{
	engine_rig_call(rig, close_dead);
	vdisk_cache_free(TAKE_PTR(rig->cache));
	sim_rig_restart(&rig->sim);
}

void engine_rig_crash(struct engine_rig *rig, enum sim_crash kind)
{
	sim_crash(rig->sim.sim, kind);
	engine_rig_crashed(rig);
}

uint64_t engine_rig_disk_id(struct engine_rig *rig, unsigned number)
{
	uint64_t id = 0;

	ASSERT(pool_disk_find(rig->pool, engine_rig_directory(number, 0), &id) == 0);
	return id;
}

int engine_rig_write_piece(struct engine_rig *rig, uint8_t byte, uint64_t at)
{
	_cleanup_free_ char *piece = aligned_alloc(4096, ENGINE_RIG_PIECE);
	int r;

	ASSERT(piece);
	memset(piece, byte, ENGINE_RIG_PIECE);
	r = block_io(rig->volume, BLOCK_WRITE, 0, piece, ENGINE_RIG_PIECE, at);
	return r < 0 ? r : block_io(rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0);
}

int engine_rig_read_piece(struct engine_rig *rig, uint8_t byte, uint64_t at)
{
	_cleanup_free_ char *piece = aligned_alloc(4096, ENGINE_RIG_PIECE);
	int r;

	ASSERT(piece);
	r = block_io(rig->volume, BLOCK_READ, 0, piece, ENGINE_RIG_PIECE, at);
	if (r < 0)
		return r;
	ASSERT((uint8_t)piece[0] == byte && memcmp(piece, piece + 1, ENGINE_RIG_PIECE - 1) == 0);
	return 0;
}
