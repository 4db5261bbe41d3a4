/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives a vDisk in process, in the real world:
 *
 *     bench_engine WHAT --directory=DIR [--mib=N] [--pool-mib=N] [--disks=N] [--factor=N]
 *                       [--depth=N] [--milliseconds=N] [--link=PATH]
 *
 * WHAT: fill (all of it at random, once), fill-sequential, randread, randwrite, randwrite-flush (a
 * flush after each write), seqread, seqwrite, open (how long opening takes), compact (until reclaim
 * has nothing to do), repair (a second copy of everything, on another disk), scrub,
 * randread-repair and randwrite-repair (the 99th percentile without and with a repair beside it, in
 * turn). The state in DIR is made when it is not there, and stays. Block size: 4 KiB, 128 KiB for
 * seq*. Data is verified by the engine's own checksums.
 *
 * serve: the vDisk is namespace 1 of the keeper at --link, on processor 0. Says "serving", then
 * obeys lines on standard input, each with one line of JSON: randread and randwrite drive the vDisk
 * in process, cpu tells the reactor's processor time so far. Ends with its input.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/histogram.h"
#include "bench_rig.h"
#include "block/chance.h"
#include "frontend/nvme/link.h"
#include "pool/container.h"
#include "pool/policy.h"
#include "pool/pool_disk.h"
#include "vdisk/vdisk.h"

#define DEPTH_MAX     256
#define BESIDE_ROUNDS 5
#define LINEAR        UINT32_C(2654435761) /* odd: a permutation of a power of two */

struct job;

struct lane { /* one request at a time */
	struct job *job;
	struct block_request request;
	struct iovec iov;
	bool flushing;
	uint64_t start_ns;
};

struct job {
	const char *what;
	char directory[4096 - 32], link_path[108];
	uint64_t size_bytes, pool_bytes, duration_ns;
	unsigned disks, factor; /* when it is made */
	unsigned depth;
	uint32_t block_bytes;
	enum block_op op;
	bool random, once, flush;

	struct catalog *catalog;
	struct pool *pool;
	struct vdisk_cache *cache;
	struct vdisk *vdisk;
	struct block_volume *volume;

	struct chance chance;
	uint64_t next, blocks, deadline_ns, operations;
	unsigned running;
	int error;
	struct fiber *fiber;
	struct lane lanes[DEPTH_MAX];
	struct bench_result result;
	struct nvme_link *link;
	int fence_fd;
	struct vdisk_stats stats;
	uint64_t open_ns;

	struct histogram alone, beside, *latency; /* latency: of the two, or NULL */
	struct fiber_task repair_task;
	struct vdisk_repair repair;
	bool repair_runs, repair_ends;
	uint64_t repair_ns;
};

static uint64_t draw_block(struct job *job)
{
	uint64_t n = job->next++;

	if (!job->random)
		return n % job->blocks;
	if (!job->once)
		return chance_below(&job->chance, job->blocks);
	/* Each block once, in an order that jumps about. */
	return (uint32_t)(n * LINEAR) % job->blocks;
}

static bool goes_on(const struct job *job)
{
	if (job->error)
		return false;
	return job->once ? job->next < job->blocks : bench_now_ns() < job->deadline_ns;
}

static void lane_next(struct lane *lane)
{
	struct job *job = lane->job;
	struct block_request *request = &lane->request;

	if (!goes_on(job)) {
		if (--job->running == 0)
			fiber_wake(job->fiber);
		return;
	}
	request->op = job->op;
	request->offset = draw_block(job) * job->block_bytes;
	request->length = job->block_bytes;
	request->iov = &lane->iov;
	request->iov_count = 1;
	lane->start_ns = job->latency ? bench_now_ns() : 0;
	block_submit(job->volume, request);
}

static void lane_done(struct block_request *request, int result)
{
	struct lane *lane = CONTAINER_OF(request, struct lane, request);
	struct job *job = lane->job;

	if (result < 0)
		job->error = result;
	if (job->flush && !lane->flushing && result == 0) {
		lane->flushing = true;
		request->op = BLOCK_FLUSH;
		request->offset = request->length = 0;
		request->iov_count = 0;
		block_submit(job->volume, request);
		return;
	}
	lane->flushing = false;
	if (job->latency)
		histogram_record(job->latency, bench_now_ns() - lane->start_ns);
	job->operations++;
	lane_next(lane);
}

