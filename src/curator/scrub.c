/* SPDX-License-Identifier: Apache-2.0 */
#include "curator/scrub.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/macros.h"

/* docs/format.md, "Scrub row" */
#define ROW_VERSION     3
#define TALLY_WORDS     7u
#define ROW_WORDS       (4 + 2 * TALLY_WORDS)
#define ROW_BYTES       (8 + 8 * ROW_WORDS)
#define ROW_2_BYTES     136
#define ROW_1_BYTES     120
#define FINDING_VERSION 2
#define FINDING_BYTES   72
/* In place of a vdisk_finding_kind. Programs that do not know them leave such findings out. */
#define KIND_LABEL   4
#define KIND_CATALOG 5
_Static_assert(VDISK_FINDING_INDEX < KIND_LABEL, "numbers of their own");

enum { RESULT_NONE, RESULT_PUT_RIGHT, RESULT_PENDING };

static struct catalog_key row_key(uint64_t pool_id)
{
	struct catalog_key key = catalog_key(CATALOG_SCRUB);

	catalog_key_add(&key, pool_id);
	return key;
}

static struct catalog_key finding_key(uint64_t pool_id, uint64_t number)
{
	struct catalog_key key = row_key(pool_id);

	catalog_key_add(&key, number);
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
				   &tally->put_right,     &tally->damaged,       &tally->left,
				   &tally->pending};

	return words[index];
}

static uint64_t *state_word(struct scrub_state *state, unsigned index)
{
	uint64_t *const words[] = {&state->since_wall_ns, &state->vdisk, &state->file,
				   &state->findings};

	if (index < 4)
		return words[index];
	index -= 4;
	return index < TALLY_WORDS ? tally_word(&state->now, index)
				   : tally_word(&state->last, index - TALLY_WORDS);
}

/* Version 2 did not have the last word of each tally. */
static uint64_t *state_word_2(struct scrub_state *state, unsigned index)
{
	return state_word(state, index < 10 ? index : index + 1);
}

/* Version 1 had neither the number of findings nor what is left, and a word of zeros at its end. */
static uint64_t *state_word_1(struct scrub_state *state, unsigned index)
{
	if (index < 3)
		return state_word(state, index);
	if (index < 8)
		return tally_word(&state->now, index - 3);
	return index < 13 ? tally_word(&state->last, index - 8) : NULL;
}

static int decode(const struct catalog_row *row, struct scrub_state *ret_state)
{
	static const struct {
		size_t bytes;
		uint64_t *(*word)(struct scrub_state *state, unsigned index);
	} versions[] = {
		{ROW_1_BYTES, state_word_1}, {ROW_2_BYTES, state_word_2}, {ROW_BYTES, state_word}};
	struct scrub_state state = {0};
	unsigned version = row->length > 8 ? row->value[0] : 0;

	if (version == 0 || version > ROW_VERSION || row->length != versions[version - 1].bytes ||
	    row->value[1] > SCRUB_PAUSED)
		return -EUCLEAN;
	state.phase = row->value[1];
	for (unsigned i = 0; i < (row->length - 8) / 8; i++) {
		uint64_t *word = versions[version - 1].word(&state, i);

		if (word)
			*word = get_le64(row->value + 8 + 8 * i);
	}
	if (state.findings > SCRUB_FINDINGS_MAX)
		return -EUCLEAN;
	*ret_state = state;
	return 0;
}

int scrub_load(struct catalog *catalog, uint64_t pool_id, struct scrub_state *ret_state)
{
	_cleanup_(catalog_row_done) struct catalog_row row = {0};
	const struct catalog_key key = row_key(pool_id);
	int r = catalog_get(catalog, &key, &row);

	if (r == -ENOENT) {
		*ret_state = (struct scrub_state){0};
		return 0;
	}
	if (r < 0)
		return r;
	r = decode(&row, ret_state);
	if (r < 0)
		log_error("scrub", "catalog row is damaged", "pool=%" PRIu64, pool_id);
	return r;
}

static void encode(const struct scrub_state *state, uint8_t value[ROW_BYTES])
{
	struct scrub_state copy = *state;

	memset(value, 0, ROW_BYTES);
	value[0] = ROW_VERSION;
	value[1] = (uint8_t)state->phase;
	for (unsigned i = 0; i < ROW_WORDS; i++)
		put_le64(value + 8 + 8 * i, *state_word(&copy, i));
}

