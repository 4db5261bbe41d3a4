/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Which disks the last files of one kind went to, so that the next ones go to others: the stripe of
 * a vDisk. Belongs to its store; in memory only.
 */
#include "pool/policy.h"
#include "pool/pool.h"

struct egroup_stripe {
	unsigned count;
	uint64_t disks[POLICY_WIDTH_MAX]; /* each once, that of the newest file first */
};

/* A file was made, and its copies are there. */
void egroup_stripe_note(struct egroup_stripe *stripe, const struct pool_copies *copies);
/* Fills in what the next file is to avoid: with its own copies, `width` disks in a row differ. The
 * pool reads it on its own reactor, so the caller keeps a copy of the stripe until then. */
void egroup_stripe_want(const struct egroup_stripe *stripe, unsigned width, struct pool_want *want);
