/* SPDX-License-Identifier: Apache-2.0 */
#include "control/node.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "control/json_memory.h"
#include "control/node_disk.h"
#include "control/node_nvme.h"
#include "control/node_place.h"
#include "control/node_scrub.h"

struct reactor *node_next_reactor(struct node *node)
{
	return node->options.reactors[node->next_reactor++ % node->options.reactor_count];
}

static int stats_at_home(void *arg)
{
	reactor_get_stats(reactor_current(), arg);
	return 0;
}

void node_get_reactor_stats(struct node *node, unsigned index, struct reactor_stats *ret_stats)
{
	(void)fiber_call(node->options.reactors[index], FIBER_CONTROL, stats_at_home,
			 ret_stats); /* is 0 */
}

struct cache_call {
	struct node *node;
	unsigned index;
};

static int new_cache_at_home(void *arg)
{
	struct cache_call *call = arg;
	struct node *node = call->node;

	return vdisk_cache_new(reactor_current(),
			       node->options.map_budget_bytes / node->options.reactor_count,
			       &node->caches[call->index]);
}

static int free_cache_at_home(void *arg)
{
	struct cache_call *call = arg;

	vdisk_cache_free(call->node->caches[call->index]);
	return 0;
}

static int open_caches(struct node *node)
{
	int r = 0;

	node->caches = calloc(node->options.reactor_count, sizeof(struct vdisk_cache *));
	if (!node->caches)
		return -ENOMEM;
	for (unsigned i = 0; r == 0 && i < node->options.reactor_count; i++) {
		struct cache_call call = {node, i};

		r = fiber_call(node->options.reactors[i], FIBER_CONTROL, new_cache_at_home, &call);
	}
	return r;
}

static void close_caches(struct node *node)
{
	for (unsigned i = 0; node->caches && i < node->options.reactor_count; i++) {
		struct cache_call call = {node, i};

		if (node->caches[i]) /* always 0 */
			(void)fiber_call(node->options.reactors[i], FIBER_CONTROL,
					 free_cache_at_home, &call);
	}
	free(node->caches);
}

static int open_iscsi(struct node *node, struct error *error)
{
	struct iscsi_server_options *options = &node->options.iscsi;
	char where[100];
	int r;

	if (!node->options.iscsi_enabled)
		return 0;
	options->save_reservations = node_export_save;
	options->save_arg = node;
	options->closed = true;
	options->reactors = node->options.reactors;
	options->reactor_count = MIN(node->options.reactor_count, (unsigned)ISCSI_REACTORS_MAX);
	r = iscsi_server_new(node->home, options, &node->iscsi);
	if (r == 0)
		return 0;
	snprintf(where, sizeof(where), "%s port %u", options->address, options->port);
	error_set(error, error_code_of(r), where,
		  "choose another [iscsi] port or address, or set port_fallback = true",
		  "iSCSI cannot listen on %s: %s", where,
		  r == -EADDRINUSE                      ? "the port is in use"
		  : r == -EADDRNOTAVAIL || r == -EINVAL ? "not an address of this machine"
		  : r == -EACCES                        ? "ports below 1024 need a privilege"
							: "see the log");
	return r;
}

/* What the catalog names. Only its own errors end the start. */
static int open_objects(struct node *node)
{
	int r = node_pools_open(node);

	if (r == 0)
		r = node_vdisks_load(node);
	if (r == 0)
		r = events_open(node->home, node->catalog, &node->events);
	if (r == 0)
		r = jobs_open(node->home, node->catalog, &node->jobs);
	if (r < 0)
		return r;
	jobs_set_events(node->jobs, node->events);
	node_forget_orphans(node);
	node_delete_mark(node);
	node_vdisks_open(node);
	return node_nvme_load(node);
}

static int open_all(struct node *node, struct error *error)
{
	int r;

	node_dead_begin(node);
	r = node_catalog_open(node, error);
	if (r == 0)
		r = node_catalog_start(node, error);
	if (r == 0)
		r = open_caches(node);
	if (r == 0)
		r = open_objects(node);
	/* The port opens last but for the exports; nobody is accepted before these are there. */
	if (r == 0)
		r = open_iscsi(node, error);
	if (r == 0)
		r = node_targets_open(node);
	if (r == 0)
		r = node_exports_open(node);
	if (r == 0 && node->iscsi)
		iscsi_server_open(node->iscsi);
	if (r < 0 && error->code == ERROR_NONE)
		error_set(error, error_code_of(r), node->options.state_directory, "see the log",
			  "the node cannot start (error %d)", -r);
	return r;
}

int node_start(const struct node_options *options, struct node **ret_node, struct error *ret_error)
{
	struct node *node = calloc(1, sizeof(*node));
	struct node_vdisk *vdisk;
	unsigned vdisks = 0, failed = 0;
	int r;

	ASSERT(options->reactor_count > 0 && reactor_current() == options->reactors[0]);
	if (!node) {
		error_set(ret_error, ERROR_INTERNAL, NULL, NULL, "out of memory");
		return -ENOMEM;
	}
	json_memory_watch();
	node->options = *options;
	if (!node->options.disk_timeout_ns)
		node->options.disk_timeout_ns = POOL_DISK_TIMEOUT_NS;
	node->home = options->reactors[0];
	list_init(&node->pools);
	list_init(&node->vdisks);
	list_init(&node->targets);
	fiber_mutex_init(&node->iscsi_lock);
	list_init(&node->controllers);
	fiber_mutex_init(&node->lock);
	fiber_mutex_init(&node->scrub_lock);
	fiber_mutex_init(&node->reservations_lock);
	fiber_queue_init(&node->changed);
	node->started_ns = reactor_now_ns(node->home);
	r = open_all(node, ret_error);
	if (r < 0) {
		node_stop(node);
		return r;
	}
	node_watch_start(node);
	node_repair_start_service(node);
	node_scrub_start_service(node);
	node_place_start_service(node);
	node_reopen_start_service(node);
	node_delete_resume(node);
	node_space_start(node);
	LIST_FOR_EACH (&node->vdisks, vdisk, struct node_vdisk, link) {
		vdisks++;
		failed += !vdisk->vdisk && !vdisk->info.deleting;
	}
	log_info("node", "started", "vdisks=%u failed=%u milliseconds=%" PRIu64, vdisks, failed,
		 (reactor_now_ns(node->home) - node->started_ns) / NSEC_PER_MSEC);
	*ret_node = node;
	return 0;
}

void node_begin_stop(struct node *node)
{
	reactor_assert_home(node->home);
	node->stopping = true;
	jobs_begin_close(node->jobs);
	events_begin_close(node->events);
	node_nvme_begin_close(node);
	fiber_queue_wake_all(&node->changed);
}

void node_stop(struct node *node)
{
	reactor_assert_home(node->home);
	node->stopping = true;
	node_space_stop(node);
	node_service_stop(&node->watch);
	node_service_stop(&node->repair);
	node_service_stop(&node->scrub);
	node_service_stop(&node->places);
	node_service_stop(&node->reopen);
	if (node->iscsi)
		iscsi_server_free(node->iscsi);
	node_targets_close(node);
	node_nvme_close(node);
	jobs_close(node->jobs);
	node_vdisks_close(node);
	node_pools_close(node);
	close_caches(node);
	if (node->watch.started)
		event_emit(node->events, EVENT_NODE_STOPPED, "node", "a clean stop");
	events_close(node->events);
	if (node->catalog)
		catalog_close(node->catalog);
	free(node->catalog_watch.infos);
	free(node);
}
