/* SPDX-License-Identifier: Apache-2.0 */
#include "base/histogram.h"

#include <string.h>

#include "base/macros.h"

#define SUB_COUNT (1u << HISTOGRAM_SUB_BITS)

/* Values below SUB_COUNT have a bucket each; above, the top bit and the three that follow
 * choose. */
static unsigned bucket_of(uint64_t ns)
{
	unsigned top, shift;

	if (ns < SUB_COUNT)
		return (unsigned)ns;
	if (ns >> HISTOGRAM_MAX_BITS)
		return HISTOGRAM_BUCKETS - 1;
	top = 63 - (unsigned)__builtin_clzll(ns);
	shift = top - HISTOGRAM_SUB_BITS;
	return (shift + 1) * SUB_COUNT + (unsigned)(ns >> shift) - SUB_COUNT;
}

static uint64_t bucket_width(unsigned bucket)
{
	return bucket < 2 * SUB_COUNT ? 1 : UINT64_C(1) << (bucket / SUB_COUNT - 1);
}

static uint64_t bucket_start(unsigned bucket)
{
	if (bucket < SUB_COUNT)
		return bucket;
	return (uint64_t)(SUB_COUNT + bucket % SUB_COUNT) * bucket_width(bucket);
}

void histogram_init(struct histogram *histogram)
{
	memset(histogram, 0, sizeof(*histogram));
	histogram->min_ns = UINT64_MAX;
}

void histogram_record(struct histogram *histogram, uint64_t ns)
{
	histogram->count++;
	histogram->sum_ns += ns;
	histogram->min_ns = MIN(histogram->min_ns, ns);
	histogram->max_ns = MAX(histogram->max_ns, ns);
	histogram->buckets[bucket_of(ns)]++;
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
	to->count += from->count;
	to->sum_ns += from->sum_ns;
	to->min_ns = MIN(to->min_ns, from->min_ns);
	to->max_ns = MAX(to->max_ns, from->max_ns);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		to->buckets[i] += from->buckets[i];
}

uint64_t histogram_percentile_ns(const struct histogram *histogram, double percent)
{
	double rank = (double)histogram->count * MIN(MAX(percent, 0.0), 100.0) / 100.0;
	uint64_t seen = 0;
	unsigned i = 0;

	if (histogram->count == 0)
		return 0;
	if (rank < 1.0)
		return histogram->min_ns;
	while (i < HISTOGRAM_BUCKETS - 1 && (double)(seen += histogram->buckets[i]) < rank)
		i++;
	if (i == HISTOGRAM_BUCKETS - 1)
		return histogram->max_ns;
	return MAX(histogram->min_ns,
		   MIN(histogram->max_ns, bucket_start(i) + bucket_width(i) / 2));
}

uint64_t histogram_count_below(const struct histogram *histogram, uint64_t bound_ns)
{
	unsigned end = bucket_of(bound_ns);
	uint64_t count = 0;

	if (bound_ns > histogram->max_ns)
		return histogram->count;
	for (unsigned i = 0; i < end; i++)
		count += histogram->buckets[i];
	return count;
}