/* Beside the first: copies go to files of their own, if not to devices of their own. */
static int add_disk(struct job *job, unsigned number)
{
	char path[4096];
	const struct pool_disk_spec spec = {.directory = path, .capacity_bytes = job->pool_bytes};
	uint64_t id;

	snprintf(path, sizeof(path), "%s/pool%u", job->directory, number);
	return pool_disk_add(job->pool, &spec, &id);
}

static int make(struct job *job, struct world *world, const char *catalog_path)
{
	const struct catalog_options options = {.path = catalog_path, .create = true};
	char pool_path[4096];
	struct pool_spec pool = {
		.name = "bench", .directory = pool_path, .capacity_bytes = job->pool_bytes};
	struct vdisk_spec vdisk = {
		.name = "disk", .size_bytes = job->size_bytes, .block_bytes = 4096};
	struct policy_set policy = {0};
	uint64_t id;
	int r;

	snprintf(pool_path, sizeof(pool_path), "%s/pool", job->directory);
	r = catalog_open(world, &options, &job->catalog);
	if (r == 0)
		r = pool_create(world, job->catalog, &pool, &id);
	if (r == 0)
		r = pool_open(world, job->catalog, id, &job->pool);
	if (r == 0)
		r = container_create(job->catalog, world, id, "c", &vdisk.container_id);
	for (unsigned i = 1; r == 0 && i < job->disks; i++)
		r = add_disk(job, i);
	if (r == 0)
		r = vdisk_create(job->pool, &vdisk, &id);
	if (r == 0)
		r = policy_set_put(&policy, POLICY_REPLICATION_FACTOR, job->factor);
	return r < 0 ? r : policy_put_vdisk(job->catalog, id, &policy);
}

static int open_all(struct job *job)
{
	struct world *world = reactor_world(reactor_current());
	char path[4096];
	const struct catalog_options options = {.path = path};
	uint64_t id;
	int r;

	snprintf(path, sizeof(path), "%s/catalog.db", job->directory);
	r = catalog_open(world, &options, &job->catalog);
	if (r == -ENOENT)
		r = make(job, world, path);
	else if (r == 0 && (r = pool_find(job->catalog, "bench", &id)) == 0)
		r = pool_open(world, job->catalog, id, &job->pool);
	if (r == 0)
		r = vdisk_cache_new(reactor_current(), 512 * MIB, &job->cache);
	if (r == 0)
		r = vdisk_open(job->pool, job->cache, 1, &job->vdisk);
	return r;
}

static void close_all(struct job *job)
{
	int r = vdisk_close(job->vdisk);

	if (r < 0)
		bench_fail("cannot close", r);
	vdisk_cache_free(job->cache);
	pool_close(job->pool);
	catalog_close(job->catalog);
}

static void wait_for_reclaim(struct job *job)
{
	struct vdisk_stats before, after;

	do {
		vdisk_get_stats(job->vdisk, &before);
		fiber_sleep(1 * NSEC_PER_SEC);
		vdisk_get_stats(job->vdisk, &after);
	} while (after.compacted_bytes != before.compacted_bytes ||
		 after.device_read_bytes != before.device_read_bytes);
}

/* A disk in use has its map in memory, and reclaim has looked at it. */
static void warm_up(struct job *job)
{
	void *buffer = aligned_alloc(4096, 4096);
	int r = buffer ? 0 : -ENOMEM;

	for (uint64_t at = 0; r == 0 && at < job->volume->size_bytes; at += MIB)
		r = block_io(job->volume, BLOCK_READ, 0, buffer, 4096, at);
	free(buffer);
	if (r < 0)
		bench_fail("cannot read", r);
	wait_for_reclaim(job);
}

static void lane_start(struct lane *lane, int byte)
{
	struct job *job = lane->job;

	if (!lane->iov.iov_base) {
		lane->iov.iov_len = job->block_bytes;
		lane->iov.iov_base = aligned_alloc(4096, job->block_bytes);
		memset(lane->iov.iov_base, byte, job->block_bytes);
	}
	lane->request.done = lane_done;
	lane_next(lane);
}

static void measure(struct job *job)
{
	uint64_t cpu = bench_cpu_ns(), start = bench_now_ns();

	job->blocks = job->volume->size_bytes / job->block_bytes;
	job->deadline_ns = start + job->duration_ns;
	job->operations = 0;
	job->fiber = fiber_current();
	job->running = job->depth;
	for (unsigned i = 0; i < job->depth; i++) {
		job->lanes[i].job = job;
		lane_start(&job->lanes[i], (int)(i + 1));
	}
	while (job->running > 0)
		fiber_suspend();
	job->result = (struct bench_result){.operations = job->operations,
					    .bytes = job->operations * job->block_bytes,
					    .elapsed_ns = bench_now_ns() - start,
					    .cpu_ns = bench_cpu_ns() - cpu};
}

