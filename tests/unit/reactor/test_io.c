/* SPDX-License-Identifier: Apache-2.0 */
/* Each call of io.h, in both worlds. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include "rig.h"

static struct rig rig;

/* directory/name, in one of two buffers. */
static const char *at(const char *name)
{
	static char paths[2][128];
	static unsigned turn;
	char *path = paths[turn++ % 2];

	snprintf(path, sizeof(paths[0]), "%s/%s", rig.directory, name);
	return path;
}

static struct world_file *open_new(const char *name)
{
	struct world_file *file = NULL;

	must_equal(io_open(at(name), WORLD_FILE_CREATE | WORLD_FILE_EXCLUSIVE, &file), 0);
	return file;
}

static int reads_and_writes(void *arg)
{
	struct world_file *file = open_new("file");
	const char hello[] = "hello, world";
	char first[5], second[16] = {0};
	const struct iovec in[2] = {{(void *)hello, 5}, {(void *)(hello + 5), sizeof(hello) - 5}};
	const struct iovec out[2] = {{first, sizeof(first)}, {second, sizeof(second)}};

	must_equal(io_writev(file, in, 2, 100), 0);
	must_equal(io_sync(file), 0);
	must_equal(io_readv(file, out, 2, 100), sizeof(hello));
	must_equal_memory(first, hello, 5);
	must_equal_string(second, hello + 5);
	must_equal(io_write(file, "J", 1, 100), 0);
	must_equal(io_read(file, first, 1, 100), 1);
	must_equal(first[0], 'J');
	must_equal(io_read_exactly(file, second, 4, 109), 0);
	must_equal_string(second, "rld");
	must_equal(io_read_exactly(file, second, 5, 109), -ENODATA);
	must_equal(io_read(file, second, 5, 200), 0);
	return io_close(file);
}

static int sizes_and_stats(void *arg)
{
	struct world_file *file = open_new("file");
	struct world_stat stat;
	struct world_fs_stat fs;

	must_equal(io_resize(file, 8192, WORLD_RESIZE_RESERVE), 0);
	must_equal(io_file_stat(file, &stat), 0);
	must_equal(stat.size_bytes, 8192);
	must(!stat.is_directory);
	must_equal(io_resize(file, 100, WORLD_RESIZE_TRUNCATE), 0);
	must_equal(io_stat(at("file"), &stat), 0);
	must_equal(stat.size_bytes, 100);
	must_equal(io_fs_stat(rig.directory, &fs), 0);
	must(fs.free_bytes <= fs.total_bytes && fs.total_bytes > 0);
	return io_close(file);
}

static int names(void *arg)
{
	struct world_file *file = open_new("file");
	struct world_names list;

	must_equal(io_close(file), 0);
	must_equal(io_open(at("file"), WORLD_FILE_CREATE | WORLD_FILE_EXCLUSIVE, &file), -EEXIST);
	must_equal(io_open(at("absent"), 0, &file), -ENOENT);
	must_equal(io_directory_make(at("sub")), 0);
	must_equal(io_directory_make(at("sub")), -EEXIST);
	must_equal(io_rename(at("file"), at("sub/moved")), 0);
	must_equal(io_directory_sync(at("sub")), 0);
	must_equal(io_directory_list(rig.directory, &list), 0);
	must_equal(list.count, 1);
	must_equal_string(list.names[0], "sub");
	world_names_free(&list);
	must_equal(io_unlink(at("sub/moved")), 0);
	return io_unlink(at("sub/moved")) == -ENOENT ? 0 : -EIO;
}

static void set_flag(void *arg)
{
	*(bool *)arg = true;
}

static int jobs(void *arg)
{
	bool ran = false;

	must_equal(io_job(set_flag, &ran), 0);
	must(ran);
	return 0;
}

/* A stream far larger than any socket buffer, and a reader who is slow to begin. */
#define STREAM_BYTES (3 * MIB + 17)

struct stream {
	struct fiber_task task;
	struct world_socket *socket;
	struct fiber *waiter;
	unsigned char *data;
	int result;
	bool finished;
};

