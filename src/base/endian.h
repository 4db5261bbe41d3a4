/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Unaligned little- and big-endian access. On-disk formats are little-endian, wire formats follow
 * their specification. Structs with fixed layout use the le16..le64 types and these accessors.
 */
#include <endian.h>
#include <stdint.h>
#include <string.h>

#define ENDIAN_DEFINE_(bits)                                                   \
	static inline uint##bits##_t get_le##bits(const void *p)               \
	{                                                                      \
		uint##bits##_t v;                                              \
		memcpy(&v, p, sizeof(v));                                      \
		return le##bits##toh(v);                                       \
	}                                                                      \
	static inline uint##bits##_t get_be##bits(const void *p)               \
	{                                                                      \
		uint##bits##_t v;                                              \
		memcpy(&v, p, sizeof(v));                                      \
		return be##bits##toh(v);                                       \
	}                                                                      \
	static inline void put_le##bits(void *p, uint##bits##_t v)             \
	{                                                                      \
		v = htole##bits(v);                                            \
		memcpy(p, &v, sizeof(v));                                      \
	}                                                                      \
	static inline void put_be##bits(void *p, uint##bits##_t v)             \
	{                                                                      \
		v = htobe##bits(v);                                            \
		memcpy(p, &v, sizeof(v));                                      \
	}
ENDIAN_DEFINE_(16)
ENDIAN_DEFINE_(32)
ENDIAN_DEFINE_(64)
#undef ENDIAN_DEFINE_

static inline uint32_t get_be24(const void *p)
{
	const uint8_t *b = p;

	return (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2];
}

static inline void put_be24(void *p, uint32_t v)
{
	uint8_t *b = p;

	b[0] = (uint8_t)(v >> 16);
	b[1] = (uint8_t)(v >> 8);
	b[2] = (uint8_t)v;
}
