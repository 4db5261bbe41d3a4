/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A virtual NVMe controller on one reactor (NVMe 1.4 base specification, with commands of 2.0): it
 * takes commands from queues in guest memory and carries them out on block volumes. Its
 * state is in the memory that it shares with its keeper (vfu/shared.h), so another engine can go
 * on after this one has died; docs/nvme.md has the rules.
 *
 * It knows neither sockets nor descriptors: guest memory is given to it as mapped ranges, and
 * interrupts, wake-ups and answers leave through nvme_host_ops. link.h connects it to a real
 * keeper; the simulator and the tests stand in for one.
 *
 * All functions are called on the controller's home reactor.
 */
#include "block/block.h"
#include "vfu/shared.h"

struct nvme_controller;
struct nvme_reservations;

#define NVME_NAMESPACE_MAX 256u /* namespaces attached to one controller, and the largest nsid */
#define NVME_SERIAL_MAX    20
#define NVME_MODEL_MAX     40

enum nvme_point {                        /* the commit points of rules 2 and 3 */
		  NVME_POINT_FETCHED,    /* in a slot, not yet taken from the queue */
		  NVME_POINT_TAKEN,      /* taken, not yet begun */
		  NVME_POINT_COMPARED,   /* its compare has succeeded, its write is to follow */
		  NVME_POINT_WRITTEN,    /* what it writes is what others read */
		  NVME_POINT_COMPLETING, /* recorded, not yet posted */
		  NVME_POINT_POSTING,    /* about to be written to the guest */
		  NVME_POINT_POSTED,     /* written, tail not yet moved */
		  NVME_POINT_TAIL,       /* tail moved, slot not yet free */
		  NVME_POINT_RECOVERED,  /* recovery has begun what was left */
		  NVME_POINT_RESET,      /* a reset has forgotten the queues and is not yet told */
		  NVME_POINT_COUNT,
};

enum nvme_management_kind {
	NVME_MANAGE_CREATE, /* a namespace of `blocks` of `block_bytes`, not attached */
	NVME_MANAGE_DELETE, /* nsid NVME_NSID_ALL: all that a guest has made */
	NVME_MANAGE_ATTACH,
	NVME_MANAGE_DETACH,
};

struct nvme_management { /* asked for by the guest */
	enum nvme_management_kind kind;
	uint32_t nsid; /* in; of CREATE out */
	uint32_t block_bytes;
	uint64_t blocks;
	/* Which command it is, for the controller's life: asked again, it has the same result. */
	uint32_t epoch;
	uint64_t sequence;
};

struct nvme_host_ops {
	/* Interrupt: MSI-X vector, or vector 0 of INTx. Does not block. */
	void (*interrupt)(void *context, unsigned vector);
	/* Nothing touches the range any more and the controller has forgotten it; the range may be
	 * taken away. */
	void (*unmapped)(void *context, uint32_t id);
	/* Resets up to this count are carried out. */
	void (*quiesced)(void *context, uint32_t reset_count);
	/* The guest has formatted a namespace to blocks of this size: durable when it returns, for
	 * the next attachment's block_bytes. From a fiber. */
	int (*formatted)(void *context, uint32_t nsid, uint32_t block_bytes);
	/* It falls asleep; a doorbell that is written later traps. With shadow doorbells it sees
	 * that the guest has written one before it is kicked: nvme_controller_look() may wake it.
	 * NULL: only kicks wake it. */
	void (*sleeping)(void *context);
	/* 0, an NVMe status, or a negative errno (-ESHUTDOWN: it is left to the next engine). The
	 * effect and the result are durable when it returns; what they are of this controller's
	 * was done by the functions below. From a fiber. Called only with options.manage_bytes. */
	int (*manage)(void *context, struct nvme_management *what);
	/* Takes at once what the keeper has said: ranges and interrupts. NULL: nothing is kept
	 * back. */
	void (*settle)(void *context);
	/* NULL, or for tests that let the engine die there. On the reactor of the controller,
	 * for NVME_POINT_COMPARED and WRITTEN on that of the volume. */
	void (*point)(void *context, enum nvme_point point);
};

struct nvme_controller_options {
	struct reactor *home;
	const struct nvme_host_ops *host;
	void *host_context;
	char name[64];
	char serial[NVME_SERIAL_MAX + 1];
	char model[NVME_MODEL_MAX + 1];
	uint16_t controller_id;       /* CNTLID, unique in the node */
	uint64_t subsystem_id;        /* for the subsystem's NQN; stable for ever */
	uint64_t in_flight_bytes_max; /* data of commands in flight; 0 = default */
	uint16_t io_queues;           /* pairs that the guest may create; 0 = all there are */
	uint64_t manage_bytes;        /* of namespaces that the guest may make; 0 = none */
	/* Other controllers share a namespace and recover at the same time: see
	 * nvme_controller_go_on(). */
	bool gated;
};

