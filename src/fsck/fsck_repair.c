/* SPDX-License-Identifier: Apache-2.0 */
/* What the check found that can be put right in the catalog: each change by itself, if the row is
 * still as it was read. Through the catalog's own door, so that its mirrors have it, too. */
#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "fsck/fsck_priv.h"

static int apply(struct catalog *catalog, const struct fsck_change *change)
{
	const struct catalog_change changes[] = {
		{.kind = CATALOG_EXPECT, .key = change->key, .version = change->version},
		{.kind = change->kind,
		 .key = change->key,
		 .value = change->value,
		 .length = change->length},
	};

	return catalog_commit(catalog, changes, ARRAY_SIZE(changes));
}

int fsck_repair(struct fsck *fsck)
{
	const struct catalog_options options = {.path = fsck->options->catalog,
						.vfs = fsck->options->vfs};
	struct catalog *catalog;
	int r;

	if (fsck->change_count == 0)
		return 0;
	r = catalog_open(fsck->options->world, &options, &catalog);
	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < fsck->change_count; i++)
		r = apply(catalog, &fsck->changes[i]);
	if (r < 0)
		log_error("fsck", "the repairs could not be written", "error=%d changes=%zu", r,
			  fsck->change_count);
	catalog_close(catalog);
	return r;
}
