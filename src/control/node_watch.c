/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at pools and vDisks every second and makes events of what has changed for the worse or for
 * the better. The layers below know nothing of events; what they found is in their states and
 * counters.
 */
#include "control/node_disk.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"

#define PERIOD_NS NSEC_PER_SEC
/* The way back is at so many points less, so that it does not flutter. */
#define SPACE_BACK    5
#define RECOVERED_MAX 32 /* told one by one after a crash */

enum node_space node_space_level(uint64_t used, uint64_t limit, const unsigned percents[3],
				 enum node_space before)
{
	double percent = limit ? 100.0 * (double)used / (double)limit : 100;
	enum node_space level = NODE_SPACE_OK;

	for (unsigned i = 0; i < 3; i++)
		if (percent >= (double)percents[i] - ((unsigned)before > i ? SPACE_BACK : 0))
			level = (enum node_space)(i + 1);
	return level;
}

const unsigned *node_space_percents(const struct node *node)
{
	static const unsigned defaults[3] = {75, 90, 95};

	return node->options.space_percents[2] ? node->options.space_percents : defaults;
}

static void watch_state(struct node *node, struct node_pool *pool, const char *state)
{
	enum event_reason reason = strcmp(state, "full") == 0        ? EVENT_POOL_FULL
				   : strcmp(state, "read-only") == 0 ? EVENT_POOL_READ_ONLY
								     : EVENT_POOL_ONLINE;

	bool was_read_only = pool->seen_state && strcmp(pool->seen_state, "read-only") == 0;

	if (pool->seen_state && strcmp(pool->seen_state, state) == 0)
		return;
	/* What of a pool that is degraded matters is told by its disks, and by repair; but that it
	 * takes writes again. */
	if (reason == EVENT_POOL_READ_ONLY && pool_is_stranded(pool->pool))
		event_emit(node->events, reason, pool->name,
			   "the pool is read-only: all its disks have failed or are away; to write "
			   "again: sarsen disk restore, sarsen disk add, or mount one");
	else if (was_read_only || (strcmp(state, "degraded") != 0 &&
				   (pool->seen_state || reason != EVENT_POOL_ONLINE)))
		event_emit(node->events, reason, pool->name, "the pool is %s", state);
	pool->seen_state = state; /* one of a few constants */
}

static void watch_space(struct node *node, struct node_pool *pool, const struct pool_space *space)
{
	static const enum event_reason reasons[] = {
		[NODE_SPACE_OK] = EVENT_POOL_SPACE_OK,
		[NODE_SPACE_NOTICE] = EVENT_POOL_SPACE_NOTICE,
		[NODE_SPACE_LOW] = EVENT_POOL_SPACE_LOW,
		[NODE_SPACE_CRITICAL] = EVENT_POOL_SPACE_CRITICAL,
	};
	enum node_space level = node_space_level(space->live, space->limit,
						 node_space_percents(node), pool->seen_space);

	if (level == pool->seen_space || space->limit == 0) /* no disk counts: its state tells */
		return;
	pool->seen_space = level;
	event_emit(node->events, reasons[level], pool->name,
		   "%" PRIu64 " MiB are live, %" PRIu64 " MiB may be", space->live / MIB,
		   space->limit / MIB);
}

#define TOLD_LEVEL \
	3u /* of what is told of a container, the space's level; and that a tier is full */
#define TOLD_TIER 4u

static unsigned refusing_tier(const struct pool_quota_info *quota)
{
	unsigned tier = 0;

	while (tier < POLICY_TIER_COUNT && !quota->tiers[tier].at_max && !quota->tiers[tier].kept)
		tier++;
	return tier;
}

