/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters register themselves at their first hit, in a list that only grows, so that hits from
 * several threads need no lock.
 */
#include "base/reached.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

static struct reached *reached_list;

void reached_hit(struct reached *reached)
{
	struct reached *head;

	__atomic_fetch_add(&reached->count, 1, __ATOMIC_RELAXED);
	if (LIKELY(__atomic_load_n(&reached->listed, __ATOMIC_RELAXED)))
		return;
	if (__atomic_exchange_n(&reached->listed, 1, __ATOMIC_ACQ_REL))
		return;
	head = __atomic_load_n(&reached_list, __ATOMIC_RELAXED);
	do
		reached->next = head;
	while (!__atomic_compare_exchange_n(&reached_list, &head, reached, 1, __ATOMIC_RELEASE,
					    __ATOMIC_RELAXED));
}

uint64_t reached_count(const char *name)
{
	struct reached *reached = __atomic_load_n(&reached_list, __ATOMIC_ACQUIRE);
	uint64_t sum = 0;

	for (; reached; reached = reached->next)
		if (strcmp(reached->name, name) == 0)
			sum += __atomic_load_n(&reached->count, __ATOMIC_RELAXED);
	return sum;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void reached_print(void)
{
	struct reached *head = __atomic_load_n(&reached_list, __ATOMIC_ACQUIRE);
	_cleanup_free_ const char **names = NULL;
	size_t count = 0, i = 0;

	for (struct reached *r = head; r; r = r->next)
		count++;
	if (count == 0)
		return;
	names = calloc(count, sizeof(*names));
	ASSERT(names);
	for (struct reached *r = head; r; r = r->next)
		names[i++] = r->name;
	qsort(names, count, sizeof(*names), compare_names);
	for (i = 0; i < count; i++)
		if (i == 0 || strcmp(names[i - 1], names[i]) != 0)
			printf("%s %" PRIu64 "\n", names[i], reached_count(names[i]));
}
