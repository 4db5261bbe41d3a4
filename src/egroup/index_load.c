/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the index of a compacted file: when it is opened, and for the CRCs when it is compacted
 * again. Home: the vDisk's reactor; in fibers. */
#include <errno.h>
#include <stdlib.h>

#include "base/endian.h"
#include "egroup/index.h"
#include "egroup/store_priv.h"

static int fill_stored(struct egroup_store *store, struct egroup_file *file,
		       const struct index_view *view)
{
	for (uint32_t i = 0; i < view->group_count; i++) {
		struct egroup *group = egroup_find(store, le64toh(view->groups[i].group));
		uint32_t base = le32toh(view->groups[i].base);
		uint32_t count = le32toh(view->groups[i].count);

		/* A group that was dropped since is still in the index. */
		if (!group || group->file != file)
			continue;
		if (group->base != base || group->stored_count != count)
			return -EUCLEAN;
		slotset_done(&group->stored);
		for (uint32_t n = 0; n < count; n++)
			if (slotset_add(&group->stored, le16toh(view->slots[base + n])) < 0)
				return -ENOMEM;
	}
	return 0;
}

int egroup_index_check(const struct egroup_file *file, const void *memory,
		       struct index_view *ret_view)
{
	const struct index_id id = {
		.pool = pool_id(file->store->pool), .vdisk = file->store->vdisk, .file = file->id};
	int r = index_check(memory, file->index_blocks, &id, ret_view);

	return r == 0 && ret_view->total_slots != file->total_slots ? -EUCLEAN : r;
}

static int check_index(void *arg, const void *memory)
{
	struct index_view view;

	return egroup_index_check(arg, memory, &view);
}

int egroup_index_read(struct egroup_file *file, unsigned first, void *memory,
		      struct index_view *ret_view, struct egroup_tried *tried)
{
	const struct egroup_read read = {
		.file = file,
		.buffer = memory,
		.length = (size_t)file->index_blocks * BLOCK_BYTES,
		.first = first,
		.check = check_index,
		.arg = file,
		.tried = tried,
	};
	int r = egroup_file_read(&read);

	if (r < 0)
		return r == -ENODATA ? -EUCLEAN : r;
	r = egroup_index_check(file, memory, ret_view);
	ASSERT(r == 0); /* it was just looked at */
	return 0;
}

/* The index in memory of the caller's, checked. */
static int read_index(struct egroup_file *file, void **ret_memory, struct index_view *ret_view)
{
	_cleanup_free_ void *memory =
		aligned_alloc(BLOCK_BYTES, (size_t)file->index_blocks * BLOCK_BYTES);
	int r = memory ? egroup_index_read(file, EGROUP_ANY_COPY, memory, ret_view, NULL) : -ENOMEM;

	if (r == 0)
		*ret_memory = TAKE_PTR(memory);
	return r;
}

int egroup_index_crcs(const struct egroup *group, uint32_t **ret_crcs)
{
	_cleanup_free_ void *memory = NULL;
	struct index_view view;
	uint32_t *crcs;
	int r = read_index(group->file, &memory, &view);

	if (r < 0)
		return r;
	if (group->base > view.total_slots || group->stored_count > view.total_slots - group->base)
		return -EUCLEAN;
	crcs = calloc(group->stored_count + 1, sizeof(*crcs));
	if (!crcs)
		return -ENOMEM;
	for (uint32_t i = 0; i < group->stored_count; i++)
		crcs[i] = le32toh(view.crcs[group->base + i]);
	*ret_crcs = crcs;
	return 0;
}

int egroup_index_load(struct egroup_file *file)
{
	struct egroup_store *store = file->store;
	_cleanup_free_ void *memory = NULL;
	struct index_view view;
	struct egroup *group;
	int r;

	r = read_index(file, &memory, &view);
	if (r == 0)
		r = fill_stored(store, file, &view);
	LIST_FOR_EACH (&file->groups, group, struct egroup, link)
		if (r == 0 && group->stored.count != group->stored_count)
			r = -EUCLEAN;
	if (r == 0)
		file->index_loaded = true;
	return r;
}
