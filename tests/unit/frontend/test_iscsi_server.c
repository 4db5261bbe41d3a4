/* SPDX-License-Identifier: Apache-2.0 */
/* The server in the simulated world, with an initiator of our own: by the book and against it. */
#include "frontend/iscsi/iscsi.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "block/delay.h"
#include "block/memory.h"
#include "iscsi_initiator.h"
#include "reactor/io.h"
#include "sim_rig.h"

#define TARGET      "iqn.2026-01.org.sarsen:test"
#define SIZE        (4 * MIB)
#define SLOW_NS     (50 * NSEC_PER_MSEC)
#define UA_ATTEMPTS 8

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

static struct fixture *f_;
static unsigned reactors_; /* of the server; the volumes are at home on the last */

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

static void run(void (*body)(struct fixture *f))
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
#define SIM_TEST(name)                 \
	static void name(void **state) \
	{                              \
		(void)state;           \
		run(name##_body);      \
	}

static struct initiator_options by_default(void)
{
	return (struct initiator_options){
		.name = "iqn.2026-01.org.example:a", .target = TARGET, .immediate_data = true};
}

static int open_with(struct initiator *initiator, const struct initiator_options *options)
{
	return initiator_open(initiator, (const struct sockaddr *)&f_->address, sizeof(f_->address),
			      options);
}

/* A second initiator port, so that the sessions are two. */
static void open_both(struct fixture *f)
{
	struct initiator_options options = by_default();

	assert_int_equal(open_with(&f->a, &options), 0);
	options.isid[5] = 1;
	assert_int_equal(open_with(&f->b, &options), 0);
}

static void open_a(struct fixture *f)
{
	struct initiator_options options = by_default();

	assert_int_equal(open_with(&f->a, &options), 0);
}

/* --- Commands --- */

static int run_command(struct initiator *initiator, struct initiator_command *command)
{
	for (unsigned i = 0; i < UA_ATTEMPTS; i++) {
		int r = initiator_run(initiator, command);

		if (r < 0 || command->status != 2 || (command->sense[2] & 0x0f) != 6)
			return r;
	}
	return 0;
}

static struct initiator_command transfer(uint8_t opcode, uint16_t lun, uint32_t lba,
					 uint16_t blocks)
{
	struct initiator_command command = {.lun = lun, .cdb = {opcode}};

	put_be32(command.cdb + 2, lba);
	put_be16(command.cdb + 7, blocks);
	return command;
}

static int do_write(struct initiator *initiator, uint16_t lun, uint32_t lba, uint16_t blocks)
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

static int do_read(struct initiator *initiator, uint16_t lun, uint32_t lba, uint16_t blocks)
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

static int test_unit_ready(struct initiator *initiator, uint16_t lun,
			   struct initiator_command *command)
{
	*command = (struct initiator_command){.lun = lun};
	return initiator_run(initiator, command);
}

static void assert_attention(struct initiator *initiator, uint16_t lun, uint16_t asc)
{
	struct initiator_command command;

	assert_int_equal(test_unit_ready(initiator, lun, &command), 0);
	assert_int_equal(command.status, 2);
	assert_int_equal(command.sense[2] & 0x0f, 6);
	assert_int_equal(get_be16(command.sense + 12), asc);
}

static void assert_ready(struct initiator *initiator, uint16_t lun)
{
	struct initiator_command command;

	assert_int_equal(test_unit_ready(initiator, lun, &command), 0);
	assert_int_equal(command.status, 0);
}

static void settle(struct initiator *initiator, uint16_t lun)
{
	struct initiator_command command;

	do
		assert_int_equal(test_unit_ready(initiator, lun, &command), 0);
	while (command.status != 0);
}

/* --- Data --- */

static void all_ways_of_moving_data_body(struct fixture *f)
{
	static const uint16_t lengths[] = {1, 8, 17, 128, 256, 2048, 4096};

	for (unsigned way = 0; way < 32; way++) {
		struct initiator_options options = by_default();

		/* Segments smaller than what comes unasked, now and then. */
		f->memory->max_transfer_bytes = way % 3 ? MIB : 20480;
		options.initial_r2t = way & 1;
		options.immediate_data = way & 2;
		options.header_digest = way & 4;
		options.data_digest = way & 8;
		options.max_recv = way & 16 ? 512 : 262144;
		options.first_burst = way & 16 ? 1024 : 131072;
		options.max_burst = way & 16 ? 4096 : 1 << 20;
		assert_int_equal(open_with(&f->a, &options), 0);
		for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
			assert_int_equal(do_write(&f->a, 0, 3, lengths[i]), 0);
			assert_int_equal(do_read(&f->a, 0, 3, lengths[i]), 0);
			assert_memory_equal(f->in, f->out + 3 * 512, lengths[i] * 512u);
		}
		assert_int_equal(initiator_logout(&f->a), 0);
		initiator_close(&f->a);
	}
}
SIM_TEST(all_ways_of_moving_data)

static void residuals_body(struct fixture *f)
{
	struct initiator_command command;

	open_a(f);
	settle(&f->a, 0);
	command = transfer(0x28, 0, 0, 2);
	command.in = f->in;
	command.in_length = 600;
	assert_int_equal(initiator_run(&f->a, &command), 0);
	assert_int_equal(command.in_received, 600);
	assert_int_equal(command.flags, ISCSI_RESIDUAL_OVERFLOW);
	assert_int_equal(command.residual, 424);
	command = transfer(0x28, 0, 0, 1);
	command.in = f->in;
	command.in_length = 10000;
	assert_int_equal(initiator_run(&f->a, &command), 0);
	assert_int_equal(command.flags, ISCSI_RESIDUAL_UNDERFLOW);
	assert_int_equal(command.residual, 10000 - 512);
	command = transfer(0x2a, 0, 0, 2);
	command.out = f->out;
	command.out_length = 3000;
	assert_int_equal(initiator_run(&f->a, &command), 0);
	assert_int_equal(command.status, 0);
	assert_int_equal(command.flags, ISCSI_RESIDUAL_UNDERFLOW);
	assert_int_equal(command.residual, 3000 - 1024);
	command = transfer(0x28, 9, 0, 1);
	command.in = f->in;
	command.in_length = 512;
	assert_int_equal(initiator_run(&f->a, &command), 0);
	assert_int_equal(command.status, 2);
	assert_int_equal(command.sense[12], 0x25);
	assert_int_equal(command.residual, 512);
}
SIM_TEST(residuals)

/* --- Discovery --- */

static unsigned count_pairs(const char *text, size_t length, const char *start)
{
	unsigned count = 0;

	for (size_t at = 0; at < length; at += strlen(text + at) + 1)
		count += strncmp(text + at, start, strlen(start)) == 0;
	return count;
}

