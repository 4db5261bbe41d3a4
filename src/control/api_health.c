/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is wrong now, from facts that are looked up when it is asked for: states, counters and
 * accounts, never from what was told before.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "control/api_nvme.h"
#include "control/node_disk.h"
#include "control/node_overcommit.h"
#include "control/node_scrub.h"
#include "control/size.h"
#include "pool/pool_fence.h"

#define CLOCK_MIN_NS   (UINT64_C(1704067200) * NSEC_PER_SEC) /* 2024: before this code existed */
#define FORECAST_MIN   (60 * NSEC_PER_SEC)                   /* of growth, before it is a trend */
#define FORECAST_TOLD  (7 * 24 * 3600 * NSEC_PER_SEC)
#define SLOW_TURNS_MAX 1000

void api_find(struct api_request *request, enum event_severity severity, const char *object,
	      const char *remedy, const char *format, ...)
{
	char cause[ERROR_TEXT_MAX];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(cause, sizeof(cause), format, arguments);
	va_end(arguments);
	json_array_append_new(request->result, json_pack("{s:s, s:s, s:s, s:s}", "severity",
							 event_severity_name(severity), "object",
							 object, "cause", cause, "remedy", remedy));
}

static const char *error_text(int error)
{
	const char *text = api_error_text(error);

	return text ? text : strerror(-error);
}

/* When the pool is full at the mean rate since the daemon looked first; UINT64_MAX: never. */
static uint64_t full_in_ns(const struct node *node, const struct node_pool *pool,
			   const struct pool_space *space)
{
	uint64_t spent_ns = reactor_now_ns(node->home) - pool->first_ns;
	double rate;

	if (pool->first_ns == 0 || spent_ns < FORECAST_MIN || space->live <= pool->first_live ||
	    space->live >= space->limit)
		return UINT64_MAX;
	rate = (double)(space->live - pool->first_live) / (double)spent_ns;
	return (uint64_t)MIN((double)(space->limit - space->live) / rate, 1e18);
}

static void check_space(struct api_request *request, const struct node_pool *pool,
			const struct pool_space *space)
{
	const unsigned *percents = node_space_percents(request->node);
	enum node_space level =
		node_space_level(space->live, space->limit, percents, NODE_SPACE_OK);
	uint64_t full_ns = full_in_ns(request->node, pool, space);
	const char *remedy = "delete vDisks, unmap what guests do not need, or give more room";

	if (space->limit == 0) /* no disk counts: its state tells */
		return;
	if (level >= NODE_SPACE_LOW)
		api_find(request, level == NODE_SPACE_CRITICAL ? EVENT_ERROR : EVENT_WARNING,
			 pool->name, remedy,
			 "%" PRIu64 " MiB are live of %" PRIu64 " MiB that may be",
			 space->live / MIB, space->limit / MIB);
	if (full_ns < FORECAST_TOLD)
		api_find(request, EVENT_WARNING, pool->name, remedy,
			 "at the present rate it is full within %" PRIu64 " h",
			 full_ns / (3600 * NSEC_PER_SEC) + 1);
}

static void check_overcommit(struct api_request *request, struct node_pool *pool)
{
	struct node_overcommit overcommit;
	char text[NODE_OVERCOMMIT_TEXT_MAX];

	node_overcommit_get(request->node, pool, &overcommit);
	if (node_overcommit_ratio(&overcommit) <= 1)
		return;
	node_overcommit_text(&overcommit, text);
	api_find(request, EVENT_INFO, pool->name,
		 "watch its space; add disks before it fills: sarsen disk add", "the pool is %s",
		 text);
}

