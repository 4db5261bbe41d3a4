/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of virtual NVMe controllers: made, found again with their keepers at start, connected,
 * connected anew when a keeper is lost, ended.
 *
 * Happy path: node_nvme_create() writes the row and starts a fiber that connects: no keeper listens
 * on the link socket, so one is started; the link is opened, all namespaces are attached, the
 * controller starts. At the next start of the daemon the keeper still listens.
 *
 * A keeper that is lost takes its virtual machine's disk with it; a new one is started at once, for
 * the machine's next boot. What fails is tried again after a pause that grows from RETRY_FIRST to
 * RETRY_LAST.
 *
 * The link lives on the controller's home. Its lost() may run there at any time until close has
 * returned; it sends one message here. Messages keep their order, so after a close that was called
 * from here the message has run, unless both homes are the same: then lost() acts directly.
 */
#include "control/node_nvme.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "control/api_nvme.h"
#include "control/event.h"

#define RETRY_FIRST (NSEC_PER_SEC / 2)
#define RETRY_LAST  (30 * NSEC_PER_SEC)
/* A keeper that was just started opens its sockets within this time. */
#define SPAWN_TIMEOUT (5 * NSEC_PER_SEC)
#define SPAWN_POLL    (10 * NSEC_PER_MSEC)
/* One that was told to retire ends within this time. */
#define RETIRE_TIMEOUT (5 * NSEC_PER_SEC)
#define MODEL          "Sarsen virtual disk"

struct call { /* to the controller's home and back */
	struct node_controller *controller;
	struct nvme_link *link;
	bool at_once;
	struct node_controller_status *ret_status;
};

static const struct keeper_ops *ops_of(const struct node_controller *controller)
{
	return controller->node->options.nvme.keepers;
}

struct node_controller *node_nvme_find(struct node *node, const char *name)
{
	struct node_controller *controller;

	reactor_assert_home(node->home);
	LIST_FOR_EACH (&node->controllers, controller, struct node_controller, entry)
		if (strcmp(controller->name, name) == 0)
			return controller;
	return NULL;
}

struct node_controller *node_nvme_after(struct node *node, uint64_t id)
{
	struct node_controller *controller;

	LIST_FOR_EACH (&node->controllers, controller, struct node_controller, entry)
		if (controller->id > id)
			return controller;
	return NULL;
}

void node_nvme_use(struct node_controller *controller)
{
	controller->users++;
}

void node_nvme_unuse(struct node_controller *controller)
{
	ASSERT(controller->users > 0);
	controller->users--;
	fiber_queue_wake_all(&controller->node->changed);
}

static void set_state(struct node_controller *controller, enum node_controller_state state,
		      int error)
{
	if (controller->state != NODE_CONTROLLER_DELETING)
		controller->state = state;
	controller->error = error;
	fiber_queue_wake_all(&controller->node->changed);
}

/* On the node's home. */
static void handle_loss(struct node_controller *controller)
{
	struct node *node = controller->node;

	if (controller->state == NODE_CONTROLLER_ONLINE && !node->stopping)
		event_emit(node->events, EVENT_KEEPER_LOST, controller->name, "%s",
			   api_nvme_error_text(controller->lost_error));
	set_state(controller, NODE_CONTROLLER_FAILED, controller->lost_error);
	node_nvme_connect(controller);
}

static void loss_arrived(struct world_message *message)
{
	handle_loss(CONTAINER_OF(message, struct node_controller, lost_message));
}

/* On the controller's home. */
static void lost(void *context, int error)
{
	struct node_controller *controller = context;

	controller->lost_error = error;
	controller->lost_message.run = loss_arrived;
	if (controller->home == controller->node->home)
		handle_loss(controller);
	else
		reactor_post(controller->node->home, &controller->lost_message);
}

static void fill_options(struct node_controller *controller, struct nvme_link_options *ret_options)
{
	const struct node_nvme_options *nvme = &controller->node->options.nvme;

	*ret_options = (struct nvme_link_options){
		.home = controller->home,
		.path = controller->spec.link,
		.fence_fd = nvme->fence_fd,
		.controller = {.controller_id = controller->controller_id,
			       .subsystem_id = controller->subsystem_id,
			       .in_flight_bytes_max = nvme->in_flight_bytes,
			       .io_queues = (uint16_t)controller->spec.queues,
			       .manage_bytes = controller->manage_bytes,
			       .gated = controller->gated,
			       .model = MODEL},
		.lost = lost,
		.formatted = node_nvme_formatted,
		.manage = node_nvme_manage,
		.cancelled = &controller->cancelled,
		.context = controller};
	snprintf(ret_options->controller.name, sizeof(ret_options->controller.name), "%s",
		 controller->name);
	snprintf(ret_options->controller.serial, sizeof(ret_options->controller.serial),
		 "SRSN%016" PRIX64, controller->subsystem_id);
}

