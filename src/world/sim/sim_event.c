/* SPDX-License-Identifier: Apache-2.0 */
#include "world/sim/sim_event.h"

#include <stdlib.h>

#include "base/macros.h"

void sim_event_done(struct sim_heap *heap)
{
	free(heap->entries);
	*heap = (struct sim_heap){0};
}

static bool before(const struct sim_heap_entry *a, const struct sim_heap_entry *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->tie < b->tie;
}

static void place(struct sim_heap *heap, size_t index, struct sim_heap_entry entry)
{
	heap->entries[index] = entry;
	entry.event->index = (uint32_t)index;
}

static void sift_up(struct sim_heap *heap, size_t index, struct sim_heap_entry entry)
{
	while (index > 1 && before(&entry, &heap->entries[index / 2])) {
		place(heap, index, heap->entries[index / 2]);
		index /= 2;
	}
	place(heap, index, entry);
}

static void sift_down(struct sim_heap *heap, size_t index, struct sim_heap_entry entry)
{
	for (;;) {
		size_t child = index * 2;

		if (child > heap->count)
			break;
		if (child < heap->count &&
		    before(&heap->entries[child + 1], &heap->entries[child]))
			child++;
		if (!before(&heap->entries[child], &entry))
			break;
		place(heap, index, heap->entries[child]);
		index = child;
	}
	place(heap, index, entry);
}

static void sift(struct sim_heap *heap, size_t index, struct sim_heap_entry entry)
{
	if (index > 1 && before(&entry, &heap->entries[index / 2]))
		sift_up(heap, index, entry);
	else
		sift_down(heap, index, entry);
}

static void grow(struct sim_heap *heap)
{
	size_t room = heap->room ? heap->room * 2 : 64;

	heap->entries = realloc(heap->entries, room * sizeof(*heap->entries));
	ASSERT(heap->entries);
	heap->room = room;
}

void sim_event_schedule(struct sim_heap *heap, struct sim_event *event, uint64_t due_ns,
			uint64_t tie)
{
	struct sim_heap_entry entry = {.due_ns = due_ns, .tie = tie, .event = event};

	if (event->index) {
		sift(heap, event->index, entry);
		return;
	}
	if (heap->count + 2 > heap->room)
		grow(heap);
	heap->count++;
	sift_up(heap, heap->count, entry);
}

void sim_event_remove(struct sim_heap *heap, struct sim_event *event)
{
	size_t index = event->index;
	struct sim_heap_entry last;

	if (index == 0)
		return;
	ASSERT(index <= heap->count && heap->entries[index].event == event);
	event->index = 0;
	last = heap->entries[heap->count--];
	if (index <= heap->count)
		sift(heap, index, last);
}

uint64_t sim_event_next_ns(const struct sim_heap *heap)
{
	return heap->count ? heap->entries[1].due_ns : UINT64_MAX;
}

uint64_t sim_event_due_ns(const struct sim_heap *heap, const struct sim_event *event)
{
	return event->index ? heap->entries[event->index].due_ns : UINT64_MAX;
}

struct sim_event *sim_event_pop(struct sim_heap *heap)
{
	struct sim_event *event;

	if (heap->count == 0)
		return NULL;
	event = heap->entries[1].event;
	sim_event_remove(heap, event);
	return event;
}
