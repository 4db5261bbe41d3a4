/* SPDX-License-Identifier: Apache-2.0 */
/* What people are told of rows of the catalog that are damaged: pool/pool_damage.h. */
#include <inttypes.h>
#include <stdio.h>

#include "control/node_priv.h"
#include "pool/pool_damage.h"

static const char *const formats[] = {
	[POOL_DAMAGE_FILE] = "the catalog's row of its file %016" PRIx64 " is damaged",
	[POOL_DAMAGE_SHARED] = "a row of another vDisk names its file %016" PRIx64 ", too",
	[POOL_DAMAGE_DISK] =
		"its file %016" PRIx64 " is said to be on a disk that is not the pool's",
	[POOL_DAMAGE_GROUP] = "the catalog's row of its group %" PRIu64 " is damaged",
	[POOL_DAMAGE_NO_FILE] = "the catalog has no row, or another vDisk's, of its file "
				"%016" PRIx64,
	[POOL_DAMAGE_NO_GROUP] = "the catalog has no row of what is in its file %016" PRIx64,
};

bool node_damage_text(struct node *node, const struct node_vdisk *vdisk,
		      char ret_text[NODE_DAMAGE_TEXT_MAX])
{
	const struct node_pool *pool = node_pool_by_id(node, vdisk->info.pool_id);
	struct pool_damage damage;
	int length;

	if (vdisk->vdisk || vdisk->info.deleting || !pool || !pool->pool ||
	    !pool_damage_of(pool->pool, vdisk->info.id, &damage))
		return false;
	length = snprintf(ret_text, NODE_DAMAGE_TEXT_MAX, formats[damage.kind], damage.id);
	if (damage.rows > 1)
		snprintf(ret_text + length, NODE_DAMAGE_TEXT_MAX - (size_t)length,
			 ", and so it is with %" PRIu64 " more", damage.rows - 1);
	return true;
}

void node_damage_pool_text(const struct node_pool *pool, uint64_t kept,
			   char ret_text[NODE_DAMAGE_TEXT_MAX])
{
	uint64_t rows = pool_damaged_rows(pool->pool), nobodys = pool_damage_nobodys(pool->pool);

	if (rows == 0)
		snprintf(ret_text, NODE_DAMAGE_TEXT_MAX,
			 "rows of the catalog are damaged or missing; %" PRIu64
			 " copies of files without a row are kept",
			 kept);
	else
		snprintf(ret_text, NODE_DAMAGE_TEXT_MAX,
			 "%" PRIu64 " rows of its files and groups are damaged, of which %" PRIu64
			 " may be any vDisk's; %" PRIu64 " copies of files without a row are kept",
			 rows, nobodys, kept);
}

void node_damage_tell(struct node *node, struct node_pool *pool)
{
	_cleanup_free_ struct pool_info *info = calloc(1, sizeof(*info)); /* large for a stack */
	char text[NODE_DAMAGE_TEXT_MAX];

	if (!info)
		return; /* health tells all the same */
	node_pool_get_info(pool, info);
	if (!info->in_doubt)
		return;
	node_damage_pool_text(pool, info->kept_files, text);
	event_emit(node->events, EVENT_POOL_IN_DOUBT, pool->name, "%s", text);
}
