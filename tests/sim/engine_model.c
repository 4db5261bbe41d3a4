/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_model.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "sim_run.h"

#define WORDS (SECTOR / 8)
#define PRUNE 6

struct model_cut {
	struct model *model;
	enum model_crash crash;
	/* For each cut from settled on: how many more sectors it fits than the one before. */
	int64_t *fits;
	uint64_t width, sectors;
};

static void *checked(void *memory)
{
	SIM_RUN_CHECK(memory, "out of memory");
	return memory;
}

void model_init(struct model *model, uint64_t sector_count)
{
	*model = (struct model){.sector_count = sector_count, .op_count = 1, .op_capacity = 256};
	model->sectors = checked(calloc(sector_count, sizeof(*model->sectors)));
	model->ops = checked(calloc(model->op_capacity, sizeof(*model->ops)));
	model->ops[0] = (struct model_op){.state = MODEL_ACKED, .zero = true, .durable = true};
}

void model_done(struct model *model)
{
	for (uint64_t i = 0; i < model->sector_count; i++)
		free(model->sectors[i].ids);
	free(model->sectors);
	free(model->ops);
}

bool model_claim(struct model *model, uint64_t first, uint64_t count)
{
	for (uint64_t i = first; i < first + count; i++)
		if (model->sectors[i].busy)
			return false;
	for (uint64_t i = first; i < first + count; i++)
		model->sectors[i].busy = true;
	return true;
}

void model_release(struct model *model, uint64_t first, uint64_t count)
{
	for (uint64_t i = first; i < first + count; i++)
		model->sectors[i].busy = false;
}

/* Operations before the last one that is settled or flushed can no longer be seen. */
static void prune(const struct model *model, struct model_sector *sector)
{
	uint16_t from = 0;

	for (uint16_t i = 0; i < sector->count; i++) {
		const struct model_op *op = &model->ops[sector->ids[i]];

		if (op->state == MODEL_ACKED && (op->acked <= model->flushed || op->durable))
			from = i;
	}
	memmove(sector->ids, sector->ids + from, (sector->count - from) * sizeof(*sector->ids));
	sector->count = (uint16_t)(sector->count - from);
}

static void sector_add(const struct model *model, struct model_sector *sector, uint32_t op)
{
	if (sector->count >= PRUNE)
		prune(model, sector);
	if (sector->count + 2 > sector->capacity) {
		sector->capacity = (uint16_t)(sector->capacity ? sector->capacity * 2 : 4);
		sector->ids =
			checked(realloc(sector->ids, sector->capacity * sizeof(*sector->ids)));
	}
	if (sector->count == 0)
		sector->ids[sector->count++] = 0;
	sector->ids[sector->count++] = op;
}

uint32_t model_begin(struct model *model, uint64_t first, uint64_t count, bool zero, bool ordered)
{
	uint32_t op = model->op_count++;

	if (op == model->op_capacity) {
		model->op_capacity *= 2;
		model->ops = checked(realloc(model->ops, model->op_capacity * sizeof(*model->ops)));
	}
	model->ops[op] = (struct model_op){.zero = zero,
					   .ordered = ordered,
					   .large = !zero && count > 8,
					   .begun = model->acked};
	for (uint64_t i = first; i < first + count; i++)
		sector_add(model, &model->sectors[i], op);
	return op;
}

void model_acknowledge(struct model *model, uint32_t op, bool durable)
{
	model->ops[op].state = MODEL_ACKED;
	model->ops[op].acked = ++model->acked;
	model->ops[op].durable = durable;
}

void model_fail(struct model *model, uint32_t op)
{
	model->ops[op].state = MODEL_FAILED;
}

void model_flushed(struct model *model, uint64_t acked)
{
	model->flushed = MAX(model->flushed, acked);
}

