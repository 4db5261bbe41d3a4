/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Controllers that share a vDisk recover together when the daemon has started (docs/nvme.md, rule
 * 10): in each step one waits for the others, since what another engine left to one of them may not
 * be written over what another does afterwards.
 *
 * One whose keeper does not answer within GATE_NS is left behind. Its namespaces become stale
 * before the others go on, in their rows too: whenever it comes, under this daemon or a later one,
 * what it had left to be written there fails instead of being written late. A keeper that is gone
 * is no such case: the new one that is started has nothing to be redone. One that has begun is
 * waited for as long as it takes; it needs nothing but the disk, which the others need too.
 *
 * It runs in the fibers that connect controllers, each under its controller's lock. Of others they
 * change `stale` only, and their rows only as long as those exist.
 */
#include "control/node_nvme.h"

#include <errno.h>
#include <inttypes.h>

#include "base/log.h"

#define GATE_NS   (5 * NSEC_PER_SEC)
#define GATE_LOOK (NSEC_PER_MSEC)

struct call {
	struct node_controller *controller;
	unsigned step;
};

static const struct keeper_ops *ops_of(const struct node_controller *controller)
{
	return controller->node->options.nvme.keepers;
}

static int redone_at_home(void *arg)
{
	const struct call *call = arg;

	return (int)ops_of(call->controller)->redone(call->controller->link);
}

static int go_on_at_home(void *arg)
{
	const struct call *call = arg;

	ops_of(call->controller)->go_on(call->controller->link, call->step);
	return 0;
}

/* Does `other` share this namespace of `controller`? */
static struct node_namespace *shared_with(const struct node_namespace *ns,
					  struct node_controller *other)
{
	struct node_namespace *its = ns->shared ? node_nvme_namespace(other, ns->vdisk_id) : NULL;

	return its && its->shared ? its : NULL;
}

static bool is_waited_for(struct node_controller *controller, struct node_controller *other,
			  unsigned step)
{
	const struct node_namespace *ns, *its;

	if (other == controller || other->redone >= step)
		return false;
	LIST_FOR_EACH (&controller->namespaces, ns, struct node_namespace, link) {
		its = shared_with(ns, other);
		if (its && !its->stale)
			return true;
	}
	return false;
}

static bool others_have(struct node_controller *controller, unsigned step)
{
	struct node_controller *other;

	LIST_FOR_EACH (&controller->node->controllers, other, struct node_controller, entry)
		if (is_waited_for(controller, other, step))
			return false;
	return true;
}

bool node_nvme_is_gated(struct node_controller *controller)
{
	return controller->redone < NVME_REDO_STEPS && !others_have(controller, NVME_REDO_STEPS);
}

/* -EAGAIN: another try is needed. */
static int leave_one_behind(struct node_controller *controller, struct node_controller *other)
{
	struct node_namespace *ns, *its;

	log_warning("nvme", "a controller does not come: others that share its disks go on",
		    "controller=%s waited=%s", other->name, controller->name);
	LIST_FOR_EACH (&controller->namespaces, ns, struct node_namespace, link) {
		its = shared_with(ns, other);
		if (!its || its->stale)
			continue;
		its->stale = true; /* also for the fiber that connects it meanwhile */
		if (node_nvme_update_namespace(other, its) < 0) {
			its = shared_with(ns, other);
			if (its)
				its->stale = false;
			return -EAGAIN;
		}
	}
	return 0;
}

/* One at a time, since lists may have changed after each. */
static void leave_behind(struct node_controller *controller, unsigned step)
{
	struct node_controller *other;

	LIST_FOR_EACH (&controller->node->controllers, other, struct node_controller, entry) {
		if (other->begun || !is_waited_for(controller, other, step))
			continue;
		node_nvme_use(other);
		(void)leave_one_behind(controller, other); /* is tried again */
		node_nvme_unuse(other);
		return;
	}
}

static bool may_wait(const struct node_controller *controller)
{
	return controller->state == NODE_CONTROLLER_STARTING && !controller->node->stopping &&
	       !vfu_load(&controller->cancelled);
}

/* 0, or -ESHUTDOWN when there is nothing to wait for any more. */
static int pass_step(struct node_controller *controller, unsigned step)
{
	struct call call = {controller, step};
	uint64_t deadline_ns;

	while (fiber_call(controller->home, FIBER_CONTROL, redone_at_home, &call) < (int)step) {
		if (!may_wait(controller))
			return -ESHUTDOWN;
		fiber_sleep(GATE_LOOK);
	}
	controller->redone = step;
	deadline_ns = reactor_now_ns(controller->node->home) + GATE_NS;
	while (!others_have(controller, step)) {
		if (!may_wait(controller))
			return -ESHUTDOWN;
		if (reactor_now_ns(controller->node->home) > deadline_ns)
			leave_behind(controller, step);
		fiber_sleep(GATE_LOOK);
	}
	return fiber_call(controller->home, FIBER_CONTROL, go_on_at_home, &call);
}

/* What could be redone late was refused. */
static void come_back(struct node_controller *controller)
{
	struct node_namespace *ns;

	LIST_FOR_EACH (&controller->namespaces, ns, struct node_namespace, link) {
		if (!ns->stale)
			continue;
		ns->stale = false;
		if (node_nvme_update_namespace(controller, ns) < 0)
			log_warning("nvme", "a namespace stays marked as left behind",
				    "controller=%s nsid=%" PRIu32, controller->name, ns->nsid);
	}
}

static bool has_stale(struct node_controller *controller)
{
	const struct node_namespace *ns;

	LIST_FOR_EACH (&controller->namespaces, ns, struct node_namespace, link)
		if (ns->stale)
			return true;
	return false;
}

void node_nvme_pass_gate(struct node_controller *controller)
{
	if (controller->redone == NVME_REDO_STEPS)
		return;
	if (!controller->gated && !has_stale(controller)) {
		controller->redone = NVME_REDO_STEPS; /* nobody minds when */
		return;
	}
	for (unsigned step = 1; step <= NVME_REDO_STEPS; step++)
		if (pass_step(controller, step) < 0)
			return;
	come_back(controller);
}
