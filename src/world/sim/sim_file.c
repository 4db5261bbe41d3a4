/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open files. The sim_file_do_*() functions are what happens at one instant; the operations of
 * ports and SQLite's VFS both use them. Faults are drawn here.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/reached.h"
#include "world/sim/sim_priv.h"

struct world_file *sim_file_new(struct sim *sim, struct sim_node *node, unsigned flags)
{
	struct world_file *file = calloc(1, sizeof(*file));

	ASSERT(file);
	file->node = node;
	file->flags = flags;
	node->refs++;
	sim_node_count(node, 0, 1);
	list_push_back(&sim->files, &file->link);
	return file;
}

void sim_file_free(struct world_file *file)
{
	list_remove(&file->link);
	sim_node_count(file->node, 0, -1);
	sim_node_unref(file->node);
	free(file);
}

static struct sim *sim_of_file(const struct world_file *file)
{
	return file->node->disk->sim;
}

static int create(const struct sim_place *place)
{
	struct sim_node *node;

	if (!place->parent || !place->parent->directory)
		return -ENOTDIR;
	if (place->disk->read_only)
		return -EROFS;
	node = sim_tree_node_new(place->disk, false);
	sim_tree_link(place, node);
	sim_node_unref(node);
	return 0;
}

int sim_file_do_open(struct sim *sim, const char *path, unsigned flags,
		     struct world_file **ret_file)
{
	struct sim_place place;
	int r = sim_tree_resolve(sim, path, &place);
	int gate = sim_gate(sim, r < 0 ? 0 : place.disk->faults.metadata_error_ppm);

	if (gate < 0 || r < 0)
		return gate < 0 ? gate : r;
	if (place.disk->missing)
		return -ENOENT;
	if (place.node && place.node->directory)
		return -EISDIR;
	if (place.node && (flags & WORLD_FILE_CREATE) && (flags & WORLD_FILE_EXCLUSIVE))
		return -EEXIST;
	if (!place.node && !(flags & WORLD_FILE_CREATE))
		return -ENOENT;
	if (place.disk->read_only && !(flags & WORLD_FILE_READ_ONLY))
		return -EROFS;
	if (!place.node) {
		r = create(&place);
		if (r < 0)
			return r;
		r = sim_tree_resolve(sim, path, &place);
		ASSERT(r == 0 && place.node);
	}
	*ret_file = sim_file_new(sim, place.node, flags);
	return 0;
}

/* What O_DIRECT demands. */
static bool is_aligned(const struct world_file *file, const struct sim_cursor *cursor,
		       uint64_t offset)
{
	if (!(file->flags & WORLD_FILE_DIRECT))
		return true;
	for (int i = 0; i < cursor->count; i++)
		if (!IS_ALIGNED((uintptr_t)cursor->iov[i].iov_base, SIM_PAGE_BYTES) ||
		    !IS_ALIGNED(cursor->iov[i].iov_len, SIM_PAGE_BYTES))
			return false;
	return IS_ALIGNED(offset, SIM_PAGE_BYTES);
}

/* Damages one bit of what was read. */
static void flip_bit(struct sim *sim, struct sim_cursor cursor, uint64_t length)
{
	uint64_t at = sim_random_upto(&sim->faults, length);
	uint8_t bit = (uint8_t)(1u << sim_random_upto(&sim->faults, 8));

	REACHED("sim.bit-flip");
	for (; at >= cursor.iov->iov_len; cursor.iov++)
		at -= cursor.iov->iov_len;
	((uint8_t *)cursor.iov->iov_base)[at] ^= bit;
}

int64_t sim_file_do_read(struct world_file *file, struct sim_cursor cursor, uint64_t offset)
{
	const struct sim_faults *faults = &file->node->disk->faults;
	struct sim *sim = sim_of_file(file);
	struct sim_cursor start = cursor;
	int gate = sim_gate(sim, faults->read_error_ppm);
	uint64_t length;

	if (gate == 0 && file->node->disk->missing)
		return -EIO;
	if (gate < 0)
		return gate == -EIO && faults->read_error ? faults->read_error : gate;
	if (!is_aligned(file, &cursor, offset))
		return -EINVAL;
	length = sim_node_read(file->node, &cursor, offset);
	/* SQLite cannot tell a flipped bit: in its WAL it would end the log early, without an
	 * error. */
	if (length > 0 && !file->never_flips && sim_random_ppm(&sim->faults, faults->bit_flip_ppm))
		flip_bit(sim, start, length);
	return (int64_t)length;
}