static int open_at_home(void *arg)
{
	struct call *call = arg;
	struct node_controller *controller = call->controller;
	struct nvme_link_options options;

	fill_options(controller, &options);
	return ops_of(controller)
		->open(controller->node->options.nvme.keepers_context, &options, &call->link);
}

static int start_at_home(void *arg)
{
	struct call *call = arg;

	ops_of(call->controller)->start(call->link);
	return 0;
}

static int close_at_home(void *arg)
{
	struct call *call = arg;

	ops_of(call->controller)->close(call->link);
	return 0;
}

static int call_home(struct node_controller *controller, int (*fn)(void *arg), struct call *call)
{
	call->controller = controller;
	return fiber_call(controller->home, FIBER_CONTROL, fn, call);
}

static bool nobody_listens(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED;
}

static int open_link(struct node_controller *controller, struct call *call)
{
	struct node *node = controller->node;
	int r = call_home(controller, open_at_home, call);
	uint64_t deadline_ns;

	if (!nobody_listens(r))
		return r;
	r = ops_of(controller)->spawn(node->options.nvme.keepers_context, &controller->spec);
	if (r < 0)
		return r;
	log_info("nvme", "started a keeper", "controller=%s", controller->name);
	deadline_ns = reactor_now_ns(node->home) + SPAWN_TIMEOUT;
	while (nobody_listens(r = call_home(controller, open_at_home, call)) && !node->stopping &&
	       !vfu_load(&controller->cancelled) && reactor_now_ns(node->home) < deadline_ns)
		fiber_sleep(SPAWN_POLL);
	return r;
}

/* Under the lock. */
static void close_link(struct node_controller *controller)
{
	struct call call = {.link = TAKE_PTR(controller->link)};

	controller->closing = true;
	if (call.link) /* always 0 */
		(void)call_home(controller, close_at_home, &call);
	controller->closing = false;
}

static int connect_locked(struct node_controller *controller)
{
	struct call call = {0};
	int r;

	if (!controller->spec.link[0])
		return -ENAMETOOLONG;
	close_link(controller); /* of a keeper that is lost */
	controller->gated = node_nvme_is_gated(controller);
	set_state(controller, NODE_CONTROLLER_STARTING, 0);
	r = open_link(controller, &call);
	if (r < 0)
		return r;
	controller->link = call.link;
	controller->begun = true;
	node_nvme_attach_all(controller);
	if (controller->state != NODE_CONTROLLER_STARTING) /* lost again meanwhile */
		return controller->error ? controller->error : -ECONNRESET;
	(void)call_home(controller, start_at_home, &call); /* is 0 */
	node_nvme_pass_gate(controller);
	if (controller->state == NODE_CONTROLLER_STARTING && controller->redone < NVME_REDO_STEPS)
		return -ECANCELED;
	if (controller->state != NODE_CONTROLLER_STARTING)
		return controller->error ? controller->error : -ECONNRESET;
	return 0;
}

static void try_later(struct node_controller *controller, int error)
{
	struct node *node = controller->node;

	set_state(controller, NODE_CONTROLLER_FAILED, error);
	if (node->stopping || controller->state == NODE_CONTROLLER_DELETING)
		return;
	if (controller->retry_pause_ns == 0 && error != -ECANCELED) /* the first time only */
		event_emit(node->events, EVENT_CONTROLLER_FAILED, controller->name, "%s",
			   api_nvme_error_text(error));
	controller->retry_pause_ns = controller->retry_pause_ns
					     ? MIN(controller->retry_pause_ns * 2, RETRY_LAST)
					     : RETRY_FIRST;
	reactor_timer_arm(node->home, &controller->retry,
			  reactor_now_ns(node->home) + controller->retry_pause_ns);
}

static void connect_run(struct fiber_task *task)
{
	struct node_controller *controller =
		CONTAINER_OF(task, struct node_controller, connect_task);
	int r = -ESHUTDOWN;

	fiber_mutex_lock(&controller->lock);
	if (controller->state == NODE_CONTROLLER_ONLINE)
		r = 0; /* a deletion was refused meanwhile */
	else if (!controller->node->stopping && controller->state != NODE_CONTROLLER_DELETING)
		r = connect_locked(controller);
	controller->connecting = false;
	if (r == 0) {
		controller->retry_pause_ns = 0;
		set_state(controller, NODE_CONTROLLER_ONLINE, 0);
		log_info("nvme", "a controller is served", "controller=%s", controller->name);
	} else {
		controller->begun = controller->redone == NVME_REDO_STEPS;
		try_later(controller, r);
	}
	fiber_mutex_unlock(&controller->lock);
	node_nvme_unuse(controller);
}

