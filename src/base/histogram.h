/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A latency histogram of fixed size: each power of two of nanoseconds is cut into 8 equal buckets,
 * up to 2^40 ns (18 minutes); longer ones share one more bucket. A percentile is at most 6.25 %
 * away from a value that was recorded. Sum, count, least and greatest value are exact.
 *
 * A plain struct without a lock: embedded by its owner, recorded and read on the owner's reactor.
 */
#include <stdint.h>

#define HISTOGRAM_SUB_BITS 3
#define HISTOGRAM_MAX_BITS 40
/* The last one counts what is longer. */
#define HISTOGRAM_BUCKETS \
	(((HISTOGRAM_MAX_BITS - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS) + 1)

struct histogram {
	uint64_t count;
	uint64_t sum_ns;
	uint64_t min_ns; /* UINT64_MAX while empty */
	uint64_t max_ns;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_init(struct histogram *histogram);
void histogram_record(struct histogram *histogram, uint64_t ns);
void histogram_merge(struct histogram *to, const struct histogram *from);

static inline uint64_t histogram_count(const struct histogram *histogram)
{
	return histogram->count;
}

static inline uint64_t histogram_sum_ns(const struct histogram *histogram)
{
	return histogram->sum_ns;
}

/* The value that `percent` (0 to 100) of all recorded ones do not exceed; 0 of an empty
 * histogram. */
uint64_t histogram_percentile_ns(const struct histogram *histogram, double percent);
/* How many were below `bound_ns`: exact where the bound is a power of two, else of the bucket's
 * start. */
uint64_t histogram_count_below(const struct histogram *histogram, uint64_t bound_ns);