static void discovery_body(struct fixture *f)
{
	struct initiator_options options = by_default();
	size_t length;
	char name[64], *text;

	for (unsigned i = 0; i < 300; i++) { /* an answer of several PDUs */
		snprintf(name, sizeof(name), TARGET "%u", i);
		assert_int_equal(iscsi_server_add_target(f->server, name), 0);
	}
	options.target = NULL;
	assert_int_equal(open_with(&f->a, &options), 0);
	assert_int_equal(initiator_discover(&f->a, "All", &text, &length), 0);
	assert_int_equal(count_pairs(text, length, "TargetName=" TARGET), 301);
	assert_int_equal(count_pairs(text, length, "TargetAddress=127.0.0.1:"), 301);
	free(text);
	assert_int_equal(initiator_discover(&f->a, TARGET "7", &text, &length), 0);
	assert_int_equal(count_pairs(text, length, "TargetName=" TARGET "7"), 1);
	assert_int_equal(count_pairs(text, length, "T"), 2);
	free(text);
	assert_int_equal(initiator_discover(&f->a, "iqn.nobody", &text, &length), 0);
	assert_int_equal(length, 0);
	free(text);
	assert_int_equal(initiator_nop(&f->a, "ping", 4), 0);
	assert_int_equal(initiator_logout(&f->a), 0);
	initiator_close(&f->a);
	open_both(f);
	assert_int_equal(initiator_discover(&f->b, "", &text, &length), 0);
	assert_int_equal(count_pairs(text, length, "TargetName=" TARGET), 1);
	free(text);
	assert_int_equal(initiator_discover(&f->b, "All", &text, &length), 0);
	assert_int_equal(count_pairs(text, length, "SendTargets=Reject"), 1);
	free(text);
}
SIM_TEST(discovery)

/* --- Who may log in --- */

#define OTHER TARGET "-other"

static unsigned refused_with(const struct initiator_options *options)
{
	assert_int_equal(open_with(&f_->b, options), -EACCES);
	return f_->b.login_status;
}

static unsigned targets_seen_by(const char *name)
{
	struct initiator_options options = {.name = name};
	unsigned count;
	size_t length;
	char *text;

	assert_int_equal(open_with(&f_->b, &options), 0);
	assert_int_equal(initiator_discover(&f_->b, "All", &text, &length), 0);
	count = count_pairs(text, length, "TargetName=");
	free(text);
	initiator_close(&f_->b);
	return count;
}

static void rules_keep_others_out_body(struct fixture *f)
{
	struct iscsi_rule rules[2] = {{.initiator = "iqn.2026-01.org.example:a"},
				      {.initiator = "iqn.2026-01.org.example:c"}};
	struct iscsi_access access = {.rules = rules, .rule_count = 2};
	struct initiator_options options = by_default();

	assert_int_equal(iscsi_server_add_target(f->server, OTHER), 0);
	assert_int_equal(iscsi_server_set_access(f->server, "iqn.nobody", &access), -ENOENT);
	assert_int_equal(targets_seen_by("iqn.2026-01.org.example:b"), 2);
	open_a(f);
	assert_int_equal(iscsi_server_set_access(f->server, TARGET, &access), 0);
	assert_int_equal(do_write(&f->a, 0, 0, 8), 0); /* it may stay */
	options.name = "iqn.2026-01.org.example:b";
	assert_int_equal(refused_with(&options), 0x0202);
	assert_int_equal(targets_seen_by("iqn.2026-01.org.example:b"), 1);
	assert_int_equal(targets_seen_by("iqn.2026-01.org.example:c"), 2);
	access.rules = rules + 1;
	access.rule_count = 1;
	assert_int_equal(iscsi_server_set_access(f->server, TARGET, &access), 0);
	assert_int_equal(do_write(&f->a, 0, 0, 8), -ECONNRESET);
	strcpy(access.chap.user, "u");
	strcpy(access.chap.secret, "a secret of u");
	assert_int_equal(iscsi_server_set_access(f->server, TARGET, &access), 0);
	options.name = "iqn.2026-01.org.example:c"; /* does not offer CHAP */
	assert_int_equal(refused_with(&options), 0x0201);
	strcpy(rules[1].initiator, "nonsense");
	assert_int_equal(iscsi_server_set_access(f->server, TARGET, &access), -EINVAL);
	strcpy(access.chap.secret, "short");
	access.rule_count = 0;
	assert_int_equal(iscsi_server_set_access(f->server, NULL, &access), -EINVAL);
	access.rule_count = ISCSI_RULES_MAX + 1;
	assert_int_equal(iscsi_server_set_access(f->server, NULL, &access), -EINVAL);
}
SIM_TEST(rules_keep_others_out)

static void targets_limit_their_sessions_body(struct fixture *f)
{
	struct iscsi_access access = {.max_sessions = 2, .max_sessions_initiator = 1};
	struct initiator_options options = by_default();

	assert_int_equal(iscsi_server_set_access(f->server, TARGET, &access), 0);
	open_a(f);
	options.isid[5] = 1;
	assert_int_equal(refused_with(&options), 0x0302);
	access.max_sessions_initiator = 0;
	assert_int_equal(iscsi_server_set_access(f->server, TARGET, &access), 0);
	assert_int_equal(open_with(&f->b, &options), 0);
	initiator_close(&f->a);
	open_a(f);
	initiator_close(&f->b);
	access.max_sessions = 1;
	assert_int_equal(iscsi_server_set_access(f->server, TARGET, &access), 0);
	assert_int_equal(refused_with(&options), 0x0302);
}
SIM_TEST(targets_limit_their_sessions)

static void redirected_initiators_go_elsewhere_body(struct fixture *f)
{
	struct iscsi_access access = {.redirect = "10.0.0.2:3260,1"};
	struct initiator_options options = by_default();

	open_a(f);
	assert_int_equal(iscsi_server_set_access(f->server, TARGET, &access), 0);
	assert_int_equal(do_write(&f->a, 0, 0, 8),
			 -ECONNRESET); /* asked to log out, then dropped */
	assert_int_equal(refused_with(&options), 0x0101);
	access.redirect = NULL;
	assert_int_equal(iscsi_server_set_access(f->server, TARGET, &access), 0);
	initiator_close(&f->a);
	open_a(f);
	assert_int_equal(do_write(&f->a, 0, 0, 8), 0);
}
SIM_TEST(redirected_initiators_go_elsewhere)

/* --- Login --- */

static void login_refusals_body(struct fixture *f)
{
	struct initiator_options options = by_default();
	struct initiator others[2];

	options.target = "iqn.2026-01.org.sarsen:nobody";
	assert_int_equal(open_with(&f->a, &options), -EACCES);
	assert_int_equal(f->a.login_status, 0x0203);
	options.target = TARGET;
	options.tsih = 77;
	assert_int_equal(open_with(&f->a, &options), -EACCES);
	assert_int_equal(f->a.login_status, 0x020a);
	open_both(f);
	options.tsih = 0;
	options.isid[5] = 2;
	assert_int_equal(open_with(&others[0], &options), 0);
	options.isid[5] = 3; /* one more than max_sessions */
	assert_int_equal(open_with(&others[1], &options), -EACCES);
	assert_int_equal(others[1].login_status, 0x0302);
	initiator_close(&others[0]);
}
SIM_TEST(login_refusals)

