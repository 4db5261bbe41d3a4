/* SPDX-License-Identifier: Apache-2.0 */
#include "control/api_nvme.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A new controller's keeper is there within this time, or the creation is undone. */
#define CREATE_TIMEOUT (20 * NSEC_PER_SEC)
#define UNPLUG_WARNING "QEMU 11.1 aborts when the device is unplugged"

static int fail_controller(struct api_request *request, int error, const char *what,
			   const char *name)
{
	enum error_code code = error_code_of(error);

	if (error == -ENOENT || error == -ECONNREFUSED || error == -ECONNRESET ||
	    error == -ENOTCONN || error == -ENOPKG || error == -EPROTONOSUPPORT ||
	    error == -ENOEXEC)
		code = ERROR_UNAVAILABLE;
	return api_fail(request, code, name, "see: sarsen nvme list, and the daemon's log",
			"cannot %s controller '%s': %s", what, name, api_nvme_error_text(error));
}

static int require_nvme(struct api_request *request)
{
	if (request->node->options.nvme.keepers)
		return 0;
	return api_fail(request, ERROR_UNAVAILABLE, NULL,
			"set [nvme] enabled = true in the configuration and start the daemon again",
			"NVMe is disabled");
}

/* The controller that the call names; used until node_nvme_unuse(). */
static int begin(struct api_request *request, struct node_controller **ret_controller)
{
	const char *name = params_text(request->params, "name");
	struct node_controller *controller;
	int r = require_nvme(request);

	if (r < 0)
		return r;
	controller = node_nvme_find(request->node, name);
	if (!controller || controller->state == NODE_CONTROLLER_DELETING)
		return api_fail(request, ERROR_NOT_FOUND, name, "see: sarsen nvme list",
				"there is no controller '%s'", name);
	node_nvme_use(controller);
	*ret_controller = controller;
	return 0;
}

static int fail_create(struct api_request *request, int error, const char *name)
{
	const struct node_nvme_options *nvme = &request->node->options.nvme;

	if (error == -ENOSPC && list_count(&request->node->controllers) >= nvme->max_controllers)
		return api_fail(
			request, ERROR_BUSY, name, "delete one, or raise [nvme] max_controllers",
			"there are %u controllers, no more are allowed", nvme->max_controllers);
	if (error == -ENAMETOOLONG)
		return api_fail(request, ERROR_INVALID_NAME, name,
				"use a shorter name, or a shorter [nvme] directory",
				"controller '%s': %s", name, api_nvme_error_text(error));
	return api_fail_errno(request, error, "create controller", name);
}

/* One that cannot be served is of no use: it is removed again. */
static int finish_create(struct api_request *request, struct node_controller *controller)
{
	char name[KEEPER_NAME_MAX + 1];
	int r = 0;

	node_nvme_wait(controller, CREATE_TIMEOUT);
	if (controller->state != NODE_CONTROLLER_ONLINE) {
		snprintf(name, sizeof(name), "%s", controller->name);
		r = controller->error ? controller->error : -ETIMEDOUT;
		if (node_nvme_delete(controller, true) < 0)
			node_nvme_unuse(controller);
		return fail_controller(request, r, "create", name);
	}
	request->result = api_nvme_usage_to_json(controller);
	if (!request->result)
		r = api_fail_errno(request, -ENOMEM, "show controller", controller->name);
	node_nvme_unuse(controller);
	return r;
}

#define MANAGE_BYTES TIB

/* Under node->lock. */
static int want_manage(struct api_request *request, struct node_nvme_wanted *wanted)
{
	const char *name = params_text(request->params, "manage");
	int64_t limit = params_integer(request->params, "manage_limit", 0);
	struct container_info container;
	int r;

	if (!name && limit)
		return api_fail(request, ERROR_INVALID_REQUEST, wanted->name,
				"give --manage CONTAINER too", "a limit without a container");
	if (!name)
		return 0;
	r = container_find(request->node->catalog, name, &container);
	if (r == -ENOENT)
		return api_fail_unknown(request, "container", name);
	if (r < 0)
		return api_fail_errno(request, r, "find container", name);
	wanted->manage_container = container.id;
	wanted->manage_bytes = limit ? (uint64_t)limit : MANAGE_BYTES;
	return 0;
}

static int create_locked(struct api_request *request, struct node_nvme_wanted *wanted,
			 struct node_controller **ret_controller)
{
	int r = want_manage(request, wanted);

	if (r < 0)
		return r;
	r = node_nvme_create(request->node, wanted, ret_controller);
	if (r < 0)
		return fail_create(request, r, wanted->name);
	node_nvme_use(*ret_controller);
	return 0;
}