static void watch_tiers(struct node *node, struct node_pool *pool, struct pool_quota_info *quota)
{
	unsigned tier = refusing_tier(quota);
	bool full = tier < POLICY_TIER_COUNT, told = quota->told & TOLD_TIER;
	struct container_info info;

	if (full == told || container_get(node->catalog, quota->container, &info) < 0)
		return;
	quota->told ^= TOLD_TIER;
	pool_quota_set_told(pool->pool, quota->container, quota->told);
	if (full)
		event_emit(node->events, EVENT_CONTAINER_TIER_FULL, info.name,
			   quota->tiers[tier].at_max
				   ? "it has %" PRIu64 " MiB on %s, which is as much as it may"
				   : "it has %" PRIu64
				     " MiB on %s, and what is free there is reserved for others",
			   quota->tiers[tier].used / MIB, policy_tier_name((enum policy_tier)tier));
}

static void watch_container(struct node *node, struct node_pool *pool,
			    const struct pool_quota_info *quota)
{
	static const enum event_reason reasons[] = {
		[NODE_SPACE_OK] = EVENT_CONTAINER_SPACE_OK,
		[NODE_SPACE_NOTICE] = EVENT_CONTAINER_SPACE_NOTICE,
		[NODE_SPACE_LOW] = EVENT_CONTAINER_SPACE_LOW,
		[NODE_SPACE_CRITICAL] = EVENT_CONTAINER_SPACE_CRITICAL,
	};
	enum node_space before = (enum node_space)(quota->told & TOLD_LEVEL), level;
	struct container_info info;

	level = quota->capacity == POLICY_NONE
			? NODE_SPACE_OK
			: node_space_level(quota->taken, quota->capacity, quota->percents, before);
	if (level == before || container_get(node->catalog, quota->container, &info) < 0)
		return; /* it was deleted a moment ago, or the next turn tells */
	pool_quota_set_told(pool->pool, quota->container, (quota->told & ~TOLD_LEVEL) | level);
	event_emit(node->events, reasons[level], info.name,
		   "%" PRIu64 " MiB are live, %" PRIu64 " MiB may be", quota->taken / MIB,
		   quota->capacity / MIB);
}

static void watch_containers(struct node *node, struct node_pool *pool)
{
	_cleanup_free_ struct pool_quota_info *quotas = NULL;
	size_t count = 0;

	if (pool_quota_list(pool->pool, &quotas, &count) < 0)
		return; /* the next turn looks again */
	for (size_t i = 0; i < count; i++) {
		watch_tiers(node, pool, &quotas[i]);
		watch_container(node, pool, &quotas[i]);
	}
}

static void watch_pools(struct node *node)
{
	_cleanup_free_ struct pool_info *info = calloc(1, sizeof(*info)); /* large for a stack */
	struct node_pool *pool;

	if (!info)
		return; /* the next turn looks again */
	fiber_mutex_lock(&node->lock);
	LIST_FOR_EACH (&node->pools, pool, struct node_pool, link) {
		if (!pool->pool)
			continue;
		node_pool_get_info(pool, info);
		if (pool->first_ns == 0) {
			pool->first_ns = reactor_now_ns(node->home);
			pool->first_live = info->space.live;
		}
		watch_state(node, pool, info->state);
		watch_space(node, pool, &info->space);
		watch_containers(node, pool);
		node_disk_watch(node, pool);
	}
	fiber_mutex_unlock(&node->lock);
}

struct look { /* to a vDisk's home and back */
	struct vdisk *vdisk;
	struct vdisk_stats *stats;
	int error;
};

static int look_at_home(void *arg)
{
	struct look *look = arg;

	vdisk_get_stats(look->vdisk, look->stats);
	look->error = vdisk_error(look->vdisk);
	return 0;
}

static void watch_writes(struct node *node, const struct node_vdisk *vdisk, int error,
			 bool stranded)
{
	if (error != 0 && vdisk->seen_error == 0 && stranded)
		event_emit(node->events, EVENT_VDISK_READ_ONLY, vdisk->name,
			   "it is only read, for all disks of its pool have failed or are away; it "
			   "takes writes by itself once one is there");
	else if (error != 0 && vdisk->seen_error == 0)
		event_emit(node->events, EVENT_VDISK_READ_ONLY, vdisk->name,
			   "it takes no more writes (error %d)", -error);
	else if (error == 0 && vdisk->seen_error != 0)
		event_emit(node->events, EVENT_VDISK_ONLINE, vdisk->name, "it takes writes again");
}

