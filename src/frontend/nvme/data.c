/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks end: a PRP list can only be continued by a whole page, so each page of a list describes
 * data; and an SGL has at most NVME_SGL_DESCRIPTORS_MAX descriptors.
 */
#include "frontend/nvme/data.h"

#include <nvme/types.h>
#include <string.h>

#include "base/macros.h"

#define PAGE        UINT64_C(4096) /* CC.MPS is 0, the only one that CAP offers */
#define OFFSET_MASK (PAGE - 1)

enum sgl_type { /* NVMe 1.4, figure 113 */
		SGL_DATA_BLOCK = 0x0,
		SGL_SEGMENT = 0x2,
		SGL_LAST_SEGMENT = 0x3,
};

struct sgl_descriptor {
	uint64_t address;
	uint32_t length;
	uint8_t reserved[3];
	uint8_t type; /* subtype in the low half: 0 = an address */
};
static_assert(sizeof(struct sgl_descriptor) == 16, "as in the specification");

static uint16_t data_append(struct nvme_data *data, struct guest *guest, uint64_t address,
			    uint64_t length)
{
	while (length > 0) {
		struct iovec *last = data->count > 0 ? &data->iov[data->count - 1] : NULL;
		uint64_t there;
		unsigned char *at = guest_at(guest, address, data->flags, &there);

		if (UNLIKELY(!at))
			return NVME_SC_DATA_XFER_ERROR;
		there = MIN(there, length);
		if (last && (unsigned char *)last->iov_base + last->iov_len == at) {
			last->iov_len += there;
		} else {
			if (UNLIKELY(data->count == NVME_DATA_IOV_MAX))
				return NVME_SC_SGL_INVALID_COUNT;
			data->iov[data->count++] = (struct iovec){at, there};
		}
		address += there;
		length -= there;
	}
	return 0;
}

/* `list`: address of the first entry. The last entry of a page names the next when more is to
 * come. */
static uint16_t data_prp_list(struct nvme_data *data, struct guest *guest, uint64_t list,
			      uint64_t length)
{
	if (list & 7)
		return NVME_SC_PRP_INVALID_OFFSET;
	while (length > 0) {
		bool chain = (list & OFFSET_MASK) == PAGE - 8 && length > PAGE;
		uint64_t entry, part = MIN(length, PAGE);
		uint16_t status;

		if (!guest_read(guest, list, &entry, sizeof(entry)))
			return NVME_SC_DATA_XFER_ERROR;
		if (entry & OFFSET_MASK)
			return NVME_SC_PRP_INVALID_OFFSET;
		if (chain) {
			list = entry;
			continue;
		}
		status = data_append(data, guest, entry, part);
		if (status)
			return status;
		length -= part;
		list += 8;
	}
	return 0;
}

static uint16_t data_prp(struct nvme_data *data, struct guest *guest, const struct nvme_sqe *sqe,
			 uint64_t length)
{
	uint64_t prp1 = sqe->dptr[0], prp2 = sqe->dptr[1];
	uint64_t first = MIN(length, PAGE - (prp1 & OFFSET_MASK));
	uint16_t status;

	if (prp1 & 3)
		return NVME_SC_PRP_INVALID_OFFSET;
	status = data_append(data, guest, prp1, first);
	length -= first;
	if (status || length == 0)
		return status;
	if (length > PAGE)
		return data_prp_list(data, guest, prp2, length);
	if (prp2 & OFFSET_MASK)
		return NVME_SC_PRP_INVALID_OFFSET;
	return data_append(data, guest, prp2, length);
}

struct sgl_walk {
	struct nvme_data *data;
	struct guest *guest;
	uint64_t left; /* data that no descriptor has described yet */
	unsigned descriptors;
};

static uint16_t sgl_block(struct sgl_walk *walk, const struct sgl_descriptor *descriptor)
{
	uint64_t part = MIN(walk->left, descriptor->length);

	walk->left -= part;
	return data_append(walk->data, walk->guest, descriptor->address, part);
}

/* One segment; the descriptor of the next one goes to `segment`, whose length is 0 at the end. */
static uint16_t sgl_segment(struct sgl_walk *walk, struct sgl_descriptor *segment)
{
	bool is_last = segment->type >> 4 == SGL_LAST_SEGMENT;
	uint64_t address = segment->address;
	uint32_t left = segment->length;

	if (left == 0 || left % sizeof(*segment) != 0)
		return is_last ? NVME_SC_SGL_INVALID_LAST : NVME_SC_SGL_INVALID_COUNT;
	segment->length = 0;
	for (; left > 0 && walk->left > 0; left -= sizeof(*segment)) {
		struct sgl_descriptor descriptor;
		uint16_t status;

		if (++walk->descriptors > NVME_SGL_DESCRIPTORS_MAX)
			return NVME_SC_SGL_INVALID_COUNT;
		if (!guest_read(walk->guest, address, &descriptor, sizeof(descriptor)))
			return NVME_SC_DATA_XFER_ERROR;
		address += sizeof(descriptor);
		switch (descriptor.type) {
		case SGL_DATA_BLOCK << 4:
			status = sgl_block(walk, &descriptor);
			if (status)
				return status;
			break;
		case SGL_SEGMENT << 4:
		case SGL_LAST_SEGMENT << 4:
			if (is_last || left != sizeof(descriptor))
				return NVME_SC_SGL_INVALID_LAST;
			if (descriptor.length == 0)
				return NVME_SC_SGL_INVALID_COUNT;
			*segment = descriptor;
			break;
		default:
			return NVME_SC_SGL_INVALID_TYPE;
		}
	}
	return 0;
}

static uint16_t data_sgl(struct nvme_data *data, struct guest *guest, const struct nvme_sqe *sqe,
			 uint64_t length)
{
	struct sgl_walk walk = {.data = data, .guest = guest, .left = length};
	struct sgl_descriptor descriptor;
	uint16_t status;

	memcpy(&descriptor, sqe->dptr, sizeof(descriptor));
	if (descriptor.type == SGL_DATA_BLOCK << 4) {
		status = sgl_block(&walk, &descriptor);
		return status ? status : walk.left > 0 ? NVME_SC_SGL_INVALID_DATA : 0;
	}
	if (descriptor.type != SGL_SEGMENT << 4 && descriptor.type != SGL_LAST_SEGMENT << 4)
		return NVME_SC_SGL_INVALID_TYPE;
	do {
		status = sgl_segment(&walk, &descriptor);
	} while (!status && walk.left > 0 && descriptor.length > 0);
	return status ? status : walk.left > 0 ? NVME_SC_SGL_INVALID_DATA : 0;
}

uint16_t nvme_data_add(struct nvme_data *data, struct guest *guest, const struct nvme_sqe *sqe,
		       uint64_t length)
{
	switch (sqe->flags >> 6) { /* PSDT */
	case 0:
		return data_prp(data, guest, sqe, length);
	case 1:
	case 2:
		return data_sgl(data, guest, sqe, length);
	default:
		return NVME_SC_INVALID_FIELD;
	}
}
