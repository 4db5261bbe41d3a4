/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Shared by the files of the controller. The life of a command:
 *
 *   queue.c     takes it from a submission queue into a slot                     (rule 2)
 *   command.c   begins it, finds the handler, ends it with a status
 *   io.c, admin.c and their kin carry it out
 *   queue.c     records its completion in the slot and posts it                  (rule 3)
 *   recover.c   does all that again for what a dead engine left                  (rule 4)
 *
 * Everything lives on the controller's home reactor.
 */
#include "frontend/nvme/data.h"
#include "frontend/nvme/nvme.h"
#include "frontend/nvme/reservation.h"
#include "frontend/nvme/wire.h"

#include <nvme/types.h>

#define NVME_ADMIN_SLOTS      64u /* slots that I/O commands leave to admin commands */
#define NVME_FETCH_BATCH      32u /* commands taken from one queue before the next has its turn */
#define NVME_AER_MAX          16u /* AERL + 1 */
#define NVME_ABORT_MAX        4u  /* ACL + 1; they run to their end at once */
#define NVME_ERROR_ENTRIES    64u /* ELPE + 1 */
#define NVME_ENGINES_MAX      3u  /* that may end with a command, then with it alone (rule 5) */
#define NVME_COMPARE_BLOCKS   32u /* of a fused compare and write: ACWU + 1 */
#define NVME_COPY_RANGES      128u
#define NVME_COPY_RANGE_BYTES (512u << 10)
#define NVME_KEEP_ALIVE_MS    100u /* KAS, in which intervals are counted */
#define NVME_IN_FLIGHT_BYTES  (64u << 20)
#define NVME_FIRMWARE         "1.0     "
#define NVME_IO_QUEUES        (VFU_QUEUE_COUNT - 1)
#define NVME_ADMIN_DEPTH_MAX  4096u

struct nvme_controller;

struct nvme_ns { /* an attached namespace */
	struct nvme_namespace_options options;
	struct block_volume *volume; /* at the controller's home: options.volume or `remote` */
	struct block_volume *remote;
	uint64_t blocks; /* logical ones, as the guest sees them */
	unsigned shift;  /* of a logical block */
	unsigned commands;
	struct nvme_member member; /* in options.reservations */
	bool active;               /* attached, as the guest sees it */
	bool detaching;
	bool formatting;
};

struct nvme_sq {
	struct vfu_sq *shared;
	const unsigned char *entries; /* NULL: not mapped now */
	const uint32_t *tail;         /* the doorbell, or the shadow of it in guest memory */
	uint32_t *event_index;        /* NULL without shadow doorbells */
	struct nvme_cq *cq;
	struct nvme_command *fused;   /* a first fused command that waits for its second */
	struct nvme_command *deleter; /* Delete I/O Submission Queue that waits for the others */
	unsigned commands;            /* begun and not yet ended */
	uint64_t bad_tail;            /* reported already */
	uint16_t id, head;            /* head: shared->command_count % depth */
	uint16_t event_set;           /* `head` when the event index was set */
	struct list_node link;        /* in controller->live */
};

struct nvme_cq {
	struct vfu_cq *shared;
	unsigned char *entries;
	const uint32_t *head_doorbell;
	uint32_t *event_index;
	struct list held;       /* completed commands that found no room, in order of position */
	uint64_t next_position; /* of the next completion; above shared->tail by those in `held` */
	uint64_t bad_head;
	uint16_t id, head, queues; /* queues: submission queues that complete here */
	uint16_t tail_index;       /* shared->tail % depth */
	bool phase;                /* of the entry at tail_index */
};

