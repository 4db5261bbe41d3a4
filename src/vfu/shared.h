/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What a controller's keeper and the engine share: a memory file that the keeper makes and that
 * outlives the engine. It holds the NVMe registers, the queues, and a slot for each command that
 * was fetched and not yet completed, so that a new engine goes on where a dead one stopped
 * (docs/nvme.md has the rules, whose numbers are quoted here).
 *
 * The guest cannot reach this memory. Its doorbells are a memory file of their own, one page,
 * which may be mapped into the guest (struct vfu_doorbells); they are hostile input.
 *
 * Each field has one writer, named in its comment: K = keeper, E = engine. Fields that the other
 * side reads while they change are accessed with vfu_load() and vfu_store(). The layout is
 * versioned (rule 9): an engine refuses a version that it does not know.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define VFU_SHARED_MAGIC   UINT64_C(0x3172656c6c727473)
#define VFU_SHARED_VERSION 1u

#define VFU_PAGE_BYTES   4096u
#define VFU_BAR0_BYTES   (4 * VFU_PAGE_BYTES) /* registers, doorbells, MSI-X table, pending bits */
#define VFU_QUEUE_COUNT  129u                 /* of each kind, the admin queue included */
#define VFU_QUEUE_DEPTH  1024u                /* entries of one queue at most: CAP.MQES + 1 */
#define VFU_SLOT_COUNT   2048u                /* commands fetched and not yet completed */
#define VFU_VECTOR_COUNT 129u                 /* MSI-X vectors */
#define VFU_MAP_COUNT    1024u                /* ranges of guest memory */

/* CAP (NVMe 1.4, 3.1.1) of a controller: MQES, CQR, TO 127.5 s (rule 6), NVM command set, pages and
 * doorbell stride of 4 KiB and 4 bytes only. VS is 1.4. */
#define VFU_CAP                                                                       \
	((uint64_t)(VFU_QUEUE_DEPTH - 1) | UINT64_C(1) << 16 | UINT64_C(0xff) << 24 | \
	 UINT64_C(1) << 37)
#define VFU_VS 0x00010400u

#define vfu_load(pointer)         __atomic_load_n(pointer, __ATOMIC_ACQUIRE)
#define vfu_store(pointer, value) __atomic_store_n(pointer, value, __ATOMIC_RELEASE)

/* NVMe 1.4, section 3.1. */
struct vfu_registers {
	uint64_t cap;  /* K, at start */
	uint32_t vs;   /* K, at start */
	uint32_t intm; /* K: what INTMS and INTMC leave masked */
	uint32_t cc;   /* K: as the guest wrote it last */
	uint32_t csts; /* E; K only while it makes the file */
	uint32_t nssr; /* K: subsystem resets asked for; 0 while CAP.NSSRS is 0 */
	uint32_t aqa;  /* K */
	uint64_t asq;  /* K */
	uint64_t acq;  /* K */
	/*
	 * Resets. K adds one to `disable_count` when CC.EN falls, and to `reset_count` for a device
	 * or function-level reset (which clears CC too, before). E ends all commands, forgets the
	 * queues, clears RDY, and then copies the count that it had read to `..._done`. Only
	 * then it looks at CC.EN. So no fall of EN is missed, however short it was.
	 */
	uint32_t disable_count; /* K */
	uint32_t disable_done;  /* E */
	uint32_t reset_count;   /* K */
	uint32_t reset_done;    /* E */
	uint32_t shutdown_done; /* E: the CC.SHN that was carried out */
	uint32_t reserved;
};

enum vfu_queue_state {
	VFU_QUEUE_ABSENT = 0,
	VFU_QUEUE_LIVE = 1,
	VFU_QUEUE_DELETING = 2, /* takes no further command; those in flight end */
};

struct vfu_sq {         /* E */
	uint64_t base;  /* address in guest memory */
	uint32_t state; /* enum vfu_queue_state */
	uint16_t depth; /* entries */
	uint16_t cqid;
	uint16_t priority;
	uint16_t fetched;       /* command_count % depth, for people */
	uint32_t epoch;         /* of its sequences: admin.generation when it was made */
	uint64_t command_count; /* fetched since it was created, also the next command's sequence:
				 * the commit point of rule 2 */
};

struct vfu_cq { /* E */
	uint64_t base;
	uint32_t state;
	uint16_t depth;
	uint16_t vector;
	uint16_t interrupts; /* 1: enabled */
	uint16_t reserved;
	uint32_t posting; /* the low half of (position + 1) that is, or was last, being posted */
	uint64_t tail; /* entries posted since it was created: index = tail % depth, and the phase
			* is 1 while tail / depth is even. The commit point of rule 3 */
};

enum vfu_slot_state {
	VFU_SLOT_FREE = 0,
	VFU_SLOT_FETCHED = 1,
	VFU_SLOT_COMPARED = 2,   /* its compare succeeded, its write is to follow (rule 5) */
	VFU_SLOT_COMPLETING = 3, /* `cqe`, `cq_position` are valid */
};

