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
#include "vfu/link.h"
#include "vfu/receive.h"
#include "vfu/shared.h"
#include "vfu_client.h"

#define ADDRESS    (16 * MIB)
#define SECONDS_MS 10000
#define REG_CC     0x14u
#define DEVCTL     0x68u /* of the PCI Express capability */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

static const char *program;
static char directory[] = "/tmp/sarsen-keeper-XXXXXX";

struct stage {
	pid_t keeper;
	char link[64], socket[64];
	struct vfu_client client;
	int memory_fd;
};

struct engine {
	int fd;
	int fence[2]; /* the write end stands for I/O in flight */
	struct vfu_receiver receiver;
	struct vfu_link_message message;
	struct vfu_shared *shared;
	struct vfu_doorbells *doorbells;
	int wake_fd;
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NSEC_PER_MSEC;
}

static void pause_ms(unsigned ms)
{
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* --- the engine that we play --- */

static void engine_say(struct engine *engine, uint32_t type, uint32_t id, uint64_t value)
{
	struct vfu_link_message message = {.type = type, .id = id, .value = value};
	struct iovec iov = {&message, sizeof(message)};

	assert_int_equal(vfu_send(engine->fd, &iov, 1, NULL, 0), 0);
}

static void engine_hello(struct engine *engine, const struct stage *stage, uint32_t version, int fd)
{
	struct vfu_link_message hello = {.type = VFU_LINK_HELLO, .version = version};
	struct iovec iov = {&hello, sizeof(hello)};
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memcpy(address.sun_path, stage->link, sizeof(stage->link));
	engine->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(engine->fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(vfu_send(engine->fd, &iov, 1, &fd, 1), 0);
}

/* 1: there is a message; 0: none within that time; -EPIPE: the link has ended. */
static int engine_receive(struct engine *engine, int timeout_ms)
{
	struct pollfd polled = {engine->fd, POLLIN, 0};

	vfu_receiver_reset(&engine->receiver);
	if (poll(&polled, 1, timeout_ms) == 0)
		return 0;
	return vfu_receive(&engine->receiver, engine->fd, &engine->message,
			   sizeof(engine->message));
}

static void engine_expect(struct engine *engine, uint32_t type)
{
	assert_int_equal(engine_receive(engine, SECONDS_MS), 1);
	assert_int_equal(engine->message.type, type);
}

static void *map_shared(int fd, size_t bytes, off_t offset)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);

	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

static void engine_welcomed(struct engine *engine)
{
	engine_expect(engine, VFU_LINK_WELCOME);
	assert_int_equal(engine->receiver.fd_count, 3);
	engine->shared = map_shared(engine->receiver.fds[0], sizeof(*engine->shared), 0);
	engine->doorbells = map_shared(engine->receiver.fds[1], VFU_PAGE_BYTES, VFU_PAGE_BYTES);
	engine->wake_fd = vfu_receiver_take_fd(&engine->receiver, 2);
	assert_int_equal(engine->shared->magic, VFU_SHARED_MAGIC);
}

static void engine_fence(struct engine *engine)
{
	*engine = (struct engine){.fd = -1, .wake_fd = -1};
	assert_int_equal(pipe2(engine->fence, O_CLOEXEC), 0);
}

/* Up to READY; ranges that there are, are counted. */
static unsigned engine_open(struct engine *engine, const struct stage *stage)
{
	unsigned maps = 0;

	engine_fence(engine);
	engine_hello(engine, stage, VFU_LINK_VERSION, engine->fence[0]);
	engine_welcomed(engine);
	do {
		assert_int_equal(engine_receive(engine, SECONDS_MS), 1);
		maps += engine->message.type == VFU_LINK_MAP;
	} while (engine->message.type != VFU_LINK_READY);
	return maps;
}

static void engine_close(struct engine *engine)
{
	vfu_receiver_reset(&engine->receiver);
	close(engine->fd);
	close(engine->fence[0]);
	close(engine->fence[1]);
	if (engine->wake_fd >= 0)
		close(engine->wake_fd);
	if (engine->shared) {
		munmap(engine->shared, sizeof(*engine->shared));
		munmap(engine->doorbells, VFU_PAGE_BYTES);
	}
}

/* --- the keeper and its client --- */

static void start_keeper(struct stage *stage)
{
	snprintf(stage->link, sizeof(stage->link), "%s/link", directory);
	snprintf(stage->socket, sizeof(stage->socket), "%s/socket", directory);
	stage->keeper = fork();
	if (stage->keeper == 0) {
		execl(program, program, "--name", "test", "--link", stage->link, "--socket",
		      stage->socket, NULL);
		_exit(127);
	}
	assert_true(stage->keeper > 0);
	for (int tries = 0; vfu_client_connect(&stage->client, stage->socket) < 0; tries++) {
		assert_true(tries < 500);
		pause_ms(10);
	}
}

static int setup(void **state)
{
	struct stage *stage = calloc(1, sizeof(*stage));

	alarm(60);
	start_keeper(stage);
	stage->memory_fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(stage->memory_fd, 4 * MIB), 0);
	assert_int_equal(fcntl(stage->memory_fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	*state = stage;
	return 0;
}

static int keeper_ended(const struct stage *stage)
{
	int status = 0;

	for (int tries = 0; waitpid(stage->keeper, &status, WNOHANG) == 0; tries++) {
		assert_true(tries < 500);
		pause_ms(10);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int teardown(void **state)
{
	struct stage *stage = *state;

	vfu_client_close(&stage->client);
	if (stage->keeper > 0) {
		kill(stage->keeper, SIGTERM);
		assert_int_equal(keeper_ended(stage), 0);
	}
	assert_int_equal(access(stage->link, F_OK), -1);
	assert_int_equal(access(stage->socket, F_OK), -1);
	close(stage->memory_fd);
	free(stage);
	return 0;
}

static void map(struct stage *stage)
{
	assert_int_equal(vfu_client_map(&stage->client, ADDRESS, MIB, stage->memory_fd, 0), 0);
}

static void assert_alive(struct stage *stage)
{
	struct vfio_device_info info;

	assert_int_equal(vfu_client_get_info(&stage->client, &info), 0);
}

static void write_register(struct stage *stage, uint32_t at, uint32_t value)
{
	assert_int_equal(vfu_client_write(&stage->client, 0, at, &value, 4), 0);
}

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
	uint64_t since = now_ms();

	call->result = call->run(call->stage);
	call->took_ms = now_ms() - since;
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
	pause_ms(100);
	assert_false(call->ended);
}

static int unmap(struct stage *stage)
{
	return vfu_client_unmap(&stage->client, ADDRESS, MIB);
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

	map(stage);
	assert_int_equal(vfu_client_set_irqs(&stage->client, 2, 0, 2, events), 0);
	assert_int_equal(engine_open(&engine, stage), 1);
	assert_int_equal(engine.shared->engine_epoch, 1);
	assert_int_equal(engine.shared->msix_enabled, 1);
	assert_int_equal(engine.shared->client_connected, 1);
	assert_int_equal(engine.shared->maps[0].address, ADDRESS);
	/* A doorbell wakes the engine only when it sleeps (rule 8). */
	assert_int_equal(fcntl(engine.wake_fd, F_SETFL, O_NONBLOCK), 0);
	(void)!read(engine.wake_fd, &count, sizeof(count));
	write_register(stage, 0x1000, 7);
	assert_int_equal(engine.doorbells->queues[0].sq_tail, 7);
	assert_int_equal(read(engine.wake_fd, &count, sizeof(count)), -1);
	vfu_store(&engine.shared->engine_asleep, 1);
	write_register(stage, 0x1004, 8);
	assert_int_equal(engine.doorbells->queues[0].cq_head, 8);
	assert_int_equal(read(engine.wake_fd, &count, sizeof(count)), sizeof(count));
	/* What changes afterwards is told. */
	assert_int_equal(vfu_client_map(&stage->client, ADDRESS + MIB, MIB, stage->memory_fd, MIB),
			 0);
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

static void unmap_waits_for_the_engine(void **state)
{
	struct stage *stage = *state;
	struct engine engine;
	struct call call;

	map(stage);
	engine_open(&engine, stage);
	begin(&call, stage, unmap);
	engine_expect(&engine, VFU_LINK_UNMAP);
	engine_say(&engine, VFU_LINK_UNMAPPED, engine.message.id + 1, 0); /* of nothing */
	assert_waits(&call);
	engine_say(&engine, VFU_LINK_UNMAPPED, engine.shared->maps[0].id, 0);
	assert_int_equal(end(&call), 0);
	assert_int_equal(engine.shared->maps[0].length, 0);
	map(stage);
	engine_expect(&engine, VFU_LINK_MAP);
	engine_close(&engine);
}

static void unmap_waits_for_the_fence_of_a_dead_engine(void **state)
{
	struct stage *stage = *state;
	struct engine engine;
	struct call call;

	map(stage);
	engine_open(&engine, stage);
	shutdown(engine.fd, SHUT_RDWR); /* as a death would; its I/O goes on */
	pause_ms(50);
	begin(&call, stage, unmap);
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

	map(stage);
	engine_open(&engine, stage);
	engine_say(&engine, VFU_LINK_BYE, 0, 0);
	assert_int_equal(engine_receive(&engine, SECONDS_MS), -EPIPE);
	assert_int_equal(unmap(stage), 0);
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
	pause_ms(50);
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
	assert_int_equal(engine_receive(&engine, SECONDS_MS), -EPIPE);
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
		assert_int_equal(engine_receive(&engine, SECONDS_MS), -EPIPE);
		engine_close(&engine);
	}
	assert_alive(stage);
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

	map(stage);
	child = start_stopped_engine(stage, &engine);
	close(engine.fence[1]); /* the child's is the last */
	begin(&call, stage, unmap);
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

	map(stage);
	child = start_stopped_engine(stage, &engine);
	begin(&call, stage, unmap);
	assert_int_equal(end(&call), -ETIMEDOUT);
	assert_true(call.took_ms >= 2900 && call.took_ms < 4000);
	assert_killed(child);
	/* The range is gone; the next engine still waits. */
	map(stage);
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

		write_register(stage, REG_CC, 0x00460001);
		assert_int_equal(engine.shared->registers.cc, 0x00460001);
		begin(&call, stage, kinds[i]);
		engine_say(&engine, VFU_LINK_QUIESCED, 0, count);
		assert_waits(&call);
		assert_int_equal(vfu_load(&engine.shared->registers.reset_count), count + 1);
		assert_int_equal(engine.shared->registers.cc, 0);
		engine_say(&engine, VFU_LINK_QUIESCED, 0, count + 1);
		assert_int_equal(end(&call), 0);
	}
	write_register(stage, REG_CC, 1);
	write_register(stage, REG_CC, 0);
	assert_int_equal(engine.shared->registers.disable_count, 1);
	engine_close(&engine);
}

static void takes_everything_from_a_client_that_is_gone(void **state)
{
	struct stage *stage = *state;
	int event = eventfd(0, EFD_CLOEXEC);
	struct engine engine;
	struct call call;

	map(stage);
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
	pause_ms(50);
	assert_int_equal(vfu_client_connect(&stage->client, stage->socket), 0);
	close(event);
}

static int seccomp_mode(pid_t process)
{
	char path[64], line[256];
	FILE *file;
	int mode = -1;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)process);
	file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Seccomp: %d", &mode) == 1)
			break;
	fclose(file);
	return mode;
}

