/* SPDX-License-Identifier: Apache-2.0 */
#include "control/api_nvme.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "control/node_overcommit.h"
#include "control/size.h"
#include "control/time_text.h"

#define BLOCK 4096

static const char *state_of(const struct node_vdisk *vdisk)
{
	if (vdisk->info.deleting)
		return "deleting";
	/* "read-only": its log failed, and it takes writes again once the daemon was restarted; or
	 * it was opened without a disk to write to. */
	if (vdisk->vdisk && vdisk_error(vdisk->vdisk) < 0)
		return "read-only";
	return vdisk->vdisk ? "online" : "failed";
}

static void add_runtime(struct node *node, struct node_vdisk *vdisk, json_t *json)
{
	const struct node_pool *pool = node_pool_by_id(node, vdisk->info.pool_id);
	char url[NODE_URL_MAX];

	json_object_set_new(json, "pool", json_string(pool ? pool->name : ""));
	json_object_set_new(json, "reactor", json_integer(reactor_index(vdisk->home)));
	if (vdisk->operation)
		json_object_set_new(json, "operation", json_string(vdisk->operation));
	if (vdisk->export)
		json_object_set_new(json, "url",
				    json_string(node_export_url(node, vdisk->export, url)));
}

/* It is served, but for what cannot be found any more. */
static void add_damage(json_t *json, uint64_t damaged_pages)
{
	if (damaged_pages == 0)
		return;
	json_object_set_new(json, "state", json_string("damaged"));
	json_object_set_new(
		json, "error",
		json_string("parts of its map are damaged: what lies there cannot be read; the "
			    "daemon's log says where: write it again from a copy, or unmap it"));
}

/* The controllers that have it; absent when none has. */
static void add_controllers(struct node *node, const struct node_vdisk *vdisk, json_t *json)
{
	struct node_controller *controller;
	json_t *names;

	if (!node_nvme_holder(node, vdisk))
		return;
	names = json_array();
	LIST_FOR_EACH (&node->controllers, controller, struct node_controller, entry)
		if (node_nvme_namespace(controller, vdisk->info.id))
			json_array_append_new(names, json_string(controller->name));
	json_object_set_new(json, "controllers", names);
}

static const char stranded_cause[] = "no disk of its pool can be written";

static bool is_stranded(const struct node_vdisk *vdisk)
{
	return vdisk->vdisk && vdisk_is_stranded(vdisk->vdisk);
}

static void add_error(struct node *node, const struct node_vdisk *vdisk, json_t *json)
{
	char cause[NODE_DAMAGE_TEXT_MAX];

	if (node_damage_text(node, vdisk, cause))
		json_object_set_new(json, "error",
				    json_sprintf("%s: %s", cause, NODE_DAMAGE_REMEDY));
	else if (vdisk->error)
		json_object_set_new(json, "error", json_string(api_error_text(vdisk->error)));
	else if (is_stranded(vdisk))
		json_object_set_new(
			json, "error",
			json_sprintf("%s: it is only read; " NODE_STRANDED_REMEDY, stranded_cause));
}

/* Reads the row too; suspends. The vDisk may be gone afterwards. */
static json_t *vdisk_to_json(struct node *node, struct node_vdisk *vdisk)
{
	_cleanup_free_ struct node_vdisk_stats *stats = calloc(1, sizeof(*stats));
	struct vdisk_info info = vdisk->info;
	char created[TIME_TEXT_MAX];
	json_t *json = json_pack(
		"{s:s, s:I, s:s, s:I, s:I, s:s}", "name", vdisk->name, "id", (json_int_t)info.id,
		"state", state_of(vdisk), "size_bytes", (json_int_t)info.size_bytes, "block_bytes",
		(json_int_t)info.block_bytes, "created", time_text(info.created_wall_ns, created));

	add_error(node, vdisk, json);
	add_runtime(node, vdisk, json);
	add_controllers(node, vdisk, json);
	if (stats && node_vdisk_get_stats(node, vdisk, stats) == 0) {
		info.live_bytes = stats->stats.live_bytes;
		add_damage(json, stats->stats.damaged_pages);
	}
	json_object_set_new(json, "live_bytes", json_integer((json_int_t)info.live_bytes));
	return json;
}

/* What every vDisk's size must be; the limits are the engine's. */
static int check_size(struct api_request *request, const char *name, uint64_t size)
{
	char text[SIZE_TEXT_MAX];
	const char *problem = NULL;

	if (size % BLOCK != 0)
		problem = "not a multiple of 4096 bytes";
	else if (size < VDISK_MIN_BYTES)
		problem = "less than 1M";
	else if (size > VDISK_MAX_BYTES)
		problem = "more than 64T";
	if (!problem)
		return 0;
	return api_fail(request, ERROR_INVALID_SIZE, name,
			"give 1M to 64T, a multiple of 4096 bytes",
			"vDisk '%s': the size %s (%" PRIu64 " bytes) is %s", name,
			size_format(size, text), size, problem);
}

