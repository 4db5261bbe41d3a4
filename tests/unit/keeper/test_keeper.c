/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A keeper's process between a client of our own and engines that this test plays: in this process,
 * or in a child where the keeper is to kill it.
 *
 *     test_keeper SARSEN-KEEPER
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/macros.h"
#include "engine.h"

#define REG_CC 0x14u
#define DEVCTL 0x68u /* of the PCI Express capability */

/* A call of the client that waits, in a thread. */
struct call {
	pthread_t thread;
	struct stage *stage;
	int (*run)(struct stage *stage);
	int result;
	uint64_t took_ms;
	_Atomic bool ended;
};

static void *run_call(void *arg)
{
	struct call *call = arg;
	uint64_t since = stage_now_ms();

	call->result = call->run(call->stage);
	call->took_ms = stage_now_ms() - since;
	call->ended = true;
	return NULL;
}

static void begin(struct call *call, struct stage *stage, int (*run)(struct stage *stage))
{
	*call = (struct call){.stage = stage, .run = run};
	assert_int_equal(pthread_create(&call->thread, NULL, run_call, call), 0);
}

static int end(struct call *call)
{
	assert_int_equal(pthread_join(call->thread, NULL), 0);
	return call->result;
}

static void assert_waits(const struct call *call)
{
	stage_pause_ms(100);
	assert_false(call->ended);
}

static int reset(struct stage *stage)
{
	return vfu_client_reset(&stage->client);
}

static int reset_function(struct stage *stage)
{
	uint16_t control = 0xa810;

	return vfu_client_write(&stage->client, 7, DEVCTL, &control, 2);
}

/* --- tests --- */

static void gives_an_engine_all_that_there_is(void **state)
{
	struct stage *stage = *state;
	int events[2] = {eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};
	struct engine engine;
	uint64_t count;

	stage_map(stage);
	assert_int_equal(vfu_client_set_irqs(&stage->client, 2, 0, 2, events), 0);
	assert_int_equal(engine_open(&engine, stage), 1);
	assert_int_equal(engine.shared->engine_epoch, 1);
	assert_int_equal(engine.shared->msix_enabled, 1);
	assert_int_equal(engine.shared->client_connected, 1);
	assert_int_equal(engine.shared->maps[0].address, STAGE_ADDRESS);
	/* A doorbell wakes the engine only when it sleeps (rule 8). */
	assert_int_equal(fcntl(engine.wake_fd, F_SETFL, O_NONBLOCK), 0);
	(void)!read(engine.wake_fd, &count, sizeof(count));
	stage_write_register(stage, 0x1000, 7);
	assert_int_equal(engine.doorbells->queues[0].sq_tail, 7);
	assert_int_equal(read(engine.wake_fd, &count, sizeof(count)), -1);
	vfu_store(&engine.shared->engine_asleep, 1);
	stage_write_register(stage, 0x1004, 8);
	assert_int_equal(engine.doorbells->queues[0].cq_head, 8);
	assert_int_equal(read(engine.wake_fd, &count, sizeof(count)), sizeof(count));
	/* What changes afterwards is told. */
	assert_int_equal(
		vfu_client_map(&stage->client, STAGE_ADDRESS + MIB, MIB, stage->memory_fd, MIB), 0);
	engine_expect(&engine, VFU_LINK_MAP);
	assert_int_equal(engine.message.offset, MIB);
	assert_int_equal(engine.receiver.fd_count, 1);
	assert_int_equal(vfu_client_set_irqs(&stage->client, 2, 0, 0, NULL), 0);
	engine_expect(&engine, VFU_LINK_IRQS);
	assert_int_equal(engine.shared->msix_enabled, 0);
	engine_close(&engine);
	close(events[0]);
	close(events[1]);
}

static void has_a_vector_for_each_queue(void **state)
{
	stage_assert_vectors(*state, STAGE_VECTORS);
	assert_int_equal(reset(*state), 0);
	stage_assert_vectors(*state, STAGE_VECTORS);
}