static void watch_vdisk(struct node *node, struct node_vdisk *vdisk, struct vdisk_stats *stats)
{
	struct look look = {.vdisk = vdisk->vdisk, .stats = stats};

	if (!node_vdisk_use(vdisk))
		return;
	(void)node_vdisk_call(vdisk, look_at_home, &look); /* is 0 */
	watch_writes(node, vdisk, look.error, vdisk_is_stranded(vdisk->vdisk));
	if (stats->checksum_errors > vdisk->seen_damage)
		event_emit(node->events, EVENT_VDISK_DAMAGED, vdisk->name,
			   "%" PRIu64 " blocks did not match their checksum since it was opened",
			   stats->checksum_errors);
	vdisk->seen_error = look.error;
	vdisk->seen_damage = stats->checksum_errors;
	node_vdisk_unuse(node, vdisk);
}

static void watch_vdisks(struct node *node)
{
	struct node_vdisk *vdisk;
	struct vdisk_stats stats;

	for (uint64_t id = 0; !node->stopping && (vdisk = node_vdisk_after(node, id));) {
		id = vdisk->info.id;
		watch_vdisk(node, vdisk, &stats);
	}
}

static void look(struct node *node)
{
	node_dead_watch(node);
	node_catalog_watch(node);
	watch_pools(node);
	watch_vdisks(node);
}

/* Has the run before ended cleanly? Its last event tells. */
static bool was_clean(struct node *node)
{
	uint64_t last = events_last(node->events);
	struct event event;

	return last == 0 || !events_next(node->events, last - 1, &event) ||
	       strcmp(event.reason, event_kind(EVENT_NODE_STOPPED)->name) == 0;
}

static void tell_recovered(struct node *node)
{
	struct node_vdisk *vdisk;
	unsigned count = 0;

	LIST_FOR_EACH (&node->vdisks, vdisk, struct node_vdisk, link)
		if (vdisk->vdisk && count++ < RECOVERED_MAX)
			event_emit(node->events, EVENT_VDISK_RECOVERED, vdisk->name,
				   "opened after the last run ended without a clean stop");
	event_emit(node->events, EVENT_NODE_RECOVERED, "node",
		   "the last run ended without a clean stop; %u vDisks were recovered", count);
}

static void tell_pool(struct node *node, struct node_pool *pool)
{
	if (pool->pool)
		node_damage_tell(node, pool);
	else if (pool->error != -EINPROGRESS)
		event_emit(node->events, EVENT_POOL_FAILED, pool->name,
			   "%s cannot be opened (error %d)", pool->directory, -pool->error);
}

static void tell_failed(struct node *node)
{
	char text[NODE_DAMAGE_TEXT_MAX];
	struct node_pool *pool;
	struct node_vdisk *vdisk;

	LIST_FOR_EACH (&node->pools, pool, struct node_pool, link)
		tell_pool(node, pool);
	LIST_FOR_EACH (&node->vdisks, vdisk, struct node_vdisk, link) {
		if (node_damage_text(node, vdisk, text))
			event_emit(node->events, EVENT_VDISK_FAILED, vdisk->name,
				   "it is not opened: %s", text);
		else if (!vdisk->vdisk && !vdisk->info.deleting)
			event_emit(node->events, EVENT_VDISK_FAILED, vdisk->name,
				   "it cannot be opened (error %d)", -vdisk->error);
		if (vdisk->export && vdisk->export->error)
			event_emit(node->events, EVENT_EXPORT_FAILED, vdisk->name,
				   "it is not served as %.200s (error %d)", vdisk->export->target,
				   -vdisk->export->error);
	}
}

void node_watch_start(struct node *node)
{
	bool clean = was_clean(node);

	event_emit(node->events, EVENT_NODE_STARTED, "node", "the daemon serves");
	node_dead_tell(node);
	if (!clean)
		tell_recovered(node);
	tell_failed(node);
	node_service_start(&node->watch, node, look, PERIOD_NS);
}
