/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A server in the simulated world, with a target of two units (LUN 0 is fast, LUN 1 slow), and two
 * initiators. Test bodies run in a fiber of the server's reactor.
 */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "frontend/iscsi/iscsi.h"
#include "iscsi_initiator.h"
#include "sim_rig.h"

#define TARGET  "iqn.2026-01.org.sarsen:test"
#define SIZE    (4 * MIB)
#define SLOW_NS (50 * NSEC_PER_MSEC)

struct fixture {
	struct sim_rig rig;
	struct block_volume *memory, *slow;
	struct iscsi_server *server;
	struct sockaddr_in address;
	void (*body)(struct fixture *f);
	struct initiator a, b;
	uint8_t saved[20000]; /* reservations */
	size_t saved_length;
	unsigned saves;
	int save_error;
	struct fiber_task drop; /* of a session, later */
	uint64_t drop_after_ns;
	uint16_t drop_id;
	uint8_t out[SIZE], in[SIZE];
};

extern struct fixture *f_;
extern unsigned reactors_; /* of the server; the volumes are at home on the last */

void run(void (*body)(struct fixture *f));
/* Runs the group with one reactor, then with three. Returns how many tests failed. */
int run_on_reactors(int (*group)(const char *name));

#define SIM_TEST(name)                 \
	static void name(void **state) \
	{                              \
		(void)state;           \
		run(name##_body);      \
	}

struct initiator_options by_default(void);
int open_with(struct initiator *initiator, const struct initiator_options *options);
void open_both(struct fixture *f);
void open_a(struct fixture *f);
int run_command(struct initiator *initiator, struct initiator_command *command);
struct initiator_command transfer(uint8_t opcode, uint16_t lun, uint32_t lba, uint16_t blocks);
int do_write(struct initiator *initiator, uint16_t lun, uint32_t lba, uint16_t blocks);
int do_read(struct initiator *initiator, uint16_t lun, uint32_t lba, uint16_t blocks);
int test_unit_ready(struct initiator *initiator, uint16_t lun, struct initiator_command *command);
void assert_attention(struct initiator *initiator, uint16_t lun, uint16_t asc);
void assert_ready(struct initiator *initiator, uint16_t lun);
/* Takes all unit attentions. */
void settle(struct initiator *initiator, uint16_t lun);

struct slow_command {
	struct fiber_task task;
	struct initiator *initiator;
	struct initiator_command command;
	struct fiber_queue done;
	int result;
	bool finished;
};

void start_write(struct slow_command *slow, struct initiator *initiator, uint16_t lun);
/* Starts a write to the slow LUN and gives it time to get there. */
void start_slow(struct slow_command *slow, struct initiator *initiator);
void await_slow(struct slow_command *slow);
