/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What libnvme's headers lack: queue entries (NVMe 1.4, 4.2 and 4.6) and fields of registers as
 * values. All is little-endian, like the processors that this runs on.
 */
#include <assert.h>
#include <stdint.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "queue entries are used in place");

struct nvme_sqe {
	uint8_t opcode;
	uint8_t flags; /* FUSE in bits 1:0, PSDT in bits 7:6 */
	uint16_t cid;
	uint32_t nsid;
	uint32_t cdw2, cdw3;
	uint64_t mptr;
	uint64_t dptr[2];
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};
static_assert(sizeof(struct nvme_sqe) == 64, "one entry");

struct nvme_cqe {
	uint32_t result;
	uint32_t result_high;
	uint16_t sq_head;
	uint16_t sqid;
	uint16_t cid;
	uint16_t status; /* status code and type shifted by one, phase in bit 0 */
};
static_assert(sizeof(struct nvme_cqe) == 16, "one entry");

#define NVME_FUSED_FIRST  1u
#define NVME_FUSED_SECOND 2u

/* A status: code in bits 7:0, type in bits 10:8, do not retry in bit 14. */
#define NVME_STATUS_SPECIFIC(code) ((uint16_t)(0x100 | (code)))
#define NVME_STATUS_MEDIA(code)    ((uint16_t)(0x200 | (code)))
#define NVME_STATUS_MORE           ((uint16_t)0x2000)
#define NVME_STATUS_DNR            ((uint16_t)0x4000)
