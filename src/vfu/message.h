/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * vfio-user on the wire (QEMU, docs/interop/vfio-user.rst), version 0.0: a header, then the
 * command's structure, then data. Little-endian. Descriptors travel beside the first byte.
 */
#include <assert.h>
#include <stdint.h>

#define VFU_MESSAGE_FDS_MAX   16
#define VFU_MESSAGE_DATA_MAX  4096u /* bytes of one region access: the configuration space */
#define VFU_MESSAGE_BYTES_MAX 65536u

enum vfu_command {
	VFU_VERSION = 1,
	VFU_DMA_MAP = 2,
	VFU_DMA_UNMAP = 3,
	VFU_DEVICE_GET_INFO = 4,
	VFU_DEVICE_GET_REGION_INFO = 5,
	VFU_DEVICE_GET_REGION_IO_FDS = 6,
	VFU_DEVICE_GET_IRQ_INFO = 7,
	VFU_DEVICE_SET_IRQS = 8,
	VFU_REGION_READ = 9,
	VFU_REGION_WRITE = 10,
	VFU_DMA_READ = 11,
	VFU_DMA_WRITE = 12,
	VFU_DEVICE_RESET = 13,
	VFU_REGION_WRITE_MULTI = 15,
};

enum vfu_message_flags {
	VFU_TYPE_MASK = 0xf,
	VFU_TYPE_COMMAND = 0,
	VFU_TYPE_REPLY = 1,
	VFU_NO_REPLY = 1 << 4,
	VFU_ERROR = 1 << 5,
};

struct vfu_header {
	uint16_t id;
	uint16_t command;
	uint32_t size; /* with the header */
	uint32_t flags;
	uint32_t error; /* errno, with VFU_ERROR */
};
static_assert(sizeof(struct vfu_header) == 16, "on the wire");

struct vfu_version {
	uint16_t major, minor; /* then JSON, NUL-terminated */
};

struct vfu_dma_map {
	uint32_t argsz, flags; /* bit 0 readable, bit 1 writable */
	uint64_t offset, address, size;
};
static_assert(sizeof(struct vfu_dma_map) == 32, "on the wire");

struct vfu_dma_unmap {
	uint32_t argsz, flags; /* bit 0: dirty bitmap, bit 1: all */
	uint64_t address, size;
};
static_assert(sizeof(struct vfu_dma_unmap) == 24, "on the wire");

struct vfu_device_info {
	uint32_t argsz, flags, regions, irqs;
};

struct vfu_region_info {
	uint32_t argsz, flags, index, capability_offset;
	uint64_t size, offset;
};
static_assert(sizeof(struct vfu_region_info) == 32, "on the wire");

struct vfu_region_sparse { /* follows vfu_region_info: VFIO_REGION_INFO_CAP_SPARSE_MMAP */
	uint16_t id, version;
	uint32_t next, area_count, reserved;
	uint64_t offset, size; /* of the one area */
};
static_assert(sizeof(struct vfu_region_sparse) == 32, "on the wire");

struct vfu_irq_info {
	uint32_t argsz, flags, index, count;
};

struct vfu_irq_set {
	uint32_t argsz, flags, index, start, count;
};
static_assert(sizeof(struct vfu_irq_set) == 20, "on the wire");

struct vfu_region_access {
	uint64_t offset;
	uint32_t region, count; /* then data */
};
static_assert(sizeof(struct vfu_region_access) == 16, "on the wire");

struct vfu_write_multi {
	uint64_t count; /* then so many of the next */
};

struct vfu_multi_entry {
	uint64_t offset;
	uint32_t region, count;
	uint8_t data[8];
};
static_assert(sizeof(struct vfu_multi_entry) == 24, "on the wire");
