/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/crc32c.h"

#include <isa-l/crc.h>

#include "base/macros.h"

/* isa-l takes an int; a multiple of 64 keeps every part aligned like the first. */
#define PART_BYTES ((size_t)1 << 30)

uint32_t crc32c_more(uint32_t crc, const void *data, size_t length)
{
	/* isa-l lacks the const, and leaves both inversions to its caller. */
	unsigned char *at = (unsigned char *)(uintptr_t)data;
	uint32_t state = ~crc;

	while (length > 0) {
		size_t part = MIN(length, PART_BYTES);

		state = crc32_iscsi(at, (int)part, state);
		at += part;
		length -= part;
	}
	return ~state;
}

uint32_t crc32c(const void *data, size_t length)
{
	return crc32c_more(0, data, length);
}
