/* SPDX-License-Identifier: Apache-2.0 */
#include "fake.h"

#include <string.h>

#include "base/macros.h"

static struct fake *fake_of(struct world *world)
{
	return CONTAINER_OF(world, struct fake, world);
}

static uint64_t fake_now_ns(struct world *world)
{
	return fake_of(world)->now_ns;
}

static int fake_port_open(struct world *world, unsigned index, void (*turn)(void *arg), void *arg,
			  struct world_port **ret_port)
{
	struct fake *fake = fake_of(world);
	struct world_port *port = &fake->ports[index];

	if (fake->open_error)
		return fake->open_error;
	ASSERT(!port->open);
	*port = (struct world_port){
		.fake = fake, .turn = turn, .arg = arg, .open = true, .deadline_ns = UINT64_MAX};
	port->last = &port->first;
	*ret_port = port;
	return 0;
}

static void fake_port_close(struct world_port *port)
{
	ASSERT(port->open && !port->first);
	port->open = false;
}

static unsigned fake_port_wait(struct world_port *port, uint64_t deadline_ns,
			       unsigned max_completions)
{
	unsigned count = 0;

	port->waits++;
	port->woken = false;
	port->deadline_ns = deadline_ns;
	while (port->first) {
		struct world_message *message = port->first;

		port->first = message->next;
		if (!port->first)
			port->last = &port->first;
		message->run(message);
		count++;
	}
	if (count > 0 || deadline_ns <= port->fake->now_ns)
		port->woken = true;
	return count;
}

static void fake_port_wake(struct world_port *port)
{
	port->woken = true;
}

static void fake_port_post(struct world_port *from, struct world_port *to,
			   struct world_message *message)
{
	message->next = NULL;
	*to->last = message;
	to->last = &message->next;
	to->woken = true;
}

static const struct world_ops fake_ops = {
	.name = "fake",
	.now_ns = fake_now_ns,
	.port_open = fake_port_open,
	.port_close = fake_port_close,
	.port_wait = fake_port_wait,
	.port_wake = fake_port_wake,
	.port_post = fake_port_post,
};

void fake_init(struct fake *fake)
{
	memset(fake, 0, sizeof(*fake));
	fake->world.ops = &fake_ops;
	fake->now_ns = 1000;
}

bool fake_step(struct fake *fake)
{
	for (unsigned i = 0; i < FAKE_PORTS; i++) {
		struct world_port *port = &fake->ports[i];

		if (port->open && (port->woken || port->deadline_ns <= fake->now_ns)) {
			port->woken = false;
			port->deadline_ns = UINT64_MAX;
			port->turn(port->arg);
			return true;
		}
	}
	return false;
}

static uint64_t fake_next_deadline(const struct fake *fake)
{
	uint64_t next_ns = UINT64_MAX;

	for (unsigned i = 0; i < FAKE_PORTS; i++) {
		if (fake->ports[i].open)
			next_ns = MIN(next_ns, fake->ports[i].deadline_ns);
	}
	return next_ns;
}

unsigned fake_run(struct fake *fake)
{
	unsigned turns = 0;

	for (;;) {
		while (fake_step(fake))
			turns++;
		if (fake_next_deadline(fake) == UINT64_MAX)
			return turns;
		fake->now_ns = fake_next_deadline(fake);
	}
}

struct reactor *fake_reactor(struct fake *fake, unsigned index)
{
	const struct reactor_options options = {.index = index, .fibers = {3, 2, 1, 2, 2}};
	struct reactor *reactor;

	ASSERT(reactor_new(&fake->world, &options, &reactor) == 0);
	return reactor;
}