static void wait_for_link_end(struct engine *engine)
{
	int r;

	do
		r = engine_receive(engine, SECONDS_MS);
	while (r > 0);
	assert_int_equal(r, -EPIPE);
	close(engine->fd);
	engine->fd = -1;
}

/* Twice: by the engine's word, then by a signal. */
static void a_newer_build_takes_over(void **state)
{
	struct stage *stage = *state;
	int mode = seccomp_mode(stage->keeper);
	struct engine engine;

	assert_true(mode == 2 || SANITIZED); /* confined, and so is each that follows */
	map(stage);
	assert_int_equal(engine_open(&engine, stage), 1);
	for (unsigned i = 0; i < 3; i++) {
		if (i == 0)
			engine_say(&engine, VFU_LINK_REPLACE, 0, 0);
		else
			assert_int_equal(kill(stage->keeper, SIGHUP), 0);
		wait_for_link_end(&engine);
		assert_alive(stage);
		engine_hello(&engine, stage, VFU_LINK_VERSION, engine.fence[0]);
		engine_expect(&engine, VFU_LINK_WELCOME);
		assert_int_equal(engine.message.value, i + 2);
		engine_expect(&engine, VFU_LINK_MAP);
		engine_expect(&engine, VFU_LINK_READY);
		assert_int_equal(seccomp_mode(stage->keeper), mode);
	}
	write_register(stage, 0x1008, 5);
	assert_int_equal(engine.doorbells->queues[1].sq_tail, 5);
	engine_say(&engine, VFU_LINK_BYE, 0, 0);
	assert_int_equal(unmap(stage), 0);
	engine_close(&engine);
}

