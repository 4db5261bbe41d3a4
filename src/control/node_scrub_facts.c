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

static void add(struct node *node, struct scrub_facts *facts, struct scrub_finding finding)
{
	struct world *world = node->options.world;

	if (finding.what.put_right)
		facts->tally.put_right += MAX(finding.what.slots, 1u);
	else
		facts->tally.damaged++;
	finding.what.use = VDISK_USE_LIVE;
	finding.wall_ns = world->ops->wall_ns(world);
	scrub_found_add_fact(&facts->found, &finding);
}

static int scrub_catalog(struct node *node, struct scrub_facts *facts)
{
	struct catalog_verify verify;
	int r = node_catalog_verify(node, &verify);

	if (ends_scrub(r))
		return r;
	if (r == 0 && verify.differences > 0)
		add(node, facts,
		    (struct scrub_finding){
			    .subject = SCRUB_OF_CATALOG,
			    .what = {.put_right = true,
				     .slots = (uint32_t)MIN(verify.differences, UINT32_MAX)}});
	else if (r == -EUCLEAN)
		add(node, facts,
		    (struct scrub_finding){.subject = SCRUB_OF_CATALOG, .what = {.error = r}});
	else if (r < 0)
		log_warning("scrub", "the catalog cannot be verified now", "error=%d", r);
	return 0;
}

/* A disk whose label is gone or another's is looked for by the pool, which tells. */
static int scrub_label(struct node *node, struct node_pool *pool, uint64_t disk,
		       struct scrub_facts *facts)
{
	struct scrub_finding finding = {.subject = SCRUB_OF_LABEL, .what = {.disk = disk}};
	bool put_right = false;
	int r = pool_disk_scrub_label(pool->pool, disk, &put_right);

	if (ends_scrub(r))
		return r;
	if (put_right) {
		finding.what.put_right = true;
		add(node, facts, finding);
		event_emit(node->events, EVENT_SCRUB_REPAIRED, pool->name,
			   "the label of disk %" PRIu64 " was damaged and is written anew", disk);
	} else if (r == -EUCLEAN) {
		finding.what.error = r;
		add(node, facts, finding);
		event_emit(node->events, EVENT_SCRUB_DAMAGE, pool->name,
			   "the label of disk %" PRIu64 " is damaged", disk);
	}
	return 0;
}

static int scrub_labels(struct node *node, struct node_pool *pool, struct scrub_facts *facts)
{
	_cleanup_free_ struct pool_disk_info *infos = NULL, *now = calloc(1, sizeof(*now));
	size_t count = 0;
	int r = now ? node_disk_list(pool, &infos, &count) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < count; i++) /* one that does not answer is not asked */
		if (node_disk_get(pool, infos[i].id, now) == 0 && node_disk_answers(now))
			r = scrub_label(node, pool, infos[i].id, facts);
	return r;
}

/* Not under the node's lock: a disk may hang. */
int node_scrub_facts(struct node *node, uint64_t pool_id, struct scrub_facts *facts)
{
	struct node_pool *pool;
	int r = scrub_catalog(node, facts);

	if (r)
		return r;
	pool = node_pool_by_id(node, pool_id);
	if (!pool || !node_pool_use(pool))
		return 0;
	r = scrub_labels(node, pool, facts);
	node_pool_unuse(node, pool);
	return r;
}
