/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real world: clock, randomness, and the table of functions. Callable from any thread.
 */
#include "world/real/real_priv.h"

#include <errno.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

#define QUEUE_DEPTH_MAX 32768u /* the kernel's limit */

static uint64_t read_clock(clockid_t clock)
{
	struct timespec time;
	int status = clock_gettime(clock, &time);

	ASSERT(status == 0);
	return (uint64_t)time.tv_sec * NSEC_PER_SEC + (uint64_t)time.tv_nsec;
}

static uint64_t now_ns(struct world *world)
{
	return read_clock(CLOCK_MONOTONIC);
}

static uint64_t wall_ns(struct world *world)
{
	return read_clock(CLOCK_REALTIME);
}

static void fill_random(struct world *world, void *buffer, size_t length)
{
	uint8_t *next = buffer;

	while (length > 0) {
		ssize_t count = getrandom(next, length, 0);

		ASSERT(count > 0 || errno == EINTR);
		if (count > 0) {
			next += count;
			length -= (size_t)count;
		}
	}
}

static const struct world_ops real_ops = {
	.name = "real",
	.now_ns = now_ns,
	.wall_ns = wall_ns,
	.random = fill_random,
	.port_open = real_port_open,
	.port_close = real_port_close,
	.port_wait = real_port_wait,
	.port_submit = real_port_submit,
	.port_wake = real_mail_wake,
	.port_post = real_mail_post,
	.cancel = real_port_cancel,
	.job = real_jobs_call,
	.file_open = real_path_open,
	.file_close = real_path_close,
	.file_read = real_file_read,
	.file_write = real_file_write,
	.file_sync = real_file_sync,
	.file_resize = real_path_resize,
	.file_stat = real_path_file_stat,
	.path_stat = real_path_stat,
	.rename = real_path_rename,
	.unlink = real_path_unlink,
	.directory_make = real_path_directory_make,
	.directory_list = real_path_directory_list,
	.directory_sync = real_path_directory_sync,
	.fs_stat = real_path_fs_stat,
	.socket_listen = real_socket_listen,
	.socket_address = real_socket_address,
	.socket_accept = real_socket_accept,
	.socket_connect = real_socket_connect,
	.socket_receive = real_socket_receive,
	.socket_send = real_socket_send,
	.socket_shutdown = real_socket_shutdown,
	.socket_close = real_socket_close,
};

/* The kernel refuses a table with more entries than the process may have files. */
static unsigned table_size(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > REAL_MAX_SLOTS)
		return REAL_MAX_SLOTS;
	return MAX((unsigned)limit.rlim_cur, 1u);
}

int world_real_new(const struct world_real_options *options, struct world **ret_world)
{
	struct world_real *real;
	int error = real_port_probe();

	if (error)
		return error;
	real = calloc(1, sizeof(*real));
	if (!real)
		return -ENOMEM;
	real->world.ops = &real_ops;
	real->options = *options;
	if (real->options.workers == 0)
		real->options.workers = 4;
	if (real->options.queue_depth == 0)
		real->options.queue_depth = 256;
	real->options.queue_depth = MIN(real->options.queue_depth, QUEUE_DEPTH_MAX);
	real->slot_count = table_size();
	real->slots[0] = UINT64_C(1) << REAL_FENCE_SLOT | UINT64_C(1) << REAL_FENCE_PIPE_SLOT;
	error = real_jobs_start(&real->jobs, real->options.workers);
	if (error) {
		free(real);
		return error;
	}
	pthread_mutex_init(&real->ports_lock, NULL);
	*ret_world = &real->world;
	return 0;
}

void world_real_free(struct world *world)
{
	struct world_real *real;

	if (!world)
		return;
	real = real_of(world);
	for (unsigned i = 0; i < REAL_MAX_PORTS; i++)
		ASSERT(real->ports[i] == NULL);
	real_jobs_stop(&real->jobs);
	pthread_mutex_destroy(&real->ports_lock);
	free(real);
}
