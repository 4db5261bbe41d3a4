/* SPDX-License-Identifier: Apache-2.0 */
#include "fsck/fsck_map.h"

#include <errno.h>
#include <stdlib.h>

#include "base/macros.h"
#include "reactor/io.h"

int fsck_map_walk(const struct fsck_map_ops *ops, void *arg, const struct fsck_node *node)
{
	_cleanup_free_ struct map_entry *entries = malloc(MAP_FANOUT * sizeof(*entries));
	int r = entries ? ops->page(arg, node, entries) : -ENOMEM;

	if (r != 0)
		return MIN(r, 0);
	for (unsigned i = 0; r == 0 && i < MAP_FANOUT; i++) {
		const struct fsck_node child = {.level = node->level - 1,
						.index = node->index * MAP_FANOUT + i,
						.entry = entries[i]};

		if (child.entry.address == 0)
			continue;
		if (node->level == 0)
			ops->block(arg, &child);
		else
			r = fsck_map_walk(ops, arg, &child);
	}
	return r;
}

int fsck_map_find_stored(const uint16_t *stored, uint32_t count, uint32_t slot,
			 uint32_t *ret_position)
{
	uint32_t low = 0, high = count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (stored[middle] < slot)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_position = low;
	return low < count && stored[low] == slot ? 0 : -ENOENT;
}

struct world_file *fsck_handles_get(const struct fsck_handles *handles, const void *file,
				    unsigned copy)
{
	for (unsigned i = 0; i < FSCK_HANDLES; i++)
		if (handles->handles[i].file == file && handles->handles[i].copy == copy)
			return handles->handles[i].handle;
	return NULL;
}

static void handle_close(struct fsck_handle *handle)
{
	if (handle->file)
		(void)io_close(handle->handle); /* was only read */
	handle->file = NULL;
}

void fsck_handles_put(struct fsck_handles *handles, const void *file, unsigned copy,
		      struct world_file *handle)
{
	handle_close(&handles->handles[handles->next]);
	handles->handles[handles->next] = (struct fsck_handle){file, copy, handle};
	handles->next = (handles->next + 1) % FSCK_HANDLES;
}

void fsck_handles_close(struct fsck_handles *handles)
{
	for (unsigned i = 0; i < FSCK_HANDLES; i++)
		handle_close(&handles->handles[i]);
}
