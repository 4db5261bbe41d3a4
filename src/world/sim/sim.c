/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulation itself: virtual time, the loop, crash and restart, faults.
 *
 * Invariants.
 *  1. now_ns moves only in the loop, to the time of the next event.
 *  2. Every random number is drawn at a point that the seed and the program determine.
 *  3. A dead world has no operation that could still take effect.
 */
#include "world/sim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reached.h"
#include "world/sim/sim_priv.h"

#define START_NS      NSEC_PER_SEC
#define START_WALL_NS (UINT64_C(1780000000) * NSEC_PER_SEC)
#define WALL_JUMP_PPM 2000
#define REBOOT_MAX_NS (20 * NSEC_PER_SEC)

enum { STREAM_TIMING = 1, STREAM_FAULTS, STREAM_FATE, STREAM_TESTS, STREAM_PROGRAM };

static struct sim *current; /* SQLite's VFS serves one at a time */

static uint64_t now_ns(struct world *world)
{
	return sim_of(world)->now_ns;
}

static uint64_t wall_ns(struct world *world)
{
	struct sim *sim = sim_of(world);

	/* As when someone sets the clock: up to an hour ahead or back. */
	if (sim_random_ppm(&sim->faults, WALL_JUMP_PPM)) {
		REACHED("sim.wall-jump");
		sim->wall_offset_ns += sim_random_upto(&sim->faults, 7200 * NSEC_PER_SEC);
		sim->wall_offset_ns -= 3600 * NSEC_PER_SEC;
	}
	return sim->now_ns + sim->wall_offset_ns;
}

static void program_random(struct world *world, void *buffer, size_t length)
{
	sim_random_fill(&sim_of(world)->program, buffer, length);
}

const struct world_ops sim_world_ops = {
	.name = "sim",
	.now_ns = now_ns,
	.wall_ns = wall_ns,
	.random = program_random,
	.port_open = sim_port_open,
	.port_close = sim_port_close,
	.port_wait = sim_port_wait,
	.port_submit = sim_port_submit,
	.port_wake = sim_port_wake,
	.port_post = sim_port_post,
	.cancel = sim_op_cancel,
	.job = sim_op_job,
	.file_open = sim_file_open,
	.file_close = sim_file_close,
	.file_read = sim_file_read,
	.file_write = sim_file_write,
	.file_sync = sim_file_sync,
	.file_resize = sim_file_resize,
	.file_stat = sim_file_stat,
	.path_stat = sim_path_stat,
	.rename = sim_path_rename,
	.unlink = sim_path_unlink,
	.directory_make = sim_path_directory_make,
	.directory_list = sim_path_directory_list,
	.directory_sync = sim_path_directory_sync,
	.fs_stat = sim_path_fs_stat,
	.socket_listen = sim_socket_listen,
	.socket_address = sim_socket_address,
	.socket_accept = sim_socket_accept,
	.socket_connect = sim_socket_connect,
	.socket_receive = sim_socket_receive,
	.socket_send = sim_socket_send,
	.socket_shutdown = sim_socket_shutdown,
	.socket_close = sim_socket_close,
};

/* Between a microsecond and a few milliseconds, each order of magnitude as likely as the others. */
static void draw_latencies(struct sim *sim)
{
	sim->min_latency_ns = UINT64_C(1000) << sim_random_upto(&sim->timing, 8);
	sim->max_latency_ns = sim->min_latency_ns << sim_random_between(&sim->timing, 1, 7);
}

int sim_new(const struct sim_options *options, struct sim **ret_sim)
{
	struct sim *sim;

	if (options->max_latency_ns < options->min_latency_ns)
		return -EINVAL;
	if (current)
		return -EBUSY;
	sim = calloc(1, sizeof(*sim));
	if (!sim)
		return -ENOMEM;
	sim->world.ops = &sim_world_ops;
	sim->seed = options->seed;
	sim->trace = options->trace;
	sim->now_ns = START_NS;
	sim->wall_offset_ns = START_WALL_NS;
	sim_random_init(&sim->timing, options->seed, STREAM_TIMING);
	sim_random_init(&sim->faults, options->seed, STREAM_FAULTS);
	sim_random_init(&sim->fate, options->seed, STREAM_FATE);
	sim_random_init(&sim->tests, options->seed, STREAM_TESTS);
	sim_random_init(&sim->program, options->seed, STREAM_PROGRAM);
	draw_latencies(sim);
	if (options->max_latency_ns > 0) {
		sim->min_latency_ns = MAX(options->min_latency_ns, UINT64_C(1));
		sim->max_latency_ns = options->max_latency_ns;
	}
	sim->message_delay_ns = UINT64_C(200) << sim_random_upto(&sim->timing, 10);
	sim->turn_cost_ns = UINT64_C(100) << sim_random_upto(&sim->timing, 6);
	sim->stall_ppm = sim_random_coin(&sim->timing) ? 200 : 0;
	list_init(&sim->disks);
	list_init(&sim->files);
	list_init(&sim->sockets);
	sim_vfs_register(sim);
	current = sim;
	*ret_sim = sim;
	return 0;
}

