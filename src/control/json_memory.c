/* SPDX-License-Identifier: Apache-2.0 */
#include "control/json_memory.h"

#include <stdlib.h>

#include <jansson.h>

static _Atomic uint64_t failures, countdown;

static void *watched_malloc(size_t size)
{
	void *memory = NULL;

	if (countdown == 0 || --countdown > 0)
		memory = malloc(size);
	if (!memory)
		failures++;
	return memory;
}

void json_memory_watch(void)
{
	json_set_alloc_funcs(watched_malloc, free);
}

uint64_t json_memory_failures(void)
{
	return failures;
}

void json_memory_fail_nth(uint64_t n)
{
	countdown = n;
}
