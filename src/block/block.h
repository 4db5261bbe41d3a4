/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The block-volume interface that every layer speaks: a range of bytes in logical blocks, and
 * requests on it.
 *
 * A volume lives on one home reactor; block_submit() is called there and completes the request
 * exactly once, there, never on the submitter's stack. remote.h makes a volume usable from
 * another reactor. The caller owns the request, its iovec and its memory until `done` runs.
 *
 * Requests in flight have no order among each other: not even two that overlap. A caller that needs
 * one waits for the first before it submits the second. Each logical block changes as a whole.
 *
 * Wrappers (a volume in front of another: error.h, delay.h, remote.h, emulate.h). The request
 * that a wrapper is given belongs to it until it completes it: its state for that request lives
 * in request->space, and request->link queues it. The volume below gets a request of its own,
 * because that volume needs a `space` too. It comes from a pool sized when the wrapper is made
 * (sub.h); when the pool is empty, requests wait in order of arrival. So a stack of n wrappers
 * costs one sub-request a level and no allocation. A wrapper does not own the volume below, which
 * is freed after it.
 *
 * Errors, with fixed meanings:
 *   -EINVAL     offset or length not a multiple of the logical block; a length of 0; beyond
 *               max_transfer_bytes; a flag that the operation does not have; an iovec that does not
 *               cover exactly the data, or has more than BLOCK_IOV_MAX elements
 *   -ERANGE     beyond the end of the volume
 *   -EBADMSG    stored data does not match its checksum
 *   -EUCLEAN    stored structure is damaged
 *   -ESTALE     epoch is old, or the volume was closed or taken over
 *   -ENOSPC     pool full: "capacity exceeded", never an I/O error
 *   -EREMOTEIO  a back end failed
 *   -EILSEQ     compare found a difference (miscompare_offset tells where)
 *   -EROFS      read-only volume
 *   -EOPNOTSUPP not an operation of this volume
 *   -EIO        anything else that the medium reports
 */
#include "reactor/fiber.h"

enum block_op {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_WRITE_ZEROES, /* reads as zeros afterwards; may release space */
	BLOCK_UNMAP,        /* contents reads as zeros afterwards; releases space where whole blocks
			     * of the engine are covered */
	BLOCK_FLUSH,        /* everything completed before it is durable; offset and length 0 */
	BLOCK_COMPARE,
	BLOCK_COMPARE_AND_WRITE, /* iov: `length` bytes to compare, then `length` bytes to write */
	BLOCK_STATUS,            /* fills `status` for the range that starts at offset */
	BLOCK_OP_COUNT,
};

enum {
	BLOCK_FUA = 1 << 0,        /* durable before it completes */
	BLOCK_NO_RELEASE = 1 << 1, /* write zeroes: keep the space reserved */
	/* compare-and-write: request->compared is called when the compare has succeeded, before the
	 * first byte is written. On the reactor of the volume that does it. */
	BLOCK_TELL_COMPARED = 1 << 2,
	/* Of all that change contents: request->written is called when what was written is what
	 * others read, and outlives the process; with FUA perhaps before it is durable. It is
	 * called before anything that waited for the range goes on. On the reactor of the volume
	 * that does it; not when the request fails. */
	BLOCK_TELL_WRITTEN = 1 << 3,
};

/* Room in each request for the layer that handles it. Layers below a layer are given requests that
 * the upper one embeds in memory of its own. */
#define BLOCK_SPACE_BYTES 448

#define BLOCK_IOV_MAX                1024
#define BLOCK_DEFAULT_TRANSFER_BYTES (1u << 20)

struct block_status {
	uint64_t length; /* bytes from offset that share the state; at most the request's length */
	bool allocated;
	bool zero;
};

struct block_volume;

enum block_state { /* of a request; kept by block.c to catch what completes twice or too early */
		   BLOCK_STATE_IDLE,
		   BLOCK_STATE_SUBMITTING, /* inside submit(): must not complete here */
		   BLOCK_STATE_IN_FLIGHT,
		   BLOCK_STATE_COMPLETING, /* block_complete_later() was called */
};

