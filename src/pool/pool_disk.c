/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks of an open pool, in memory: which there are, in what state, and what people may do with
 * them.
 *
 * Invariants
 *  1. A disk is in exactly one slot of pool->disks, or in the list of those removed; its memory
 *     lasts as long as the pool is open.
 *  2. The state changes on the home reactor only, by pool_disk_set_state().
 *  3. Failed and draining are in the row before they are in memory, so that a restart knows them;
 *     what else is found out about a disk is found out again.
 *
 * Home reactor: the pool's. Others read slots and atomics.
 */
#include "pool/pool_disk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "pool/pool_priv.h"
#include "pool/pool_watch.h"

static const char *const state_names[] = {
	[POOL_DISK_ONLINE] = "online",   [POOL_DISK_FULL] = "full",
	[POOL_DISK_SUSPECT] = "suspect", [POOL_DISK_READ_ONLY] = "read-only",
	[POOL_DISK_MISSING] = "missing", [POOL_DISK_FAILED] = "failed",
};
_Static_assert(ARRAY_SIZE(state_names) == POOL_DISK_STATES, "one for each");

const char *pool_disk_state_name(enum pool_disk_state state)
{
	ASSERT(state < POOL_DISK_STATES);
	return state_names[state];
}

struct pool_disk *pool_disk_next(const struct pool *pool, unsigned *at)
{
	struct pool *p = (struct pool *)pool;
	unsigned count = atomic_load_explicit(&p->slot_count, memory_order_relaxed);

	while (*at < count) {
		struct pool_disk *disk = atomic_load(&p->disks[(*at)++]);

		if (disk)
			return disk;
	}
	return NULL;
}

struct pool_disk *pool_disk_by_id(const struct pool *pool, uint64_t id)
{
	struct pool_disk *disk;

	POOL_FOR_EACH_DISK(pool, disk)
	if (disk->id == id)
		return disk;
	return NULL;
}

int pool_disk_insert(struct pool *pool, uint64_t id, const struct pool_disk_row *row,
		     struct pool_disk **ret_disk)
{
	struct pool_disk *disk;
	unsigned slot = 0;

	reactor_assert_home(pool->home);
	while (slot < POOL_DISKS_MAX && atomic_load(&pool->disks[slot]))
		slot++;
	if (slot == POOL_DISKS_MAX)
		return -E2BIG;
	disk = calloc(1, sizeof(*disk));
	if (!disk)
		return -ENOMEM;
	disk->pool = pool;
	disk->id = id;
	disk->row = *row;
	disk->tier = pool_tier_number(row->tier);
	list_init(&disk->spares);
	fiber_queue_init(&disk->flow_queue);
	atomic_store(&disk->state, row->failed ? POOL_DISK_FAILED : POOL_DISK_MISSING);
	atomic_store(&disk->draining, row->draining);
	if (row->version == 1)
		disk->row.capacity_bytes = pool->capacity_bytes;
	atomic_store(&pool->disks[slot], disk);
	atomic_store(&pool->slot_count, MAX(atomic_load(&pool->slot_count), slot + 1));
	*ret_disk = disk;
	return 0;
}

void pool_disk_take_out(struct pool_disk *disk)
{
	struct pool *pool = disk->pool;

	reactor_assert_home(pool->home);
	for (unsigned i = 0; i < POOL_DISKS_MAX; i++)
		if (atomic_load(&pool->disks[i]) == disk)
			atomic_store(&pool->disks[i], NULL);
	pool_spare_done(disk);
	disk->next_removed = pool->removed;
	pool->removed = disk;
	pool_space_recount(pool);
}

static void disk_free(struct pool_disk *disk)
{
	struct pool_table_walk walk = {0};
	const struct pool_table_entry *entry;

	while ((entry = pool_table_next(&disk->files, &walk)))
		ASSERT(entry->state == POOL_TABLE_CLOSED || entry->state == POOL_TABLE_ORPHAN ||
		       entry->state == POOL_TABLE_KEPT);
	pool_spare_done(disk);
	pool_table_done(&disk->files);
	free(disk);
}

void pool_disks_done(struct pool *pool)
{
	struct pool_disk *disk;

	POOL_FOR_EACH_DISK(pool, disk)
	disk_free(disk);
	while ((disk = pool->removed)) {
		pool->removed = disk->next_removed;
		disk_free(disk);
	}
}

static void log_state(const struct pool_disk *disk, enum pool_disk_state before,
		      enum pool_disk_state state, int error)
{
	enum log_level level = state == POOL_DISK_ONLINE ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR;

	log_write(level, "pool", "a disk changed its state",
		  "pool=%s disk=%" PRIu64 " directory=\"%s\" before=%s state=%s error=%d",
		  disk->pool->name, disk->id, disk->row.directory, state_names[before],
		  state_names[state], error);
}

