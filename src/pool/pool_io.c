/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See pool_io.h. A file and its operations live on the reactor that opened the file.
 *
 * Invariants
 *  1. Every operation is a flight (pool_watch.c) and has a reference to its handle. It looks at
 *     neither the file nor its copies once its caller was told: they may be gone by then.
 *  2. Every operation is counted at the copy's disk, when it begins and when it ends.
 *  3. A write is given up on some copies only when it has succeeded on another; a read, when
 *     another copy can be read, or when its disk has failed. So what has one copy waits as long as
 *     the disk does, or until that is given up. A write that was given up leaves its copy as one
 *     that failed does: with all before it. When it lands later, it lands where no record that
 *     counts is: nothing is appended to its group any more.
 */
#include "pool/pool_io.h"

#include <errno.h>
#include <string.h>

#include "base/macros.h"
#include "base/reached.h"
#include "pool/pool_io_priv.h"

unsigned pool_file_taking_part(const struct pool_file *file)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < file->copy_count; i++)
		bits |= (unsigned)pool_copy_takes_part(file->copies[i]) << i;
	return bits;
}

unsigned pool_file_failed(const struct pool_file *file)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < file->copy_count && i < POOL_COPIES_MAX; i++)
		bits |= (unsigned)file->copies[i]->failed << i;
	return bits;
}

unsigned pool_file_resorts(const struct pool_file *file)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < file->copy_count; i++) {
		const struct pool_file_copy *copy = file->copies[i];

		bits |= (unsigned)(copy->handle && copy->resort && !copy->stale) << i;
	}
	return bits;
}

bool pool_io_has_other(const struct pool_file *file, const struct pool_file_copy *copy)
{
	for (unsigned i = 0; i < file->copy_count; i++)
		if (file->copies[i] != copy && pool_copy_takes_part(file->copies[i]))
			return true;
	return false;
}

bool pool_io_has_copies(const struct pool_file *file)
{
	const struct pool_disk *disk = file->copies[0]->disk;

	return file->copy_count > 1 || (disk && pool_disk_is_failed(disk));
}

bool pool_file_reads_apart(const struct pool_file *file)
{
	const struct pool_disk *disk = file->copies[0]->disk;

	return pool_io_has_copies(file) || (disk && pool_disk_is_silent(disk));
}

void pool_io_begins(struct pool_flight *flight, struct pool_file_copy *copy)
{
	pool_disk_io_begins(copy->disk);
	pool_flight_begins(flight, copy->disk, copy->handle);
}

void pool_io_ends(struct pool_flight *flight, enum pool_disk_io kind, int64_t result)
{
	/* How long a sync takes says little about the disk. */
	uint64_t start_ns = kind == POOL_DISK_SYNCS ? 0 : flight->start_ns;

	pool_disk_io_ends(flight->disk, kind, start_ns, result);
	pool_flight_ends(flight);
}

/* Writing */

static void write_tell(struct pool_write *write, int result)
{
	write->told = true;
	write->done(write, result);
}

/* One fewer under way. */
static void write_goes_on(struct pool_write *write, int64_t result)
{
	if (result < 0 && write->result == 0)
		write->result = (int)result;
	write->good += result >= 0;
	ASSERT(write->pending > 0);
	if (--write->pending > 0) {
		/* The last that was waited for may be the one that succeeded. */
		if (write->late == write->pending && write->good > 0 && !write->told &&
		    write->released)
			write_tell(write, -ETIMEDOUT);
	} else if (write->told) {
		write->released(write);
	} else {
		write_tell(write, write->result);
	}
}

static void write_ends(struct pool_write *write, unsigned index, int64_t result)
{
	write->late -= write->flights[index].late;
	pool_io_ends(&write->flights[index], POOL_DISK_WRITES, result);
	write->flights[index].late = false;
	write_goes_on(write, result);
}

/* What one copy alone was to get is worth no waiting while another is in order. The file is there:
 * nobody was told. */
