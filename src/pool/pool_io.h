/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Data I/O on a pool's files. A file has one to three copies, each on a disk of its own: writes go
 * to all of them, reads to one.
 *
 * A copy takes part as long as it is open, the file's row does not call it stale, and no sync of it
 * has failed since the file was opened (it has "failed" then: what it holds is not known any more).
 * A write that fails leaves a copy without what was being written, but with all before.
 *
 * On the reactor that opened the file. Completions never run inside the call that submits.
 */
#include "pool/pool.h"
#include "reactor/fiber.h"

struct pool_file_copy;
struct pool_handle;
struct pool_disk;

/* One operation on one disk. */
struct pool_flight {
	struct list_node link; /* of the reactor's operations, oldest first */
	struct pool_disk *disk;
	struct pool_handle *handle; /* NULL: it uses none */
	uint64_t start_ns;
	uint64_t due_ns; /* it is late from then on */
	bool late;
	/* It takes too long: called again and again until it ends. NULL: nothing to be done. */
	void (*overdue)(struct pool_flight *flight);
};

/*
 * A disk may hang. What takes longer there than it may is given up, with -ETIMEDOUT, where another
 * copy can do: `done` runs then, but the structure and all that it names still belong to the
 * kernel, until `released` runs. Only where that is not NULL is anything given up.
 * pool_write_is_held() and pool_read_is_held() tell `done` whether it is so. What was under way on
 * a disk when that was declared failed does not have as long.
 */
struct pool_write { /* embedded by the caller, with all it names, until `done` */
	void (*done)(struct pool_write *write, int result);
	void (*released)(struct pool_write *write); /* or NULL */
	/* Private from submit to done. */
	struct pool_file *file;
	struct pool_flight flights[POOL_COPIES_MAX];
	struct world_op ops[POOL_COPIES_MAX];
	struct reactor_work nowhere;
	unsigned pending, late; /* operations; those that take too long */
	unsigned good;          /* operations that succeeded */
	int result;
	bool told;  /* `done` has run */
	bool alone; /* pool_file_write_copy() */
};
/* Completes with 0 when all copies that take part have it, else with the first error; -EIO when no
 * copy takes part. A copy on a disk that is missing or failed is not tried, if the pool has others:
 * -EIO. -ETIMEDOUT: some copies have it, the disks of the others hang. */
void pool_file_write(struct pool_file *file, const struct iovec *iov, int iov_count,
		     uint64_t offset, struct pool_write *write);
static inline bool pool_write_is_held(const struct pool_write *write)
{
	return write->pending > 0;
}

struct pool_read {
	void (*done)(struct pool_read *read, int64_t result);
	void (*released)(struct pool_read *read); /* or NULL */
	/* Or NULL: called now and then between `done` and `released`; ends nothing. */
	void (*kept)(struct pool_read *read);
	/* Private from submit to done. */
	struct pool_file *file;
	struct pool_flight flight;
	struct world_op op;
	struct reactor_work nowhere;
	unsigned copy;
	int refusal;
	bool pending, told;
	bool any; /* pool_file_read() */
};
/* From the copy that is best to read now (of those on disks in order, the one whose disk has least
 * to do): bytes read, fewer only at the end of the file, or its
 * error. -EIO when no copy can be reached. -ETIMEDOUT: that disk hangs, or has failed, and another
 * copy may have it, if only one on a disk that has failed. */
void pool_file_read(struct pool_file *file, const struct iovec *iov, int iov_count, uint64_t offset,
		    struct pool_read *read);
/* Whether the disk of that copy hangs. */
bool pool_file_is_silent(const struct pool_file *file, unsigned copy);
static inline bool pool_read_is_held(const struct pool_read *read)
{
	return read->pending;
}
/* Whether reads may be given up, so that they must not go into memory of somebody else's. Of what
 * has one copy only those are that begin when its disk hangs already. */
bool pool_file_reads_apart(const struct pool_file *file);

/* One copy, whatever others have, also one that was just added: for who has several of these under
 * way. -ENXIO when it is stale or cannot be reached; -ETIMEDOUT when its disk hangs and another
 * copy can do. Memory for them: pool_buffer.h. */
void pool_file_write_copy(struct pool_file *file, unsigned copy, const struct iovec *iov,
			  uint64_t offset, struct pool_write *write);
void pool_file_read_copy(struct pool_file *file, unsigned copy, const struct iovec *iov,
			 uint64_t offset, struct pool_read *read);

/* The same from fibers. All that follows gives up what takes too long where another copy can do. */
int pool_io_write(struct pool_file *file, const void *buffer, size_t length, uint64_t offset);

/* One copy, whatever others have, also one that was just added. -ENXIO when it is stale or cannot
 * be reached; -ENODATA when the file ends
 * before `length`. From fibers. */
int pool_io_read_copy(struct pool_file *file, unsigned copy, void *buffer, size_t length,
		      uint64_t offset);
/* The same, but it is given up (-ETIMEDOUT) also where only a copy on a disk that has failed may
 * have it: for who asks that then. */
int pool_io_read_copy_or_resort(struct pool_file *file, unsigned copy, void *buffer, size_t length,
				uint64_t offset);
/* Bytes read, fewer only at the end of the file. */
int64_t pool_io_read_some(struct pool_file *file, unsigned copy, void *buffer, size_t length,
			  uint64_t offset);
int pool_io_write_copy(struct pool_file *file, unsigned copy, const void *buffer, size_t length,
		       uint64_t offset);
int pool_io_sync_copy(struct pool_file *file, unsigned copy);

/* Syncs every copy that takes part; one that errs has failed. 0 when at least one is synced: then
 * pool_file_failed() tells what the file's row must call stale before anybody is told that the data
 * are durable. Else the first error. From fibers. */
int pool_io_sync(struct pool_file *file);

/* The copy that is best to read now; 0 when none can be reached. */
unsigned pool_file_best_copy(struct pool_file *file);

/* Bits of copies. */
unsigned pool_file_taking_part(const struct pool_file *file);
unsigned pool_file_failed(const struct pool_file *file);
/* Those that were opened when their disks had failed: they can be read, and take no part. */
unsigned pool_file_resorts(const struct pool_file *file);
