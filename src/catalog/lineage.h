/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The epochs of a catalog: which starts have made its history. The first commit after each start
 * begins an epoch with a random id, in the same transaction. A copy of the catalog ends in some
 * epoch; whether that is one that this catalog has been through, and had not left yet at the copy's
 * sequence number, tells an older copy from one of a history that this catalog does not have.
 *
 * Pure functions on memory. The value of the META row "epochs" is in docs/format.md.
 */
#include "catalog/catalog.h"

#define LINEAGE_MAX       256u /* epochs that are remembered */
#define LINEAGE_ROW_BYTES (8u + LINEAGE_MAX * 24u)

struct lineage_epoch {
	uint64_t id; /* not 0 */
	uint64_t first,
		end; /* sequence numbers: its first; the first of the next one, 0: none yet */
};

struct lineage {
	unsigned count;
	bool is_damaged; /* the row cannot be read: nothing is known, and none is written */
	struct lineage_epoch epochs[LINEAGE_MAX];
};

struct catalog_key lineage_key(void);
/* Of the newest epoch; 0: there is none. */
uint64_t lineage_current(const struct lineage *lineage);
/* A new epoch, of the transaction `first`. When there are too many, the one of the fewest
 * transactions is forgotten: so restarts in a row cost no memory of what matters. */
void lineage_begin(struct lineage *lineage, uint64_t id, uint64_t first);
/* Whether a copy that ends in that epoch at that transaction, which this history has reached, too,
 * is an older state of it. True also when it cannot be told: the copy is of a program that knew no
 * epochs (0), or of the time of epochs that were forgotten. */
bool lineage_includes(const struct lineage *lineage, uint64_t epoch, uint64_t sequence);

size_t lineage_encode(const struct lineage *lineage, uint8_t value[static LINEAGE_ROW_BYTES]);
int lineage_decode(const uint8_t *value, size_t length, struct lineage *ret_lineage); /* -EUCLEAN */
