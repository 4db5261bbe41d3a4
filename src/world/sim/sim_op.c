/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an operation from its submission to the call of `done`.
 *
 * A write takes its data, and every operation its effect, at a random time between
 * submission and completion: half of them exactly at completion. So a buffer that is changed
 * in flight, or an order that nothing guarantees, is found out by some seeds.
 */
#include <errno.h>
#include <string.h>

#include "base/reached.h"
#include "world/sim/sim_priv.h"

enum { BYTE_KIND, BYTE_STAGE, BYTE_HELD };

static int64_t job_effect(struct sim *sim, struct sim_op *op)
{
	op->job.work(op->job.arg);
	/* The crash of a process in the middle of it is told as such. */
	return sim->dead ? -ESHUTDOWN : 0;
}

static void job_delay(struct sim *sim, struct sim_op *op)
{
	if (sim->slow_jobs_ns)
		sim_op_slow(op, 1000000, sim->slow_jobs_ns);
}

static const struct sim_op_type job_type = {
	.name = "job", .effect = job_effect, .delay = job_delay};

static const struct sim_op_type *const types[SIM_OP_COUNT] = {
	[SIM_OP_JOB] = &job_type,
	[SIM_OP_OPEN] = &sim_file_open_type,
	[SIM_OP_CLOSE] = &sim_file_close_type,
	[SIM_OP_READ] = &sim_file_read_type,
	[SIM_OP_WRITE] = &sim_file_write_type,
	[SIM_OP_SYNC] = &sim_file_sync_type,
	[SIM_OP_RESIZE] = &sim_file_resize_type,
	[SIM_OP_FILE_STAT] = &sim_file_stat_type,
	[SIM_OP_PATH_STAT] = &sim_path_stat_type,
	[SIM_OP_RENAME] = &sim_path_rename_type,
	[SIM_OP_UNLINK] = &sim_path_unlink_type,
	[SIM_OP_DIRECTORY_MAKE] = &sim_path_directory_make_type,
	[SIM_OP_DIRECTORY_LIST] = &sim_path_directory_list_type,
	[SIM_OP_DIRECTORY_SYNC] = &sim_path_directory_sync_type,
	[SIM_OP_FS_STAT] = &sim_path_fs_stat_type,
	[SIM_OP_ACCEPT] = &sim_socket_accept_type,
	[SIM_OP_CONNECT] = &sim_socket_connect_type,
	[SIM_OP_RECEIVE] = &sim_socket_receive_type,
	[SIM_OP_SEND] = &sim_socket_send_type,
};

static const struct sim_op_type *type_of(const struct sim_op *op)
{
	return types[op->event.bytes[BYTE_KIND]];
}

enum sim_stage sim_op_stage(const struct sim_op *op)
{
	return (enum sim_stage)op->event.bytes[BYTE_STAGE];
}

enum sim_op_kind sim_op_kind(const struct sim_op *op)
{
	return (enum sim_op_kind)op->event.bytes[BYTE_KIND];
}

static void set_stage(struct sim_op *op, enum sim_stage stage)
{
	op->event.bytes[BYTE_STAGE] = (uint8_t)stage;
}

struct sim_op *sim_op_init(struct world_port *port, struct world_op *op, enum sim_op_kind kind)
{
	struct sim_op *state = sim_op_of(op);

	ASSERT(op->done);
	op->port = port;
	memset(state, 0, sizeof(*state));
	state->event.type = SIM_EVENT_OP;
	state->event.bytes[BYTE_KIND] = (uint8_t)kind;
	list_push_back(&port->pending, &op->link);
	return state;
}

static void schedule(struct sim *sim, struct sim_op *op, uint64_t due_ns)
{
	sim_event_schedule(&sim->heap, &op->event, due_ns, sim_random_next(&sim->timing));
}

