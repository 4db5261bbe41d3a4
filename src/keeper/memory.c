/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges of guest memory, as the virtual machine gives them. */
#include "keeper/keeper_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/macros.h"

#define LOW_MEMORY_END UINT64_C(0xa0000) /* of a PC: what is there is always memory */

/* A memory file that is large enough and sealed against shrinking: the engine, which serves others
 * too, would be killed by an access beyond its end. QEMU seals those of memory-backend-memfd. */
static int check_file(const struct vfu_dma_map *map, int fd)
{
	struct stat status;
	int flags = fcntl(fd, F_GETFL), seals = fcntl(fd, F_GET_SEALS);

	if (flags < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
		return -EINVAL;
	if ((flags & O_ACCMODE) != O_RDWR)
		return -EACCES;
	if (seals < 0 || !(seals & F_SEAL_SHRINK)) {
		log_error("keeper", "guest memory that may shrink is refused: memory-backend-memfd",
			  "");
		return -EPERM;
	}
	if (!IS_ALIGNED(map->offset, VFU_PAGE_BYTES) || map->offset > (uint64_t)status.st_size ||
	    map->size > (uint64_t)status.st_size - map->offset)
		return -EINVAL;
	return 0;
}

/*
 * A range without a file: a ROM, or memory of another device (a display's). The engine cannot reach
 * it. When the guest's first memory is like that, all of it is, and the disk could never work.
 */
static int check_unreachable(struct keeper *keeper, const struct vfu_dma_map *map)
{
	if (!(map->flags & VFU_MAP_WRITE))
		return 0;
	if (map->address < LOW_MEMORY_END) {
		log_error("keeper",
			  "the guest's memory is not shared: it needs "
			  "memory-backend-memfd with share=on",
			  "");
		return -EOPNOTSUPP;
	}
	if (keeper->refusals++ < REFUSALS_LOGGED)
		log_info("keeper", "memory without a file cannot be reached",
			 "address=%#" PRIx64 " bytes=%" PRIu64, map->address, map->size);
	return 0;
}

static bool overlaps(const struct vfu_map *map, uint64_t address, uint64_t size)
{
	return map->length > 0 && address < map->address + map->length &&
	       map->address < address + size;
}

int memory_map(struct keeper *keeper, const struct vfu_dma_map *map, int fd)
{
	struct vfu_map *maps = keeper->shared->maps;
	int index = -1, r;

	if (map->size == 0 || !IS_ALIGNED(map->size, VFU_PAGE_BYTES) ||
	    !IS_ALIGNED(map->address, VFU_PAGE_BYTES) || map->address + map->size < map->size ||
	    map->flags & ~(uint32_t)(VFU_MAP_READ | VFU_MAP_WRITE))
		return -EINVAL;
	r = fd >= 0 ? check_file(map, fd) : check_unreachable(keeper, map);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < VFU_MAP_COUNT; i++) {
		if (overlaps(&maps[i], map->address, map->size))
			return -EEXIST;
		if (maps[i].length == 0 && index < 0)
			index = (int)i;
	}
	if (index < 0)
		return -ENOSPC;
	keeper->maps[index] = (struct keeper_map){.fd = fd, .offset = map->offset};
	maps[index].address = map->address;
	maps[index].id = ++keeper->next_map_id;
	maps[index].flags = map->flags | (fd >= 0 ? VFU_MAP_MEMORY : 0);
	vfu_store(&maps[index].length, map->size);
	return index;
}

int memory_find(const struct keeper *keeper, uint64_t address, uint64_t size)
{
	for (unsigned i = 0; i < VFU_MAP_COUNT; i++)
		if (keeper->shared->maps[i].length == size && size > 0 &&
		    keeper->shared->maps[i].address == address)
			return (int)i;
	return -ENOENT;
}

void memory_forget(struct keeper *keeper, unsigned index)
{
	vfu_store(&keeper->shared->maps[index].length, 0);
	if (keeper->maps[index].fd >= 0)
		close(keeper->maps[index].fd);
	keeper->maps[index].fd = -1;
}