static bool write_is_elsewhere(const struct pool_write *write)
{
	if (write->alone)
		return pool_io_can_do_without(write->file, write->flights[0].handle);
	return write->good > 0;
}

static void write_overdue(struct pool_write *write)
{
	unsigned late = 0;

	for (unsigned i = 0; i < POOL_COPIES_MAX; i++)
		late += write->flights[i].late;
	write->late = late;
	if (late == write->pending && !write->told && write->released &&
	    write_is_elsewhere(write)) {
		REACHED("pool.write-given-up");
		write_tell(write, -ETIMEDOUT);
	}
}

/* One function a copy: an operation does not know its place in the array. */
static void write_done_0(struct world_op *op, int64_t result)
{
	write_ends(CONTAINER_OF(op, struct pool_write, ops[0]), 0, result);
}

static void write_done_1(struct world_op *op, int64_t result)
{
	write_ends(CONTAINER_OF(op, struct pool_write, ops[1]), 1, result);
}

static void write_done_2(struct world_op *op, int64_t result)
{
	write_ends(CONTAINER_OF(op, struct pool_write, ops[2]), 2, result);
}

static void write_done_3(struct world_op *op, int64_t result)
{
	write_ends(CONTAINER_OF(op, struct pool_write, ops[3]), 3, result);
}

static void write_overdue_0(struct pool_flight *flight)
{
	write_overdue(CONTAINER_OF(flight, struct pool_write, flights[0]));
}

static void write_overdue_1(struct pool_flight *flight)
{
	write_overdue(CONTAINER_OF(flight, struct pool_write, flights[1]));
}

static void write_overdue_2(struct pool_flight *flight)
{
	write_overdue(CONTAINER_OF(flight, struct pool_write, flights[2]));
}

static void write_overdue_3(struct pool_flight *flight)
{
	write_overdue(CONTAINER_OF(flight, struct pool_write, flights[3]));
}

static const struct {
	void (*done)(struct world_op *op, int64_t result);
	void (*overdue)(struct pool_flight *flight);
} write_calls[] = {
	{write_done_0, write_overdue_0},
	{write_done_1, write_overdue_1},
	{write_done_2, write_overdue_2},
	{write_done_3, write_overdue_3},
};
_Static_assert(ARRAY_SIZE(write_calls) == POOL_COPIES_MAX, "one for each copy");

static void write_to_nothing(struct reactor_work *work)
{
	write_goes_on(CONTAINER_OF(work, struct pool_write, nowhere), 0);
}

static void refuse_write(struct pool_write *write, int error)
{
	if (write->result == 0)
		write->result = error;
	write->pending = 1;
	list_node_init(&write->nowhere.link);
	write->nowhere.run = write_to_nothing;
	reactor_defer(reactor_current(), &write->nowhere);
}

int pool_io_refuses(const struct pool_file_copy *copy)
{
	if (pool_disk_is_failed(copy->disk))
		return -EIO;
	if (copy->read_only)
		return -EROFS;
	return pool_disk_refuses(copy->disk) ? -EIO : 0;
}

/* Copies that are written; those that would be, but refuse, make it an error. */
static unsigned choose_targets(struct pool_write *write)
{
	const struct pool_file *file = write->file;
	unsigned targets = pool_file_taking_part(file);

	for (unsigned i = 0; i < file->copy_count; i++) {
		int r = targets >> i & 1 ? pool_io_refuses(file->copies[i]) : 0;

		if (r == 0)
			continue;
		targets &= ~(1u << i);
		write->result = r;
	}
	return targets;
}

static void write_begins(struct pool_write *write, struct pool_file *file)
{
	write->file = file;
	write->result = 0;
	write->pending = write->late = write->good = 0;
	write->told = write->alone = false;
	memset(write->flights, 0, sizeof(write->flights));
}

