/* SPDX-License-Identifier: Apache-2.0 */
#include "control/node_disk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/histogram.h"
#include "base/log.h"

/* vDisks opened or closed at once; each takes a fiber at its home. */
#define PARALLEL 32
/* A loop over all vDisks lets others run after about so many. */
#define LOOP_BATCH 16

/* To a vDisk's home and back; entries of the list are not changed there. */
struct call {
	struct pool *pool;
	struct vdisk_cache *cache;
	uint64_t id;
	struct vdisk *vdisk;
	struct node_vdisk_stats *ret_stats;
};

/* The name of a vDisk that is being deleted is free: a new one may have it. */
struct node_vdisk *node_vdisk_find(struct node *node, const char *name)
{
	struct node_vdisk *vdisk, *deleting = NULL;

	reactor_assert_home(node->home);
	LIST_FOR_EACH (&node->vdisks, vdisk, struct node_vdisk, link) {
		if (strcmp(vdisk->name, name) != 0)
			continue;
		if (!vdisk->info.deleting)
			return vdisk;
		deleting = vdisk;
	}
	return deleting;
}

struct node_vdisk *node_vdisk_by_id(struct node *node, uint64_t id)
{
	struct node_vdisk *vdisk;

	LIST_FOR_EACH (&node->vdisks, vdisk, struct node_vdisk, link)
		if (vdisk->info.id == id)
			return vdisk;
	return NULL;
}

struct node_vdisk *node_vdisk_after(struct node *node, uint64_t id)
{
	struct node_vdisk *vdisk;

	if (id % LOOP_BATCH == LOOP_BATCH - 1)
		fiber_yield();
	LIST_FOR_EACH (&node->vdisks, vdisk, struct node_vdisk, link)
		if (vdisk->info.id > id)
			return vdisk;
	return NULL;
}

void node_vdisk_set_name(struct node_vdisk *vdisk, const char *container, const char *name)
{
	snprintf(vdisk->info.name, sizeof(vdisk->info.name), "%s", name);
	snprintf(vdisk->name, sizeof(vdisk->name), "%s/%s", container, name);
}

int node_vdisk_add(struct node *node, const struct vdisk_info *info, const char *container,
		   struct node_vdisk **ret_vdisk)
{
	struct node_vdisk *vdisk = calloc(1, sizeof(*vdisk));

	if (!vdisk)
		return -ENOMEM;
	vdisk->info = *info;
	node_vdisk_set_name(vdisk, container, info->name);
	vdisk->home = node_next_reactor(node);
	list_push_back(&node->vdisks, &vdisk->link);
	*ret_vdisk = vdisk;
	return 0;
}

void node_vdisk_remove(struct node *node, struct node_vdisk *vdisk)
{
	ASSERT(!vdisk->vdisk && vdisk->users == 0);
	list_remove(&vdisk->link);
	free(vdisk->export);
	free(vdisk);
	/* Those who waited for its operation to end find it gone. */
	fiber_queue_wake_all(&node->changed);
}

int node_vdisk_call(struct node_vdisk *vdisk, int (*fn)(void *arg), void *arg)
{
	return fiber_call(vdisk->home, FIBER_CONTROL, fn, arg);
}

static int open_at_home(void *arg)
{
	struct call *call = arg;

	return vdisk_open(call->pool, call->cache, call->id, &call->vdisk);
}

/* What is only told to people need not be known to open it. */
static void read_factor(struct node *node, struct node_vdisk *vdisk)
{
	_cleanup_free_ struct container_policy *policy = malloc(sizeof(*policy));

	if (policy && container_policy_get(node->catalog, vdisk->info.container_id, vdisk->info.id,
					   policy) == 0)
		vdisk->factor = policy->replication_factor;
}

int node_vdisk_open(struct node *node, struct node_vdisk *vdisk)
{
	struct node_pool *pool = node_pool_by_id(node, vdisk->info.pool_id);
	struct call call = {.pool = pool ? pool->pool : NULL,
			    .cache = node->caches[reactor_index(vdisk->home)],
			    .id = vdisk->info.id};

	ASSERT(!vdisk->vdisk);
	/* Before: what comes meanwhile is worth another attempt. */
	vdisk->tried_without = call.pool ? node_disks_out(call.pool) : 0;
	vdisk->error = call.pool ? node_vdisk_call(vdisk, open_at_home, &call) : -ENODEV;
	vdisk->vdisk = call.vdisk;
	read_factor(node, vdisk);
	if (vdisk->error < 0)
		log_error("node", "a vDisk cannot be opened and is not served",
			  "vdisk=%s id=%" PRIu64 " error=%d", vdisk->name, vdisk->info.id,
			  vdisk->error);
	return vdisk->error;
}

static int close_at_home(void *arg)
{
	struct call *call = arg;

	return vdisk_close(call->vdisk);
}

int node_vdisk_close(struct node *node, struct node_vdisk *vdisk)
{
	struct call call = {0};
	int r;

	while (vdisk->users > 0)
		fiber_queue_wait(&node->changed);
	call.vdisk = TAKE_PTR(vdisk->vdisk);
	if (!call.vdisk)
		return 0;
	r = node_vdisk_call(vdisk, close_at_home, &call);
	if (r < 0)
		log_warning("node",
			    "a vDisk was not closed cleanly, its log is replayed at the "
			    "next start",
			    "vdisk=%s error=%d", vdisk->name, r);
	return r;
}

