/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulation of the iSCSI target: several initiators with several commands at once each, on a slow
 * volume, against the model of block_model.h. Each login draws its own way of moving data
 * (immediate, unsolicited, solicited; digests; burst lengths), and connections are cut at any time
 * and at any byte. The server has one reactor or three; then the sessions are served where the
 * volume is. Meanwhile sessions are dropped, rules set, and another target comes and
 * goes. An initiator then logs in again, and from that moment on its older commands must
 * be over: only then the model is told that they failed.
 */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/reached.h"
#include "block/chance.h"
#include "block/delay.h"
#include "block/memory.h"
#include "block_model.h"
#include "frontend/iscsi/iscsi.h"
#include "iscsi_initiator.h"
#include "sim_rig.h"
#include "sim_run.h"

#define SERVER_REACTOR 0
#define VOLUME_REACTOR 1 /* the server may use it, too */
#define SPARE_REACTOR  2
#define CLIENT_REACTOR 3
#define REACTORS       4
#define CLIENTS        3
#define WORKERS        8  /* of one client */
#define OPERATIONS     20 /* of one worker */
#define BLOCK          512u
#define BLOCKS         512
#define LENGTH_MAX     256 /* blocks of one request */
#define TARGET         "iqn.2026-01.org.sarsen:sim"
#define OTHER          "iqn.2026-01.org.sarsen:other" /* comes and goes */
#define DROPS          6                              /* sessions that the manager ends */
#define LIMIT_NS       (3600 * NSEC_PER_SEC)

struct client;

struct worker {
	struct client *client;
	struct chance chance;
	struct fiber_task task;
	struct initiator_command command;
	uint64_t since;
	unsigned char data[2 * LENGTH_MAX * BLOCK];
};

struct client {
	struct simulation *simulation;
	struct chance chance;
	struct initiator initiator;
	unsigned logins;  /* counts those that succeeded */
	unsigned running; /* workers that are not done */
	struct fiber_queue changed;
	struct fiber_mutex abort_lock;
	struct worker workers[WORKERS];
	struct sim_rig_task task;
};

struct simulation {
	struct sim_rig rig;
	struct chance chance;
	struct block_model model;
	struct block_volume *memory, *delay, *other;
	struct iscsi_server *server;
	struct sockaddr_in address;
	uint64_t hash;
	struct client clients[CLIENTS];
	struct chance manager_chance;
	unsigned drops;
	bool has_other, ending;
	struct sim_rig_task manager;
};

static void mix(struct simulation *simulation, uint64_t value)
{
	simulation->hash = (simulation->hash ^ value) * UINT64_C(0x100000001b3);
}

/* --- The server --- */

