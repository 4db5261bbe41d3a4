/* SPDX-License-Identifier: Apache-2.0 */
/* The server by the book. */
#include "iscsi_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "reactor/io.h"

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

static void expect_rejected(struct initiator *initiator, const char *value)
{
	size_t length;
	char *text;

	assert_int_equal(initiator_discover(initiator, value, &text, &length), 0);
	assert_int_equal(count_pairs(text, length, "SendTargets=Reject"), 1);
	assert_int_equal(count_pairs(text, length, "T"), 0);
	free(text);
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
	assert_int_equal(initiator_discover(&f->a, "IQN.2026-01.ORG.SARSEN:test", &text, &length),
			 0);
	assert_int_equal(count_pairs(text, length, "TargetName=" TARGET), 1);
	free(text);
	expect_rejected(&f->a, "");
	expect_rejected(&f->a, "Alle");
	assert_int_equal(initiator_nop(&f->a, "ping", 4), 0);
	assert_int_equal(initiator_logout(&f->a), 0);
	initiator_close(&f->a);
	open_both(f);
	assert_int_equal(initiator_discover(&f->b, "", &text, &length), 0);
	assert_int_equal(count_pairs(text, length, "TargetName=" TARGET), 1);
	free(text);
	assert_int_equal(initiator_discover(&f->b, TARGET "7", &text, &length), 0);
	assert_int_equal(length, 0);
	free(text);
	expect_rejected(&f->b, "All");
	expect_rejected(&f->b, "A");
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

/* --- Copies in the background --- */

/* EXTENDED COPY(LID4) with IMMED from the fast unit to the slow one, `blocks` from and to 0. */
static void start_copy(struct initiator *initiator, uint32_t list_id, uint16_t blocks)
{
	struct initiator_command command = {.lun = 1, .cdb = {0x83, 0x01}};
	uint8_t list[48 + 64 + 28] = {1, 0, 0, 0x20, [15] = 1, [16] = 0xff};
	uint8_t *segment = list + 48 + 64;

	put_be32(list + 20, list_id);
	put_be16(list + 42, 64);
	put_be16(list + 44, 28);
	for (unsigned i = 0; i < 2; i++) {
		uint8_t *cscd = list + 48 + 32 * i;

		cscd[0] = 0xe4;
		cscd[4] = 1;
		cscd[5] = 3;
		cscd[7] = 8;
		put_be64(cscd + 8, UINT64_C(3) << 60 | (i + 1));
	}
	segment[0] = 2;
	put_be16(segment + 2, 0x18);
	put_be16(segment + 6, 1);
	put_be16(segment + 10, blocks);
	put_be32(command.cdb + 10, sizeof(list));
	command.out = list;
	command.out_length = sizeof(list);
	assert_int_equal(run_command(initiator, &command), 0);
	assert_int_equal(command.status, 0);
}

/* 0: the list is not known. */
static uint8_t copy_status(struct initiator *initiator, uint32_t list_id)
{
	struct initiator_command command = {.lun = 1, .cdb = {0x84, 0x05, [13] = 64}};
	uint8_t in[64];

	put_be32(command.cdb + 2, list_id);
	command.in = in;
	command.in_length = sizeof(in);
	assert_int_equal(run_command(initiator, &command), 0);
	return command.status == 0 ? in[5] : 0;
}

static void copies_in_the_background_body(struct fixture *f)
{
	uint64_t before_ns = reactor_now_ns(reactor_current());
	uint8_t response;

	open_both(f);
	settle(&f->a, 1);
	settle(&f->b, 1);
	assert_int_equal(do_write(&f->a, 0, 0, 64), 0);
	start_copy(&f->a, 5, 4096); /* what was written, and a hole */
	assert_true(reactor_now_ns(reactor_current()) - before_ns < SLOW_NS);
	assert_int_equal(copy_status(&f->a, 5), 0x12);
	assert_int_equal(copy_status(&f->b, 5), 0); /* another nexus */
	fiber_sleep(10 * SLOW_NS);
	assert_int_equal(copy_status(&f->a, 5), 0x01);
	assert_int_equal(do_read(&f->b, 1, 0, 64), 0);
	assert_memory_equal(f->in, f->out, 64 * 512);
	/* A reset ends it, and answers when its last request is over. */
	start_copy(&f->a, 6, 64);
	fiber_sleep(SLOW_NS / 2);
	assert_int_equal(f->slow->in_flight, 1);
	assert_int_equal(initiator_tmf(&f->b, ISCSI_TMF_LUN_RESET, 1, 0, &response), 0);
	assert_int_equal(response, ISCSI_TMF_COMPLETE);
	assert_int_equal(f->slow->in_flight, 0);
	settle(&f->a, 1);
	assert_int_equal(copy_status(&f->a, 6), 0x60);
	/* An abort of the task set does not: the command is over. */
	start_copy(&f->a, 7, 64);
	assert_int_equal(initiator_tmf(&f->a, ISCSI_TMF_ABORT_TASK_SET, 1, 0, &response), 0);
	assert_int_equal(copy_status(&f->a, 7), 0x12);
	/* Neither a removed unit nor a session that ends waits for all of it. */
	assert_int_equal(iscsi_server_remove_lun(f->server, TARGET, 1), 0);
	assert_int_equal(f->slow->in_flight, 0);
}
SIM_TEST(copies_in_the_background)

static void a_session_ends_amid_a_copy_body(struct fixture *f)
{
	open_a(f);
	settle(&f->a, 1);
	assert_int_equal(do_write(&f->a, 0, 0, 64), 0);
	start_copy(&f->a, 5, 64);
	fiber_sleep(SLOW_NS / 2);
	initiator_close(&f->a);
	open_a(f);
	settle(&f->a, 1);
	assert_int_equal(f->slow->in_flight, 0);
	assert_int_equal(copy_status(&f->a, 5), 0);
	start_copy(&f->a, 5, 64); /* the server stops amid this one */
}
SIM_TEST(a_session_ends_amid_a_copy)

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

static int group(const char *name)
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
		cmocka_unit_test(copies_in_the_background),
		cmocka_unit_test(a_session_ends_amid_a_copy),
		cmocka_unit_test(luns_come_and_go),
		cmocka_unit_test(removal_waits_for_requests),
		cmocka_unit_test(resize_reaches_initiators),
		cmocka_unit_test(targets_are_removed),
		cmocka_unit_test(the_server_stops_amid_work),
		cmocka_unit_test(addresses_are_checked),
		cmocka_unit_test(data_for_an_aborted_task),
		cmocka_unit_test(a_cut_amid_a_reset),
	};

	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
	return run_on_reactors(group);
}