/* Thin vDisks may be larger together than the pool; whoever makes them so shall know. */
static void warn_of_overcommit(struct api_request *request, const struct node_vdisk *vdisk)
{
	struct node *node = request->node;
	struct node_pool *pool = node_pool_by_id(node, vdisk->info.pool_id);
	char text[NODE_OVERCOMMIT_TEXT_MAX], message[ERROR_TEXT_MAX];
	struct node_overcommit overcommit;

	if (!pool)
		return;
	node_overcommit_get(node, pool, &overcommit);
	if (node_overcommit_ratio(&overcommit) <= 1)
		return;
	node_overcommit_text(&overcommit, text);
	snprintf(message, sizeof(message), "pool '%s' is %s", pool->name, text);
	json_object_set_new(request->result, "warnings",
			    json_pack("[{s:s, s:s, s:s, s:I, s:I, s:f}]", "code", "overcommitted",
				      "message", message, "remedy",
				      "watch its space, or add disks: sarsen disk add",
				      "provisioned_bytes", (json_int_t)overcommit.provisioned,
				      "limit_bytes", (json_int_t)overcommit.limit, "factor",
				      node_overcommit_ratio(&overcommit)));
}

static int create_locked(struct api_request *request, const char *name, struct vdisk_spec *spec,
			 const struct container_info *container)
{
	struct node *node = request->node;
	struct node_pool *pool = node_pool_by_id(node, container->pool_id);
	struct node_vdisk *vdisk;
	struct vdisk_info info;
	uint64_t id;
	int r;

	if (!pool || !pool->pool)
		return api_fail_errno(request, pool ? pool->error : -ENODEV, "use the pool of",
				      name);
	spec->container_id = container->id;
	r = vdisk_create(pool->pool, spec, &id);
	if (r == 0)
		r = vdisk_get(node->catalog, id, &info);
	if (r == 0)
		r = node_vdisk_add(node, &info, container->name, &vdisk);
	if (r == 0)
		r = node_vdisk_open(node, vdisk);
	if (r < 0)
		return api_fail_errno(request, r, "create vDisk", name);
	request->result = vdisk_to_json(node, vdisk);
	warn_of_overcommit(request, vdisk);
	return 0;
}

int api_vdisk_create(struct api_request *request)
{
	const char *name = params_text(request->params, "name");
	const char *block = params_text(request->params, "block");
	struct node *node = request->node;
	struct params_vdisk_name parts;
	struct vdisk_spec spec = {.size_bytes =
					  (uint64_t)params_integer(request->params, "size", 0),
				  .block_bytes = block && strcmp(block, "4096") == 0 ? 4096 : 512};
	struct container_info container;
	int r = check_size(request, name, spec.size_bytes);

	if (r < 0)
		return r;
	r = params_split_vdisk(name, &parts);
	ASSERT(r == 0);
	spec.name = parts.vdisk;
	fiber_mutex_lock(&node->lock);
	r = container_find(node->catalog, parts.container, &container);
	if (r == -ENOENT)
		r = api_fail_unknown(request, "container", parts.container);
	else if (r < 0)
		r = api_fail_errno(request, r, "find container", parts.container);
	else
		r = create_locked(request, name, &spec, &container);
	fiber_mutex_unlock(&node->lock);
	return r;
}

int api_vdisk_list(struct api_request *request)
{
	const char *container = params_text(request->params, "container");
	size_t length = container ? strlen(container) : 0;
	struct node *node = request->node;
	struct container_info info;
	struct node_vdisk *vdisk;
	int r = container ? container_find(node->catalog, container, &info) : 0;

	if (r == -ENOENT)
		return api_fail_unknown(request, "container", container);
	if (r < 0)
		return api_fail_errno(request, r, "find container", container);
	request->result = json_array();
	for (uint64_t id = 0; (vdisk = node_vdisk_after(node, id));) {
		id = vdisk->info.id;
		if (!container ||
		    (strncmp(vdisk->name, container, length) == 0 && vdisk->name[length] == '/'))
			json_array_append_new(request->result, vdisk_to_json(node, vdisk));
	}
	return 0;
}

int api_vdisk_show(struct api_request *request)
{
	const char *name = params_text(request->params, "name");
	struct node_vdisk *vdisk = node_vdisk_find(request->node, name);
	struct vdisk_info info;

	if (!vdisk)
		return api_fail_unknown(request, "vdisk", name);
	request->result = vdisk_to_json(request->node, vdisk);
	vdisk = node_vdisk_find(request->node, name);
	if (vdisk && vdisk_get(request->node->catalog, vdisk->info.id, &info) == 0)
		json_object_set_new(request->result, "epoch", json_integer((json_int_t)info.epoch));
	return 0;
}

