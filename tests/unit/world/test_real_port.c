/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "real_fixture.h"

static void wait_ends_at_its_deadline(void **state)
{
	struct real_fixture *f = *state;
	uint64_t deadline_ns = f->ops->now_ns(f->world) + 5 * NSEC_PER_MSEC;
	unsigned turns = 0;

	while (f->ops->now_ns(f->world) < deadline_ns) {
		assert_int_equal(f->ops->port_wait(f->port, deadline_ns, 8), 0);
		turns++;
	}
	assert_true(turns <= 3); /* it slept, and not in small pieces */
	assert_true(f->ops->now_ns(f->world) < deadline_ns + NSEC_PER_SEC);
	/* These do not wait at all. */
	deadline_ns = f->ops->now_ns(f->world) + NSEC_PER_SEC;
	assert_int_equal(f->ops->port_wait(f->port, 0, 8), 0);
	assert_int_equal(f->ops->port_wait(f->port, 1, 8), 0);
	assert_true(f->ops->now_ns(f->world) < deadline_ns);
}

static void wait_for_release(void *arg)
{
	assert_int_equal(sem_wait(arg), 0);
}

static void do_at_once(void *arg)
{
	*(bool *)arg = true;
}

/* Jobs that a disk holds up, more than there are workers, hold up no other job. */
static void jobs_that_hang_hold_up_no_others(void **state)
{
	struct real_fixture *f = *state;
	struct waited_op hanging[5], quick;
	bool done = false;
	sem_t release;

	assert_int_equal(sem_init(&release, 0, 0), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(hanging); i++)
		f->ops->job(f->port, wait_for_release, &release, waited_init(&hanging[i]));
	f->ops->job(f->port, do_at_once, &done, waited_init(&quick));
	(void)waited_finish(f->port, f->world, &quick); /* a job has no result */
	assert_true(done);
	for (unsigned i = 0; i < ARRAY_SIZE(hanging); i++)
		assert_int_equal(hanging[i].done_count, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(hanging); i++)
		assert_int_equal(sem_post(&release), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(hanging); i++)
		(void)waited_finish(f->port, f->world, &hanging[i]);
	assert_int_equal(sem_destroy(&release), 0);
}

static void do_nothing(void *arg)
{
	(void)arg;
}

static long sleeps_of_thread(void)
{
	struct rusage usage;

	assert_int_equal(getrusage(RUSAGE_THREAD, &usage), 0);
	return usage.ru_nvcsw;
}

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RUNTIME_SLEEPS 1 /* TSan's own locks do */
#endif
#endif
#ifndef RUNTIME_SLEEPS
#define RUNTIME_SLEEPS 0
#endif

/* Whoever queues a job never waits for a worker, whatever those do. */
static void jobs_are_queued_without_sleeping(void **state)
{
	enum { BATCH = 64, BATCHES = 500 };
	struct real_fixture *f = *state;
	static struct waited_op ops[BATCH];
	long sleeps = 0;

	for (unsigned i = 0; i < BATCHES; i++) {
		long before = sleeps_of_thread();

		for (unsigned n = 0; n < BATCH; n++)
			f->ops->job(f->port, do_nothing, NULL, waited_init(&ops[n]));
		sleeps += sleeps_of_thread() - before;
		for (unsigned n = 0; n < BATCH; n++)
			(void)waited_finish(f->port, f->world, &ops[n]);
	}
	if (RUNTIME_SLEEPS)
		print_message("not judged with TSan, whose runtime sleeps: %ld\n", sleeps);
	else
		assert_int_equal(sleeps, 0);
}

static void ignore(int number)
{
}

