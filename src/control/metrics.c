/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The format wants all samples of a family together, so what vDisks and pools say is gathered
 * first. Names of containers, vDisks and pools have no character that a label's value must escape.
 */
#include "control/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/histogram.h"
#include "control/node_nvme.h"
#include "control/version.h"

struct vdisk_sample {
	char name[NODE_NAME_MAX + 1];
	struct node_vdisk_stats all;
};

struct pool_sample {
	char name[POOL_NAME_MAX + 1];
	struct pool_space space;
	bool online;
};

struct controller_sample {
	char name[KEEPER_NAME_MAX + 1];
	bool online;
	struct node_controller_status status;
};

struct metrics {
	struct vdisk_sample *vdisks;
	struct pool_sample *pools;
	struct controller_sample *controllers;
	struct reactor_stats *reactors;
	size_t vdisk_count, pool_count, controller_count, reactor_count;
	uint64_t uptime_ns;
	unsigned jobs_running;
};

struct field { /* a 64-bit number within a struct */
	const char *name, *type, *help;
	size_t offset;
};

#define VDISK(field) offsetof(struct vdisk_stats, field)
static const struct field vdisk_fields[] = {
	{"in_flight", "gauge", "Requests under way.", VDISK(in_flight)},
	{"live_bytes", "gauge", "Stored data that the vDisk still needs.", VDISK(live_bytes)},
	{"log_tail_bytes", "gauge", "Log that a restart would replay.", VDISK(log_tail_bytes)},
	{"map_memory_bytes", "gauge", "Memory of its map.", VDISK(map_memory_bytes)},
	{"device_written_bytes_total", "counter", "All that went to disk for it.",
	 VDISK(device_written_bytes)},
	{"device_read_bytes_total", "counter", "All that was read from disk for it.",
	 VDISK(device_read_bytes)},
	{"checkpoints_total", "counter", "Checkpoints.", VDISK(checkpoints)},
	{"groups", "gauge", "Extent groups.", VDISK(groups)},
	{"compacted_groups_total", "counter", "Groups compacted.", VDISK(compacted_groups)},
	{"compacted_bytes_total", "counter", "Live data moved by compaction.",
	 VDISK(compacted_bytes)},
	{"checksum_errors_total", "counter", "Stored data that did not match its checksum.",
	 VDISK(checksum_errors)},
};

#define POOL(field) offsetof(struct pool_space, field)
static const struct field pool_fields[] = {
	{"capacity_bytes", "gauge", "Room the pool may take.", POOL(capacity)},
	{"used_bytes", "gauge", "Size of its group files.", POOL(used)},
	{"live_bytes", "gauge", "Data that vDisks still need.", POOL(live)},
	{"reclaimable_bytes", "gauge", "Room that reclaim can give back.", POOL(reclaimable)},
	{"reserve_bytes", "gauge", "Room that only reclaim and checkpoints may take.",
	 POOL(reserve)},
	{"spare_bytes", "gauge", "Written files kept for reuse.", POOL(spare)},
	{"admitted_bytes", "gauge", "Writes let in that are not in a map yet.", POOL(admitted)},
	{"limit_bytes", "gauge", "The most that may be live.", POOL(limit)},
};

#define NVME(field)   offsetof(struct node_controller_status, stats.field)
#define KEEPER(field) offsetof(struct node_controller_status, counters.field)
static const struct field controller_fields[] = {
	{"in_flight_bytes", "gauge", "Data of the commands under way.", NVME(bytes_in_flight)},
	{"reads_total", "counter", "Read commands.", NVME(reads)},
	{"writes_total", "counter", "Write commands.", NVME(writes)},
	{"flushes_total", "counter", "Flush commands.", NVME(flushes)},
	{"others_total", "counter", "Other commands of I/O queues.", NVME(others)},
	{"admin_commands_total", "counter", "Admin commands.", NVME(admin_commands)},
	{"errors_total", "counter", "Commands that failed.", NVME(errors)},
	{"aborted_total", "counter", "Commands that were aborted.", NVME(aborted)},
	{"poisoned_total", "counter", "Commands given up after they ended engines.",
	 NVME(poisoned)},
	{"read_bytes_total", "counter", "Data read.", NVME(bytes_read)},
	{"written_bytes_total", "counter", "Data written.", NVME(bytes_written)},
	{"interrupts_total", "counter", "Interrupts raised.", NVME(interrupts)},
	{"wakeups_total", "counter", "Wake-ups by the keeper.", NVME(wakeups)},
	{"keeper_messages_total", "counter", "Messages of the virtual machine's device.",
	 KEEPER(messages)},
	{"keeper_doorbell_traps_total", "counter", "Doorbells that the keeper wrote.",
	 KEEPER(doorbell_traps)},
	{"keeper_resets_total", "counter", "Resets of the device.", KEEPER(resets)},
	{"keeper_engines_total", "counter", "Daemons that connected to the keeper.",
	 KEEPER(engines)},
	{"keeper_longest_message_ns", "gauge", "Longest time until a message was answered.",
	 KEEPER(longest_message_ns)},
};

