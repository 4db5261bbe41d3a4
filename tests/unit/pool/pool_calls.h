/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The pool's calls on files as tests use them: one copy, on the first disk. From fibers. */
#include <string.h>

#include "pool/pool_io.h"
#include "pool/pool_rows.h"

static inline int take_file(struct pool *pool, enum pool_use use, uint64_t size_bytes,
			    struct pool_file **ret_file)
{
	const struct pool_want want = {.use = use, .size_bytes = size_bytes, .copies = 1};

	return pool_file_take(pool, &want, ret_file);
}

static inline int open_file(struct pool *pool, uint64_t id, struct pool_file **ret_file)
{
	const struct pool_copies copies = {.count = 1, .disks = {pool_first_disk(pool)}};

	return pool_file_open(pool, id, &copies, ret_file);
}

static inline int discard_file_id(struct pool *pool, uint64_t id)
{
	const struct pool_copies copies = {.count = 1, .disks = {pool_first_disk(pool)}};

	return pool_file_discard_id(pool, id, &copies);
}

/* The value of the row that names the file. */
#define FILE_ROW_BYTES POOL_FILE_ROW_BYTES_MIN
static inline void file_row(const struct pool_file *file, uint8_t value[FILE_ROW_BYTES])
{
	struct pool_copies copies;

	memset(value, 0, FILE_ROW_BYTES);
	pool_file_get_copies(file, &copies);
	pool_rows_encode_file(pool_file_size(file), &copies, value);
}