void pool_disk_set_state(struct pool_disk *disk, enum pool_disk_state state, int error)
{
	struct pool *pool = disk->pool;
	enum pool_disk_state before = pool_disk_state_of(disk);

	reactor_assert_home(pool->home);
	if (before == state)
		return;
	if (pool->keeper_runs || state != POOL_DISK_ONLINE) /* being found at first is no news */
		log_state(disk, before, state, error);
	disk->tried_ns = reactor_now_ns(pool->home);
	atomic_store(&disk->state_since_ns, disk->tried_ns);
	atomic_store(&disk->state, state);
	pool_space_recount(pool);
	pool_keeper_wake(pool);
}

static bool takes_files(struct pool_disk *disk)
{
	return pool_disk_state_of(disk) == POOL_DISK_ONLINE && !atomic_load(&disk->leaving) &&
	       !atomic_load(&disk->draining);
}

bool pool_disk_can_be_spared(const struct pool_disk *disk)
{
	struct pool_disk *other;

	POOL_FOR_EACH_DISK(disk->pool, other)
	if (other != disk && takes_files(other))
		return true;
	return false;
}

bool pool_disk_refuses(const struct pool_disk *disk)
{
	return pool_disk_is_gone(disk) && pool_disk_can_be_spared(disk);
}

unsigned pool_disk_ids(const struct pool *pool, uint64_t ret_ids[POOL_DISKS_MAX],
		       uint8_t ret_tiers[POOL_DISKS_MAX])
{
	struct pool_disk *disk;
	unsigned count = 0;

	POOL_FOR_EACH_DISK(pool, disk)
	{
		unsigned at = count++;

		for (; at > 0 && ret_ids[at - 1] > disk->id; at--) {
			ret_ids[at] = ret_ids[at - 1];
			ret_tiers[at] = ret_tiers[at - 1];
		}
		ret_ids[at] = disk->id;
		ret_tiers[at] = disk->tier;
	}
	return count;
}

unsigned pool_disks_usable(const struct pool *pool)
{
	struct pool_disk *disk;
	unsigned count = 0;

	POOL_FOR_EACH_DISK(pool, disk)
	count += takes_files(disk);
	return count;
}

unsigned pool_disks_staying(const struct pool *pool)
{
	struct pool_disk *disk;
	unsigned count = 0;

	POOL_FOR_EACH_DISK(pool, disk)
	count += !pool_disk_is_failed(disk) && !atomic_load(&disk->leaving) &&
		 !atomic_load(&disk->draining);
	return count;
}

enum pool_disk_state pool_disk_state(const struct pool *pool, uint64_t id)
{
	const struct pool_disk *disk = pool_disk_by_id(pool, id);

	return disk ? pool_disk_state_of(disk) : POOL_DISK_FAILED;
}

uint32_t pool_disks_gone(const struct pool *pool)
{
	struct pool_disk *disk;
	uint32_t gone = 0;

	POOL_FOR_EACH_DISK(pool, disk)
	if (pool_disk_is_gone(disk) || pool_disk_is_silent(disk)) {
		uint32_t how = (uint32_t)pool_disk_is_failed(disk) << 1;

		how |= (uint32_t)atomic_load(&disk->draining);
		gone += ((uint32_t)disk->id << 2 | how) * UINT32_C(0x9E3779B1);
	}
	return gone;
}

bool pool_disk_is_leaving(const struct pool *pool, uint64_t id)
{
	struct pool_disk *disk = pool_disk_by_id(pool, id);

	return !disk || (atomic_load(&disk->draining) && !atomic_load(&disk->paused)) ||
	       pool_disk_state_of(disk) == POOL_DISK_FAILED;
}

uint64_t pool_first_disk(const struct pool *pool)
{
	struct pool_disk *disk;
	uint64_t first = UINT64_MAX;

	POOL_FOR_EACH_DISK(pool, disk)
	first = MIN(first, disk->id);
	return first;
}

/* Tiers, as placement numbers them. */
static const char *const tiers[] = {"ssd", "hdd", "san", "cloud"};
_Static_assert(ARRAY_SIZE(tiers) == PLACEMENT_TIERS_MAX, "one for each");

static int tier_find(const char *tier)
{
	for (unsigned i = 0; i < ARRAY_SIZE(tiers); i++)
		if (strcmp(tiers[i], tier) == 0)
			return (int)i;
	return -1;
}

bool pool_tier_is_valid(const char *tier)
{
	return !tier || tier_find(tier) >= 0;
}

uint8_t pool_tier_number(const char *tier)
{
	return (uint8_t)MAX(tier_find(tier), 0);
}

/* Information */