static bool has_ports(const struct sim *sim)
{
	for (unsigned i = 0; i < SIM_PORTS_MAX; i++)
		if (sim->ports[i])
			return true;
	return false;
}

static void close_all(struct sim *sim)
{
	while (!list_is_empty(&sim->files))
		sim_file_free(CONTAINER_OF(list_front(&sim->files), struct world_file, link));
	sim_socket_free_all(sim);
}

void sim_free(struct sim *sim)
{
	if (!sim)
		return;
	ASSERT(!has_ports(sim) && !sim->running);
	close_all(sim);
	while (!list_is_empty(&sim->disks))
		sim_tree_disk_free(CONTAINER_OF(list_front(&sim->disks), struct sim_disk, link));
	sim_vfs_unregister(sim);
	sim_event_done(&sim->heap);
	sim_pool_done(&sim->pool);
	free(sim);
	current = NULL;
}

struct world *sim_world(struct sim *sim)
{
	return &sim->world;
}

static void mix(struct sim *sim, uint64_t value)
{
	uint64_t h = sim->hash ^ value * UINT64_C(0x9e3779b97f4a7c15);

	sim->hash = (h << 27 | h >> 37) * UINT64_C(0xd6e8feb86659fd93) + 1;
}

void sim_trace(struct sim *sim, const char *what, uint64_t a, uint64_t b, int64_t result)
{
	/* The first letters tell the kinds of event apart well enough. */
	mix(sim, (uint64_t)what[0] << 16 | (uint64_t)what[1] << 8 | strlen(what));
	mix(sim, a);
	mix(sim, b);
	mix(sim, (uint64_t)result);
	if (UNLIKELY(sim->trace))
		fprintf(stderr, "sim %12" PRIu64 " %-14s %" PRIu64 " %" PRIu64 " = %" PRId64 "\n",
			sim->now_ns, what, a, b, result);
}

uint64_t sim_trace_hash(const struct sim *sim)
{
	return sim->hash;
}

int sim_disk_add(struct sim *sim, const char *root, uint64_t capacity_bytes)
{
	const struct sim_disk *disk;

	if (root[0] == '\0')
		return -EINVAL;
	disk = sim_tree_disk(sim, root, NULL);
	if (disk && strncmp(disk->root, root, strlen(root)) == 0)
		return -EEXIST;
	(void)sim_tree_disk_new(sim, root, capacity_bytes);
	return 0;
}

static struct sim_disk *disk_of(struct sim *sim, const char *root)
{
	struct sim_disk *disk = sim_tree_disk(sim, root, NULL);

	ASSERT(disk);
	return disk;
}

static uint32_t draw_ppm(struct sim *sim, uint32_t most_ppm)
{
	if (sim_random_coin(&sim->tests))
		return 0;
	return (uint32_t)sim_random_upto(&sim->tests, (uint64_t)most_ppm + 1);
}

void sim_draw_faults(struct sim *sim, uint32_t most_ppm, struct sim_faults *ret_faults)
{
	*ret_faults = (struct sim_faults){
		.read_error_ppm = draw_ppm(sim, most_ppm),
		.write_error_ppm = draw_ppm(sim, most_ppm),
		.sync_error_ppm = draw_ppm(sim, most_ppm),
		.bit_flip_ppm = draw_ppm(sim, most_ppm),
		.metadata_error_ppm = draw_ppm(sim, most_ppm),
		.slow_ppm = draw_ppm(sim, most_ppm),
		.slow_ns = sim_random_upto(&sim->tests, 50 * NSEC_PER_MSEC),
	};
}

void sim_disk_set_faults(struct sim *sim, const char *root, const struct sim_faults *faults)
{
	disk_of(sim, root)->faults = *faults;
}

void sim_disk_set_capacity(struct sim *sim, const char *root, uint64_t capacity_bytes)
{
	disk_of(sim, root)->capacity_pages = capacity_bytes / SIM_PAGE_BYTES;
}

void sim_disk_set_taken(struct sim *sim, const char *root, uint64_t taken_bytes)
{
	disk_of(sim, root)->taken_pages = taken_bytes / SIM_PAGE_BYTES;
}

void sim_disk_set_read_only(struct sim *sim, const char *root, bool read_only)
{
	disk_of(sim, root)->read_only = read_only;
}

void sim_disk_set_missing(struct sim *sim, const char *root, bool missing)
{
	disk_of(sim, root)->missing = missing;
}

void sim_disk_set_hung(struct sim *sim, const char *root, bool hung)
{
	struct sim_disk *disk = disk_of(sim, root);

	if (disk->hung == hung)
		return;
	disk->hung = hung;
	for (unsigned i = 0; !hung && i < SIM_PORTS_MAX; i++)
		if (sim->ports[i])
			sim_op_let_go(sim->ports[i], disk);
}

