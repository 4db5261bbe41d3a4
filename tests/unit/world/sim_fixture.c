/* SPDX-License-Identifier: Apache-2.0 */
#include "sim_fixture.h"

#include <errno.h>
#include <string.h>

static void turn(void *arg)
{
	struct fixture *f = arg;

	(void)f->world->ops->port_wait(f->port, UINT64_MAX, 8);
}

static void open_port(struct fixture *f)
{
	assert_int_equal(f->world->ops->port_open(f->world, 0, turn, f, &f->port), 0);
}

void fixture_start(struct fixture *f, uint64_t seed, uint64_t capacity_bytes)
{
	const struct sim_options options = {.seed = seed};

	memset(f, 0, sizeof(*f));
	assert_int_equal(sim_new(&options, &f->sim), 0);
	fixture_attach(f, capacity_bytes);
}

void fixture_attach(struct fixture *f, uint64_t capacity_bytes)
{
	f->world = sim_world(f->sim);
	assert_int_equal(sim_disk_add(f->sim, "/d", capacity_bytes), 0);
	open_port(f);
}

void fixture_stop(struct fixture *f)
{
	fixture_settle(f);
	f->world->ops->port_close(f->port);
	sim_free(f->sim);
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

void fixture_settle(struct fixture *f)
{
	assert_int_equal(sim_run_until(f->sim, never, NULL, UINT64_MAX), -EDEADLK);
}

void fixture_crash(struct fixture *f, enum sim_crash kind)
{
	sim_crash(f->sim, kind);
	fixture_settle(f);
	f->world->ops->port_close(f->port);
	sim_restart(f->sim);
	open_port(f);
}

static void op_done(struct world_op *op, int64_t result)
{
	struct fixture_op *own = CONTAINER_OF(op, struct fixture_op, op);

	assert_false(own->done);
	own->result = result;
	own->done = true;
}

struct world_op *fixture_op(struct fixture_op *op)
{
	memset(op, 0, sizeof(*op));
	op->op.done = op_done;
	return &op->op;
}

static bool is_done(void *arg)
{
	const struct fixture_op *op = arg;

	return op->done;
}

int64_t fixture_wait(struct fixture *f, struct fixture_op *op)
{
	assert_int_equal(sim_run_until(f->sim, is_done, op, UINT64_MAX), 0);
	return op->result;
}

int fixture_open(struct fixture *f, const char *path, unsigned flags, struct world_file **ret_file)
{
	struct fixture_op op;

	f->world->ops->file_open(f->port, path, flags, ret_file, fixture_op(&op));
	return (int)fixture_wait(f, &op);
}

struct world_file *fixture_create(struct fixture *f, const char *path)
{
	struct world_file *file = NULL;

	assert_int_equal(fixture_open(f, path, WORLD_FILE_CREATE, &file), 0);
	return file;
}

int fixture_close(struct fixture *f, struct world_file *file)
{
	struct fixture_op op;

	f->world->ops->file_close(f->port, file, fixture_op(&op));
	return (int)fixture_wait(f, &op);
}

int64_t fixture_write(struct fixture *f, struct world_file *file, const void *data, size_t length,
		      uint64_t offset)
{
	struct iovec iov = {.iov_base = (void *)data, .iov_len = length};
	struct fixture_op op;

	f->world->ops->file_write(f->port, file, &iov, 1, offset, fixture_op(&op));
	return fixture_wait(f, &op);
}

int64_t fixture_fill(struct fixture *f, struct world_file *file, uint8_t byte, size_t length,
		     uint64_t offset)
{
	_cleanup_free_ void *data = malloc(length);

	assert_non_null(data);
	memset(data, byte, length);
	return fixture_write(f, file, data, length, offset);
}

int64_t fixture_read(struct fixture *f, struct world_file *file, void *data, size_t length,
		     uint64_t offset)
{
	struct iovec iov = {.iov_base = data, .iov_len = length};
	struct fixture_op op;

	f->world->ops->file_read(f->port, file, &iov, 1, offset, fixture_op(&op));
	return fixture_wait(f, &op);
}

int fixture_sync(struct fixture *f, struct world_file *file)
{
	struct fixture_op op;

	f->world->ops->file_sync(f->port, file, fixture_op(&op));
	return (int)fixture_wait(f, &op);
}

int fixture_resize(struct fixture *f, struct world_file *file, uint64_t size,
		   enum world_resize how)
{
	struct fixture_op op;

	f->world->ops->file_resize(f->port, file, size, how, fixture_op(&op));
	return (int)fixture_wait(f, &op);
}

int fixture_stat(struct fixture *f, const char *path, struct world_stat *ret_stat)
{
	struct fixture_op op;

	f->world->ops->path_stat(f->port, path, ret_stat, fixture_op(&op));
	return (int)fixture_wait(f, &op);
}

int fixture_rename(struct fixture *f, const char *from, const char *to)
{
	struct fixture_op op;

	f->world->ops->rename(f->port, from, to, fixture_op(&op));
	return (int)fixture_wait(f, &op);
}

int fixture_unlink(struct fixture *f, const char *path)
{
	struct fixture_op op;

	f->world->ops->unlink(f->port, path, fixture_op(&op));
	return (int)fixture_wait(f, &op);
}

int fixture_make(struct fixture *f, const char *path)
{
	struct fixture_op op;

	f->world->ops->directory_make(f->port, path, fixture_op(&op));
	return (int)fixture_wait(f, &op);
}

int fixture_directory_sync(struct fixture *f, const char *path)
{
	struct fixture_op op;

	f->world->ops->directory_sync(f->port, path, fixture_op(&op));
	return (int)fixture_wait(f, &op);
}

int fixture_list(struct fixture *f, const char *path, struct world_names *ret_names)
{
	struct fixture_op op;

	f->world->ops->directory_list(f->port, path, ret_names, fixture_op(&op));
	return (int)fixture_wait(f, &op);
}

int fixture_fs_stat(struct fixture *f, const char *path, struct world_fs_stat *ret_stat)
{
	struct fixture_op op;

	f->world->ops->fs_stat(f->port, path, ret_stat, fixture_op(&op));
	return (int)fixture_wait(f, &op);
}

bool fixture_exists(struct fixture *f, const char *path)
{
	struct world_stat st;
	int r = fixture_stat(f, path, &st);

	assert_true(r == 0 || r == -ENOENT);
	return r == 0;
}
