/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces: which vDisks a controller has. The row comes first, so a guest never sees a disk that
 * the next daemon would not know; a controller that is not connected gets its namespaces when it
 * is. A vDisk may have another home than the controller.
 */
#include "control/node_nvme.h"

#include <errno.h>
#include <inttypes.h>

#include "base/log.h"

struct call {
	struct node_controller *controller;
	struct nvme_namespace_options options;
};

static const struct keeper_ops *ops_of(const struct node_controller *controller)
{
	return controller->node->options.nvme.keepers;
}

static int attach_at_home(void *arg)
{
	struct call *call = arg;

	return ops_of(call->controller)->attach(call->controller->link, &call->options);
}

static int detach_at_home(void *arg)
{
	struct call *call = arg;

	return ops_of(call->controller)->detach(call->controller->link, call->options.nsid);
}

static int resized_at_home(void *arg)
{
	struct call *call = arg;

	ops_of(call->controller)->resized(call->controller->link, call->options.nsid);
	return 0;
}

/* Under the lock, with a link. */
static int serve(struct node_controller *controller, struct node_namespace *ns)
{
	struct node *node = controller->node;
	struct node_vdisk *vdisk = node_vdisk_by_id(node, ns->vdisk_id);
	struct call call = {.controller = controller,
			    .options = {.nsid = ns->nsid,
					.nguid = {node->identity, ns->vdisk_id},
					.block_bytes = ns->block_bytes,
					.read_only = ns->read_only,
					.shared = ns->shared,
					.stale = ns->stale,
					.managed = ns->managed,
					.inactive = ns->detached,
					.thin = true}};

	if (!vdisk || !vdisk->vdisk)
		ns->error = vdisk && vdisk->error ? vdisk->error : -ENODEV;
	else if (ns->shared)
		ns->error = node_nvme_reservations(node, vdisk, &call.options.reservations);
	else
		ns->error = 0;
	if (ns->error == 0) {
		call.options.volume = vdisk_volume(vdisk->vdisk);
		ns->error = fiber_call(controller->home, FIBER_CONTROL, attach_at_home, &call);
	}
	return ns->error;
}

static void serve_or_log(struct node_controller *controller, struct node_namespace *ns)
{
	if (serve(controller, ns) < 0)
		log_error("nvme", "a namespace is not served",
			  "controller=%s nsid=%" PRIu32 " vdisk=%" PRIu64 " error=%d",
			  controller->name, ns->nsid, ns->vdisk_id, ns->error);
}

void node_nvme_attach_all(struct node_controller *controller)
{
	struct node_namespace *ns;

	LIST_FOR_EACH (&controller->namespaces, ns, struct node_namespace, link)
		serve_or_log(controller, ns);
}

/* Under the lock no recovery is under way: what was left to the namespace was answered without. */
static void attach_again(struct node_controller *controller, uint64_t vdisk_id)
{
	struct node_namespace *ns;

	fiber_mutex_lock(&controller->lock);
	ns = node_nvme_namespace(controller, vdisk_id);
	if (ns && ns->error < 0 && controller->state == NODE_CONTROLLER_ONLINE)
		serve_or_log(controller, ns);
	fiber_mutex_unlock(&controller->lock);
}

void node_nvme_reopened(struct node *node, const struct node_vdisk *vdisk)
{
	struct node_controller *controller;

	ASSERT(vdisk->operation && vdisk->vdisk);
	for (uint64_t id = 0; (controller = node_nvme_after(node, id));) {
		id = controller->id;
		node_nvme_use(controller);
		attach_again(controller, vdisk->info.id);
		node_nvme_unuse(controller);
	}
}

struct node_namespace *node_nvme_by_nsid(struct node_controller *controller, uint32_t nsid)
{
	struct node_namespace *ns;

	LIST_FOR_EACH (&controller->namespaces, ns, struct node_namespace, link)
		if (ns->nsid == nsid)
			return ns;
	return NULL;
}

struct node_namespace *node_nvme_namespace(struct node_controller *controller, uint64_t vdisk_id)
{
	struct node_namespace *ns;

	LIST_FOR_EACH (&controller->namespaces, ns, struct node_namespace, link)
		if (ns->vdisk_id == vdisk_id)
			return ns;
	return NULL;
}

struct node_controller *node_nvme_holder(struct node *node, const struct node_vdisk *vdisk)
{
	struct node_controller *controller;

	LIST_FOR_EACH (&node->controllers, controller, struct node_controller, entry)
		if (node_nvme_namespace(controller, vdisk->info.id))
			return controller;
	return NULL;
}

bool node_nvme_is_exclusive(struct node *node, const struct node_vdisk *vdisk)
{
	struct node_controller *controller;

	LIST_FOR_EACH (&node->controllers, controller, struct node_controller, entry) {
		const struct node_namespace *ns = node_nvme_namespace(controller, vdisk->info.id);

		if (ns && !ns->shared)
			return true;
	}
	return false;
}

struct format {
	struct node_controller *controller;
	uint32_t nsid, block_bytes;
};

/* Without the lock: who holds it may wait for the guest's command to end. */
static int format_at_node(void *arg)
{
	const struct format *format = arg;
	struct node_namespace *ns = node_nvme_by_nsid(format->controller, format->nsid), changed;
	int r;

	if (!ns) /* it is being detached */
		return 0;
	changed = *ns;
	changed.block_bytes = format->block_bytes;
	r = node_nvme_update_namespace(format->controller, &changed);
	ns = node_nvme_by_nsid(format->controller, format->nsid);
	if (r == 0 && ns && ns->vdisk_id == changed.vdisk_id)
		ns->block_bytes = changed.block_bytes;
	return r;
}

