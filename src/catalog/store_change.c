/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The position of the catalog, and what a transaction changes, for the mirrors.
 *
 * Invariants
 *  1. Every transaction that changes a row which mirrors have also writes the row of the position,
 *     with a sequence number one greater. So two files with one position hold the same rows.
 *  2. `changes` holds exactly what this job has committed so far and what the transaction that runs
 *     has changed. Its memory is there before the COMMIT: what is committed can be told.
 *  3. The first transaction after an open begins a new epoch (lineage.h): no two files that were
 *     written after one was copied from the other end in the same one.
 */
#include "catalog/store_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/macros.h"
#include "codec/crc32c.h"

#define CHANGES_LEAST 8192u

/* META row "position". */
struct position_row {
	uint8_t uuid[MIRROR_UUID_BYTES];
	uint8_t generation[8];
	uint8_t sequence[8];
	uint8_t rows[8];
	uint8_t chain[4];
	uint8_t zero[20];
};
_Static_assert(sizeof(struct position_row) == 64, "on disk");
_Static_assert(offsetof(struct position_row, chain) == 40, "on disk");

static struct catalog_key position_key(void)
{
	struct catalog_key key = catalog_key(CATALOG_META);

	catalog_key_add_text(&key, "position");
	return key;
}

bool store_key_is_local(const struct catalog_key *key)
{
	static const char *const names[] = {"position", "fence"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		size_t length = strlen(names[i]);

		if (key->bytes[0] == CATALOG_META && key->length == 1 + length &&
		    memcmp(key->bytes + 1, names[i], length) == 0)
			return true;
	}
	return false;
}

static int changes_reserve(struct store_changes *changes, size_t more)
{
	size_t need = mirror_frame_bytes(changes->length + more);
	size_t capacity = MAX(changes->capacity * 2, (size_t)CHANGES_LEAST);
	uint8_t *grown;

	if (need <= changes->capacity)
		return 0;
	capacity = ALIGN_UP(MAX(capacity, need), (size_t)MIRROR_BLOCK);
	grown = aligned_alloc(MIRROR_BLOCK, capacity);
	if (!grown)
		return -ENOMEM;
	if (changes->length > 0)
		memcpy(grown, changes->data, MIRROR_FRAME_HEADER + changes->length);
	free(changes->data);
	changes->data = grown;
	changes->capacity = capacity;
	return 0;
}

int store_changes_add(struct store *store, const struct mirror_entry *entry, int64_t rows)
{
	struct store_changes *changes = &store->changes;
	size_t bytes = mirror_entry_bytes(entry);
	int r;

	if (store_key_is_local(&entry->key))
		return 0;
	r = changes_reserve(changes, bytes);
	if (r)
		return r;
	mirror_entry_write(changes->data + MIRROR_FRAME_HEADER + changes->length, entry);
	changes->length += bytes;
	store->position.rows += (uint64_t)rows;
	return 0;
}

void store_changes_begin(struct store *store)
{
	ASSERT(store->changes.length == store->changes.committed);
	store->saved_position = store->position;
	if (store->changes.committed == 0)
		store->changes.before = store->position;
}

int store_position_put(struct store *store)
{
	const struct catalog_position *position = &store->position;
	struct catalog_key key = position_key();
	struct position_row row = {0};

	memcpy(row.uuid, position->uuid, sizeof(row.uuid));
	put_le64(row.generation, position->generation);
	put_le64(row.sequence, position->sequence);
	put_le64(row.rows, position->rows);
	put_le32(row.chain, position->chain);
	return store_put(store, &key, &row, sizeof(row));
}

/* From the VFS itself: what SQLite draws, it makes of one seed. */
static int draw_epoch(struct store *store, uint64_t *ret_id)
{
	sqlite3_vfs *vfs = NULL;

	if (sqlite3_file_control(store->db, "main", SQLITE_FCNTL_VFS_POINTER, &vfs) != SQLITE_OK ||
	    !vfs)
		return -EIO;
	do
		(void)vfs->xRandomness(vfs, sizeof(*ret_id), (char *)ret_id); /* cannot fail */
	while (*ret_id == 0);
	return 0;
}