struct home_call {
	struct vdisk *vdisk;
	uint64_t size_bytes;
	bool read_data;
	struct job *job;
	struct vdisk_check_report report;
};

static int fail_change(struct api_request *request, const struct node_vdisk *vdisk, int error,
		       const char *verb)
{
	char what[32];

	if (is_stranded(vdisk))
		return api_fail(request, ERROR_IO, vdisk->name, NODE_STRANDED_REMEDY,
				"cannot %s vDisk '%s': %s", verb, vdisk->name, stranded_cause);
	snprintf(what, sizeof(what), "%s vDisk", verb);
	return api_fail_errno(request, error, what, vdisk->name);
}

static int resize_at_home(void *arg)
{
	struct home_call *call = arg;

	return vdisk_resize(call->vdisk, call->size_bytes);
}

static int resize(struct api_request *request, struct node_vdisk *vdisk, uint64_t size)
{
	struct home_call call = {.vdisk = vdisk->vdisk, .size_bytes = size};
	bool grows;
	int r;

	if (size < vdisk->info.size_bytes && !params_bool(request->params, "shrink"))
		return api_fail(request, ERROR_INVALID_SIZE, vdisk->name,
				"add --shrink to lose what lies beyond the new size",
				"vDisk '%s' is larger than that", vdisk->name);
	r = node_vdisk_call(vdisk, resize_at_home, &call);
	if (r < 0)
		return fail_change(request, vdisk, r, "resize");
	grows = size > vdisk->info.size_bytes;
	vdisk->info.size_bytes = size;
	node_export_resized(request->node, vdisk);
	node_nvme_resized(request->node, vdisk);
	request->result = vdisk_to_json(request->node, vdisk);
	if (grows) {
		fiber_mutex_lock(&request->node->lock);
		warn_of_overcommit(request, vdisk);
		fiber_mutex_unlock(&request->node->lock);
	}
	return 0;
}

int api_vdisk_resize(struct api_request *request)
{
	const char *name = params_text(request->params, "name");
	uint64_t size = (uint64_t)params_integer(request->params, "size", 0);
	struct node_vdisk *vdisk;
	int r = check_size(request, name, size);

	if (r == 0)
		r = api_begin_open(request, name, false, &vdisk);
	if (r < 0)
		return r;
	r = resize(request, vdisk, size);
	node_vdisk_end(request->node, vdisk);
	return r;
}

static int rename_vdisk(struct api_request *request, struct node_vdisk *vdisk, const char *new_name)
{
	struct node *node = request->node;
	struct params_vdisk_name parts, new_parts;
	int r = params_split_vdisk(vdisk->name, &parts);

	ASSERT(r == 0);
	r = params_split_vdisk(new_name, &new_parts);
	ASSERT(r == 0);
	if (strcmp(parts.container, new_parts.container) != 0)
		return api_fail(request, ERROR_INVALID_REQUEST, new_name,
				"give a name in the same container",
				"vDisk '%s' cannot move to another container", vdisk->name);
	r = vdisk_rename(node->catalog, vdisk->info.id, new_parts.vdisk);
	if (r < 0)
		return api_fail_errno(request, r, "rename vDisk to", new_name);
	node_vdisk_set_name(vdisk, parts.container, new_parts.vdisk);
	request->result = vdisk_to_json(node, vdisk);
	return 0;
}

int api_vdisk_rename(struct api_request *request)
{
	struct node_vdisk *vdisk;
	int r = api_begin(request, params_text(request->params, "name"), false, &vdisk);

	if (r < 0)
		return r;
	r = rename_vdisk(request, vdisk, params_text(request->params, "new_name"));
	node_vdisk_end(request->node, vdisk);
	return r;
}

static int refuse_in_use(struct api_request *request, const struct node_vdisk *vdisk)
{
	char remedy[200];

	if (!vdisk->export)
		return api_nvme_refuse_attached(request, vdisk);
	snprintf(remedy, sizeof(remedy), "first: sarsen iscsi unexport %s", vdisk->name);
	return api_fail(request, ERROR_BUSY, vdisk->name, remedy,
			"vDisk '%s' is exported over iSCSI", vdisk->name);
}

static int begin_delete(struct api_request *request, struct node_vdisk *vdisk)
{
	struct node *node = request->node;
	uint64_t job;
	int r = refuse_in_use(request, vdisk);

	if (r < 0)
		return r;
	(void)node_vdisk_close(node, vdisk); /* was logged; what it left is deleted as well */
	r = node_delete_start(node, vdisk, &job);
	if (r == 0) {
		request->result = job_to_json(node->jobs, job);
		return 0;
	}
	(void)node_vdisk_open(node, vdisk); /* as before; its error is in the entry */
	return api_fail_errno(request, r, "delete vDisk", vdisk->name);
}

