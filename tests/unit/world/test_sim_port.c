/* SPDX-License-Identifier: Apache-2.0 */
#include "sim_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define PORTS    3
#define MESSAGES 20

struct node {
	struct world *world;
	struct world_port *port;
	unsigned turns;
	bool busy; /* always has more work */
};

static void node_turn(void *arg)
{
	struct node *node = arg;

	node->turns++;
	(void)node->world->ops->port_wait(node->port, node->busy ? 0 : UINT64_MAX, 8);
}

static void node_open(struct node *node, struct sim *sim, unsigned index)
{
	*node = (struct node){.world = sim_world(sim)};
	assert_int_equal(
		node->world->ops->port_open(node->world, index, node_turn, node, &node->port), 0);
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

struct letter {
	struct world_message message;
	unsigned sender, number;
};

static unsigned expected[PORTS], arrival[PORTS * MESSAGES], arrived;

static void letter_run(struct world_message *message)
{
	struct letter *letter = CONTAINER_OF(message, struct letter, message);

	assert_int_equal(letter->number, expected[letter->sender]++);
	arrival[arrived++] = letter->sender;
}

/* Posts from all ports to the first, runs, and hashes the order in which senders were served. */
static uint64_t mail_order(uint64_t seed)
{
	static struct letter letters[PORTS][MESSAGES];
	const struct sim_options options = {.seed = seed};
	struct node nodes[PORTS];
	struct sim *sim = NULL;
	uint64_t hash = 0;

	memset(expected, 0, sizeof(expected));
	arrived = 0;
	assert_int_equal(sim_new(&options, &sim), 0);
	for (unsigned i = 0; i < PORTS; i++)
		node_open(&nodes[i], sim, i);
	for (unsigned n = 0; n < MESSAGES; n++)
		for (unsigned i = 0; i < PORTS; i++) {
			letters[i][n] = (struct letter){{.run = letter_run}, i, n};
			nodes[i].world->ops->port_post(i ? nodes[i].port : NULL, nodes[0].port,
						       &letters[i][n].message);
		}
	assert_int_equal(sim_run_until(sim, never, NULL, NSEC_PER_SEC), -EDEADLK);
	assert_int_equal(arrived, PORTS * MESSAGES);
	for (unsigned i = 0; i < arrived; i++)
		hash = hash * 31 + arrival[i];
	for (unsigned i = 0; i < PORTS; i++)
		nodes[i].world->ops->port_close(nodes[i].port);
	sim_free(sim);
	return hash;
}

static void messages_are_fifo_per_pair(void **state)
{
	unsigned different = 0;

	(void)state;
	for (uint64_t seed = 0; seed < 50; seed++) {
		uint64_t hash = mail_order(seed);

		assert_int_equal(hash, mail_order(seed));
		different += hash != mail_order(seed + 1000);
	}
	assert_true(different > 45);
}

static uint64_t deadline;
static struct node timer_node;

static void timer_turn(void *arg)
{
	(void)arg;
	timer_node.turns++;
	if (world_now_ns(timer_node.world) >= deadline)
		deadline = UINT64_MAX;
	(void)timer_node.world->ops->port_wait(timer_node.port, deadline, 8);
}

static bool deadline_passed(void *arg)
{
	(void)arg;
	return deadline == UINT64_MAX;
}

static void deadlines_come(void **state)
{
	const struct sim_options options = {.seed = 3};
	struct sim *sim = NULL, *second = NULL;
	uint64_t start;

	(void)state;
	assert_int_equal(sim_new(&options, &sim), 0);
	assert_int_equal(sim_new(&options, &second), -EBUSY);
	timer_node = (struct node){.world = sim_world(sim)};
	assert_int_equal(timer_node.world->ops->port_open(timer_node.world, 0, timer_turn, NULL,
							  &timer_node.port),
			 0);
	start = world_now_ns(timer_node.world);
	deadline = start + NSEC_PER_SEC;
	assert_int_equal(sim_run_until(sim, deadline_passed, NULL, NSEC_PER_MSEC), -ETIMEDOUT);
	assert_int_equal(world_now_ns(timer_node.world), start + NSEC_PER_MSEC);
	assert_true(timer_node.turns < 4);
	assert_int_equal(sim_run_until(sim, deadline_passed, NULL, UINT64_MAX), 0);
	assert_int_equal(world_now_ns(timer_node.world), start + NSEC_PER_SEC);
	timer_node.world->ops->port_close(timer_node.port);
	sim_free(sim);
}

/* A port that always has work gets many turns, but time passes and others run. */
static void busy_ports_interleave(void **state)
{
	const struct sim_options options = {.seed = 4};
	struct node nodes[2];
	struct sim *sim = NULL;

	(void)state;
	assert_int_equal(sim_new(&options, &sim), 0);
	node_open(&nodes[0], sim, 0);
	node_open(&nodes[1], sim, 1);
	nodes[0].busy = nodes[1].busy = true;
	assert_int_equal(sim_run_until(sim, never, NULL, NSEC_PER_MSEC), -ETIMEDOUT);
	assert_true(nodes[0].turns > 100 && nodes[1].turns > 100);
	nodes[0].world->ops->port_wake(nodes[0].port);
	nodes[0].world->ops->port_submit(nodes[0].port);
	nodes[0].world->ops->port_close(nodes[0].port);
	nodes[1].world->ops->port_close(nodes[1].port);
	sim_free(sim);
}

static void count_job(void *arg)
{
	(*(unsigned *)arg)++;
}

static void jobs(void **state)
{
	struct fixture_op op;
	struct fixture f;
	unsigned runs = 0;

	(void)state;
	fixture_start(&f, 5, MIB);
	f.world->ops->job(f.port, count_job, &runs, fixture_op(&op));
	assert_int_equal(runs, 0);
	f.world->ops->cancel(f.port, &op.op);
	assert_int_equal(fixture_wait(&f, &op), 0);
	assert_int_equal(runs, 1);
	sim_crash(f.sim, SIM_CRASH_PROCESS);
	f.world->ops->job(f.port, count_job, &runs, fixture_op(&op));
	assert_int_equal(fixture_wait(&f, &op), -ESHUTDOWN);
	assert_int_equal(runs, 1);
	fixture_crash(&f, SIM_CRASH_POWER);
	assert_false(sim_is_dead(f.sim));
	fixture_stop(&f);
}

static void slow_jobs(void **state)
{
	struct fixture_op op;
	unsigned runs = 0;
	struct fixture f;
	uint64_t start;

	(void)state;
	fixture_start(&f, 1, MIB);
	sim_set_slow_jobs(f.sim, NSEC_PER_SEC);
	start = world_now_ns(f.world);
	for (unsigned i = 0; i < 20; i++) {
		f.world->ops->job(f.port, count_job, &runs, fixture_op(&op));
		assert_int_equal(fixture_wait(&f, &op), 0);
	}
	assert_in_range(world_now_ns(f.world) - start, 5 * NSEC_PER_SEC, 20 * NSEC_PER_SEC);
	sim_set_slow_jobs(f.sim, 0);
	start = world_now_ns(f.world);
	f.world->ops->job(f.port, count_job, &runs, fixture_op(&op));
	assert_int_equal(fixture_wait(&f, &op), 0);
	assert_in_range(world_now_ns(f.world) - start, 0, NSEC_PER_MSEC * 100);
	assert_int_equal(runs, 21);
	fixture_stop(&f);
}

static void random_and_clocks(void **state)
{
	uint8_t a[2][37], b[37];
	struct fixture f;
	uint64_t wall, last;
	bool jumped = false;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		fixture_start(&f, 6, MIB);
		f.world->ops->random(f.world, a[i], sizeof(a[i]));
		fixture_stop(&f);
	}
	assert_memory_equal(a[0], a[1], sizeof(b));
	fixture_start(&f, 7, MIB);
	f.world->ops->random(f.world, b, sizeof(b));
	assert_memory_not_equal(a[0], b, sizeof(b));
	last = f.world->ops->wall_ns(f.world);
	for (unsigned i = 0; i < 10000; i++, last = wall) {
		wall = f.world->ops->wall_ns(f.world);
		jumped |= wall < last;
	}
	assert_true(jumped);
	for (unsigned i = 0; i < 1000; i++)
		assert_true(sim_random_below(f.sim, 7) < 7);
	fixture_stop(&f);
}

