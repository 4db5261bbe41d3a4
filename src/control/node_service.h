/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Something that the node looks at every now and then, in a fiber of its home. */
#include "reactor/fiber.h"

struct node;

struct node_service {
	struct node *node;
	void (*look)(struct node *node);
	uint64_t period_ns;
	struct fiber_task task;
	struct fiber_queue queue;
	bool started, runs;
	bool wanted; /* to be looked at again, without waiting */
};

/* Looks at once, and then every `period_ns`. */
void node_service_start(struct node_service *service, struct node *node,
			void (*look)(struct node *node), uint64_t period_ns);
/* Looks now, or once more if it is looking. No effect on one that was not started. */
void node_service_wake(struct node_service *service);
/* Waits; the node is stopping. */
void node_service_stop(struct node_service *service);
