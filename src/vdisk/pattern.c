/* SPDX-License-Identifier: Apache-2.0 */
#include "vdisk/pattern.h"

#include "base/macros.h"

static unsigned slot_of(uint64_t block)
{
	return (unsigned)(block * UINT64_C(0x9E3779B97F4A7C15) >> 56);
}
_Static_assert(PATTERN_SLOTS == 256 && PATTERN_RUNS <= 256, "what slot_of() gives, and a byte");

void pattern_init(struct pattern *pattern)
{
	*pattern = (struct pattern){0};
	for (unsigned i = 0; i < PATTERN_RUNS; i++)
		pattern->runs[i].first = pattern->runs[i].end = UINT64_MAX;
}

/* The run that ends before `block`, or NULL. */
static struct pattern_run *find_before(struct pattern *pattern, uint64_t block)
{
	struct pattern_run *run = &pattern->runs[pattern->by_end[slot_of(block)]];

	return run->end == block ? run : NULL;
}

static struct pattern_run *find_after(struct pattern *pattern, uint64_t block)
{
	struct pattern_run *run = &pattern->runs[pattern->by_first[slot_of(block)]];

	return run->first == block ? run : NULL;
}

static void set_first(struct pattern *pattern, struct pattern_run *run, uint64_t first)
{
	run->first = first;
	pattern->by_first[slot_of(first)] = (uint8_t)(run - pattern->runs);
}

static void set_end(struct pattern *pattern, struct pattern_run *run, uint64_t end)
{
	run->end = end;
	pattern->by_end[slot_of(end)] = (uint8_t)(run - pattern->runs);
}

/* In the place of one that has not grown for a while; what that was is decided now. */
static struct pattern_run *begin(struct pattern *pattern, uint64_t first)
{
	struct pattern_run *run;

	while (pattern->runs[pattern->hand].grew) {
		pattern->runs[pattern->hand].grew = false;
		pattern->hand = (pattern->hand + 1) % PATTERN_RUNS;
	}
	run = &pattern->runs[pattern->hand];
	pattern->hand = (pattern->hand + 1) % PATTERN_RUNS;
	pattern->random_blocks += run->untold;
	*run = (struct pattern_run){0};
	set_first(pattern, run, first);
	return run;
}

/* `from` follows `to` without a gap. */
static void merge(struct pattern *pattern, struct pattern_run *to, struct pattern_run *from)
{
	set_end(pattern, to, from->end);
	to->writes = MIN(to->writes + from->writes, PATTERN_RUN_WRITES);
	to->untold += from->untold;
	*from = (struct pattern_run){.first = UINT64_MAX, .end = UINT64_MAX};
}

static bool judge(struct pattern *pattern)
{
	uint64_t all = pattern->sequential_blocks + pattern->random_blocks;
	bool before = pattern->sequential;

	if (all < PATTERN_WINDOW_BLOCKS)
		return false;
	pattern->sequential =
		pattern->sequential_blocks * PATTERN_SHARE >= all * (PATTERN_SHARE - 1);
	pattern->sequential_blocks = pattern->random_blocks = 0;
	return pattern->sequential != before;
}

/* The run that the write belongs to, with it. */
static struct pattern_run *join(struct pattern *pattern, uint64_t first, uint64_t end)
{
	struct pattern_run *before = find_before(pattern, first), *after = find_after(pattern, end);
	struct pattern_run *run = before ? before : after;

	if (run)
		run->grew = true;
	else
		run = begin(pattern, first);
	if (run == after)
		set_first(pattern, run, first);
	else
		set_end(pattern, run, end);
	if (before && after)
		merge(pattern, run, after);
	return run;
}

bool pattern_note(struct pattern *pattern, uint64_t first, uint64_t end)
{
	struct pattern_run *run;

	ASSERT(first < end && end < UINT64_MAX);
	run = join(pattern, first, end);
	run->writes = MIN(run->writes + 1, PATTERN_RUN_WRITES);
	run->untold += end - first;
	if (run->writes == PATTERN_RUN_WRITES || run->end - run->first >= PATTERN_RUN_BLOCKS) {
		pattern->sequential_blocks += run->untold;
		run->untold = 0;
	}
	return judge(pattern);
}