int api_nvme_create(struct api_request *request)
{
	const char *name = params_text(request->params, "name");
	const char *doorbells = params_text(request->params, "doorbells");
	const struct node_nvme_options *nvme = &request->node->options.nvme;
	struct node *node = request->node;
	struct node_nvme_wanted wanted;
	struct node_controller *controller;
	unsigned queues;
	int r = require_nvme(request);

	if (r < 0)
		return r;
	queues = (unsigned)params_integer(request->params, "queues", nvme->max_queues);
	if (queues > nvme->max_queues)
		return api_fail(request, ERROR_INVALID_REQUEST, name,
				"give fewer, or raise [nvme] max_queues",
				"%u queues are more than the %u allowed", queues, nvme->max_queues);
	wanted = (struct node_nvme_wanted){.name = name,
					   .doorbells_mapped =
						   doorbells && strcmp(doorbells, "mapped") == 0,
					   .queues = queues};
	fiber_mutex_lock(&node->lock);
	r = create_locked(request, &wanted, &controller);
	fiber_mutex_unlock(&node->lock);
	return r == 0 ? finish_create(request, controller) : r;
}

static int fail_delete(struct api_request *request, int error, const char *name)
{
	if (error == -EBUSY)
		return api_fail(request, ERROR_BUSY, name,
				"shut the machine down first (" UNPLUG_WARNING
				"), or add --force to take its disks away",
				"a virtual machine is connected to controller '%s'", name);
	if (error == -ENOTCONN)
		return api_fail(request, ERROR_UNAVAILABLE, name,
				"add --force to forget it; its keeper may have to be ended by hand",
				"the keeper of controller '%s' cannot be told to end", name);
	return fail_controller(request, error, "delete", name);
}

int api_nvme_delete(struct api_request *request)
{
	const char *name = params_text(request->params, "name");
	struct node_controller *controller;
	int r = begin(request, &controller);

	if (r < 0)
		return r;
	r = node_nvme_delete(controller, params_bool(request->params, "force"));
	if (r < 0) {
		node_nvme_unuse(controller);
		return fail_delete(request, r, name);
	}
	request->result = json_object();
	return 0;
}

int api_nvme_list(struct api_request *request)
{
	struct node_controller *controller;

	request->result = json_array();
	for (uint64_t id = 0; (controller = node_nvme_after(request->node, id));) {
		id = controller->id;
		node_nvme_use(controller);
		json_array_append_new(request->result, api_nvme_to_json(controller));
		node_nvme_unuse(controller);
	}
	return 0;
}

int api_nvme_show(struct api_request *request)
{
	struct node_controller *controller;
	int r = begin(request, &controller);

	if (r < 0)
		return r;
	request->result = api_nvme_to_json(controller);
	node_nvme_unuse(controller);
	return 0;
}

int api_nvme_usage(struct api_request *request)
{
	struct node_controller *controller;
	int r = begin(request, &controller);

	if (r < 0)
		return r;
	request->result = api_nvme_usage_to_json(controller);
	if (!request->result)
		r = api_fail_errno(request, -ENOMEM, "show controller", controller->name);
	node_nvme_unuse(controller);
	return r;
}

int api_nvme_namespaces(struct api_request *request)
{
	const char *name = params_text(request->params, "name");
	struct node_controller *controller;
	struct node_namespace *ns;

	if (name && !node_nvme_find(request->node, name))
		return api_fail(request, ERROR_NOT_FOUND, name, "see: sarsen nvme list",
				"there is no controller '%s'", name);
	request->result = json_array();
	LIST_FOR_EACH (&request->node->controllers, controller, struct node_controller, entry) {
		if (name && strcmp(controller->name, name) != 0)
			continue;
		LIST_FOR_EACH (&controller->namespaces, ns, struct node_namespace, link)
			json_array_append_new(request->result,
					      api_nvme_namespace_to_json(controller, ns));
	}
	return 0;
}

/* One vDisk for several: only when all of them know. */
static int check_sharing(struct api_request *request, const struct node_controller *controller,
			 struct node_vdisk *vdisk)
{
	struct node *node = request->node;
	bool shared = params_bool(request->params, "shared");
	const struct node_controller *holder = node_nvme_holder(node, vdisk);

	if (node_nvme_namespace((struct node_controller *)controller, vdisk->info.id))
		return api_fail(request, ERROR_EXISTS, vdisk->name, "see: sarsen nvme namespaces",
				"vDisk '%s' is attached to controller '%s' already", vdisk->name,
				controller->name);
	if (holder && (!shared || node_nvme_is_exclusive(node, vdisk)))
		return api_fail(request, ERROR_BUSY, vdisk->name,
				"detach it there, or attach it everywhere with --shared",
				"vDisk '%s' is attached to controller '%s'", vdisk->name,
				holder->name);
	if (vdisk->export && !shared)
		return api_fail(request, ERROR_BUSY, vdisk->name,
				"unexport it first, or add --shared if its users agree on that",
				"vDisk '%s' is exported over iSCSI", vdisk->name);
	return 0;
}

