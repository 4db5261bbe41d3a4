/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulation of the block layer: a stack of volumes drawn by the seed (memory; then error,
 * delay and emulate in some order) on one of three reactors, used at once by clients of all
 * reactors through remote volumes, against the model of block_model.h.
 *
 * The first blocks are counters: clients increment them by compare-and-write, and no
 * increment may be lost. All other operations go to the blocks behind. Between rounds
 * nothing is in flight; then everything is read and compared from a reactor of the seed's
 * choice.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "block/chance.h"
#include "block/delay.h"
#include "block/emulate.h"
#include "block/error.h"
#include "block/memory.h"
#include "block/remote.h"
#include "block_model.h"
#include "sim_rig.h"
#include "sim_run.h"

#define REACTORS            3
#define CLIENTS_PER_REACTOR 4
#define CLIENTS             (REACTORS * CLIENTS_PER_REACTOR)
#define COUNTERS            2
#define BLOCKS_MAX          96
#define LENGTH_MAX          8 /* blocks of an ordinary request */
#define ROUNDS              3
#define OPERATIONS          25 /* of one client in one round */
#define INCREMENTS          4
#define LIMIT_NS            (60 * NSEC_PER_SEC)

struct client {
	struct simulation *simulation;
	struct block_volume *volume;
	struct chance chance;
	unsigned reactor;
	uint64_t since;
	uint64_t block,
		count; /* of the current operation; block 0 is the first behind the counters */
	struct block_wait wait;
	struct iovec iov[3];
	unsigned char buffer[2 * BLOCKS_MAX * 4096];
};

struct simulation {
	struct sim_rig rig;
	struct chance chance;
	struct block_model model;
	unsigned home; /* of the stack */
	unsigned stack_count;
	struct block_volume *stack[4]; /* bottom first */
	struct block_volume *remotes[REACTORS];
	struct block_volume *fronts[REACTORS]; /* a delay before the remote, or the remote itself */
	struct block_volume *error;
	uint64_t increments[COUNTERS];
	uint64_t hash;
	struct client clients[CLIENTS];
};

static const int injected_errors[] = {-EIO, -ENOSPC, -EREMOTEIO, -EBADMSG};

static void mix(struct simulation *simulation, uint64_t value)
{
	simulation->hash = (simulation->hash ^ value) * UINT64_C(0x100000001b3);
}

static uint64_t below(struct client *client, uint64_t bound)
{
	return chance_below(&client->chance, bound);
}

/* The stack. */

static void push(struct simulation *simulation, int result, struct block_volume *volume)
{
	SIM_RUN_CHECK(result == 0, "making a volume: %d", result);
	simulation->stack[simulation->stack_count++] = volume;
}

static struct block_volume *top_of(struct simulation *simulation)
{
	return simulation->stack[simulation->stack_count - 1];
}

static struct delay_options draw_delays(struct chance *chance)
{
	return (struct delay_options){
		.ops = chance_below(chance, 2) ? (unsigned)chance_next(chance) : 0,
		.before_ns = chance_below(chance, 2000),
		.before_random_ns = chance_below(chance, 3) * chance_below(chance, 20000),
		.after_ns = chance_below(chance, 2) * chance_below(chance, 2000),
		.after_random_ns = chance_below(chance, 3) * chance_below(chance, 20000),
		.seed = chance_next(chance),
		.requests = 1 + (unsigned)chance_below(chance, 8),
	};
}

static void push_wrapper(struct simulation *simulation, unsigned kind)
{
	struct chance *chance = &simulation->chance;
	struct block_volume *below_it = top_of(simulation), *volume = NULL;
	struct delay_options delays = draw_delays(chance);
	struct emulate_options emulation = {
		.native_ops = EMULATE_BASIC_OPS | (unsigned)chance_next(chance),
		.requests = 1 + (unsigned)chance_below(chance, 8),
		.emulations = 1 + (unsigned)chance_below(chance, 3),
	};
	int result;

	if (chance_below(chance, 2)) /* mostly what is interesting */
		emulation.native_ops &= ~(1u << BLOCK_COMPARE_AND_WRITE);
	if (kind == 0) {
		result = delay_volume_new(below_it, &delays, &volume);
	} else if (kind == 1) {
		result = emulate_volume_new(below_it, &emulation, &volume);
	} else {
		result = error_volume_new(below_it, chance_next(chance), 4, &volume);
		simulation->error = volume;
	}
	push(simulation, result, volume);
}