static void a_second_connection_body(struct fixture *f)
{
	struct initiator_options options = by_default();

	open_a(f);
	assert_int_equal(do_write(&f->a, 0, 0, 8), 0);
	options.tsih = f->a.tsih;
	options.cid = 1;
	assert_int_equal(open_with(&f->b, &options), 0);
	f->b.cmd_sn = f->a.cmd_sn; /* the numbers belong to the session */
	assert_int_equal(do_read(&f->b, 0, 0, 8), 0);
	assert_memory_equal(f->in, f->out, 4096);
	f->a.cmd_sn = f->b.cmd_sn;
	f->a.max_cmd_sn = f->b.max_cmd_sn;
	initiator_close(&f->b);
	assert_int_equal(do_read(&f->a, 0, 0, 8), 0);
}
SIM_TEST(a_second_connection)

struct slow_command {
	struct fiber_task task;
	struct initiator *initiator;
	struct initiator_command command;
	struct fiber_queue done;
	int result;
	bool finished;
};

static void run_slow(struct fiber_task *task)
{
	struct slow_command *slow = CONTAINER_OF(task, struct slow_command, task);

	slow->result = initiator_run(slow->initiator, &slow->command);
	slow->finished = true;
	fiber_queue_wake_all(&slow->done);
}

static void start_write(struct slow_command *slow, struct initiator *initiator, uint16_t lun)
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
static void start_slow(struct slow_command *slow, struct initiator *initiator)
{
	start_write(slow, initiator, 1);
	fiber_sleep(SLOW_NS / 5);
}

static void await_slow(struct slow_command *slow)
{
	while (!slow->finished)
		fiber_queue_wait(&slow->done);
}

static void reinstatement_waits_for_old_requests_body(struct fixture *f)
{
	struct initiator_options options = by_default();
	struct slow_command slow;
	uint64_t before_ns;

	open_a(f);
	settle(&f->a, 1);
	start_slow(&slow, &f->a);
	before_ns = reactor_now_ns(reactor_current());
	assert_int_equal(open_with(&f->b, &options), 0); /* the same initiator port */
	assert_true(reactor_now_ns(reactor_current()) - before_ns > SLOW_NS / 2);
	await_slow(&slow);
	assert_int_equal(slow.result, -ECONNRESET);
	/* The old write is done: what is written now stays. */
	memset(f->out, 0xee, 4096);
	assert_int_equal(do_write(&f->b, 0, 0, 8), 0);
	fiber_sleep(2 * SLOW_NS);
	assert_int_equal(do_read(&f->b, 0, 0, 8), 0);
	assert_memory_equal(f->in, f->out, 4096);
}
SIM_TEST(reinstatement_waits_for_old_requests)

/* The same for a connection that takes the place of another one in its session, or comes after
 * it. */
static void a_new_connection_waits_for_old_requests_body(struct fixture *f)
{
	for (uint16_t cid = 0; cid < 2; cid++) {
		struct initiator_options options = by_default();
		struct initiator *newest = cid == 0 ? &f->b : &f->a;
		struct slow_command slow;
		uint32_t cmd_sn;

		open_a(f);
		settle(&f->a, 1);
		start_slow(&slow, &f->a);
		cmd_sn = f->a.cmd_sn;
		options.tsih = f->a.tsih;
		if (cid == 1) { /* the session outlives its first connection */
			options.cid = 2;
			assert_int_equal(open_with(&f->b, &options), 0);
			initiator_close(&f->a);
			await_slow(&slow);
			assert_int_equal(f->slow->in_flight, 1);
		}
		options.cid = cid;
		assert_int_equal(open_with(newest, &options), 0);
		assert_int_equal(f->slow->in_flight, 0);
		await_slow(&slow);
		assert_int_equal(slow.result, -ECONNRESET);
		newest->cmd_sn = cmd_sn;
		assert_int_equal(initiator_nop(newest, NULL, 0), 0);
		initiator_close(&f->a);
		initiator_close(&f->b);
		fiber_sleep(NSEC_PER_SEC);
	}
}
SIM_TEST(a_new_connection_waits_for_old_requests)

static void drop_later(struct fiber_task *task)
{
	struct fixture *f = CONTAINER_OF(task, struct fixture, drop);

	fiber_sleep(f->drop_after_ns);
	assert_int_equal(iscsi_server_drop_session(f->server, f->drop_id), 0);
}

/* A login into a session, from its first connection's CID; nobody waits for the answer. */
static struct world_socket *send_login_only(struct fixture *f, uint16_t tsih)
{
	static const char text[] = "InitiatorName=iqn.2026-01.org.example:a\0SessionType=Normal\0"
				   "TargetName=" TARGET "\0";
	uint8_t padded[ALIGN_UP(sizeof(text) - 1, 4)] = {0};
	struct iscsi_login login = {.opcode = ISCSI_OP_LOGIN | ISCSI_IMMEDIATE_BIT, .flags = 0x87};
	struct iovec iov[2] = {{&login, sizeof(login)}, {padded, sizeof(padded)}};
	struct world_socket *socket = NULL;

	memcpy(padded, text, sizeof(text) - 1);
	put_be24(((struct iscsi_bhs *)&login)->data_length, sizeof(text) - 1);
	put_be16(login.tsih, tsih);
	assert_int_equal(io_connect((struct sockaddr *)&f->address, sizeof(f->address), &socket),
			 0);
	assert_int_equal(io_send_all(socket, iov, 2), 0);
	return socket;
}

/* Who waits to join goes away, or its session is dropped. */
static void a_join_comes_to_nothing_body(struct fixture *f)
{
	struct initiator_options options = by_default();
	struct iscsi_session_info *infos;
	struct slow_command slow;
	size_t count;

	for (unsigned i = 0; i < 2; i++) {
		struct initiator_options late = by_default();

		open_a(f);
		settle(&f->a, 1);
		start_slow(&slow, &f->a);
		late.tsih = f->a.tsih;
		late.without_reader = true;
		late.cut_after = UINT64_MAX;
		if (i == 0) {
			f->drop_id = f->a.tsih;
			f->drop_after_ns = SLOW_NS / 3;
			f->drop.run = drop_later;
			fiber_spawn(reactor_current(), FIBER_CONTROL, &f->drop);
			assert_int_equal(open_with(&f->b, &late), -EACCES);
			assert_int_equal(f->b.login_status, ISCSI_LOGIN_NO_SESSION);
		} else {
			struct world_socket *socket = send_login_only(f, f->a.tsih);

			fiber_sleep(SLOW_NS / 5);
			reactor_world(reactor_current())->ops->socket_close(socket);
		}
		initiator_close(&f->a);
		await_slow(&slow);
		fiber_sleep(NSEC_PER_SEC);
		assert_int_equal(iscsi_server_sessions(f->server, &infos, &count), 0);
		assert_int_equal(count, 0);
		free(infos);
	}
	assert_int_equal(open_with(&f->a, &options), 0);
}
SIM_TEST(a_join_comes_to_nothing)

/* --- Task management --- */

static void abort_task_body(struct fixture *f)
{
	struct slow_command slow;
	uint8_t response;

	open_a(f);
	settle(&f->a, 1);
	start_slow(&slow, &f->a);
	assert_int_equal(initiator_tmf(&f->a, ISCSI_TMF_ABORT_TASK, 1, slow.command.itt, &response),
			 0);
	assert_int_equal(response, ISCSI_TMF_COMPLETE);
	assert_int_equal(f->slow->in_flight, 0);
	assert_false(slow.finished); /* and no answer comes */
	assert_int_equal(initiator_tmf(&f->a, ISCSI_TMF_ABORT_TASK, 1, slow.command.itt, &response),
			 0);
	assert_int_equal(response, ISCSI_TMF_NO_TASK);
	assert_ready(&f->a, 1);
	assert_false(slow.finished);
	initiator_close(&f->a);
	await_slow(&slow);
}
SIM_TEST(abort_task)