static int fail_attach(struct api_request *request, int error, const struct node_vdisk *vdisk)
{
	const struct node_nvme_options *nvme = &request->node->options.nvme;

	if (error == -EEXIST)
		return api_fail(request, ERROR_EXISTS, vdisk->name,
				"give another --nsid, or none for the lowest that is free",
				"this namespace id is in use");
	if (error == -ENOSPC)
		return api_fail(request, ERROR_BUSY, vdisk->name,
				"detach one, or raise [nvme] max_namespaces",
				"the controller has %u namespaces, no more are allowed",
				nvme->max_namespaces);
	if (error == -EINVAL)
		return api_fail(request, ERROR_INVALID_REQUEST, vdisk->name,
				"give the vDisk's own block size, or a larger one",
				"vDisk '%s' has blocks of %" PRIu32 " bytes", vdisk->name,
				vdisk->info.block_bytes);
	return api_fail_errno(request, error, "attach vDisk", vdisk->name);
}

static int attach(struct api_request *request, struct node_controller *controller,
		  struct node_vdisk *vdisk)
{
	const char *block = params_text(request->params, "block_size");
	const struct node_namespace wanted = {
		.nsid = (uint32_t)params_integer(request->params, "nsid", 0),
		.block_bytes = !block                       ? 0
			       : strcmp(block, "4096") == 0 ? 4096
							    : 512,
		.read_only = params_bool(request->params, "read_only"),
		.shared = params_bool(request->params, "shared")};
	uint32_t nsid;
	int r = check_sharing(request, controller, vdisk);

	if (r < 0)
		return r;
	r = node_nvme_attach(controller, vdisk, &wanted, &nsid);
	if (r < 0)
		return fail_attach(request, r, vdisk);
	request->result = api_nvme_namespace_to_json(
		controller, node_nvme_namespace(controller, vdisk->info.id));
	return 0;
}

int api_nvme_attach(struct api_request *request)
{
	struct node_controller *controller;
	struct node_vdisk *vdisk;
	int r = begin(request, &controller);

	if (r < 0)
		return r;
	r = api_begin_open(request, params_text(request->params, "vdisk"), false, &vdisk);
	if (r == 0) {
		r = attach(request, controller, vdisk);
		node_vdisk_end(request->node, vdisk);
	}
	node_nvme_unuse(controller);
	return r;
}

static int detach(struct api_request *request, struct node_controller *controller)
{
	const char *name = params_text(request->params, "vdisk");
	const struct node_vdisk *vdisk = node_vdisk_find(request->node, name);
	const struct node_namespace *ns;
	int r;

	if (!vdisk)
		return api_fail_unknown(request, "vdisk", name);
	ns = node_nvme_namespace(controller, vdisk->info.id);
	r = ns ? node_nvme_detach(controller, ns->nsid) : -ENOENT;
	if (r == -ENOENT)
		return api_fail(request, ERROR_NOT_FOUND, name, "see: sarsen nvme namespaces",
				"vDisk '%s' is not attached to controller '%s'", name,
				controller->name);
	if (r < 0)
		return api_fail_errno(request, r, "detach vDisk", name);
	request->result = json_object();
	return 0;
}

int api_nvme_detach(struct api_request *request)
{
	struct node_controller *controller;
	int r = begin(request, &controller);

	if (r < 0)
		return r;
	r = detach(request, controller);
	node_nvme_unuse(controller);
	return r;
}

int api_nvme_keeper_replace(struct api_request *request)
{
	struct node_controller *controller;
	int r = begin(request, &controller);

	if (r < 0)
		return r;
	r = node_nvme_replace(controller);
	if (r == 0) {
		node_nvme_wait(controller, CREATE_TIMEOUT);
		r = node_nvme_replace_result(controller);
	}
	if (r < 0)
		r = fail_controller(request, r, "replace the keeper of", controller->name);
	else
		request->result = api_nvme_to_json(controller);
	node_nvme_unuse(controller);
	return r;
}

int api_nvme_refuse_attached(struct api_request *request, const struct node_vdisk *vdisk)
{
	const struct node_controller *holder = node_nvme_holder(request->node, vdisk);
	char remedy[250];

	if (!holder)
		return 0;
	snprintf(remedy, sizeof(remedy), "first: sarsen nvme detach %s %s", holder->name,
		 vdisk->name);
	return api_fail(request, ERROR_BUSY, vdisk->name, remedy,
			"vDisk '%s' is attached to controller '%s'", vdisk->name, holder->name);
}
