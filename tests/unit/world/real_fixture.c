/* SPDX-License-Identifier: Apache-2.0 */
#include "real_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void remove_tree(const char *directory)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	assert_int_equal(system(command), 0);
}

int real_setup(void **state)
{
	const struct world_real_options options = {.workers = 2, .queue_depth = 16, .fence_fd = -1};
	struct real_fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->directory, "/var/tmp/sarsen-test-real.XXXXXX");
	assert_non_null(mkdtemp(f->directory));
	assert_int_equal(world_real_new(&options, &f->world), 0);
	f->ops = f->world->ops;
	assert_int_equal(f->ops->port_open(f->world, 0, NULL, NULL, &f->port), 0);
	*state = f;
	return 0;
}

int real_teardown(void **state)
{
	struct real_fixture *f = *state;

	f->ops->port_close(f->port);
	world_real_free(f->world);
	remove_tree(f->directory);
	free(f);
	return 0;
}

const char *real_path(const struct real_fixture *f, const char *name)
{
	static char buffers[4][160];
	static unsigned next;
	char *buffer = buffers[next++ % ARRAY_SIZE(buffers)];

	snprintf(buffer, sizeof(buffers[0]), "%s/%s", f->directory, name);
	return buffer;
}

static void record(struct world_op *op, int64_t result)
{
	struct waited_op *waited = CONTAINER_OF(op, struct waited_op, op);

	waited->result = result;
	waited->done_count++;
}

struct world_op *waited_init(struct waited_op *op)
{
	*op = (struct waited_op){.op.done = record};
	return &op->op;
}

int64_t waited_finish(struct world_port *port, const struct world *world, struct waited_op *op)
{
	uint64_t limit_ns = world->ops->now_ns((struct world *)world) + 10 * NSEC_PER_SEC;

	while (op->done_count == 0) {
		assert_true(world->ops->now_ns((struct world *)world) < limit_ns);
		world->ops->port_wait(port, limit_ns, 8);
	}
	assert_int_equal(op->done_count, 1);
	return op->result;
}

int64_t real_open(struct real_fixture *f, const char *name, unsigned flags,
		  struct world_file **ret_file)
{
	struct waited_op op;

	f->ops->file_open(f->port, real_path(f, name), flags, ret_file, waited_init(&op));
	return waited_finish(f->port, f->world, &op);
}

int64_t real_close(struct real_fixture *f, struct world_file *file)
{
	struct waited_op op;

	f->ops->file_close(f->port, file, waited_init(&op));
	return waited_finish(f->port, f->world, &op);
}

int64_t real_write(struct real_fixture *f, struct world_file *file, const void *buffer,
		   size_t length, uint64_t offset)
{
	struct iovec iov = {.iov_base = (void *)buffer, .iov_len = length};
	struct waited_op op;

	f->ops->file_write(f->port, file, &iov, 1, offset, waited_init(&op));
	return waited_finish(f->port, f->world, &op);
}

int64_t real_read(struct real_fixture *f, struct world_file *file, void *buffer, size_t length,
		  uint64_t offset)
{
	struct iovec iov = {.iov_base = buffer, .iov_len = length};
	struct waited_op op;

	f->ops->file_read(f->port, file, &iov, 1, offset, waited_init(&op));
	return waited_finish(f->port, f->world, &op);
}