static void start_server(void *arg)
{
	struct simulation *simulation = arg;
	struct chance *chance = &simulation->chance;
	struct iscsi_server_options options = {.address = "127.0.0.1"};
	struct iscsi_lun lun = {.volume = simulation->delay, .serial = 7, .thin = true};
	char text[64];
	uint16_t port;

	options.memory_bytes = chance_below(chance, 2) ? 1 : 64 * MIB;
	options.reactors = simulation->rig.reactors;
	options.reactor_count = chance_below(chance, 2) ? 1 : CLIENT_REACTOR;
	SIM_RUN_CHECK(iscsi_server_new(simulation->rig.reactors[SERVER_REACTOR], &options,
				       &simulation->server) == 0,
		      "no server");
	SIM_RUN_CHECK(iscsi_server_add_target(simulation->server, TARGET) == 0, "no target");
	SIM_RUN_CHECK(iscsi_server_add_lun(simulation->server, TARGET, 0, &lun) == 0, "no LUN");
	iscsi_server_address(simulation->server, text, sizeof(text), &port);
	simulation->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
	simulation->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

static void stop_server(void *arg)
{
	iscsi_server_free(((struct simulation *)arg)->server);
}

static void make_volumes(struct simulation *simulation)
{
	struct chance *chance = &simulation->chance;
	struct delay_options delays = {
		.before_random_ns = chance_below(chance, 3) * chance_below(chance, 2000000),
		.after_random_ns = chance_below(chance, 3) * chance_below(chance, 2000000),
		.seed = chance_next(chance),
		.requests = 1 + (unsigned)chance_below(chance, 16),
	};
	unsigned home = chance_below(chance, 2) ? VOLUME_REACTOR : SERVER_REACTOR;

	SIM_RUN_CHECK(memory_volume_new(simulation->rig.reactors[home], BLOCKS * BLOCK, BLOCK,
					&simulation->memory) == 0 &&
			      delay_volume_new(simulation->memory, &delays, &simulation->delay) ==
				      0,
		      "no volume");
	SIM_RUN_CHECK(memory_volume_new(simulation->rig.reactors[SPARE_REACTOR], BLOCK, BLOCK,
					&simulation->other) == 0,
		      "no other volume");
	block_model_init(&simulation->model, BLOCK, BLOCKS);
}

/* --- What people do meanwhile --- */

static void drop_a_session(struct simulation *simulation)
{
	struct iscsi_session_info *infos;
	size_t count;

	SIM_RUN_CHECK(iscsi_server_sessions(simulation->server, &infos, &count) == 0,
		      "no list of sessions");
	for (size_t i = 1; i < count; i++)
		SIM_RUN_CHECK(infos[i].id != infos[i - 1].id, "two sessions have one number");
	if (count > 0 && simulation->drops < DROPS) {
		size_t i = chance_below(&simulation->manager_chance, count);

		/* -ENOENT: it ended meanwhile. */
		simulation->drops +=
			iscsi_server_drop_session(simulation->server, infos[i].id) == 0;
	}
	free(infos);
}

static void change_the_other(struct simulation *simulation)
{
	struct iscsi_lun lun = {.volume = simulation->other, .serial = 8};
	int r;

	if (simulation->has_other) {
		r = iscsi_server_remove_target(simulation->server, OTHER);
	} else {
		r = iscsi_server_add_target(simulation->server, OTHER);
		if (r == 0)
			r = iscsi_server_add_lun(simulation->server, OTHER, 0, &lun);
	}
	SIM_RUN_CHECK(r == 0, "the other target: %d", r);
	simulation->has_other = !simulation->has_other;
}

static void run_manager(void *arg)
{
	struct simulation *simulation = arg;
	const struct iscsi_access access = {0};

	while (!simulation->ending) {
		fiber_sleep(chance_below(&simulation->manager_chance, 60000000));
		switch (chance_below(&simulation->manager_chance, 3)) {
		case 0:
			drop_a_session(simulation);
			break;
		case 1:
			change_the_other(simulation);
			break;
		default: /* logins that are under way begin anew */
			SIM_RUN_CHECK(
				iscsi_server_set_access(simulation->server, TARGET, &access) == 0,
				"access cannot be set");
			break;
		}
	}
}

/* --- Commands --- */

/* Waits until the client has logged in again after its `login`-th time. */
static void await_login(struct client *client, unsigned login)
{
	while (client->logins == login)
		fiber_queue_wait(&client->changed);
}

/* Aborts what another worker of the client is doing: it was done then, or never will be. */
static void do_abort(struct worker *worker)
{
	struct client *client = worker->client;
	struct initiator_command *victim =
		&client->workers[chance_below(&worker->chance, WORKERS)].command;
	uint8_t response = 0;
	uint32_t itt;
	bool at_work;

	fiber_mutex_lock(&client->abort_lock);
	at_work = victim->link.next && list_is_linked(&victim->link) && !victim->finished;
	itt = victim->itt;
	if (at_work &&
	    initiator_tmf(&client->initiator, ISCSI_TMF_ABORT_TASK, 0, itt, &response) == 0 &&
	    response == ISCSI_TMF_COMPLETE) {
		REACHED("sim_iscsi.aborted");
		SIM_RUN_CHECK(victim->itt == itt && !victim->finished,
			      "a command was aborted and answered");
		initiator_forget(victim);
	}
	fiber_mutex_unlock(&client->abort_lock);
}

static bool is_transient(const struct initiator_command *command)
{
	return command->status == 0x08 || command->status == 0x28 ||
	       (command->status == 0x02 && (command->sense[2] & 0x0f) == 0x06);
}

/*
 * Runs the command until it has a definite outcome. -ECONNRESET, -ECANCELED: it may have been done
 * or not, and that is settled: the client is logged in anew, or the target said that it is over.
 */
static int perform(struct worker *worker)
{
	struct client *client = worker->client;
	unsigned login;
	int r;

	do {
		login = client->logins;
		r = initiator_run(&client->initiator, &worker->command);
		if (r == 0 && is_transient(&worker->command))
			fiber_sleep(chance_below(&worker->chance, 2000000));
	} while (r == 0 && is_transient(&worker->command));
	mix(client->simulation, (uint64_t)(r + 200) * 256 + worker->command.status);
	if (r < 0 && r != -ECANCELED)
		await_login(client, login);
	return r;
}

static void prepare(struct worker *worker, uint8_t opcode, uint64_t block, uint32_t count)
{
	struct initiator_command *command = &worker->command;

	*command = (struct initiator_command){.cdb = {opcode}};
	put_be64(command->cdb + 2, block);
	put_be32(command->cdb + 10, count);
}

static void check_good(const struct worker *worker, const char *what)
{
	const struct initiator_command *command = &worker->command;

	SIM_RUN_CHECK(command->status == 0, "%s: status %02x sense %02x %02x%02x", what,
		      command->status, command->sense[2], command->sense[12], command->sense[13]);
	SIM_RUN_CHECK(command->residual == 0, "%s: residual %u", what, command->residual);
}

static void do_write(struct worker *worker, uint64_t block, uint32_t count)
{
	struct block_model *model = &worker->client->simulation->model;
	uint64_t id = block_model_new_ids(model, count), write;
	int r;

	prepare(worker, 0x8a, block, count);
	for (uint64_t i = 0; i < count; i++)
		block_model_fill(model, block + i, id + i, worker->data + i * BLOCK);
	worker->command.out = worker->data;
	worker->command.out_length = count * BLOCK;
	write = block_model_write(model, block, count, id);
	r = perform(worker);
	if (r == 0)
		check_good(worker, "write");
	block_model_written(model, block, count, write,
			    r < 0 ? BLOCK_MODEL_FAILED : BLOCK_MODEL_DONE);
}

static void do_zero(struct worker *worker, uint64_t block, uint32_t count)
{
	struct block_model *model = &worker->client->simulation->model;
	uint64_t write;
	int r;

	prepare(worker, 0x93, block, count);
	worker->command.cdb[1] = chance_below(&worker->chance, 2) ? 0x09 : 0x01; /* NDOB, UNMAP */
	write = block_model_write(model, block, count, 0);
	r = perform(worker);
	if (r == 0)
		check_good(worker, "write same");
	block_model_written(model, block, count, write,
			    r < 0 ? BLOCK_MODEL_FAILED : BLOCK_MODEL_DONE);
}

static void do_read(struct worker *worker, uint64_t block, uint32_t count)
{
	struct block_model *model = &worker->client->simulation->model;

	prepare(worker, 0x88, block, count);
	memset(worker->data, 0xa5, count * BLOCK);
	worker->command.in = worker->data;
	worker->command.in_length = count * BLOCK;
	if (perform(worker) < 0)
		return;
	check_good(worker, "read");
	SIM_RUN_CHECK(worker->command.in_received == count * BLOCK, "read: %u bytes",
		      worker->command.in_received);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t id = 0;

		SIM_RUN_CHECK(block_model_identify(model, block + i, worker->data + i * BLOCK, &id),
			      "read: block %" PRIu64 " holds what was never written", block + i);
		SIM_RUN_CHECK(block_model_may_be(model, block + i, id, worker->since, 0),
			      "read: block %" PRIu64 " cannot hold %" PRIu64, block + i, id);
		mix(worker->client->simulation, id);
	}
}