struct nvme_command {
	struct nvme_controller *controller;
	struct vfu_slot *slot;
	struct nvme_sq *sq;
	struct nvme_ns *ns;
	struct list_node link; /* in nvme_cq.held; before that in nvme_controller.management */
	uint64_t bytes;        /* counted in controller->bytes_in_flight */
	uint64_t lba;          /* for the error log */
	unsigned parity;       /* from guest_enter() */
	bool in_guest;         /* guest_enter() was called */
	bool recovered;        /* an engine before this one began it */
	bool counts_write;     /* in ns->member.writes */
	bool redo_write;       /* its compare has succeeded (rule 5) */
	bool stale;            /* it may not be executed again (rule 10) */
	struct nvme_data data;
	struct nvme_command *first; /* of a fused pair, in its second */
	/* Commands of several steps. */
	uint32_t step, step_count;
	struct fiber_task task;
	void *buffer; /* freed with the command */
	struct block_request request;
};

struct nvme_interrupts {
	uint64_t pending[DIV_ROUND_UP(VFU_VECTOR_COUNT, 64)]; /* to be signalled in this turn */
	uint16_t waiting[VFU_VECTOR_COUNT]; /* completions since the last signal (coalescing) */
	struct reactor_hook hook;
	struct reactor_timer timer;
};

struct nvme_errors { /* the error log, of this engine's time */
	struct nvme_error_log_page entries[NVME_ERROR_ENTRIES];
	uint64_t count, before; /* before: with engines before this one */
};

enum nvme_phase {
	NVME_IDLE,     /* not started */
	NVME_SERVING,  /* commands are taken when the guest has enabled the controller */
	NVME_DRAINING, /* of a reset: ends when no command is left */
	NVME_STOPPING, /* nothing is taken any more */
};

struct nvme_controller {
	struct vfu_shared *shared;
	struct vfu_doorbells *doorbells;
	struct reactor *home;
	const struct nvme_host_ops *host;
	void *host_context;
	struct nvme_controller_options options;

	enum nvme_phase phase;
	bool recovering; /* commands whose compare succeeded go first, suspects last and alone */
	bool innocents_begun;  /* of this step of recovery */
	unsigned redone, gate; /* steps of recovery that are done, that may be left behind */
	bool asleep;           /* event indexes are armed */
	bool starved;          /* a queue was left for lack of slots or credit */
	uint32_t cc_seen;
	uint64_t told; /* shared->told that is settled */
	struct reactor_poller poller;
	struct reactor_timer poll_timer; /* mapped doorbells without a trap */
	uint64_t poll_pause_ns;
	struct reactor_timer keep_alive;
	bool kept_alive;              /* since nvme_keep_alive_run() began to look */
	struct reactor_work progress; /* what follows the end of a command: resets, deletions */

	struct guest guest;
	struct list live; /* submission queues that are polled */
	struct nvme_sq sqs[VFU_QUEUE_COUNT];
	struct nvme_cq cqs[VFU_QUEUE_COUNT];
	struct nvme_interrupts interrupts;
	struct nvme_errors errors;

	struct nvme_command *commands; /* one for each slot */
	struct iovec *iovs;            /* NVME_DATA_IOV_MAX for each slot */
	uint16_t free_slots[VFU_SLOT_COUNT];
	unsigned free_slot_count;
	unsigned in_flight; /* commands begun and not yet ended; event requests are not counted */
	unsigned held;      /* completions in all nvme_cq.held */
	uint64_t bytes_in_flight;
	uint32_t disable_seen, reset_seen; /* the resets that draining carries out */

	uint16_t recover[VFU_SLOT_COUNT]; /* slots that are to be begun again, in order */
	unsigned recover_count;

	struct nvme_ns *namespaces[NVME_NAMESPACE_MAX + 1];
	struct list reservations_waiting; /* requests; one at a time is on its way */
	bool reservation_busy;
	struct list management; /* commands for the host, the first is being carried out or next */
	bool managing;
	struct fiber_queue idle; /* fibers that wait for commands to end */
	struct nvme_stats stats;
	struct fiber_task shutdown_task;
	uint32_t shutdown_kind;
	bool shutdown_runs;
};

static inline const struct nvme_sqe *nvme_sqe_of(const struct nvme_command *command)
{
	return (const struct nvme_sqe *)command->slot->sqe;
}

