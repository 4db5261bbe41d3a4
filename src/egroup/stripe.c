/* SPDX-License-Identifier: Apache-2.0 */
#include "egroup/stripe.h"

#include <string.h>

#include "base/macros.h"

static void note(struct egroup_stripe *stripe, uint64_t disk)
{
	unsigned at = 0;

	while (at < stripe->count && stripe->disks[at] != disk)
		at++;
	if (at == ARRAY_SIZE(stripe->disks))
		at--; /* the oldest goes */
	else if (at == stripe->count)
		stripe->count++;
	memmove(&stripe->disks[1], &stripe->disks[0], at * sizeof(stripe->disks[0]));
	stripe->disks[0] = disk;
}

void egroup_stripe_note(struct egroup_stripe *stripe, const struct pool_copies *copies)
{
	for (unsigned i = copies->count; i > 0; i--)
		note(stripe, copies->disks[i - 1]);
}

void egroup_stripe_want(const struct egroup_stripe *stripe, unsigned width, struct pool_want *want)
{
	want->recent = stripe->disks;
	want->recent_count = width > want->copies ? MIN(stripe->count, width - want->copies) : 0;
}
