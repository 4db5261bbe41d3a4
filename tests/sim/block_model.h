/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What a block volume may hold while several clients use it at once.
 *
 * Contents have an id: 0 is zeros, every other id is written once. For each block the model
 * keeps the writes whose content may be there: those in flight, and those that finished and
 * were not certainly overwritten. A write certainly overwrites what had finished before it
 * started. A write that failed may have happened or not, until a later one overwrites it. A
 * read may return what was possible at some instant between its start and its end.
 *
 * A compare-and-write that succeeded on a content known to be written before another write
 * started precedes that write, because nothing may come between the comparison and the
 * writing: so the other one overwrites it.
 */
#include <stdbool.h>
#include <stdint.h>

#define BLOCK_MODEL_VERSIONS 64
#define BLOCK_MODEL_RUNNING  64

struct block_version {
	uint64_t id;       /* of the content */
	uint64_t write;    /* number of the write; 0 = the initial zeros */
	uint64_t started;  /* times of the model's clock */
	uint64_t finished; /* 0 = in flight */
	uint64_t removed;  /* 0 = may be there */
	uint64_t after; /* compare-and-write: when the content it found was finished; 0 = unknown */
	bool failed;
};

struct block_cell {
	unsigned count;
	struct block_version versions[BLOCK_MODEL_VERSIONS];
};

struct block_model {
	uint64_t clock;
	uint64_t last_id;
	unsigned running_count; /* operations in flight, by their start */
	uint64_t running[BLOCK_MODEL_RUNNING];
	uint32_t block_bytes;
	uint64_t block_count;
	struct block_cell *cells;
};

enum block_model_outcome { BLOCK_MODEL_DONE, BLOCK_MODEL_FAILED, BLOCK_MODEL_NOT_DONE };

void block_model_init(struct block_model *model, uint32_t block_bytes, uint64_t block_count);
void block_model_done(struct block_model *model);

/* An operation starts, and ends; returns the time of its start. */
uint64_t block_model_begin(struct block_model *model);
void block_model_end(struct block_model *model, uint64_t since);
/* Contents that never were. The id of block i of the write is the result + i. */
uint64_t block_model_new_ids(struct block_model *model, uint64_t count);

/*
 * Within an operation: a write of `count` blocks starts; contents are id + i, or zeros when
 * id is 0. Returns its number.
 */
uint64_t block_model_write(struct block_model *model, uint64_t block, uint64_t count, uint64_t id);
/* It ended. */
void block_model_written(struct block_model *model, uint64_t block, uint64_t count, uint64_t write,
			 enum block_model_outcome outcome);
/* Before block_model_written(): the write found `id` in the block. */
void block_model_found(struct block_model *model, uint64_t block, uint64_t write, uint64_t id);

/*
 * Whether a read that started at `since` and ends now may see `id` in the block; `ignore`:
 * the number of the reader's own write, or 0.
 */
bool block_model_may_be(const struct block_model *model, uint64_t block, uint64_t id,
			uint64_t since, uint64_t ignore);
/* Calls fn for each id that such a read may see until it returns true; returns whether it did. */
bool block_model_any(const struct block_model *model, uint64_t block, uint64_t since,
		     uint64_t ignore, bool (*fn)(uint64_t id, void *arg), void *arg);
/* Some id that may be there now: of the latest write that finished. */
uint64_t block_model_likely(const struct block_model *model, uint64_t block);
/* Nothing is in flight and `id` was read: nothing else can be there. */
void block_model_settle(struct block_model *model, uint64_t block, uint64_t id);

/* The content of a block. */
void block_model_fill(const struct block_model *model, uint64_t block, uint64_t id,
		      void *ret_bytes);
/* Its id; false when the bytes are no content of this block. */
bool block_model_identify(const struct block_model *model, uint64_t block, const void *bytes,
			  uint64_t *ret_id);