static void get_health(struct pool_disk *disk, struct pool_disk_health *ret_health)
{
	struct pool_health *health = &disk->health;

	*ret_health = (struct pool_disk_health){
		.read_errors = atomic_load(&health->read_errors),
		.write_errors = atomic_load(&health->write_errors),
		.sync_errors = atomic_load(&health->sync_errors),
		.checksum_errors = atomic_load(&health->checksum_errors),
		.read_ns = atomic_load(&health->read_ns),
		.write_ns = atomic_load(&health->write_ns),
		.busy = atomic_load(&health->busy),
	};
}

/* Home. The first of the others that are lost with its file system. */
static uint64_t shares_with(const struct pool_disk *disk)
{
	struct pool_disk *other;
	uint64_t first = UINT64_MAX;

	POOL_FOR_EACH_DISK(disk->pool, other)
	if (other != disk && other->file_system != 0 && other->file_system == disk->file_system)
		first = MIN(first, other->id);
	return first == UINT64_MAX ? 0 : first;
}

static void get_info(struct pool_disk *disk, struct pool_disk_info *ret_info)
{
	uint64_t silent_since_ns =
		atomic_load(&disk->late) > 0 ? atomic_load(&disk->silent_since_ns) : 0;
	uint64_t now_ns = reactor_now_ns(disk->pool->home);

	*ret_info = (struct pool_disk_info){
		.silent_ns =
			silent_since_ns && now_ns > silent_since_ns ? now_ns - silent_since_ns : 0,
		.id = disk->id,
		.state = pool_disk_state_of(disk),
		.state_since_ns = atomic_load(&disk->state_since_ns),
		.silences = pool_disk_silences_lately(disk, now_ns),
		.draining = atomic_load(&disk->draining),
		.paused = atomic_load(&disk->paused),
		.files = disk->files.count - disk->orphans,
		.shares_with = shares_with(disk),
	};
	memcpy(ret_info->uuid, disk->row.uuid, sizeof(ret_info->uuid));
	memcpy(ret_info->directory, disk->row.directory, strlen(disk->row.directory));
	memcpy(ret_info->tier, disk->row.tier, sizeof(ret_info->tier));
	get_health(disk, &ret_info->health);
	if (ret_info->state == POOL_DISK_MISSING)
		return;
	ret_info->capacity = atomic_load(&disk->capacity);
	ret_info->used = atomic_load(&disk->used);
	ret_info->reserve = atomic_load(&disk->reserve);
	ret_info->spare = atomic_load(&disk->spare);
}

struct disk_call {
	struct pool *pool;
	uint64_t id;
	struct pool_disk_info *infos;
	size_t count;
	const char *text;
	bool flag;
};

static int compare_infos(const void *a, const void *b)
{
	const struct pool_disk_info *left = a, *right = b;

	return left->id < right->id ? -1 : left->id > right->id;
}

static int list_at_home(void *arg)
{
	struct disk_call *call = arg;
	struct pool_disk *disk;

	call->infos = calloc(POOL_DISKS_MAX, sizeof(*call->infos));
	if (!call->infos)
		return -ENOMEM;
	POOL_FOR_EACH_DISK(call->pool, disk)
	get_info(disk, &call->infos[call->count++]);
	qsort(call->infos, call->count, sizeof(*call->infos), compare_infos);
	return 0;
}

int pool_disk_list(struct pool *pool, struct pool_disk_info **ret_infos, size_t *ret_count)
{
	struct disk_call call = {.pool = pool};
	int r = pool_carry(pool, list_at_home, &call);

	if (r)
		return r;
	*ret_infos = call.infos;
	*ret_count = call.count;
	return 0;
}

static int get_at_home(void *arg)
{
	struct disk_call *call = arg;
	struct pool_disk *disk = pool_disk_by_id(call->pool, call->id);

	if (!disk)
		return -ENOENT;
	get_info(disk, call->infos);
	return 0;
}

int pool_disk_get(struct pool *pool, uint64_t id, struct pool_disk_info *ret_info)
{
	struct disk_call call = {.pool = pool, .id = id, .infos = ret_info};

	return pool_carry(pool, get_at_home, &call);
}

static bool is_named(const struct pool_disk *disk, const char *text)
{
	char number[24], uuid[2 * POOL_UUID_BYTES + 1];

	snprintf(number, sizeof(number), "%" PRIu64, disk->id);
	for (size_t i = 0; i < POOL_UUID_BYTES; i++)
		snprintf(uuid + 2 * i, 3, "%02x", disk->row.uuid[i]);
	return strcmp(text, disk->row.directory) == 0 || strcmp(text, number) == 0 ||
	       strcmp(text, uuid) == 0;
}

static int find_at_home(void *arg)
{
	struct disk_call *call = arg;
	struct pool_disk *disk;

	POOL_FOR_EACH_DISK(call->pool, disk)
	if (is_named(disk, call->text)) {
		call->id = disk->id;
		return 0;
	}
	return -ENOENT;
}

