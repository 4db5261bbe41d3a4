/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_load.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "sim_run.h"

#define VERIFY_STEP (1 * MIB)

void engine_load_result(const struct engine_load *load, const char *what, int result)
{
	SIM_RUN_CHECK(result == 0 || (load->is_fault && load->is_fault(load, result)) ||
			      (load->crashing && result < 0),
		      "%s: %d", what, result);
}

static bool is_whole(struct mix_range range)
{
	return range.first % 8 == 0 && range.count % 8 == 0;
}

/* Where the model's sector lies on the vDisk, in bytes: its MiB are spread, so that the map has
 * several levels and subtrees are unmapped whole. */
uint64_t engine_load_offset(const struct engine_load *load, uint64_t sector)
{
	uint64_t byte = sector * SECTOR;

	return byte / MIB * load->spread * MIB + byte % MIB;
}

/* What lies between, too, when the range is longer than what is left of its MiB. */
static uint64_t length_of(const struct engine_load *load, struct mix_range range)
{
	uint64_t last = range.first + range.count - 1;

	return engine_load_offset(load, last) + SECTOR - engine_load_offset(load, range.first);
}

static int io(struct engine_client *client, enum block_op op, unsigned flags,
	      struct mix_range range)
{
	struct engine_load *load = client->load;
	bool has_data = op == BLOCK_READ || op == BLOCK_WRITE || op == BLOCK_COMPARE;

	return block_io(load->rig->volume, op, flags, has_data ? client->buffer : NULL,
			length_of(load, range), engine_load_offset(load, range.first));
}

static void do_read(struct engine_client *client, struct mix_range range)
{
	struct engine_load *load = client->load;
	uint64_t acked = load->model.acked;
	int r;

	memset(client->buffer, 0xA5, range.count * SECTOR);
	r = io(client, BLOCK_READ, 0, range);
	engine_load_result(load, "read", r);
	if (r == 0)
		model_check_read(&load->model, range.first, range.count, client->buffer, acked);
}

static void settle(struct engine_client *client, uint32_t op, int r, bool durable)
{
	struct engine_load *load = client->load;

	engine_load_result(load, "write", r);
	if (r == 0)
		model_acknowledge(&load->model, op, durable);
	else
		model_fail(&load->model, op);
}

static void do_write(struct engine_client *client, struct mix_range range, bool fua)
{
	struct engine_load *load = client->load;
	uint32_t op =
		model_begin(&load->model, range.first, range.count, false, is_whole(range) && !fua);

	model_fill(op, range.first, range.count, client->buffer);
	settle(client, op, io(client, BLOCK_WRITE, fua ? BLOCK_FUA : 0, range), fua);
}

static void do_zero(struct engine_client *client, struct mix_range range, enum block_op kind)
{
	struct engine_load *load = client->load;
	uint32_t op = model_begin(&load->model, range.first, range.count, true, is_whole(range));

	settle(client, op, io(client, kind, 0, range), false);
}

static void do_flush(struct engine_client *client)
{
	struct engine_load *load = client->load;
	uint64_t acked = load->model.acked;
	int r = block_io(load->rig->volume, BLOCK_FLUSH, 0, NULL, 0, 0);

	engine_load_result(load, "flush", r);
	if (r == 0)
		model_flushed(&load->model, acked);
}

/* Reads, then swaps: nothing else is in flight on the range, so it must match. */
static void do_compare_and_write(struct engine_client *client, struct mix_range range)
{
	struct engine_load *load = client->load;
	struct block_wait wait;
	struct iovec iov;
	uint32_t op;
	int r;

	range.count = MIN(range.count, UINT64_C(64));
	r = io(client, BLOCK_READ, 0, range);
	engine_load_result(load, "read before compare-and-write", r);
	if (r < 0)
		return;
	op = model_begin(&load->model, range.first, range.count, false, false);
	model_fill(op, range.first, range.count, client->buffer + range.count * SECTOR);
	iov = (struct iovec){client->buffer, 2 * range.count * SECTOR};
	wait = (struct block_wait){.request = {.op = BLOCK_COMPARE_AND_WRITE,
					       .offset = engine_load_offset(load, range.first),
					       .length = range.count * SECTOR,
					       .iov = &iov,
					       .iov_count = 1}};
	settle(client, op, block_wait(load->rig->volume, &wait), false);
}

