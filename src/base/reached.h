/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * "Was this ever reached" counters for rare branches: REACHED("log.torn-tail"). Always compiled in;
 * the simulation run fails when a listed name was never reached. One static counter for each place.
 */
#include <stdint.h>

struct reached {
	const char *name;
	uint64_t count;
	struct reached *next;
	_Bool listed;
};

void reached_hit(struct reached *reached);

#define REACHED(label)                                           \
	do {                                                     \
		static struct reached reached_ = {.name = label}; \
		reached_hit(&reached_);                          \
	} while (0)

/* Sum over all places with that name. */
uint64_t reached_count(const char *name);
/* "name count" a line, sorted by name, to stdout. */
void reached_print(void);
