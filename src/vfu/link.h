/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What a keeper and the engine say to each other: messages of 64 bytes over a stream socket on
 * which the keeper listens and to which the engine connects, with file descriptors beside them.
 *
 *   engine  HELLO    with the read end of its fence: a pipe whose only write end is registered with
 *                    each of the engine's rings, so it hangs up when the kernel has ended
 *                    the last I/O of a dead engine (rule 1)
 *   keeper  WELCOME  with the shared memory, the doorbells (a file of two pages; they are in the
 *                    second, as in BAR0) and an event that wakes the engine; only
 *                    when the fence of the engine before has hung up
 *   keeper  EARLY    if the hello said so: an event that is there while the client's next message
 *                    waits for the keeper; a hint, for an engine that sleeps, that a doorbell is on
 *                    its way. An epoll instance, edge-triggered: epoll_wait() takes the
 *                    hint. It holds nothing open and nothing can be read from it
 *   keeper  MAP ..., IRQS ..., then READY: all that exists. The engine recovers the controller
 *                    (rule 4) and goes on.
 *   keeper  MAP, UNMAP, IRQS, ATTENTION as the client asks for them; the engine answers UNMAP with
 *                    UNMAPPED when no I/O touches the range any more and it is not mapped any
 *                    more, and ATTENTION is a word that registers have changed (a reset, CC)
 *   engine  RETIRE   the keeper is to end as soon as no client is connected (at once with `value`1)
 *   engine  REPLACE  the keeper executes its program anew with all descriptors kept
 *   engine  QUIESCED resets up to reset_count `value` are carried out
 *   engine  BYE      it has stopped the controller and nothing of it is in flight: then it closes,
 *                    and its fence need not be waited for
 *
 * ATTENTION may also be the event that wakes the engine: that is never too much for a slow one.
 * When the engine does not read for long the keeper hangs up; the engine connects again and gets
 * all that exists. Its hello names the same pipe then, which says that it has stopped the
 * controller before.
 *
 * Both sides refuse a message that they do not know, or one with another number of descriptors than
 * it must have, by closing the connection.
 */
#include <assert.h>
#include <stdint.h>

#define VFU_LINK_VERSION 1u
#define VFU_LINK_FDS_MAX 16

enum vfu_link_type {
	VFU_LINK_HELLO = 1,     /* E: version, value = engine's process id, flags
				 * (vfu_hello_flags); 1 fd */
	VFU_LINK_WELCOME = 2,   /* K: version, value = epoch; 3 fds: shared, doorbells, wake */
	VFU_LINK_REFUSED = 3,   /* K: value = errno; then it closes */
	VFU_LINK_MAP = 4,       /* K: id, address, length, offset, flags (vfu_map_flags); 1 fd */
	VFU_LINK_UNMAP = 5,     /* K: id */
	VFU_LINK_UNMAPPED = 6,  /* E: id */
	VFU_LINK_IRQS = 7,      /* K: kind (enum vfu_irq_kind), first, count; 0 fds (all of the kind
				 * are taken away) or `count` fds */
	VFU_LINK_READY = 8,     /* K */
	VFU_LINK_ATTENTION = 9, /* K */
	VFU_LINK_QUIESCED = 10, /* E: value */
	VFU_LINK_RETIRE = 11,   /* E: value */
	VFU_LINK_REPLACE = 12,  /* E */
	VFU_LINK_BYE = 13,      /* E */
	VFU_LINK_EARLY = 14,    /* K: 1 fd */
};

/* What an engine understands besides version 1. A keeper ignores what it does not know, so that
 * builds of different age work together. */
enum vfu_hello_flags {
	VFU_HELLO_EARLY = 1, /* EARLY may be sent */
};

enum vfu_irq_kind { /* as VFIO numbers them: linux/vfio.h, VFIO_PCI_INTX_IRQ_INDEX and following */
		    VFU_IRQ_INTX = 0,
		    VFU_IRQ_MSIX = 2,
};

struct vfu_link_message {
	uint32_t type;
	uint32_t version; /* HELLO, WELCOME */
	uint64_t value;
	uint32_t id;
	uint32_t flags;
	uint64_t address;
	uint64_t length;
	uint64_t offset; /* in the descriptor's file */
	uint32_t kind, first, count;
	uint32_t reserved;
};
static_assert(sizeof(struct vfu_link_message) == 64, "read and written whole");
