/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups of one vDisk in memory. Invariants:
 *  1. A group is in exactly one file's list and in the hash table under its id.
 *  2. live_slots is the sum over all groups of live.count.
 *  3. A file is on the idle list exactly when it is open, has no reference and is not dying.
 *  4. A change of the catalog comes before the change in memory that depends on it.
 * Home: the vDisk's reactor. Failure: a failed commit leaves memory as it was.
 */
#include "egroup/store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "egroup/cursor.h"
#include "egroup/store_priv.h"
#include "reactor/io.h"

#define BUCKETS_MIN     16u  /* a power of two */
#define REAP_FILES_MAX  32u  /* dropped by one transaction */
#define REAP_GROUPS_MAX 256u /* or more, of one compacted file */
#define REAP_FILES_LOOK 256u /* looked at in one turn */

/*
 * The table grows by one bucket for each group, which takes over from one other (linear hashing):
 * no turn moves more than a chain. `bucket_mask` is that of the power of two above bucket_count.
 */
static uint32_t bucket_of(const struct egroup_store *store, uint64_t id)
{
	uint32_t at = (uint32_t)(id * UINT64_C(0x9E3779B97F4A7C15) >> 32) & store->bucket_mask;

	return at < store->bucket_count ? at : at & (store->bucket_mask >> 1);
}

static bool double_room(struct egroup_store *store)
{
	size_t count = (size_t)store->bucket_mask * 2 + 2;
	struct egroup **grown = realloc(store->buckets, count * sizeof(*grown));

	if (!grown)
		return false;
	store->buckets = grown;
	store->bucket_mask = (uint32_t)(count - 1);
	return true;
}

/* Without memory the chains grow longer, no more. */
static void split_bucket(struct egroup_store *store)
{
	uint32_t last = store->bucket_count, from;
	struct egroup *group, *next;

	if (store->group_count < store->bucket_count)
		return;
	if (last > store->bucket_mask && !double_room(store))
		return;
	from = last & (store->bucket_mask >> 1);
	group = store->buckets[from];
	store->buckets[from] = store->buckets[last] = NULL;
	store->bucket_count++;
	for (; group; group = next) {
		uint32_t at = bucket_of(store, group->id);

		next = group->hash_next;
		group->hash_next = store->buckets[at];
		store->buckets[at] = group;
	}
}

struct egroup *egroup_find(const struct egroup_store *store, uint64_t id)
{
	struct egroup *group = store->buckets[bucket_of(store, id)];

	while (group && group->id != id)
		group = group->hash_next;
	return group;
}

struct egroup *egroup_new(struct egroup_store *store, uint64_t id, struct egroup_file *file)
{
	struct egroup *group = calloc(1, sizeof(*group));
	uint32_t at;

	if (!group)
		return NULL;
	group->id = id;
	group->slots = UINT32_MAX;
	group->live_count_number = store->live_count_number;
	slotset_init(&group->stored);
	slotset_init(&group->live);
	group->file = file;
	list_push_back(&file->groups, &group->link);
	file->group_count++;
	store->newest_id = MAX(store->newest_id, id);
	split_bucket(store);
	at = bucket_of(store, id);
	group->hash_next = store->buckets[at];
	store->buckets[at] = group;
	store->group_count++;
	return group;
}

void egroup_free(struct egroup_store *store, struct egroup *group)
{
	struct egroup **at = &store->buckets[bucket_of(store, group->id)];

	while (*at != group)
		at = &(*at)->hash_next;
	*at = group->hash_next;
	store->group_count--;
	if (group->live_count_number == store->live_count_number)
		store->live_slots -= group->live.count;
	list_remove(&group->link);
	group->file->group_count--;
	slotset_done(&group->stored);
	slotset_done(&group->live);
	free(group);
}

void egroup_move(struct egroup *group, struct egroup_file *to)
{
	list_remove(&group->link);
	group->file->group_count--;
	group->file = to;
	list_push_back(&to->groups, &group->link);
	to->group_count++;
}

static struct egroup_store *store_new(struct pool *pool, uint64_t vdisk, unsigned factor)
{
	struct egroup_store *store = calloc(1, sizeof(*store));

	if (!store)
		return NULL;
	store->bucket_count = BUCKETS_MIN;
	store->bucket_mask = BUCKETS_MIN - 1;
	store->buckets = calloc(store->bucket_count, sizeof(struct egroup *));
	if (!store->buckets) {
		free(store);
		return NULL;
	}
	store->pool = pool;
	store->catalog = pool_catalog(pool);
	store->reactor = reactor_current();
	store->vdisk = vdisk;
	store->factor = factor;
	store->width = 1;
	list_init(&store->files);
	list_init(&store->cursors);
	list_init(&store->idle);
	list_init(&store->doomed);
	fiber_queue_init(&store->opened);
	fiber_queue_init(&store->released);
	return store;
}