static inline void nvme_point(const struct nvme_controller *controller, enum nvme_point point)
{
	if (UNLIKELY(controller->host->point != NULL))
		controller->host->point(controller->host_context, point);
}

/* No command is taken: recovery is not over, or that of others is not, or all is over. */
static inline bool nvme_recover_holds(const struct nvme_controller *controller)
{
	return controller->recovering || controller->gate < NVME_REDO_STEPS ||
	       NVME_CSTS_CFS(controller->shared->registers.csts);
}

/* --- controller.c --- */
/* Registers, resets, shutdown: looks whether something is to be done. */
void nvme_controller_progress(struct nvme_controller *controller);
/* The same, later in this turn. */
void nvme_controller_progress_later(struct nvme_controller *controller);
/* The guest has done something: all that it was told to have done before is known now. */
void nvme_controller_settle(struct nvme_controller *controller);
bool nvme_controller_reset_pending(const struct nvme_controller *controller);
/* The guest has done what no controller can go on from (CSTS.CFS). */
void nvme_controller_fail(struct nvme_controller *controller, const char *why);

/* --- queue.c --- */
void nvme_queue_init(struct nvme_controller *controller);
/* Finds the queues' memory again after ranges came or went. */
void nvme_queue_resolve(struct nvme_controller *controller);
/* After shared->sqs[id] or cqs[id] was filled: begins to use it. */
void nvme_queue_open_sq(struct nvme_controller *controller, uint16_t id);
void nvme_queue_open_cq(struct nvme_controller *controller, uint16_t id);
void nvme_queue_close_sq(struct nvme_controller *controller, uint16_t id);
void nvme_queue_close_cq(struct nvme_controller *controller, uint16_t id);
/* Takes what has come. False: nothing. */
bool nvme_queue_poll(struct nvme_controller *controller);
/* True when nothing has come that could be taken. */
bool nvme_queue_is_empty(struct nvme_controller *controller);
/* Busy: the guest need not tell; not busy: it must (rule 8). */
void nvme_queue_set_events(struct nvme_controller *controller, bool asleep);
/* Records the completion of a command and posts it when there is room. */
void nvme_queue_complete(struct nvme_command *command, uint32_t result, uint16_t status);
/* Puts a recorded completion in its place; those that were posted before are not given. */
void nvme_queue_hold(struct nvme_cq *cq, struct nvme_command *command);
/* Posts the completion that a dead engine was posting, if there is one. */
void nvme_queue_recover_posting(struct nvme_controller *controller);
/* Frees the commands whose completions are held. */
void nvme_queue_drop_held(struct nvme_cq *cq);
/* Posts what is held as far as there is room. */
void nvme_queue_flush(struct nvme_controller *controller, struct nvme_cq *cq);
void nvme_queue_flush_all(struct nvme_controller *controller);
/* Of a queue that is about to exist: the guest begins at 0. */
void nvme_queue_clear_doorbell(struct nvme_controller *controller, uint16_t id, bool completion);
/* A completion queue has entries that the guest has not taken yet. */
bool nvme_queue_has_unseen(struct nvme_controller *controller);
/* Uses the shadow doorbells of shared->admin, or the doorbells again when those are 0. */
void nvme_queue_use_shadow(struct nvme_controller *controller);

/* --- command.c --- */
/* The command of slot `index`, initialised. */
struct nvme_command *nvme_command_in(struct nvme_controller *controller, uint16_t index);
struct nvme_command *nvme_command_take(struct nvme_controller *controller);
void nvme_command_free(struct nvme_command *command);
/* Of a command in a slot that is FETCHED or COMPARED. */
void nvme_command_begin(struct nvme_command *command);
/* Ends it. `status` without phase; `result` is dword 0 of the completion. */
void nvme_command_end(struct nvme_command *command, uint16_t status);
void nvme_command_end_with(struct nvme_command *command, uint16_t status, uint32_t result);
/* Ends it by a negative errno, 0 for success. -ESHUTDOWN leaves it in its slot to the next
 * engine. */
