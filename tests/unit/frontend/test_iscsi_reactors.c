/* SPDX-License-Identifier: Apache-2.0 */
/* Targets on several reactors, in the simulated world: each lives where its first volume is. */
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
#include "base/reached.h"
#include "block/memory.h"
#include "frontend/iscsi/iscsi.h"
#include "iscsi_initiator.h"
#include "sim_rig.h"

#define REACTORS   3 /* of the server */
#define CLIENT     3
#define SIZE       (1 * MIB)
#define INITIATOR  "iqn.2026-01.org.example:a"
#define BLOCK      512u
#define UA_MAX     4
#define STOP_STEPS 60

struct fixture {
	struct sim_rig rig;
	struct block_volume *volumes[REACTORS];
	struct iscsi_server *server;
	struct sockaddr_in address;
	struct initiator initiators[REACTORS];
};

static void drop_line(enum log_level level, const char *line, void *arg)
{
}

static const char *name_of(unsigned i)
{
	static const char *const names[REACTORS] = {"iqn.2026-01.org.sarsen:r0",
						    "iqn.2026-01.org.sarsen:r1",
						    "iqn.2026-01.org.sarsen:r2"};

	return names[i];
}

/* --- On the server's side --- */

static void add_lun(struct fixture *f, const char *target, uint16_t lun, unsigned volume)
{
	struct iscsi_lun spec = {.volume = f->volumes[volume], .serial = 1 + volume, .thin = true};

	assert_int_equal(iscsi_server_add_lun(f->server, target, lun, &spec), 0);
}

