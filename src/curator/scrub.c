/* SPDX-License-Identifier: Apache-2.0 */
#include "curator/scrub.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/macros.h"

#define ROW_VERSION 1
#define ROW_WORDS   14 /* docs/format.md, "Scrub row" */
#define ROW_BYTES   (8 + 8 * ROW_WORDS)

static struct catalog_key row_key(uint64_t pool_id)
{
	struct catalog_key key = catalog_key(CATALOG_SCRUB);

	catalog_key_add(&key, pool_id);
	return key;
}

const char *scrub_phase_name(enum scrub_phase phase)
{
	static const char *const names[] = {"idle", "running", "paused"};

	ASSERT(phase < ARRAY_SIZE(names));
	return names[phase];
}

static uint64_t *tally_word(struct scrub_tally *tally, unsigned index)
{
	uint64_t *const words[] = {&tally->begun_wall_ns, &tally->ended_wall_ns, &tally->bytes,
				   &tally->put_right, &tally->damaged};

	return words[index];
}

static uint64_t *state_word(struct scrub_state *state, unsigned index)
{
	if (index == 0)
		return &state->since_wall_ns;
	if (index < 3)
		return index == 1 ? &state->vdisk : &state->file;
	if (index < 8)
		return tally_word(&state->now, index - 3);
	return index < 13 ? tally_word(&state->last, index - 8) : NULL; /* the rest is zero */
}

int scrub_load(struct catalog *catalog, uint64_t pool_id, struct scrub_state *ret_state)
{
	_cleanup_(catalog_row_done) struct catalog_row row = {0};
	const struct catalog_key key = row_key(pool_id);
	struct scrub_state state = {0};
	int r = catalog_get(catalog, &key, &row);

	if (r == 0 && (row.length != ROW_BYTES || row.value[0] != ROW_VERSION ||
		       row.value[1] > SCRUB_PAUSED)) {
		log_error("scrub", "catalog row is damaged", "pool=%" PRIu64, pool_id);
		return -EUCLEAN;
	}
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0)
		state.phase = row.value[1];
	for (unsigned i = 0; r == 0 && i < ROW_WORDS; i++)
		if (state_word(&state, i))
			*state_word(&state, i) = get_le64(row.value + 8 + 8 * i);
	*ret_state = state;
	return 0;
}

int scrub_store(struct catalog *catalog, uint64_t pool_id, const struct scrub_state *state)
{
	struct scrub_state copy = *state;
	uint8_t value[ROW_BYTES] = {ROW_VERSION, (uint8_t)state->phase};
	const struct catalog_change change = {.kind = CATALOG_PUT,
					      .key = row_key(pool_id),
					      .value = value,
					      .length = sizeof(value)};

	for (unsigned i = 0; i < ROW_WORDS; i++)
		if (state_word(&copy, i))
			put_le64(value + 8 + 8 * i, *state_word(&copy, i));
	return catalog_commit(catalog, &change, 1);
}

void scrub_begin(struct scrub_state *state, uint64_t wall_ns)
{
	state->phase = SCRUB_RUNNING;
	state->vdisk = state->file = 0;
	state->now = (struct scrub_tally){.begun_wall_ns = wall_ns};
}

void scrub_end(struct scrub_state *state, uint64_t wall_ns)
{
	state->phase = SCRUB_IDLE;
	state->now.ended_wall_ns = wall_ns;
	state->last = state->now;
}

bool scrub_is_due(const struct scrub_state *state, uint64_t wall_ns, uint64_t interval_ns)
{
	uint64_t from = MAX(state->since_wall_ns, state->last.ended_wall_ns);

	return state->phase == SCRUB_IDLE && interval_ns && wall_ns > from &&
	       wall_ns - from >= interval_ns;
}