void nvme_command_end_errno(struct nvme_command *command, int result);
/* The status that an errno of the block layer stands for. */
uint16_t nvme_command_status(int result);
/* The data of the command as an iovec. False: the command was ended. */
bool nvme_command_map(struct nvme_command *command, uint64_t length, unsigned flags);
/* An empty iovec, for nvme_data_add(). */
void nvme_command_empty_data(struct nvme_command *command, unsigned flags);
/* Gives at most `limit` of `length` bytes to the guest; the rest of the limit reads as zeros. Ends
 * the command. True: with success. */
bool nvme_command_answer(struct nvme_command *command, const void *data, uint64_t length,
			 uint64_t limit);
/* Takes `length` bytes of parameters from the guest. False: the command was ended. */
bool nvme_command_take_data(struct nvme_command *command, void *to, uint64_t length);
/* It waits for something of the guest, perhaps for ever: nothing waits for it meanwhile. */
void nvme_command_park(struct nvme_command *command);
void nvme_command_unpark(struct nvme_command *command);
/* Runs the rest of the command in a fiber. */
void nvme_command_spawn(struct nvme_command *command, void (*run)(struct fiber_task *task));
static inline struct nvme_command *nvme_command_of_task(struct fiber_task *task)
{
	return CONTAINER_OF(task, struct nvme_command, task);
}

/* --- interrupt.c --- */
void nvme_interrupt_init(struct nvme_controller *controller);
void nvme_interrupt_done(struct nvme_controller *controller);
/* A completion was posted. */
void nvme_interrupt_posted(struct nvme_controller *controller, const struct nvme_cq *cq);
void nvme_interrupt_all(struct nvme_controller *controller); /* rule 4 */
/* INTx is a level: signals again when entries are left. */
void nvme_interrupt_level(struct nvme_controller *controller);

/* --- namespace.c --- */
/* NULL and the command is ended when it names no attached namespace. */
struct nvme_ns *nvme_namespace_use(struct nvme_command *command);
/* The same with a status: it is the caller who ends the command. */
uint16_t nvme_namespace_try_use(struct nvme_command *command);
struct nvme_ns *nvme_namespace_get(const struct nvme_controller *controller, uint32_t nsid);
/* Also one that the guest has not attached. */
struct nvme_ns *nvme_namespace_allocated(const struct nvme_controller *controller, uint32_t nsid);
/* It has logical blocks of another size, or other contents: the guest is told. */
void nvme_namespace_set_block(struct nvme_controller *controller, struct nvme_ns *ns,
			      uint32_t block_bytes);
/* Of an engine that stops: it takes no part in reservations any more. From a fiber. */
void nvme_namespace_leave_all(struct nvme_controller *controller);
void nvme_namespace_unuse(struct nvme_command *command);
/* The guest begins to look, or does so `again` with this engine: then it is told what has changed.
 */
void nvme_namespace_seen(struct nvme_controller *controller, bool again);

/* --- handlers: each ends the command, now or later --- */
void nvme_admin_execute(struct nvme_command *command);
void nvme_io_execute(struct nvme_command *command);
/* What the Commands Supported log says of an opcode: enum nvme_cmd_effects. */
uint32_t nvme_io_effects(uint8_t opcode);
uint32_t nvme_admin_effects(const struct nvme_controller *controller, uint8_t opcode);
struct nvme_range { /* bytes */
	uint64_t offset, length;
};
/* The range that the command names. False: the command was ended. */
bool nvme_io_range(struct nvme_command *command, struct nvme_range *ret_range);
/* May the host read, write? False: the command was ended. */
bool nvme_io_may_read(struct nvme_command *command);
bool nvme_io_may_write(struct nvme_command *command);
/* All that a write checks before its data, as a status: it is the caller who ends the command. */
uint16_t nvme_io_write_status(struct nvme_command *command, struct nvme_range *ret_range);
unsigned nvme_io_write_flags(const struct nvme_command *command);
/* The caller has set request.done. */
void nvme_io_submit(struct nvme_command *command, enum block_op op, unsigned flags,
		    const struct nvme_range *range);
