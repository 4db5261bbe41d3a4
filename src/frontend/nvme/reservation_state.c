/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invariants: type is 0, or that of all registrants with at least one of them, or another whose
 * holder is a registrant in use. No two registrants are the same host.
 */
#include "frontend/nvme/reservation_state.h"

#include <nvme/types.h>
#include <string.h>

#include "base/endian.h"
#include "base/macros.h"
#include "frontend/nvme/wire.h"

#define IGNORE_KEY 0x8u
#define NONE       UINT32_MAX

static bool state_is_all(uint8_t type)
{
	return type == NVME_RESERVATION_RTYPE_WEAR || type == NVME_RESERVATION_RTYPE_EAAR;
}

static bool state_is_registrants(uint8_t type)
{
	return type >= NVME_RESERVATION_RTYPE_WERO;
}

static bool state_is_type(uint32_t type)
{
	return type >= NVME_RESERVATION_RTYPE_WE && type <= NVME_RESERVATION_RTYPE_EAAR;
}

static uint32_t state_find(const struct nvme_reservation_state *state, const uint8_t host[16])
{
	for (uint32_t i = 0; i < NVME_REGISTRANTS_MAX; i++)
		if (state->registrants[i].used && memcmp(state->registrants[i].host, host, 16) == 0)
			return i;
	return NONE;
}

static unsigned state_count(const struct nvme_reservation_state *state)
{
	unsigned count = 0;

	for (uint32_t i = 0; i < NVME_REGISTRANTS_MAX; i++)
		count += state->registrants[i].used;
	return count;
}

static bool state_holds(const struct nvme_reservation_state *state, uint32_t index)
{
	return state->type && index != NONE &&
	       (state_is_all(state->type) || state->holder == index);
}

bool nvme_reservation_state_check(const struct nvme_reservation_state *state)
{
	if (state->version == 0)
		return true;
	if (state->version != NVME_RESERVATION_VERSION ||
	    state->type > NVME_RESERVATION_RTYPE_EAAR || state->holder >= NVME_REGISTRANTS_MAX)
		return false;
	if (state_is_all(state->type))
		return state_count(state) > 0;
	return state->type == 0 || state->registrants[state->holder].used;
}

unsigned nvme_reservation_state_access(const struct nvme_reservation_state *state,
				       const uint8_t host[16])
{
	uint32_t index = state_find(state, host);
	bool reads = state->type == NVME_RESERVATION_RTYPE_WE ||
		     state->type == NVME_RESERVATION_RTYPE_WERO ||
		     state->type == NVME_RESERVATION_RTYPE_WEAR;

	if (!state->type || state_holds(state, index) ||
	    (index != NONE && state_is_registrants(state->type)))
		return NVME_ACCESS_READ | NVME_ACCESS_WRITE;
	return reads ? NVME_ACCESS_READ : 0;
}

static void state_release(struct nvme_reservation_state *state)
{
	state->type = 0;
	state->holder = 0;
}

static void state_remove(struct nvme_reservation_state *state, uint32_t index)
{
	bool held = state_holds(state, index);

	memset(&state->registrants[index], 0, sizeof(state->registrants[index]));
	if (held && (!state_is_all(state->type) || state_count(state) == 0))
		state_release(state);
}

static uint16_t state_add(struct nvme_reservation_state *state,
			  const struct nvme_reservation_command *command)
{
	for (uint32_t i = 0; i < NVME_REGISTRANTS_MAX; i++) {
		struct nvme_registrant *registrant = &state->registrants[i];

		if (registrant->used)
			continue;
		*registrant = (struct nvme_registrant){
			.key = command->keys[1],
			.cntlid = command->cntlid,
			.used = 1,
		};
		memcpy(registrant->host, command->host, sizeof(registrant->host));
		return 0;
	}
	return NVME_SC_CAP_EXCEEDED;
}