static void do_compare_and_write(struct worker *worker, uint64_t block)
{
	struct block_model *model = &worker->client->simulation->model;
	uint64_t old = block_model_likely(model, block), id = block_model_new_ids(model, 1), write;
	enum block_model_outcome outcome = BLOCK_MODEL_DONE;
	int r;

	prepare(worker, 0x89, block, 0);
	worker->command.cdb[13] = 1;
	block_model_fill(model, block, old, worker->data);
	block_model_fill(model, block, id, worker->data + BLOCK);
	worker->command.out = worker->data;
	worker->command.out_length = 2 * BLOCK;
	write = block_model_write(model, block, 1, id);
	r = perform(worker);
	if (r < 0)
		outcome = BLOCK_MODEL_FAILED;
	else if (worker->command.status == 0x02 && (worker->command.sense[2] & 0x0f) == 0x0e)
		outcome = BLOCK_MODEL_NOT_DONE;
	else
		check_good(worker, "compare and write");
	if (outcome == BLOCK_MODEL_DONE)
		SIM_RUN_CHECK(block_model_may_be(model, block, old, worker->since, write),
			      "compare and write: block %" PRIu64 " cannot have held %" PRIu64,
			      block, old);
	block_model_written(model, block, 1, write, outcome);
}

static void do_other(struct worker *worker)
{
	if (chance_below(&worker->chance, 2)) {
		prepare(worker, 0x91, 0, 0); /* SYNCHRONIZE CACHE */
		if (perform(worker) == 0)
			check_good(worker, "flush");
		return;
	}
	prepare(worker, 0x88, BLOCKS, 1); /* beyond the end */
	worker->command.in = worker->data;
	worker->command.in_length = BLOCK;
	if (perform(worker) == 0)
		SIM_RUN_CHECK(worker->command.status == 0x02 && worker->command.sense[12] == 0x21 &&
				      worker->command.residual == BLOCK,
			      "read beyond the end: status %02x", worker->command.status);
}