/* Asks the volume to tell when the write of command->step (from 1 on) is what others read. */
unsigned nvme_io_tell(struct nvme_command *command);
/* All that it writes is written, by an engine before this one: makes it durable as promised, then
 * done() is called. */
void nvme_io_settle(struct nvme_command *command);
void nvme_fused_execute(struct nvme_command *command);
/* Ends a command, and if it is the second of a fused pair the first too, that would wait for ever.
 */
void nvme_fused_refuse(struct nvme_command *command, uint16_t status);
/* The second of a fused pair does not come. */
void nvme_fused_end(struct nvme_sq *sq);
void nvme_ranges_dsm(struct nvme_command *command);
void nvme_ranges_verify(struct nvme_command *command);
void nvme_ranges_copy(struct nvme_command *command);
void nvme_identify(struct nvme_command *command);
void nvme_format(struct nvme_command *command);
void nvme_manage_namespace(struct nvme_command *command);
void nvme_manage_attachment(struct nvme_command *command);
/* Of options.manage_bytes. */
uint64_t nvme_manage_left(const struct nvme_controller *controller);
/* The last command of a queue that is being deleted has ended. */
void nvme_admin_sq_idle(struct nvme_sq *sq);
void nvme_feature_get(struct nvme_command *command);
void nvme_feature_set(struct nvme_command *command);
void nvme_feature_reset(struct nvme_controller *controller);
/* Its interrupts are not coalesced. */
bool nvme_feature_vector_is_direct(const struct nvme_controller *controller, uint16_t vector);
void nvme_log_page(struct nvme_command *command);
void nvme_log_reservation(struct nvme_controller *controller, uint32_t nsid,
			  enum nvme_reservation_notice notice);
/* What the SMART log counts goes on where the engine before stopped, and is kept for the next. */
void nvme_log_load(struct nvme_controller *controller);
void nvme_log_keep(struct nvme_controller *controller);
void nvme_log_error(struct nvme_command *command, uint16_t status);

/* --- event.c --- */
enum nvme_event {
	NVME_EVENT_DOORBELL_REGISTER,
	NVME_EVENT_DOORBELL_VALUE,
	NVME_EVENT_NAMESPACES,
	NVME_EVENT_RESERVATION,
	NVME_EVENT_COUNT,
};
void nvme_event_request(struct nvme_command *command);
void nvme_event_raise(struct nvme_controller *controller, enum nvme_event event);
/* The guest has read a log page: its kind of event is heard of again. */
/* Before that is recorded; nothing is told yet. */
void nvme_event_unmask(struct nvme_controller *controller, uint8_t log_id);
void nvme_event_log_read(struct nvme_controller *controller, uint8_t log_id);
bool nvme_event_abort(struct nvme_controller *controller, uint16_t cid);
/* Waits again, after a change of engines. */
void nvme_event_forget(struct nvme_controller *controller);

/* --- keep_alive.c --- */
/* The host has been heard of, or what the timer depends on has changed. */
void nvme_keep_alive_restart(struct nvme_controller *controller);
void nvme_keep_alive_stop(struct nvme_controller *controller);
void nvme_keep_alive_run(struct reactor_timer *timer);

/* --- recover.c --- */
/* -EPROTO, -EUCLEAN: see nvme_controller_new(). */
int nvme_recover_check(const struct vfu_shared *shared);
void nvme_recover(struct nvme_controller *controller);
/* Nothing of this step of recovery is in flight any more. */
void nvme_recover_more(struct nvme_controller *controller);
/* No command is in flight: forgets queues, slots and what admin commands have set. */
void nvme_recover_forget(struct nvme_controller *controller);