static void disk_remedy(const struct pool_disk_info *info, char ret_text[static ERROR_TEXT_MAX])
{
	static const char *const formats[POOL_DISK_STATES] = {
		[POOL_DISK_FULL] = "free room in its file system, which others fill too",
		[POOL_DISK_SUSPECT] =
			"check the drive; what was measured: sarsen disk show %1$" PRIu64,
		[POOL_DISK_READ_ONLY] = "check the drive and its file system; or replace it: "
					"sarsen disk replace %1$" PRIu64 " DIRECTORY",
		[POOL_DISK_MISSING] =
			"put it back and mount it; if its file system is busy: sarsen disk fail "
			"%1$" PRIu64 ", mount it, sarsen disk restore %1$" PRIu64
			"; or replace it: sarsen disk replace %1$" PRIu64 " DIRECTORY",
		[POOL_DISK_FAILED] = "replace it: sarsen disk replace %1$" PRIu64
				     " DIRECTORY; or take it back: sarsen disk restore %1$" PRIu64,
	};
	const char *format = formats[info->state];

	if (info->state == POOL_DISK_MISSING && pool_fence_get() != POOL_FENCE_NONE)
		format = "if it hangs: let it answer, or take its device from the kernel; it comes "
			 "back when nothing is left of the daemon before. Or replace it: sarsen "
			 "disk replace %1$" PRIu64 " DIRECTORY";
	snprintf(ret_text, ERROR_TEXT_MAX, format ? format : "", info->id);
}

static void check_disk(struct api_request *request, const struct node_pool *pool,
		       const struct pool_disk_info *info)
{
	bool bad = info->state >= POOL_DISK_READ_ONLY;
	char remedy[ERROR_TEXT_MAX];

	disk_remedy(info, remedy);
	if (info->silent_ns)
		api_find(request, EVENT_ERROR, pool->name,
			 "check its controller, cable or server; what has no other copy waits for "
			 "it",
			 "disk %" PRIu64 " (%.250s) does not answer since %" PRIu64 " s", info->id,
			 info->directory, info->silent_ns / NSEC_PER_SEC);
	if (info->state != POOL_DISK_ONLINE)
		api_find(request, bad ? EVENT_ERROR : EVENT_WARNING, pool->name, remedy,
			 "disk %" PRIu64 " (%.250s) is %s", info->id, info->directory,
			 pool_disk_state_name(info->state));
	if (info->state < POOL_DISK_READ_ONLY && info->used > info->capacity)
		api_find(request, EVENT_WARNING, pool->name,
			 "grow its file system; or add disks, then: sarsen disk drain",
			 "disk %" PRIu64 " (%.250s) holds %" PRIu64
			 " MiB, but has room for %" PRIu64 " MiB only",
			 info->id, info->directory, info->used / MIB, info->capacity / MIB);
	if (info->paused && info->files) {
		snprintf(remedy, sizeof(remedy),
			 "go on: sarsen disk drain %" PRIu64
			 "; or keep it: sarsen disk drain %" PRIu64 " --stop",
			 info->id, info->id);
		api_find(request, EVENT_INFO, pool->name, remedy,
			 "draining disk %" PRIu64 " (%.250s) is paused: %" PRIu64
			 " files are still there",
			 info->id, info->directory, info->files);
	}
	if (info->health.checksum_errors)
		api_find(request, EVENT_WARNING, pool->name,
			 "check the disk; replace it if more come",
			 "disk %" PRIu64 " (%.250s) gave back %" PRIu64
			 " blocks that did not match their checksum",
			 info->id, info->directory, info->health.checksum_errors);
}