/* A second copy of everything, which then goes again. */
static void measure_repair(struct job *job)
{
	struct vdisk_repair make = {0}, drop = {0};
	uint64_t cpu, start;
	int r;

	wait_for_reclaim(job);
	vdisk_set_factor(job->vdisk, 2);
	cpu = bench_cpu_ns();
	start = bench_now_ns();
	r = vdisk_repair(job->vdisk, &make);
	job->result = (struct bench_result){.operations = 1,
					    .bytes = make.copied_bytes,
					    .elapsed_ns = bench_now_ns() - start,
					    .cpu_ns = bench_cpu_ns() - cpu};
	vdisk_set_factor(job->vdisk, 1);
	if (r == 0)
		r = vdisk_repair(job->vdisk, &drop);
	if (r < 0)
		bench_fail("repair", r);
}

static bool repair_goes_on(void *arg, uint64_t copied_bytes)
{
	struct job *job = arg;

	(void)copied_bytes;
	return !job->repair_ends;
}

/* One copy more of everything, again and again. */
static void repair_until_told(struct fiber_task *task)
{
	struct job *job = CONTAINER_OF(task, struct job, repair_task);
	int r = 0;

	while (r == 0 && !job->repair_ends) {
		struct vdisk_repair repair = {.progress = repair_goes_on, .arg = job};

		r = vdisk_repair(job->vdisk, &repair);
		job->repair.copied_bytes += repair.copied_bytes;
		if (r < 0)
			break;
		vdisk_set_factor(job->vdisk, 1);
		r = vdisk_repair(job->vdisk, &(struct vdisk_repair){0});
		vdisk_set_factor(job->vdisk, 2);
	}
	if (r < 0 && r != -ECANCELED)
		bench_fail("repair", r);
	job->repair_runs = false;
}

static void start_repair(struct job *job)
{
	job->repair_task = (struct fiber_task){.run = repair_until_told};
	job->repair_runs = true;
	job->repair_ends = false;
	fiber_spawn(reactor_current(), FIBER_RECLAIM, &job->repair_task);
}

static void end_repair(struct job *job)
{
	job->repair_ends = true;
	while (job->repair_runs)
		fiber_sleep(NSEC_PER_MSEC);
}

/* The factor is 2 all the time, so that writes are the same without and with the repair. */
static void measure_beside_repair(struct job *job)
{
	job->duration_ns /= BESIDE_ROUNDS;
	vdisk_set_factor(job->vdisk, 2);
	start_repair(job);
	end_repair(job); /* what is open has been sealed: the log goes on with two copies */
	job->repair.copied_bytes = 0;
	histogram_init(&job->alone);
	histogram_init(&job->beside);
	for (unsigned i = 0; i < BESIDE_ROUNDS; i++) {
		uint64_t start;

		job->latency = &job->alone;
		measure(job);
		start = bench_now_ns();
		job->latency = &job->beside;
		start_repair(job);
		measure(job);
		end_repair(job);
		job->repair_ns += bench_now_ns() - start;
	}
	vdisk_set_factor(job->vdisk, 1);
	if (vdisk_repair(job->vdisk, &(struct vdisk_repair){0}) < 0)
		bench_fail("repair", -EIO);
}

static void measure_scrub(struct job *job)
{
	struct vdisk_scrub scrub = {0};
	uint64_t cpu, start;
	int r;

	wait_for_reclaim(job);
	cpu = bench_cpu_ns();
	start = bench_now_ns();
	r = vdisk_scrub(job->vdisk, &scrub);
	job->result = (struct bench_result){.operations = 1,
					    .bytes = scrub.bytes,
					    .elapsed_ns = bench_now_ns() - start,
					    .cpu_ns = bench_cpu_ns() - cpu};
	if (r < 0 || scrub.damaged)
		bench_fail("scrub", r < 0 ? r : -EUCLEAN);
}

static int run(void *arg)
{
	struct job *job = arg;
	uint64_t start = bench_now_ns();
	int r = open_all(job);

	if (r < 0)
		return r;
	job->open_ns = bench_now_ns() - start;
	job->volume = vdisk_volume(job->vdisk);
	if (job->op != BLOCK_OP_COUNT && !job->once)
		warm_up(job);
	if (strstr(job->what, "-repair"))
		measure_beside_repair(job);
	else if (job->op != BLOCK_OP_COUNT)
		measure(job);
	else if (strcmp(job->what, "compact") == 0)
		wait_for_reclaim(job);
	else if (strcmp(job->what, "repair") == 0)
		measure_repair(job);
	else if (strcmp(job->what, "scrub") == 0)
		measure_scrub(job);
	vdisk_get_stats(job->vdisk, &job->stats);
	close_all(job);
	return job->error;
}

