/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * All rows of a mirror in memory, in the order of their keys. First those of the snapshot are
 * added, then changes are applied, which wait until mirror_rows_settle() or until one that needs
 * the order.
 */
#include "catalog/mirror_format.h"

struct mirror_rows {
	size_t count, capacity;
	struct catalog_row *rows;
	size_t change_count, change_capacity;
	struct mirror_rows_change *changes;
};

void mirror_rows_done(struct mirror_rows *rows);
/* -EUCLEAN unless the key comes after all others; -ENOMEM. */
int mirror_rows_add(struct mirror_rows *rows, const struct mirror_entry *entry);
int mirror_rows_apply(struct mirror_rows *rows, const struct mirror_entry *entry); /* -ENOMEM */
int mirror_rows_settle(struct mirror_rows *rows);                                  /* -ENOMEM */
/* After settling; NULL when it is not there. */
const struct catalog_row *mirror_rows_find(const struct mirror_rows *rows,
					   const struct catalog_key *key);
int mirror_key_compare(const struct catalog_key *a, const struct catalog_key *b);