int egroup_store_open(struct pool *pool, uint64_t vdisk, unsigned factor,
		      struct egroup_store **ret_store)
{
	struct egroup_store *store = store_new(pool, vdisk, factor);
	int r;

	if (!store)
		return -ENOMEM;
	r = egroup_rows_load(store);
	if (r < 0) {
		egroup_store_close(store);
		return r;
	}
	*ret_store = store;
	return 0;
}

void egroup_store_close(struct egroup_store *store)
{
	struct egroup_file *file;
	struct egroup *group;

	if (!store)
		return;
	while (store->discarders > 0)
		fiber_queue_wait(&store->released);
	ASSERT(store->discards == 0);
	ASSERT(list_is_empty(&store->cursors));
	for (unsigned freed = 1; !list_is_empty(&store->files); freed++) {
		file = LIST_ENTRY(list_front(&store->files), struct egroup_file, link);
		ASSERT(file->references == 0);
		LIST_FOR_EACH (&file->groups, group, struct egroup, link)
			egroup_free(store, group);
		egroup_file_free(file);
		if (freed % EGROUP_FILES_A_TURN == 0)
			fiber_yield();
	}
	ASSERT(store->group_count == 0 && store->live_slots == 0);
	free(store->buckets);
	free(store);
}

static int reserve_id(struct egroup_store *store, uint64_t *ret_id)
{
	char counter[64];
	int r;

	snprintf(counter, sizeof(counter), "egroup/%016" PRIx64, pool_id(store->pool));
	r = catalog_reserve_ids(store->catalog, counter, 1, ret_id);
	if (r < 0)
		return r;
	return *ret_id >> EGROUP_ID_BITS ? -EOVERFLOW : 0;
}

/* The file's directory entry is durable already (pool_file_take); now the rows. */
static int commit_new_group(struct egroup_store *store, const struct egroup *group)
{
	uint8_t group_value[EGROUP_ROW_BYTES], file_value[EGROUP_ROW_BYTES];
	struct catalog_change changes[] = {
		{.kind = CATALOG_PUT,
		 .key = egroup_key(CATALOG_EGROUP, store, group->id),
		 .value = group_value,
		 .length = sizeof(group_value)},
		{.kind = CATALOG_PUT,
		 .key = egroup_key(CATALOG_EGFILE, store, group->file->id),
		 .value = file_value,
		 .length = sizeof(file_value)},
	};

	egroup_row(group, group_value);
	egroup_file_row(group->file, file_value);
	return catalog_commit(store->catalog, changes, ARRAY_SIZE(changes));
}

unsigned egroup_file_tiers(const struct egroup_file *file)
{
	return file->sequential ? file->store->tiers_sequential : file->store->tiers;
}

static int adopt_new_file(struct egroup_store *store, struct pool_file *taken,
			  struct egroup_file **ret_file)
{
	struct egroup_file *file = egroup_file_new(store, pool_file_id(taken));

	if (!file)
		return -ENOMEM;
	file->file = taken;
	pool_file_get_copies(taken, &file->copies);
	file->allocated_bytes = pool_file_size(taken);
	file->index_loaded = true;
	file->references = 1;
	store->open_count++;
	*ret_file = file;
	return 0;
}

static struct egroup_stripe *stripe_of(struct egroup_store *store, enum record_stream stream)
{
	return &store->stripes[stream == RECORD_STREAM_LOG ? EGROUP_KIND_LOG : EGROUP_KIND_PAGES];
}

int egroup_create(struct egroup_store *store, enum record_stream stream, uint64_t epoch,
		  enum pool_use use, uint64_t size_bytes, struct egroup **ret_group)
{
	const struct egroup_stripe before = *stripe_of(store, stream);
	bool sequential = stream == RECORD_STREAM_LOG && store->sequential;
	struct pool_want want = {
		.use = use,
		.size_bytes = size_bytes,
		.copies = store->factor,
		.quota = store->quota,
		.tiers = sequential ? store->tiers_sequential : store->tiers,
	};
	struct pool_file *taken;
	struct egroup_file *file;
	struct egroup *group;
	uint64_t id;
	int r;

	r = reserve_id(store, &id);
	if (r < 0)
		return r;
	/* What the guest writes has no size that it must fit into. */
	want.about = use == POOL_USE_DATA;
	egroup_stripe_want(&before, store->width, &want);
	r = pool_file_take(store->pool, &want, &taken);
	if (r < 0)
		return r;
	r = adopt_new_file(store, taken, &file);
	if (r < 0) {
		pool_file_discard(taken);
		return r;
	}
	file->sequential = sequential;
	group = egroup_new(store, id, file);
	if (!group) {
		egroup_file_discard(file);
		egroup_file_unref(file);
		return -ENOMEM;
	}
	group->stream = stream;
	group->epoch = epoch;
	group->pinned = true;
	r = commit_new_group(store, group);
	if (r < 0) {
		egroup_free(store, group);
		/* Where the commit may have happened all the same, the file must stay for its row.
		 */
		if (r == -ENOTRECOVERABLE)
			egroup_file_forget(file);
		else
			egroup_file_discard(file);
		egroup_file_unref(file);
		return r;
	}
	egroup_stripe_note(stripe_of(store, stream), &file->copies);
	*ret_group = group;
	return 0;
}