static void check_disks(struct api_request *request, struct node_pool *pool)
{
	_cleanup_free_ struct pool_disk_info *infos = NULL;
	size_t count;

	if (node_disk_list(pool, &infos, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++)
		check_disk(request, pool, &infos[i]);
}

static unsigned count_missing(const struct node_pool *pool)
{
	uint64_t ids[POOL_DISKS_MAX];
	uint8_t tiers[POOL_DISKS_MAX];
	unsigned count = pool_disk_ids(pool->pool, ids, tiers), missing = 0;

	for (unsigned i = 0; i < count; i++)
		missing += pool_disk_state(pool->pool, ids[i]) == POOL_DISK_MISSING;
	return missing;
}

static void check_copies(struct api_request *request, struct node_pool *pool)
{
	struct vdisk_redundancy sum;

	node_pool_redundancy(request->node, pool->id, &sum);
	if (sum.lost > sum.resort)
		api_find(request, EVENT_ERROR, pool->name,
			 "bring back a disk that has them: sarsen disk list, sarsen disk restore",
			 "%" PRIu64 " MiB cannot be read from any disk",
			 (sum.lost - sum.resort) / MIB);
	if (sum.resort)
		api_find(request, EVENT_ERROR, pool->name,
			 pool_disks_usable(pool->pool)
				 ? "leave that disk where it is: copies are made from it before "
				   "anything else, see sarsen job list"
				 : "leave that disk where it is, and add one: sarsen disk add",
			 "%" PRIu64 " groups (%" PRIu64
			 " MiB) are on disks that have failed and on no other that can be read",
			 sum.resort_groups, sum.resort / MIB);
	if (sum.degraded)
		api_find(request, sum.single ? EVENT_ERROR : EVENT_WARNING, pool->name,
			 sum.to_copy ? "see the repair's progress: sarsen job list"
			 : count_missing(pool)
				 ? "bring the missing disk back; when it has been missing for 10 "
				   "minutes, or at once with sarsen disk fail, copies are made "
				   "elsewhere"
				 : "add a disk: sarsen disk add",
			 "%" PRIu64 " MiB have fewer copies than they should, %" PRIu64
			 " MiB of them one",
			 sum.degraded / MIB, sum.single / MIB);
	if (sum.leaving)
		api_find(request, EVENT_INFO, pool->name, "see the progress: sarsen job list",
			 "%" PRIu64 " MiB are to leave disks that are draining", sum.leaving / MIB);
}

/* Findings are kept of the scrub that began last only. */
static void check_damage(struct api_request *request, const char *name,
			 const struct scrub_state *state)
{
	if (state->now.damaged)
		api_find(request, EVENT_ERROR, name,
			 "see which: sarsen pool findings; restore what is damaged, check the "
			 "disks, then: sarsen pool scrub",
			 "the last scrub found %" PRIu64
			 " blocks, labels or catalogs that are damaged on every copy",
			 state->now.damaged);
	else if (state->last.damaged && state->now.begun_wall_ns != state->last.begun_wall_ns)
		api_find(request, EVENT_ERROR, name,
			 state->phase == SCRUB_RUNNING  ? "see how far it is: sarsen pool show"
			 : state->phase == SCRUB_PAUSED ? "go on: sarsen pool scrub --resume"
							: "begin one: sarsen pool scrub",
			 "the last scrub that came to its end found %" PRIu64
			 " blocks, labels or catalogs that are damaged on every copy; one that "
			 "began since then has not found them yet",
			 state->last.damaged);
}

/* When it was last scrubbed, and with what result. */
static void check_scrub(struct api_request *request, const char *name, uint64_t pool_id)
{
	struct node *node = request->node;
	struct world *world = node->options.world;
	uint64_t days = node->options.scrub_days, now = world->ops->wall_ns(world), from, age;
	struct scrub_state state;

	if (scrub_load(node->catalog, pool_id, &state) < 0)
		return;
	from = MAX(state.since_wall_ns, state.last.ended_wall_ns);
	age = from && now > from ? (now - from) / (24 * 3600 * NSEC_PER_SEC) : 0;
	check_damage(request, name, &state);
	if (state.last.pending || state.now.pending)
		api_find(request, EVENT_WARNING, name,
			 "bring back the disks that are missing: sarsen disk list; which data: "
			 "sarsen pool findings",
			 "a scrub found %" PRIu64
			 " blocks that are damaged on every copy that could be reached; others may "
			 "have them right",
			 MAX(state.last.pending, state.now.pending));
	if (days && age > 2 * days)
		api_find(request, EVENT_WARNING, name,
			 state.phase == SCRUB_PAUSED ? "go on: sarsen pool scrub --resume"
						     : "begin one: sarsen pool scrub",
			 "no scrub has come to its end for %" PRIu64 " days", age);
}

static void check_container(struct api_request *request, const struct pool_quota_info *quota)
{
	enum node_space level =
		node_space_level(quota->taken, quota->capacity, quota->percents, NODE_SPACE_OK);
	struct container_info info;

	if (level < NODE_SPACE_LOW || quota->capacity == POLICY_NONE ||
	    container_get(request->node->catalog, quota->container, &info) < 0)
		return;
	api_find(request, level == NODE_SPACE_CRITICAL ? EVENT_ERROR : EVENT_WARNING, info.name,
		 "raise its max_capacity: sarsen container set; or unmap what guests do not need",
		 "%" PRIu64 " MiB are live of %" PRIu64 " MiB that may be in the container",
		 quota->taken / MIB, quota->capacity / MIB);
}

static void check_tiers(struct api_request *request, const struct pool_quota_info *quota)
{
	char used[SIZE_TEXT_MAX], most[SIZE_TEXT_MAX];
	struct container_info info;

	for (unsigned i = 0; i < POLICY_TIER_COUNT; i++) {
		const struct pool_quota_tier *tier = &quota->tiers[i];
		const char *name = policy_tier_name((enum policy_tier)i);

		if ((!tier->at_max && !tier->kept && !tier->beyond) ||
		    container_get(request->node->catalog, quota->container, &info) < 0)
			continue;
		size_format(tier->used, used);
		if (tier->at_max)
			api_find(request, EVENT_ERROR, info.name,
				 "raise it: sarsen container set; or unmap what guests do not need",
				 "writes find no place: its files have %s of the %s that "
				 "max_capacity_%s allows",
				 used, size_format(tier->most, most), name);
		else if (tier->kept)
			api_find(request, EVENT_ERROR, info.name,
				 "add such a disk: sarsen disk add; or reserve less for others",
				 "writes find no place: its files have %s on %s, and what is free "
				 "there is reserved for other containers",
				 used, name);
		else
			api_find(request, EVENT_WARNING, info.name,
				 "raise it: sarsen container set; or unmap what guests do not need",
				 "its files have %s on %s, of which max_capacity_%s allows %s: "
				 "repair found no other place, or the limit was lowered; no new "
				 "data go there",
				 used, name, name, size_format(tier->most, most));
	}
}

static void check_containers(struct api_request *request, const struct node_pool *pool)
{
	_cleanup_free_ struct pool_quota_info *quotas = NULL;
	size_t count = 0;

	if (pool_quota_list(pool->pool, &quotas, &count) < 0)
		return; /* no memory: what else is found counts */
	for (size_t i = 0; i < count; i++) {
		check_container(request, &quotas[i]);
		check_tiers(request, &quotas[i]);
	}
}

static void check_doubt(struct api_request *request, const struct node_pool *pool,
			const struct pool_info *info)
{
	char text[NODE_DAMAGE_TEXT_MAX];

	if (!info->in_doubt)
		return;
	node_damage_pool_text(pool, info->kept_files, text);
	api_find(request, EVENT_ERROR, pool->name, NODE_DAMAGE_REMEDY, "%s", text);
}

static void check_pool(struct api_request *request, struct node_pool *pool, struct pool_info *info)
{
	if (!pool->pool) {
		bool deleting = pool->error == -EINPROGRESS;

		api_find(request, deleting ? EVENT_INFO : EVENT_ERROR, pool->name,
			 deleting ? "wait; if it stays so: see the daemon's log"
				  : "mount its disk; then it is opened by itself",
			 "%s cannot be opened: %s", pool->directory, error_text(pool->error));
		return;
	}
	node_pool_get_info(pool, info);
	if (pool_is_stranded(pool->pool))
		api_find(
			request, EVENT_ERROR, pool->name, NODE_STRANDED_REMEDY,
			"no disk of it can be written, all have failed or are away: what can still "
			"be read is read, and nothing is written");
	else if (strcmp(info->state, "online") != 0)
		api_find(request, EVENT_ERROR, pool->name,
			 strcmp(info->state, "full") == 0       ? "free space in its file system"
			 : strcmp(info->state, "degraded") == 0 ? "see which disk: sarsen disk list"
								: "check the disk and its mount",
			 "the pool is %s", info->state);
	check_doubt(request, pool, info);
	check_space(request, pool, &info->space);
	check_overcommit(request, pool);
	check_containers(request, pool);
	check_disks(request, pool);
	check_copies(request, pool);
	check_scrub(request, pool->name, pool->id);
}

static int check_pools(struct api_request *request)
{
	_cleanup_free_ struct pool_info *info = calloc(1, sizeof(*info)); /* large for a stack */
	struct node *node = request->node;
	struct node_pool *pool;

	if (!info)
		return -ENOMEM;
	fiber_mutex_lock(&node->lock);
	LIST_FOR_EACH (&node->pools, pool, struct node_pool, link)
		check_pool(request, pool, info);
	fiber_mutex_unlock(&node->lock);
	return 0;
}

struct look { /* to a vDisk's home and back */
	struct vdisk *vdisk;
	struct vdisk_stats stats;
	int error;
};

static int look_at_home(void *arg)
{
	struct look *look = arg;

	vdisk_get_stats(look->vdisk, &look->stats);
	look->error = vdisk_error(look->vdisk);
	return 0;
}

static void check_open(struct api_request *request, struct node_vdisk *vdisk)
{
	struct look look = {.vdisk = vdisk->vdisk};

	if (!node_vdisk_use(vdisk))
		return;
	(void)node_vdisk_call(vdisk, look_at_home, &look); /* is 0 */
	if (look.error && vdisk_is_stranded(vdisk->vdisk))
		api_find(request, EVENT_ERROR, vdisk->name, NODE_STRANDED_REMEDY,
			 "it takes no writes: when it was opened no disk of its pool could be "
			 "written");
	else if (look.error)
		api_find(request, EVENT_ERROR, vdisk->name,
			 "check the disk, then restart the daemon", "it takes no more writes: %s",
			 error_text(look.error));
	if (look.stats.checksum_errors)
		api_find(request, EVENT_ERROR, vdisk->name,
			 "run sarsen vdisk check --data; restore what is bad; check the disk",
			 "%" PRIu64 " blocks did not match their checksum since it was opened",
			 look.stats.checksum_errors);
	node_vdisk_unuse(request->node, vdisk);
}

static void check_vdisks(struct api_request *request)
{
	struct node *node = request->node;
	char text[NODE_DAMAGE_TEXT_MAX];
	struct node_vdisk *vdisk;

	for (uint64_t id = 0; (vdisk = node_vdisk_after(node, id));) {
		id = vdisk->info.id;
		if (node_damage_text(node, vdisk, text))
			api_find(request, EVENT_ERROR, vdisk->name, NODE_DAMAGE_REMEDY,
				 "it is not opened: %s", text);
		else if (vdisk->error && !vdisk->vdisk && !vdisk->info.deleting)
			api_find(request, EVENT_ERROR, vdisk->name,
				 "see the daemon's log; it is opened by itself when disks come "
				 "back; restore it from a copy if it is damaged",
				 "it cannot be opened: %s", error_text(vdisk->error));
		if (vdisk->export && vdisk->export->error)
			api_find(request, EVENT_ERROR, vdisk->name,
				 "see why with: sarsen iscsi list; export it again",
				 "it is not served over iSCSI: %s",
				 error_text(vdisk->export->error));
		check_open(request, vdisk);
	}
}

static void check_controllers(struct api_request *request)
{
	struct node_controller *controller;
	const struct node_namespace *ns;

	LIST_FOR_EACH (&request->node->controllers, controller, struct node_controller, entry) {
		if (controller->state == NODE_CONTROLLER_FAILED)
			api_find(request, EVENT_ERROR, controller->name,
				 "see the log of the daemon and of the keeper",
				 "the controller is not served: %s",
				 api_nvme_error_text(controller->error));
		LIST_FOR_EACH (&controller->namespaces, ns, struct node_namespace, link)
			if (ns->error)
				api_find(request, EVENT_ERROR, controller->name,
					 "see the vDisk's error: it is served once that is open; "
					 "if that has none, restart the daemon",
					 "namespace %" PRIu32 " is not served: %s", ns->nsid,
					 error_text(ns->error));
	}
}

static void check_node(struct api_request *request)
{
	struct node *node = request->node;
	struct world *world = node->options.world;

	if (world->ops->wall_ns(world) < CLOCK_MIN_NS)
		api_find(request, EVENT_WARNING, "clock", "set the clock, e.g. with NTP",
			 "the clock is before 2024: times of events and objects are wrong");
	for (unsigned i = 0; i < node->options.reactor_count; i++) {
		struct reactor_stats stats;
		char name[32];

		node_get_reactor_stats(node, i, &stats);
		snprintf(name, sizeof(name), "reactor-%u", i);
		if (stats.slow_turns > SLOW_TURNS_MAX)
			api_find(request, EVENT_WARNING, name,
				 "give the daemon CPUs of its own; see sarsen node show",
				 "%" PRIu64 " turns took longer than they should",
				 stats.slow_turns);
	}
}

static void check_mirror(struct api_request *request, const struct catalog_mirror_info *info)
{
	if (info->state == CATALOG_MIRROR_REFUSED)
		api_find(
			request, EVENT_ERROR, info->directory,
			"is it the right disk? Was the state directory set back? See the manual of "
			"sarsend",
			"the copy of the catalog there is %s",
			info->error == -ESTALE ? "newer than the catalog" : "of another catalog");
	else if (info->state == CATALOG_MIRROR_LOST && info->error != -ENOENT)
		/* Without a label its disk is missing, which its pool says. */
		api_find(request, EVENT_WARNING, info->directory,
			 "check the disk and its mount; it is tried again now and then",
			 "it has no good copy of the catalog: %s", error_text(info->error));
}

static int check_catalog(struct api_request *request)
{
	_cleanup_free_ struct catalog_mirror_info *infos = NULL;
	struct catalog *catalog = request->node->catalog;
	const char *good = NULL;
	char remedy[400];
	size_t count;
	int r = catalog_mirror_list(catalog, &infos, &count);

	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++) {
		check_mirror(request, &infos[i]);
		if (!good && infos[i].state == CATALOG_MIRROR_GOOD)
			good = infos[i].directory;
	}
	if (request->node->catalog_watch.damage)
		api_find(request, EVENT_ERROR, "catalog",
			 good ? "restart the daemon, which makes it again from a mirror; check the "
				"disk "
				"of the state directory"
			      : "stop the daemon and run sarsen-fsck; check the disk of the state "
				"directory",
			 "rows of its database are damaged or missing");
	r = catalog_get_error(catalog);
	if (r == 0)
		return 0;
	snprintf(remedy, sizeof(remedy),
		 "check the disk of the state directory; if it is lost, start on another one with "
		 "--restore-catalog %.250s",
		 good ? good : "and the directory of a pool's disk");
	api_find(request, EVENT_ERROR, "catalog", remedy, "it takes no changes: %s", error_text(r));
	return 0;
}

static void check_dead(struct api_request *request)
{
	const struct node *node = request->node;

	if (node->dead_left > 0)
		api_find(request, EVENT_WARNING, "node",
			 "let the disk answer that hangs, or take its device from the kernel (echo "
			 "1 > /sys/block/NAME/device/delete); its disks come back by themselves "
			 "then",
			 "what is left of the daemon before (process id %d) cannot end: a disk "
			 "does not answer",
			 node->options.dead.pid);
}

int api_health_show(struct api_request *request)
{
	int r;

	request->result = json_array();
	check_dead(request);
	r = check_pools(request);
	if (r < 0)
		return api_fail_errno(request, r, "check", "pools");
	r = check_catalog(request);
	if (r < 0)
		return api_fail_errno(request, r, "check", "catalog");
	check_vdisks(request);
	check_controllers(request);
	api_health_check_versions(request);
	check_node(request);
	return 0;
}