static int check_write(const struct world_file *file, uint64_t offset, uint64_t length)
{
	const struct sim_disk *disk = file->node->disk;
	uint64_t missing;

	if (file->flags & WORLD_FILE_READ_ONLY)
		return -EBADF;
	if (disk->read_only)
		return -EROFS;
	if (length > SIM_FILE_MAX_BYTES || offset > SIM_FILE_MAX_BYTES - length)
		return -EFBIG;
	missing = sim_node_missing_pages(file->node, offset, length);
	if (missing > 0 && disk->used_pages + disk->taken_pages + missing > disk->capacity_pages) {
		REACHED("sim.no-space");
		return -ENOSPC;
	}
	return 0;
}

/* A failed write may leave any of its sectors, but never needs space that is not there. */
static void write_in_part(struct world_file *file, struct sim_cursor cursor, uint64_t offset,
			  uint64_t *ret_change)
{
	struct sim *sim = sim_of_file(file);

	if (check_write(file, offset, sim_cursor_length(&cursor)) < 0)
		return;
	switch (sim_random_upto(&sim->fate, 3)) {
	case 0:
		return;
	case 1:
		*ret_change = sim_node_write(file->node, &cursor, offset, NULL);
		return;
	default:
		REACHED("sim.torn-write");
		*ret_change = sim_node_write(file->node, &cursor, offset, &sim->fate);
		return;
	}
}

int64_t sim_file_do_write(struct world_file *file, struct sim_cursor cursor, uint64_t offset,
			  uint64_t *ret_change)
{
	uint64_t length = sim_cursor_length(&cursor);
	int r;

	*ret_change = SIM_NO_CHANGE;
	if (!is_aligned(file, &cursor, offset))
		return -EINVAL;
	r = sim_gate(sim_of_file(file), file->node->disk->faults.write_error_ppm);
	if (r == 0 && file->node->disk->missing)
		return -EIO;
	if (r == -EIO || r == -ESHUTDOWN)
		write_in_part(file, cursor, offset, ret_change);
	if (r == 0)
		r = check_write(file, offset, length);
	if (r < 0)
		return r;
	*ret_change = sim_node_write(file->node, &cursor, offset, NULL);
	return (int64_t)length;
}

/* What the mark does not cover may become durable all the same. */
static uint64_t draw_mark(struct sim *sim, uint64_t mark)
{
	return sim_random_coin(&sim->fate) ? UINT64_MAX : mark;
}

int sim_file_do_sync(struct world_file *file, uint64_t mark)
{
	struct sim_disk *disk = file->node->disk;
	int r = sim_gate(disk->sim, disk->faults.sync_error_ppm);

	if (r == 0 && disk->missing)
		r = -EIO;
	if (r == 0 && disk->read_only && !sim_undo_is_clean(file->node))
		r = -EROFS;
	if (r == -EIO && sim_random_coin(&disk->sim->fate)) {
		REACHED("sim.sync-dropped");
		sim_undo_orphan(file->node, draw_mark(disk->sim, mark));
	}
	if (r == -ESHUTDOWN && sim_random_coin(&disk->sim->fate))
		sim_undo_sync(file->node, mark);
	if (r < 0)
		return r;
	sim_undo_sync(file->node, draw_mark(disk->sim, mark));
	return 0;
}

int sim_file_do_resize(struct world_file *file, uint64_t size_bytes, bool reserve,
		       uint64_t *ret_change)
{
	struct sim_disk *disk = file->node->disk;
	int r = sim_gate(disk->sim, disk->faults.metadata_error_ppm);

	*ret_change = SIM_NO_CHANGE;
	if (r == 0 && disk->missing)
		r = -EIO;
	if (r < 0)
		return r;
	r = check_write(file, 0, reserve ? size_bytes : 0);
	if (r < 0)
		return r;
	if (size_bytes > SIM_FILE_MAX_BYTES)
		return -EFBIG;
	*ret_change = sim_node_resize(file->node, size_bytes, reserve);
	return 0;
}