static void print_family(FILE *out, const char *noun, const char *name, const char *type,
			 const char *help)
{
	fprintf(out, "# HELP sarsen_%s%s %s\n# TYPE sarsen_%s%s %s\n", noun, name, help, noun, name,
		type);
}

static uint64_t number_at(const void *object, size_t offset)
{
	uint64_t number;

	memcpy(&number, (const char *)object + offset, sizeof(number));
	return number;
}

static void print_vdisk_fields(FILE *out, const struct metrics *metrics)
{
	for (size_t f = 0; f < ARRAY_SIZE(vdisk_fields); f++) {
		const struct field *field = &vdisk_fields[f];

		print_family(out, "vdisk_", field->name, field->type, field->help);
		for (size_t i = 0; i < metrics->vdisk_count; i++)
			fprintf(out, "sarsen_vdisk_%s{vdisk=\"%s\"} %" PRIu64 "\n", field->name,
				metrics->vdisks[i].name,
				number_at(&metrics->vdisks[i].all.stats, field->offset));
	}
}

static void print_vdisk_operations(FILE *out, const struct metrics *metrics)
{
	static const struct field arrays[] = {
		{"operations_total", "counter", "Requests completed.", VDISK(operations)},
		{"bytes_total", "counter", "Bytes of the requests completed.", VDISK(bytes)},
		{"errors_total", "counter", "Requests that failed.", VDISK(errors)},
	};

	for (size_t f = 0; f < ARRAY_SIZE(arrays); f++) {
		print_family(out, "vdisk_", arrays[f].name, arrays[f].type, arrays[f].help);
		for (size_t i = 0; i < metrics->vdisk_count * BLOCK_OP_COUNT; i++) {
			const struct vdisk_sample *sample = &metrics->vdisks[i / BLOCK_OP_COUNT];
			enum block_op op = i % BLOCK_OP_COUNT;

			fprintf(out, "sarsen_vdisk_%s{vdisk=\"%s\",operation=\"%s\"} %" PRIu64 "\n",
				arrays[f].name, sample->name, block_op_name(op),
				number_at(&sample->all.stats,
					  arrays[f].offset + op * sizeof(uint64_t)));
		}
	}
}

/* Bounds are powers of two of nanoseconds, where the histogram is exact: 4 us to 17 s. */
static void print_histogram(FILE *out, const char *vdisk, const char *operation,
			    const struct histogram *histogram)
{
	for (unsigned bit = 12; bit <= 34; bit++)
		fprintf(out,
			"sarsen_vdisk_latency_seconds_bucket{vdisk=\"%s\",operation=\"%s\","
			"le=\"%.9g\"} %" PRIu64 "\n",
			vdisk, operation, (double)(UINT64_C(1) << bit) / 1e9,
			histogram_count_below(histogram, UINT64_C(1) << bit));
	fprintf(out,
		"sarsen_vdisk_latency_seconds_bucket{vdisk=\"%s\",operation=\"%s\",le=\"+Inf\"} "
		"%" PRIu64 "\n",
		vdisk, operation, histogram->count);
	fprintf(out, "sarsen_vdisk_latency_seconds_sum{vdisk=\"%s\",operation=\"%s\"} %.9f\n",
		vdisk, operation, (double)histogram->sum_ns / 1e9);
	fprintf(out,
		"sarsen_vdisk_latency_seconds_count{vdisk=\"%s\",operation=\"%s\"} %" PRIu64 "\n",
		vdisk, operation, histogram->count);
}

