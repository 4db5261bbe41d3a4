/* SPDX-License-Identifier: Apache-2.0 */
/* The server against broken and hostile peers. */
#include "iscsi_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "reactor/io.h"

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

static int group(const char *name)
{
	const struct CMUnitTest tests[] = {
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

	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
	return run_on_reactors(group);
}
