/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a map that begins at some root is whole: every page from whichever copy has it right. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fsck/fsck_map.h"
#include "fsck/fsck_rebuild_priv.h"
#include "reactor/io.h"

struct walk {
	struct rebuild *rebuild;
	const struct rebuild_vdisk *vdisk;
	struct rebuild_walk *result;
	struct page_disk *page;
	struct fsck_handles handles;
};

static int get_handle(struct walk *walk, const struct rebuild_file *file, unsigned copy,
		      struct world_file **ret_handle)
{
	int r;

	*ret_handle = fsck_handles_get(&walk->handles, file, copy);
	if (*ret_handle)
		return 0;
	r = rebuild_file_open(walk->rebuild, file, copy, ret_handle);
	if (r == 0)
		fsck_handles_put(&walk->handles, file, copy, *ret_handle);
	return r;
}

/* The block of the file where a slot is. Of compacted groups that are not of map pages it is not
 * known which slots they have: `is_page` false is then always found. */
static int find_place(const struct rebuild_group *group, uint32_t slot, bool is_page,
		      uint64_t *ret_place)
{
	uint32_t position;

	*ret_place = slot;
	if (!group->is_compacted)
		return slot < group->slots ? 0 : -ENOENT;
	if (!group->stored)
		return is_page ? -ENOENT : 0;
	if (fsck_map_find_stored(group->stored, group->stored_count, slot, &position) < 0)
		return -ENOENT;
	*ret_place = (uint64_t)group->file->content.index_blocks + group->base + position;
	return 0;
}

static struct rebuild_group *group_of(const struct walk *walk, uint64_t address)
{
	struct rebuild_group *group = rebuild_group_find(walk->vdisk, address_group(address));

	return group && !group->is_dropped ? group : NULL;
}

static int read_page(struct walk *walk, const struct fsck_node *node, struct map_entry *ret_entries)
{
	const struct page_id id = {
		.vdisk = walk->vdisk->id, .index = node->index, .level = node->level};
	const struct rebuild_group *group = group_of(walk, node->entry.address);
	struct world_file *handle;
	uint64_t place;
	int r = group ? find_place(group, address_slot(node->entry.address), true, &place)
		      : -ENOENT;

	if (r < 0)
		return r;
	r = -ENOENT;
	for (unsigned copy = 0; copy < group->file->copy_count; copy++) {
		if (!group->file->copies[copy].is_used)
			continue;
		r = get_handle(walk, group->file, copy, &handle);
		if (r == 0)
			r = io_read_exactly(handle, walk->page, BLOCK_BYTES, place * BLOCK_BYTES);
		if (r == 0)
			r = page_decode(walk->page, &id, node->entry.crc, ret_entries);
		if (r == 0 || rebuild_is_fatal(r))
			return r;
	}
	return r;
}

static void take_block(void *arg, const struct fsck_node *node)
{
	struct walk *walk = arg;
	struct rebuild_group *group;
	uint64_t place;

	walk->result->block_end = MAX(walk->result->block_end, node->index + 1);
	if (!address_is_stored(node->entry.address))
		return;
	walk->result->slots++;
	group = group_of(walk, node->entry.address);
	if (!group || find_place(group, address_slot(node->entry.address), false, &place) < 0)
		walk->result->missing_blocks++;
	else
		group->named_end = MAX(group->named_end, address_slot(node->entry.address) + 1);
}

static int take_page(void *arg, const struct fsck_node *node, struct map_entry *ret_entries)
{
	struct walk *walk = arg;
	int r = rebuild_progress(walk->rebuild, 0);

	if (r < 0)
		return r;
	walk->result->slots++;
	r = read_page(walk, node, ret_entries);
	if (r == 0 || rebuild_is_fatal(r))
		return r;
	walk->result->bad_pages++;
	return 1;
}

static const struct fsck_map_ops take = {.page = take_page, .block = take_block};

int rebuild_map_walk(struct rebuild *rebuild, const struct rebuild_vdisk *vdisk,
		     const struct rebuild_root *root, struct rebuild_walk *ret_walk)
{
	_cleanup_free_ struct page_disk *page = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	struct walk walk = {.rebuild = rebuild, .vdisk = vdisk, .result = ret_walk, .page = page};
	const struct fsck_node top = {.level = root->level,
				      .entry = {.crc = root->crc, .address = root->address}};
	int r;

	*ret_walk = (struct rebuild_walk){0};
	if (!page)
		return -ENOMEM;
	for (size_t i = 0; i < vdisk->group_count; i++)
		vdisk->groups[i].named_end = 0;
	r = fsck_map_walk(&take, &walk, &top);
	fsck_handles_close(&walk.handles);
	return r;
}
