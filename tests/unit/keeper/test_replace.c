/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A keeper that executes its program anew: the same build, builds that know its state and such that
 * do not, and the state that an older build leaves.
 *
 *     test_replace SARSEN-KEEPER
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine.h"

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

#define MARK "sarsen-keeper knows of:"

static char directory[] = "/tmp/sarsen-replace-XXXXXX";
static char installed[64];   /* the keeper's program, which is executed anew */
static unsigned char *build; /* what is tested */
static size_t build_bytes;

/* --- programs --- */

static void read_build(const char *path)
{
	FILE *file = fopen(path, "rb");
	struct stat status;

	assert_non_null(file);
	assert_int_equal(fstat(fileno(file), &status), 0);
	build_bytes = (size_t)status.st_size;
	build = malloc(build_bytes);
	assert_int_equal(fread(build, 1, build_bytes, file), build_bytes);
	fclose(file);
}

static void install(const void *bytes, size_t count)
{
	char new[80];
	FILE *file;

	snprintf(new, sizeof(new), "%s.new", installed);
	file = fopen(new, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, count, file), count);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(new, 0700), 0);
	assert_int_equal(rename(new, installed), 0);
}

/* A build that says this of itself. */
static void install_marked(const uint32_t versions[4])
{
	unsigned char *copy = malloc(build_bytes), *mark;

	memcpy(copy, build, build_bytes);
	mark = memmem(copy, build_bytes, MARK, sizeof(MARK));
	assert_non_null(mark);
	memcpy(mark + sizeof(MARK), versions, 16);
	assert_null(memmem(mark + 1, build_bytes - (size_t)(mark + 1 - copy), MARK, sizeof(MARK)));
	install(copy, build_bytes);
	free(copy);
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

/* Twice: by the engine's word, then by a signal. */
static void a_newer_build_takes_over(void **state)
{
	struct stage *stage = *state;
	int mode = seccomp_mode(stage->keeper);
	struct engine engine;

	assert_true(mode == 2 || SANITIZED); /* confined, and so is each that follows */
	stage_map(stage);
	assert_int_equal(engine_open(&engine, stage), 1);
	for (unsigned i = 0; i < 3; i++) {
		if (i == 0)
			engine_say(&engine, VFU_LINK_REPLACE, 0, 0);
		else
			assert_int_equal(kill(stage->keeper, SIGHUP), 0);
		engine_wait_for_link_end(&engine);
		stage_assert_alive(stage);
		engine_hello(&engine, stage, VFU_LINK_VERSION, engine.fence[0]);
		engine_expect(&engine, VFU_LINK_WELCOME);
		assert_int_equal(engine.message.value, i + 2);
		engine_expect(&engine, VFU_LINK_MAP);
		engine_expect(&engine, VFU_LINK_READY);
		assert_int_equal(seccomp_mode(stage->keeper), mode);
	}
	stage_write_register(stage, 0x1008, 5);
	assert_int_equal(engine.doorbells->queues[1].sq_tail, 5);
	engine_say(&engine, VFU_LINK_BYE, 0, 0);
	assert_int_equal(stage_unmap(stage), 0);
	engine_close(&engine);
	stage_assert_vectors(stage, STAGE_VECTORS);
}

static void expect_welcome_again(struct engine *engine, const struct stage *stage)
{
	engine_hello(engine, stage, VFU_LINK_VERSION, engine->fence[0]);
	engine_expect(engine, VFU_LINK_WELCOME);
	engine_expect(engine, VFU_LINK_MAP);
	engine_expect(engine, VFU_LINK_READY);
}

/* The keeper goes on, with its client and its memory; its engine is told. */
static void expect_refusal(struct stage *stage, struct engine *engine, int error)
{
	engine_say(engine, VFU_LINK_REPLACE, 0, 0);
	engine_expect(engine, VFU_LINK_REFUSED);
	assert_int_equal(engine->message.value, error);
	engine_wait_for_link_end(engine);
	stage_assert_alive(stage);
	expect_welcome_again(engine, stage);
}

static void goes_on_when_the_program_does_not_know_its_state(void **state)
{
	static const uint32_t unknown[][4] = {
		{1, 2, VFU_SHARED_VERSION, VFU_SHARED_VERSION},
		{4, 9, VFU_SHARED_VERSION, VFU_SHARED_VERSION},
		{2, 3, VFU_SHARED_VERSION + 1, VFU_SHARED_VERSION + 1},
		{2, 3, 0, VFU_SHARED_VERSION - 1},
	};
	static const uint32_t newer[4] = {3, 4, VFU_SHARED_VERSION, VFU_SHARED_VERSION + 1};
	struct stage *stage = *state;
	struct engine engine;

	stage_map(stage);
	assert_int_equal(engine_open(&engine, stage), 1);
	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
		install_marked(unknown[i]);
		expect_refusal(stage, &engine, EPROTONOSUPPORT);
	}
	install("#!/bin/true\n", 12);
	expect_refusal(stage, &engine, ENOEXEC);
	install(MARK, sizeof(MARK)); /* cut off */
	expect_refusal(stage, &engine, ENOEXEC);
	unlink(installed);
	expect_refusal(stage, &engine, ENOENT);
	install_marked(newer);
	engine_say(&engine, VFU_LINK_REPLACE, 0, 0);
	engine_wait_for_link_end(&engine);
	assert_int_not_equal(engine.message.type, VFU_LINK_REFUSED);
	stage_assert_alive(stage);
	expect_welcome_again(&engine, stage);
	install(build, build_bytes);
	engine_say(&engine, VFU_LINK_BYE, 0, 0);
	engine_close(&engine);
}