static void stream_send(struct fiber_task *task)
{
	struct stream *stream = CONTAINER_OF(task, struct stream, task);
	const struct iovec iov[] = {
		{stream->data, 10},
		{NULL, 0},
		{stream->data + 10, STREAM_BYTES / 2},
		{stream->data + 10 + STREAM_BYTES / 2, STREAM_BYTES - 10 - STREAM_BYTES / 2},
	};

	stream->result = io_send_all(stream->socket, iov, ARRAY_SIZE(iov));
	stream->finished = true;
	fiber_wake(stream->waiter);
}

static void connect_pair(struct world_socket *pair[2])
{
	struct world_port *port = reactor_port(rig.reactors[0]);
	struct sockaddr_in loopback = {.sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_storage address;
	struct world_socket *listener;
	socklen_t length;

	must_equal(rig.world->ops->socket_listen(port, (struct sockaddr *)&loopback,
						 sizeof(loopback), 1, &listener),
		   0);
	must_equal(rig.world->ops->socket_address(listener, false, &address, &length), 0);
	must_equal(io_connect((struct sockaddr *)&address, length, &pair[0]), 0);
	must_equal(io_accept(listener, &pair[1]), 0);
	rig.world->ops->socket_close(listener);
}

static int sockets(void *arg)
{
	_cleanup_free_ unsigned char *sent = malloc(STREAM_BYTES);
	_cleanup_free_ unsigned char *received = malloc(STREAM_BYTES);
	struct stream stream = {.task.run = stream_send, .data = sent, .waiter = fiber_current()};
	struct world_socket *pair[2];

	must(sent && received);
	for (size_t i = 0; i < STREAM_BYTES; i++)
		sent[i] = (unsigned char)(i * 7 >> 3);
	connect_pair(pair);
	stream.socket = pair[0];
	fiber_spawn(rig.reactors[0], FIBER_DATA, &stream.task);
	fiber_sleep(NSEC_PER_MSEC);
	must_equal(io_receive_exactly(pair[1], received, STREAM_BYTES), 0);
	while (!stream.finished)
		fiber_suspend();
	must_equal(stream.result, 0);
	must_equal_memory(sent, received, STREAM_BYTES);

	must_equal(io_send_all(pair[0], &(struct iovec){sent, 3}, 1), 0);
	rig.world->ops->socket_close(pair[0]);
	must_equal(io_receive_exactly(pair[1], received, 4), -ECONNRESET);
	rig.world->ops->socket_close(pair[1]);
	return 0;
}

static void send_for_ever(struct fiber_task *task)
{
	struct stream *stream = CONTAINER_OF(task, struct stream, task);

	do
		stream->result =
			io_send_all(stream->socket, &(struct iovec){stream->data, STREAM_BYTES}, 1);
	while (stream->result == 0);
	stream->finished = true;
	fiber_wake(stream->waiter);
}

static int send_to_nobody(void *arg)
{
	_cleanup_free_ unsigned char *data = calloc(1, STREAM_BYTES);
	struct stream stream = {.task.run = send_for_ever, .data = data, .waiter = fiber_current()};
	struct world_socket *pair[2];

	must(data != NULL);
	connect_pair(pair);
	stream.socket = pair[0];
	fiber_spawn(rig.reactors[0], FIBER_DATA, &stream.task);
	fiber_sleep(NSEC_PER_MSEC);
	rig.world->ops->socket_close(pair[1]);
	while (!stream.finished)
		fiber_suspend();
	rig.world->ops->socket_close(pair[0]);
	return 0;
}

static int (*const scenarios[])(void *arg) = {
	reads_and_writes, sizes_and_stats, names, jobs, sockets, send_to_nobody,
};

static void works_in_the_real_world(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(scenarios); i++) {
		rig_open_real(&rig);
		assert_int_equal(rig_call(&rig, scenarios[i], NULL), 0);
		rig_close(&rig);
	}
}

static void works_in_the_simulated_world(void **state)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		for (unsigned i = 0; i < ARRAY_SIZE(scenarios); i++) {
			rig_open_sim(&rig, seed);
			assert_int_equal(rig_call(&rig, scenarios[i], NULL), 0);
			rig_close(&rig);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(works_in_the_real_world),
		cmocka_unit_test(works_in_the_simulated_world),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
