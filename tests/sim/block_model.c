/* SPDX-License-Identifier: Apache-2.0 */
#include "block_model.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "block/chance.h"
#include "sim_run.h"

void block_model_init(struct block_model *model, uint32_t block_bytes, uint64_t block_count)
{
	*model = (struct block_model){
		.clock = 1, .block_bytes = block_bytes, .block_count = block_count};
	model->cells = calloc(block_count, sizeof(*model->cells));
	ASSERT(model->cells);
	for (uint64_t i = 0; i < block_count; i++) {
		model->cells[i].count = 1;
		model->cells[i].versions[0] = (struct block_version){.finished = 1};
	}
}

void block_model_done(struct block_model *model)
{
	free(model->cells);
}

static uint64_t tick(struct block_model *model)
{
	return ++model->clock;
}

uint64_t block_model_begin(struct block_model *model)
{
	ASSERT(model->running_count < BLOCK_MODEL_RUNNING);
	model->running[model->running_count++] = tick(model);
	return model->clock;
}

void block_model_end(struct block_model *model, uint64_t since)
{
	unsigned i = 0;

	while (i < model->running_count && model->running[i] != since)
		i++;
	ASSERT(i < model->running_count);
	model->running[i] = model->running[--model->running_count];
}

static uint64_t oldest_running(const struct block_model *model)
{
	uint64_t oldest = UINT64_MAX;

	for (unsigned i = 0; i < model->running_count; i++)
		oldest = MIN(oldest, model->running[i]);
	return oldest;
}

uint64_t block_model_new_ids(struct block_model *model, uint64_t count)
{
	uint64_t first = model->last_id + 1;

	model->last_id += count;
	return first;
}

/* Room for one more: forgets what no running operation can have seen. */
static void make_room(const struct block_model *model, struct block_cell *cell)
{
	uint64_t oldest = oldest_running(model);
	unsigned kept = 0;

	for (unsigned i = 0; i < cell->count; i++)
		if (!cell->versions[i].removed || cell->versions[i].removed >= oldest)
			cell->versions[kept++] = cell->versions[i];
	cell->count = kept;
	SIM_RUN_CHECK(kept < BLOCK_MODEL_VERSIONS, "too many contents of one block are possible");
}

uint64_t block_model_write(struct block_model *model, uint64_t block, uint64_t count, uint64_t id)
{
	uint64_t write = tick(model);

	ASSERT(block + count <= model->block_count);
	for (uint64_t i = 0; i < count; i++) {
		struct block_cell *cell = &model->cells[block + i];

		make_room(model, cell);
		cell->versions[cell->count++] = (struct block_version){
			.id = id ? id + i : 0, .write = write, .started = write};
	}
	return write;
}

static struct block_version *find_write(struct block_cell *cell, uint64_t write)
{
	for (unsigned i = cell->count; i-- > 0;)
		if (cell->versions[i].write == write)
			return &cell->versions[i];
	return NULL;
}

/* Whether `newer`, which succeeded, has certainly overwritten `older`. */
static bool overwrites(const struct block_version *newer, const struct block_version *older)
{
	if (newer == older || newer->failed || !newer->finished || !older->finished)
		return false;
	if (older->finished < newer->started)
		return true;
	return !older->failed && older->after && older->after < newer->started;
}

static void remove_overwritten(struct block_model *model, struct block_cell *cell)
{
	for (unsigned i = 0; i < cell->count; i++) {
		struct block_version *older = &cell->versions[i];

		for (unsigned j = 0; j < cell->count && !older->removed; j++)
			if (overwrites(&cell->versions[j], older))
				older->removed = model->clock;
	}
}

void block_model_written(struct block_model *model, uint64_t block, uint64_t count, uint64_t write,
			 enum block_model_outcome outcome)
{
	uint64_t now = tick(model);

	for (uint64_t i = 0; i < count; i++) {
		struct block_cell *cell = &model->cells[block + i];
		struct block_version *version = find_write(cell, write);

		ASSERT(version);
		if (outcome == BLOCK_MODEL_NOT_DONE) {
			*version = cell->versions[--cell->count];
			continue;
		}
		version->finished = now;
		version->failed = outcome == BLOCK_MODEL_FAILED;
		remove_overwritten(model, cell);
	}
}

void block_model_found(struct block_model *model, uint64_t block, uint64_t write, uint64_t id)
{
	struct block_cell *cell = &model->cells[block];
	struct block_version *version = find_write(cell, write);

	ASSERT(version);
	if (id == 0)
		return; /* zeros may come from several writes */
	for (unsigned i = 0; i < cell->count; i++)
		if (cell->versions[i].id == id && !cell->versions[i].failed)
			version->after = cell->versions[i].finished;
}

bool block_model_any(const struct block_model *model, uint64_t block, uint64_t since,
		     uint64_t ignore, bool (*fn)(uint64_t id, void *arg), void *arg)
{
	const struct block_cell *cell = &model->cells[block];

	for (unsigned i = 0; i < cell->count; i++) {
		const struct block_version *version = &cell->versions[i];

		if (version->removed && version->removed < since)
			continue;
		if (ignore && version->write == ignore)
			continue;
		if (fn(version->id, arg))
			return true;
	}
	return false;
}

static bool is_equal(uint64_t id, void *arg)
{
	return id == *(uint64_t *)arg;
}

bool block_model_may_be(const struct block_model *model, uint64_t block, uint64_t id,
			uint64_t since, uint64_t ignore)
{
	return block_model_any(model, block, since, ignore, is_equal, &id);
}

uint64_t block_model_likely(const struct block_model *model, uint64_t block)
{
	const struct block_cell *cell = &model->cells[block];
	const struct block_version *best = NULL;

	for (unsigned i = 0; i < cell->count; i++) {
		const struct block_version *version = &cell->versions[i];

		if (version->removed || !version->finished)
			continue;
		if (!best || version->finished > best->finished)
			best = version;
	}
	return best ? best->id : 0;
}

void block_model_settle(struct block_model *model, uint64_t block, uint64_t id)
{
	struct block_cell *cell = &model->cells[block];
	uint64_t now = tick(model);

	for (unsigned i = 0; i < cell->count; i++) {
		struct block_version *version = &cell->versions[i];

		ASSERT(version->finished);
		if (version->id != id && !version->removed)
			version->removed = now;
	}
}

void block_model_fill(const struct block_model *model, uint64_t block, uint64_t id, void *ret_bytes)
{
	unsigned char *bytes = ret_bytes;
	struct chance chance;

	if (id == 0) {
		memset(bytes, 0, model->block_bytes);
		return;
	}
	chance_init(&chance, id * UINT64_C(0x100000001b3) + block);
	memcpy(bytes, &id, sizeof(id));
	for (uint32_t at = sizeof(id); at < model->block_bytes; at += sizeof(uint64_t)) {
		uint64_t word = chance_next(&chance);

		memcpy(bytes + at, &word, sizeof(word));
	}
}

bool block_model_identify(const struct block_model *model, uint64_t block, const void *bytes,
			  uint64_t *ret_id)
{
	unsigned char expected[4096];
	uint64_t id;

	memcpy(&id, bytes, sizeof(id));
	block_model_fill(model, block, id, expected);
	if (memcmp(bytes, expected, model->block_bytes) != 0)
		return false;
	*ret_id = id;
	return true;
}