/* A signal ends a wait early, never its operations. */
static void signals_do_no_harm(void **state)
{
	struct real_fixture *f = *state;
	const struct sigaction action = {.sa_handler = ignore};
	const struct itimerval often = {{0, 500}, {0, 500}}, never = {0};
	uint64_t deadline_ns = f->ops->now_ns(f->world) + 20 * NSEC_PER_MSEC;
	struct world_file *file;
	struct sigaction old;

	assert_int_equal(sigaction(SIGALRM, &action, &old), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
	assert_int_equal(real_open(f, "a", WORLD_FILE_CREATE, &file), 0);
	do
		assert_int_equal(real_write(f, file, "x", 1, 0), 1);
	while (f->ops->now_ns(f->world) < deadline_ns);
	deadline_ns += 20 * NSEC_PER_MSEC;
	while (f->ops->now_ns(f->world) < deadline_ns)
		assert_int_equal(f->ops->port_wait(f->port, deadline_ns, 8), 0);
	assert_int_equal(real_close(f, file), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
}

static void wake_before_the_wait_counts(void **state)
{
	struct real_fixture *f = *state;

	f->ops->port_wake(f->port);
	f->ops->port_wake(f->port);
	assert_int_equal(f->ops->port_wait(f->port, UINT64_MAX, 8), 0);
}

enum { SENDERS = 3, MESSAGES = 20000 };

struct stress;

struct stress_message {
	struct world_message message;
	struct stress *stress;
	unsigned sender;
	unsigned number;
};

struct sender {
	struct stress *stress;
	struct stress_message *messages;
	unsigned sent;
	pthread_t thread;
};

struct stress {
	struct real_fixture *f;
	struct sender senders[SENDERS];
	unsigned expected[SENDERS];
	uint64_t end_ns;
};

static void receive(struct world_message *message)
{
	struct stress_message *m = CONTAINER_OF(message, struct stress_message, message);

	assert_int_equal(m->number, m->stress->expected[m->sender]);
	m->stress->expected[m->sender]++;
}

static void *send_all(void *arg)
{
	struct sender *sender = arg;
	struct real_fixture *f = sender->stress->f;

	for (unsigned i = 0; i < MESSAGES; i++) {
		f->ops->port_post(NULL, f->port, &sender->messages[i].message);
		sender->sent++;
		if (i % 16 == 0)
			sched_yield(); /* lets the receiver fall asleep now and then */
		if (i % 1024 == 0 && f->ops->now_ns(f->world) > sender->stress->end_ns)
			break;
	}
	return NULL;
}

static void prepare_sender(struct stress *stress, unsigned index)
{
	struct sender *sender = &stress->senders[index];

	sender->stress = stress;
	sender->messages = calloc(MESSAGES, sizeof(struct stress_message));
	assert_non_null(sender->messages);
	for (unsigned i = 0; i < MESSAGES; i++)
		sender->messages[i] = (struct stress_message){
			.message.run = receive, .stress = stress, .sender = index, .number = i};
}

/* No message is lost, none waits for ever, and the order of each sender is kept. */
static void keeps_order_and_wakes_under_stress(void **state)
{
	struct real_fixture *f = *state;
	struct stress stress = {.f = f};
	unsigned sent = 0, received = 0;

	stress.end_ns = f->ops->now_ns(f->world) + 2 * NSEC_PER_SEC;
	for (unsigned i = 0; i < SENDERS; i++) {
		prepare_sender(&stress, i);
		assert_int_equal(pthread_create(&stress.senders[i].thread, NULL, send_all,
						&stress.senders[i]),
				 0);
	}
	while (received < SENDERS * MESSAGES && f->ops->now_ns(f->world) < stress.end_ns)
		received += f->ops->port_wait(f->port, stress.end_ns, 8);
	for (unsigned i = 0; i < SENDERS; i++) {
		assert_int_equal(pthread_join(stress.senders[i].thread, NULL), 0);
		sent += stress.senders[i].sent;
	}
	received += f->ops->port_wait(f->port, 0, 8);
	assert_int_equal(received, sent);
	for (unsigned i = 0; i < SENDERS; i++)
		free(stress.senders[i].messages);
}

struct ping {
	struct real_fixture *f;
	struct world_port *other;
	struct world_message there, back;
	unsigned rounds;
	bool stop;
};

static void pong(struct world_message *message)
{
	struct ping *ping = CONTAINER_OF(message, struct ping, back);

	ping->rounds++;
}

static void answer(struct world_message *message)
{
	struct ping *ping = CONTAINER_OF(message, struct ping, there);

	ping->f->ops->port_post(ping->other, ping->f->port, &ping->back);
}

static void stop(struct world_message *message)
{
	CONTAINER_OF(message, struct ping, there)->stop = true;
}

static void *other_thread(void *arg)
{
	struct ping *ping = arg;

	while (!ping->stop)
		ping->f->ops->port_wait(ping->other, UINT64_MAX, 8);
	return NULL;
}

/* Each side sleeps without a deadline until the other's message wakes it. */
static void two_ports_wake_each_other(void **state)
{
	struct real_fixture *f = *state;
	struct ping ping = {.f = f, .there.run = answer, .back.run = pong};
	pthread_t thread;

	assert_int_equal(f->ops->port_open(f->world, 5, NULL, NULL, &ping.other), 0);
	assert_int_equal(pthread_create(&thread, NULL, other_thread, &ping), 0);
	for (unsigned round = 1; round <= 2000; round++) {
		f->ops->port_post(f->port, ping.other, &ping.there);
		while (ping.rounds < round)
			f->ops->port_wait(f->port, UINT64_MAX, 8);
	}
	ping.there.run = stop;
	f->ops->port_post(f->port, ping.other, &ping.there);
	assert_int_equal(pthread_join(thread, NULL), 0);
	f->ops->port_close(ping.other);
}

static void note_thread(void *arg)
{
	*(pthread_t *)arg = pthread_self();
}

static void job_runs_on_another_thread(void **state)
{
	struct real_fixture *f = *state;
	pthread_t thread = pthread_self();
	struct waited_op op;

	f->ops->job(f->port, note_thread, &thread, waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), 0);
	assert_false(pthread_equal(thread, pthread_self()));
}

static void wait_for_flag(void *arg)
{
	while (!__atomic_load_n((bool *)arg, __ATOMIC_ACQUIRE))
		usleep(1000);
}

/* Two workers are busy, so the third job has not begun and can be cancelled; those cannot. */
static void cancels_only_a_job_that_waits(void **state)
{
	struct real_fixture *f = *state;
	struct waited_op busy[2], waiting;
	pthread_t thread = pthread_self();
	bool flag = false;

	for (unsigned i = 0; i < 2; i++)
		f->ops->job(f->port, wait_for_flag, &flag, waited_init(&busy[i]));
	f->ops->job(f->port, note_thread, &thread, waited_init(&waiting));
	f->ops->cancel(f->port, &waiting.op);
	f->ops->cancel(f->port, &waiting.op);
	assert_int_equal(waiting.done_count, 0);
	assert_int_equal(waited_finish(f->port, f->world, &waiting), -ECANCELED);
	assert_true(pthread_equal(thread, pthread_self()));
	usleep(20000); /* the workers have begun */
	f->ops->cancel(f->port, &busy[0].op);
	f->ops->port_wait(f->port, 0, 8);
	assert_int_equal(busy[0].done_count, 0);
	__atomic_store_n(&flag, true, __ATOMIC_RELEASE);
	assert_int_equal(waited_finish(f->port, f->world, &busy[0]), 0);
	assert_int_equal(waited_finish(f->port, f->world, &busy[1]), 0);
	f->ops->cancel(f->port, &busy[0].op); /* finished: no effect */
	assert_int_equal(busy[0].done_count, 1);
}

static void clocks_and_randomness(void **state)
{
	struct real_fixture *f = *state;
	uint64_t first = f->ops->now_ns(f->world);
	uint8_t a[300], b[300];

	assert_true(f->ops->now_ns(f->world) >= first);
	assert_true(f->ops->wall_ns(f->world) > UINT64_C(1600000000) * NSEC_PER_SEC);
	f->ops->random(f->world, a, sizeof(a));
	f->ops->random(f->world, b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
}

static void refuses_a_port_number_out_of_range(void **state)
{
	struct real_fixture *f = *state;
	struct world_port *port;

	assert_int_equal(f->ops->port_open(f->world, 64, NULL, NULL, &port), -EINVAL);
	assert_int_equal(f->ops->port_open(f->world, 63, NULL, NULL, &port), 0);
	f->ops->port_close(port);
}

static void reports_failure_to_open_a_port(void **state)
{
	const struct world_real_options options = {.fence_fd = 999999};
	struct world *world;
	struct world_port *port;

	assert_int_equal(world_real_new(&options, &world), 0);
	assert_int_equal(world->ops->port_open(world, 0, NULL, NULL, &port), -EBADF);
	world_real_free(world);
	world_real_free(NULL);
}

/* What world_real_new() returns in a process whose io_uring_setup() fails with `error`. */
static int new_where_the_kernel_says(int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = ARRAY_SIZE(filter), .filter = filter};
	const struct world_real_options options = {.fence_fd = -1};
	pid_t child = fork();
	struct world *world;
	int status;

	if (child == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
			_exit(0);
		_exit(-world_real_new(&options, &world));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

static void says_why_io_uring_cannot_be_had(void **state)
{
	assert_int_equal(new_where_the_kernel_says(ENOSYS), -ENOSYS);
	assert_int_equal(new_where_the_kernel_says(EPERM), -EPERM);
	assert_int_equal(new_where_the_kernel_says(EINVAL), -ENOSYS); /* an old kernel */
}

#define REAL_TEST(name) cmocka_unit_test_setup_teardown(name, real_setup, real_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		REAL_TEST(wait_ends_at_its_deadline),
		REAL_TEST(jobs_that_hang_hold_up_no_others),
		REAL_TEST(jobs_are_queued_without_sleeping),
		REAL_TEST(signals_do_no_harm),
		REAL_TEST(wake_before_the_wait_counts),
		REAL_TEST(keeps_order_and_wakes_under_stress),
		REAL_TEST(two_ports_wake_each_other),
		REAL_TEST(job_runs_on_another_thread),
		REAL_TEST(cancels_only_a_job_that_waits),
		REAL_TEST(clocks_and_randomness),
		REAL_TEST(refuses_a_port_number_out_of_range),
		cmocka_unit_test(reports_failure_to_open_a_port),
		cmocka_unit_test(says_why_io_uring_cannot_be_had),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
