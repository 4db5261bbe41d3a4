/* SPDX-License-Identifier: Apache-2.0 */
#include "registers.h"

#include <string.h>

#include "base/macros.h"

enum { DID = 1, DID_NOT = 2 };

void register_init(struct register_state *state, uint64_t value)
{
	memset(state->pending, 0, sizeof(state->pending));
	state->configs[0] = (struct register_config){.value = value};
	state->count = 1;
}

int register_begin(struct register_state *state, enum register_kind kind, uint64_t expected,
		   uint64_t value)
{
	for (unsigned i = 0; i < REGISTER_PENDING_MAX; i++) {
		if (state->pending[i].used)
			continue;
		state->pending[i] = (struct register_operation){true, kind, expected, value};
		return (int)i;
	}
	return -1;
}

static void add(struct register_state *state, const struct register_config *config)
{
	for (unsigned i = 0; i < state->count; i++)
		if (memcmp(&state->configs[i], config, sizeof(*config)) == 0)
			return;
	ASSERT(state->count < REGISTER_CONFIGS_MAX);
	state->configs[state->count++] = *config;
}

static struct register_config apply(struct register_config config,
				    const struct register_operation *operation, unsigned number)
{
	bool writes = operation->kind == REGISTER_WRITE ||
		      (operation->kind == REGISTER_SWAP && config.value == operation->expected);

	config.results[number] = operation->kind == REGISTER_READ ? config.value : writes;
	if (writes)
		config.value = operation->value;
	config.happened |= 1u << number;
	return config;
}

/* All that may have happened by now. */
static void expand(struct register_state *state)
{
	for (unsigned i = 0; i < state->count; i++) {
		for (unsigned number = 0; number < REGISTER_PENDING_MAX; number++) {
			struct register_config next;

			if (!state->pending[number].used ||
			    state->configs[i].happened & 1u << number)
				continue;
			next = apply(state->configs[i], &state->pending[number], number);
			add(state, &next);
		}
	}
}

/* Keeps the configurations in which it happened, or not, as `happened` says, and had that result.
 */
static void settle(struct register_state *state, unsigned number, unsigned happened,
		   uint64_t result)
{
	unsigned count = state->count;

	state->count = 0;
	for (unsigned i = 0; i < count; i++) {
		struct register_config config = state->configs[i];
		bool it_did = config.happened & 1u << number;

		if (!(happened & (it_did ? DID : DID_NOT)) ||
		    (happened == DID && config.results[number] != result))
			continue;
		config.happened &= ~(1u << number);
		config.results[number] = 0;
		add(state, &config);
	}
	state->pending[number].used = false;
}

bool register_end(struct register_state *state, unsigned number, uint64_t result)
{
	ASSERT(state->pending[number].used);
	expand(state);
	settle(state, number, DID, result);
	return state->count > 0;
}

bool register_end_refused(struct register_state *state, unsigned number)
{
	ASSERT(state->pending[number].used);
	settle(state, number, DID_NOT, 0);
	return state->count > 0;
}

void register_end_unknown(struct register_state *state, unsigned number)
{
	ASSERT(state->pending[number].used);
	expand(state);
	settle(state, number, DID | DID_NOT, 0);
}