static void print_vdisks(FILE *out, const struct metrics *metrics)
{
	print_vdisk_operations(out, metrics);
	print_vdisk_fields(out, metrics);
	print_family(out, "vdisk_", "write_amplification", "gauge",
		     "Bytes written to disk for each byte written to the vDisk.");
	for (size_t i = 0; i < metrics->vdisk_count; i++)
		fprintf(out, "sarsen_vdisk_write_amplification{vdisk=\"%s\"} %.4f\n",
			metrics->vdisks[i].name,
			node_write_amplification(&metrics->vdisks[i].all.stats));
	print_family(out, "vdisk_", "latency_seconds", "histogram", "Time from request to answer.");
	for (size_t i = 0; i < metrics->vdisk_count; i++) {
		const struct vdisk_sample *sample = &metrics->vdisks[i];

		print_histogram(out, sample->name, "read", &sample->all.read);
		print_histogram(out, sample->name, "write", &sample->all.write);
	}
}

static void print_pools(FILE *out, const struct metrics *metrics)
{
	print_family(out, "pool_", "online", "gauge", "1 when the pool is open.");
	for (size_t i = 0; i < metrics->pool_count; i++)
		fprintf(out, "sarsen_pool_online{pool=\"%s\"} %d\n", metrics->pools[i].name,
			metrics->pools[i].online);
	for (size_t f = 0; f < ARRAY_SIZE(pool_fields); f++) {
		const struct field *field = &pool_fields[f];

		print_family(out, "pool_", field->name, field->type, field->help);
		for (size_t i = 0; i < metrics->pool_count; i++)
			if (metrics->pools[i].online)
				fprintf(out, "sarsen_pool_%s{pool=\"%s\"} %" PRIu64 "\n",
					field->name, metrics->pools[i].name,
					number_at(&metrics->pools[i].space, field->offset));
	}
}

static void print_controllers(FILE *out, const struct metrics *metrics)
{
	print_family(out, "nvme_", "online", "gauge", "1 when the controller is served.");
	for (size_t i = 0; i < metrics->controller_count; i++)
		fprintf(out, "sarsen_nvme_online{controller=\"%s\"} %d\n",
			metrics->controllers[i].name, metrics->controllers[i].online);
	print_family(out, "nvme_", "vm_connected", "gauge", "1 when a virtual machine is there.");
	for (size_t i = 0; i < metrics->controller_count; i++)
		fprintf(out, "sarsen_nvme_vm_connected{controller=\"%s\"} %d\n",
			metrics->controllers[i].name,
			metrics->controllers[i].status.client_connected);
	print_family(out, "nvme_", "in_flight", "gauge", "Commands under way.");
	for (size_t i = 0; i < metrics->controller_count; i++)
		fprintf(out, "sarsen_nvme_in_flight{controller=\"%s\"} %u\n",
			metrics->controllers[i].name,
			metrics->controllers[i].status.stats.commands_in_flight);
	for (size_t f = 0; f < ARRAY_SIZE(controller_fields); f++) {
		const struct field *field = &controller_fields[f];

		print_family(out, "nvme_", field->name, field->type, field->help);
		for (size_t i = 0; i < metrics->controller_count; i++)
			if (metrics->controllers[i].online)
				fprintf(out, "sarsen_nvme_%s{controller=\"%s\"} %" PRIu64 "\n",
					field->name, metrics->controllers[i].name,
					number_at(&metrics->controllers[i].status, field->offset));
	}
}

static void print_node(FILE *out, const struct metrics *metrics)
{
	print_family(out, "", "build_info", "gauge", "Always 1; the label is the version.");
	fprintf(out, "sarsen_build_info{version=\"%s\"} 1\n", version_text());
	print_family(out, "", "uptime_seconds", "gauge", "Since the daemon was started.");
	fprintf(out, "sarsen_uptime_seconds %.3f\n", (double)metrics->uptime_ns / 1e9);
	print_family(out, "", "jobs_running", "gauge", "Jobs that run.");
	fprintf(out, "sarsen_jobs_running %u\n", metrics->jobs_running);
	print_family(out, "reactor_", "slow_turns_total", "counter", "Turns that took over 5 ms.");
	for (size_t i = 0; i < metrics->reactor_count; i++)
		fprintf(out, "sarsen_reactor_slow_turns_total{reactor=\"%zu\"} %" PRIu64 "\n", i,
			metrics->reactors[i].slow_turns);
}

