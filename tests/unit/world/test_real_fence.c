/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fences: a process is killed while its writes are in the kernel; whoever then takes the lock
 * that its rings held, or sees the pipe hang up whose write end only they had, must see a file that
 * changes no more.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "real_fixture.h"

enum { DEPTH = 64, WRITE_BYTES = 256 * 1024, FILE_BYTES = DEPTH * WRITE_BYTES, ROUNDS = 5 };

static char directory[] = "/var/tmp/sarsen-test-fence.XXXXXX";

static const char *path_of(const char *name)
{
	static char buffers[2][80];
	static unsigned next;
	char *buffer = buffers[next++ % 2];

	snprintf(buffer, sizeof(buffers[0]), "%s/%s", directory, name);
	return buffer;
}

struct writer {
	struct world_op op;
	struct world *world;
	struct world_port *port;
	struct world_file *file;
	struct iovec iov;
	unsigned index;
};

static void write_again(struct world_op *op, int64_t result)
{
	struct writer *writer = CONTAINER_OF(op, struct writer, op);
	uint64_t *words = writer->iov.iov_base;

	if (result != WRITE_BYTES)
		_exit(2);
	for (size_t i = 0; i < WRITE_BYTES / 8; i += 512)
		words[i]++;
	writer->world->ops->file_write(writer->port, writer->file, &writer->iov, 1,
				       (uint64_t)writer->index * WRITE_BYTES, op);
}

static struct world *fenced_world(int pipe_fd, struct world_port **ret_port)
{
	struct world_real_options options = {.workers = 1, .fence_pipe_fd = pipe_fd};
	struct world *world;

	options.fence_fd = open(path_of("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (options.fence_fd < 0 || flock(options.fence_fd, LOCK_EX) < 0 ||
	    world_real_new(&options, &world) ||
	    world->ops->port_open(world, 0, NULL, NULL, ret_port))
		_exit(3);
	/* From here on only the ring holds the lock and the pipe. */
	close(options.fence_fd);
	close(pipe_fd);
	return world;
}

/* Keeps DEPTH writes in the kernel until it is killed; tells the pipe when all have begun. */
_Noreturn static void write_until_killed(int started_fd, int pipe_fd)
{
	static struct writer writers[DEPTH];
	struct world_port *port;
	struct world *world = fenced_world(pipe_fd, &port);
	struct world_file *file;
	struct waited_op op;

	world->ops->file_open(port, path_of("data"), WORLD_FILE_DIRECT, &file, waited_init(&op));
	if (waited_finish(port, world, &op))
		_exit(5);
	for (unsigned i = 0; i < DEPTH; i++) {
		writers[i] = (struct writer){.op.done = write_again,
					     .world = world,
					     .port = port,
					     .file = file,
					     .index = i};
		writers[i].iov = (struct iovec){aligned_alloc(4096, WRITE_BYTES), WRITE_BYTES};
		memset(writers[i].iov.iov_base, 0, WRITE_BYTES);
		write_again(&writers[i].op, WRITE_BYTES);
	}
	world->ops->port_submit(port);
	if (write(started_fd, "", 1) != 1)
		_exit(6);
	for (;;)
		world->ops->port_wait(port, UINT64_MAX, 8);
}

static void make_data(void)
{
	int fd = open(path_of("data"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char *zeros = calloc(1, FILE_BYTES);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, zeros, FILE_BYTES), FILE_BYTES);
	assert_int_equal(fsync(fd), 0);
	close(fd);
	free(zeros);
}

static char *snapshot(void)
{
	int fd = open(path_of("data"), O_RDONLY | O_DIRECT | O_CLOEXEC);
	char *content = aligned_alloc(4096, FILE_BYTES);

	assert_true(fd >= 0);
	assert_int_equal(read(fd, content, FILE_BYTES), FILE_BYTES);
	close(fd);
	return content;
}

static void kill_child(pid_t child)
{
	int status;

	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* The child holds the lock, is killed, and lets go of it within ten seconds. */
static void kill_and_take_lock(pid_t child, int pipe_fd)
{
	int fd = open(path_of("lock"), O_RDWR | O_CLOEXEC), tries = 0;

	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
	assert_int_equal(errno, EWOULDBLOCK);
	kill_child(child);
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		assert_int_equal(errno, EWOULDBLOCK);
		assert_true(++tries < 10000);
		usleep(1000);
	}
	close(fd);
}

static void kill_and_wait_for_pipe(pid_t child, int pipe_fd)
{
	struct pollfd poller = {.fd = pipe_fd, .events = POLLIN};

	assert_int_equal(poll(&poller, 1, 0), 0);
	kill_child(child);
	assert_int_equal(poll(&poller, 1, 10000), 1);
	assert_int_equal(poller.revents, POLLHUP);
}

static void nothing_lands_after(void (*fence)(pid_t child, int pipe_fd))
{
	make_data();
	for (unsigned round = 0; round < ROUNDS; round++) {
		int started[2], hangup[2];
		char byte, *before, *after;
		pid_t child;

		assert_int_equal(pipe2(started, O_CLOEXEC), 0);
		assert_int_equal(pipe2(hangup, O_CLOEXEC), 0);
		child = fork();
		if (child == 0)
			write_until_killed(started[1], hangup[1]);
		close(started[1]);
		close(hangup[1]);
		assert_int_equal(read(started[0], &byte, 1), 1);
		close(started[0]);
		usleep(round * 3000);
		fence(child, hangup[0]);
		close(hangup[0]);
		before = snapshot();
		usleep(50000);
		after = snapshot();
		assert_memory_equal(before, after, FILE_BYTES);
		free(before);
		free(after);
	}
}

static void nothing_lands_after_the_lock_is_free(void **state)
{
	nothing_lands_after(kill_and_take_lock);
}

static void nothing_lands_after_the_pipe_hung_up(void **state)
{
	nothing_lands_after(kill_and_wait_for_pipe);
}

static int make_directory(void **state)
{
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	unlink(path_of("data"));
	unlink(path_of("lock"));
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_lands_after_the_lock_is_free),
		cmocka_unit_test(nothing_lands_after_the_pipe_hung_up),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