static int epoch_begin(struct store *store)
{
	const struct catalog_key key = lineage_key();
	uint8_t value[LINEAGE_ROW_BYTES];
	uint64_t id = 0;
	int r = draw_epoch(store, &id);

	if (r)
		return r;
	store->next_lineage = store->lineage;
	lineage_begin(&store->next_lineage, id, store->position.sequence + 1);
	store->begins_epoch = true;
	store->position.epoch = id;
	return store_put(store, &key, value, (uint32_t)lineage_encode(&store->next_lineage, value));
}

int store_changes_end(struct store *store)
{
	struct store_changes *changes = &store->changes;
	int r;

	if (changes->length == changes->committed)
		return 0;
	if (!store->has_epoch && !store->lineage.is_damaged) {
		r = epoch_begin(store);
		if (r)
			return r;
	}
	store->position.sequence++;
	store->position.chain = crc32c_more(
		store->position.chain, changes->data + MIRROR_FRAME_HEADER + changes->committed,
		changes->length - changes->committed);
	return store_position_put(store);
}

void store_changes_commit(struct store *store)
{
	store->changes.committed = store->changes.length;
	if (!store->begins_epoch)
		return;
	store->lineage = store->next_lineage;
	store->has_epoch = true;
	store->begins_epoch = false;
}

void store_changes_rollback(struct store *store)
{
	store->changes.length = store->changes.committed;
	store->position = store->saved_position;
	store->begins_epoch = false;
}

int store_take_frame(struct store *store, struct mirror_frame **ret_frame)
{
	struct store_changes *changes = &store->changes;
	struct mirror_frame *frame;

	*ret_frame = NULL;
	if (changes->committed == 0)
		return 0;
	frame = calloc(1, sizeof(*frame));
	if (frame) {
		*frame = (struct mirror_frame){.data = TAKE_PTR(changes->data),
					       .length = mirror_frame_bytes(changes->committed),
					       .before = changes->before,
					       .after = store->position,
					       .users = 1};
		mirror_frame_seal(frame->data, changes->committed, &frame->before, &frame->after);
	} else {
		free(changes->data);
	}
	*changes = (struct store_changes){0};
	*ret_frame = frame;
	return frame ? 0 : -ENOMEM;
}

void store_get_position(const struct store *store, struct catalog_position *ret_position)
{
	*ret_position = store->position;
}

void store_get_lineage(const struct store *store, struct lineage *ret_lineage)
{
	*ret_lineage = store->lineage;
}

/* One that is damaged ends nothing else: a mirror that has it takes the catalog's place. */
int store_lineage_load(struct store *store)
{
	_cleanup_(catalog_row_done) struct catalog_row row = {0};
	const struct catalog_key key = lineage_key();
	uint64_t version;
	int r = store_select(store, &key, &version, &row);

	if (r == 0)
		r = lineage_decode(row.value, row.length, &store->lineage);
	if (r == -EUCLEAN) {
		log_error("catalog", "the row of the epochs is damaged", "length=%u", row.length);
		store->lineage = (struct lineage){.is_damaged = true};
	}
	store->position.epoch = lineage_current(&store->lineage);
	return r == -ENOENT || r == -EUCLEAN ? 0 : r;
}

int store_position_init(struct store *store, uint64_t rows)
{
	store->position = (struct catalog_position){.generation = 1, .sequence = 1, .rows = rows};
	sqlite3_randomness(sizeof(store->position.uuid), store->position.uuid);
	return store_position_put(store);
}

bool store_key_is_position(const struct catalog_key *key)
{
	const struct catalog_key position = position_key();

	return key->length == position.length &&
	       memcmp(key->bytes, position.bytes, position.length) == 0;
}

int store_position_decode(const struct catalog_row *row, struct catalog_position *ret_position)
{
	const struct position_row *found = (const struct position_row *)row->value;

	if (row->length != sizeof(*found))
		return -EUCLEAN;
	*ret_position = (struct catalog_position){.generation = get_le64(found->generation),
						  .sequence = get_le64(found->sequence),
						  .rows = get_le64(found->rows),
						  .chain = get_le32(found->chain)};
	memcpy(ret_position->uuid, found->uuid, sizeof(found->uuid));
	return 0;
}

int store_position_load(struct store *store)
{
	_cleanup_(catalog_row_done) struct catalog_row row = {0};
	struct catalog_key key = position_key();
	uint64_t version;
	int r = store_select(store, &key, &version, &row);

	if (r)
		return r;
	r = store_position_decode(&row, &store->position);
	if (r < 0)
		log_error("catalog", "the row of the position is damaged", "length=%u", row.length);
	return r;
}
