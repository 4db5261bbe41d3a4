/* SPDX-License-Identifier: Apache-2.0 */
/* Remote volumes between the threads of the real world: for the thread sanitizer above all. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "block/chance.h"
#include "block/memory.h"
#include "block/remote.h"
#include "world/real.h"

#define REACTORS      3
#define FLIGHT        12
#define REQUESTS      4 /* fewer than are in flight, so that some wait */
#define OPERATIONS    300
#define BLOCK_BYTES   512
#define COUNTER_BLOCK 0

struct client {
	struct block_volume *volume;
	struct reactor *reactor;
	uint64_t index;
	unsigned finished;
	unsigned failures; /* cmocka's assertions are for the main thread only */
	struct fiber *waiter;
};

struct worker {
	struct fiber_task task;
	struct client *client;
	uint64_t block; /* nobody else's */
};

static int check_own_block(struct worker *worker, struct chance *chance)
{
	unsigned char written[BLOCK_BYTES], seen[BLOCK_BYTES];
	struct block_volume *volume = worker->client->volume;
	uint64_t offset = worker->block * BLOCK_BYTES;
	int result;

	memset(written, (int)chance_below(chance, 256), sizeof(written));
	result = block_io(volume, BLOCK_WRITE, 0, written, BLOCK_BYTES, offset);
	if (result == 0)
		result = block_io(volume, BLOCK_READ, 0, seen, BLOCK_BYTES, offset);
	return result == 0 && memcmp(written, seen, BLOCK_BYTES) == 0 ? 0 : -EIO;
}

static int increment_counter(struct block_volume *volume)
{
	uint64_t words[2 * BLOCK_BYTES / sizeof(uint64_t)];
	int result;

	do {
		result = block_io(volume, BLOCK_READ, 0, words, BLOCK_BYTES, COUNTER_BLOCK);
		if (result < 0)
			return result;
		memcpy((char *)words + BLOCK_BYTES, words, BLOCK_BYTES);
		words[BLOCK_BYTES / sizeof(uint64_t)]++;
		result = block_io(volume, BLOCK_COMPARE_AND_WRITE, 0, words, BLOCK_BYTES,
				  COUNTER_BLOCK);
	} while (result == -EILSEQ);
	return result;
}

static void work(struct fiber_task *task)
{
	struct worker *worker = CONTAINER_OF(task, struct worker, task);
	struct client *client = worker->client;
	struct chance chance;

	chance_init(&chance, worker->block);
	for (unsigned i = 0; i < OPERATIONS; i++) {
		client->failures += check_own_block(worker, &chance) < 0;
		if (i % 10 == 0)
			client->failures += increment_counter(client->volume) < 0;
	}
	client->finished++;
	fiber_wake(client->waiter);
}

static int run_client(void *arg)
{
	struct client *client = arg;
	struct worker workers[FLIGHT];

	client->waiter = fiber_current();
	for (unsigned i = 0; i < FLIGHT; i++) {
		workers[i] = (struct worker){
			.task.run = work,
			.client = client,
			.block = 1 + client->index * FLIGHT + i,
		};
		fiber_spawn(client->reactor, FIBER_DATA, &workers[i].task);
	}
	while (client->finished < FLIGHT)
		fiber_suspend();
	return client->failures ? -EIO : 0;
}

struct call {
	struct fiber_task task;
	struct client *client;
	unsigned *left;
	struct fiber *waiter;
	int result;
};

static void call_client(struct fiber_task *task)
{
	struct call *call = CONTAINER_OF(task, struct call, task);

	call->result = fiber_call(call->client->reactor, FIBER_CONTROL, run_client, call->client);
	(*call->left)--;
	fiber_wake(call->waiter);
}

/* On the first reactor: all clients at once. */
static int run_clients(void *arg)
{
	struct client *clients = arg;
	struct call calls[REACTORS];
	unsigned left = REACTORS;
	int result = 0;

	for (unsigned i = 0; i < REACTORS; i++) {
		calls[i] = (struct call){
			.task.run = call_client,
			.client = &clients[i],
			.left = &left,
			.waiter = fiber_current(),
		};
		fiber_spawn(clients[0].reactor, FIBER_CONTROL, &calls[i].task);
	}
	while (left > 0)
		fiber_suspend();
	for (unsigned i = 0; i < REACTORS; i++)
		result = calls[i].result < 0 ? calls[i].result : result;
	return result;
}

static uint64_t counter;

static int read_counter(void *arg)
{
	uint64_t words[BLOCK_BYTES / sizeof(uint64_t)];
	int result = block_io(arg, BLOCK_READ, 0, words, BLOCK_BYTES, COUNTER_BLOCK);

	counter = words[0];
	return result;
}

static void threads_share_a_volume(void **state)
{
	const struct world_real_options world_options = {.fence_fd = -1};
	struct client clients[REACTORS] = {0};
	struct block_volume *memory;
	struct world *world;

	(void)state;
	assert_int_equal(world_real_new(&world_options, &world), 0);
	for (unsigned i = 0; i < REACTORS; i++) {
		const struct reactor_options options = {.index = i};

		assert_int_equal(reactor_new(world, &options, &clients[i].reactor), 0);
		assert_int_equal(reactor_start(clients[i].reactor), 0);
	}
	assert_int_equal(memory_volume_new(clients[1].reactor, MIB, BLOCK_BYTES, &memory), 0);
	for (unsigned i = 0; i < REACTORS; i++) {
		clients[i].index = i;
		assert_int_equal(
			remote_volume_new(memory, clients[i].reactor, REQUESTS, &clients[i].volume),
			0);
	}
	assert_int_equal(
		fiber_call_blocking(clients[0].reactor, FIBER_CONTROL, run_clients, clients), 0);
	assert_int_equal(
		fiber_call_blocking(clients[1].reactor, FIBER_CONTROL, read_counter, memory), 0);
	assert_int_equal(counter, REACTORS * FLIGHT * OPERATIONS / 10);
	for (unsigned i = 0; i < REACTORS; i++)
		reactor_stop(clients[i].reactor);
	for (unsigned i = 0; i < REACTORS; i++)
		block_volume_free(clients[i].volume);
	block_volume_free(memory);
	for (unsigned i = 0; i < REACTORS; i++)
		reactor_free(clients[i].reactor);
	world_real_free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_share_a_volume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