static void retry(struct reactor_timer *timer)
{
	node_nvme_connect(CONTAINER_OF(timer, struct node_controller, retry));
}

void node_nvme_connect(struct node_controller *controller)
{
	struct node *node = controller->node;

	reactor_assert_home(node->home);
	if (controller->connecting || node->stopping || !node->options.nvme.keepers ||
	    controller->state == NODE_CONTROLLER_DELETING)
		return;
	controller->connecting = true;
	controller->connect_task.run = connect_run;
	controller->retry.run = retry;
	reactor_timer_cancel(node->home, &controller->retry);
	node_nvme_use(controller);
	fiber_spawn(node->home, FIBER_CONTROL, &controller->connect_task);
}

void node_nvme_wait(struct node_controller *controller, uint64_t timeout_ns)
{
	struct node *node = controller->node;
	uint64_t deadline_ns = reactor_now_ns(node->home) + timeout_ns;

	while ((controller->connecting || controller->state == NODE_CONTROLLER_STARTING) &&
	       !node->stopping)
		if (!fiber_queue_wait_until(&node->changed, deadline_ns))
			return;
}

int node_nvme_load(struct node *node)
{
	struct node_controller *controller;
	int r = node_nvme_read_rows(node);

	LIST_FOR_EACH (&node->controllers, controller, struct node_controller, entry) {
		controller->error = node->options.nvme.keepers ? 0 : -ENODEV;
		if (r == 0)
			node_nvme_connect(controller);
	}
	return r;
}

void node_nvme_begin_close(struct node *node)
{
	struct node_controller *controller;

	LIST_FOR_EACH (&node->controllers, controller, struct node_controller, entry)
		vfu_store(&controller->cancelled, 1);
}

void node_nvme_close(struct node *node)
{
	struct node_controller *controller;

	ASSERT(node->stopping);
	node_nvme_begin_close(node);
	LIST_FOR_EACH (&node->controllers, controller, struct node_controller, entry) {
		reactor_timer_cancel(node->home, &controller->retry);
		while (controller->users > 0)
			fiber_queue_wait(&node->changed);
		close_link(controller);
		node_nvme_free(controller);
	}
	node_nvme_reservations_close(node);
}

/* The lowest that no controller has; there are fewer of them than numbers. */
static uint16_t free_controller_id(struct node *node)
{
	struct node_controller *controller;
	uint16_t id = 0;
	bool used;

	do {
		used = false;
		id++;
		LIST_FOR_EACH (&node->controllers, controller, struct node_controller, entry)
			used |= controller->controller_id == id;
	} while (used);
	return id;
}

int node_nvme_create(struct node *node, const struct node_nvme_wanted *wanted,
		     struct node_controller **ret_controller)
{
	struct world *world = node->options.world;
	uint16_t controller_id = free_controller_id(node);
	struct node_controller *controller;
	uint64_t id;
	int r;

	if (node_nvme_find(node, wanted->name))
		return -EEXIST;
	if (list_count(&node->controllers) >= node->options.nvme.max_controllers)
		return -ENOSPC;
	r = catalog_reserve_ids(node->catalog, "nvme", 1, &id);
	if (r == 0)
		r = node_nvme_add(node, id, wanted->name, &controller);
	if (r < 0)
		return r;
	if (!controller->spec.link[0]) {
		node_nvme_free(controller);
		return -ENAMETOOLONG;
	}
	controller->spec.doorbells_mapped = wanted->doorbells_mapped;
	controller->spec.queues = wanted->queues;
	controller->manage_container = wanted->manage_container;
	controller->manage_bytes = wanted->manage_bytes;
	controller->controller_id = controller_id;
	controller->redone = NVME_REDO_STEPS;
	world->ops->random(world, &controller->subsystem_id, sizeof(controller->subsystem_id));
	r = node_nvme_write_controller(controller);
	if (r < 0) {
		node_nvme_free(controller);
		return r;
	}
	node_nvme_connect(controller);
	*ret_controller = controller;
	return 0;
}

static int retire_at_home(void *arg)
{
	struct call *call = arg;

	return ops_of(call->controller)->retire(call->link, call->at_once);
}

static int replace_at_home(void *arg)
{
	struct call *call = arg;

	return ops_of(call->controller)->replace(call->link);
}

static bool client_is_connected(const struct node_controller *controller)
{
	return vfu_load(&ops_of(controller)->shared(controller->link)->client_connected) != 0;
}

