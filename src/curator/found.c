/* SPDX-License-Identifier: Apache-2.0 */
#include "curator/found.h"

#include "base/macros.h"

static void count_untold(struct scrub_found *found, const struct vdisk_finding *finding)
{
	if (finding->put_right) {
		found->untold++;
		return;
	}
	if (finding->file != found->last_file) {
		found->untold += found->last_untold;
		found->last_untold = 0;
		found->last_file = finding->file;
	}
	found->last_untold++;
}

void scrub_found_add(struct scrub_found *found, const struct vdisk_finding *finding)
{
	ASSERT(found->count <= SCRUB_FOUND_MAX);
	if (found->count == SCRUB_FOUND_MAX)
		count_untold(found, finding);
	else
		found->findings[found->count++].what = *finding;
}

void scrub_found_add_fact(struct scrub_found *found, const struct scrub_finding *finding)
{
	if (found->count == SCRUB_FOUND_MAX)
		found->untold++;
	else
		found->findings[found->count++] = *finding;
}

void scrub_found_end(struct scrub_found *found, uint64_t done)
{
	unsigned count = 0;

	for (unsigned i = 0; i < found->count; i++) {
		const struct vdisk_finding *finding = &found->findings[i].what;

		if (finding->put_right || finding->file <= done)
			found->findings[count++] = found->findings[i];
	}
	found->count = count;
	if (found->last_file <= done)
		found->untold += found->last_untold;
	found->last_untold = 0;
}