/* Mostly near the minimum, sometimes up to the maximum. */
static uint64_t draw_latency(struct sim *sim)
{
	uint64_t random = sim_random_next(&sim->timing);
	uint64_t range = (sim->max_latency_ns - sim->min_latency_ns) >> (random >> 62) * 2;

	return sim->min_latency_ns + sim_random_upto(&sim->timing, range + 1);
}

static void queue(struct sim *sim, struct sim_op *op)
{
	uint64_t latency = draw_latency(sim);
	uint64_t effect = latency;

	op->due_ns = sim->now_ns + latency;
	if (sim_random_coin(&sim->timing))
		effect = sim_random_between(&sim->timing, 1, latency);
	set_stage(op, SIM_QUEUED);
	schedule(sim, op, sim->now_ns + effect);
}

void sim_op_submit(struct sim_op *op)
{
	struct sim *sim = sim_op_outer(op)->port->sim;

	if (sim->dead)
		sim_op_decide(sim, op, -ESHUTDOWN);
	else
		queue(sim, op);
}

void sim_op_retry(struct sim *sim, struct sim_op *op)
{
	ASSERT(sim_op_stage(op) == SIM_PARKED);
	queue(sim, op);
}

/* Disks that hang */

/* The disk that it is for, or NULL. */
static const struct sim_disk *disk_of(struct sim *sim, const struct sim_op *op)
{
	switch (sim_op_kind(op)) {
	case SIM_OP_READ:
	case SIM_OP_WRITE:
	case SIM_OP_SYNC:
	case SIM_OP_RESIZE:
	case SIM_OP_FILE_STAT:
		return op->io.file->node->disk;
	case SIM_OP_OPEN:
	case SIM_OP_PATH_STAT:
	case SIM_OP_RENAME:
	case SIM_OP_UNLINK:
	case SIM_OP_DIRECTORY_MAKE:
	case SIM_OP_DIRECTORY_LIST:
	case SIM_OP_DIRECTORY_SYNC:
	case SIM_OP_FS_STAT:
		return sim_tree_disk(sim, op->path.path, NULL);
	default:
		return NULL;
	}
}

static bool is_held(const struct sim_op *op)
{
	return op->event.bytes[BYTE_HELD];
}

static void set_held(struct sim_op *op, bool held)
{
	op->event.bytes[BYTE_HELD] = held;
}

/* Its event came up and its disk hangs: it goes no further. Some have had their effect by then. */
static bool hangs(struct sim *sim, struct sim_op *op)
{
	const struct sim_disk *disk = disk_of(sim, op);

	if (!disk || !disk->hung)
		return false;
	if (sim_op_stage(op) == SIM_QUEUED && sim_random_coin(&sim->timing))
		return false;
	REACHED("sim.hung");
	set_held(op, true);
	return true;
}

static void make_ready(struct sim *sim, struct sim_op *op)
{
	struct world_op *outer = sim_op_outer(op);

	set_stage(op, SIM_READY);
	list_remove(&outer->link);
	list_push_back(&outer->port->ready, &outer->link);
	sim_port_need_turn(outer->port, sim->now_ns);
}

/* Ends it at `op->due_ns`, or a little later than now where that has not been drawn. */
void sim_op_decide(struct sim *sim, struct sim_op *op, int64_t result)
{
	bool running = sim_op_stage(op) == SIM_RUNNING;

	op->result = result;
	set_stage(op, SIM_DECIDED);
	if (!running)
		op->due_ns = sim->now_ns + sim_random_between(&sim->timing, 1, 5000);
	else if (op->due_ns <= sim->now_ns && !(!sim->dead && hangs(sim, op))) {
		make_ready(sim, op);
		return;
	}
	if (!is_held(op))
		schedule(sim, op, op->due_ns);
}

void sim_op_slow(struct sim_op *op, uint32_t ppm, uint64_t at_most_ns)
{
	struct sim *sim = sim_op_outer(op)->port->sim;

	if (sim_random_ppm(&sim->faults, ppm))
		op->due_ns += sim_random_upto(&sim->faults, at_most_ns + 1);
}