/* Tells the keeper to end, and waits for it. Under the lock, in state deleting. */
static int retire_keeper(struct node_controller *controller, bool force)
{
	struct node *node = controller->node;
	struct call call = {.link = controller->link, .at_once = force};
	uint64_t deadline_ns = reactor_now_ns(node->home) + RETIRE_TIMEOUT;
	int r;

	if (!controller->link)
		return force || nobody_listens(controller->error) ? 0 : -ENOTCONN;
	if (!force && client_is_connected(controller))
		return -EBUSY;
	controller->error = 0;
	r = call_home(controller, retire_at_home, &call);
	while (r == 0 && controller->error == 0) /* until handle_loss() */
		if (!fiber_queue_wait_until(&node->changed, deadline_ns))
			r = -ETIMEDOUT;
	return r;
}

/* What a deletion that was refused, or failed, leaves. */
static void keep(struct node_controller *controller)
{
	bool online = controller->link && controller->error == 0;

	controller->state = online ? NODE_CONTROLLER_ONLINE : NODE_CONTROLLER_FAILED;
	if (!online)
		node_nvme_connect(controller);
}

int node_nvme_delete(struct node_controller *controller, bool force)
{
	struct node *node = controller->node;
	int r;

	vfu_store(&controller->cancelled, 1); /* who connects it is to give way */
	fiber_mutex_lock(&controller->lock);
	vfu_store(&controller->cancelled, 0);
	if (controller->state == NODE_CONTROLLER_DELETING) {
		fiber_mutex_unlock(&controller->lock);
		return -ENOENT;
	}
	controller->state = NODE_CONTROLLER_DELETING;
	r = retire_keeper(controller, force);
	if (r == 0)
		r = node_nvme_delete_controller(controller);
	if (r == 0)
		close_link(controller);
	else
		keep(controller);
	fiber_mutex_unlock(&controller->lock);
	if (r < 0)
		return r;
	while (controller->users > 1) /* we are one */
		fiber_queue_wait(&node->changed);
	if (node->options.nvme.keepers && controller->spec.link[0])
		ops_of(controller)->forget(node->options.nvme.keepers_context, &controller->spec);
	controller->users = 0;
	node_nvme_drop_namespaces(controller);
	node_nvme_free(controller);
	return 0;
}

int node_nvme_replace(struct node_controller *controller)
{
	struct call call = {0};
	int r = -ENOTCONN;

	fiber_mutex_lock(&controller->lock);
	call.link = controller->link;
	if (call.link && controller->state == NODE_CONTROLLER_ONLINE) {
		controller->lost_error = 0;
		/* So that its loss, which follows, is no error. */
		set_state(controller, NODE_CONTROLLER_STARTING, 0);
		r = call_home(controller, replace_at_home, &call);
		if (r < 0)
			node_nvme_connect(controller);
	}
	fiber_mutex_unlock(&controller->lock);
	return r;
}

int node_nvme_replace_result(const struct node_controller *controller)
{
	if (controller->state != NODE_CONTROLLER_ONLINE)
		return controller->error ? controller->error : -ETIMEDOUT;
	/* One that is replaced just hangs up. */
	return controller->lost_error == -ECONNRESET ? 0 : controller->lost_error;
}

static int status_at_home(void *arg)
{
	struct call *call = arg;
	const struct keeper_ops *ops = ops_of(call->controller);
	struct node_controller_status *status = call->ret_status;
	const struct vfu_shared *shared = ops->shared(call->link);

	ops->get_stats(call->link, &status->stats);
	status->counters = shared->counters;
	status->keeper_pid = shared->keeper_pid;
	status->keeper_build = shared->keeper_build;
	status->engine_epoch = vfu_load(&shared->engine_epoch);
	status->client_connected = vfu_load(&shared->client_connected) != 0;
	status->engine_asleep = vfu_load(&shared->engine_asleep) != 0;
	status->msix_enabled = vfu_load(&shared->msix_enabled) != 0;
	return 0;
}

int node_nvme_get_status(struct node_controller *controller,
			 struct node_controller_status *ret_status)
{
	struct call call = {.ret_status = ret_status};
	int r = -ENOTCONN;

	if (controller->state != NODE_CONTROLLER_ONLINE) /* do not wait while it connects */
		return r;
	node_nvme_use(controller);
	fiber_mutex_lock(&controller->lock);
	call.link = controller->link;
	if (call.link)
		r = call_home(controller, status_at_home, &call);
	fiber_mutex_unlock(&controller->lock);
	node_nvme_unuse(controller);
	return r;
}