int node_nvme_formatted(void *context, uint32_t nsid, uint32_t block_bytes)
{
	struct format format = {context, nsid, block_bytes};

	return fiber_call(format.controller->node->home, FIBER_CONTROL, format_at_node, &format);
}

void node_nvme_forget_namespace(struct node_namespace *ns)
{
	if (!ns)
		return;
	list_remove(&ns->link);
	free(ns);
}

int node_nvme_choose_nsid(struct node_controller *controller, uint32_t *nsid)
{
	if (*nsid)
		return node_nvme_by_nsid(controller, *nsid) ? -EEXIST : 0;
	*nsid = 1;
	while (node_nvme_by_nsid(controller, *nsid))
		++*nsid;
	return *nsid <= NVME_NAMESPACE_MAX ? 0 : -ENOSPC;
}

/* Under the lock. */
static int add(struct node_controller *controller, struct node_namespace *ns)
{
	int r;

	if (controller->state == NODE_CONTROLLER_DELETING)
		return -ENOENT;
	if (list_count(&controller->namespaces) >= controller->node->options.nvme.max_namespaces)
		return -ENOSPC;
	r = node_nvme_choose_nsid(controller, &ns->nsid);
	/* What an engine before this one left to this nsid was for another disk. */
	ns->stale = controller->redone < NVME_REDO_STEPS;
	if (r == 0)
		r = node_nvme_write_namespace(controller, ns);
	if (r < 0)
		return r;
	r = node_nvme_add_namespace(controller, ns);
	if (r == 0 && controller->link)
		r = serve(controller, node_nvme_by_nsid(controller, ns->nsid));
	if (r < 0) {
		/* If this fails too, it is attached at the next start. */
		(void)node_nvme_delete_namespace(controller, ns->nsid);
		node_nvme_forget_namespace(node_nvme_by_nsid(controller, ns->nsid));
		node_nvme_reservations_release(controller->node, ns->vdisk_id);
	}
	return r;
}

int node_nvme_attach(struct node_controller *controller, const struct node_vdisk *vdisk,
		     const struct node_namespace *wanted, uint32_t *ret_nsid)
{
	struct node_namespace ns = *wanted;
	int r;

	ASSERT(vdisk->operation && vdisk->vdisk);
	if (ns.block_bytes && ns.block_bytes < vdisk->info.block_bytes)
		return -EINVAL;
	ns.vdisk_id = vdisk->info.id;
	fiber_mutex_lock(&controller->lock);
	r = add(controller, &ns);
	fiber_mutex_unlock(&controller->lock);
	if (r == 0)
		*ret_nsid = ns.nsid;
	return r;
}

int node_nvme_serve(struct node_controller *controller, uint32_t nsid)
{
	return serve(controller, node_nvme_by_nsid(controller, nsid));
}

static int drop(struct node_controller *controller, uint32_t nsid)
{
	struct node_namespace *ns = node_nvme_by_nsid(controller, nsid);
	struct call call = {.controller = controller, .options.nsid = nsid};
	uint64_t vdisk_id = ns ? ns->vdisk_id : 0;
	int r = ns ? node_nvme_delete_namespace(controller, nsid) : -ENOENT;

	if (r < 0)
		return r;
	if (controller->link && ns->error == 0)
		r = fiber_call(controller->home, FIBER_CONTROL, detach_at_home, &call);
	node_nvme_forget_namespace(ns);
	node_nvme_reservations_release(controller->node, vdisk_id);
	return r == -ENOENT ? 0 : r; /* it was not served */
}

int node_nvme_detach(struct node_controller *controller, uint32_t nsid)
{
	int r;

	fiber_mutex_lock(&controller->lock);
	r = drop(controller, nsid);
	fiber_mutex_unlock(&controller->lock);
	return r;
}

void node_nvme_drop_namespaces(struct node_controller *controller)
{
	struct list_node *node;

	while ((node = list_front(&controller->namespaces))) {
		struct node_namespace *ns = LIST_ENTRY(node, struct node_namespace, link);
		uint64_t vdisk_id = ns->vdisk_id;

		node_nvme_forget_namespace(ns);
		node_nvme_reservations_release(controller->node, vdisk_id);
	}
}

static void tell(struct node_controller *controller, uint64_t vdisk_id)
{
	const struct node_namespace *ns;
	struct call call = {.controller = controller};

	fiber_mutex_lock(&controller->lock);
	ns = node_nvme_namespace(controller, vdisk_id);
	if (ns && ns->error == 0 && controller->link) {
		call.options.nsid = ns->nsid;
		(void)fiber_call(controller->home, FIBER_CONTROL, resized_at_home,
				 &call); /* is 0 */
	}
	fiber_mutex_unlock(&controller->lock);
}

void node_nvme_resized(struct node *node, const struct node_vdisk *vdisk)
{
	struct node_controller *controller;

	for (uint64_t id = 0; (controller = node_nvme_after(node, id));) {
		id = controller->id;
		if (!node_nvme_namespace(controller, vdisk->info.id))
			continue;
		node_nvme_use(controller);
		tell(controller, vdisk->info.id);
		node_nvme_unuse(controller);
	}
}
