/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One simulation with one disk below "/d" and one port, and operations that run the simulation
 * until they are done.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/macros.h"
#include "world/sim.h"

struct fixture {
	struct sim *sim;
	struct world *world;
	struct world_port *port;
};

struct fixture_op {
	struct world_op op;
	int64_t result;
	bool done;
};

void fixture_start(struct fixture *f, uint64_t seed, uint64_t capacity_bytes);
/* The same for a simulation that is there already. */
void fixture_attach(struct fixture *f, uint64_t capacity_bytes);
void fixture_stop(struct fixture *f);
/* Crashes, closes the port, restarts, opens the port. */
void fixture_crash(struct fixture *f, enum sim_crash kind);

/* Prepared for submission. */
struct world_op *fixture_op(struct fixture_op *op);
int64_t fixture_wait(struct fixture *f, struct fixture_op *op);
/* Until all is quiet. */
void fixture_settle(struct fixture *f);

int fixture_open(struct fixture *f, const char *path, unsigned flags, struct world_file **ret_file);
struct world_file *fixture_create(struct fixture *f, const char *path);
int fixture_close(struct fixture *f, struct world_file *file);
int64_t fixture_write(struct fixture *f, struct world_file *file, const void *data, size_t length,
		      uint64_t offset);
/* `length` bytes of `byte`. */
int64_t fixture_fill(struct fixture *f, struct world_file *file, uint8_t byte, size_t length,
		     uint64_t offset);
int64_t fixture_read(struct fixture *f, struct world_file *file, void *data, size_t length,
		     uint64_t offset);
int fixture_sync(struct fixture *f, struct world_file *file);
int fixture_resize(struct fixture *f, struct world_file *file, uint64_t size,
		   enum world_resize how);
int fixture_stat(struct fixture *f, const char *path, struct world_stat *ret_stat);
int fixture_rename(struct fixture *f, const char *from, const char *to);
int fixture_unlink(struct fixture *f, const char *path);
int fixture_make(struct fixture *f, const char *path);
int fixture_directory_sync(struct fixture *f, const char *path);
int fixture_list(struct fixture *f, const char *path, struct world_names *ret_names);
int fixture_fs_stat(struct fixture *f, const char *path, struct world_fs_stat *ret_stat);
bool fixture_exists(struct fixture *f, const char *path);
