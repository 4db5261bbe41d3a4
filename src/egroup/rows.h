/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The catalog rows of extent groups and of their files (docs/format.md): decoding alone, for the
 * store and for tools that check. -EUCLEAN where a row cannot be true by itself. */
#include "egroup/record.h"
#include "pool/pool.h"

struct egroup_file_row {
	uint64_t id, size_bytes;
	struct pool_copies copies; /* disk 0: the pool's first, in rows of version 1 */
	bool compacted;
	bool sequential; /* what it holds was written in sequence */
	uint32_t index_blocks, total_slots;
};

struct egroup_group_row {
	uint64_t id, file, epoch, last_lsn;
	enum record_stream stream;
	bool sealed, compacted;
	uint32_t slots, base, stored_count;
};

int egroup_file_row_decode(const struct catalog_row *row, struct egroup_file_row *ret_row);
int egroup_group_row_decode(const struct catalog_row *row, struct egroup_group_row *ret_row);