static void do_status(struct engine_client *client, struct mix_range range)
{
	struct engine_load *load = client->load;
	struct block_wait wait = {.request = {.op = BLOCK_STATUS,
					      .offset = engine_load_offset(load, range.first),
					      .length = length_of(load, range)}};
	int r = block_wait(load->rig->volume, &wait);

	engine_load_result(load, "status", r);
	SIM_RUN_CHECK(r < 0 || (wait.request.status.length > 0 &&
				wait.request.status.length <= length_of(load, range)),
		      "status: length %" PRIu64, wait.request.status.length);
}

/* Finds nothing wrong, whatever is going on. */
static void do_check(struct engine_client *client)
{
	struct engine_load *load = client->load;
	struct vdisk_check_report report = {0};
	int r;

	if (!load->checks)
		return;
	r = vdisk_check(load->rig->vdisk, chance_below(&client->chance, 2), NULL, NULL, &report);
	engine_load_result(load, "check", r);
	SIM_RUN_CHECK(r < 0 || load->crashing ||
			      report.bad_pages + report.bad_blocks + report.missing_live_blocks +
					      report.leaked_blocks ==
				      0,
		      "check beside others: bad pages %" PRIu64 ", bad blocks %" PRIu64
		      ", missing %" PRIu64 ", leaked %" PRIu64,
		      report.bad_pages, report.bad_blocks, report.missing_live_blocks,
		      report.leaked_blocks);
}

static void act(struct engine_client *client, enum mix_action action, struct mix_range range)
{
	switch (action) {
	case MIX_READ:
		do_read(client, range);
		return;
	case MIX_WRITE:
		do_write(client, range, false);
		return;
	case MIX_WRITE_FUA:
		do_write(client, range, true);
		return;
	case MIX_ZERO:
		do_zero(client, range, BLOCK_WRITE_ZEROES);
		return;
	case MIX_UNMAP:
		do_zero(client, range, BLOCK_UNMAP);
		return;
	case MIX_SWAP:
		do_compare_and_write(client, range);
		return;
	default:
		do_status(client, range);
	}
}

/* Of a pool that is to be full: first everything once, then anything. */
static struct mix_range fill_range(struct engine_client *client)
{
	struct engine_load *load = client->load;
	uint64_t count = load->size_bytes / OP_MAX;
	uint64_t at = load->filled < count ? load->filled++ : chance_below(&client->chance, count);

	return (struct mix_range){at * (OP_MAX / SECTOR), OP_MAX / SECTOR};
}

static void operate(struct engine_client *client)
{
	struct engine_load *load = client->load;
	enum mix_action action = mix_draw_action(&load->mix, &client->chance);
	struct mix_range range =
		mix_draw_range(&load->mix, &client->chance, action, load->size_bytes / SECTOR);
	uint64_t start_ns = reactor_now_ns(reactor_current());

	if (action == MIX_FLUSH) {
		do_flush(client);
		load->longest_ns =
			MAX(load->longest_ns, reactor_now_ns(reactor_current()) - start_ns);
		return;
	}
	if (action == MIX_CHECK) {
		do_check(client);
		return;
	}
	if (action == MIX_CHECKPOINT) {
		int r = vdisk_checkpoint(load->rig->vdisk);

		if (!(load->retries && r < 0 && r != -EUCLEAN && r != -EBADMSG))
			engine_load_result(load, "checkpoint", r);
		return;
	}
	if (load->fills && chance_below(&client->chance, 10))
		range = fill_range(client);
	if (load->spread > 1 && mix_moves_data(action))
		range.count = MIN(range.count, MIB / SECTOR - range.first % (MIB / SECTOR));
	if (!model_claim(&load->model, range.first, range.count))
		return;
	start_ns = reactor_now_ns(reactor_current());
	act(client, action, range);
	load->longest_ns = MAX(load->longest_ns, reactor_now_ns(reactor_current()) - start_ns);
	model_release(&load->model, range.first, range.count);
}

static void client_run(void *arg)
{
	struct engine_client *client = arg;

	for (unsigned i = 0; i < client->operations; i++) {
		operate(client);
		if (sim_is_dead(client->load->rig->sim.sim))
			return;
		if (chance_below(&client->chance, client->load->mix.idle) == 0)
			fiber_sleep(chance_below(&client->chance, 20 * NSEC_PER_MSEC));
	}
}

