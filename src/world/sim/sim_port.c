/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports: the simulator's side of a reactor. A turn costs a little virtual time, drawn by the
 * seed, before which the port has no other: so ports interleave, and one that always has more
 * work cannot stop time.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/reached.h"
#include "world/sim/sim_priv.h"

#define LONG_STALL_NS (2 * NSEC_PER_MSEC) /* a thread that lost its CPU */

int sim_port_open(struct world *world, unsigned index, void (*turn)(void *arg), void *arg,
		  struct world_port **ret_port)
{
	struct sim *sim = sim_of(world);
	struct world_port *port;
	unsigned slot = 0;

	while (slot < SIM_PORTS_MAX && sim->ports[slot])
		slot++;
	if (slot == SIM_PORTS_MAX)
		return -ENFILE;
	port = calloc(1, sizeof(*port));
	if (!port)
		return -ENOMEM;
	port->sim = sim;
	port->turn_event.type = SIM_EVENT_TURN;
	port->slot = slot;
	port->serial = ++sim->port_serial;
	port->index = index;
	port->turn = turn;
	port->arg = arg;
	port->deadline_ns = UINT64_MAX;
	list_init(&port->pending);
	list_init(&port->ready);
	sim->ports[slot] = port;
	sim_port_need_turn(port, sim->now_ns);
	*ret_port = port;
	return 0;
}

void sim_port_close(struct world_port *port)
{
	ASSERT(list_is_empty(&port->pending) && list_is_empty(&port->ready));
	ASSERT(port->message_count == 0);
	sim_event_remove(&port->sim->heap, &port->turn_event);
	port->sim->ports[port->slot] = NULL;
	free(port);
}

void sim_port_need_turn(struct world_port *port, uint64_t due_ns)
{
	struct sim *sim = port->sim;

	due_ns = MAX(due_ns, port->busy_until_ns);
	if (due_ns < sim_event_due_ns(&sim->heap, &port->turn_event))
		sim_event_schedule(&sim->heap, &port->turn_event, due_ns,
				   sim_random_next(&sim->timing));
}

static uint64_t message_due(const struct world_message *message)
{
	return message->private_words[0];
}

void sim_port_post(struct world_port *from, struct world_port *to, struct world_message *message)
{
	struct sim *sim = to->sim;
	struct sim_channel *channel = &to->channels[from ? from->slot + 1 : 0];
	uint64_t due = sim->now_ns + sim_random_between(&sim->timing, 1, sim->message_delay_ns);

	if (channel->head)
		due = MAX(due, message_due(channel->tail));
	message->next = NULL;
	message->private_words[0] = due;
	if (channel->head)
		channel->tail->next = message;
	else
		channel->head = message;
	channel->tail = message;
	to->message_count++;
	sim_port_need_turn(to, due);
}

/* A channel with a message that is due, starting the search at a random one. NULL = none. */
static struct sim_channel *due_channel(struct world_port *port)
{
	struct sim *sim = port->sim;
	unsigned count = ARRAY_SIZE(port->channels), due[ARRAY_SIZE(port->channels)], n = 0;

	for (unsigned i = 0; port->message_count && i < count; i++)
		if (port->channels[i].head && message_due(port->channels[i].head) <= sim->now_ns)
			due[n++] = i;
	if (n == 0)
		return NULL;
	return &port->channels[n == 1 ? due[0] : due[sim_random_upto(&sim->timing, n)]];
}

static unsigned run_messages(struct world_port *port)
{
	struct sim_channel *channel;
	unsigned count = 0;

	while ((channel = due_channel(port))) {
		struct world_message *message = channel->head;

		channel->head = message->next;
		message->next = NULL;
		port->message_count--;
		sim_trace(port->sim, "message", port->index,
			  (uint64_t)(channel - port->channels), 0);
		message->run(message);
		count++;
	}
	return count;
}

static unsigned run_completions(struct world_port *port, unsigned max)
{
	unsigned count = 0;

	for (; count < max && !list_is_empty(&port->ready); count++)
		sim_op_deliver(port);
	return count;
}

unsigned sim_port_wait(struct world_port *port, uint64_t deadline_ns, unsigned max_completions)
{
	struct sim *sim = port->sim;
	unsigned count = 0;

	port->deadline_ns = deadline_ns;
	if (sim_random_coin(&sim->timing)) {
		count += run_messages(port);
		count += run_completions(port, max_completions);
	} else {
		count += run_completions(port, max_completions);
		count += run_messages(port);
	}
	if (count > 0 || deadline_ns <= sim->now_ns)
		port->active = true;
	return count;
}

void sim_port_submit(struct world_port *port)
{
	(void)port; /* Operations are on their way from the moment they are made. */
}

void sim_port_wake(struct world_port *port)
{
	struct sim *sim = port->sim;

	sim_port_need_turn(port, sim->now_ns + sim_random_between(&sim->timing, 1,
								  sim->message_delay_ns));
}

static uint64_t next_due(const struct world_port *port)
{
	uint64_t due = port->deadline_ns;

	if (port->active || !list_is_empty(&port->ready))
		return port->busy_until_ns;
	for (unsigned i = 0; port->message_count && i < ARRAY_SIZE(port->channels); i++)
		if (port->channels[i].head)
			due = MIN(due, message_due(port->channels[i].head));
	return due;
}

void sim_port_turn(struct world_port *port)
{
	struct sim *sim = port->sim;
	unsigned slot = port->slot;
	uint64_t due, serial = port->serial;

	port->busy_until_ns =
		sim->now_ns + sim_random_between(&sim->timing, 20, sim->turn_cost_ns);
	if (sim_random_ppm(&sim->timing, sim->stall_ppm)) {
		REACHED("sim.port-stall");
		port->busy_until_ns += sim_random_upto(&sim->timing, LONG_STALL_NS);
	}
	port->active = false;
	sim_trace(sim, "turn", port->index, sim->now_ns, 0);
	if (port->turn)
		port->turn(port->arg);
	/* It may have closed itself, and another may have its memory. */
	if (!sim->ports[slot] || sim->ports[slot]->serial != serial)
		return;
	due = next_due(port);
	if (due != UINT64_MAX)
		sim_port_need_turn(port, due);
}