static uint16_t state_register(struct nvme_reservation_state *state,
			       const struct nvme_reservation_command *command)
{
	uint32_t index = state_find(state, command->host);
	bool ignores = command->cdw10 & IGNORE_KEY;
	uint16_t status = 0;

	switch (command->cdw10 & 7) {
	case NVME_RESERVATION_RREGA_REGISTER_KEY:
		if (command->keys[1] == 0)
			return NVME_SC_INVALID_FIELD;
		if (index == NONE)
			status = state_add(state, command);
		else if (state->registrants[index].key != command->keys[1])
			return NVME_SC_RESERVATION_CONFLICT;
		break;
	case NVME_RESERVATION_RREGA_UNREGISTER_KEY:
		if (index == NONE ||
		    (!ignores && state->registrants[index].key != command->keys[0]))
			return NVME_SC_RESERVATION_CONFLICT;
		state_remove(state, index);
		break;
	case NVME_RESERVATION_RREGA_REPLACE_KEY:
		if (command->keys[1] == 0)
			return NVME_SC_INVALID_FIELD;
		if (index == NONE && ignores)
			status = state_add(state, command);
		else if (index == NONE ||
			 (!ignores && state->registrants[index].key != command->keys[0]))
			return NVME_SC_RESERVATION_CONFLICT;
		else
			state->registrants[index].key = command->keys[1];
		break;
	default:
		return NVME_SC_INVALID_FIELD;
	}
	if (!status)
		state->generation++;
	return status;
}

/* Removes the others with that key (any when `all`). True when somebody had it. */
static bool state_preempt_key(struct nvme_reservation_state *state, uint32_t self, uint64_t key,
			      bool all)
{
	bool found = false;

	for (uint32_t i = 0; i < NVME_REGISTRANTS_MAX; i++) {
		if (!state->registrants[i].used || (!all && state->registrants[i].key != key))
			continue;
		found = true;
		if (i != self)
			state_remove(state, i);
	}
	return found;
}

static uint16_t state_preempt(struct nvme_reservation_state *state, uint32_t self, uint8_t type,
			      uint64_t key)
{
	bool all = state_is_all(state->type);
	bool takes = state->type && (all ? key == 0 : state->registrants[state->holder].key == key);

	if (key == 0 && !all)
		return NVME_SC_INVALID_FIELD;
	if (!state_preempt_key(state, self, key, all && key == 0))
		return NVME_SC_RESERVATION_CONFLICT;
	if (takes) {
		state->type = type;
		state->holder = state_is_all(type) ? 0 : self;
	}
	state->generation++;
	return 0;
}

static uint16_t state_acquire(struct nvme_reservation_state *state, uint32_t self,
			      const struct nvme_reservation_command *command)
{
	uint32_t type = command->cdw10 >> 8 & 0xff;

	if (!state_is_type(type))
		return NVME_SC_INVALID_FIELD;
	switch (command->cdw10 & 7) {
	case NVME_RESERVATION_RACQA_ACQUIRE:
		if (state->type)
			return state_holds(state, self) && state->type == type
				       ? 0
				       : NVME_SC_RESERVATION_CONFLICT;
		state->type = (uint8_t)type;
		state->holder = state_is_all(state->type) ? 0 : self;
		return 0;
	case NVME_RESERVATION_RACQA_PREEMPT:
	case NVME_RESERVATION_RACQA_PREEMPT_AND_ABORT:
		return state_preempt(state, self, (uint8_t)type, command->keys[1]);
	default:
		return NVME_SC_INVALID_FIELD;
	}
}

static uint16_t state_give_back(struct nvme_reservation_state *state, uint32_t self,
				const struct nvme_reservation_command *command)
{
	switch (command->cdw10 & 7) {
	case NVME_RESERVATION_RRELA_RELEASE:
		if (!state_holds(state, self))
			return 0;
		if (state->type != (command->cdw10 >> 8 & 0xff))
			return NVME_SC_INVALID_FIELD;
		state_release(state);
		return 0;
	case NVME_RESERVATION_RRELA_CLEAR:
		memset(state->registrants, 0, sizeof(state->registrants));
		state_release(state);
		state->generation++;
		return 0;
	default:
		return NVME_SC_INVALID_FIELD;
	}
}