static int64_t open_effect(struct sim *sim, struct sim_op *op)
{
	return sim_file_do_open(sim, op->path.path, op->path.flags, &op->path.out.file);
}

static void open_finish(struct sim *sim, struct sim_op *op)
{
	if (op->result == 0)
		*(struct world_file **)op->path.ret = op->path.out.file;
}

/* The name may be there although nobody was told. */
static void open_crash(struct sim *sim, struct sim_op *op)
{
	if (sim_op_stage(op) == SIM_QUEUED && sim_random_coin(&sim->fate))
		(void)open_effect(sim, op);
}

const struct sim_op_type sim_file_open_type = {
	.name = "open",
	.delay = sim_path_delay,
	.effect = open_effect,
	.finish = open_finish,
	.crash = open_crash,
};

void sim_file_open(struct world_port *port, const char *path, unsigned flags,
		   struct world_file **ret_file, struct world_op *op)
{
	struct sim_op *state = sim_op_init(port, op, SIM_OP_OPEN);

	state->path.path = path;
	state->path.flags = flags;
	state->path.ret = ret_file;
	sim_op_submit(state);
}

static int64_t close_effect(struct sim *sim, struct sim_op *op)
{
	return sim_gate(sim, 0);
}

const struct sim_op_type sim_file_close_type = {.name = "close", .effect = close_effect};

void sim_file_close(struct world_port *port, struct world_file *file, struct world_op *op)
{
	struct sim_op *state = sim_op_init(port, op, SIM_OP_CLOSE);

	/* The handle is gone from here on, whatever the result will be. */
	ASSERT(file->in_flight == 0);
	sim_file_free(file);
	sim_op_submit(state);
}

static struct sim_op *io_init(struct world_port *port, struct world_file *file, struct world_op *op,
			      enum sim_op_kind kind)
{
	struct sim_op *state = sim_op_init(port, op, kind);

	file->in_flight++;
	state->io.file = file;
	state->io.change = SIM_NO_CHANGE;
	state->io.mark = ++port->sim->stamp;
	return state;
}

static void io_finish(struct sim *sim, struct sim_op *op)
{
	struct world_file *file = op->io.file;

	file->in_flight--;
	sim_undo_completed(file->node, op->io.change, ++sim->stamp);
}

static void io_delay(struct sim *sim, struct sim_op *op)
{
	const struct sim_faults *faults = &op->io.file->node->disk->faults;

	sim_op_slow(op, faults->slow_ppm, faults->slow_ns);
}

static struct sim_cursor io_cursor(const struct sim_op *op)
{
	return sim_cursor(op->io.iov, op->io.iov_count);
}

static void io_trace(struct sim *sim, const char *what, const struct sim_op *op, int64_t result)
{
	sim_trace(sim, what, op->io.file->node->id, op->io.offset, result);
}

static bool io_cancel(struct sim *sim, struct sim_op *op)
{
	return sim_random_coin(&sim->timing);
}

static int64_t read_effect(struct sim *sim, struct sim_op *op)
{
	int64_t result = sim_file_do_read(op->io.file, io_cursor(op), op->io.offset);

	io_trace(sim, "read at", op, result);
	return result;
}

const struct sim_op_type sim_file_read_type = {
	.name = "read",
	.delay = io_delay,
	.effect = read_effect,
	.finish = io_finish,
	.cancel = io_cancel,
};

void sim_file_read(struct world_port *port, struct world_file *file, const struct iovec *iov,
		   int iov_count, uint64_t offset, struct world_op *op)
{
	struct sim_op *state = io_init(port, file, op, SIM_OP_READ);

	state->io.iov = iov;
	state->io.iov_count = iov_count;
	state->io.offset = offset;
	sim_op_submit(state);
}

static int64_t write_effect(struct sim *sim, struct sim_op *op)
{
	int64_t result =
		sim_file_do_write(op->io.file, io_cursor(op), op->io.offset, &op->io.change);

	io_trace(sim, "write at", op, result);
	return result;
}