/* --- serve --- */

static int open_link(struct job *job)
{
	struct nvme_link_options options = {.home = reactor_current(),
					    .path = job->link_path,
					    .fence_fd = job->fence_fd,
					    .controller = {.name = "bench",
							   .serial = "BENCH",
							   .model = "Sarsen bench",
							   .controller_id = 1,
							   .subsystem_id = 1}};
	struct nvme_namespace_options ns = {
		.nsid = 1, .nguid = {1, 1}, .volume = job->volume, .thin = true};
	int r = nvme_link_open(&options, &job->link);

	if (r == 0)
		r = nvme_namespace_attach(nvme_link_controller(job->link), &ns);
	if (r == 0)
		nvme_link_start(job->link);
	return r;
}

static int serve_begin(void *arg)
{
	struct job *job = arg;
	int r = open_all(job);

	if (r < 0)
		return r;
	job->volume = vdisk_volume(job->vdisk);
	warm_up(job);
	return open_link(job);
}

static int serve_measure(void *arg)
{
	struct job *job = arg;

	measure(job);
	return job->error;
}

static int serve_cpu(void *arg)
{
	struct job *job = arg;

	job->result = (struct bench_result){.cpu_ns = bench_cpu_ns()};
	return 0;
}

static int serve_end(void *arg)
{
	struct job *job = arg;

	nvme_link_close(job->link);
	close_all(job);
	return 0;
}

static void serve_lines(struct job *job, struct bench_rig *rig)
{
	char line[32];
	int r;

	printf("serving\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		bool read = strcmp(line, "randread\n") == 0;

		job->op = read ? BLOCK_READ : BLOCK_WRITE;
		if (strcmp(line, "cpu\n") == 0)
			r = bench_rig_run(rig, serve_cpu, job);
		else if (read || strcmp(line, "randwrite\n") == 0)
			r = bench_rig_run(rig, serve_measure, job);
		else
			r = -EINVAL;
		if (r < 0)
			bench_fail(line, r);
		bench_print(&job->result);
		fflush(stdout);
	}
}

static void serve(struct job *job)
{
	struct bench_rig rig;
	int fence[2], r;

	if (pipe(fence) < 0)
		bench_fail("pipe", -errno);
	job->fence_fd = fence[0];
	job->random = true;
	bench_rig_init_with(
		&rig, &(struct world_real_options){.fence_fd = -1, .fence_pipe_fd = fence[1]},
		&(struct reactor_options){.index = 0, .pin = true, .poll_ns = 50 * NSEC_PER_USEC});
	close(fence[1]); /* the ring has it now, and nobody else */
	r = bench_rig_run(&rig, serve_begin, job);
	if (r < 0)
		bench_fail("serve", r);
	serve_lines(job, &rig);
	r = bench_rig_run(&rig, serve_end, job);
	if (r < 0)
		bench_fail("end", r);
	bench_rig_done(&rig);
	close(fence[0]);
}