static void make_stack(struct simulation *simulation)
{
	struct chance *chance = &simulation->chance;
	uint32_t block_bytes = chance_below(chance, 3) ? 512 : 4096;
	uint64_t blocks = 16 + chance_below(chance, BLOCKS_MAX - 16 + 1);
	unsigned order = (unsigned)chance_below(chance, 6);
	static const unsigned char orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
						   {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
	struct block_volume *memory = NULL;
	int result;

	simulation->home = (unsigned)chance_below(chance, REACTORS);
	result = memory_volume_new(simulation->rig.reactors[simulation->home], blocks * block_bytes,
				   block_bytes, &memory);
	push(simulation, result, memory);
	for (unsigned i = 0; i < 3; i++)
		if (chance_below(chance, 4))
			push_wrapper(simulation, orders[order][i]);
	block_model_init(&simulation->model, block_bytes, blocks - COUNTERS);
}

static void make_fronts(struct simulation *simulation)
{
	struct chance *chance = &simulation->chance;

	for (unsigned i = 0; i < REACTORS; i++) {
		struct delay_options delays = draw_delays(chance);
		unsigned requests = 1 + (unsigned)chance_below(chance, 8);
		int result = remote_volume_new(top_of(simulation), simulation->rig.reactors[i],
					       requests, &simulation->remotes[i]);

		simulation->fronts[i] = simulation->remotes[i];
		if (result == 0 && chance_below(chance, 3) == 0)
			result = delay_volume_new(simulation->remotes[i], &delays,
						  &simulation->fronts[i]);
		SIM_RUN_CHECK(result == 0, "making a remote volume: %d", result);
	}
}

static void free_volume(struct block_volume *volume)
{
	SIM_RUN_CHECK(volume->in_flight == 0, "%s: %" PRIu64 " requests are still in flight",
		      volume->ops->kind, volume->in_flight);
	block_volume_free(volume);
}

static void free_volumes(struct simulation *simulation)
{
	for (unsigned i = 0; i < REACTORS; i++) {
		if (simulation->fronts[i] != simulation->remotes[i])
			free_volume(simulation->fronts[i]);
		free_volume(simulation->remotes[i]);
	}
	for (unsigned i = simulation->stack_count; i-- > 0;)
		free_volume(simulation->stack[i]);
}

/*
 * On the stack's reactor. Counters are spared: a failed increment would be neither lost nor
 * made.
 */
static void add_rules(void *arg)
{
	struct simulation *simulation = arg;
	struct chance *chance = &simulation->chance;
	uint64_t block_bytes = simulation->model.block_bytes;

	error_volume_clear(simulation->error);
	for (uint64_t i = chance_below(chance, 4); i > 0; i--) {
		struct error_rule rule = {
			.ops = chance_below(chance, 2) ? (unsigned)chance_next(chance) : 0,
			.offset = COUNTERS * block_bytes,
			.length = simulation->model.block_count * block_bytes,
			.skip = chance_below(chance, 40),
			.times = chance_below(chance, 4),
			.chance_ppm = (uint32_t)chance_below(chance, 200000),
			.error = injected_errors[chance_below(chance, ARRAY_SIZE(injected_errors))],
			.after = chance_below(chance, 2),
		};

		if (chance_below(chance, 4) == 0) {
			rule.ops = 1u << BLOCK_FLUSH;
			rule.length = 0;
		}
		SIM_RUN_CHECK(error_volume_add(simulation->error, &rule) == 0, "adding a rule");
	}
}

/* Requests. */

/* Sends what is in client->block, count and buffer; splits the data at random. */
static int perform(struct client *client, enum block_op op, unsigned flags)
{
	struct block_request *request = &client->wait.request;
	uint64_t block_bytes = client->volume->block_bytes;
	uint64_t left = client->count * block_bytes * (op == BLOCK_COMPARE_AND_WRITE ? 2 : 1);
	unsigned char *at = client->buffer;
	int result;

	request->op = op;
	request->flags = flags;
	request->offset = op == BLOCK_FLUSH ? 0 : (COUNTERS + client->block) * block_bytes;
	request->length = op == BLOCK_FLUSH ? 0 : client->count * block_bytes;
	request->iov = client->iov;
	request->iov_count = block_op_has_data(op) ? ARRAY_SIZE(client->iov) : 0;
	for (int i = 0; i < request->iov_count; i++) {
		uint64_t part = i + 1 == request->iov_count ? left : below(client, left + 1);

		client->iov[i] = (struct iovec){at, part};
		at += part;
		left -= part;
	}
	result = block_wait(client->volume, &client->wait);
	mix(client->simulation, (uint64_t)(result + 200) * BLOCK_OP_COUNT + op);
	mix(client->simulation, reactor_now_ns(client->volume->home));
	return result;
}

static void check_error(struct client *client, enum block_op op, int result)
{
	for (size_t i = 0; i < ARRAY_SIZE(injected_errors); i++)
		if (client->simulation->error && result == injected_errors[i])
			return;
	sim_run_fail("%s of block %" PRIu64 " (%" PRIu64 " blocks): error %d", block_op_name(op),
		     client->block, client->count, result);
}

static unsigned char *buffer_of(struct client *client, uint64_t index)
{
	return client->buffer + index * client->volume->block_bytes;
}

static void check_seen(struct client *client, uint64_t block, uint64_t id, const char *what)
{
	SIM_RUN_CHECK(block_model_may_be(&client->simulation->model, block, id, client->since, 0),
		      "%s: block %" PRIu64 " cannot hold content %" PRIu64, what, block, id);
}

static void do_read(struct client *client)
{
	struct block_model *model = &client->simulation->model;
	int result;

	memset(client->buffer, 0xa5, client->count * model->block_bytes);
	result = perform(client, BLOCK_READ, below(client, 8) ? 0 : BLOCK_FUA);
	if (result < 0) {
		check_error(client, BLOCK_READ, result);
		return;
	}
	for (uint64_t i = 0; i < client->count; i++) {
		uint64_t id = 0;

		SIM_RUN_CHECK(
			block_model_identify(model, client->block + i, buffer_of(client, i), &id),
			"read: block %" PRIu64 " holds what was never written", client->block + i);
		check_seen(client, client->block + i, id, "read");
		mix(client->simulation, id);
	}
}

static void do_write(struct client *client, enum block_op op)
{
	struct block_model *model = &client->simulation->model;
	uint64_t id = op == BLOCK_WRITE ? block_model_new_ids(model, client->count) : 0;
	unsigned flags = below(client, 4) ? 0 : BLOCK_FUA;
	uint64_t write;
	int result;

	if (op == BLOCK_WRITE_ZEROES && below(client, 2))
		flags |= BLOCK_NO_RELEASE;
	for (uint64_t i = 0; id && i < client->count; i++)
		block_model_fill(model, client->block + i, id + i, buffer_of(client, i));
	write = block_model_write(model, client->block, client->count, id);
	result = perform(client, op, flags);
	if (result < 0)
		check_error(client, op, result);
	block_model_written(model, client->block, client->count, write,
			    result < 0 ? BLOCK_MODEL_FAILED : BLOCK_MODEL_DONE);
}

struct difference {
	const struct block_model *model;
	uint64_t block;
	const unsigned char *expected;
	uint32_t at;
};

/* Whether comparing with that content finds its first difference at `at`. */
static bool differs_there(uint64_t id, void *arg)
{
	const struct difference *difference = arg;
	unsigned char bytes[4096];

	block_model_fill(difference->model, difference->block, id, bytes);
	return memcmp(bytes, difference->expected, difference->at) == 0 &&
	       bytes[difference->at] != difference->expected[difference->at];
}

static void check_miscompare(struct client *client, const uint64_t *expected_ids, uint64_t write)
{
	struct block_model *model = &client->simulation->model;
	uint64_t offset = client->wait.request.miscompare_offset;
	uint64_t index = offset / model->block_bytes;
	struct difference difference = {
		.model = model,
		.block = client->block + index,
		.expected = buffer_of(client, index),
		.at = (uint32_t)(offset % model->block_bytes),
	};

	SIM_RUN_CHECK(index < client->count, "miscompare beyond the end: %" PRIu64, offset);
	for (uint64_t i = 0; i < index; i++)
		SIM_RUN_CHECK(block_model_may_be(model, client->block + i, expected_ids[i],
						 client->since, write),
			      "compare: block %" PRIu64 " cannot be equal", client->block + i);
	SIM_RUN_CHECK(block_model_any(model, client->block + index, client->since, write,
				      differs_there, &difference),
		      "compare: block %" PRIu64 " cannot differ at %u", client->block + index,
		      difference.at);
}

/* Puts what may be there into the buffer, now and then with one byte changed. */
static void fill_expected(struct client *client, uint64_t *ret_ids)
{
	struct block_model *model = &client->simulation->model;

	for (uint64_t i = 0; i < client->count; i++) {
		ret_ids[i] = block_model_likely(model, client->block + i);
		block_model_fill(model, client->block + i, ret_ids[i], buffer_of(client, i));
	}
}

static void do_compare(struct client *client)
{
	struct block_model *model = &client->simulation->model;
	uint64_t ids[LENGTH_MAX];
	bool change = below(client, 4) == 0;
	int result;

	fill_expected(client, ids);
	if (change)
		client->buffer[below(client, client->count * model->block_bytes)] ^= 1;
	result = perform(client, BLOCK_COMPARE, 0);
	if (result == -EILSEQ && !change)
		check_miscompare(client, ids, 0);
	else if (result < 0 && result != -EILSEQ)
		check_error(client, BLOCK_COMPARE, result);
	SIM_RUN_CHECK(result != 0 || !change, "compare: missed a difference");
	for (uint64_t i = 0; result == 0 && i < client->count; i++)
		check_seen(client, client->block + i, ids[i], "compare");
}

static void do_compare_and_write(struct client *client)
{
	struct block_model *model = &client->simulation->model;
	uint64_t ids[LENGTH_MAX], id = block_model_new_ids(model, client->count), write;
	enum block_model_outcome outcome = BLOCK_MODEL_DONE;
	int result;

	fill_expected(client, ids);
	for (uint64_t i = 0; i < client->count; i++)
		block_model_fill(model, client->block + i, id + i,
				 buffer_of(client, client->count + i));
	write = block_model_write(model, client->block, client->count, id);
	result = perform(client, BLOCK_COMPARE_AND_WRITE, below(client, 4) ? 0 : BLOCK_FUA);
	if (result == -EILSEQ) {
		check_miscompare(client, ids, write);
		outcome = BLOCK_MODEL_NOT_DONE;
	} else if (result < 0) {
		check_error(client, BLOCK_COMPARE_AND_WRITE, result);
		outcome = BLOCK_MODEL_FAILED;
	}
	for (uint64_t i = 0; result == 0 && i < client->count; i++) {
		check_seen(client, client->block + i, ids[i], "compare-and-write");
		block_model_found(model, client->block + i, write, ids[i]);
	}
	block_model_written(model, client->block, client->count, write, outcome);
}

static void do_status(struct client *client)
{
	struct block_status *status = &client->wait.request.status;
	uint32_t block_bytes = client->volume->block_bytes;
	int result = perform(client, BLOCK_STATUS, 0);

	if (result < 0) {
		check_error(client, BLOCK_STATUS, result);
		return;
	}
	SIM_RUN_CHECK(status->length > 0 && status->length % block_bytes == 0 &&
			      status->length <= client->count * block_bytes,
		      "status: length %" PRIu64, status->length);
	SIM_RUN_CHECK(status->allocated || status->zero, "status: neither allocated nor zero");
	for (uint64_t i = 0; status->zero && i < status->length / block_bytes; i++)
		check_seen(client, client->block + i, 0, "status");
}

/* Requests that must be refused as block_validate() says. */
static void do_invalid(struct client *client)
{
	struct block_request *request = &client->wait.request;
	uint64_t size = client->volume->size_bytes;
	int expected, result;

	client->iov[0] = (struct iovec){client->buffer, 4096 + 512};
	request->op = (enum block_op)below(client, BLOCK_OP_COUNT + 1);
	request->flags = (unsigned)below(client, 8);
	request->offset =
		(uint64_t[]){0, 1, 256, size, size - 512, UINT64_MAX - 511}[below(client, 6)];
	request->length =
		(uint64_t[]){0, 1, 512 + 256, 3, size, UINT64_MAX - 511}[below(client, 6)];
	request->iov = client->iov;
	request->iov_count = (int)below(client, 2);
	expected = block_validate(client->volume, request);
	if (expected == 0)
		return; /* chance made a good request: not for here */
	result = block_wait(client->volume, &client->wait);
	SIM_RUN_CHECK(result == expected, "refused with %d instead of %d", result, expected);
}

/* The counters. */

static void fill_counter(struct client *client, uint64_t index, uint64_t value)
{
	unsigned char *bytes = buffer_of(client, index);

	for (uint32_t at = 0; at < client->volume->block_bytes; at += sizeof(value))
		memcpy(bytes + at, &value, sizeof(value));
}

static int counter_io(struct client *client, enum block_op op, uint64_t counter)
{
	uint64_t block_bytes = client->volume->block_bytes;
	int result =
		block_io(client->volume, op, 0, client->buffer, block_bytes, counter * block_bytes);

	SIM_RUN_CHECK(result == 0 || (result == -EILSEQ && op == BLOCK_COMPARE_AND_WRITE),
		      "counter: %s: error %d", block_op_name(op), result);
	return result;
}

static uint64_t read_counter(struct client *client, uint64_t counter)
{
	uint32_t block_bytes = client->volume->block_bytes;
	uint64_t value;

	(void)counter_io(client, BLOCK_READ, counter); /* checked there */
	memcpy(&value, client->buffer, sizeof(value));
	fill_counter(client, 1, value);
	SIM_RUN_CHECK(memcmp(buffer_of(client, 0), buffer_of(client, 1), block_bytes) == 0,
		      "counter: a torn block");
	return value;
}

static void increment(struct client *client)
{
	uint64_t counter = below(client, COUNTERS), value;

	do {
		value = read_counter(client, counter);
		fill_counter(client, 1, value + 1);
	} while (counter_io(client, BLOCK_COMPARE_AND_WRITE, counter) != 0);
	client->simulation->increments[counter]++;
}

/* Clients and rounds. */

static void do_operation(struct client *client)
{
	struct block_model *model = &client->simulation->model;
	enum block_op op = (enum block_op)below(client, BLOCK_OP_COUNT);
	int result;

	client->block = below(client, model->block_count);
	client->count =
		1 + below(client, MIN(model->block_count - client->block, (uint64_t)LENGTH_MAX));
	client->since = block_model_begin(model);
	if (op == BLOCK_READ) {
		do_read(client);
	} else if (op == BLOCK_COMPARE) {
		do_compare(client);
	} else if (op == BLOCK_COMPARE_AND_WRITE) {
		do_compare_and_write(client);
	} else if (op == BLOCK_STATUS) {
		do_status(client);
	} else if (op == BLOCK_FLUSH) {
		result = perform(client, op, 0);
		if (result < 0)
			check_error(client, op, result);
	} else {
		do_write(client, op);
	}
	block_model_end(model, client->since);
}

static void run_client(void *arg)
{
	struct client *client = arg;
	unsigned increments = INCREMENTS;

	for (unsigned i = 0; i < OPERATIONS; i++) {
		if (below(client, 5) == 0)
			do_invalid(client);
		if (increments > 0 && below(client, OPERATIONS) < INCREMENTS * 2) {
			increment(client);
			increments--;
		}
		do_operation(client);
	}
}

/* In a world that died, every request must still end, so that fibers unwind. */
static void run_round(struct simulation *simulation, bool crash)
{
	struct sim_rig_task tasks[CLIENTS];
	int result;

	for (unsigned i = 0; i < CLIENTS; i++) {
		tasks[i] = (struct sim_rig_task){.run = run_client, .arg = &simulation->clients[i]};
		sim_rig_start(&simulation->rig, simulation->clients[i].reactor, &tasks[i]);
	}
	if (crash) {
		(void)sim_rig_wait(&simulation->rig, tasks, CLIENTS,
				   chance_below(&simulation->chance, NSEC_PER_MSEC));
		sim_crash(simulation->rig.sim, SIM_CRASH_PROCESS);
	}
	result = sim_rig_wait(&simulation->rig, tasks, CLIENTS, LIMIT_NS);
	SIM_RUN_CHECK(result == 0, "clients do not finish: %d", result);
}

/* Nothing is in flight and nothing is made to fail: each block has one content, and it stays. */
static void verify(void *arg)
{
	struct client *client = arg;
	struct simulation *simulation = client->simulation;
	struct block_model *model = &simulation->model;

	for (client->block = 0; client->block < model->block_count; client->block++) {
		uint64_t id = 0;

		client->count = 1;
		client->since = block_model_begin(model);
		do_read(client);
		SIM_RUN_CHECK(block_model_identify(model, client->block, client->buffer, &id),
			      "verify: block %" PRIu64 " could not be read", client->block);
		block_model_settle(model, client->block, id);
		block_model_end(model, client->since);
	}
	for (uint64_t i = 0; i < COUNTERS; i++) {
		uint64_t value = read_counter(client, i);

		SIM_RUN_CHECK(value == simulation->increments[i],
			      "counter %" PRIu64 " is %" PRIu64 " after %" PRIu64 " increments", i,
			      value, simulation->increments[i]);
	}
}

static void clear_rules(void *arg)
{
	error_volume_clear(((struct simulation *)arg)->error);
}

static void run_rounds(struct simulation *simulation)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct client *verifier =
			&simulation->clients[chance_below(&simulation->chance, CLIENTS)];

		if (simulation->error)
			sim_rig_run(&simulation->rig, simulation->home, add_rules, simulation);
		run_round(simulation, false);
		if (simulation->error)
			sim_rig_run(&simulation->rig, simulation->home, clear_rules, simulation);
		sim_rig_run(&simulation->rig, verifier->reactor, verify, verifier);
	}
}

