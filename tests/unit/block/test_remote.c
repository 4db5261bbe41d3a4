/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "block/memory.h"
#include "block/remote.h"
#include "block/sub.h"
#include "sim_rig.h"
#include "volume_model.h"

#define REACTORS 3
#define SEEDS 30

static struct sim_rig rig;
static struct block_volume *memory;

static void with_remotes(uint64_t seed, struct block_volume **ret_remotes, unsigned requests)
{
	sim_rig_init(&rig, seed, REACTORS);
	assert_int_equal(memory_volume_new(rig.reactors[1], VOLUME_MODEL_BYTES, 512, &memory), 0);
	for (unsigned i = 0; i < REACTORS; i++)
		assert_int_equal(
			remote_volume_new(memory, rig.reactors[i], requests, &ret_remotes[i]), 0);
}

static void free_remotes(struct block_volume **remotes)
{
	for (unsigned i = 0; i < REACTORS; i++)
		block_volume_free(remotes[i]);
	block_volume_free(memory);
	sim_rig_done(&rig);
}

static void run_model(void *volume)
{
	volume_model_run(volume, 1, 100);
}

static void works_from_each_reactor(void **state)
{
	struct block_volume *remotes[REACTORS];

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		with_remotes(seed, remotes, 2);
		sim_rig_run(&rig, seed % REACTORS, run_model, remotes[seed % REACTORS]);
		free_remotes(remotes);
	}
}

struct client {
	struct block_volume *volume;
	unsigned char id;
};

/* Each client writes blocks of its own, many at once, and finds them. */
static void write_own_blocks(void *arg)
{
	enum { FLIGHT = 16 };
	struct client *client = arg;
	unsigned char buffers[FLIGHT][512];

	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < FLIGHT; i++) {
			uint64_t offset = (uint64_t)(i * REACTORS + client->id) * 512;

			memset(buffers[i], (int)(round * 16 + client->id * 5 + i), 512);
			assert_int_equal(
				block_io(client->volume, BLOCK_WRITE, 0, buffers[i], 512, offset),
				0);
		}
		for (unsigned i = 0; i < FLIGHT; i++) {
			uint64_t offset = (uint64_t)(i * REACTORS + client->id) * 512;

			assert_int_equal(block_io(client->volume, BLOCK_COMPARE, 0, buffers[i], 512,
						  offset),
					 0);
		}
	}
}

static void serves_all_at_once(void **state)
{
	struct block_volume *remotes[REACTORS];

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct client clients[REACTORS];
		struct sim_rig_task tasks[REACTORS];

		with_remotes(seed, remotes, 0);
		for (unsigned i = 0; i < REACTORS; i++) {
			clients[i] = (struct client){remotes[i], (unsigned char)i};
			tasks[i] = (struct sim_rig_task){.run = write_own_blocks,
							 .arg = &clients[i]};
			sim_rig_start(&rig, i, &tasks[i]);
		}
		assert_int_equal(sim_rig_wait(&rig, tasks, REACTORS, NSEC_PER_SEC), 0);
		assert_int_equal(memory->in_flight, 0);
		free_remotes(remotes);
	}
}

static unsigned done_count;

static void note_done(struct block_request *request, int result)
{
	assert_int_equal(result, 0);
	assert_ptr_equal(reactor_current(), request->volume->home);
	done_count++;
}

static void submit_more_than_fit(void *arg)
{
	enum { FLIGHT = 40 };
	struct block_volume *volume = arg;
	struct block_request requests[FLIGHT];

	done_count = 0;
	for (unsigned i = 0; i < FLIGHT; i++) {
		requests[i].op = BLOCK_FLUSH;
		requests[i].flags = 0;
		requests[i].offset = requests[i].length = 0;
		requests[i].iov_count = 0;
		requests[i].done = note_done;
		block_submit(volume, &requests[i]);
	}
	assert_int_equal(volume->in_flight, FLIGHT);
	while (done_count < FLIGHT)
		fiber_sleep(NSEC_PER_USEC);
}

static void completes_at_home_when_the_pool_is_small(void **state)
{
	struct block_volume *remotes[REACTORS];

	(void)state;
	for (unsigned requests = 1; requests < 6; requests++) {
		with_remotes(requests, remotes, requests);
		for (unsigned i = 0; i < REACTORS; i++)
			sim_rig_run(&rig, i, submit_more_than_fit, remotes[i]);
		free_remotes(remotes);
	}
}

static void use_after_resize(void *arg)
{
	struct block_volume *remote = arg;
	unsigned char buffer[512];

	assert_int_equal(block_io(remote, BLOCK_READ, 0, buffer, 512, MIB), -ERANGE);
	remote_volume_set_size(remote, 2 * MIB);
	/* The target did not grow, and says so. */
	assert_int_equal(block_io(remote, BLOCK_READ, 0, buffer, 512, MIB), -ERANGE);
	assert_int_equal(block_io(remote, BLOCK_READ, 0, buffer, 512, 0), 0);
}

static void follows_a_resize(void **state)
{
	struct block_volume *remotes[REACTORS];
	struct block_volume *none = NULL;

	(void)state;
	with_remotes(1, remotes, 0);
	sim_rig_run(&rig, 2, use_after_resize, remotes[2]);
	assert_int_equal(remote_volume_new(memory, rig.reactors[0], SUB_POOL_MAX + 1, &none),
			 -EINVAL);
	assert_null(none);
	free_remotes(remotes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(works_from_each_reactor),
		cmocka_unit_test(serves_all_at_once),
		cmocka_unit_test(completes_at_home_when_the_pool_is_small),
		cmocka_unit_test(follows_a_resize),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
