/* SPDX-License-Identifier: Apache-2.0 */
#include "iscsi_fixture.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "block/delay.h"
#include "block/memory.h"
#include "reactor/io.h"

#define UA_ATTEMPTS 8

struct fixture *f_;
unsigned reactors_;

/* --- Rig --- */

static void drop_line(enum log_level level, const char *line, void *arg)
{
}

static int save(void *arg, uint64_t serial, const void *data, size_t length)
{
	struct fixture *f = arg;

	assert_int_equal(serial, 2);
	fiber_sleep(SLOW_NS); /* as a disk would */
	if (f->save_error < 0)
		return f->save_error;
	memcpy(f->saved, data, length);
	f->saved_length = length;
	f->saves++;
	return 0;
}

static void start(struct fixture *f)
{
	struct iscsi_server_options options = {.address = "127.0.0.1",
					       .max_sessions = 3,
					       .save_reservations = save,
					       .save_arg = f,
					       .reactors = f->rig.reactors,
					       .reactor_count = reactors_};
	struct delay_options delays = {.before_ns = SLOW_NS};
	struct iscsi_lun lun = {.serial = 1, .product = "fast", .thin = true};
	struct reactor *reactor = f->rig.reactors[0], *home = f->rig.reactors[reactors_ - 1];
	char text[64];
	uint16_t port;

	assert_int_equal(memory_volume_new(home, SIZE, 512, &f->memory), 0);
	assert_int_equal(delay_volume_new(f->memory, &delays, &f->slow), 0);
	assert_int_equal(iscsi_server_new(reactor, &options, &f->server), 0);
	assert_int_equal(iscsi_server_add_target(f->server, TARGET), 0);
	lun.volume = f->memory;
	assert_int_equal(iscsi_server_add_lun(f->server, TARGET, 0, &lun), 0);
	lun.volume = f->slow;
	lun.serial = 2;
	assert_int_equal(iscsi_server_add_lun(f->server, TARGET, 1, &lun), 0);
	iscsi_server_address(f->server, text, sizeof(text), &port);
	assert_string_equal(text, "127.0.0.1");
	f->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
	f->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

static int free_volumes(void *arg)
{
	struct fixture *f = arg;

	block_volume_free(f->slow);
	block_volume_free(f->memory);
	return 0;
}

static void in_fiber(void *arg)
{
	struct fixture *f = arg;

	start(f);
	f->body(f);
	initiator_close(&f->a);
	initiator_close(&f->b);
	iscsi_server_free(f->server);
	(void)fiber_call(f->memory->home, FIBER_CONTROL, free_volumes, f);
}

void run(void (*body)(struct fixture *f))
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f_ = f;
	log_set_sink(drop_line, NULL);
	sim_rig_init(&f->rig, 1, reactors_);
	f->body = body;
	for (size_t i = 0; i < SIZE; i++)
		f->out[i] = (uint8_t)(i * 13 + i / 512);
	sim_rig_run(&f->rig, 0, in_fiber, f);
	sim_rig_done(&f->rig);
	free(f);
}
struct initiator_options by_default(void)
{
	return (struct initiator_options){
		.name = "iqn.2026-01.org.example:a", .target = TARGET, .immediate_data = true};
}

int open_with(struct initiator *initiator, const struct initiator_options *options)
{
	return initiator_open(initiator, (const struct sockaddr *)&f_->address, sizeof(f_->address),
			      options);
}

/* A second initiator port, so that the sessions are two. */
void open_both(struct fixture *f)
{
	struct initiator_options options = by_default();

	assert_int_equal(open_with(&f->a, &options), 0);
	options.isid[5] = 1;
	assert_int_equal(open_with(&f->b, &options), 0);
}

void open_a(struct fixture *f)
{
	struct initiator_options options = by_default();

	assert_int_equal(open_with(&f->a, &options), 0);
}

/* --- Commands --- */