static void cancel_file_operations(void **state)
{
	unsigned canceled = 0, finished = 0;

	(void)state;
	for (uint64_t seed = 0; seed < 50; seed++) {
		uint8_t data[512] = {1}, back[512];
		struct iovec iov = {data, sizeof(data)};
		struct world_file *file;
		struct fixture_op op;
		struct fixture f;

		fixture_start(&f, seed, MIB);
		file = fixture_create(&f, "/d/file");
		f.world->ops->file_write(f.port, file, &iov, 1, 0, fixture_op(&op));
		f.world->ops->cancel(f.port, &op.op);
		if (fixture_wait(&f, &op) == -ECANCELED) {
			canceled++;
			assert_int_equal(fixture_read(&f, file, back, 512, 0), 0);
		} else {
			finished++;
			assert_int_equal(op.result, 512);
		}
		fixture_close(&f, file);
		fixture_stop(&f);
	}
	assert_true(canceled > 10 && finished > 10);
}

static void ports_have_a_limit(void **state)
{
	const struct sim_options options = {.seed = 1};
	struct world_port *ports[64], *extra = NULL;
	struct sim *sim = NULL;
	const struct world_ops *ops;

	(void)state;
	assert_int_equal(sim_new(&options, &sim), 0);
	ops = sim_world(sim)->ops;
	for (unsigned i = 0; i < ARRAY_SIZE(ports); i++)
		assert_int_equal(ops->port_open(sim_world(sim), i, NULL, NULL, &ports[i]), 0);
	assert_int_equal(ops->port_open(sim_world(sim), 64, NULL, NULL, &extra), -ENFILE);
	ops->port_close(ports[5]);
	assert_int_equal(ops->port_open(sim_world(sim), 64, NULL, NULL, &ports[5]), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(ports); i++)
		ops->port_close(ports[i]);
	sim_free(sim);
	sim_free(NULL);
	assert_int_equal(sim_new(&(struct sim_options){.min_latency_ns = 1}, &sim), -EINVAL);
}