struct vfu_slot { /* E */
	uint32_t state;
	uint16_t sqid;
	uint16_t cqid;
	uint64_t sequence;    /* of its submission queue */
	uint64_t cq_position; /* vfu_cq.tail at which cqe is posted */
	uint32_t attempts;    /* engines that began to execute it (rule 5) */
	uint32_t note;        /* for the controller: progress of a command of several steps */
	uint8_t cqe[16];
	uint32_t alone; /* engines that began to execute it with no other beside it (rule 5) */
	uint8_t reserved[12];
	uint8_t sqe[64];
};
static_assert(sizeof(struct vfu_slot) == 128, "a slot is two cache lines");

/* Changed by admin commands, kept over a change of engines, forgotten at a reset. E */
struct vfu_admin_state {
	uint64_t shadow_doorbells, event_indexes; /* guest addresses; 0 = not configured */
	uint32_t features[64]; /* current value by feature id, as the controller defines them */
	uint32_t aer_count, aer_slots[16];   /* outstanding event requests: indexes of slots */
	uint32_t event_mask, events_pending; /* as the controller defines them */
	uint64_t namespaces_changed[16];     /* bitmap of nsid 1 to 1024 */
	uint64_t direct_vectors[4];          /* bitmap: interrupts that are not coalesced */
	uint8_t host_id[16];
	uint64_t generation;                /* names this epoch of sequences; survives resets */
	uint64_t notice_total, notices[16]; /* reservation notices: nsid << 8 | type, in order */
	uint32_t notice_count;
	uint32_t reserved;
	uint64_t namespaces_known[4]; /* bitmap of nsid - 1: the guest knows that it is there */
	/* Checksum of the sizes of those; 0: made by an engine that keeps none. */
	uint32_t namespaces_sizes;
	uint8_t reserved_more[20];
};

/* What the SMART log counts, over engines and resets. E: now and then, not with each command */
struct vfu_smart {
	uint64_t reads, writes, bytes_read, bytes_written, errors;
};

struct vfu_map {          /* K */
	uint64_t address; /* in guest memory */
	uint64_t length;  /* 0 = free entry */
	uint32_t id;      /* never reused while the keeper lives */
	uint32_t flags;   /* enum vfu_map_flags */
};

enum vfu_map_flags {
	VFU_MAP_READ = 1 << 0,
	VFU_MAP_WRITE = 1 << 1,
	VFU_MAP_MEMORY = 1 << 2, /* came with a file: the engine can reach it */
};

struct vfu_counters { /* K */
	uint64_t messages, traps, doorbell_traps, maps, unmaps, resets, engines;
	uint64_t longest_message_ns;
};

struct vfu_shared {
	uint64_t magic;
	uint32_t version;
	uint32_t bytes; /* of this structure */
	uint64_t keeper_pid;
	uint32_t client_connected; /* K: a virtual machine is there */
	uint32_t engine_asleep;    /* E: 1 = kick it when a doorbell was written (rule 8) */
	uint64_t engine_epoch;     /* K: one more with each engine that was welcomed */
	uint32_t doorbells_mapped; /* K, at start: the guest may write doorbells without a trap */
	uint32_t msix_enabled;     /* K: MSI-X rather than INTx */
	struct vfu_counters counters;
	/* K: messages on the engine's link. The client gets its answer after the message that its
	 * request caused, so an engine that has seen what the client did next finds it counted. */
	uint64_t told;
	uint32_t keeper_build; /* K: build_number(); 0: one that did not tell yet */
	_Alignas(64) struct vfu_registers registers;
	struct vfu_smart smart; /* zeros of a keeper that does not know it */
	_Alignas(64) struct vfu_admin_state admin;
	_Alignas(64) struct vfu_sq sqs[VFU_QUEUE_COUNT];
	_Alignas(64) struct vfu_cq cqs[VFU_QUEUE_COUNT];
	_Alignas(64) struct vfu_map maps[VFU_MAP_COUNT];
	_Alignas(64) uint8_t pci_config[VFU_PAGE_BYTES]; /* K */
	_Alignas(64) struct vfu_slot slots[VFU_SLOT_COUNT];
};

static_assert(offsetof(struct vfu_shared, registers) == 128, "known to keepers without `told`");

static_assert(offsetof(struct vfu_shared, admin) == 256, "never changed within a version");

/* BAR0 + 0x1000, stride 4: submission tail, completion head of queue 0, of queue 1, ... Written by
 * the keeper for a trapped doorbell, or by the guest itself. */
struct vfu_doorbells {
	struct {
		uint32_t sq_tail;
		uint32_t cq_head;
	} queues[VFU_PAGE_BYTES / 8];
};
static_assert(sizeof(struct vfu_doorbells) == VFU_PAGE_BYTES, "one page");