/* An answered command and a function that aborted it exclude each other, at any timing. */
static void abort_or_answer_body(struct fixture *f)
{
	unsigned aborted = 0, answered = 0;

	open_a(f);
	settle(&f->a, 0);
	for (unsigned i = 0; i < 300; i++) {
		struct slow_command slow;
		uint8_t response;

		start_write(&slow, &f->a, 0);
		fiber_sleep(i * 20 * NSEC_PER_USEC % (4 * NSEC_PER_MSEC));
		assert_int_equal(
			initiator_tmf(&f->a, ISCSI_TMF_ABORT_TASK, 0, slow.command.itt, &response),
			0);
		assert_int_equal(initiator_nop(&f->a, NULL, 0), 0); /* nothing is on the way now */
		assert_int_equal(slow.finished, response == ISCSI_TMF_NO_TASK);
		aborted += response == ISCSI_TMF_COMPLETE;
		answered += slow.finished;
		initiator_forget(&slow.command);
		await_slow(&slow);
	}
	assert_int_equal(aborted + answered, 300);
	assert_true(aborted > 0 && answered > 0);
}
SIM_TEST(abort_or_answer)

static void resets_body(struct fixture *f)
{
	struct slow_command slow;
	uint8_t response;

	open_both(f);
	settle(&f->a, 1);
	settle(&f->b, 1);
	start_slow(&slow, &f->b);
	assert_int_equal(initiator_tmf(&f->a, ISCSI_TMF_LUN_RESET, 1, 0, &response), 0);
	assert_int_equal(response, ISCSI_TMF_COMPLETE);
	assert_false(slow.finished);
	assert_attention(&f->a, 1, 0x2903);
	assert_attention(&f->b, 1, 0x2903);
	assert_ready(&f->a, 1);
	assert_int_equal(initiator_tmf(&f->a, ISCSI_TMF_LUN_RESET, 5, 0, &response), 0);
	assert_int_equal(response, ISCSI_TMF_NO_LUN);
	assert_int_equal(initiator_tmf(&f->a, ISCSI_TMF_CLEAR_ACA, 0, 0, &response), 0);
	assert_int_equal(response, ISCSI_TMF_NOT_SUPPORTED);
	assert_int_equal(initiator_tmf(&f->a, ISCSI_TMF_TASK_REASSIGN, 0, 0, &response), 0);
	assert_int_equal(response, ISCSI_TMF_NO_REASSIGN);
	assert_int_equal(initiator_tmf(&f->a, ISCSI_TMF_TARGET_WARM_RESET, 0, 0, &response), 0);
	assert_int_equal(response, ISCSI_TMF_COMPLETE);
	assert_attention(&f->a, 1, 0x2903);
	assert_int_equal(initiator_tmf(&f->a, ISCSI_TMF_TARGET_COLD_RESET, 0, 0, &response), 0);
	assert_int_equal(response, ISCSI_TMF_COMPLETE);
	fiber_sleep(NSEC_PER_SEC);
	assert_true(f->a.broken);
	assert_true(f->b.broken);
	await_slow(&slow);
}
SIM_TEST(resets)

static void clearing_the_task_set_tells_others_body(struct fixture *f)
{
	struct slow_command slow;
	uint8_t response;

	open_both(f);
	settle(&f->a, 1);
	settle(&f->b, 1);
	start_slow(&slow, &f->b);
	assert_int_equal(initiator_tmf(&f->a, ISCSI_TMF_ABORT_TASK_SET, 1, 0, &response), 0);
	assert_int_equal(response, ISCSI_TMF_COMPLETE); /* its own tasks: none */
	assert_int_equal(initiator_tmf(&f->a, ISCSI_TMF_CLEAR_TASK_SET, 1, 0, &response), 0);
	assert_int_equal(response, ISCSI_TMF_COMPLETE);
	assert_false(slow.finished);
	assert_attention(&f->b, 1, 0x2f00);
	assert_ready(&f->a, 1);
	initiator_close(&f->b);
	await_slow(&slow);
}
SIM_TEST(clearing_the_task_set_tells_others)

static uint8_t persist_out(struct initiator *initiator, uint8_t action, uint64_t key,
			   uint64_t action_key)
{
	struct initiator_command command = {.lun = 1, .cdb = {0x5f, action, 1, [8] = 24}};
	uint8_t list[24] = {0};

	put_be64(list, key);
	put_be64(list + 8, action_key);
	command.out = list;
	command.out_length = sizeof(list);
	assert_int_equal(run_command(initiator, &command), 0);
	return command.status;
}

static uint8_t persist_saved(struct initiator *initiator, uint64_t key)
{
	struct initiator_command command = {.lun = 1, .cdb = {0x5f, 6, [8] = 24}};
	uint8_t list[24] = {[20] = 1}; /* APTPL */

	put_be64(list + 8, key);
	command.out = list;
	command.out_length = sizeof(list);
	assert_int_equal(run_command(initiator, &command), 0);
	return command.status;
}

static void reservations_outlive_the_unit_body(struct fixture *f)
{
	struct iscsi_lun lun = {.volume = f->slow, .serial = 2};
	struct initiator_command command = transfer(0x2a, 1, 0, 8);

	open_both(f);
	settle(&f->a, 1);
	settle(&f->b, 1);
	assert_int_equal(persist_saved(&f->a, 0xa), 0);
	assert_int_equal(persist_out(&f->a, 1, 0xa, 0), 0);
	assert_int_equal(f->saves, 2);
	assert_int_equal(iscsi_server_remove_lun(f->server, TARGET, 1), 0);
	lun.reservations = f->saved;
	lun.reservations_length = f->saved_length - 1;
	assert_int_equal(iscsi_server_add_lun(f->server, TARGET, 1, &lun), -EUCLEAN);
	lun.reservations_length = f->saved_length;
	assert_int_equal(iscsi_server_add_lun(f->server, TARGET, 1, &lun), 0);
	settle(&f->b, 1);
	command.out = f->out;
	command.out_length = 8 * 512;
	assert_int_equal(run_command(&f->b, &command), 0);
	assert_int_equal(command.status, 0x18); /* still kept out */
	assert_int_equal(do_write(&f->a, 1, 0, 8), 0);
	f->save_error = -EIO;
	assert_int_equal(persist_out(&f->a, 2, 0xa, 0), 2); /* not without a record of it */
}
SIM_TEST(reservations_outlive_the_unit)

static void the_server_stops_amid_a_save_body(struct fixture *f)
{
	struct initiator_command command = {.lun = 1, .cdb = {0x5f, 6, [8] = 24}};
	uint8_t list[24] = {[15] = 7, [20] = 1};

	open_a(f);
	settle(&f->a, 1);
	assert_int_equal(persist_saved(&f->a, 0xa), 0);
	command.out = list;
	command.out_length = sizeof(list);
	f->a.options.cut_after = f->a.sent_bytes + 48 + 24; /* gone before the answer */
	assert_int_equal(initiator_run(&f->a, &command), -ECONNRESET);
}
SIM_TEST(the_server_stops_amid_a_save)