static uint64_t word(uint32_t op, uint64_t sector, unsigned i)
{
	uint64_t x = ((uint64_t)op << 32 | i) * UINT64_C(0x9E3779B97F4A7C15) + sector;

	return (x ^ x >> 29) * UINT64_C(0xBF58476D1CE4E5B9);
}

void model_fill(uint32_t op, uint64_t first, uint64_t count, void *buffer)
{
	uint64_t *words = buffer;

	for (uint64_t sector = first; sector < first + count; sector++) {
		*words++ = (uint64_t)op << 32 | 0xD15C;
		*words++ = sector;
		for (unsigned i = 2; i < WORDS; i++)
			*words++ = word(op, sector, i);
	}
}

/* Who wrote this: an operation, or -1 for zeros. Fails on anything else. */
static int64_t identify(const struct model *model, uint64_t sector, const uint64_t *words)
{
	uint32_t op = (uint32_t)(words[0] >> 32);
	unsigned i = 0;

	while (i < WORDS && words[i] == 0)
		i++;
	if (i == WORDS)
		return -1;
	SIM_RUN_CHECK((uint32_t)words[0] == 0xD15C && op < model->op_count && words[1] == sector,
		      "sector %" PRIu64 ": foreign data %#" PRIx64 " %#" PRIx64, sector, words[0],
		      words[1]);
	for (i = 2; i < WORDS; i++)
		SIM_RUN_CHECK(words[i] == word(op, sector, i),
			      "sector %" PRIu64 ": torn data of operation %u", sector, op);
	return op;
}

static const uint32_t no_ids[] = {0};

static const uint32_t *ids_of(const struct model_sector *sector, unsigned *ret_count)
{
	*ret_count = sector->count ? sector->count : 1;
	return sector->count ? sector->ids : no_ids;
}

static bool is_seen(const struct model *model, uint32_t id, int64_t seen)
{
	return seen < 0 ? model->ops[id].zero : id == seen;
}

static void check_sector(const struct model *model, uint64_t sector, int64_t seen, uint64_t acked)
{
	unsigned count, from = 0;
	const uint32_t *ids = ids_of(&model->sectors[sector], &count);

	for (unsigned i = 0; i < count; i++) {
		const struct model_op *op = &model->ops[ids[i]];

		if (op->state == MODEL_ACKED && op->acked <= acked)
			from = i;
	}
	for (unsigned i = from; i < count; i++)
		if (is_seen(model, ids[i], seen))
			return;
	sim_run_fail("sector %" PRIu64 ": operation %" PRId64 " is seen, %u was acknowledged",
		     sector, seen, ids[from]);
}

void model_check_read(const struct model *model, uint64_t first, uint64_t count, const void *buffer,
		      uint64_t acked)
{
	const uint64_t *words = buffer;

	for (uint64_t i = 0; i < count; i++, words += WORDS)
		check_sector(model, first + i, identify(model, first + i, words), acked);
}

struct model_cut *model_cut_new(struct model *model, enum model_crash crash)
{
	struct model_cut *cut = checked(calloc(1, sizeof(*cut)));

	cut->model = model;
	cut->crash = crash;
	cut->width = model->acked - model->settled + 1;
	cut->fits = checked(calloc(cut->width + 1, sizeof(*cut->fits)));
	return cut;
}

/* The cuts [*ret_from, *ret_end) with which the i-th operation of a sector may be what is seen. */
static bool fits(const struct model_cut *cut, const uint32_t *ids, unsigned count, unsigned i,
		 uint64_t *ret_from, uint64_t *ret_end)
{
	const struct model *model = cut->model;
	const struct model_op *op = &model->ops[ids[i]];
	uint64_t from = model->settled, end = model->settled + cut->width;

	/* It must be there: acknowledged operations up to the cut are, but for what follows them.
	 */
	if (op->state == MODEL_ACKED && op->ordered && op->large && model->overtaking)
		from = MAX(from, op->begun);
	else if (op->state == MODEL_ACKED && op->ordered && op->acked > op->large)
		from = MAX(from, op->acked - op->large);
	/* Nothing that must be there may come after it. */
	for (unsigned later = i + 1; later < count; later++) {
		const struct model_op *next = &model->ops[ids[later]];

		if (next->state != MODEL_ACKED)
			continue;
		if (next->durable || next->acked <= model->flushed)
			return false;
		if (next->ordered)
			end = MIN(end, next->acked);
	}
	*ret_from = from - model->settled;
	*ret_end = end - model->settled;
	return from < end;
}