static void latencies_can_be_fixed(void **state)
{
	const struct sim_options options = {
		.seed = 1, .min_latency_ns = 5000, .max_latency_ns = 5000};
	struct fixture f = {0};
	struct world_stat st;
	uint64_t start;

	(void)state;
	assert_int_equal(sim_new(&options, &f.sim), 0);
	fixture_attach(&f, MIB);
	fixture_settle(&f);
	start = world_now_ns(f.world);
	assert_int_equal(fixture_stat(&f, "/d", &st), 0);
	assert_in_range(world_now_ns(f.world) - start, 5000, 100000);
	fixture_stop(&f);
}

struct load { /* keeps a number of random reads and writes in flight */
	struct world_op op;
	struct fixture *f;
	struct world_file *file;
	struct iovec iov;
	uint64_t *left;
};

static void load_next(struct load *l)
{
	uint64_t offset = sim_random_below(l->f->sim, 4096) * 4096;

	if (*l->left == 0)
		return;
	(*l->left)--;
	if (sim_random_below(l->f->sim, 2))
		l->f->world->ops->file_write(l->f->port, l->file, &l->iov, 1, offset, &l->op);
	else
		l->f->world->ops->file_read(l->f->port, l->file, &l->iov, 1, offset, &l->op);
}

static void load_done(struct world_op *op, int64_t result)
{
	assert_true(result >= 0);
	load_next(CONTAINER_OF(op, struct load, op));
}

static uint64_t run_load(uint64_t seed, uint64_t operations)
{
	static uint8_t buffers[32][4096] __attribute__((aligned(4096)));
	struct load loads[32];
	struct world_file *file = NULL;
	struct fixture f;
	uint64_t hash;

	fixture_start(&f, seed, 64 * MIB);
	assert_int_equal(fixture_open(&f, "/d/file", WORLD_FILE_CREATE | WORLD_FILE_DIRECT, &file),
			 0);
	for (unsigned i = 0; i < ARRAY_SIZE(loads); i++) {
		memset(buffers[i], (int)i + 1, sizeof(buffers[i]));
		loads[i] = (struct load){.f = &f, .file = file, .left = &operations};
		loads[i].op.done = load_done;
		loads[i].iov = (struct iovec){buffers[i], sizeof(buffers[i])};
		load_next(&loads[i]);
	}
	fixture_settle(&f);
	hash = sim_trace_hash(f.sim);
	fixture_close(&f, file);
	fixture_stop(&f);
	return hash;
}

static void seeds_replay(void **state)
{
	uint64_t hashes[20];

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		hashes[i] = run_load(i, 500);
		assert_int_equal(hashes[i], run_load(i, 500));
		for (unsigned j = 0; j < i; j++)
			assert_int_not_equal(hashes[i], hashes[j]);
	}
	/* The same with every compiler. A change of the simulator's decisions changes it. */
	assert_int_equal(hashes[0], UINT64_C(0x88d8358afc7b543f));
}

static void is_fast(void **state)
{
	const uint64_t operations = 100000;
	struct timespec a, b;
	double seconds;

	(void)state;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	(void)run_load(1, operations);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	seconds = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
	printf("%.0f thousand operations of 4 KiB per second of CPU\n",
	       (double)operations / seconds / 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_are_fifo_per_pair),
		cmocka_unit_test(deadlines_come),
		cmocka_unit_test(busy_ports_interleave),
		cmocka_unit_test(jobs),
		cmocka_unit_test(slow_jobs),
		cmocka_unit_test(random_and_clocks),
		cmocka_unit_test(cancel_file_operations),
		cmocka_unit_test(ports_have_a_limit),
		cmocka_unit_test(latencies_can_be_fixed),
		cmocka_unit_test(seeds_replay),
		cmocka_unit_test(is_fast),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
