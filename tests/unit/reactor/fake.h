/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The smallest world a reactor runs in: ports, messages and a clock that jumps to the next
 * deadline. Everything in one fixed order, so that tests can name the exact order of what
 * happens.
 */
#include "reactor/fiber.h"

#define FAKE_PORTS 4

struct fake;

struct world_port {
	struct fake *fake;
	void (*turn)(void *arg);
	void *arg;
	bool open;
	bool woken;
	uint64_t deadline_ns;
	unsigned waits;
	struct world_message *first, **last;
};

struct fake {
	struct world world;
	uint64_t now_ns;
	int open_error; /* of the next port_open, 0 = none */
	struct world_port ports[FAKE_PORTS];
};

void fake_init(struct fake *fake);
/* Until nothing is left to do. Returns the number of turns. */
unsigned fake_run(struct fake *fake);
/* One turn of the first port that has something to do, without moving the clock. */
bool fake_step(struct fake *fake);
struct reactor *fake_reactor(struct fake *fake, unsigned index);