static uint8_t kind_number(const struct scrub_finding *finding)
{
	switch (finding->subject) {
	case SCRUB_OF_LABEL:
		return KIND_LABEL;
	case SCRUB_OF_CATALOG:
		return KIND_CATALOG;
	default:
		return (uint8_t)finding->what.kind;
	}
}

static enum scrub_subject subject_of(uint8_t kind)
{
	return kind == KIND_LABEL     ? SCRUB_OF_LABEL
	       : kind == KIND_CATALOG ? SCRUB_OF_CATALOG
				      : SCRUB_OF_VDISK;
}

static void encode_finding(const struct scrub_finding *finding, uint8_t value[FINDING_BYTES])
{
	const struct vdisk_finding *what = &finding->what;

	memset(value, 0, FINDING_BYTES);
	value[0] = FINDING_VERSION;
	value[1] = kind_number(finding);
	value[2] = (uint8_t)what->use;
	value[3] = what->put_right ? RESULT_PUT_RIGHT
		   : what->pending ? RESULT_PENDING
				   : RESULT_NONE;
	put_le32(value + 4, (uint32_t)-what->error);
	put_le64(value + 8, finding->vdisk);
	put_le64(value + 16, what->disk);
	put_le64(value + 24, what->group);
	put_le32(value + 32, what->slot);
	put_le32(value + 36, what->slots);
	put_le64(value + 40, what->offset);
	put_le64(value + 48, what->bytes);
	put_le64(value + 56, what->file);
	put_le64(value + 64, finding->wall_ns);
}

static int decode_finding(const struct catalog_row *row, struct scrub_finding *ret_finding)
{
	const uint8_t *value = row->value;

	if (row->length != FINDING_BYTES || value[0] == 0 || value[0] > FINDING_VERSION ||
	    value[1] > KIND_CATALOG || value[2] > VDISK_USE_DEAD ||
	    value[3] > (value[0] == 1 ? RESULT_PUT_RIGHT : RESULT_PENDING) ||
	    get_le32(value + 4) > 4095)
		return -EUCLEAN;
	*ret_finding = (struct scrub_finding){
		.subject = subject_of(value[1]),
		.vdisk = get_le64(value + 8),
		.wall_ns = get_le64(value + 64),
		.what = {.kind = value[1] < KIND_LABEL ? value[1] : VDISK_FINDING_DATA,
			 .use = value[2],
			 .put_right = value[3] == RESULT_PUT_RIGHT,
			 .pending = value[3] == RESULT_PENDING,
			 .error = -(int)get_le32(value + 4),
			 .disk = get_le64(value + 16),
			 .group = get_le64(value + 24),
			 .slot = get_le32(value + 32),
			 .slots = get_le32(value + 36),
			 .offset = get_le64(value + 40),
			 .bytes = get_le64(value + 48),
			 .file = get_le64(value + 56)},
	};
	return 0;
}

int scrub_store(struct catalog *catalog, uint64_t pool_id, const struct scrub_state *state)
{
	uint8_t value[ROW_BYTES];
	const struct catalog_change change = {.kind = CATALOG_PUT,
					      .key = row_key(pool_id),
					      .value = value,
					      .length = sizeof(value)};

	encode(state, value);
	return catalog_commit(catalog, &change, 1);
}

/* `anew`: without the rows that there were. */
static int store_found(struct catalog *catalog, uint64_t pool_id, const struct scrub_state *next,
		       const struct scrub_finding *findings, size_t count, bool anew)
{
	_cleanup_free_ struct catalog_change *changes = calloc(count + 2, sizeof(*changes));
	_cleanup_free_ uint8_t *values = calloc(count + 1, FINDING_BYTES);
	uint64_t number = next->findings - count;
	uint8_t value[ROW_BYTES];
	size_t n = 0;

	if (!changes || !values)
		return -ENOMEM;
	if (anew)
		changes[n++] = (struct catalog_change){.kind = CATALOG_DELETE_PREFIX,
						       .key = row_key(pool_id)};
	for (size_t i = 0; i < count; i++) {
		encode_finding(&findings[i], values + i * FINDING_BYTES);
		changes[n++] = (struct catalog_change){.kind = CATALOG_PUT,
						       .key = finding_key(pool_id, ++number),
						       .value = values + i * FINDING_BYTES,
						       .length = FINDING_BYTES};
	}
	encode(next, value);
	changes[n++] = (struct catalog_change){.kind = CATALOG_PUT,
					       .key = row_key(pool_id),
					       .value = value,
					       .length = sizeof(value)};
	return catalog_commit(catalog, changes, n);
}