static void write_to(struct pool_write *write, unsigned index, struct pool_file_copy *copy,
		     const struct iovec *iov, int iov_count, uint64_t offset)
{
	write->pending++;
	write->flights[index].overdue = write_calls[index].overdue;
	pool_io_begins(&write->flights[index], copy);
	write->ops[index].done = write_calls[index].done;
	copy->disk->pool->world->ops->file_write(reactor_port(reactor_current()),
						 copy->handle->file, iov, iov_count, offset,
						 &write->ops[index]);
}

void pool_file_write(struct pool_file *file, const struct iovec *iov, int iov_count,
		     uint64_t offset, struct pool_write *write)
{
	unsigned targets;

	write_begins(write, file);
	targets = choose_targets(write);
	for (unsigned i = 0; i < file->copy_count; i++)
		if (targets >> i & 1)
			write_to(write, i, file->copies[i], iov, iov_count, offset);
	if (!targets)
		refuse_write(write, -EIO);
}

struct pool_file_copy *pool_io_copy_at(const struct pool_file *file, unsigned copy)
{
	if (copy >= file->copy_count || !file->copies[copy]->handle || file->copies[copy]->stale)
		return NULL;
	return file->copies[copy];
}

/* Its disk hangs and another copy can do: nothing is begun there. */
static bool is_hopeless(const struct pool_file *file, const struct pool_file_copy *copy)
{
	return pool_disk_is_silent(copy->disk) && pool_io_can_do_without(file, copy->handle);
}

void pool_file_write_copy(struct pool_file *file, unsigned copy, const struct iovec *iov,
			  uint64_t offset, struct pool_write *write)
{
	struct pool_file_copy *target = pool_io_copy_at(file, copy);
	int r = target ? pool_io_refuses(target) : -ENXIO;

	write_begins(write, file);
	write->alone = true;
	if (r == 0 && is_hopeless(file, target))
		r = -ETIMEDOUT;
	if (r < 0)
		refuse_write(write, r);
	else
		write_to(write, 0, target, iov, 1, offset);
}

/* Reading */

/* How little a copy is wanted: first by what is wrong with it, then by what its disk has to do. */
static uint64_t reluctance(const struct pool_file_copy *copy)
{
	enum pool_disk_state state = pool_disk_state_of(copy->disk);
	uint64_t rank = state == POOL_DISK_FAILED    ? 3
			: state == POOL_DISK_MISSING ? 2
			: state == POOL_DISK_SUSPECT ? 1
						     : 0;

	if (pool_disk_is_silent(copy->disk))
		rank += 4;
	/* One that failed may still hold what was there before. */
	if (copy->failed)
		rank += 8;
	return rank << 32 | atomic_load_explicit(&copy->disk->health.busy, memory_order_relaxed);
}

static bool can_be_read(const struct pool_file_copy *copy)
{
	return copy->handle && !copy->stale && !copy->joining;
}

bool pool_io_can_do_without(const struct pool_file *file, const struct pool_handle *handle)
{
	if (pool_disk_is_failed(handle->disk)) /* nobody waits for it */
		return true;
	for (unsigned i = 0; i < file->copy_count; i++) {
		const struct pool_file_copy *copy = file->copies[i];

		if (copy->handle != handle && can_be_read(copy) && !copy->failed &&
		    !pool_disk_is_gone(copy->disk) && !pool_disk_is_silent(copy->disk))
			return true;
	}
	return false;
}

/* It counts, was opened or can be, and nothing takes too long there. */
static bool is_a_resort(const struct pool_file_copy *copy)
{
	return copy->disk && pool_disk_is_failed(copy->disk) && !pool_disk_is_silent(copy->disk) &&
	       !copy->stale && !copy->failed && !copy->joining;
}

bool pool_io_can_be_read_elsewhere(const struct pool_file *file, const struct pool_handle *handle)
{
	if (pool_io_can_do_without(file, handle))
		return true;
	for (unsigned i = 0; i < file->copy_count; i++)
		if (file->copies[i]->handle != handle && is_a_resort(file->copies[i]))
			return true;
	return false;
}