int egroup_resolve(struct egroup_store *store, uint64_t id, uint32_t slot,
		   struct egroup_file **ret_file, uint64_t *ret_offset)
{
	struct egroup *group = egroup_find(store, id);
	uint64_t at = slot;

	if (UNLIKELY(!group))
		return -EUCLEAN;
	if (UNLIKELY(!group->file->file || !group->file->index_loaded))
		return -EAGAIN;
	if (group->file->compacted) {
		if (!slotset_has(&group->stored, slot))
			return -EUCLEAN;
		at = group->file->index_blocks + group->base + slotset_rank(&group->stored, slot);
	}
	*ret_file = group->file;
	*ret_offset = at << BLOCK_SHIFT;
	return 0;
}

void egroup_seal_change(const struct egroup_store *store, const struct egroup *group,
			uint32_t slots, uint64_t last_lsn, uint8_t value[EGROUP_ROW_BYTES],
			struct catalog_change *ret_change)
{
	struct egroup sealed = *group;

	sealed.slots = slots;
	sealed.last_lsn = last_lsn;
	sealed.sealed = true;
	egroup_row(&sealed, value);
	*ret_change = (struct catalog_change){
		.kind = CATALOG_PUT,
		.key = egroup_key(CATALOG_EGROUP, store, group->id),
		.value = value,
		.length = EGROUP_ROW_BYTES,
	};
}

void egroup_file_change(const struct egroup_file *file, uint8_t value[EGROUP_ROW_BYTES],
			struct catalog_change *ret_change)
{
	egroup_file_row(file, value);
	*ret_change = (struct catalog_change){
		.kind = CATALOG_PUT,
		.key = egroup_key(CATALOG_EGFILE, file->store, file->id),
		.value = value,
		.length = EGROUP_ROW_BYTES,
	};
}

void egroup_sealed(struct egroup *group, uint32_t slots, uint64_t last_lsn)
{
	group->slots = slots;
	group->last_lsn = last_lsn;
	group->sealed = true;
	group->pinned = false;
}

bool egroup_file_is_sealed(const struct egroup_file *file)
{
	struct list *groups = (struct list *)&file->groups;
	struct egroup *group;

	LIST_FOR_EACH (groups, group, struct egroup, link)
		if (!group->sealed)
			return false;
	return true;
}

static uint64_t length_bytes(const struct egroup *group)
{
	return MAX((uint64_t)group->slots << BLOCK_SHIFT, (uint64_t)BLOCK_BYTES);
}

/* What its row should say. One that lacks something of its length is not put right here. */
static uint64_t file_bytes(const struct egroup *group)
{
	return MAX(pool_file_size(group->file->file), length_bytes(group));
}

bool egroup_wants_trim(const struct egroup *group, uint64_t slack_bytes)
{
	const struct egroup_file *file = group->file;

	ASSERT(group->sealed);
	if (file->allocated_bytes >= length_bytes(group) + slack_bytes)
		return true;
	return file->file && file->allocated_bytes != file_bytes(group);
}

static int trim_open_file(struct egroup *group)
{
	struct egroup_file *file = group->file;
	uint64_t before = file->allocated_bytes;
	uint8_t value[EGROUP_ROW_BYTES];
	struct catalog_change change;
	int r = pool_file_trim(file->file, length_bytes(group));

	if (r == 0) {
		file->allocated_bytes = file_bytes(group);
		egroup_file_change(file, value, &change);
		r = catalog_commit(file->store->catalog, &change, 1);
	}
	if (r < 0)
		file->allocated_bytes = before;
	return r;
}

/* Repair would write the same row meanwhile, and each would take over what the other put into
 * memory and may have to take back. */
int egroup_trim(struct egroup *group)
{
	struct egroup_file *file = group->file;
	int r;

	if (file->compacted || file->dying || file->busy || !egroup_wants_trim(group, 1))
		return 0;
	file->busy = true;
	r = egroup_file_open(file);
	if (r == 0) {
		r = trim_open_file(group);
		egroup_file_unref(file);
	}
	file->busy = false;
	return r;
}

/* What was live before the count that is under way is not. */
static void forget_old_live(const struct egroup_store *store, struct egroup *group)
{
	if (LIKELY(group->live_count_number == store->live_count_number))
		return;
	slotset_done(&group->live);
	group->live_count_number = store->live_count_number;
}

