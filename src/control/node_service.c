/* SPDX-License-Identifier: Apache-2.0 */
#include "control/node_service.h"

#include "control/node_priv.h"

static void service_run(struct fiber_task *task)
{
	struct node_service *service = CONTAINER_OF(task, struct node_service, task);
	struct node *node = service->node;

	while (!node->stopping) {
		service->wanted = false;
		service->look(node);
		if (!node->stopping && !service->wanted)
			(void)fiber_queue_wait_until(&service->queue, reactor_now_ns(node->home) +
									      service->period_ns);
	}
	service->runs = false;
	fiber_queue_wake_all(&service->queue);
}

void node_service_start(struct node_service *service, struct node *node,
			void (*look)(struct node *node), uint64_t period_ns)
{
	*service = (struct node_service){.node = node,
					 .look = look,
					 .period_ns = period_ns,
					 .task = {.run = service_run},
					 .started = true,
					 .runs = true};
	fiber_queue_init(&service->queue);
	fiber_spawn(node->home, FIBER_CONTROL, &service->task);
}

void node_service_wake(struct node_service *service)
{
	if (!service->started)
		return;
	service->wanted = true;
	fiber_queue_wake_all(&service->queue);
}

void node_service_stop(struct node_service *service)
{
	if (!service->started)
		return;
	ASSERT(service->node->stopping);
	fiber_queue_wake_all(&service->queue);
	while (service->runs)
		fiber_queue_wait(&service->queue);
}