static void operate(struct worker *worker)
{
	struct chance *chance = &worker->chance;
	uint64_t most = chance_below(chance, 3) ? 16 : LENGTH_MAX;
	uint32_t count = 1 + (uint32_t)chance_below(chance, most);
	uint64_t block = chance_below(chance, BLOCKS - count + 1);

	worker->since = block_model_begin(&worker->client->simulation->model);
	switch (chance_below(chance, 10)) {
	case 0:
		do_other(worker);
		break;
	case 1:
		do_compare_and_write(worker, block);
		break;
	case 2:
		do_zero(worker, block, count);
		break;
	case 3:
	case 4:
	case 5:
		do_read(worker, block, count);
		break;
	default:
		do_write(worker, block, count);
		break;
	}
	block_model_end(&worker->client->simulation->model, worker->since);
}

static void run_worker(struct fiber_task *task)
{
	struct worker *worker = CONTAINER_OF(task, struct worker, task);
	struct client *client = worker->client;

	for (unsigned i = 0; i < OPERATIONS; i++) {
		if (chance_below(&worker->chance, 4) == 0)
			fiber_sleep(chance_below(&worker->chance, 3000000));
		operate(worker);
		if (chance_below(&worker->chance, 10) == 0)
			do_abort(worker);
	}
	client->running--;
	fiber_queue_wake_all(&client->changed);
}

/* --- Clients --- */

static struct initiator_options draw_login(struct client *client)
{
	struct chance *chance = &client->chance;
	static const uint32_t sizes[] = {512, 1024, 8192, 65536, 262144};

	return (struct initiator_options){
		.target = TARGET,
		.initial_r2t = chance_below(chance, 2),
		.immediate_data = chance_below(chance, 2),
		.header_digest = chance_below(chance, 2),
		.data_digest = chance_below(chance, 2),
		.first_burst = sizes[chance_below(chance, ARRAY_SIZE(sizes))],
		.max_burst = sizes[chance_below(chance, ARRAY_SIZE(sizes))],
		.max_recv = sizes[chance_below(chance, ARRAY_SIZE(sizes))],
		.cut_after = chance_below(chance, 3) ? 0 : 1 + chance_below(chance, 100000),
	};
}

static void log_in(struct client *client)
{
	struct simulation *simulation = client->simulation;
	unsigned index = (unsigned)(client - simulation->clients);
	char name[64];
	int r;

	snprintf(name, sizeof(name), "iqn.2026-01.org.example:client%u", index);
	do {
		struct initiator_options options = draw_login(client);

		options.name = name;
		if (client->logins > 8)
			options.cut_after = 0; /* comes to an end */
		options.isid[5] = (uint8_t)index;
		r = initiator_open(&client->initiator, (struct sockaddr *)&simulation->address,
				   sizeof(simulation->address), &options);
		SIM_RUN_CHECK(r == 0 || r == -ECONNRESET || r == -EPIPE ||
				      (r == -EACCES && client->initiator.login_status >> 8 == 3),
			      "login: error %d, status %04x", r, client->initiator.login_status);
		mix(simulation, (uint64_t)r);
		if (r < 0)
			fiber_sleep(chance_below(&client->chance, 1000000));
	} while (r < 0);
	client->logins++;
	fiber_queue_wake_all(&client->changed);
}

