/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The data pointer of a command (NVMe 1.4, 4.3 and 4.4: PRP entries or SGL descriptors) as an iovec
 * into the guest's memory. Nothing is copied; each entry is read once, then checked.
 */
#include "frontend/nvme/guest.h"
#include "frontend/nvme/wire.h"

#define NVME_DATA_BYTES_MAX (1u << 20) /* of one command: MDTS is 8 pages of 4 KiB, as a power */
/* One page more when the first is not whole; twice for a compare and its write, which are short. */
#define NVME_DATA_IOV_MAX 258
/* Descriptors of one command, those that name further segments included. */
#define NVME_SGL_DESCRIPTORS_MAX 512

struct nvme_data {
	struct iovec *iov; /* NVME_DATA_IOV_MAX elements, from the caller */
	unsigned count;
	unsigned flags; /* of the ranges: VFU_MAP_READ where the guest gives data, VFU_MAP_WRITE */
};

/* Appends `length` > 0 bytes. 0 or an NVMe status code. */
uint16_t nvme_data_add(struct nvme_data *data, struct guest *guest, const struct nvme_sqe *sqe,
		       uint64_t length);
