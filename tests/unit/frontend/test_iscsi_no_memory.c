/* SPDX-License-Identifier: Apache-2.0 */
/* Each allocation fails once while a server is made and used: errors, but no harm, and all goes on.
 */
#include "frontend/iscsi/iscsi.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "block/memory.h"
#include "fail_alloc.h"
#include "iscsi_initiator.h"
#include "real_rig.h"

#define TARGET    "iqn.2026-01.org.sarsen:test"
#define SWEEP_MAX 1000

static struct real_rig rig;
static struct block_volume *volume;
static struct iscsi_server *server;
static struct initiator initiator;
static struct sockaddr_in address;
static uint8_t data[65536];

static int make(void)
{
	struct iscsi_server_options options = {.address = "127.0.0.1",
					       .reactors = rig.reactors,
					       .reactor_count = REAL_RIG_REACTORS};
	struct iscsi_lun lun = {.volume = volume, .serial = 1, .thin = true};
	char text[64];
	uint16_t port;
	int r = iscsi_server_new(rig.reactors[0], &options, &server);

	if (r < 0)
		return r;
	r = iscsi_server_add_target(server, TARGET);
	if (r == 0)
		r = iscsi_server_add_lun(server, TARGET, 0, &lun);
	iscsi_server_address(server, text, sizeof(text), &port);
	address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return r;
}

static void unmake(void)
{
	iscsi_server_free(server);
	server = NULL;
}

static int transfer(uint8_t opcode)
{
	struct initiator_command command = {.cdb = {opcode, [8] = 128}};
	int r = -EAGAIN;

	if (opcode == 0x2a) {
		command.out = data;
		command.out_length = sizeof(data);
	} else {
		command.in = data;
		command.in_length = sizeof(data);
	}
	for (unsigned i = 0; i < 3 && r != 0; i++) { /* past the unit attention */
		r = initiator_run(&initiator, &command);
		if (r == 0 && command.status != 0)
			r = -EAGAIN;
		if (r == -ECONNRESET)
			break;
	}
	return r;
}

static int use(void)
{
	struct initiator_options options = {
		.name = "iqn.2026-01.org.example:a", .target = TARGET, .immediate_data = true};
	struct iscsi_lun lun = {.volume = volume, .serial = 2};
	struct iscsi_session_info *infos;
	size_t count, length;
	char *text = NULL;
	int r = initiator_open(&initiator, (struct sockaddr *)&address, sizeof(address), &options);

	if (r == 0)
		r = transfer(0x2a);
	if (r == 0)
		r = transfer(0x28);
	if (r == 0)
		r = iscsi_server_add_lun(server, TARGET, 1, &lun);
	if (r == 0)
		r = iscsi_server_sessions(server, &infos, &count);
	if (r == 0)
		free(infos);
	if (r == 0)
		r = initiator_discover(&initiator, "", &text, &length);
	free(text);
	if (r == 0)
		r = initiator_logout(&initiator);
	initiator_close(&initiator);
	(void)iscsi_server_remove_lun(server, TARGET, 1);
	return r;
}

static int sweep_making(void *arg)
{
	uint64_t n;

	for (n = 1; n < SWEEP_MAX; n++) {
		int r;

		fail_alloc_nth(n);
		r = make();
		if (!fail_alloc_disarm()) {
			ASSERT(r == 0);
			break;
		}
		ASSERT(r == -ENOMEM || r == 0); /* 0: only the accept failed */
		unmake();
	}
	ASSERT(n > 4 && n < SWEEP_MAX);
	unmake();
	return 0;
}

static int sweep_using(void *arg)
{
	unsigned failures = 0;
	bool reached = true;

	ASSERT(make() == 0);
	for (uint64_t n = 1; reached; n++) {
		int r;

		ASSERT(n < SWEEP_MAX);
		fail_alloc_nth(n);
		r = use();
		reached = fail_alloc_disarm();
		if (r == 0)
			continue;
		failures++;
		ASSERT(reached);
		ASSERT(use() == 0); /* the next one gets in and is served */
	}
	ASSERT(failures > 5);
	unmake();
	return 0;
}

static void drop_line(enum log_level level, const char *line, void *arg)
{
}

static int make_volume(void *arg)
{
	return memory_volume_new(rig.reactors[1], MIB, 512, &volume);
}

static int free_volume(void *arg)
{
	block_volume_free(volume);
	return 0;
}

static void run(int (*body)(void *arg))
{
	log_set_sink(drop_line, NULL);
	real_rig_init(&rig);
	assert_int_equal(real_rig_run(&rig, 1, make_volume, NULL), 0);
	assert_int_equal(real_rig_run(&rig, 0, body, NULL), 0);
	assert_int_equal(real_rig_run(&rig, 1, free_volume, NULL), 0);
	real_rig_done(&rig);
}

static void making_a_server(void **state)
{
	(void)state;
	run(sweep_making);
}

static void using_a_server(void **state)
{
	(void)state;
	run(sweep_using);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(making_a_server),
		cmocka_unit_test(using_a_server),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
