/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One thread, one poll loop:
 *
 *   keeper.c   sockets, the loop, signals
 *   client.c   messages of the virtual machine, and answers
 *   device.c   configuration space and registers
 *   memory.c   ranges of guest memory
 *   engine.c   the engine's connection, its fence, and what waits for it
 *   replace.c  a newer build takes over
 *   confine.c  the system calls it may make
 *
 * Invariants:
 *
 * 1. Messages of the client are answered in their order. While one waits (enum keeper_wait) no
 *    other is read.
 * 2. A message waits only for a live engine's word (UNMAPPED, QUIESCED), or for a dead engine's
 *    fence. A live engine that takes KEEPER_PATIENCE_MS is killed (rule 7); when even its fence
 *    does not come the answer is an error after KEEPER_ANSWER_MS. Both are counted from
 *    the first message of a batch, since QEMU awaits only the last. So an answer comes within its
 *    5 s.
 * 3. An engine is welcomed when the fence of the one before has hung up and nothing waits (rule 1).
 * 4. `shared` and `doorbells` are valid from the start to the end of the process, and over
 *    REPLACE.
 */
#include "keeper/keeper.h"

#include <signal.h>

#include "vfu/link.h"
#include "vfu/receive.h"
#include "vfu/shared.h"

#define KEEPER_PATIENCE_MS 2000u
#define KEEPER_ANSWER_MS   3000u
#define KEEPER_GRACE_MS    100u /* each message of a batch that is late already */
#define REFUSALS_LOGGED    20   /* of one client: it must not fill the log */
#define KEEPER_CONFIG      7u   /* region of the configuration space: linux/vfio.h */
#define KEEPER_REGIONS     9u
#define KEEPER_IRQS        5u

enum keeper_wait {
	KEEPER_WAIT_NOTHING,
	KEEPER_WAIT_UNMAP, /* of the map `wait_map` */
	KEEPER_WAIT_RESET, /* of shared->registers.reset_count */
	KEEPER_WAIT_FLR,   /* the same, asked for by a write of the configuration space */
};

struct keeper_map { /* beside the entry of shared->maps of the same index */
	int fd;
	uint64_t offset;
};

struct keeper {
	struct keeper_options options;
	struct vfu_shared *shared;
	struct vfu_doorbells *doorbells;
	int shared_fd, doorbells_fd, wake_fd;
	int nobody_fd; /* an event that nobody waits for: for vectors without one */
	/* An epoll instance of the client's socket, for the engine to poll: it is woken together
	 * with this process and not after it. The instance holds no reference to the socket, so
	 * the client still sees this process die, and nothing can be read through it. Or -1. */
	int early_fd;
	int link_listen_fd, socket_listen_fd;

	/* The virtual machine. */
	int client_fd; /* or -1 */
	bool negotiated;
	unsigned refusals; /* answered to this client with an error */
	struct vfu_receiver client_receiver;
	unsigned char client_message[VFU_MESSAGE_BYTES_MAX];
	unsigned vectors; /* of MSI-X; fixed for the life of the device, over REPLACE too */
	int intx_fd, msix_fds[VFU_VECTOR_COUNT];
	struct keeper_map maps[VFU_MAP_COUNT];
	uint32_t next_map_id;
	unsigned char writable[VFU_PAGE_BYTES]; /* bits of the configuration space */

	/* A message that waits. */
	enum keeper_wait wait;
	struct vfu_header wait_header;
	unsigned wait_map;
	struct vfu_region_access wait_access;
	uint64_t wait_since_ns;
	uint64_t batch_since_ns; /* the first wait since the client's socket was empty; 0 = none */

