/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest does by Namespace Management and Attachment, of a controller that was made with
 * --manage: its namespaces are vDisks of one container, up to a limit in bytes.
 *
 * 1. The rows that change and the controller's row with the result of the command are one commit. A
 *    command that is asked for again finds its own result there (rule 5 of docs/nvme.md).
 * 2. A vDisk is made before its namespace. Its name says which command made it, so the same
 * command, when an engine has died in between, takes that one. When nobody asks again, since the
 * guest was reset, it stays as a vDisk of the container that nobody has.
 * 3. A vDisk's deletion begins before its namespace goes. Begun, it is a job that goes on by
 * itself; the namespace, which shows an error then, can be deleted again.
 *
 * On the node's home, under the controller's lock. Whoever closes its link holds that and waits
 * for the guest's commands, so they give way: they stay in their slots for the next engine.
 */
#include "control/node_nvme.h"

#include <errno.h>
#include <inttypes.h>
#include <nvme/types.h>
#include <stdio.h>

#include "base/log.h"

#define SPECIFIC(code) (0x100 | (code))
#define LOCK_LOOK      NSEC_PER_MSEC

struct call {
	struct node_controller *controller;
	struct nvme_management *what;
	uint32_t nsid;
	bool active;
};

static const struct keeper_ops *ops_of(const struct node_controller *controller)
{
	return controller->node->options.nvme.keepers;
}

static int set_active_at_home(void *arg)
{
	const struct call *call = arg;

	return ops_of(call->controller)
		->set_active(call->controller->link, call->nsid, call->active);
}

static int detach_at_home(void *arg)
{
	const struct call *call = arg;

	return ops_of(call->controller)->detach(call->controller->link, call->nsid);
}

static int lock(struct node_controller *controller)
{
	while (controller->lock.owner) {
		if (controller->closing)
			return -ESHUTDOWN;
		fiber_sleep(LOCK_LOOK);
	}
	fiber_mutex_lock(&controller->lock);
	return 0;
}

/* --- make --- */

static uint64_t bytes_left(struct node_controller *controller)
{
	uint64_t left = controller->manage_bytes;
	const struct node_namespace *ns;

	LIST_FOR_EACH (&controller->namespaces, ns, struct node_namespace, link) {
		const struct node_vdisk *vdisk =
			ns->managed ? node_vdisk_by_id(controller->node, ns->vdisk_id) : NULL;

		if (vdisk)
			left -= MIN(left, vdisk->info.size_bytes);
	}
	return left;
}

static int make_vdisk(struct node *node, struct vdisk_spec *spec,
		      const struct container_info *container, uint64_t *ret_id)
{
	struct node_pool *pool = node_pool_by_id(node, container->pool_id);
	struct node_vdisk *vdisk;
	struct vdisk_info info;
	int r;

	if (!pool || !pool->pool)
		return pool ? pool->error : -ENODEV;
	r = vdisk_create(pool->pool, spec, ret_id);
	if (r == 0)
		r = vdisk_get(node->catalog, *ret_id, &info);
	if (r == 0)
		r = node_vdisk_add(node, &info, container->name, &vdisk);
	return r < 0 ? r : node_vdisk_open(node, vdisk);
}

/* The one that this command has made before, or a new one. */
static int need_vdisk(struct node_controller *controller, const struct nvme_management *what,
		      uint64_t *ret_id)
{
	struct node *node = controller->node;
	char name[VDISK_NAME_MAX + 1];
	struct vdisk_spec spec = {.name = name,
				  .container_id = controller->manage_container,
				  .size_bytes = what->blocks * what->block_bytes,
				  .block_bytes = 512};
	struct container_info container;
	struct vdisk_info info;
	int r;

	snprintf(name, sizeof(name), "nvme%" PRIu64 "-%08" PRIx32 "-%" PRIx64, controller->id,
		 what->epoch, what->sequence);
	fiber_mutex_lock(&node->lock);
	r = container_get(node->catalog, controller->manage_container, &container);
	if (r == 0 && vdisk_find(node->catalog, container.id, name, &info) == 0)
		*ret_id = info.id;
	else if (r == 0)
		r = make_vdisk(node, &spec, &container, ret_id);
	fiber_mutex_unlock(&node->lock);
	return r;
}

static int check_create(struct node_controller *controller, const struct nvme_management *what)
{
	if (what->blocks > VDISK_MAX_BYTES / what->block_bytes ||
	    what->blocks * what->block_bytes > bytes_left(controller))
		return SPECIFIC(NVME_SC_NS_INSUFFICIENT_CAP);
	if (what->blocks * what->block_bytes % 4096 ||
	    what->blocks * what->block_bytes < VDISK_MIN_BYTES)
		return NVME_SC_INVALID_FIELD;
	if (list_count(&controller->namespaces) >= controller->node->options.nvme.max_namespaces)
		return SPECIFIC(NVME_SC_NS_ID_UNAVAILABLE);
	return 0;
}

