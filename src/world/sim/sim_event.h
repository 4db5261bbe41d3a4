/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The queue of things that will happen: a binary heap ordered by virtual time, ties by a random
 * number that the caller draws. Events are embedded in what they belong to.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sim_event_type {
	SIM_EVENT_OP,   /* in a struct sim_op */
	SIM_EVENT_TURN, /* in a struct world_port */
};

struct sim_event {
	uint32_t index; /* place in the heap, from 1; 0 = not queued */
	uint8_t type;
	uint8_t bytes[3]; /* for the owner */
};

struct sim_heap_entry {
	uint64_t due_ns;
	uint64_t tie;
	struct sim_event *event;
};

struct sim_heap {
	struct sim_heap_entry *entries; /* entries[0] is not used */
	size_t count, room;
};

void sim_event_done(struct sim_heap *heap);
/* Queues the event, or moves it when it is queued. */
void sim_event_schedule(struct sim_heap *heap, struct sim_event *event, uint64_t due_ns,
			uint64_t tie);
/* No effect when it is not queued. */
void sim_event_remove(struct sim_heap *heap, struct sim_event *event);
/* Of the first event; UINT64_MAX when there is none. */
uint64_t sim_event_next_ns(const struct sim_heap *heap);
uint64_t sim_event_due_ns(const struct sim_heap *heap, const struct sim_event *event);
/* NULL when there is none. */
struct sim_event *sim_event_pop(struct sim_heap *heap);