static void preempt_and_abort_fences_body(struct fixture *f)
{
	struct slow_command slow;

	open_both(f);
	settle(&f->a, 1);
	settle(&f->b, 1);
	assert_int_equal(persist_out(&f->a, 0, 0, 0xa), 0);
	assert_int_equal(persist_out(&f->b, 0, 0, 0xb), 0);
	start_slow(&slow, &f->b);
	assert_int_equal(persist_out(&f->a, 5, 0xa, 0xb), 0);
	/* The other's write is over, whichever way, and it hears no more of it. */
	assert_int_equal(f->slow->in_flight, 0);
	assert_false(slow.finished);
	assert_attention(&f->b, 1, 0x2a05);
	initiator_close(&f->b);
	await_slow(&slow);
}
SIM_TEST(preempt_and_abort_fences)

/* --- Changes from outside --- */

static void luns_come_and_go_body(struct fixture *f)
{
	struct iscsi_lun lun = {.volume = f->memory, .serial = 3};
	struct slow_command slow;
	struct initiator_command command;

	open_a(f);
	settle(&f->a, 0);
	settle(&f->a, 1);
	assert_int_equal(iscsi_server_add_lun(f->server, TARGET, 1, &lun), -EEXIST);
	assert_int_equal(iscsi_server_add_lun(f->server, TARGET, 256, &lun), -EINVAL);
	assert_int_equal(iscsi_server_add_lun(f->server, "iqn.x", 2, &lun), -ENOENT);
	assert_int_equal(iscsi_server_add_lun(f->server, TARGET, 2, &lun), 0);
	assert_attention(&f->a, 0, 0x3f0e);
	assert_attention(&f->a, 2, 0x2900);
	start_slow(&slow, &f->a);
	assert_int_equal(iscsi_server_remove_lun(f->server, TARGET, 1), 0);
	await_slow(&slow);
	assert_int_equal(slow.result, 0);
	assert_int_equal(slow.command.status, 2); /* LUNS CHANGED came first */
	settle(&f->a, 0);
	assert_int_equal(test_unit_ready(&f->a, 1, &command), 0);
	assert_int_equal(command.sense[12], 0x25);
	assert_int_equal(iscsi_server_remove_lun(f->server, TARGET, 1), -ENOENT);
}
SIM_TEST(luns_come_and_go)

static void removal_waits_for_requests_body(struct fixture *f)
{
	struct slow_command slow;

	open_a(f);
	settle(&f->a, 1);
	start_slow(&slow, &f->a);
	assert_int_equal(iscsi_server_remove_lun(f->server, TARGET, 1), 0);
	assert_int_equal(f->slow->in_flight, 0);
	await_slow(&slow);
	assert_int_equal(slow.result, 0);
	assert_int_equal(slow.command.status, 0);
}
SIM_TEST(removal_waits_for_requests)

static void resize_reaches_initiators_body(struct fixture *f)
{
	open_both(f);
	settle(&f->a, 0);
	settle(&f->b, 0);
	f->memory->size_bytes = SIZE / 2;
	iscsi_server_resized(f->server, f->memory);
	assert_attention(&f->a, 0, 0x2a09);
	assert_attention(&f->b, 0, 0x2a09);
	assert_ready(&f->a, 0);
	f->memory->size_bytes = SIZE;
}
SIM_TEST(resize_reaches_initiators)

static void targets_are_removed_body(struct fixture *f)
{
	struct iscsi_session_info *infos;
	size_t count;

	open_a(f);
	assert_int_equal(do_write(&f->a, 0, 0, 8), 0);
	assert_int_equal(iscsi_server_sessions(f->server, &infos, &count), 0);
	assert_int_equal(count, 1);
	assert_string_equal(infos[0].initiator, "iqn.2026-01.org.example:a");
	assert_string_equal(infos[0].target, TARGET);
	assert_int_equal(infos[0].bytes_written, 4096);
	assert_int_equal(strncmp(infos[0].peer, "127.0.0.1:", 10), 0);
	free(infos);
	assert_int_equal(iscsi_server_add_target(f->server, TARGET), -EEXIST);
	assert_int_equal(iscsi_server_add_target(f->server, "disk"), -EINVAL);
	assert_int_equal(iscsi_server_remove_target(f->server, "iqn.x"), -ENOENT);
	assert_int_equal(iscsi_server_remove_target(f->server, TARGET), 0);
	assert_int_equal(iscsi_server_sessions(f->server, &infos, &count), 0);
	assert_int_equal(count, 0);
	free(infos);
	fiber_sleep(NSEC_PER_SEC);
	assert_true(f->a.broken);
}
SIM_TEST(targets_are_removed)

static void the_server_stops_amid_work_body(struct fixture *f)
{
	static struct slow_command slow;

	open_both(f);
	settle(&f->a, 1);
	start_slow(&slow, &f->a);
	iscsi_server_free(f->server);
	f->server = NULL;
	assert_int_equal(f->slow->in_flight, 0);
	await_slow(&slow);
	assert_int_equal(slow.result, -ECONNRESET);
}
SIM_TEST(the_server_stops_amid_work)

static void addresses_are_checked_body(struct fixture *f)
{
	struct iscsi_server_options options = {.address = "localhost"};
	struct reactor *reactor = f->rig.reactors[0];
	struct iscsi_server *second = NULL;
	char text[64];
	uint16_t port;

	assert_int_equal(iscsi_server_new(reactor, &options, &second), -EINVAL);
	options.address = "127.0.0.1";
	options.port = ntohs(f->address.sin_port);
	assert_int_equal(iscsi_server_new(reactor, &options, &second), -EADDRINUSE);
	options.port_fallback = true;
	assert_int_equal(iscsi_server_new(reactor, &options, &second), 0);
	iscsi_server_address(second, text, sizeof(text), &port);
	assert_int_not_equal(port, options.port);
	iscsi_server_free(second);
	options.address = "::1";
	assert_int_equal(iscsi_server_new(reactor, &options, &second), 0);
	iscsi_server_address(second, text, sizeof(text), &port);
	assert_string_equal(text, "::1");
	iscsi_server_free(second);
}
SIM_TEST(addresses_are_checked)

/* A write that waits for its data is aborted; then the data comes nevertheless. */
static void data_for_an_aborted_task_body(struct fixture *f)
{
	struct initiator_options options = by_default();
	struct iscsi_task_management abort = {.opcode = ISCSI_OP_TASK_MANAGEMENT |
							ISCSI_IMMEDIATE_BIT,
					      .flags = 0x80 | ISCSI_TMF_ABORT_TASK};
	struct iovec iov = {&abort, sizeof(abort)};
	struct slow_command slow;

	options.immediate_data = false;
	options.initial_r2t = true;
	assert_int_equal(open_with(&f->a, &options), 0);
	settle(&f->a, 0);
	start_write(&slow, &f->a, 0);
	fiber_yield();
	/* As soon as the command is sent: so the answer to the R2T waits for us. */
	fiber_mutex_lock(&f->a.send_lock);
	fiber_sleep(NSEC_PER_SEC);
	assert_int_equal(slow.command.r2t_sn, 1);
	put_be32(abort.itt, 0x3000);
	put_be32(abort.referenced_itt, slow.command.itt);
	put_be32(abort.cmd_sn, f->a.cmd_sn);
	assert_int_equal(io_send_all(f->a.socket, &iov, 1), 0);
	fiber_sleep(NSEC_PER_SEC);
	fiber_mutex_unlock(&f->a.send_lock);
	fiber_sleep(NSEC_PER_SEC);
	assert_false(slow.finished);
	assert_false(f->a.broken);
	assert_int_equal(initiator_nop(&f->a, NULL, 0), 0);
	assert_int_equal(do_read(&f->a, 0, 0, 8), 0);
	assert_int_equal(f->in[100], 0); /* it was not written */
	initiator_close(&f->a);
	await_slow(&slow);
}
SIM_TEST(data_for_an_aborted_task)