static void unmap_waits_for_the_engine(void **state)
{
	struct stage *stage = *state;
	struct engine engine;
	struct call call;

	stage_map(stage);
	engine_open(&engine, stage);
	begin(&call, stage, stage_unmap);
	engine_expect(&engine, VFU_LINK_UNMAP);
	engine_say(&engine, VFU_LINK_UNMAPPED, engine.message.id + 1, 0); /* of nothing */
	assert_waits(&call);
	engine_say(&engine, VFU_LINK_UNMAPPED, engine.shared->maps[0].id, 0);
	assert_int_equal(end(&call), 0);
	assert_int_equal(engine.shared->maps[0].length, 0);
	stage_map(stage);
	engine_expect(&engine, VFU_LINK_MAP);
	engine_close(&engine);
}

static void unmap_waits_for_the_fence_of_a_dead_engine(void **state)
{
	struct stage *stage = *state;
	struct engine engine;
	struct call call;

	stage_map(stage);
	engine_open(&engine, stage);
	shutdown(engine.fd, SHUT_RDWR); /* as a death would; its I/O goes on */
	stage_pause_ms(50);
	begin(&call, stage, stage_unmap);
	assert_waits(&call);
	close(engine.fence[1]);
	engine.fence[1] = -1;
	assert_int_equal(end(&call), 0);
	assert_true(call.took_ms < 1000);
	engine_close(&engine);
}

static void nobody_waits_for_an_engine_that_said_goodbye(void **state)
{
	struct stage *stage = *state;
	struct engine engine, other;

	stage_map(stage);
	engine_open(&engine, stage);
	engine_say(&engine, VFU_LINK_BYE, 0, 0);
	assert_int_equal(engine_receive(&engine, STAGE_MS), -EPIPE);
	assert_int_equal(stage_unmap(stage), 0);
	assert_int_equal(engine_open(&other, stage), 0);
	assert_int_equal(other.shared->engine_epoch, 2);
	engine_close(&other);
	engine_close(&engine);
}

static void the_same_engine_may_come_again(void **state)
{
	struct stage *stage = *state;
	struct engine engine;

	engine_open(&engine, stage);
	close(engine.fd);
	engine_hello(&engine, stage, VFU_LINK_VERSION, engine.fence[0]);
	engine_expect(&engine, VFU_LINK_WELCOME);
	assert_int_equal(engine.message.value, 2);
	engine_expect(&engine, VFU_LINK_READY);
	engine_close(&engine);
}

static void there_is_one_engine_at_a_time(void **state)
{
	struct stage *stage = *state;
	struct engine first, second, third;

	engine_open(&first, stage);
	engine_fence(&second);
	engine_hello(&second, stage, VFU_LINK_VERSION, second.fence[0]);
	stage_pause_ms(50);
	engine_fence(&third);
	engine_hello(&third, stage, VFU_LINK_VERSION, third.fence[0]);
	close(first.fd);
	first.fd = -1;
	assert_int_equal(engine_receive(&second, 100), 0); /* its I/O may still land (rule 1) */
	close(first.fence[1]);
	first.fence[1] = -1;
	engine_welcomed(&second);
	assert_int_equal(engine_receive(&third, 100), 0);
	engine_close(&second);
	engine_welcomed(&third);
	assert_int_equal(third.shared->engine_epoch, 3);
	engine_close(&third);
	engine_close(&first);
}

static void assert_refused(struct stage *stage, uint32_t version, int fd, unsigned error)
{
	struct engine engine;

	engine_fence(&engine);
	engine_hello(&engine, stage, version, fd < 0 ? engine.fence[0] : fd);
	engine_expect(&engine, VFU_LINK_REFUSED);
	assert_int_equal(engine.message.value, error);
	assert_int_equal(engine_receive(&engine, STAGE_MS), -EPIPE);
	engine_close(&engine);
}

static void refuses_engines_that_speak_nonsense(void **state)
{
	struct stage *stage = *state;
	struct engine engine;
	int event = eventfd(0, EFD_CLOEXEC);

	assert_refused(stage, VFU_LINK_VERSION + 1, -1, EPROTONOSUPPORT);
	assert_refused(stage, VFU_LINK_VERSION, event, EPROTO); /* it would never hang up */
	for (uint32_t type = 0; type < 16; type++) {
		if (type == VFU_LINK_UNMAPPED || type == VFU_LINK_QUIESCED ||
		    type == VFU_LINK_RETIRE || type == VFU_LINK_REPLACE || type == VFU_LINK_BYE)
			continue;
		engine_open(&engine, stage);
		engine_say(&engine, type, 0, 0);
		assert_int_equal(engine_receive(&engine, STAGE_MS), -EPIPE);
		engine_close(&engine);
	}
	stage_assert_alive(stage);
	close(event);
}