static void let_go(struct sim *sim, struct sim_op *op)
{
	set_held(op, false);
	schedule(sim, op, sim->now_ns + sim_random_between(&sim->timing, 1, 5000));
}

void sim_op_let_go(struct world_port *port, const struct sim_disk *disk)
{
	struct list_node *head = &port->pending.head, *node;

	for (node = head->next; node != head; node = node->next) {
		struct sim_op *op = sim_op_of(CONTAINER_OF(node, struct world_op, link));

		if (is_held(op) && disk_of(port->sim, op) == disk)
			let_go(port->sim, op);
	}
}

void sim_op_run(struct sim *sim, struct sim_op *op)
{
	int64_t result;

	if (!sim->dead && hangs(sim, op))
		return;
	if (sim_op_stage(op) == SIM_DECIDED) {
		make_ready(sim, op);
		return;
	}
	ASSERT(sim_op_stage(op) == SIM_QUEUED);
	set_stage(op, SIM_RUNNING);
	if (type_of(op)->delay)
		type_of(op)->delay(sim, op);
	result = type_of(op)->effect(sim, op);
	if (result == SIM_PARK)
		set_stage(op, SIM_PARKED);
	else
		sim_op_decide(sim, op, sim->dead ? -ESHUTDOWN : result);
}

void sim_op_deliver(struct world_port *port)
{
	struct world_op *outer = CONTAINER_OF(list_pop_front(&port->ready), struct world_op, link);
	struct sim_op *op = sim_op_of(outer);
	int64_t result = op->result;

	if (type_of(op)->finish)
		type_of(op)->finish(port->sim, op);
	sim_trace(port->sim, type_of(op)->name, port->index, port->sim->now_ns, result);
	outer->port = NULL;
	outer->done(outer, result);
}

void sim_op_cancel(struct world_port *port, struct world_op *outer)
{
	struct sim_op *op = sim_op_of(outer);
	enum sim_stage stage;

	if (outer->port != port)
		return;
	stage = sim_op_stage(op);
	if ((stage != SIM_QUEUED && stage != SIM_PARKED) || is_held(op) || !type_of(op)->cancel)
		return;
	if (type_of(op)->cancel(port->sim, op))
		sim_op_decide(port->sim, op, -ECANCELED);
}

static void shut_down(struct sim *sim, struct sim_op *op)
{
	enum sim_stage stage = sim_op_stage(op);

	/* A job in whose middle the crash came ends by itself. */
	if (stage == SIM_RUNNING)
		return;
	if (type_of(op)->crash)
		type_of(op)->crash(sim, op);
	op->result = -ESHUTDOWN;
	if (is_held(op) && stage == SIM_DECIDED)
		let_go(sim, op);
	set_held(op, false);
	if (stage == SIM_QUEUED || stage == SIM_PARKED)
		sim_op_decide(sim, op, -ESHUTDOWN);
}

/* In the order of submission or against it, so that overlapping writes land in either order. */
void sim_op_shutdown_all(struct world_port *port)
{
	struct sim *sim = port->sim;
	bool forward = sim_random_coin(&sim->fate);
	struct list_node *head = &port->pending.head, *node, *next;

	for (node = forward ? head->next : head->prev; node != head; node = next) {
		next = forward ? node->next : node->prev;
		shut_down(sim, sim_op_of(CONTAINER_OF(node, struct world_op, link)));
	}
	head = &port->ready.head;
	for (node = head->next; node != head; node = node->next)
		shut_down(sim, sim_op_of(CONTAINER_OF(node, struct world_op, link)));
}

void sim_op_job(struct world_port *port, void (*work)(void *arg), void *arg, struct world_op *op)
{
	struct sim_op *state = sim_op_init(port, op, SIM_OP_JOB);

	state->job.work = work;
	state->job.arg = arg;
	sim_op_submit(state);
}