struct block_request {
	enum block_op op;
	unsigned flags;
	uint64_t offset; /* bytes */
	uint64_t length; /* bytes */
	const struct iovec *iov;
	int iov_count;
	void (*done)(struct block_request *request, int result);
	void (*compared)(struct block_request *request); /* only with BLOCK_TELL_COMPARED */
	void (*written)(struct block_request *request);  /* only with BLOCK_TELL_WRITTEN */
	struct block_status status;                      /* out, BLOCK_STATUS */
	uint64_t miscompare_offset; /* out, with -EILSEQ: first different byte, from offset */

	/* Owned by the volume from submit to done. */
	struct block_volume *volume;
	struct reactor_work work; /* for completing later in the turn */
	int result;
	enum block_state state;
	uint64_t submitted_ns; /* the start of the turn it was submitted in */
	struct list_node link;
	_Alignas(16) unsigned char space[BLOCK_SPACE_BYTES];
};

/* The request whose `space` this is. */
static inline struct block_request *block_request_of(void *space)
{
	return CONTAINER_OF(space, struct block_request, space);
}

struct block_volume_ops {
	const char *kind;
	/* The request was validated by block_submit(). */
	void (*submit)(struct block_volume *volume, struct block_request *request);
	/* Frees the volume. No request is in flight. */
	void (*free)(struct block_volume *volume);
};

struct block_volume {
	const struct block_volume_ops *ops;
	struct reactor *home;
	uint64_t size_bytes;
	uint32_t block_bytes;          /* logical block: 512 or 4096 */
	uint32_t physical_block_bytes; /* writes of this size and alignment need no merge */
	uint32_t max_transfer_bytes;   /* of reads, writes and compares; others have no limit */
	bool read_only;
	uint64_t in_flight;
};

/* block_bytes is 512 or 4096 and divides size_bytes. The other fields get defaults: physical
 * blocks as logical ones, BLOCK_DEFAULT_TRANSFER_BYTES, writable. */
void block_volume_init(struct block_volume *volume, const struct block_volume_ops *ops,
		       struct reactor *home, uint64_t size_bytes, uint32_t block_bytes);
/* The same for a wrapper at `home`: geometry and read_only as of the volume below. */
void block_volume_init_like(struct block_volume *volume, const struct block_volume_ops *ops,
			    struct reactor *home, const struct block_volume *below);
/* 0, or -EINVAL when no volume may have this geometry. For the constructors of volumes. */
int block_check_geometry(uint64_t size_bytes, uint32_t block_bytes);

/* What the operation does: transfers data through iov; changes what is stored. */
bool block_op_has_data(enum block_op op);
bool block_op_is_write(enum block_op op);
const char *block_op_name(enum block_op op); /* "read", "compare-and-write"; "?" for no operation */

/* 0, or the error with which block_submit() would refuse the request. */
int block_validate(const struct block_volume *volume, const struct block_request *request);
/* Validates (fields above, iov covers exactly the bytes the op needs), then hands to the volume. */
void block_submit(struct block_volume *volume, struct block_request *request);
/* For volumes: completes the request now. Not on the submitter's stack. */
void block_complete(struct block_request *request, int result);
/* For volumes: completes later in this turn; for use inside submit. */
void block_complete_later(struct block_request *request, int result);

/* For volumes: the compare of a compare-and-write has succeeded. */
static inline void block_compared(struct block_request *request)
{
	if (request->flags & BLOCK_TELL_COMPARED)
		request->compared(request);
}

/* For volumes: all that it writes is written. */
static inline void block_written(struct block_request *request)
{
	if (UNLIKELY(request->flags & BLOCK_TELL_WRITTEN))
		request->written(request);
}

/* A request for which a fiber waits. The caller fills request's input fields but `done`. */
struct block_wait {
	struct block_request request;
	struct fiber *fiber;
	bool finished;
};
/* From a fiber on the home reactor. Outputs are in wait->request. */
int block_wait(struct block_volume *volume, struct block_wait *wait);

/* From a fiber on the home reactor: one request, waiting for it. `buffer` holds `length` bytes,
 * twice that for BLOCK_COMPARE_AND_WRITE, and is NULL for operations without data. */
int block_io(struct block_volume *volume, enum block_op op, unsigned flags, void *buffer,
	     uint64_t length, uint64_t offset);

void block_volume_free(struct block_volume *volume); /* NULL is fine */