static uint64_t run(uint64_t seed, bool trace)
{
	const struct sim_options options = {.seed = seed, .trace = trace};
	_cleanup_free_ struct simulation *simulation = calloc(1, sizeof(*simulation));
	uint64_t hash;

	SIM_RUN_CHECK(simulation, "no memory");
	sim_rig_init_options(&simulation->rig, &options, REACTORS);
	chance_init(&simulation->chance, seed);
	make_stack(simulation);
	make_fronts(simulation);
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *client = &simulation->clients[i];

		client->simulation = simulation;
		client->reactor = i % REACTORS;
		client->volume = simulation->fronts[client->reactor];
		chance_init(&client->chance, chance_next(&simulation->chance));
	}
	run_rounds(simulation);
	if (chance_below(&simulation->chance, 4) == 0)
		run_round(simulation, true);
	free_volumes(simulation);
	hash = simulation->hash ^ sim_trace_hash(simulation->rig.sim);
	sim_rig_done(&simulation->rig);
	block_model_done(&simulation->model);
	return hash;
}

int main(int argc, char **argv)
{
	static const char *const must_reach[] = {
		"block.sub.wait",
		"block.range_lock.wait",
		"block.emulate.wait",
		NULL,
	};
	static const struct sim_run_program program = {
		.name = "sim_block",
		.run = run,
		.must_reach = must_reach,
	};

	return sim_run_main(argc, argv, &program);
}