/* The one who waits for the end of an aborted request goes away before that. */
static void a_cut_amid_a_reset_body(struct fixture *f)
{
	struct slow_command slow;
	struct iscsi_task_management reset = {.opcode = ISCSI_OP_TASK_MANAGEMENT |
							ISCSI_IMMEDIATE_BIT,
					      .flags = 0x80 | ISCSI_TMF_LUN_RESET};

	open_a(f);
	settle(&f->a, 1);
	start_slow(&slow, &f->a);
	iscsi_pdu_put_lun(reset.lun, 1);
	put_be32(reset.itt, 0x3000);
	put_be32(reset.cmd_sn, f->a.cmd_sn);
	assert_int_equal(initiator_send_raw(&f->a, &reset, NULL, 0), 0);
	fiber_sleep(SLOW_NS / 5);
	initiator_close(&f->a);
	await_slow(&slow);
	open_a(f); /* the session before it came to its end */
	settle(&f->a, 1);
	assert_int_equal(f->slow->in_flight, 0);
}
SIM_TEST(a_cut_amid_a_reset)

/* --- Hostile and broken peers; b is the bystander --- */

static void bystander_is_well(struct fixture *f)
{
	assert_int_equal(do_write(&f->b, 0, 100, 8), 0);
	assert_int_equal(do_read(&f->b, 0, 100, 8), 0);
	assert_memory_equal(f->in, f->out + 100 * 512, 4096);
}

/* A write with immediate, unsolicited and solicited data, cut at each of its bytes, and the login
 * before it; nothing is left of any of them but what the write stored. */
static void cut_everywhere(struct fixture *f, const struct initiator_options *with)
{
	struct initiator_options options = *with;
	struct iscsi_session_info *infos;
	uint64_t cut = 0;
	size_t count;
	int r;

	open_both(f);
	initiator_close(&f->a);
	do {
		options.cut_after = ++cut;
		r = open_with(&f->a, &options);
		if (r == 0)
			r = do_write(&f->a, 0, 0, 4);
		initiator_close(&f->a);
		assert_true(r == 0 || r == -ECONNRESET || r == -EPIPE);
		if (cut % 64 == 0)
			bystander_is_well(f);
	} while (r < 0);
	assert_true(cut > 2048 + 2 * ISCSI_BHS_BYTES);
	bystander_is_well(f);
	fiber_sleep(NSEC_PER_SEC);
	assert_int_equal(iscsi_server_sessions(f->server, &infos, &count), 0);
	assert_int_equal(count, 1); /* the bystander's */
	free(infos);
}

static void cut_at_every_byte_body(struct fixture *f)
{
	struct initiator_options options = by_default();

	cut_everywhere(f, &options);
	initiator_close(&f->b);
	options.first_burst = 1024; /* of 2048 bytes the rest is asked for */
	options.max_burst = 1024;
	options.header_digest = true;
	options.data_digest = true;
	cut_everywhere(f, &options);
}
SIM_TEST(cut_at_every_byte)

/* The same with secrets on both sides; the bystander has none to prove. */
static void cut_amid_the_proof_body(struct fixture *f)
{
	struct iscsi_rule rules[2] = {
		{.initiator = "iqn.2026-01.org.example:proves",
		 .chap = {.user = "joe",
			  .secret = "the secret of joe",
			  .own_user = "target",
			  .own_secret = "the target's own"}},
		{.initiator = "iqn.2026-01.org.example:a"},
	};
	struct iscsi_access access = {.rules = rules, .rule_count = 2};
	struct initiator_options options = by_default();

	assert_int_equal(iscsi_server_set_access(f->server, TARGET, &access), 0);
	options.name = rules[0].initiator;
	assert_int_equal(open_with(&f->a, &options), -EACCES); /* without a proof */
	options.chap = &rules[0].chap;
	cut_everywhere(f, &options);
	initiator_close(&f->b);
	options.immediate_data = false;
	options.initial_r2t = true;
	cut_everywhere(f, &options);
}
SIM_TEST(cut_amid_the_proof)

static struct world_socket *connect_raw(struct fixture *f)
{
	struct world_socket *socket = NULL;

	assert_int_equal(io_connect((struct sockaddr *)&f->address, sizeof(f->address), &socket),
			 0);
	return socket;
}

/* Bytes until the end, however that comes. */
static unsigned drain(struct world_socket *socket)
{
	unsigned total = 0;
	uint8_t bytes[256];
	int64_t n;

	while ((n = io_receive(socket, bytes, sizeof(bytes))) > 0)
		total += (unsigned)n;
	return total;
}

static void logins_time_out_body(struct fixture *f)
{
	struct world_socket *socket = connect_raw(f);
	uint64_t before_ns = reactor_now_ns(reactor_current());

	assert_int_equal(drain(socket), 0);
	assert_true(reactor_now_ns(reactor_current()) - before_ns >= 15 * NSEC_PER_SEC);
	assert_true(reactor_now_ns(reactor_current()) - before_ns <= 18 * NSEC_PER_SEC);
	reactor_world(reactor_current())->ops->socket_close(socket);
}
SIM_TEST(logins_time_out)

#define HALF_OPEN 10000

static void half_open_logins_make_room_body(struct fixture *f)
{
	struct world_socket *sockets[1000];
	uint8_t byte;

	for (size_t i = 0; i < HALF_OPEN; i++) {
		size_t at = i % ARRAY_SIZE(sockets);

		if (i >= ARRAY_SIZE(sockets)) /* long closed by the server */
			reactor_world(reactor_current())->ops->socket_close(sockets[at]);
		sockets[at] = connect_raw(f);
	}
	open_a(f); /* gets in nevertheless */
	assert_int_equal(do_write(&f->a, 0, 0, 8), 0);
	/* The first are gone, long before their time. */
	assert_true(io_receive(sockets[0], &byte, 1) <= 0);
	assert_true(reactor_now_ns(reactor_current()) < 10 * NSEC_PER_SEC);
	for (size_t i = 0; i < ARRAY_SIZE(sockets); i++)
		reactor_world(reactor_current())->ops->socket_close(sockets[i]);
}
SIM_TEST(half_open_logins_make_room)

