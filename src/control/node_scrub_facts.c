/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a scrub looks at besides the data: the catalog as it is on its disk, its mirrors, and the
 * labels of the pool's disks. A mirror that is wrong is made again from the catalog, a label from
 * its row; a catalog whose own rows are damaged is told, for only a restart can replace it.
 * Home: the node's; from fibers.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "control/node_disk.h"
#include "control/node_scrub.h"

static bool ends_scrub(int r)
{
	return r == -ESHUTDOWN || r == -ENOMEM;
}

static int scrub_catalog(struct node *node, struct scrub_tally *tally)
{
	struct catalog_verify verify;
	int r = node_catalog_verify(node, &verify);

	if (ends_scrub(r))
		return r;
	if (r == 0)
		tally->put_right += verify.differences;
	else if (r == -EUCLEAN)
		tally->damaged++;
	else
		log_warning("scrub", "the catalog cannot be verified now", "error=%d", r);
	return 0;
}

/* A disk whose label is gone or another's is looked for by the pool, which tells. */
static int scrub_label(struct node *node, struct node_pool *pool, uint64_t disk,
		       struct scrub_tally *tally)
{
	bool put_right = false;
	int r = pool_disk_scrub_label(pool->pool, disk, &put_right);

	if (ends_scrub(r))
		return r;
	if (put_right) {
		tally->put_right++;
		event_emit(node->events, EVENT_SCRUB_REPAIRED, pool->name,
			   "the label of disk %" PRIu64 " was damaged and is written anew", disk);
	} else if (r == -EUCLEAN) {
		tally->damaged++;
		event_emit(node->events, EVENT_SCRUB_DAMAGE, pool->name,
			   "the label of disk %" PRIu64 " is damaged", disk);
	}
	return 0;
}

static int scrub_labels(struct node *node, struct node_pool *pool, struct scrub_tally *tally)
{
	_cleanup_free_ struct pool_disk_info *infos = NULL;
	size_t count = 0;
	int r = node_disk_list(pool, &infos, &count);

	for (size_t i = 0; r == 0 && i < count; i++)
		r = scrub_label(node, pool, infos[i].id, tally);
	return r;
}

int node_scrub_facts(struct node *node, uint64_t pool_id, struct scrub_tally *tally)
{
	struct node_pool *pool;
	int r = scrub_catalog(node, tally);

	if (r)
		return r;
	fiber_mutex_lock(&node->lock); /* so that the pool stays */
	pool = node_pool_by_id(node, pool_id);
	if (pool && pool->pool)
		r = scrub_labels(node, pool, tally);
	fiber_mutex_unlock(&node->lock);
	return r;
}