int pool_disk_find(struct pool *pool, const char *text, uint64_t *ret_id)
{
	struct disk_call call = {.pool = pool, .text = text};
	int r = pool_carry(pool, find_at_home, &call);

	if (r == 0)
		*ret_id = call.id;
	return r;
}

/* What people do with a disk */

/* -EBUSY: it is being removed, or has been; its row must not come back. */
int pool_disk_commit_row(struct pool_disk *disk)
{
	_cleanup_free_ uint8_t *value = malloc(POOL_DISK_ROW_BYTES + POOL_DIRECTORY_MAX);
	struct catalog_change change = {
		.kind = CATALOG_PUT,
		.key = pool_rows_disk_key(disk->pool->id, disk->id),
		.value = value,
	};

	if (!value)
		return -ENOMEM;
	if (atomic_load(&disk->leaving))
		return -EBUSY;
	change.length = pool_rows_encode_disk(&disk->row, value);
	return catalog_commit(disk->pool->catalog, &change, 1);
}

static int set_draining_at_home(void *arg)
{
	struct disk_call *call = arg;
	struct pool_disk *disk = pool_disk_by_id(call->pool, call->id);
	bool before;
	int r;

	if (!disk)
		return -ENOENT;
	before = disk->row.draining;
	if (before == call->flag)
		return 0;
	if (call->flag && !pool_disk_can_be_spared(disk))
		return -EINVAL;
	disk->row.draining = call->flag;
	r = pool_disk_commit_row(disk);
	if (r) {
		disk->row.draining = before;
		return r;
	}
	atomic_store(&disk->draining, call->flag);
	atomic_store(&disk->paused, false);
	log_info("pool", call->flag ? "a disk is drained" : "a disk is drained no more",
		 "pool=%s disk=%" PRIu64 " directory=\"%s\"", call->pool->name, disk->id,
		 disk->row.directory);
	pool_space_recount(call->pool);
	return 0;
}

int pool_disk_set_draining(struct pool *pool, uint64_t id, bool draining)
{
	struct disk_call call = {.pool = pool, .id = id, .flag = draining};

	return pool_carry(pool, set_draining_at_home, &call);
}

static int pause_at_home(void *arg)
{
	const struct disk_call *call = arg;
	struct pool_disk *disk = pool_disk_by_id(call->pool, call->id);

	if (!disk)
		return -ENOENT;
	if (!atomic_load(&disk->draining))
		return -EINVAL;
	atomic_store(&disk->paused, call->flag);
	return 0;
}

int pool_disk_pause_draining(struct pool *pool, uint64_t id, bool paused)
{
	struct disk_call call = {.pool = pool, .id = id, .flag = paused};

	return pool_carry(pool, pause_at_home, &call);
}

static int set_failed(struct pool_disk *disk, bool failed)
{
	bool before = disk->row.failed;
	int r;

	if (before == failed)
		return 0;
	disk->row.failed = failed;
	r = pool_disk_commit_row(disk);
	if (r)
		disk->row.failed = before;
	return r;
}

int pool_disk_declare_failed(struct pool_disk *disk, int error)
{
	int r = set_failed(disk, true);

	if (r)
		return r;
	pool_disk_set_state(disk, POOL_DISK_FAILED, error);
	pool_spare_done(disk); /* found again when the disk is taken back */
	return 0;
}

static int fail_at_home(void *arg)
{
	struct disk_call *call = arg;
	struct pool_disk *disk = pool_disk_by_id(call->pool, call->id);

	if (!disk)
		return -ENOENT;
	if (pool_disk_state_of(disk) == POOL_DISK_FAILED)
		return 0;
	return pool_disk_can_be_spared(disk) ? pool_disk_declare_failed(disk, 0) : -EINVAL;
}

int pool_disk_fail(struct pool *pool, uint64_t id)
{
	struct disk_call call = {.pool = pool, .id = id};

	return pool_carry(pool, fail_at_home, &call);
}

static int restore_at_home(void *arg)
{
	struct disk_call *call = arg;
	struct pool_disk *disk = pool_disk_by_id(call->pool, call->id);
	int r;

	if (!disk)
		return -ENOENT;
	if (!pool_disk_is_gone(disk))
		return 0;
	r = set_failed(disk, false);
	if (r)
		return r;
	pool_disk_forget_health(disk);
	pool_disk_forget_silences(disk);
	if (pool_disk_state_of(disk) == POOL_DISK_FAILED)
		pool_disk_set_state(disk, POOL_DISK_MISSING, 0);
	return pool_disk_search(disk);
}

int pool_disk_restore(struct pool *pool, uint64_t id)
{
	struct disk_call call = {.pool = pool, .id = id};

	return pool_carry(pool, restore_at_home, &call);
}
