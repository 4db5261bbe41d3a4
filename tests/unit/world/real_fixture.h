/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A real world with one port and a directory of its own, and operations that a test waits for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/macros.h"
#include "world/real.h"

struct real_fixture {
	struct world *world;
	const struct world_ops *ops;
	struct world_port *port;
	char directory[64]; /* on a disk that knows O_DIRECT */
};

/* cmocka's setup and teardown. Skips nothing: a kernel without io_uring fails the tests. */
int real_setup(void **state);
int real_teardown(void **state);

/* directory/name, in one of a few static buffers. */
const char *real_path(const struct real_fixture *f, const char *name);

struct waited_op {
	struct world_op op;
	int64_t result;
	unsigned done_count;
};
struct world_op *waited_init(struct waited_op *op);
/* Waits on the port until done; fails the test after ten seconds. */
int64_t waited_finish(struct world_port *port, const struct world *world, struct waited_op *op);

/* Operations that a test only needs the result of. */
int64_t real_open(struct real_fixture *f, const char *name, unsigned flags,
		  struct world_file **ret_file);
int64_t real_close(struct real_fixture *f, struct world_file *file);
int64_t real_write(struct real_fixture *f, struct world_file *file, const void *buffer,
		   size_t length, uint64_t offset);
int64_t real_read(struct real_fixture *f, struct world_file *file, void *buffer, size_t length,
		  uint64_t offset);