/* -1: there is none. */
static int best_to_read(struct pool_file *file)
{
	uint64_t least = UINT64_MAX;
	int best = -1;

	if (file->copy_count == 1)
		return file->copies[0]->handle && !file->copies[0]->stale ? 0 : -1;
	file->turn++;
	for (unsigned i = 0; i < file->copy_count; i++) {
		unsigned at = (file->turn + i) % file->copy_count;
		const struct pool_file_copy *copy = file->copies[at];
		uint64_t reluctant;

		if (!can_be_read(copy))
			continue;
		reluctant = reluctance(copy);
		if (reluctant < least)
			best = (int)at;
		least = MIN(least, reluctant);
	}
	return best;
}

bool pool_file_is_silent(const struct pool_file *file, unsigned copy)
{
	return copy < file->copy_count && file->copies[copy]->disk &&
	       pool_disk_is_silent(file->copies[copy]->disk);
}

unsigned pool_file_best_copy(struct pool_file *file)
{
	int copy = best_to_read(file);

	return copy < 0 ? 0 : (unsigned)copy;
}

static void read_ends(struct world_op *op, int64_t result)
{
	struct pool_read *read = CONTAINER_OF(op, struct pool_read, op);

	pool_io_ends(&read->flight, POOL_DISK_READS, result);
	read->pending = false;
	if (read->told)
		read->released(read);
	else
		read->done(read, result);
}

static bool can_be_left(const struct pool_read *read)
{
	const struct pool_handle *handle = read->flight.handle;

	return read->any ? pool_io_can_be_read_elsewhere(read->file, handle)
			 : pool_io_can_do_without(read->file, handle);
}

static void read_overdue(struct pool_flight *flight)
{
	struct pool_read *read = CONTAINER_OF(flight, struct pool_read, flight);

	if (read->told) {
		if (read->kept)
			read->kept(read);
		return;
	}
	if (!read->released || !can_be_left(read))
		return;
	REACHED("pool.read-given-up");
	read->told = true;
	read->done(read, -ETIMEDOUT);
}

static void read_from_nothing(struct reactor_work *work)
{
	struct pool_read *read = CONTAINER_OF(work, struct pool_read, nowhere);

	read->done(read, read->refusal);
}

static void refuse_read(struct pool_read *read, int error)
{
	read->refusal = error;
	list_node_init(&read->nowhere.link);
	read->nowhere.run = read_from_nothing;
	reactor_defer(reactor_current(), &read->nowhere);
}

static void read_from(struct pool_read *read, struct pool_file_copy *source,
		      const struct iovec *iov, int iov_count, uint64_t offset)
{
	read->pending = true;
	read->flight.overdue = read_overdue;
	pool_io_begins(&read->flight, source);
	read->op.done = read_ends;
	read->file->pool->world->ops->file_read(reactor_port(reactor_current()),
						source->handle->file, iov, iov_count, offset,
						&read->op);
}

void pool_file_read(struct pool_file *file, const struct iovec *iov, int iov_count, uint64_t offset,
		    struct pool_read *read)
{
	int copy = best_to_read(file);

	read->file = file;
	read->told = read->pending = false;
	read->any = true;
	read->copy = copy < 0 ? POOL_COPIES_MAX : (unsigned)copy;
	if (copy < 0)
		refuse_read(read, -EIO);
	else
		read_from(read, file->copies[copy], iov, iov_count, offset);
}

void pool_file_read_copy(struct pool_file *file, unsigned copy, const struct iovec *iov,
			 uint64_t offset, struct pool_read *read)
{
	struct pool_file_copy *source = pool_io_copy_at(file, copy);

	read->file = file;
	read->told = read->pending = read->any = false;
	read->copy = copy;
	if (!source || is_hopeless(file, source))
		refuse_read(read, source ? -ETIMEDOUT : -ENXIO);
	else
		read_from(read, source, iov, 1, offset);
}