int egroup_set_live(struct egroup_store *store, uint64_t id, uint32_t slot)
{
	struct egroup *group = egroup_find(store, id);
	int r;

	if (!group)
		return -EUCLEAN;
	forget_old_live(store, group);
	r = slotset_add(&group->live, slot);
	if (r > 0)
		store->live_slots++;
	return r < 0 ? r : 0;
}

void egroup_set_dead(struct egroup_store *store, uint64_t id, uint32_t slot)
{
	struct egroup *group = egroup_find(store, id);

	if (!group)
		return;
	forget_old_live(store, group);
	if (slotset_remove(&group->live, slot))
		store->live_slots--;
}

void egroup_clear_live(struct egroup_store *store)
{
	ASSERT(!store->liveness_known);
	store->live_count_number++;
	store->live_slots = 0;
	store->kept_id = 0;
}

void egroup_live_counted(struct egroup_store *store)
{
	struct egroup_cursor cursor;
	struct egroup_file *file;
	struct egroup *group;

	egroup_cursor_init(&cursor, store, 0);
	while ((file = egroup_cursor_step(&cursor)))
		LIST_FOR_EACH (&file->groups, group, struct egroup, link)
			forget_old_live(store, group);
	egroup_cursor_done(&cursor);
}

void egroup_keep_all(struct egroup_store *store)
{
	store->kept_id = store->newest_id;
}

static bool file_is_garbage(const struct egroup_file *file)
{
	struct egroup *group;

	if (file->busy || file->dying || file->references > 0)
		return false;
	LIST_FOR_EACH (&file->groups, group, struct egroup, link)
		if (!group->sealed || group->pinned || group->live.count > 0 ||
		    egroup_is_kept(file->store, group))
			return false;
	return true;
}

static int commit_removal(struct egroup_store *store, struct egroup_file *const *files,
			  uint32_t count)
{
	_cleanup_free_ struct catalog_change *changes = NULL;
	struct egroup *group;
	size_t n = 0, most = 0;

	for (uint32_t i = 0; i < count; i++)
		most += files[i]->group_count + 1;
	changes = calloc(most, sizeof(*changes));
	if (!changes)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		changes[n].kind = CATALOG_DELETE;
		changes[n++].key = egroup_key(CATALOG_EGFILE, store, files[i]->id);
		LIST_FOR_EACH (&files[i]->groups, group, struct egroup, link) {
			changes[n].kind = CATALOG_DELETE;
			changes[n++].key = egroup_key(CATALOG_EGROUP, store, group->id);
		}
	}
	return catalog_commit(store->catalog, changes, n);
}

static int remove_files(struct egroup_store *store, struct egroup_file *const *files,
			uint32_t count)
{
	struct egroup *group;
	int r;

	/* Nobody else may take them while the commit is under way. */
	for (uint32_t i = 0; i < count; i++)
		files[i]->busy = true;
	r = commit_removal(store, files, count);
	for (uint32_t i = 0; i < count; i++) {
		files[i]->busy = false;
		if (r < 0)
			continue;
		LIST_FOR_EACH (&files[i]->groups, group, struct egroup, link)
			egroup_free(store, group);
		egroup_file_discard(files[i]);
	}
	return r;
}

/* Of the next files those that are garbage: no more than fit, and not for longer than a turn. */
static uint32_t find_garbage(struct egroup_cursor *cursor, struct egroup_file **files,
			     bool *ret_end)
{
	uint32_t count = 0, groups = 0;

	*ret_end = false;
	for (unsigned i = 0;
	     i < REAP_FILES_LOOK && count < REAP_FILES_MAX && groups < REAP_GROUPS_MAX; i++) {
		struct egroup_file *file = egroup_cursor_any(cursor);

		*ret_end = !file;
		if (!file)
			break;
		if (!file_is_garbage(file))
			continue;
		files[count++] = file;
		groups += file->group_count;
	}
	return count;
}

int egroup_reap(struct egroup_store *store)
{
	struct egroup_file *files[REAP_FILES_MAX];
	struct egroup_cursor cursor;
	bool end = false;
	int total = 0, r = 0;

	egroup_cursor_init(&cursor, store, 0);
	/* It may be lost between turns. */
	while (r == 0 && !end && store->liveness_known) {
		uint32_t count = find_garbage(&cursor, files, &end);

		if (count > 0)
			r = remove_files(store, files, count);
		else if (!end)
			fiber_yield();
		if (r == 0)
			total += (int)count;
	}
	egroup_cursor_done(&cursor);
	return r < 0 ? r : total;
}

int egroup_drop(struct egroup_store *store, struct egroup *group)
{
	struct egroup_file *file = group->file;

	ASSERT(file->group_count == 1 && group->live.count == 0);
	return remove_files(store, &file, 1);
}