int api_vdisk_delete(struct api_request *request)
{
	struct node_vdisk *vdisk;
	int r = api_begin(request, params_text(request->params, "name"), true, &vdisk);

	if (r < 0)
		return r;
	r = begin_delete(request, vdisk);
	if (r < 0)
		node_vdisk_end(request->node, vdisk);
	return r; /* else the job ends the operation */
}

struct check {
	struct node *node;
	struct node_vdisk *vdisk;
	bool read_data;
};

static bool check_progress(void *arg, uint64_t bytes_done, uint64_t bytes_total)
{
	job_progress(arg, bytes_done, bytes_total);
	return !job_is_cancelled(arg);
}

static int check_at_home(void *arg)
{
	struct home_call *call = arg;

	return vdisk_check(call->vdisk, call->read_data, check_progress, call->job, &call->report);
}

static json_t *report_to_json(const struct vdisk_check_report *report)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "pages", (json_int_t)report->pages,
			 "blocks", (json_int_t)report->blocks, "bad_pages",
			 (json_int_t)report->bad_pages, "bad_blocks",
			 (json_int_t)report->bad_blocks, "leaked_blocks",
			 (json_int_t)report->leaked_blocks, "missing_live_blocks",
			 (json_int_t)report->missing_live_blocks);
}

static int run_check(struct job *job, void *arg, struct error *ret_error)
{
	struct check *check = arg;
	const char *name = check->vdisk->name, *text;
	struct home_call call = {
		.vdisk = check->vdisk->vdisk, .read_data = check->read_data, .job = job};
	const struct vdisk_check_report *report = &call.report;
	int r;

	job_set_cancellable(job, true);
	r = node_vdisk_call(check->vdisk, check_at_home, &call);
	if (r < 0 && r != -ECANCELED) {
		bool stranded = is_stranded(check->vdisk);

		text = stranded ? stranded_cause : api_error_text(r);
		error_set(ret_error, error_code_of(r), name,
			  stranded ? NODE_STRANDED_REMEDY : "see the daemon's log",
			  "vDisk '%s' cannot be checked: %s", name, text ? text : "see the log");
	} else if (r == 0) {
		job_set_result(job, report_to_json(report));
	}
	if (r == 0 && report->bad_pages + report->bad_blocks + report->missing_live_blocks > 0) {
		error_set(ret_error, ERROR_DAMAGED, name, "restore it from a copy",
			  "vDisk '%s' is damaged: %" PRIu64 " bad pages, %" PRIu64
			  " bad blocks, %" PRIu64 " live blocks not accounted for",
			  name, report->bad_pages, report->bad_blocks, report->missing_live_blocks);
		r = -EUCLEAN;
	}
	node_vdisk_end(check->node, check->vdisk);
	return r;
}

static int begin_check(struct api_request *request, struct node_vdisk *vdisk)
{
	struct job_spec spec = {.method = request->method,
				.object = vdisk->name,
				.subject = vdisk->info.id,
				.run = run_check,
				.done = free};
	struct check *check = malloc(sizeof(*check));
	uint64_t job;
	int r;

	if (!check)
		return api_fail_errno(request, -ENOMEM, "check vDisk", vdisk->name);
	*check = (struct check){.node = request->node,
				.vdisk = vdisk,
				.read_data = params_bool(request->params, "data")};
	spec.arg = check;
	r = job_start(request->node->jobs, &spec, &job);
	if (r < 0) {
		free(check);
		return api_fail_errno(request, r, "check vDisk", vdisk->name);
	}
	request->result = job_to_json(request->node->jobs, job);
	return 0;
}

int api_vdisk_check(struct api_request *request)
{
	struct node_vdisk *vdisk;
	int r = api_begin_open(request, params_text(request->params, "name"), true, &vdisk);

	if (r < 0)
		return r;
	r = begin_check(request, vdisk);
	if (r < 0)
		node_vdisk_end(request->node, vdisk);
	return r; /* else the job ends the operation */
}

static int flush_at_home(void *arg)
{
	struct home_call *call = arg;
	int r = block_io(vdisk_volume(call->vdisk), BLOCK_FLUSH, 0, NULL, 0, 0);

	return r < 0 ? r : vdisk_checkpoint(call->vdisk);
}

int api_vdisk_flush(struct api_request *request)
{
	const char *name = params_text(request->params, "name");
	struct node_vdisk *vdisk;
	struct home_call call;
	int r = api_begin_open(request, name, false, &vdisk);

	if (r < 0)
		return r;
	call.vdisk = vdisk->vdisk;
	r = node_vdisk_call(vdisk, flush_at_home, &call);
	if (r < 0)
		r = fail_change(request, vdisk, r, "flush");
	node_vdisk_end(request->node, vdisk);
	if (r < 0)
		return r;
	request->result = json_object();
	return 0;
}
