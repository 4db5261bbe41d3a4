/* SPDX-License-Identifier: Apache-2.0 */
#include "pool/pool_label.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/macros.h"
#include "codec/crc32c.h"
#include "pool/pool_fence.h"
#include "reactor/io.h"

#define LABEL_BYTES   4096u
#define LABEL_MAGIC   "SARSENPL"
#define LABEL_VERSION 1u

/* docs/format.md, "Pool label". Little-endian. */
struct label_disk {
	uint8_t magic[8];
	uint8_t version[4];
	uint8_t crc[4]; /* CRC-32C of all 4096 bytes with this field zero */
	uint8_t pool_id[8];
	uint8_t disk_id[8];
	uint8_t created_wall_ns[8];
	uint8_t uuid[POOL_UUID_BYTES];
	uint8_t name[POOL_NAME_MAX + 1];
	uint8_t zero[LABEL_BYTES - 120];
};
_Static_assert(sizeof(struct label_disk) == LABEL_BYTES, "on disk");
_Static_assert(offsetof(struct label_disk, version) == 8, "on disk");
_Static_assert(offsetof(struct label_disk, crc) == 12, "on disk");
_Static_assert(offsetof(struct label_disk, pool_id) == 16, "on disk");
_Static_assert(offsetof(struct label_disk, disk_id) == 24, "on disk");
_Static_assert(offsetof(struct label_disk, created_wall_ns) == 32, "on disk");
_Static_assert(offsetof(struct label_disk, uuid) == 40, "on disk");
_Static_assert(offsetof(struct label_disk, name) == 56, "on disk");
_Static_assert(offsetof(struct label_disk, zero) == 120, "on disk");

static uint32_t label_crc(const struct label_disk *disk)
{
	static const uint8_t zero[4];
	const uint8_t *bytes = (const uint8_t *)disk;
	size_t at = offsetof(struct label_disk, crc);
	uint32_t crc = crc32c(bytes, at);

	crc = crc32c_more(crc, zero, sizeof(zero));
	return crc32c_more(crc, bytes + at + 4, LABEL_BYTES - at - 4);
}

static int label_check(const char *path, const struct label_disk *disk)
{
	uint32_t version = get_le32(disk->version);

	if (memcmp(disk->magic, LABEL_MAGIC, sizeof(disk->magic)) != 0) {
		log_error("pool", "not a pool label", "path=\"%s\"", path);
		return -EUCLEAN;
	}
	if (get_le32(disk->crc) != label_crc(disk) || version == 0 ||
	    disk->name[POOL_NAME_MAX] != '\0') {
		log_error("pool", "the pool label is damaged", "path=\"%s\"", path);
		return -EUCLEAN;
	}
	if (version > LABEL_VERSION) {
		log_error("pool", "the pool label was written by a newer version of this program",
			  "path=\"%s\" version=%" PRIu32 " supported=%u", path, version,
			  LABEL_VERSION);
		return -EPROTONOSUPPORT;
	}
	return 0;
}

static int read_file(const char *path, struct label_disk *ret_disk)
{
	struct world_file *file;
	int r = io_open(path, WORLD_FILE_READ_ONLY, &file);

	if (r)
		return r;
	r = io_read_exactly(file, ret_disk, sizeof(*ret_disk), 0);
	(void)io_close(file); /* nothing was written */
	if (r == -ENODATA) {
		log_error("pool", "the pool label is too short", "path=\"%s\"", path);
		return -EUCLEAN;
	}
	return r;
}

int pool_label_read(const char *path, struct pool_label *ret_label)
{
	struct label_disk disk;
	int r = read_file(path, &disk);

	if (r == 0)
		r = label_check(path, &disk);
	if (r)
		return r;
	*ret_label = (struct pool_label){
		.pool_id = get_le64(disk.pool_id),
		.disk_id = get_le64(disk.disk_id),
		.created_wall_ns = get_le64(disk.created_wall_ns),
	};
	memcpy(ret_label->uuid, disk.uuid, sizeof(disk.uuid));
	memcpy(ret_label->name, disk.name, sizeof(disk.name));
	return 0;
}

int pool_label_resembles(const char *path, const struct pool_label *label)
{
	struct label_disk disk;
	int r = read_file(path, &disk);

	if (r)
		return r;
	if (memcmp(disk.uuid, label->uuid, sizeof(disk.uuid)) == 0)
		return 0;
	return get_le64(disk.pool_id) == label->pool_id &&
			       get_le64(disk.disk_id) == label->disk_id &&
			       get_le64(disk.created_wall_ns) == label->created_wall_ns
		       ? 0
		       : -EUCLEAN;
}

static int write_file(const char *path, const struct label_disk *disk)
{
	struct world_file *file;
	int r, r2;

	/* What is there may be being written by a dead daemon. */
	if (pool_fence_get() != POOL_FENCE_NONE) {
		r = io_unlink(path);
		if (r && r != -ENOENT)
			return r;
	}
	r = io_open(path, WORLD_FILE_CREATE, &file);
	if (r)
		return r;
	r = io_resize(file, 0, WORLD_RESIZE_TRUNCATE);
	if (r == 0)
		r = io_write(file, disk, sizeof(*disk), 0);
	if (r == 0)
		r = io_sync(file);
	r2 = io_close(file);
	return r ? r : r2;
}

int pool_label_write(const char *path, const struct pool_label *label)
{
	struct label_disk disk = {.magic = LABEL_MAGIC};

	put_le32(disk.version, LABEL_VERSION);
	put_le64(disk.pool_id, label->pool_id);
	put_le64(disk.disk_id, label->disk_id);
	put_le64(disk.created_wall_ns, label->created_wall_ns);
	memcpy(disk.uuid, label->uuid, sizeof(disk.uuid));
	memcpy(disk.name, label->name, strnlen(label->name, POOL_NAME_MAX));
	put_le32(disk.crc, label_crc(&disk));
	return write_file(path, &disk);
}
