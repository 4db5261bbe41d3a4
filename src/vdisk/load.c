/* SPDX-License-Identifier: Apache-2.0 */
/* Reading single slots and map pages, in fibers. Home: the vDisk's reactor. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/reached.h"
#include "codec/crc32c.h"
#include "reactor/io.h"
#include "vdisk/vdisk_priv.h"

void vdisk_report_damage(struct vdisk *vdisk, const char *what, uint64_t block, int error)
{
	uint64_t now = reactor_now_ns(vdisk->reactor);

	if (error == -ESHUTDOWN)
		return;
	vdisk->stats.checksum_errors++;
	if (vdisk->last_damage_log_ns && now - vdisk->last_damage_log_ns < NSEC_PER_SEC)
		return;
	vdisk->last_damage_log_ns = now;
	log_error("vdisk", what, "vdisk=%" PRIu64 " offset=%" PRIu64 " error=%d", vdisk->row.id,
		  block * BLOCK_BYTES, error);
}

int vdisk_read_address(struct vdisk *vdisk, const struct vdisk_read *read)
{
	uint64_t group = address_group(read->address), offset;
	struct egroup_file *file;
	int r;

	while ((r = egroup_resolve(vdisk->store, group, address_slot(read->address), &file,
				   &offset)) == -EAGAIN) {
		r = egroup_prepare(vdisk->store, group);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	egroup_file_ref(file);
	r = egroup_file_read(&(struct egroup_read){.file = file,
						   .buffer = read->buffer,
						   .length = BLOCK_BYTES,
						   .offset = offset,
						   .first = read->first,
						   .check = read->check,
						   .arg = read->arg,
						   .waits_itself = read->waits_itself});
	egroup_file_unref(file);
	vdisk->stats.device_read_bytes += BLOCK_BYTES;
	return r == -ENODATA ? -EBADMSG : r;
}

struct page_wanted {
	struct page_id id;
	uint32_t crc;
	struct map_entry *entries;
};

static int check_page(void *arg, const void *page)
{
	const struct page_wanted *wanted = arg;
	int r = page_decode(page, &wanted->id, wanted->crc, wanted->entries);

	if (r < 0)
		REACHED("load.page-retry");
	return r;
}

int vdisk_read_page(struct vdisk *vdisk, unsigned level, uint64_t index,
		    const struct map_entry *entry, struct map_entry *ret_entries)
{
	_cleanup_free_ struct page_disk *page = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	struct page_wanted wanted = {
		.id = {.vdisk = vdisk->row.id, .index = index, .level = level},
		.crc = entry->crc,
		.entries = ret_entries,
	};
	int r;

	if (!page)
		return -ENOMEM;
	r = vdisk_read_address(vdisk, &(struct vdisk_read){.address = entry->address,
							   .buffer = page,
							   .first = EGROUP_ANY_COPY,
							   .check = check_page,
							   .arg = &wanted});
	return r == -EBADMSG ? -EUCLEAN : r;
}

uint64_t map_index_number(const struct map_index *index)
{
	uint64_t number = 0;
	unsigned shift = 0;

	for (; index->parent; index = index->parent) {
		number |= (uint64_t)index->slot << shift;
		shift += MAP_FANOUT_BITS;
	}
	return number;
}

static bool same_entry(struct map_entry a, struct map_entry b)
{
	return a.address == b.address && a.crc == b.crc;
}

int vdisk_load_index(struct vdisk *vdisk, struct map_index *index)
{
	struct map_entry *entries, entry;
	int r = 0;

	while (index->loading)
		fiber_queue_wait(&vdisk->loaded);
	if (index->loaded)
		return 0;
	entry = map_index_entry(&vdisk->map, index);
	if (entry.address == 0) {
		memset(index->entries, 0, sizeof(index->entries));
		index->loaded = true;
		return 0;
	}
	entries = malloc(sizeof(index->entries));
	if (!entries)
		return -ENOMEM;
	index->loading = true;
	r = vdisk_read_page(vdisk, index->level, map_index_number(index), &entry, entries);
	index->loading = false;
	/* A checkpoint may have put a newer page here meanwhile; then it also has loaded it. */
	if (r == 0 && !index->loaded && same_entry(entry, map_index_entry(&vdisk->map, index))) {
		memcpy(index->entries, entries, sizeof(index->entries));
		index->loaded = true;
	}
	/* The old page may be gone already: look again. */
	if (r < 0 && !same_entry(entry, map_index_entry(&vdisk->map, index)))
		r = 0;
	free(entries);
	fiber_queue_wake_all(&vdisk->loaded);
	return r;
}

static int load_leaf(struct vdisk *vdisk, struct map_leaf *leaf, uint64_t block)
{
	struct map *map = &vdisk->map;
	struct map_entry *entries, entry = leaf->parent->entries[leaf->slot];
	int r;

	while (leaf->loading)
		fiber_queue_wait(&vdisk->loaded);
	if (leaf->page || leaf->parent->entries[leaf->slot].address == 0)
		return 0;
	entries = malloc(sizeof(leaf->page->entries));
	if (!entries)
		return -ENOMEM;
	leaf->loading = true;
	entry = leaf->parent->entries[leaf->slot];
	r = vdisk_read_page(vdisk, 0, block >> MAP_FANOUT_BITS, &entry, entries);
	leaf->loading = false;
	if (r < 0 && !same_entry(entry, leaf->parent->entries[leaf->slot]))
		r = 0;
	else if (r == 0 && !leaf->page && same_entry(entry, leaf->parent->entries[leaf->slot])) {
		/* Not after: a full cache would drop the page that somebody waits for. */
		cache_trim(vdisk->cache);
		r = map_leaf_attach_page(map, leaf, entries);
	}
	free(entries);
	fiber_queue_wake_all(&vdisk->loaded);
	return r;
}

/* One step down; NULL with 0: absent, nothing to load below. */
static int load_child(struct vdisk *vdisk, struct map_index *index, unsigned child)
{
	struct map *map = &vdisk->map;

	if (index->child[child])
		return 0;
	if (!cache_reserve(vdisk->cache))
		return -ENOMEM;
	if (index->level == 1)
		return map_leaf_new(map, index, child) ? 0 : -ENOMEM;
	return map_index_new(map, index, child, index->level - 1u) ? 0 : -ENOMEM;
}

static int load_path(struct vdisk *vdisk, uint64_t block)
{
	struct map_index *index = vdisk->map.root;
	int r;

	for (;;) {
		unsigned child = map_child_slot(index->level, block);

		r = vdisk_load_index(vdisk, index);
		if (r < 0)
			return r;
		if (!index->loaded || (!index->child[child] && index->entries[child].address == 0))
			return 0;
		r = load_child(vdisk, index, child);
		if (r < 0)
			return r;
		if (index->level == 1)
			return load_leaf(vdisk, index->child[child], block);
		index = index->child[child];
	}
}

int vdisk_load(struct vdisk *vdisk, uint64_t block)
{
	int r;

	map_pin(&vdisk->map);
	r = load_path(vdisk, block);
	map_unpin(&vdisk->map);
	return r;
}

int vdisk_lookup(struct vdisk *vdisk, uint64_t block, struct map_entry *ret_entry)
{
	int r;

	while ((r = map_lookup(&vdisk->map, block, ret_entry)) == -EAGAIN) {
		r = vdisk_load(vdisk, block);
		if (r < 0)
			return r;
	}
	return r;
}