static void retires(void **state)
{
	struct stage *stage = *state;
	struct engine engine;

	engine_open(&engine, stage);
	engine_say(&engine, VFU_LINK_RETIRE, 0, 0);
	assert_alive(stage); /* as long as its client is there */
	vfu_client_close(&stage->client);
	assert_int_equal(keeper_ended(stage), 0);
	engine_close(&engine);
	start_keeper(stage);
	engine_open(&engine, stage);
	engine_say(&engine, VFU_LINK_RETIRE, 0, 1);
	assert_int_equal(keeper_ended(stage), 0);
	stage->keeper = 0;
	engine_close(&engine);
}

static void tells_memory_that_is_not_shared(void **state)
{
	struct stage *stage = *state;

	/* A display's memory is no matter. */
	assert_int_equal(vfu_client_map(&stage->client, 0xe0000000, 16 * MIB, -1, 0), 0);
	assert_int_equal(vfu_client_unmap(&stage->client, 0xe0000000, 16 * MIB), 0);
	assert_alive(stage);
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
	assert_alive(stage);
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
		uint64_t since = now_ms();

		assert_int_equal(vfu_client_set_irqs(&stage->client, 2, 0, 16, fds), 0);
		assert_true(now_ms() - since < 4000);
	}
	for (unsigned i = 0; i < 20000; i++) /* what a guest can do: without any message */
		write_register(stage, 0x0c, 1);
	wait_for_link_end(&engine);
	engine_hello(&engine, stage, VFU_LINK_VERSION, engine.fence[0]);
	engine_expect(&engine, VFU_LINK_WELCOME);
	engine_expect(&engine, VFU_LINK_IRQS);
	assert_int_equal(engine.receiver.fd_count, 16);
	engine_expect(&engine, VFU_LINK_READY);
	engine_close(&engine);
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

#define KEEPER_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		KEEPER_TEST(gives_an_engine_all_that_there_is),
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
		KEEPER_TEST(a_newer_build_takes_over),
		KEEPER_TEST(retires),
		KEEPER_TEST(tells_memory_that_is_not_shared),
		KEEPER_TEST(takes_several_writes_in_one_message),
		KEEPER_TEST(an_engine_that_does_not_read_is_not_killed),
	};
	int failures;

	if (argc != 2)
		return 2;
	program = argv[1];
	if (!mkdtemp(directory))
		return 1;
	failures = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(directory);
	return failures;
}