struct nvme_namespace_options {
	uint32_t nsid;
	struct block_volume *volume; /* on any reactor; outlives the attachment */
	uint64_t nguid[2];           /* stable for ever */
	uint64_t eui64;              /* 0 = none */
	uint32_t block_bytes; /* logical block for the guest when larger than the volume's; 0 */
	bool read_only;
	bool shared;   /* several controllers have it (NMIC, reservations) */
	bool thin;     /* deallocate gives space back */
	bool managed;  /* the guest has made it */
	bool inactive; /* it exists, but is not attached to the controller as the guest sees it */
	/* Others that share it have gone on without this controller: what a dead engine left to be
	 * written is not written any more, but fails. */
	bool stale;
	/* Of the namespace; the same for all its controllers. NULL: it has none. */
	struct nvme_reservations *reservations;
};

/* Where reservations are kept: rows of a catalog. Called in a fiber of their reactor. */
struct nvme_reservation_ops {
	/* Fills `state` with what was saved last, of the same size; zeros when nothing was. */
	int (*load)(void *context, void *state, size_t size);
	/* Durable when it returns. */
	int (*save)(void *context, const void *state, size_t size);
};
#define NVME_RESERVATION_STATE_BYTES 3600u

/* From a fiber of `home`. Outlives the attachments that name it. -EUCLEAN: what was loaded is not
 * what was saved. */
int nvme_reservations_new(struct reactor *home, const struct nvme_reservation_ops *ops,
			  void *context, struct nvme_reservations **ret_reservations);
void nvme_reservations_free(struct nvme_reservations *reservations);

/* `shared` and `doorbells` outlive the controller. It does nothing before nvme_controller_start().
 * -EPROTO: a layout of another version; -EUCLEAN: contents that no engine wrote; -ENOMEM. */
int nvme_controller_new(const struct nvme_controller_options *options, struct vfu_shared *shared,
			struct vfu_doorbells *doorbells, struct nvme_controller **ret_controller);
/* Guest memory. -EEXIST when it overlaps another range, -ENOSPC beyond VFU_MAP_COUNT. */
int nvme_controller_map(struct nvme_controller *controller, const struct vfu_map *map,
			void *memory);
/* Ends in host->unmapped(), possibly before it returns. Commands that use the range run to their
 * end first; none that comes later reaches it. */
void nvme_controller_unmap(struct nvme_controller *controller, uint32_t id);
/* Recovers what the last engine left (rule 4) and begins to serve. All ranges, interrupts and
 * namespaces that exist have been given before. */
void nvme_controller_start(struct nvme_controller *controller);
/*
 * Recovery of controllers that share a namespace (rule 10) goes in steps: 1, the writes whose
 * compare had succeeded; 2, other writes to shared namespaces; then all the rest and new commands.
 * With options.gated a controller that has done a step waits until it is told to go on, when all
 * others have done it too.
 */
#define NVME_REDO_STEPS 2u
unsigned nvme_controller_redone(const struct nvme_controller *controller); /* steps */
void nvme_controller_go_on(struct nvme_controller *controller, unsigned step);
/* Doorbells or registers may have changed. */
void nvme_controller_kick(struct nvme_controller *controller);
/* Perhaps a shadow doorbell was written. */
void nvme_controller_look(struct nvme_controller *controller);
/* Takes no further command, waits for those in flight (from a fiber), and leaves the shared memory
 * as a live engine's, for the next one. */
void nvme_controller_stop(struct nvme_controller *controller);
void nvme_controller_free(struct nvme_controller *controller); /* stopped or never started */

/* From a fiber. -EEXIST: nsid in use; -EINVAL. The guest is told by an asynchronous event. */
int nvme_namespace_attach(struct nvme_controller *controller,
			  const struct nvme_namespace_options *options);
/* From a fiber; waits for the commands that use it. -ENOENT. */
int nvme_namespace_detach(struct nvme_controller *controller, uint32_t nsid);
/* As the guest attaches and detaches what exists. From a fiber; waits for the commands that use it.
 * -ENOENT. */
int nvme_namespace_set_active(struct nvme_controller *controller, uint32_t nsid, bool active);
/* The volume has another size. */
void nvme_namespace_resized(struct nvme_controller *controller, uint32_t nsid);

struct nvme_stats {
	bool enabled, ready, shutdown, fatal;
	unsigned submission_queues, completion_queues, commands_in_flight, namespaces;
	uint64_t bytes_in_flight;
	uint64_t reads, writes, flushes, others, errors;
	uint64_t bytes_read, bytes_written;
	uint64_t admin_commands, interrupts, wakeups, aborted, poisoned;
};
void nvme_controller_get_stats(const struct nvme_controller *controller,
			       struct nvme_stats *ret_stats);