/* Keeps the client logged in, and cuts it now and then, until its workers are done. */
static void run_client(void *arg)
{
	struct client *client = arg;

	log_in(client);
	for (unsigned i = 0; i < WORKERS; i++) {
		client->running++;
		client->workers[i].task.run = run_worker;
		fiber_spawn(client->simulation->rig.reactors[CLIENT_REACTOR], FIBER_CONTROL,
			    &client->workers[i].task);
	}
	while (client->running > 0) {
		uint64_t wait_ns = chance_below(&client->chance, 20000000);

		(void)fiber_queue_wait_until(&client->changed,
					     reactor_now_ns(reactor_current()) + wait_ns);
		if (client->logins < 8 && chance_below(&client->chance, 2))
			initiator_cut(&client->initiator);
		if (!client->initiator.broken)
			continue;
		initiator_close(&client->initiator);
		log_in(client);
	}
	if (chance_below(&client->chance, 2))
		(void)initiator_logout(&client->initiator);
	initiator_close(&client->initiator);
}

static void init_client(struct simulation *simulation, struct client *client)
{
	client->simulation = simulation;
	chance_init(&client->chance, chance_next(&simulation->chance));
	fiber_queue_init(&client->changed);
	fiber_mutex_init(&client->abort_lock);
	for (unsigned i = 0; i < WORKERS; i++) {
		client->workers[i].client = client;
		chance_init(&client->workers[i].chance, chance_next(&simulation->chance));
	}
	client->task = (struct sim_rig_task){.run = run_client, .arg = client};
}

static void run_clients(struct simulation *simulation)
{
	chance_init(&simulation->manager_chance, chance_next(&simulation->chance));
	simulation->manager = (struct sim_rig_task){.run = run_manager, .arg = simulation};
	sim_rig_start(&simulation->rig, SERVER_REACTOR, &simulation->manager);
	for (unsigned i = 0; i < CLIENTS; i++) {
		init_client(simulation, &simulation->clients[i]);
		sim_rig_start(&simulation->rig, CLIENT_REACTOR, &simulation->clients[i].task);
	}
	for (unsigned i = 0; i < CLIENTS; i++) {
		int r = sim_rig_wait(&simulation->rig, &simulation->clients[i].task, 1, LIMIT_NS);

		SIM_RUN_CHECK(r == 0, "client %u does not come to an end: %d", i, r);
	}
	simulation->ending = true;
	SIM_RUN_CHECK(sim_rig_wait(&simulation->rig, &simulation->manager, 1, LIMIT_NS) == 0,
		      "the manager does not come to an end");
}

static void drop_line(enum log_level level, const char *line, void *arg)
{
}

static uint64_t run(uint64_t seed, bool trace)
{
	const struct sim_options options = {.seed = seed, .trace = trace};
	_cleanup_free_ struct simulation *simulation = calloc(1, sizeof(*simulation));
	uint64_t hash;

	SIM_RUN_CHECK(simulation, "no memory");
	if (!trace)
		log_set_sink(drop_line, NULL);
	sim_rig_init_options(&simulation->rig, &options, REACTORS);
	chance_init(&simulation->chance, seed);
	make_volumes(simulation);
	sim_rig_run(&simulation->rig, SERVER_REACTOR, start_server, simulation);
	run_clients(simulation);
	sim_rig_run(&simulation->rig, SERVER_REACTOR, stop_server, simulation);
	block_volume_free(simulation->delay);
	block_volume_free(simulation->memory);
	block_volume_free(simulation->other);
	hash = simulation->hash ^ sim_trace_hash(simulation->rig.sim);
	sim_rig_done(&simulation->rig);
	block_model_done(&simulation->model);
	return hash;
}

int main(int argc, char **argv)
{
	static const char *const must_reach[] = {
		"iscsi.memory-wait",   "iscsi.reserve",
		"iscsi.task-set-full", "iscsi.abort-io",
		"sim_iscsi.aborted",   "iscsi.reinstate-wait",
		"iscsi.move",          NULL,
	};
	static const struct sim_run_program program = {
		.name = "sim_iscsi",
		.run = run,
		.must_reach = must_reach,
	};

	return sim_run_main(argc, argv, &program);
}