static void choose(struct job *job)
{
	static const struct {
		const char *what;
		enum block_op op;
		uint32_t block_bytes;
		bool random, once, flush;
	} kinds[] = {
		{"fill", BLOCK_WRITE, 4096, true, true, false},
		{"fill-sequential", BLOCK_WRITE, 128 * 1024, false, true, false},
		{"randread", BLOCK_READ, 4096, true, false, false},
		{"randwrite", BLOCK_WRITE, 4096, true, false, false},
		{"randwrite-flush", BLOCK_WRITE, 4096, true, false, true},
		{"randread-repair", BLOCK_READ, 4096, true, false, false},
		{"randwrite-repair", BLOCK_WRITE, 4096, true, false, false},
		{"seqread", BLOCK_READ, 128 * 1024, false, false, false},
		{"seqwrite", BLOCK_WRITE, 128 * 1024, false, false, false},
		{"open", BLOCK_OP_COUNT, 4096, false, false, false},
		{"compact", BLOCK_OP_COUNT, 4096, false, false, false},
		{"repair", BLOCK_OP_COUNT, 4096, false, false, false},
		{"scrub", BLOCK_OP_COUNT, 4096, false, false, false},
		{"serve", BLOCK_OP_COUNT, 4096, true, false, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(job->what, kinds[i].what) == 0) {
			job->op = kinds[i].op;
			job->block_bytes = kinds[i].block_bytes;
			job->random = kinds[i].random;
			job->once = kinds[i].once;
			job->flush = kinds[i].flush;
			return;
		}
	bench_fail(job->what, -EINVAL);
}

static void read_options(struct job *job, int argc, char **argv)
{
	if (argc < 2)
		bench_fail("usage: bench_engine WHAT --directory=DIR ...", -EINVAL);
	job->what = argv[1];
	for (int i = 2; i < argc; i++)
		if (strncmp(argv[i], "--directory=", 12) == 0)
			snprintf(job->directory, sizeof(job->directory), "%s", argv[i] + 12);
		else if (strncmp(argv[i], "--link=", 7) == 0)
			snprintf(job->link_path, sizeof(job->link_path), "%s", argv[i] + 7);
	if (!job->directory[0])
		bench_fail("--directory=DIR is missing", -EINVAL);
	job->size_bytes = bench_option(argc, argv, "mib", 1024) * MIB;
	job->pool_bytes = bench_option(argc, argv, "pool-mib", job->size_bytes / MIB * 2) * MIB;
	job->disks = (unsigned)bench_option(argc, argv, "disks", 1);
	job->factor = (unsigned)bench_option(argc, argv, "factor", 1);
	job->depth = (unsigned)bench_option(argc, argv, "depth", 32);
	job->duration_ns = bench_option(argc, argv, "milliseconds", 2000) * NSEC_PER_MSEC;
	if (job->depth < 1 || job->depth > DEPTH_MAX)
		bench_fail("--depth", -ERANGE);
	choose(job);
}

/* The most memory that the process had. */
static uint64_t resident_bytes(void)
{
	struct rusage usage;

	ASSERT(getrusage(RUSAGE_SELF, &usage) == 0);
	return (uint64_t)usage.ru_maxrss * KIB;
}

static void print_beside_repair(const struct job *job)
{
	printf(", \"p50_alone_ns\": %" PRIu64 ", \"p50_beside_ns\": %" PRIu64
	       ", \"p99_alone_ns\": %" PRIu64 ", \"p99_beside_ns\": %" PRIu64
	       ", \"copied_bytes\": %" PRIu64 ", \"copied_seconds\": %.6f",
	       histogram_percentile_ns(&job->alone, 50), histogram_percentile_ns(&job->beside, 50),
	       histogram_percentile_ns(&job->alone, 99), histogram_percentile_ns(&job->beside, 99),
	       job->repair.copied_bytes, (double)job->repair_ns / 1e9);
}

static void print_job(const struct job *job)
{
	printf("{\"operations\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"seconds\": %.6f, "
	       "\"cpu_seconds\": %.6f, \"open_seconds\": %.6f, \"device_written\": %" PRIu64
	       ", \"device_read\": %" PRIu64 ", \"map_memory\": %" PRIu64 ", \"groups\": %" PRIu64
	       ", \"live\": %" PRIu64 ", \"compacted\": %" PRIu64 ", \"checkpoints\": %" PRIu64
	       ", \"resident\": %" PRIu64,
	       job->result.operations, job->result.bytes, (double)job->result.elapsed_ns / 1e9,
	       (double)job->result.cpu_ns / 1e9, (double)job->open_ns / 1e9,
	       job->stats.device_written_bytes, job->stats.device_read_bytes,
	       job->stats.map_memory_bytes, job->stats.groups, job->stats.live_bytes,
	       job->stats.compacted_bytes, job->stats.checkpoints, resident_bytes());
	if (job->latency)
		print_beside_repair(job);
	printf("}\n");
}

int main(int argc, char **argv)
{
	struct job *job = calloc(1, sizeof(*job));
	const struct rlimit files = {65536, 65536};
	struct bench_rig rig;
	int r;

	if (!job)
		bench_fail("memory", -ENOMEM);
	read_options(job, argc, argv);
	(void)setrlimit(RLIMIT_NOFILE, &files);
	(void)mkdir(job->directory, 0755);
	chance_init(&job->chance, bench_now_ns());
	if (strcmp(job->what, "serve") == 0) {
		serve(job);
		return 0;
	}
	bench_rig_init(&rig);
	r = bench_rig_run(&rig, run, job);
	bench_rig_done(&rig);
	if (r < 0)
		bench_fail(job->what, r);
	print_job(job);
	for (unsigned i = 0; i < job->depth; i++)
		free(job->lanes[i].iov.iov_base);
	free(job);
	return 0;
}
