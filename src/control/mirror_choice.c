/* SPDX-License-Identifier: Apache-2.0 */
#include "control/mirror_choice.h"

#include "base/macros.h"

struct weight { /* less is better, the first that differs decides */
	unsigned parts[4];
};

static struct weight weigh(const struct mirror_candidate *candidates, size_t count, size_t index)
{
	const struct mirror_candidate *one = &candidates[index];
	struct weight weight = {{one->rank, 0, 0, !one->has_one}};

	for (size_t i = 0; i < count; i++) {
		if (!candidates[i].chosen || candidates[i].pool != one->pool)
			continue;
		weight.parts[1]++;
		weight.parts[2] += candidates[i].tier == one->tier;
	}
	return weight;
}

static bool is_less(const struct weight *a, const struct weight *b)
{
	for (size_t i = 0; i < ARRAY_SIZE(a->parts); i++)
		if (a->parts[i] != b->parts[i])
			return a->parts[i] < b->parts[i];
	return false;
}

void mirror_choose(struct mirror_candidate *candidates, size_t count, size_t most)
{
	for (size_t i = 0; i < count; i++)
		candidates[i].chosen = false;
	for (size_t n = 0; n < MIN(most, count); n++) {
		struct weight best, weight;
		size_t at = count;

		for (size_t i = 0; i < count; i++) {
			if (candidates[i].chosen)
				continue;
			weight = weigh(candidates, count, i);
			if (at == count || is_less(&weight, &best)) {
				at = i;
				best = weight;
			}
		}
		candidates[at].chosen = true;
	}
}