/* --- the state of an older build --- */

struct state_2 { /* as keepers of version 2 wrote it */
	uint64_t magic;
	uint32_t version, bytes;
	int32_t shared_fd, doorbells_fd, wake_fd, nobody_fd, link_listen_fd, socket_listen_fd;
	int32_t client_fd, intx_fd, fence_fd, engine_pidfd;
	uint32_t negotiated, retiring, next_map_id;
	int64_t engine_pid;
	int32_t msix_fds[129];
	struct {
		int32_t fd;
		uint64_t offset;
	} maps[1024];
	unsigned char writable[4096];
};

static int make_file(const char *name, size_t bytes)
{
	int fd = memfd_create(name, 0);

	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	memcpy(address.sun_path, path, strlen(path) + 1);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

/* What a keeper with a client that has given one range of memory would leave. */
static void fill_state(struct state_2 *state, struct stage *stage)
{
	struct vfu_shared *shared;
	int client[2];

	*state = (struct state_2){.magic = UINT64_C(0x7265706c61636531),
				  .version = 2,
				  .bytes = sizeof(*state),
				  .intx_fd = -1,
				  .fence_fd = -1,
				  .engine_pidfd = -1,
				  .negotiated = 1,
				  .next_map_id = 8};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, client), 0);
	stage->client.fd = client[0];
	assert_int_equal(fcntl(client[0], F_SETFD, FD_CLOEXEC), 0);
	state->client_fd = client[1];
	state->shared_fd = make_file("shared", sizeof(*shared));
	state->doorbells_fd = make_file("doorbells", (size_t)2 * VFU_PAGE_BYTES);
	state->wake_fd = eventfd(0, EFD_NONBLOCK);
	state->nobody_fd = eventfd(0, EFD_NONBLOCK);
	state->link_listen_fd = listen_at(stage->link);
	state->socket_listen_fd = listen_at(stage->socket);
	for (size_t i = 0; i < ARRAY_SIZE(state->msix_fds); i++)
		state->msix_fds[i] = -1;
	for (size_t i = 0; i < ARRAY_SIZE(state->maps); i++)
		state->maps[i].fd = -1;
	state->maps[3].fd = dup(stage->memory_fd);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, state->shared_fd,
		      0);
	assert_ptr_not_equal(shared, MAP_FAILED);
	shared->magic = VFU_SHARED_MAGIC;
	shared->version = VFU_SHARED_VERSION;
	shared->bytes = sizeof(*shared);
	shared->client_connected = 1;
	shared->maps[3] = (struct vfu_map){.address = STAGE_ADDRESS,
					   .length = MIB,
					   .id = 7,
					   .flags = VFU_MAP_READ | VFU_MAP_WRITE | VFU_MAP_MEMORY};
	munmap(shared, sizeof(*shared));
}