/* Names of containers, to make those of vDisks. */
static const char *container_name(const struct container_info *infos, size_t count, uint64_t id)
{
	for (size_t i = 0; i < count; i++)
		if (infos[i].id == id)
			return infos[i].name;
	return NULL;
}

int node_vdisks_load(struct node *node)
{
	_cleanup_free_ struct vdisk_info *infos = NULL;
	_cleanup_free_ struct container_info *containers = NULL;
	size_t count, container_count;
	struct node_vdisk *vdisk;
	int r = container_list(node->catalog, &containers, &container_count);

	if (r == 0)
		r = vdisk_list(node->catalog, &infos, &count);
	for (size_t i = 0; r == 0 && i < count; i++) {
		const char *container =
			container_name(containers, container_count, infos[i].container_id);

		/* A container may go as soon as its last vDisk is marked as deleting. */
		if (container || infos[i].deleting)
			r = node_vdisk_add(node, &infos[i], container ? container : "", &vdisk);
		else
			log_error("node", "a vDisk's container is not in the catalog",
				  "vdisk=%s id=%" PRIu64, infos[i].name, infos[i].id);
	}
	return r;
}

/* Several fibers that take one vDisk after the other. */
struct crew {
	struct node *node;
	struct list_node *next;
	void (*work)(struct node *node, struct node_vdisk *vdisk);
	unsigned busy;
	struct fiber_queue done;
	struct crew_member {
		struct fiber_task task;
		struct crew *crew;
	} members[PARALLEL];
};

static void crew_run(struct fiber_task *task)
{
	struct crew *crew = CONTAINER_OF(task, struct crew_member, task)->crew;

	while (crew->next != &crew->node->vdisks.head) {
		struct node_vdisk *vdisk = LIST_ENTRY(crew->next, struct node_vdisk, link);

		crew->next = crew->next->next;
		crew->work(crew->node, vdisk);
	}
	if (--crew->busy == 0)
		fiber_queue_wake_all(&crew->done);
}

static void for_all(struct node *node, void (*work)(struct node *node, struct node_vdisk *vdisk))
{
	struct crew crew = {
		.node = node, .work = work, .next = node->vdisks.head.next, .busy = PARALLEL};

	fiber_queue_init(&crew.done);
	for (unsigned i = 0; i < PARALLEL; i++) {
		crew.members[i].crew = &crew;
		crew.members[i].task.run = crew_run;
		fiber_spawn(node->home, FIBER_CONTROL, &crew.members[i].task);
	}
	while (crew.busy > 0)
		fiber_queue_wait(&crew.done);
}

static void open_one(struct node *node, struct node_vdisk *vdisk)
{
	if (!vdisk->info.deleting)
		(void)node_vdisk_open(node, vdisk); /* kept in vdisk->error */
}

void node_vdisks_open(struct node *node)
{
	for_all(node, open_one);
}

static void close_one(struct node *node, struct node_vdisk *vdisk)
{
	(void)node_vdisk_close(node, vdisk); /* was logged; the log is replayed */
}

void node_vdisks_close(struct node *node)
{
	struct node_vdisk *vdisk;

	for_all(node, close_one);
	LIST_FOR_EACH (&node->vdisks, vdisk, struct node_vdisk, link)
		node_vdisk_remove(node, vdisk);
}

int node_vdisk_begin(struct node *node, const char *name, const char *operation, bool is_job,
		     struct node_vdisk **ret_vdisk, const char **ret_blocker)
{
	for (;;) {
		struct node_vdisk *vdisk = node_vdisk_find(node, name);

		if (!vdisk)
			return -ENOENT;
		if (!vdisk->operation) {
			vdisk->operation = operation;
			vdisk->operation_is_job = is_job;
			*ret_vdisk = vdisk;
			return 0;
		}
		if (vdisk->operation_is_job || node->stopping) {
			*ret_blocker = vdisk->operation;
			return -EBUSY;
		}
		fiber_queue_wait(&node->changed);
	}
}

void node_vdisk_end(struct node *node, struct node_vdisk *vdisk)
{
	ASSERT(vdisk->operation);
	vdisk->operation = NULL;
	fiber_queue_wake_all(&node->changed);
}

bool node_vdisk_use(struct node_vdisk *vdisk)
{
	if (!vdisk->vdisk)
		return false;
	vdisk->users++;
	return true;
}

void node_vdisk_unuse(struct node *node, struct node_vdisk *vdisk)
{
	ASSERT(vdisk->users > 0);
	if (--vdisk->users == 0)
		fiber_queue_wake_all(&node->changed);
}

static int stats_at_home(void *arg)
{
	struct call *call = arg;

	vdisk_get_stats(call->vdisk, &call->ret_stats->stats);
	call->ret_stats->read = *vdisk_latency(call->vdisk, BLOCK_READ);
	call->ret_stats->write = *vdisk_latency(call->vdisk, BLOCK_WRITE);
	return 0;
}

int node_vdisk_get_stats(struct node *node, struct node_vdisk *vdisk,
			 struct node_vdisk_stats *ret_stats)
{
	struct call call = {.vdisk = vdisk->vdisk, .ret_stats = ret_stats};
	int r;

	if (!node_vdisk_use(vdisk))
		return -ENODEV;
	r = node_vdisk_call(vdisk, stats_at_home, &call);
	node_vdisk_unuse(node, vdisk);
	return r;
}

double node_write_amplification(const struct vdisk_stats *stats)
{
	uint64_t written = stats->bytes[BLOCK_WRITE] + stats->bytes[BLOCK_COMPARE_AND_WRITE];

	return written ? (double)stats->device_written_bytes / (double)written : 0;
}