static void garbage_instead_of_a_login_body(struct fixture *f)
{
	uint8_t bytes[200];

	open_both(f);
	for (unsigned i = 0; i < 40; i++) {
		struct world_socket *socket = connect_raw(f);
		struct iovec iov = {bytes, sizeof(bytes)};

		memset(bytes, (int)(i * 7), sizeof(bytes));
		bytes[0] = (uint8_t)i;
		bytes[4] = bytes[5] = bytes[6] = 0;
		(void)io_send_all(socket, &iov, 1);
		(void)drain(socket);
		reactor_world(reactor_current())->ops->socket_close(socket);
	}
	bystander_is_well(f);
}
SIM_TEST(garbage_instead_of_a_login)

/* Sends one bad PDU in the full-feature phase; tells whether the connection is still there. */
static bool survives(struct fixture *f, struct iscsi_bhs *bhs, uint32_t length)
{
	struct initiator_options options = by_default();
	bool well;

	initiator_close(&f->a);
	assert_int_equal(open_with(&f->a, &options), 0);
	settle(&f->a, 0);
	put_be32(((struct iscsi_request *)bhs)->cmd_sn, f->a.cmd_sn);
	f->a.has_answer = false;
	(void)initiator_send_raw(&f->a, bhs, f->out, length);
	fiber_sleep(NSEC_PER_SEC);
	well = !f->a.broken;
	bystander_is_well(f);
	return well;
}

static void assert_rejected(const struct fixture *f, uint8_t reason)
{
	assert_true(f->a.has_answer);
	assert_int_equal(f->a.answer.opcode, ISCSI_OP_REJECT);
	assert_int_equal(f->a.answer.specific[0], reason);
	assert_int_equal(f->a.answer_length, ISCSI_BHS_BYTES);
}

static void bad_pdus_body(struct fixture *f)
{
	struct iscsi_bhs unknown = {.opcode = 0x1c};
	struct iscsi_bhs snack = {.opcode = ISCSI_OP_SNACK, .flags = 0x80};
	struct iscsi_bhs large = {.opcode = ISCSI_OP_NOP_OUT, .flags = 0x80};
	struct iscsi_bhs stray = {.opcode = ISCSI_OP_DATA_OUT, .flags = 0x80};
	struct iscsi_bhs login = {.opcode = ISCSI_OP_LOGIN | 0x40, .flags = 0x87};
	struct iscsi_scsi_command read = {
		.opcode = ISCSI_OP_SCSI_COMMAND, .flags = 0xc0, .cdb = {0x28, [8] = 1}};
	struct iscsi_scsi_command write = {
		.opcode = ISCSI_OP_SCSI_COMMAND, .flags = 0xa0, .cdb = {0x2a, [8] = 1}};

	open_both(f);
	assert_true(survives(f, &unknown, 0));
	assert_rejected(f, ISCSI_REJECT_NOT_SUPPORTED);
	assert_true(survives(f, &snack, 0));
	assert_rejected(f, ISCSI_REJECT_SNACK);
	assert_true(survives(f, &login, 0));
	assert_rejected(f, ISCSI_REJECT_PROTOCOL);
	assert_true(survives(f, &stray, 512)); /* data for nobody is dropped */
	assert_false(survives(f, &large, 262145));
	/* Immediate data with a read; more of it than the command has, or than the first burst. */
	put_be32(read.expected_length, 512);
	assert_true(survives(f, (struct iscsi_bhs *)&read, 512));
	assert_rejected(f, ISCSI_REJECT_PROTOCOL);
	put_be32(write.expected_length, 512);
	assert_true(survives(f, (struct iscsi_bhs *)&write, 1024));
	assert_rejected(f, ISCSI_REJECT_PROTOCOL);
	put_be32(write.expected_length, 200000);
	assert_true(survives(f, (struct iscsi_bhs *)&write, 150000));
	assert_rejected(f, ISCSI_REJECT_PROTOCOL);
	/* After a Reject the next number is due. */
	f->a.cmd_sn++;
	assert_int_equal(do_read(&f->a, 0, 0, 1), 0);
}
SIM_TEST(bad_pdus)