int sim_disk_flip(struct sim *sim, const char *path, uint64_t offset, unsigned bit)
{
	struct sim_place place;
	int r = sim_tree_resolve(sim, path, &place);

	if (r < 0)
		return r;
	if (!place.node || place.node->directory)
		return -ENOENT;
	sim_trace(sim, "medium-flip", place.node->id, offset, (int64_t)bit);
	return sim_node_flip(place.node, offset, bit);
}

void sim_network_set_faults(struct sim *sim, const struct sim_network_faults *faults)
{
	sim->network_faults = *faults;
}

void sim_set_slow_jobs(struct sim *sim, uint64_t at_most_ns)
{
	sim->slow_jobs_ns = at_most_ns;
}

void sim_fail_nth(struct sim *sim, uint64_t n, int error)
{
	sim->fail_countdown = n;
	sim->fail_error = error;
	sim->fail_hit = false;
}

bool sim_fault_hit(const struct sim *sim)
{
	return sim->fail_hit;
}

void sim_crash_nth(struct sim *sim, uint64_t n, enum sim_crash kind)
{
	sim->crash_countdown = n;
	sim->crash_next = kind;
}

uint64_t sim_crash_left(const struct sim *sim)
{
	return sim->crash_countdown;
}

int sim_gate(struct sim *sim, uint32_t error_ppm)
{
	if (sim->dead)
		return -ESHUTDOWN;
	if (sim->crash_countdown && --sim->crash_countdown == 0) {
		REACHED("sim.crash-nth");
		sim_crash(sim, sim->crash_next);
		return -ESHUTDOWN;
	}
	if (sim->fail_countdown && --sim->fail_countdown == 0) {
		sim->fail_hit = true;
		return sim->fail_error;
	}
	if (sim_random_ppm(&sim->faults, error_ppm)) {
		REACHED("sim.disk-error");
		return -EIO;
	}
	return 0;
}

static void run_event(struct sim *sim, struct sim_event *event)
{
	switch ((enum sim_event_type)event->type) {
	case SIM_EVENT_OP:
		sim_op_run(sim, CONTAINER_OF(event, struct sim_op, event));
		break;
	case SIM_EVENT_TURN:
		sim_port_turn(CONTAINER_OF(event, struct world_port, turn_event));
		break;
	}
}

static int run_until(struct sim *sim, bool (*done)(void *arg), void *arg, uint64_t end_ns)
{
	while (!done(arg)) {
		uint64_t next = sim_event_next_ns(&sim->heap);

		if (next == UINT64_MAX)
			return -EDEADLK;
		if (next > end_ns) {
			sim->now_ns = MAX(sim->now_ns, end_ns);
			return -ETIMEDOUT;
		}
		sim->now_ns = MAX(sim->now_ns, next);
		run_event(sim, sim_event_pop(&sim->heap));
	}
	return 0;
}

int sim_run_until(struct sim *sim, bool (*done)(void *arg), void *arg, uint64_t limit_ns)
{
	uint64_t end =
		limit_ns > UINT64_MAX - 1 - sim->now_ns ? UINT64_MAX - 1 : sim->now_ns + limit_ns;
	int r;

	ASSERT(!sim->running);
	sim->running = true;
	for (unsigned i = 0; i < SIM_PORTS_MAX; i++)
		if (sim->ports[i])
			sim_port_need_turn(sim->ports[i], sim->now_ns);
	r = run_until(sim, done, arg, end);
	sim->running = false;
	return r;
}

uint64_t sim_random(struct sim *sim)
{
	return sim_random_next(&sim->tests);
}

uint64_t sim_random_below(struct sim *sim, uint64_t bound)
{
	return sim_random_upto(&sim->tests, bound);
}

void sim_crash(struct sim *sim, enum sim_crash kind)
{
	sim_trace(sim, "crash", kind, sim->now_ns, sim->dead);
	if (sim->dead) {
		sim->crash = MAX(sim->crash, kind);
		return;
	}
	sim->crash = kind;
	sim->crash_countdown = sim->fail_countdown = 0;
	for (unsigned i = 0; i < SIM_PORTS_MAX; i++)
		if (sim->ports[i])
			sim_op_shutdown_all(sim->ports[i]);
	sim->dead = true;
}

bool sim_is_dead(const struct sim *sim)
{
	return sim->dead;
}

void sim_restart(struct sim *sim)
{
	struct sim_disk *disk;

	ASSERT(sim->dead && !has_ports(sim) && !sim->running);
	close_all(sim);
	if (sim->crash == SIM_CRASH_POWER)
		LIST_FOR_EACH (&sim->disks, disk, struct sim_disk, link)
			sim_tree_power_loss(disk, &sim->fate);
	sim->now_ns += sim_random_between(&sim->timing, NSEC_PER_MSEC, REBOOT_MAX_NS);
	sim->dead = false;
	sim_trace(sim, "restart", sim->crash, sim->now_ns, 0);
}