int run_command(struct initiator *initiator, struct initiator_command *command)
{
	for (unsigned i = 0; i < UA_ATTEMPTS; i++) {
		int r = initiator_run(initiator, command);

		if (r < 0 || command->status != 2 || (command->sense[2] & 0x0f) != 6)
			return r;
	}
	return 0;
}

struct initiator_command transfer(uint8_t opcode, uint16_t lun, uint32_t lba, uint16_t blocks)
{
	struct initiator_command command = {.lun = lun, .cdb = {opcode}};

	put_be32(command.cdb + 2, lba);
	put_be16(command.cdb + 7, blocks);
	return command;
}

int do_write(struct initiator *initiator, uint16_t lun, uint32_t lba, uint16_t blocks)
{
	struct initiator_command command = transfer(0x2a, lun, lba, blocks);
	int r;

	command.out = f_->out + lba * 512;
	command.out_length = blocks * 512u;
	r = run_command(initiator, &command);
	if (r == 0)
		assert_int_equal(command.status, 0);
	return r;
}

int do_read(struct initiator *initiator, uint16_t lun, uint32_t lba, uint16_t blocks)
{
	struct initiator_command command = transfer(0x28, lun, lba, blocks);
	int r;

	memset(f_->in, 0, blocks * 512u);
	command.in = f_->in;
	command.in_length = blocks * 512u;
	r = run_command(initiator, &command);
	if (r == 0) {
		assert_int_equal(command.status, 0);
		assert_int_equal(command.in_received, blocks * 512u);
	}
	return r;
}

int test_unit_ready(struct initiator *initiator, uint16_t lun, struct initiator_command *command)
{
	*command = (struct initiator_command){.lun = lun};
	return initiator_run(initiator, command);
}

void assert_attention(struct initiator *initiator, uint16_t lun, uint16_t asc)
{
	struct initiator_command command;

	assert_int_equal(test_unit_ready(initiator, lun, &command), 0);
	assert_int_equal(command.status, 2);
	assert_int_equal(command.sense[2] & 0x0f, 6);
	assert_int_equal(get_be16(command.sense + 12), asc);
}

void assert_ready(struct initiator *initiator, uint16_t lun)
{
	struct initiator_command command;

	assert_int_equal(test_unit_ready(initiator, lun, &command), 0);
	assert_int_equal(command.status, 0);
}

void settle(struct initiator *initiator, uint16_t lun)
{
	struct initiator_command command;

	do
		assert_int_equal(test_unit_ready(initiator, lun, &command), 0);
	while (command.status != 0);
}

/* --- Commands that take their time --- */

static void run_slow(struct fiber_task *task)
{
	struct slow_command *slow = CONTAINER_OF(task, struct slow_command, task);

	slow->result = initiator_run(slow->initiator, &slow->command);
	slow->finished = true;
	fiber_queue_wake_all(&slow->done);
}

void start_write(struct slow_command *slow, struct initiator *initiator, uint16_t lun)
{
	*slow = (struct slow_command){.initiator = initiator};
	slow->command = transfer(0x2a, lun, 0, 8);
	slow->command.out = f_->out;
	slow->command.out_length = 4096;
	fiber_queue_init(&slow->done);
	slow->task.run = run_slow;
	fiber_spawn(reactor_current(), FIBER_CONTROL, &slow->task);
}

/* Starts a write to the slow LUN and gives it time to get there. */
void start_slow(struct slow_command *slow, struct initiator *initiator)
{
	start_write(slow, initiator, 1);
	fiber_sleep(SLOW_NS / 5);
}

void await_slow(struct slow_command *slow)
{
	while (!slow->finished)
		fiber_queue_wait(&slow->done);
}

int run_on_reactors(int (*group)(const char *name))
{
	int failed = 0;

	for (reactors_ = 1; reactors_ <= 3; reactors_ += 2)
		failed += group(reactors_ == 1 ? "one reactor" : "three");
	return failed;
}