static void write_crash(struct sim *sim, struct sim_op *op)
{
	struct sim_cursor cursor = io_cursor(op);

	if (sim_op_stage(op) == SIM_QUEUED && is_aligned(op->io.file, &cursor, op->io.offset))
		write_in_part(op->io.file, cursor, op->io.offset, &op->io.change);
	/* A later sync of the next process covers what landed. */
	sim_undo_completed(op->io.file->node, op->io.change, ++sim->stamp);
}

const struct sim_op_type sim_file_write_type = {
	.name = "write",
	.delay = io_delay,
	.effect = write_effect,
	.finish = io_finish,
	.crash = write_crash,
	.cancel = io_cancel,
};

void sim_file_write(struct world_port *port, struct world_file *file, const struct iovec *iov,
		    int iov_count, uint64_t offset, struct world_op *op)
{
	struct sim_op *state = io_init(port, file, op, SIM_OP_WRITE);

	state->io.iov = iov;
	state->io.iov_count = iov_count;
	state->io.offset = offset;
	sim_op_submit(state);
}

static int64_t sync_effect(struct sim *sim, struct sim_op *op)
{
	int64_t result = sim_file_do_sync(op->io.file, op->io.mark);

	io_trace(sim, "sync of", op, result);
	return result;
}

static void sync_crash(struct sim *sim, struct sim_op *op)
{
	if (sim_op_stage(op) == SIM_QUEUED && sim_random_coin(&sim->fate))
		sim_undo_sync(op->io.file->node, op->io.mark);
}

const struct sim_op_type sim_file_sync_type = {
	.name = "sync",
	.delay = io_delay,
	.effect = sync_effect,
	.finish = io_finish,
	.crash = sync_crash,
	.cancel = io_cancel,
};

void sim_file_sync(struct world_port *port, struct world_file *file, struct world_op *op)
{
	sim_op_submit(io_init(port, file, op, SIM_OP_SYNC));
}

static int64_t resize_effect(struct sim *sim, struct sim_op *op)
{
	int64_t result =
		sim_file_do_resize(op->io.file, op->io.offset, op->io.reserve, &op->io.change);

	io_trace(sim, "resize to", op, result);
	return result;
}

static void resize_crash(struct sim *sim, struct sim_op *op)
{
	if (sim_op_stage(op) == SIM_QUEUED && sim_random_coin(&sim->fate))
		(void)sim_file_do_resize(op->io.file, op->io.offset, op->io.reserve,
					 &op->io.change);
	sim_undo_completed(op->io.file->node, op->io.change, ++sim->stamp);
}

const struct sim_op_type sim_file_resize_type = {
	.name = "resize",
	.delay = io_delay,
	.effect = resize_effect,
	.finish = io_finish,
	.crash = resize_crash,
};

void sim_file_resize(struct world_port *port, struct world_file *file, uint64_t size_bytes,
		     enum world_resize how, struct world_op *op)
{
	struct sim_op *state = io_init(port, file, op, SIM_OP_RESIZE);

	state->io.offset = size_bytes;
	state->io.reserve = how == WORLD_RESIZE_RESERVE;
	sim_op_submit(state);
}

static int64_t stat_effect(struct sim *sim, struct sim_op *op)
{
	return sim_gate(sim, 0);
}

static void stat_finish(struct sim *sim, struct sim_op *op)
{
	const struct sim_node *node = op->io.file->node;

	if (op->result == 0)
		*op->io.ret_stat = (struct world_stat){
			.size_bytes = node->size_bytes,
			.allocated_bytes = node->allocated_pages * SIM_PAGE_BYTES,
		};
	io_finish(sim, op);
}

const struct sim_op_type sim_file_stat_type = {
	.name = "file-stat",
	.delay = io_delay,
	.effect = stat_effect,
	.finish = stat_finish,
};

void sim_file_stat(struct world_port *port, struct world_file *file, struct world_stat *ret_stat,
		   struct world_op *op)
{
	struct sim_op *state = io_init(port, file, op, SIM_OP_FILE_STAT);

	state->io.ret_stat = ret_stat;
	sim_op_submit(state);
}
