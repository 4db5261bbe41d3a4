/* SPDX-License-Identifier: Apache-2.0 */
#include "vdisk/identity.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "pool/pool_name.h"
#include "vdisk/rows.h"

void identity_encode(const struct identity *identity, struct identity_disk *ret_disk)
{
	struct identity_disk disk = {
		.magic = htole32(IDENTITY_MAGIC),
		.version = htole32(IDENTITY_VERSION),
		.container = htole64(identity->container),
		.created_wall_ns = htole64(identity->created_wall_ns),
		.written_wall_ns = htole64(identity->written_wall_ns),
		.size_bytes = htole64(identity->size_bytes),
		.block_bytes = htole32(identity->block_bytes),
		.factor = htole32(identity->factor),
		.epoch = htole64(identity->epoch),
		.log_group = htole64(identity->log_group),
		.log_slot = htole32(identity->log_slot),
		.disk_count = htole32(identity->disk_count),
	};

	ASSERT(identity->disk_count <= POOL_DISKS_MAX);
	memcpy(disk.name, identity->name, strnlen(identity->name, VDISK_NAME_MAX));
	memcpy(disk.container_name, identity->container_name,
	       strnlen(identity->container_name, CONTAINER_NAME_MAX));
	for (unsigned i = 0; i < identity->disk_count; i++) {
		disk.disks[i] = htole64(identity->disks[i]);
		disk.tiers[i] = identity->tiers[i];
	}
	*ret_disk = disk;
}

static bool text_ends(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

static bool is_sound(const struct identity_disk *disk)
{
	uint32_t block_bytes = le32toh(disk->block_bytes), factor = le32toh(disk->factor);

	return text_ends(disk->name, sizeof(disk->name)) &&
	       text_ends(disk->container_name, sizeof(disk->container_name)) &&
	       vdisk_check_name(disk->name) == 0 && pool_name_is_valid(disk->container_name) &&
	       vdisk_check_size(le64toh(disk->size_bytes)) == 0 &&
	       (block_bytes == 512 || block_bytes == 4096) && factor >= 1 &&
	       factor <= POOL_FACTOR_MAX && disk->container != 0 &&
	       le32toh(disk->log_slot) <= SLOTS_PER_GROUP &&
	       le32toh(disk->disk_count) <= POOL_DISKS_MAX;
}

int identity_decode(const void *note, struct identity *ret_identity)
{
	struct identity_disk disk;

	memcpy(&disk, note, sizeof(disk));
	if (le32toh(disk.magic) != IDENTITY_MAGIC)
		return -ENODATA;
	if (le32toh(disk.version) != IDENTITY_VERSION)
		return -EPROTONOSUPPORT;
	if (!is_sound(&disk))
		return -EUCLEAN;
	*ret_identity = (struct identity){
		.container = le64toh(disk.container),
		.created_wall_ns = le64toh(disk.created_wall_ns),
		.written_wall_ns = le64toh(disk.written_wall_ns),
		.size_bytes = le64toh(disk.size_bytes),
		.block_bytes = le32toh(disk.block_bytes),
		.factor = le32toh(disk.factor),
		.epoch = le64toh(disk.epoch),
		.log_group = le64toh(disk.log_group),
		.log_slot = le32toh(disk.log_slot),
		.disk_count = le32toh(disk.disk_count),
	};
	memcpy(ret_identity->name, disk.name, sizeof(disk.name));
	memcpy(ret_identity->container_name, disk.container_name, sizeof(disk.container_name));
	for (unsigned i = 0; i < ret_identity->disk_count; i++) {
		ret_identity->disks[i] = le64toh(disk.disks[i]);
		ret_identity->tiers[i] = disk.tiers[i];
	}
	return 0;
}
