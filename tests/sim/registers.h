/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Judges what several clients saw of a register: is there an order of all operations, each at one
 * instant between its begin and its end, that explains every result (linearizability)? Written
 * values are unique, so few orders have to be kept in mind.
 */
#include <stdbool.h>
#include <stdint.h>

#define REGISTER_PENDING_MAX 4u
#define REGISTER_CONFIGS_MAX 16384u

enum register_kind { REGISTER_READ, REGISTER_WRITE, REGISTER_SWAP };

struct register_operation {
	bool used;
	enum register_kind kind;
	uint64_t expected; /* of a swap */
	uint64_t value;    /* written */
};

struct register_config { /* one way in which it may have been so far */
	uint64_t value;
	uint64_t results[REGISTER_PENDING_MAX];
	uint32_t happened; /* bitmap of pending operations */
};

struct register_state {
	struct register_operation pending[REGISTER_PENDING_MAX];
	struct register_config configs[REGISTER_CONFIGS_MAX];
	unsigned count;
};

void register_init(struct register_state *state, uint64_t value);
/* Which number it has, or -1 when there are too many pending. */
int register_begin(struct register_state *state, enum register_kind kind, uint64_t expected,
		   uint64_t value);
/* A read returns what was read, a swap 1 or 0, a write 1. False: no order explains it. */
bool register_end(struct register_state *state, unsigned number, uint64_t result);
/* It was refused: it did not happen. */
bool register_end_refused(struct register_state *state, unsigned number);
/* It has failed: perhaps it happened, perhaps not, but it will not from now on. */
void register_end_unknown(struct register_state *state, unsigned number);