	/* The engine. */
	int engine_fd, fence_fd; /* or -1 */
	int candidate_fd;        /* it connected and waits for the fence; or -1 */
	pid_t engine_pid;        /* for the log */
	int engine_pidfd;        /* the process itself, whose number another may get; or -1 */
	uint64_t engine_since_ns;
	uint64_t full_since_ns; /* the engine does not read what the client causes; 0 = it does */
	bool engine_told;       /* something since it had room */
	bool engine_killed;
	struct vfu_receiver engine_receiver, candidate_receiver;
	struct vfu_link_message engine_message, candidate_message;
	bool retiring;
	bool replacing;
	bool finished; /* the loop ends */
};

uint64_t keeper_now_ns(void);
/* What keeper_run() is made of, for tests. -errno. */
int keeper_start(struct keeper *keeper, const struct keeper_options *options);
/* Waits for something to happen, with the signals of `mask` blocked, and serves it. */
void keeper_turn(struct keeper *keeper, const sigset_t *mask, bool may_sleep);
void keeper_done(struct keeper *keeper);

/* client.c */
void client_accept(struct keeper *keeper);
/* Makes early_fd, if need be, and lets it watch the client's socket, if there is one. */
void client_watch_early(struct keeper *keeper);
void client_readable(struct keeper *keeper);
/* The virtual machine is gone: what it gave is taken away, and the device is reset. */
void client_close(struct keeper *keeper);
void client_tidy(struct keeper *keeper);
/* The answer to what waits. */
void client_finish_wait(struct keeper *keeper, int error);
void client_reply(struct keeper *keeper, const struct vfu_header *header, const void *body,
		  size_t body_bytes, const void *data, size_t data_bytes);
void client_reply_fd(struct keeper *keeper, const struct vfu_header *header, const void *body,
		     size_t body_bytes, int fd);
void client_refuse(struct keeper *keeper, const struct vfu_header *header, int error);

/* device.c */
void device_init(struct keeper *keeper);
/* keeper->vectors, of a device that a keeper before has made. */
void device_resume(struct keeper *keeper);
/* -EINVAL for an access that the region does not have. */
int device_read(struct keeper *keeper, const struct vfu_region_access *access, void *data);
/* 1 when a function-level reset was asked for: the answer waits for it. */
int device_write(struct keeper *keeper, const struct vfu_region_access *access, const void *data);
/* Asks for a reset; shared->registers.reset_count says which. */
void device_reset(struct keeper *keeper);
void device_set_irqs(struct keeper *keeper, const struct vfu_header *header,
		     const struct vfu_irq_set *set);
void device_drop_irqs(struct keeper *keeper);

/* memory.c */
int memory_map(struct keeper *keeper, const struct vfu_dma_map *map, int fd);
/* The entry of exactly this range, or -ENOENT. */
int memory_find(const struct keeper *keeper, uint64_t address, uint64_t size);
void memory_forget(struct keeper *keeper, unsigned index);

/* replace.c: the process executes its program anew; returns only when it cannot, and tells so. */
void replace_run(struct keeper *keeper);
/* What a process before left in `fd`. -EPROTONOSUPPORT: in a version that is not known. */
int replace_resume(struct keeper *keeper, int fd);

/* engine.c */
void engine_accept(struct keeper *keeper);
void engine_candidate_readable(struct keeper *keeper);
void engine_readable(struct keeper *keeper);
void engine_fence_hung_up(struct keeper *keeper);
void engine_close(struct keeper *keeper);
/* What is told to an engine, if one is there. */
void engine_send_map(struct keeper *keeper, unsigned index);
void engine_send_irqs(struct keeper *keeper, uint32_t kind, uint32_t first, uint32_t count);
void engine_wake(struct keeper *keeper);
/* The program was not executed: ends the link with that word, so that the engine comes again. */
void engine_refuse_replace(struct keeper *keeper, int error);
/* Whether it takes what the next message of the client may cause. */
bool engine_has_room(struct keeper *keeper);
/* Begins to wait for the engine, or for its fence; client_finish_wait() comes, maybe at once. */
void engine_wait(struct keeper *keeper, enum keeper_wait wait, const struct vfu_header *header,
		 unsigned map);
/* Patience is over. */
void engine_check_patience(struct keeper *keeper);