static int gather_vdisks(struct node *node, struct metrics *metrics)
{
	size_t count = list_count(&node->vdisks);
	struct node_vdisk *vdisk;

	metrics->vdisks = calloc(count + 1, sizeof(struct vdisk_sample));
	if (!metrics->vdisks)
		return -ENOMEM;
	for (uint64_t id = 0;
	     metrics->vdisk_count < count && (vdisk = node_vdisk_after(node, id));) {
		struct vdisk_sample *sample = &metrics->vdisks[metrics->vdisk_count];

		id = vdisk->info.id;
		snprintf(sample->name, sizeof(sample->name), "%s", vdisk->name);
		metrics->vdisk_count += node_vdisk_get_stats(node, vdisk, &sample->all) == 0;
	}
	return 0;
}

/* Under the lock. */
static int gather_pools(struct node *node, struct metrics *metrics)
{
	size_t count = list_count(&node->pools);
	struct node_pool *pool;

	metrics->pools = calloc(count + 1, sizeof(struct pool_sample));
	if (!metrics->pools)
		return -ENOMEM;
	LIST_FOR_EACH (&node->pools, pool, struct node_pool, link) {
		struct pool_sample *sample = &metrics->pools[metrics->pool_count++];

		snprintf(sample->name, sizeof(sample->name), "%s", pool->name);
		sample->online = pool->pool != NULL;
		if (pool->pool)
			node_pool_get_space(pool, &sample->space);
	}
	return 0;
}

static int gather_controllers(struct node *node, struct metrics *metrics)
{
	size_t count = list_count(&node->controllers);
	struct node_controller *controller;

	metrics->controllers = calloc(count + 1, sizeof(struct controller_sample));
	if (!metrics->controllers)
		return -ENOMEM;
	for (uint64_t id = 0;
	     metrics->controller_count < count && (controller = node_nvme_after(node, id));) {
		struct controller_sample *sample =
			&metrics->controllers[metrics->controller_count++];

		id = controller->id;
		snprintf(sample->name, sizeof(sample->name), "%s", controller->name);
		sample->online = node_nvme_get_status(controller, &sample->status) == 0;
	}
	return 0;
}

static int gather_reactors(struct node *node, struct metrics *metrics)
{
	metrics->reactors = calloc(node->options.reactor_count, sizeof(struct reactor_stats));
	if (!metrics->reactors)
		return -ENOMEM;
	metrics->reactor_count = node->options.reactor_count;
	for (unsigned i = 0; i < node->options.reactor_count; i++)
		node_get_reactor_stats(node, i, &metrics->reactors[i]);
	return 0;
}

struct metrics *metrics_new(void)
{
	return calloc(1, sizeof(struct metrics));
}

int metrics_gather(struct node *node, struct metrics **ret_metrics)
{
	_cleanup_(metrics_freep) struct metrics *metrics = metrics_new();
	int r;

	if (!metrics)
		return -ENOMEM;
	metrics->uptime_ns = reactor_now_ns(node->home) - node->started_ns;
	metrics->jobs_running = jobs_running(node->jobs);
	r = gather_reactors(node, metrics);
	if (r == 0)
		r = gather_vdisks(node, metrics);
	if (r == 0)
		r = gather_controllers(node, metrics);
	if (r == 0) {
		fiber_mutex_lock(&node->lock);
		r = gather_pools(node, metrics);
		fiber_mutex_unlock(&node->lock);
	}
	if (r == 0)
		*ret_metrics = TAKE_PTR(metrics);
	return r;
}

int metrics_print(const struct metrics *metrics, char **ret_text, size_t *ret_length)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_length);

	if (!out)
		return -ENOMEM;
	print_node(out, metrics);
	print_pools(out, metrics);
	print_vdisks(out, metrics);
	print_controllers(out, metrics);
	if (fclose(out) != 0) {
		free(text);
		return -ENOMEM;
	}
	*ret_text = text;
	return 0;
}

void metrics_free(struct metrics *metrics)
{
	if (!metrics)
		return;
	free(metrics->vdisks);
	free(metrics->pools);
	free(metrics->controllers);
	free(metrics->reactors);
	free(metrics);
}