static int create(struct node_controller *controller, struct nvme_management *what)
{
	struct node_namespace ns = {.block_bytes = what->block_bytes == 4096 ? 4096 : 0,
				    .managed = true,
				    .detached = true};
	int r = check_create(controller, what);

	if (r)
		return r;
	if (node_nvme_choose_nsid(controller, &ns.nsid) < 0)
		return SPECIFIC(NVME_SC_NS_ID_UNAVAILABLE);
	r = need_vdisk(controller, what, &ns.vdisk_id);
	if (r == -ENOSPC)
		return SPECIFIC(NVME_SC_NS_INSUFFICIENT_CAP);
	if (r < 0)
		return r;
	what->nsid = ns.nsid;
	r = node_nvme_write_managed(controller, &ns, false, what);
	if (r == 0)
		r = node_nvme_add_namespace(controller, &ns);
	if (r == 0 && controller->link)
		(void)node_nvme_serve(controller, ns.nsid); /* its error is shown */
	return r;
}

/* --- attach, detach --- */

static int change(struct node_controller *controller, const struct nvme_management *what,
		  bool attached)
{
	struct node_namespace *ns = node_nvme_by_nsid(controller, what->nsid), changed;
	struct call call = {.controller = controller, .nsid = what->nsid, .active = attached};
	int r;

	if (!ns)
		return NVME_SC_INVALID_NS;
	if (!ns->managed)
		return NVME_SC_OP_DENIED;
	if (ns->detached != attached)
		return SPECIFIC(attached ? NVME_SC_NS_ALREADY_ATTACHED : NVME_SC_NS_NOT_ATTACHED);
	changed = *ns;
	changed.detached = !attached;
	r = node_nvme_write_managed(controller, &changed, false, what);
	if (r < 0)
		return r;
	ns->detached = changed.detached;
	if (controller->link && ns->error == 0)
		r = fiber_call(controller->home, FIBER_CONTROL, set_active_at_home, &call);
	return r;
}

/* --- delete --- */

/* Its job begins. As before when it does not. */
static int delete_vdisk(struct node_controller *controller, struct node_namespace *ns)
{
	struct node *node = controller->node;
	struct node_vdisk *vdisk = node_vdisk_by_id(node, ns->vdisk_id);
	struct call call = {.controller = controller, .nsid = ns->nsid};
	const char *blocker;
	uint64_t job;
	int r;

	if (!vdisk || vdisk->info.deleting)
		return 0;
	r = node_vdisk_begin(node, vdisk->name, "vdisk.delete", true, &vdisk, &blocker);
	if (r < 0)
		return r;
	if (controller->link && ns->error == 0)
		(void)fiber_call(controller->home, FIBER_CONTROL, detach_at_home,
				 &call);     /* it is there */
	(void)node_vdisk_close(node, vdisk); /* was logged; what it left is deleted as well */
	r = node_delete_start(node, vdisk, &job);
	if (r == 0)
		return 0;
	(void)node_vdisk_open(node, vdisk); /* as before; its error is in the entry */
	node_vdisk_end(node, vdisk);
	if (controller->link)
		(void)node_nvme_serve(controller, ns->nsid);
	return r;
}

static int delete_one(struct node_controller *controller, struct node_namespace *ns,
		      const struct nvme_management *result)
{
	int r = delete_vdisk(controller, ns);

	if (r < 0)
		return r;
	r = node_nvme_write_managed(controller, ns, true, result);
	if (r == 0)
		node_nvme_forget_namespace(ns);
	else
		ns->error = -ENODEV; /* it has no disk any more; another try ends it */
	return r;
}

static struct node_namespace *first_managed(struct node_controller *controller)
{
	struct node_namespace *ns;

	LIST_FOR_EACH (&controller->namespaces, ns, struct node_namespace, link)
		if (ns->managed)
			return ns;
	return NULL;
}

static int delete_some(struct node_controller *controller, const struct nvme_management *what)
{
	struct node_namespace *ns;
	int r = 0;

	if (what->nsid != NVME_NSID_ALL) {
		ns = node_nvme_by_nsid(controller, what->nsid);
		if (!ns)
			return NVME_SC_INVALID_NS;
		return ns->managed ? delete_one(controller, ns, what) : NVME_SC_OP_DENIED;
	}
	/* Again it goes on with what is left. */
	while (r == 0 && (ns = first_managed(controller)))
		r = delete_one(controller, ns, NULL);
	return r;
}

/* --- */

static int execute(struct node_controller *controller, struct nvme_management *what)
{
	const struct nvme_management *last = &controller->managed;

	if (last->epoch == what->epoch && last->sequence == what->sequence &&
	    last->kind == what->kind && controller->has_managed) {
		what->nsid = last->nsid;
		return 0;
	}
	switch (what->kind) {
	case NVME_MANAGE_CREATE:
		return create(controller, what);
	case NVME_MANAGE_DELETE:
		return delete_some(controller, what);
	case NVME_MANAGE_ATTACH:
		return change(controller, what, true);
	default:
		return change(controller, what, false);
	}
}

static int manage_at_node(void *arg)
{
	const struct call *call = arg;
	int r = lock(call->controller);

	if (r < 0)
		return r;
	r = execute(call->controller, call->what);
	fiber_mutex_unlock(&call->controller->lock);
	if (r < 0)
		log_warning("nvme", "what a guest asked for failed",
			    "controller=%s what=%d nsid=%" PRIu32 " error=%d",
			    call->controller->name, (int)call->what->kind, call->what->nsid, r);
	return r;
}

int node_nvme_manage(void *context, struct nvme_management *what)
{
	struct call call = {.controller = context, .what = what};

	return fiber_call(call.controller->node->home, FIBER_CONTROL, manage_at_node, &call);
}