static void numbers_outside_of_the_window_body(struct fixture *f)
{
	open_a(f);
	settle(&f->a, 0);
	for (int i = 0; i < 3; i++) {
		struct iscsi_request nop = {.opcode = ISCSI_OP_NOP_OUT, .flags = 0x80};
		static const uint32_t distances[] = {(uint32_t)-1, 129, 0x80000000};

		put_be32(nop.word20, ISCSI_RESERVED_TAG);
		put_be32(nop.cmd_sn, f->a.cmd_sn + distances[i]);
		f->a.has_answer = false;
		f->a.waiting_itt = 0;
		assert_int_equal(initiator_send_raw(&f->a, &nop, NULL, 0), 0);
		fiber_sleep(NSEC_PER_SEC);
		assert_false(f->a.has_answer); /* ignored */
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(initiator_nop(&f->a, f->out, 300), 0);
}
SIM_TEST(numbers_outside_of_the_window)

static void an_early_number_waits_body(struct fixture *f)
{
	struct iscsi_request nop = {.opcode = ISCSI_OP_NOP_OUT, .flags = 0x80};

	open_a(f);
	settle(&f->a, 0);
	put_be32(nop.word20, ISCSI_RESERVED_TAG);
	put_be32(nop.cmd_sn, f->a.cmd_sn + 1);
	put_be32(nop.itt, 0x1000);
	f->a.waiting_itt = 0x1000;
	assert_int_equal(initiator_send_raw(&f->a, &nop, NULL, 0), 0);
	fiber_sleep(NSEC_PER_SEC);
	assert_false(f->a.has_answer);
	assert_ready(&f->a, 0); /* the number that was missing */
	fiber_sleep(NSEC_PER_SEC);
	assert_true(f->a.has_answer);
	f->a.cmd_sn++;
	assert_ready(&f->a, 0);
	/* Not for ever. */
	put_be32(nop.cmd_sn, f->a.cmd_sn + 1);
	assert_int_equal(initiator_send_raw(&f->a, &nop, NULL, 0), 0);
	fiber_sleep(20 * NSEC_PER_SEC);
	assert_false(f->a.broken);
	fiber_sleep(20 * NSEC_PER_SEC);
	assert_true(f->a.broken);
}
SIM_TEST(an_early_number_waits)

/* 7.9: the command fails, nothing of it is stored, and the session goes on. */
static void gaps_in_the_data_body(struct fixture *f)
{
	for (unsigned i = 0; i < 8; i++) {
		struct initiator_options options = by_default();
		struct initiator_command command = transfer(0x2a, 0, 0, 16);

		options.immediate_data = false;
		options.initial_r2t = i & 1;
		assert_int_equal(open_with(&f->a, &options), 0);
		settle(&f->a, 0);
		f->a.max_send = 4096; /* two PDUs */
		f->a.skew = (int32_t[]){1, -1, 27, 512}[i / 2];
		f->a.skew_offset = i / 2 == 3;
		command.out = f->out;
		command.out_length = 8192;
		assert_int_equal(initiator_run(&f->a, &command), 0);
		assert_int_equal(command.status, 2);
		assert_int_equal(command.sense[2] & 0x0f, 0x0b);
		assert_int_equal(get_be16(command.sense + 12), 0x4705);
		assert_int_equal(do_read(&f->a, 0, 0, 16), 0);
		for (unsigned at = 0; at < 8192; at++)
			assert_int_equal(f->in[at], 0);
		f->a.skew = 0;
		assert_int_equal(do_write(&f->a, 0, 100, 16), 0);
		initiator_close(&f->a);
	}
}
SIM_TEST(gaps_in_the_data)

static void damaged_digests_end_the_connection_body(struct fixture *f)
{
	struct initiator_options options = by_default();
	struct iscsi_request nop = {.opcode = ISCSI_OP_NOP_OUT | 0x40, .flags = 0x80};

	open_both(f);
	initiator_close(&f->a);
	for (unsigned i = 0; i < 2; i++) {
		options.header_digest = i == 0;
		options.data_digest = i == 1;
		assert_int_equal(open_with(&f->a, &options), 0);
		put_be32(nop.word20, ISCSI_RESERVED_TAG);
		assert_int_equal(initiator_nop(&f->a, "ping", 4), 0);
		f->a.header_digest = false; /* sends zeros or what follows in its place */
		f->a.data_digest = false;
		(void)initiator_send_raw(&f->a, &nop, f->out, 64);
		(void)initiator_send_raw(&f->a, &nop, f->out, 64);
		fiber_sleep(NSEC_PER_SEC);
		assert_true(f->a.broken);
		initiator_close(&f->a);
	}
	bystander_is_well(f);
}
SIM_TEST(damaged_digests_end_the_connection)

static void data_that_does_not_come_body(struct fixture *f)
{
	struct iscsi_scsi_command write = {.opcode = ISCSI_OP_SCSI_COMMAND,
					   .flags = ISCSI_COMMAND_WRITE | ISCSI_FINAL_BIT,
					   .cdb = {0x2a, [7] = 1}};

	open_both(f);
	settle(&f->a, 0);
	/* A command that the initiator forgets: it does not answer the R2T. */
	put_be32(write.itt, 0x2000);
	put_be32(write.expected_length, 256 * 512);
	put_be32(write.cmd_sn, f->a.cmd_sn++);
	list_init(&f->a.commands);
	struct initiator_command command = {.out_length = 256 * 512, .itt = 0x2000};
	command.initiator = &f->a;
	f->a.max_send = UINT32_MAX;
	list_push_back(&f->a.commands, &command.link);
	f->a.options.cut_after = UINT64_MAX;
	assert_int_equal(initiator_send_raw(&f->a, &write, NULL, 0), 0);
	fiber_mutex_lock(&f->a.send_lock); /* its Data-Out waits here */
	fiber_sleep(20 * NSEC_PER_SEC);
	assert_false(f->a.broken);
	fiber_sleep(20 * NSEC_PER_SEC);
	fiber_mutex_unlock(&f->a.send_lock);
	fiber_sleep(NSEC_PER_SEC);
	assert_true(f->a.broken);
	bystander_is_well(f);
}
SIM_TEST(data_that_does_not_come)

/* A byte now and then keeps nothing alive, neither in a header nor in data. */
static void trickle_body(struct fixture *f)
{
	uint8_t bytes[ISCSI_BHS_BYTES + 1] = {ISCSI_OP_NOP_OUT | ISCSI_IMMEDIATE_BIT,
					      ISCSI_FINAL_BIT, [6] = 100};
	const size_t begun[] = {8, ISCSI_BHS_BYTES + 1};
	struct initiator_options options = by_default();

	open_both(f);
	memset(bytes + 16, 0xff, 8);
	for (size_t i = 0; i < ARRAY_SIZE(begun); i++) {
		struct iovec iov = {bytes, begun[i]};
		unsigned sent = 0;

		initiator_close(&f->a);
		assert_int_equal(open_with(&f->a, &options), 0);
		settle(&f->a, 0);
		fiber_sleep(60 * NSEC_PER_SEC); /* what was before does not count */
		fiber_mutex_lock(&f->a.send_lock);
		do {
			assert_true(io_send_all(f->a.socket, &iov, 1) >= 0 || f->a.broken);
			iov = (struct iovec){bytes + 47, 1};
			fiber_sleep(4 * NSEC_PER_SEC);
		} while (!f->a.broken && ++sent < 20);
		fiber_mutex_unlock(&f->a.send_lock);
		assert_in_range(sent, 6, 8);
	}
	bystander_is_well(f);
}
SIM_TEST(trickle)

static void idle_sessions_are_pinged_body(struct fixture *f)
{
	open_both(f);
	settle(&f->a, 0);
	fiber_mutex_lock(&f->b.send_lock); /* does not answer */
	fiber_sleep(200 * NSEC_PER_SEC);
	fiber_mutex_unlock(&f->b.send_lock);
	fiber_sleep(NSEC_PER_SEC);
	assert_false(f->a.broken);
	assert_true(f->b.broken);
	assert_ready(&f->a, 0);
}
SIM_TEST(idle_sessions_are_pinged)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_ways_of_moving_data),
		cmocka_unit_test(residuals),
		cmocka_unit_test(discovery),
		cmocka_unit_test(rules_keep_others_out),
		cmocka_unit_test(targets_limit_their_sessions),
		cmocka_unit_test(redirected_initiators_go_elsewhere),
		cmocka_unit_test(login_refusals),
		cmocka_unit_test(a_second_connection),
		cmocka_unit_test(reinstatement_waits_for_old_requests),
		cmocka_unit_test(a_new_connection_waits_for_old_requests),
		cmocka_unit_test(a_join_comes_to_nothing),
		cmocka_unit_test(abort_task),
		cmocka_unit_test(abort_or_answer),
		cmocka_unit_test(resets),
		cmocka_unit_test(clearing_the_task_set_tells_others),
		cmocka_unit_test(preempt_and_abort_fences),
		cmocka_unit_test(reservations_outlive_the_unit),
		cmocka_unit_test(the_server_stops_amid_a_save),
		cmocka_unit_test(luns_come_and_go),
		cmocka_unit_test(removal_waits_for_requests),
		cmocka_unit_test(resize_reaches_initiators),
		cmocka_unit_test(targets_are_removed),
		cmocka_unit_test(the_server_stops_amid_work),
		cmocka_unit_test(addresses_are_checked),
		cmocka_unit_test(data_for_an_aborted_task),
		cmocka_unit_test(a_cut_amid_a_reset),
		cmocka_unit_test(cut_at_every_byte),
		cmocka_unit_test(cut_amid_the_proof),
		cmocka_unit_test(logins_time_out),
		cmocka_unit_test(half_open_logins_make_room),
		cmocka_unit_test(garbage_instead_of_a_login),
		cmocka_unit_test(bad_pdus),
		cmocka_unit_test(numbers_outside_of_the_window),
		cmocka_unit_test(an_early_number_waits),
		cmocka_unit_test(gaps_in_the_data),
		cmocka_unit_test(damaged_digests_end_the_connection),
		cmocka_unit_test(data_that_does_not_come),
		cmocka_unit_test(trickle),
		cmocka_unit_test(idle_sessions_are_pinged),
	};

	int failed = 0;

	for (reactors_ = 1; reactors_ <= 3; reactors_ += 2)
		failed += cmocka_run_group_tests_name(reactors_ == 1 ? "one reactor" : "three",
						      tests, NULL, NULL);
	return failed;
}