int scrub_store_found(struct catalog *catalog, uint64_t pool_id, struct scrub_state *state,
		      const struct scrub_finding *findings, size_t count)
{
	struct scrub_state next = *state;
	int r;

	ASSERT(state->findings <= SCRUB_FINDINGS_MAX);
	count = MIN(count, (size_t)(SCRUB_FINDINGS_MAX - state->findings));
	next.findings += count;
	r = store_found(catalog, pool_id, &next, findings, count, false);
	if (r == 0)
		*state = next;
	return r;
}

int scrub_replace_found(struct catalog *catalog, uint64_t pool_id, struct scrub_state *state,
			const struct scrub_finding *findings, size_t count)
{
	struct scrub_state next = *state;
	int r;

	next.findings = count = MIN(count, (size_t)SCRUB_FINDINGS_MAX);
	r = store_found(catalog, pool_id, &next, findings, count, true);
	if (r == 0)
		*state = next;
	return r;
}

void scrub_tally_add(struct scrub_tally *tally, const struct vdisk_finding *finding, int sign)
{
	uint64_t *word = finding->put_right ? &tally->put_right
			 : finding->pending ? &tally->pending
			 : finding->disk    ? &tally->left
					    : &tally->damaged;

	if (sign > 0)
		++*word;
	else if (*word > 0)
		--*word;
}

int scrub_begin(struct catalog *catalog, uint64_t pool_id, struct scrub_state *state,
		uint64_t wall_ns)
{
	struct scrub_state next = *state;
	uint8_t value[ROW_BYTES];
	const struct catalog_change changes[] = {
		{.kind = CATALOG_DELETE_PREFIX, .key = row_key(pool_id)},
		{.kind = CATALOG_PUT,
		 .key = row_key(pool_id),
		 .value = value,
		 .length = sizeof(value)},
	};
	int r;

	next.phase = SCRUB_RUNNING;
	next.vdisk = next.file = next.findings = 0;
	next.now = (struct scrub_tally){.begun_wall_ns = wall_ns};
	encode(&next, value);
	r = catalog_commit(catalog, changes, ARRAY_SIZE(changes));
	if (r == 0)
		*state = next;
	return r;
}

void scrub_end(struct scrub_state *state, uint64_t wall_ns)
{
	state->phase = SCRUB_IDLE;
	state->now.ended_wall_ns = wall_ns;
	state->last = state->now;
}

int scrub_get_findings(struct catalog *catalog, uint64_t pool_id,
		       struct scrub_finding **ret_findings, size_t *ret_count)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	const struct catalog_key prefix = row_key(pool_id);
	struct scrub_finding *findings;
	size_t count = 0;
	/* The state's row comes first. */
	int r = catalog_scan(catalog, &prefix, &prefix, SCRUB_FINDINGS_MAX, &rows);

	if (r < 0)
		return r;
	findings = calloc(rows.count + 1, sizeof(*findings));
	if (!findings)
		return -ENOMEM;
	for (size_t i = 0; i < rows.count; i++) {
		if (decode_finding(&rows.rows[i], &findings[count]) == 0)
			count++;
		else
			log_error("scrub", "catalog row of a finding is damaged", "pool=%" PRIu64,
				  pool_id);
	}
	*ret_findings = findings;
	*ret_count = count;
	return 0;
}

int scrub_forget(struct catalog *catalog, uint64_t pool_id)
{
	const struct catalog_change change = {.kind = CATALOG_DELETE_PREFIX,
					      .key = row_key(pool_id)};

	return catalog_commit(catalog, &change, 1);
}

bool scrub_is_due(const struct scrub_state *state, uint64_t wall_ns, uint64_t interval_ns)
{
	uint64_t from = MAX(state->since_wall_ns, state->last.ended_wall_ns);

	return state->phase == SCRUB_IDLE && interval_ns && wall_ns > from &&
	       wall_ns - from >= interval_ns;
}