/* An engine in a process of its own that stops as soon as it is welcome. `fence` is inherited. */
static pid_t start_stopped_engine(struct stage *stage, struct engine *engine)
{
	int status;
	pid_t child;

	engine_fence(engine);
	child = fork();
	if (child == 0) {
		engine_hello(engine, stage, VFU_LINK_VERSION, engine->fence[0]);
		engine_expect(engine, VFU_LINK_WELCOME);
		raise(SIGSTOP);
		_exit(1);
	}
	assert_int_equal(waitpid(child, &status, WUNTRACED), child);
	assert_true(WIFSTOPPED(status));
	return child;
}

static void assert_killed(pid_t child)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void kills_an_engine_that_does_not_answer(void **state)
{
	struct stage *stage = *state;
	struct engine engine;
	struct call call;
	pid_t child;

	stage_map(stage);
	child = start_stopped_engine(stage, &engine);
	close(engine.fence[1]); /* the child's is the last */
	begin(&call, stage, stage_unmap);
	assert_int_equal(end(&call), 0);
	assert_true(call.took_ms >= 1900 && call.took_ms < 3000);
	assert_killed(child);
	close(engine.fence[0]);
}

static void answers_when_even_the_fence_does_not_come(void **state)
{
	struct stage *stage = *state;
	struct engine engine, next;
	struct call call;
	pid_t child;

	stage_map(stage);
	child = start_stopped_engine(stage, &engine);
	begin(&call, stage, stage_unmap);
	assert_int_equal(end(&call), -ETIMEDOUT);
	assert_true(call.took_ms >= 2900 && call.took_ms < 4000);
	assert_killed(child);
	/* The range is gone; the next engine still waits. */
	stage_map(stage);
	engine_fence(&next);
	engine_hello(&next, stage, VFU_LINK_VERSION, next.fence[0]);
	assert_int_equal(engine_receive(&next, 100), 0);
	close(engine.fence[1]);
	engine_welcomed(&next);
	engine_expect(&next, VFU_LINK_MAP);
	engine_close(&next);
	close(engine.fence[0]);
}

static void resets_wait_for_the_engine(void **state)
{
	struct stage *stage = *state;
	int (*const kinds[])(struct stage *) = {reset, reset_function};
	struct engine engine;

	engine_open(&engine, stage);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct call call;
		uint32_t count = engine.shared->registers.reset_count;

		stage_write_register(stage, REG_CC, 0x00460001);
		assert_int_equal(engine.shared->registers.cc, 0x00460001);
		begin(&call, stage, kinds[i]);
		while (vfu_load(&engine.shared->registers.reset_count) == count)
			stage_pause_ms(1);
		engine_say(&engine, VFU_LINK_QUIESCED, 0, count);
		assert_waits(&call);
		assert_int_equal(vfu_load(&engine.shared->registers.reset_count), count + 1);
		assert_int_equal(engine.shared->registers.cc, 0);
		engine_say(&engine, VFU_LINK_QUIESCED, 0, count + 1);
		assert_int_equal(end(&call), 0);
	}
	stage_write_register(stage, REG_CC, 1);
	stage_write_register(stage, REG_CC, 0);
	assert_int_equal(engine.shared->registers.disable_count, 1);
	engine_close(&engine);
}