static void start(void *arg)
{
	struct fixture *f = arg;
	struct iscsi_server_options options = {.address = "127.0.0.1",
					       .closed = true,
					       .reactors = f->rig.reactors,
					       .reactor_count = REACTORS};
	char text[64];
	uint16_t port;

	assert_int_equal(iscsi_server_new(f->rig.reactors[0], &options, &f->server), 0);
	for (unsigned i = 0; i < REACTORS; i++) {
		assert_int_equal(memory_volume_new(f->rig.reactors[i], SIZE, BLOCK, &f->volumes[i]),
				 0);
		assert_int_equal(iscsi_server_add_target(f->server, name_of(i)), 0);
		add_lun(f, name_of(i), 0, i);
	}
	iscsi_server_open(f->server);
	iscsi_server_open(f->server); /* once is enough */
	iscsi_server_address(f->server, text, sizeof(text), &port);
	f->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
	f->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

static void stop(void *arg)
{
	struct fixture *f = arg;

	iscsi_server_free(f->server);
	f->server = NULL;
}

static void on_server(struct fixture *f, void (*run)(void *arg))
{
	sim_rig_run(&f->rig, 0, run, f);
}

static void on_client(struct fixture *f, void (*run)(void *arg))
{
	sim_rig_run(&f->rig, CLIENT, run, f);
}

static void set_up(struct fixture *f, uint64_t seed)
{
	*f = (struct fixture){0};
	log_set_sink(drop_line, NULL);
	sim_rig_init(&f->rig, seed, REACTORS + 1);
	on_server(f, start);
}

static void tear_down(struct fixture *f)
{
	if (f->server)
		on_server(f, stop);
	for (unsigned i = 0; i < REACTORS; i++)
		block_volume_free(f->volumes[i]);
	sim_rig_done(&f->rig);
}

/* --- On the client's side --- */

static int open_session(struct fixture *f, unsigned i, const char *target)
{
	struct initiator_options options = {
		.name = INITIATOR, .target = target, .immediate_data = true};

	options.isid[5] = (uint8_t)i;
	return initiator_open(&f->initiators[i], (struct sockaddr *)&f->address, sizeof(f->address),
			      &options);
}

static int move_block(struct initiator *initiator, uint16_t lun, uint8_t opcode, uint8_t *data)
{
	struct initiator_command command = {.lun = lun, .cdb = {opcode, [8] = 1}};

	if (opcode == 0x2a) {
		command.out = data;
		command.out_length = BLOCK;
	} else {
		command.in = data;
		command.in_length = BLOCK;
	}
	for (unsigned i = 0; i < UA_MAX; i++) {
		int r = initiator_run(initiator, &command);

		if (r < 0 || command.status == 0)
			return r;
	}
	return -EIO;
}

static void assert_works(struct fixture *f, unsigned i, uint16_t lun)
{
	uint8_t out[BLOCK], in[BLOCK];

	memset(out, (int)(i * 16 + lun + 1), sizeof(out));
	memset(in, 0, sizeof(in));
	assert_int_equal(move_block(&f->initiators[i], lun, 0x2a, out), 0);
	assert_int_equal(move_block(&f->initiators[i], lun, 0x28, in), 0);
	assert_memory_equal(in, out, BLOCK);
}

static void open_all(void *arg)
{
	struct fixture *f = arg;

	for (unsigned i = 0; i < REACTORS; i++)
		assert_int_equal(open_session(f, i, name_of(i)), 0);
}

static void all_work(void *arg)
{
	for (unsigned i = 0; i < REACTORS; i++)
		assert_works(arg, i, 0);
}

static void close_all(void *arg)
{
	struct fixture *f = arg;

	for (unsigned i = 0; i < REACTORS; i++)
		initiator_close(&f->initiators[i]);
}

static void discovers_all(void *arg)
{
	struct fixture *f = arg;
	char *text = NULL;
	size_t length = 0, found = 0;

	assert_int_equal(open_session(f, 0, NULL), 0);
	assert_int_equal(initiator_discover(&f->initiators[0], "All", &text, &length), 0);
	for (unsigned i = 0; i < REACTORS; i++)
		found += memmem(text, length, name_of(i), strlen(name_of(i))) != NULL;
	assert_int_equal(found, REACTORS);
	free(text);
	initiator_close(&f->initiators[0]);
	/* A normal session hears of its own target alone. */
	assert_int_equal(open_session(f, 1, name_of(1)), 0);
	assert_int_equal(initiator_discover(&f->initiators[1], "", &text, &length), 0);
	assert_non_null(memmem(text, length, name_of(1), strlen(name_of(1))));
	free(text);
	assert_int_equal(initiator_discover(&f->initiators[1], name_of(0), &text, &length), 0);
	assert_null(memmem(text, length, name_of(0), strlen(name_of(0))));
	free(text);
	initiator_close(&f->initiators[1]);
}

/* --- Tests --- */

static void drop_second(void *arg)
{
	struct fixture *f = arg;
	struct iscsi_session_info *infos;
	size_t count, i;

	assert_int_equal(iscsi_server_sessions(f->server, &infos, &count), 0);
	assert_int_equal(count, REACTORS);
	for (i = 0; i < count; i++) /* a TSIH tells the shard, which is that of the volume */
		assert_string_equal(infos[i].target, name_of(infos[i].id % REACTORS));
	for (i = 0; strcmp(infos[i].target, name_of(1)) != 0; i++)
		;
	assert_int_equal(iscsi_server_drop_session(f->server, infos[i].id), 0);
	assert_int_equal(iscsi_server_drop_session(f->server, infos[i].id), -ENOENT);
	free(infos);
}

static void second_is_gone(void *arg)
{
	struct fixture *f = arg;

	fiber_sleep(NSEC_PER_SEC);
	assert_false(f->initiators[0].broken);
	assert_true(f->initiators[1].broken);
	initiator_close(&f->initiators[1]);
	assert_int_equal(open_session(f, 1, name_of(1)), 0);
}

static void sessions_live_with_their_volumes(void **state)
{
	struct fixture f;

	set_up(&f, 1);
	on_client(&f, discovers_all);
	on_client(&f, open_all);
	on_client(&f, all_work);
	on_server(&f, drop_second);
	on_client(&f, second_is_gone);
	on_client(&f, all_work);
	on_client(&f, close_all);
	assert_true(reached_count("iscsi.move") > 0);
	tear_down(&f);
}

#define EMPTY "iqn.2026-01.org.sarsen:empty"

static void add_empty(void *arg)
{
	assert_int_equal(iscsi_server_add_target(((struct fixture *)arg)->server, EMPTY), 0);
}

static void fill_empty(void *arg)
{
	add_lun(arg, EMPTY, 0, 1);
	add_lun(arg, EMPTY, 1, 2);
}

static void empty_again(void *arg)
{
	struct fixture *f = arg;

	assert_int_equal(iscsi_server_remove_lun(f->server, EMPTY, 0), 0);
	assert_int_equal(iscsi_server_remove_lun(f->server, EMPTY, 1), 0);
	add_lun(f, EMPTY, 0, 2);
	assert_int_equal(iscsi_server_remove_target(f->server, EMPTY), 0);
	assert_int_equal(iscsi_server_remove_target(f->server, EMPTY), -ENOENT);
}

static void open_empty(void *arg)
{
	assert_int_equal(open_session(arg, 0, EMPTY), 0);
}

static void empty_works(void *arg)
{
	struct fixture *f = arg;

	assert_works(f, 0, 0);
	assert_works(f, 0, 1);
}

/* With a session it stays, and reaches its volumes from there. */
static void an_empty_target_moves(void **state)
{
	for (unsigned with_session = 0; with_session < 2; with_session++) {
		struct fixture f;

		set_up(&f, 2);
		on_server(&f, add_empty);
		if (with_session)
			on_client(&f, open_empty);
		on_server(&f, fill_empty);
		if (!with_session)
			on_client(&f, open_empty);
		on_client(&f, empty_works);
		assert_int_equal(f.initiators[0].tsih % REACTORS, with_session ? 0 : 1);
		on_server(&f, empty_again);
		on_client(&f, close_all);
		tear_down(&f);
	}
}

static void close_the_door(void *arg)
{
	struct fixture *f = arg;
	struct iscsi_rule rule = {.initiator = "iqn.2026-01.org.example:other"};
	struct iscsi_access access = {.rules = &rule, .rule_count = 1};

	assert_int_equal(iscsi_server_set_access(f->server, name_of(2), &access), 0);
	assert_int_equal(iscsi_server_set_access(f->server, "iqn.x", &access), -ENOENT);
}

static void third_is_kept_out(void *arg)
{
	struct fixture *f = arg;
	char *text = NULL;
	size_t length = 0;

	fiber_sleep(NSEC_PER_SEC);
	assert_false(f->initiators[1].broken);
	assert_true(f->initiators[2].broken);
	initiator_close(&f->initiators[2]);
	assert_int_equal(open_session(f, 2, name_of(2)), -EACCES);
	assert_int_equal(f->initiators[2].login_status, ISCSI_LOGIN_FORBIDDEN);
	assert_int_equal(open_session(f, 2, NULL), 0);
	assert_int_equal(initiator_discover(&f->initiators[2], "All", &text, &length), 0);
	assert_null(memmem(text, length, name_of(2), strlen(name_of(2))));
	free(text);
}

static void rules_hold_everywhere(void **state)
{
	struct fixture f;

	set_up(&f, 3);
	on_client(&f, open_all);
	on_server(&f, close_the_door);
	on_client(&f, third_is_kept_out);
	on_client(&f, close_all);
	tear_down(&f);
}

static void try_to_open(void *arg)
{
	struct fixture *f = arg;

	for (unsigned i = 0; i < REACTORS; i++)
		(void)open_session(f, i, name_of(i));
}

/* Logins are wherever they may be, in a message too, when the server stops. */
static void the_server_stops_amid_logins(void **state)
{
	for (unsigned i = 0; i < STOP_STEPS; i++) {
		struct sim_rig_task task = {.run = try_to_open};
		struct fixture f;

		set_up(&f, 100 + i);
		task.arg = &f;
		sim_rig_start(&f.rig, CLIENT, &task);
		(void)sim_rig_wait(&f.rig, &task, 1, (uint64_t)i * 20 * NSEC_PER_USEC);
		on_server(&f, stop);
		assert_int_equal(sim_rig_wait(&f.rig, &task, 1, 100 * NSEC_PER_SEC), 0);
		on_client(&f, close_all);
		tear_down(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sessions_live_with_their_volumes),
		cmocka_unit_test(an_empty_target_moves),
		cmocka_unit_test(rules_hold_everywhere),
		cmocka_unit_test(the_server_stops_amid_logins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