static uint16_t state_execute(struct nvme_reservation_state *state,
			      const struct nvme_reservation_command *command)
{
	uint32_t self = state_find(state, command->host);

	if (command->opcode == nvme_cmd_resv_register)
		return state_register(state, command);
	if (self == NONE ||
	    (!(command->cdw10 & IGNORE_KEY) && state->registrants[self].key != command->keys[0]))
		return NVME_SC_RESERVATION_CONFLICT;
	if (command->opcode == nvme_cmd_resv_acquire)
		return state_acquire(state, self, command);
	return state_give_back(state, self, command);
}

/* The controller's entry, else a free one, else any: there are as many as can be registered. */
static struct nvme_reservation_result *state_result(struct nvme_reservation_state *state,
						    uint16_t cntlid)
{
	struct nvme_reservation_result *found = &state->results[cntlid % NVME_REGISTRANTS_MAX];

	for (uint32_t i = NVME_REGISTRANTS_MAX; i-- > 0;) {
		if (state->results[i].used && state->results[i].cntlid == cntlid)
			return &state->results[i];
		if (!state->results[i].used)
			found = &state->results[i];
	}
	return found;
}

uint16_t nvme_reservation_state_run(struct nvme_reservation_state *state,
				    const struct nvme_reservation_command *command)
{
	struct nvme_reservation_result *result = state_result(state, command->cntlid);

	if (result->used && result->cntlid == command->cntlid && result->epoch == command->epoch &&
	    result->sqid == command->sqid && result->sequence == command->sequence)
		return result->status;
	state->version = NVME_RESERVATION_VERSION;
	*result = (struct nvme_reservation_result){
		.sequence = command->sequence,
		.epoch = command->epoch,
		.sqid = command->sqid,
		.cntlid = command->cntlid,
		.status = state_execute(state, command),
		.used = 1,
	};
	return result->status;
}

enum nvme_reservation_notice nvme_reservation_state_notice(
	const struct nvme_reservation_state *before, const struct nvme_reservation_state *after,
	const struct nvme_reservation_command *command, const uint8_t host[16])
{
	bool was = state_find(before, host) != NONE, is = state_find(after, host) != NONE;
	bool clears = command->opcode == nvme_cmd_resv_release &&
		      (command->cdw10 & 7) == NVME_RESERVATION_RRELA_CLEAR;

	if (!was || memcmp(host, command->host, 16) == 0)
		return NVME_NOTICE_NONE;
	if (!is)
		return clears ? NVME_NOTICE_RESERVATION_PREEMPTED
			      : NVME_NOTICE_REGISTRATION_PREEMPTED;
	if (before->type && state_is_registrants(before->type) && after->type != before->type)
		return NVME_NOTICE_RESERVATION_RELEASED;
	return NVME_NOTICE_NONE;
}

static void state_put_registrant(const struct nvme_reservation_state *state, uint32_t index,
				 bool extended, unsigned char *at)
{
	const struct nvme_registrant *registrant = &state->registrants[index];

	put_le16(at, registrant->cntlid);
	at[2] = state_holds(state, index);
	if (extended) {
		put_le64(at + 8, registrant->key);
		memcpy(at + 16, registrant->host, 16);
	} else {
		memcpy(at + 8, registrant->host, 8);
		put_le64(at + 16, registrant->key);
	}
}

uint32_t nvme_reservation_state_report(const struct nvme_reservation_state *state, bool extended,
				       void *buffer, uint32_t size)
{
	uint32_t head = extended ? 64 : 24, each = extended ? 64 : 24, length = head;
	unsigned char *at = buffer;

	ASSERT(size >= head + NVME_REGISTRANTS_MAX * each);
	put_le32(at, state->generation);
	at[4] = state->type;
	put_le16(at + 5, (uint16_t)state_count(state));
	at[9] = 1; /* persists */
	for (uint32_t i = 0; i < NVME_REGISTRANTS_MAX; i++) {
		if (!state->registrants[i].used)
			continue;
		state_put_registrant(state, i, extended, at + length);
		length += each;
	}
	return length;
}