static void takes_everything_from_a_client_that_is_gone(void **state)
{
	struct stage *stage = *state;
	int event = eventfd(0, EFD_CLOEXEC);
	struct engine engine;
	struct call call;

	stage_map(stage);
	assert_int_equal(vfu_client_set_irqs(&stage->client, 0, 0, 1, &event), 0);
	engine_open(&engine, stage);
	vfu_client_close(&stage->client);
	engine_expect(&engine, VFU_LINK_IRQS);
	engine_expect(&engine, VFU_LINK_IRQS);
	assert_int_equal(engine.shared->registers.reset_count, 1);
	engine_say(&engine, VFU_LINK_QUIESCED, 0, 1);
	engine_expect(&engine, VFU_LINK_UNMAP);
	assert_int_equal(vfu_client_connect_only(&stage->client, stage->socket), 0);
	begin(&call, stage, reset); /* needs a version: refused, but only when its turn comes */
	assert_waits(&call);
	engine_say(&engine, VFU_LINK_UNMAPPED, engine.message.id, 0);
	assert_true(end(&call) < 0);
	vfu_client_close(&stage->client);
	assert_int_equal(engine.shared->maps[0].length, 0);
	engine_close(&engine);
	stage_pause_ms(50);
	assert_int_equal(vfu_client_connect(&stage->client, stage->socket), 0);
	close(event);
}

static void retires(void **state)
{
	struct stage *stage = *state;
	struct engine engine;

	engine_open(&engine, stage);
	engine_say(&engine, VFU_LINK_RETIRE, 0, 0);
	stage_assert_alive(stage); /* as long as its client is there */
	vfu_client_close(&stage->client);
	assert_int_equal(stage_keeper_ended(stage), 0);
	engine_close(&engine);
	stage_start(stage);
	engine_open(&engine, stage);
	engine_say(&engine, VFU_LINK_RETIRE, 0, 1);
	assert_int_equal(stage_keeper_ended(stage), 0);
	stage->keeper = 0;
	engine_close(&engine);
}

static void tells_memory_that_is_not_shared(void **state)
{
	struct stage *stage = *state;

	/* A display's memory is no matter. */
	assert_int_equal(vfu_client_map(&stage->client, 0xe0000000, 16 * MIB, -1, 0), 0);
	assert_int_equal(vfu_client_unmap(&stage->client, 0xe0000000, 16 * MIB), 0);
	stage_assert_alive(stage);
	/* The guest's own: QEMU hears an error, then is hung up on and does not start. */
	assert_int_equal(vfu_client_map(&stage->client, 0, MIB, -1, 0), -EOPNOTSUPP);
	assert_true(vfu_client_hung_up(&stage->client, 5000));
}

struct multi {
	uint64_t count;
	struct {
		uint64_t offset;
		uint32_t region, count, value, unused;
	} writes[2];
};

static int write_multi(struct stage *stage, const struct multi *multi)
{
	uint64_t reply;
	struct vfu_client_call call = {.command = VFU_CLIENT_REGION_WRITE_MULTI,
				       .body = multi,
				       .body_bytes = sizeof(*multi),
				       .reply = &reply,
				       .reply_bytes = sizeof(reply)};

	return vfu_client_call(&stage->client, &call);
}

static void takes_several_writes_in_one_message(void **state)
{
	struct stage *stage = *state;
	struct multi multi = {2, {{0x1010, 0, 4, 11, 0}, {0x1014, 0, 4, 12, 0}}};
	struct engine engine;

	engine_open(&engine, stage);
	assert_int_equal(write_multi(stage, &multi), sizeof(uint64_t));
	assert_int_equal(engine.doorbells->queues[2].sq_tail, 11);
	assert_int_equal(engine.doorbells->queues[2].cq_head, 12);
	multi.count = 3;
	assert_true(write_multi(stage, &multi) < 0);
	multi.count = UINT64_MAX;
	assert_true(write_multi(stage, &multi) < 0);
	multi.count = 2;
	multi.writes[1].count = 9;
	assert_true(write_multi(stage, &multi) < 0);
	multi.writes[1].count = 4;
	multi.writes[1].region = 7;
	assert_true(write_multi(stage, &multi) < 0);
	stage_assert_alive(stage);
	engine_close(&engine);
}

/* A client that causes more than the engine reads is slowed down; then the link ends, and an engine
 * that lives gets all of it anew. */