static void count_fit(struct model_cut *cut, uint64_t from, uint64_t end)
{
	if (from < end) {
		cut->fits[from]++;
		cut->fits[end]--;
	}
}

static void sector_settle(struct model *model, struct model_sector *sector, int64_t seen)
{
	if (sector->count == 0 && seen < 0)
		return;
	if (sector->count == 0)
		sector_add(model, sector, (uint32_t)seen);
	sector->ids[0] = seen < 0 ? 0 : (uint32_t)seen;
	sector->count = 1;
}

static void cut_sector(struct model_cut *cut, uint64_t number, int64_t seen)
{
	struct model *model = cut->model;
	struct model_sector *sector = &model->sectors[number];
	uint64_t from = 0, end = 0;
	bool any = false;
	unsigned count;
	const uint32_t *ids = ids_of(sector, &count);

	if (count == 1) {
		SIM_RUN_CHECK(is_seen(model, ids[0], seen),
			      "sector %" PRIu64 ": operation %" PRId64
			      " is seen after a crash, not %u",
			      number, seen, ids[0]);
		return;
	}
	cut->sectors++;
	/* The union of all that fit. From the last one on: each ends no later than the one before.
	 */
	for (unsigned i = count; i-- > 0;) {
		uint64_t next_from, next_end;

		if (!is_seen(model, ids[i], seen) ||
		    !fits(cut, ids, count, i, &next_from, &next_end))
			continue;
		if (!any || next_end < from) {
			count_fit(cut, from, end);
			from = next_from;
			end = next_end;
		}
		from = MIN(from, next_from);
		any = true;
	}
	count_fit(cut, from, end);
	SIM_RUN_CHECK(any,
		      "sector %" PRIu64 ": operation %" PRId64 " fits no cut (flushed %" PRIu64 ")",
		      number, seen, model->flushed);
	sector_settle(model, sector, seen);
}

void model_cut_add(struct model_cut *cut, uint64_t first, uint64_t count, const void *buffer)
{
	struct model *model = cut->model;
	const uint64_t *words = buffer;

	for (uint64_t i = first; i < first + count; i++, words += WORDS) {
		int64_t seen = identify(model, i, words);

		if (cut->crash == MODEL_PROCESS_CRASH) {
			check_sector(model, i, seen, model->acked);
			sector_settle(model, &model->sectors[i], seen);
		} else {
			cut_sector(cut, i, seen);
		}
	}
}

void model_cut_finish(struct model_cut *cut)
{
	struct model *model = cut->model;
	bool any = cut->crash == MODEL_PROCESS_CRASH;
	int64_t fitting = 0;

	for (uint64_t at = 0; at < cut->width; at++) {
		fitting += cut->fits[at];
		any |= fitting == (int64_t)cut->sectors;
	}
	SIM_RUN_CHECK(any, "after power loss the content is not a prefix of what was acknowledged");
	/* From now on everything that is there is settled. */
	for (uint32_t i = 0; i < model->op_count; i++) {
		model->ops[i].state = MODEL_ACKED;
		model->ops[i].acked = 0;
		model->ops[i].durable = true;
	}
	model->settled = model->acked;
	model->flushed = model->acked;
	free(cut->fits);
	free(cut);
}

void model_truncate(struct model *model, uint64_t sector)
{
	for (uint64_t i = sector; i < model->sector_count; i++)
		model->sectors[i].count = 0;
}