static void verify_run(void *arg)
{
	struct engine_load *load = arg;

	for (uint64_t at = 0; at < load->size_bytes; at += VERIFY_STEP) {
		uint64_t length = MIN(VERIFY_STEP, load->size_bytes - at);
		int r = block_io(load->rig->volume, BLOCK_READ, 0, load->verify, length,
				 at * load->spread);

		SIM_RUN_CHECK(r == 0, "verify: read at %" PRIu64 ": %d", at, r);
		model_check_read(&load->model, at / SECTOR, length / SECTOR, load->verify,
				 load->model.acked);
	}
}

static void verify_crash_run(void *arg)
{
	struct engine_load *load = arg;
	struct model_cut *cut = model_cut_new(&load->model, load->crash_kind);

	for (uint64_t at = 0; at < load->size_bytes; at += VERIFY_STEP) {
		uint64_t length = MIN(VERIFY_STEP, load->size_bytes - at);
		int r = block_io(load->rig->volume, BLOCK_READ, 0, load->verify, length,
				 at * load->spread);

		SIM_RUN_CHECK(r == 0, "after the crash: read at %" PRIu64 ": %d", at, r);
		model_cut_add(cut, at / SECTOR, length / SECTOR, load->verify);
	}
	model_cut_finish(cut);
}

static void check_clean_run(void *arg)
{
	struct engine_load *load = arg;
	struct vdisk_check_report report;
	struct vdisk_stats stats;
	int r = vdisk_check(load->rig->vdisk, true, NULL, NULL, &report);

	SIM_RUN_CHECK(r == 0, "check: %d", r);
	SIM_RUN_CHECK(report.bad_pages + report.bad_blocks + report.missing_live_blocks +
				      report.leaked_blocks ==
			      0,
		      "check: bad pages %" PRIu64 ", bad blocks %" PRIu64 ", missing %" PRIu64
		      ", leaked %" PRIu64,
		      report.bad_pages, report.bad_blocks, report.missing_live_blocks,
		      report.leaked_blocks);
	vdisk_get_stats(load->rig->vdisk, &stats);
	SIM_RUN_CHECK(stats.live_bytes == (report.pages + report.blocks) * 4096,
		      "check: the account says %" PRIu64 " bytes, the map %" PRIu64 " slots",
		      stats.live_bytes, report.pages + report.blocks);
}

void engine_load_verify(struct engine_load *load)
{
	sim_rig_run(&load->rig->sim, 0, verify_run, load);
}

void engine_load_verify_crash(struct engine_load *load, enum model_crash kind)
{
	load->crash_kind = kind;
	sim_rig_run(&load->rig->sim, 0, verify_crash_run, load);
}

void engine_load_check_clean(struct engine_load *load)
{
	sim_rig_run(&load->rig->sim, 0, check_clean_run, load);
}

void engine_load_start(struct engine_load *load, struct sim_rig_task *tasks, unsigned least,
		       unsigned more)
{
	for (unsigned i = 0; i < ENGINE_LOAD_CLIENTS; i++) {
		struct engine_client *client = &load->clients[i];

		client->operations = least + (unsigned)chance_below(load->chance, more);
		tasks[i] = (struct sim_rig_task){.run = client_run, .arg = client};
		sim_rig_start(&load->rig->sim, 0, &tasks[i]);
	}
}

void engine_load_init(struct engine_load *load, struct engine_rig *rig, struct chance *chance,
		      uint64_t seed)
{
	load->rig = rig;
	load->chance = chance;
	model_init(&load->model, load->max_bytes / SECTOR);
	load->model.overtaking = load->fills;
	load->verify = aligned_alloc(4096, VERIFY_STEP);
	for (unsigned i = 0; i < ENGINE_LOAD_CLIENTS; i++) {
		struct engine_client *client = &load->clients[i];

		client->load = load;
		chance_init(&client->chance, seed * 1000 + i);
		client->buffer = aligned_alloc(4096, 2 * OP_MAX);
		SIM_RUN_CHECK(client->buffer && load->verify, "out of memory");
	}
}

void engine_load_done(struct engine_load *load)
{
	for (unsigned i = 0; i < ENGINE_LOAD_CLIENTS; i++)
		free(load->clients[i].buffer);
	free(load->verify);
	model_done(&load->model);
}