static void an_engine_that_does_not_read_is_not_killed(void **state)
{
	struct stage *stage = *state;
	struct engine engine;
	int fds[16];

	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	engine_open(&engine, stage);
	for (unsigned i = 0; i < 400; i++) {
		uint64_t since = stage_now_ms();

		assert_int_equal(vfu_client_set_irqs(&stage->client, 2, 0, 16, fds), 0);
		assert_true(stage_now_ms() - since < 4000);
	}
	for (unsigned i = 0; i < 20000; i++) /* what a guest can do: without any message */
		stage_write_register(stage, 0x0c, 1);
	engine_wait_for_link_end(&engine);
	engine_hello(&engine, stage, VFU_LINK_VERSION, engine.fence[0]);
	engine_expect(&engine, VFU_LINK_WELCOME);
	engine_expect(&engine, VFU_LINK_IRQS);
	assert_int_equal(engine.receiver.fd_count, 16);
	engine_expect(&engine, VFU_LINK_READY);
	engine_close(&engine);
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

static bool is_readable(int fd, int timeout_ms)
{
	struct pollfd polled = {fd, POLLIN, 0};

	return poll(&polled, 1, timeout_ms) == 1;
}

/* A sleeping engine is woken together with the keeper and not after it. What it gets for that does
 * not keep the client's connection alive. */
static void gives_an_early_word_to_an_engine_that_wants_it(void **state)
{
	struct stage *stage = *state;
	uint32_t tail = 3;
	struct engine engine;
	int early;

	engine_fence(&engine);
	engine_hello_flags(&engine, stage, VFU_HELLO_EARLY | 0x80000000);
	engine_welcomed(&engine);
	engine_expect(&engine, VFU_LINK_EARLY);
	assert_int_equal(engine.receiver.fd_count, 1);
	early = vfu_receiver_take_fd(&engine.receiver, 0);
	engine_expect(&engine, VFU_LINK_READY);
	assert_false(is_readable(early, 0));
	assert_int_equal(kill(stage->keeper, SIGSTOP), 0);
	assert_int_equal(vfu_client_post(&stage->client, 0, 0x1008, &tail, 4), 0);
	assert_true(is_readable(early, STAGE_MS));
	assert_int_equal(kill(stage->keeper, SIGCONT), 0);
	stage_assert_alive(stage);
	assert_int_equal(engine.doorbells->queues[1].sq_tail, 3);
	assert_false(is_readable(early, 0));
	assert_int_equal(kill(stage->keeper, SIGKILL), 0);
	assert_int_equal(stage_keeper_ended(stage), -1);
	assert_true(vfu_client_hung_up(&stage->client, STAGE_MS));
	close(early);
	engine_close(&engine);
	unlink(stage->link);
	unlink(stage->socket);
	stage->keeper = 0;
}

#define KEEPER_TEST(test) cmocka_unit_test_setup_teardown(test, stage_setup, stage_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		KEEPER_TEST(gives_an_engine_all_that_there_is),
		KEEPER_TEST(has_a_vector_for_each_queue),
		KEEPER_TEST(unmap_waits_for_the_engine),
		KEEPER_TEST(unmap_waits_for_the_fence_of_a_dead_engine),
		KEEPER_TEST(nobody_waits_for_an_engine_that_said_goodbye),
		KEEPER_TEST(the_same_engine_may_come_again),
		KEEPER_TEST(there_is_one_engine_at_a_time),
		KEEPER_TEST(refuses_engines_that_speak_nonsense),
		KEEPER_TEST(kills_an_engine_that_does_not_answer),
		KEEPER_TEST(answers_when_even_the_fence_does_not_come),
		KEEPER_TEST(resets_wait_for_the_engine),
		KEEPER_TEST(takes_everything_from_a_client_that_is_gone),
		KEEPER_TEST(gives_an_early_word_to_an_engine_that_wants_it),
		KEEPER_TEST(retires),
		KEEPER_TEST(tells_memory_that_is_not_shared),
		KEEPER_TEST(takes_several_writes_in_one_message),
		KEEPER_TEST(an_engine_that_does_not_read_is_not_killed),
	};
	int failures;

	if (argc != 2)
		return 2;
	if (stage_begin(argv[1]) < 0)
		return 1;
	failures = cmocka_run_group_tests(tests, NULL, NULL);
	stage_end();
	return failures;
}