static void close_state(const struct state_2 *state)
{
	const int fds[] = {state->shared_fd,  state->doorbells_fd,    state->wake_fd,
			   state->nobody_fd,  state->link_listen_fd,  state->client_fd,
			   state->maps[3].fd, state->socket_listen_fd};

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

/* The program is executed as by a keeper that left these bytes. */
static void resume(struct stage *stage, const void *bytes, size_t count)
{
	int fd = make_file("state", 0);
	char text[16];

	assert_int_equal(write(fd, bytes, count), count);
	snprintf(text, sizeof(text), "%d", fd);
	stage->keeper = fork();
	if (stage->keeper == 0) {
		execl(installed, installed, "--name", "test", "--link", stage->link, "--socket",
		      stage->socket, "--resume", text, NULL);
		_exit(127);
	}
	close(fd);
}

/* The stage without its keeper. */
static void end_keeper(struct stage *stage)
{
	vfu_client_close(&stage->client);
	assert_int_equal(kill(stage->keeper, SIGTERM), 0);
	assert_int_equal(stage_keeper_ended(stage), 0);
	stage->keeper = 0;
}

static void reads_the_state_of_the_version_before(void **state)
{
	struct stage *stage = *state;
	struct pollfd early;
	uint32_t tail = 5;
	struct state_2 *left = calloc(1, sizeof(*left));
	struct engine engine;

	end_keeper(stage);
	fill_state(left, stage);
	resume(stage, left, sizeof(*left));
	close_state(left);
	free(left);
	stage_assert_alive(stage);
	engine_fence(&engine);
	engine_hello_flags(&engine, stage, VFU_HELLO_EARLY);
	engine_welcomed(&engine);
	engine_expect(&engine, VFU_LINK_EARLY); /* which version 2 did not have */
	early = (struct pollfd){vfu_receiver_take_fd(&engine.receiver, 0), POLLIN, 0};
	engine_expect(&engine, VFU_LINK_MAP);
	assert_int_equal(engine.message.id, 7);
	engine_expect(&engine, VFU_LINK_READY);
	assert_int_equal(kill(stage->keeper, SIGSTOP), 0);
	assert_int_equal(vfu_client_post(&stage->client, 0, 0x1008, &tail, 4), 0);
	assert_int_equal(poll(&early, 1, STAGE_MS), 1);
	assert_int_equal(kill(stage->keeper, SIGCONT), 0);
	stage_write_register(stage, 0x1008, 5);
	assert_int_equal(engine.doorbells->queues[1].sq_tail, 5);
	assert_int_equal(poll(&early, 1, 0), 0);
	close(early.fd);
	engine_say(&engine, VFU_LINK_BYE, 0, 0);
	assert_int_equal(stage_unmap(stage), 0);
	engine_close(&engine);
}

static void expect_end(struct stage *stage, const void *bytes, size_t count)
{
	resume(stage, bytes, count);
	assert_int_equal(stage_keeper_ended(stage), 1);
	stage->keeper = 0;
}

/* It cannot get here (the keeper before has looked), but neither may it go on with half of it. */
static void ends_with_a_state_that_it_does_not_know(void **state)
{
	struct stage *stage = *state;
	struct state_2 *left = calloc(2, sizeof(*left));

	end_keeper(stage);
	fill_state(left, stage);
	left->version = 4;
	left->bytes = sizeof(*left) + 64;
	expect_end(stage, left, sizeof(*left) + 64);
	left->version = 1;
	left->bytes = sizeof(*left);
	expect_end(stage, left, sizeof(*left));
	left->version = 2;
	left->bytes++;
	expect_end(stage, left, sizeof(*left));
	left->bytes--;
	expect_end(stage, left, sizeof(*left) - 1);
	left->magic++;
	expect_end(stage, left, sizeof(*left));
	left->magic--;
	assert_int_equal(ftruncate(left->shared_fd, VFU_PAGE_BYTES), 0); /* another layout */
	expect_end(stage, left, sizeof(*left));
	close_state(left);
	vfu_client_close(&stage->client);
	unlink(stage->link);
	unlink(stage->socket);
	free(left);
}

#define REPLACE_TEST(test) cmocka_unit_test_setup_teardown(test, stage_setup, stage_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		REPLACE_TEST(a_newer_build_takes_over),
		REPLACE_TEST(goes_on_when_the_program_does_not_know_its_state),
		REPLACE_TEST(reads_the_state_of_the_version_before),
		REPLACE_TEST(ends_with_a_state_that_it_does_not_know),
	};
	int failures;

	if (argc != 2 || !mkdtemp(directory))
		return 2;
	snprintf(installed, sizeof(installed), "%s/keeper", directory);
	read_build(argv[1]);
	install(build, build_bytes);
	if (stage_begin(installed) < 0)
		return 2;
	failures = cmocka_run_group_tests(tests, NULL, NULL);
	stage_end();
	unlink(installed);
	rmdir(directory);
	free(build);
	return failures;
}
