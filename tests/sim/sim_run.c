/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each job is a process that runs every J-th seed and tells in shared memory where it is, so
 * that a seed that crashes or hangs is known. Nothing of the simulation depends on the
 * division into jobs.
 */
#include "sim_run.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/reached.h"
#include "sim_commit.h"

#define JOBS_MAX 64

struct settings {
	uint64_t seed, seeds, jobs, replay;
	bool trace, hash;
};

struct progress { /* shared with one job */
	uint64_t seed;
	uint64_t finished;
	uint64_t hash; /* of all seeds of the job */
	uint64_t reached[SIM_RUN_REACH_MAX];
};

static const struct sim_run_program *program;
static struct settings settings = {.seed = 1, .seeds = 100, .jobs = 1, .replay = 16};
static struct progress *progress;
static pid_t pids[JOBS_MAX];

_Noreturn void sim_run_fail(const char *format, ...)
{
	va_list arguments;

	fputs("violation: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	abort();
}

static void drop_line(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)line;
	(void)arg;
}

/* In processor time, because the machine may be loaded; waiting for nothing uses none. */
static void limit_time(unsigned seconds)
{
	const struct itimerval limit = {.it_value = {.tv_sec = seconds}};

	(void)setitimer(ITIMER_PROF, &limit, NULL); /* valid arguments */
	(void)alarm(20 * seconds);
}

static void run_seed(uint64_t seed, struct progress *mine)
{
	uint64_t hash;

	mine->seed = seed;
	limit_time(program->limit_seconds ? program->limit_seconds : 60);
	hash = program->run(seed, settings.trace);
	if (settings.replay && seed % settings.replay == 0) {
		uint64_t again = program->run(seed, false);

		SIM_RUN_CHECK(again == hash,
			      "two runs of the seed differ: %016" PRIx64 " and %016" PRIx64, hash,
			      again);
	}
	if (settings.hash)
		printf("seed %" PRIu64 " hash %016" PRIx64 "\n", seed, hash);
	mine->hash += hash * (2 * seed + 1); /* a sum: the same for any number of jobs */
	mine->finished++;
}

_Noreturn static void run_job(uint64_t job)
{
	struct progress *mine = &progress[job];

	if (!settings.trace)
		log_set_sink(drop_line, NULL);
	for (uint64_t i = job; i < settings.seeds; i += settings.jobs)
		run_seed(settings.seed + i, mine);
	for (unsigned i = 0; program->must_reach && program->must_reach[i]; i++)
		mine->reached[i] = reached_count(program->must_reach[i]);
	/* exit() rather than _exit(): the leak checker runs there. */
	exit(0);
}

static void report_failure(uint64_t job, int status)
{
	uint64_t seed = progress[job].seed;
	int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	fflush(stdout);
	if (number)
		fprintf(stderr, "%s: seed %" PRIu64 " %s (%s)\n", program->name, seed,
			number == SIGALRM || number == SIGPROF ? "hangs" : "failed",
			strsignal(number));
	else
		fprintf(stderr, "%s: seed %" PRIu64 " failed (exit status %d)\n", program->name,
			seed, WEXITSTATUS(status));
	fprintf(stderr, "commit %s\nrun again: tests/sim/%s --seed %" PRIu64 " --seeds 1\n",
		sim_commit, program->name, seed);
}

static void stop_others(void)
{
	for (uint64_t i = 0; i < settings.jobs; i++)
		if (pids[i] > 0)
			(void)kill(pids[i], SIGKILL); /* it may have ended by itself */
	while (wait(NULL) > 0)
		continue;
}

static int wait_for_jobs(void)
{
	for (uint64_t left = settings.jobs; left > 0; left--) {
		int status;
		pid_t pid = wait(&status);
		uint64_t job = 0;

		if (pid < 0)
			return 1;
		while (job + 1 < settings.jobs && pids[job] != pid)
			job++;
		pids[job] = 0;
		if (status == 0)
			continue;
		report_failure(job, status);
		stop_others();
		return 1;
	}
	return 0;
}

static int check_reached(void)
{
	int result = 0;

	if (settings.seeds < SIM_RUN_REACH_SEEDS)
		return 0;
	for (unsigned i = 0; program->must_reach && program->must_reach[i]; i++) {
		uint64_t sum = 0;

		for (uint64_t job = 0; job < settings.jobs; job++)
			sum += progress[job].reached[i];
		if (sum > 0)
			continue;
		fprintf(stderr, "%s: never reached: %s\n", program->name, program->must_reach[i]);
		result = 3;
	}
	return result;
}

static int run_all(void)
{
	uint64_t hash = 0;
	int result;

	fflush(stdout);
	for (uint64_t job = 0; job < settings.jobs; job++) {
		pids[job] = fork();
		if (pids[job] == 0)
			run_job(job);
		if (pids[job] < 0) {
			fprintf(stderr, "%s: fork: %s\n", program->name, strerror(errno));
			stop_others();
			return 1;
		}
	}
	result = wait_for_jobs();
	if (result)
		return result;
	for (uint64_t job = 0; job < settings.jobs; job++)
		hash += progress[job].hash;
	printf("%s: %" PRIu64 " seeds from %" PRIu64 " passed, hash %016" PRIx64 "\n",
	       program->name, settings.seeds, settings.seed, hash);
	return check_reached();
}

static int parse_number(const char *text, uint64_t *ret_number)
{
	char *end;
	uint64_t number;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-')
		return -EINVAL;
	*ret_number = number;
	return 0;
}

static int parse_arguments(int argc, char **argv)
{
	static const struct option options[] = {
		{"seed", required_argument, NULL, 's'},
		{"seeds", required_argument, NULL, 'n'},
		{"jobs", required_argument, NULL, 'j'},
		{"replay", required_argument, NULL, 'r'},
		{"trace", no_argument, NULL, 't'},
		{"hash", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		uint64_t *number = NULL;

		switch (option) {
		case 's':
			number = &settings.seed;
			break;
		case 'n':
			number = &settings.seeds;
			break;
		case 'j':
			number = &settings.jobs;
			break;
		case 'r':
			number = &settings.replay;
			break;
		}
		if (option == 't')
			settings.trace = true;
		else if (option == 'h')
			settings.hash = true;
		else if (!number || parse_number(optarg, number) < 0)
			return -EINVAL;
	}
	if (optind < argc || settings.jobs < 1 || settings.jobs > JOBS_MAX)
		return -EINVAL;
	return 0;
}

int sim_run_main(int argc, char **argv, const struct sim_run_program *the_program)
{
	program = the_program;
	if (parse_arguments(argc, argv) < 0) {
		fprintf(stderr,
			"usage: %s [--seed S] [--seeds N] [--jobs J] [--replay K] [--trace] "
			"[--hash]\n",
			program->name); /* sim_run.h explains */
		return 2;
	}
	settings.jobs = MAX(MIN(settings.jobs, settings.seeds), UINT64_C(1));
	progress = mmap(NULL, settings.jobs * sizeof(*progress), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (progress == MAP_FAILED) {
		perror(program->name);
		return 1;
	}
	return run_all();
}
