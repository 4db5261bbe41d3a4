/* SPDX-License-Identifier: Apache-2.0 */
#include "control/api_priv.h"

#include <errno.h>
#include <string.h>

#include "base/histogram.h"
#include "control/version.h"

static json_t *latency_to_json(const struct histogram *histogram)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "count", (json_int_t)histogram->count,
			 "sum_ns", (json_int_t)histogram->sum_ns, "p50_ns",
			 (json_int_t)histogram_percentile_ns(histogram, 50), "p99_ns",
			 (json_int_t)histogram_percentile_ns(histogram, 99), "p999_ns",
			 (json_int_t)histogram_percentile_ns(histogram, 99.9), "max_ns",
			 (json_int_t)histogram->max_ns);
}

static json_t *operation_to_json(const struct vdisk_stats *stats, enum block_op op)
{
	return json_pack("{s:I, s:I, s:I}", "operations", (json_int_t)stats->operations[op],
			 "bytes", (json_int_t)stats->bytes[op], "errors",
			 (json_int_t)stats->errors[op]);
}

static json_t *stats_to_json(const char *name, const struct node_vdisk_stats *all)
{
	const struct vdisk_stats *stats = &all->stats;
	json_t *json =
		json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "name", name, "in_flight",
			  (json_int_t)stats->in_flight, "live_bytes", (json_int_t)stats->live_bytes,
			  "log_tail_bytes", (json_int_t)stats->log_tail_bytes, "map_memory_bytes",
			  (json_int_t)stats->map_memory_bytes, "device_written_bytes",
			  (json_int_t)stats->device_written_bytes, "device_read_bytes",
			  (json_int_t)stats->device_read_bytes, "write_amplification",
			  node_write_amplification(stats));
	json_t *more =
		json_pack("{s:I, s:I, s:I, s:I, s:I}", "checkpoints",
			  (json_int_t)stats->checkpoints, "groups", (json_int_t)stats->groups,
			  "compacted_groups", (json_int_t)stats->compacted_groups,
			  "compacted_bytes", (json_int_t)stats->compacted_bytes, "checksum_errors",
			  (json_int_t)stats->checksum_errors);

	json_object_update(json, more);
	json_decref(more);
	for (int op = 0; op < BLOCK_OP_COUNT; op++)
		json_object_set_new(json, block_op_name(op), operation_to_json(stats, op));
	json_object_set_new(json_object_get(json, "read"), "latency", latency_to_json(&all->read));
	json_object_set_new(json_object_get(json, "write"), "latency",
			    latency_to_json(&all->write));
	return json;
}

int api_stats_show(struct api_request *request)
{
	_cleanup_free_ struct node_vdisk_stats *stats = calloc(1, sizeof(*stats));
	const char *name = params_text(request->params, "name");
	struct node *node = request->node;
	struct node_vdisk *vdisk;

	if (!stats)
		return api_fail_errno(request, -ENOMEM, "show", "stats");
	if (name && !node_vdisk_find(node, name))
		return api_fail_unknown(request, "vdisk", name);
	request->result = json_array();
	for (uint64_t id = 0; (vdisk = node_vdisk_after(node, id));) {
		char own_name[NODE_NAME_MAX + 1];

		id = vdisk->info.id;
		snprintf(own_name, sizeof(own_name), "%s", vdisk->name);
		if ((!name || strcmp(own_name, name) == 0) &&
		    node_vdisk_get_stats(node, vdisk, stats) == 0)
			json_array_append_new(request->result, stats_to_json(own_name, stats));
	}
	return 0;
}

static json_t *reactors_to_json(struct node *node)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < node->options.reactor_count; i++) {
		struct reactor_stats stats;

		node_get_reactor_stats(node, i, &stats);
		json_array_append_new(
			list, json_pack("{s:i, s:I, s:I, s:I, s:I, s:I}", "index", (int)i, "turns",
					(json_int_t)stats.turns, "events", (json_int_t)stats.events,
					"sleeps", (json_int_t)stats.sleeps, "slow_turns",
					(json_int_t)stats.slow_turns, "longest_turn_ns",
					(json_int_t)stats.longest_turn_ns));
	}
	return list;
}

static json_t *iscsi_to_json(const struct node *node)
{
	char address[64], text[80];
	uint16_t port;

	if (!node->iscsi)
		return json_pack("{s:s}", "address", "disabled");
	iscsi_server_address(node->iscsi, address, sizeof(address), &port);
	snprintf(text, sizeof(text), strchr(address, ':') ? "[%s]:%u" : "%s:%u", address, port);
	return json_pack("{s:s, s:i}", "address", text, "port", (int)port);
}

static json_t *nvme_to_json(const struct node *node)
{
	const struct node_nvme_options *nvme = &node->options.nvme;

	return json_pack("{s:s, s:I}", "directory", nvme->keepers ? nvme->directory : "disabled",
			 "controllers", (json_int_t)list_count(&node->controllers));
}

int api_node_show(struct api_request *request)
{
	struct node *node = request->node;
	json_int_t failed = 0;
	struct node_vdisk *vdisk;

	LIST_FOR_EACH (&node->vdisks, vdisk, struct node_vdisk, link)
		failed += !vdisk->vdisk && !vdisk->info.deleting;
	request->result = json_pack(
		"{s:s, s:I, s:I, s:s, s:i, s:I, s:I, s:I, s:I, s:i, s:o, s:o}", "version",
		version_text(), "pid", (json_int_t)node->options.process_id, "uptime_ns",
		(json_int_t)(reactor_now_ns(node->home) - node->started_ns), "state_directory",
		node->options.state_directory, "reactor_count", (int)node->options.reactor_count,
		"map_budget_bytes", (json_int_t)node->options.map_budget_bytes, "pools",
		(json_int_t)list_count(&node->pools), "vdisks",
		(json_int_t)list_count(&node->vdisks), "failed_vdisks", failed, "jobs_running",
		(int)jobs_running(node->jobs), "reactors", reactors_to_json(node), "iscsi",
		iscsi_to_json(node));
	json_object_set_new(request->result, "nvme", nvme_to_json(node));
	return 0;
}
