/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sarsen-fsck: checks a stopped state. The main thread holds the daemon's lock and waits; the check
 * is a fiber of a reactor of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/fsck_args.h"
#include "cmd/fsck_rebuild_print.h"
#include "control/lock.h"
#include "control/version.h"
#include "fsck/fsck.h"
#include "reactor/fiber.h"
#include "world/real.h"

#define LOCK_TIMEOUT_MS 10000
#define POLL_MS         20
#define ALIVE_POLLS     5

struct run {
	struct fsck_args args;
	struct fsck_print print;
	struct fsck_report report;
	struct fsck_rebuild_print rebuild_print;
	struct fsck_rebuild_report rebuild_report;
	struct world *world;
	struct reactor *reactor;
	char catalog[CONFIG_PATH_MAX];
	char scratch[64];
};

static atomic_bool interrupted;

static void on_signal(int number)
{
	(void)number;
	atomic_store(&interrupted, true);
}

static int fail(const char *what, const char *object, int error)
{
	fprintf(stderr, "sarsen-fsck: %s: %s: %s\n", object, what, strerror(-error));
	return FSCK_EXIT_OPERATION;
}

static int in_use(const struct fsck_args *args, int pid)
{
	fprintf(stderr,
		"sarsen-fsck: %s: sarsend (process %d) uses this state: stop it first "
		"(systemctl stop sarsend)\n",
		args->state, pid);
	return -EBUSY;
}

static int read_owner(int fd)
{
	char text[32] = "";

	if (pread(fd, text, sizeof(text) - 1, 0) < 0)
		text[0] = '\0';
	return atoi(text);
}

/* The kernel keeps the lock of a daemon that has ended until its I/O has, so only an owner that
 * stays alive counts (control/lock.h). */
static int wait_shared(const struct fsck_args *args, int fd)
{
	static const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
	unsigned alive = 0;

	for (unsigned waited = 0; waited < LOCK_TIMEOUT_MS; waited += POLL_MS) {
		int pid;

		if (flock(fd, LOCK_SH | LOCK_NB) == 0)
			return 0;
		pid = read_owner(fd);
		alive = pid > 0 && kill(pid, 0) == 0 ? alive + 1 : 0;
		if (alive == ALIVE_POLLS)
			return in_use(args, pid);
		nanosleep(&pause, NULL);
	}
	return -ETIMEDOUT;
}

/* Only looked at with -n: the lock is shared, and its file is not made. */
static int lock_read_only(const struct fsck_args *args)
{
	char path[CONFIG_PATH_MAX + 8];
	int fd, r;

	snprintf(path, sizeof(path), "%s/lock", args->state);
	for (;;) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return errno == ENOENT ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -errno;
		r = wait_shared(args, fd);
		if (r == 0 && lock_is_named(fd, args->state))
			return fd;
		close(fd);
		if (r < 0)
			return r;
		/* A daemon took over: its lock is another file. */
	}
}

/* With -n nothing is repaired, so that it may be looked at nevertheless. */
static void tell_of_dead(const struct fsck_args *args)
{
	pid_t pid;

	if (lock_dead_count(args->state, &pid) > 0)
		fprintf(stderr,
			"sarsen-fsck: %s: note: what is left of a dead sarsend (process %d) may "
			"still write: what looks damaged may be under way\n",
			args->state, (int)pid);
}

/* A daemon whose lock was taken over may still write, to files that a check repairs. */
static int wait_for_dead(const struct fsck_args *args, int fd)
{
	static const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
	static struct lock_dead dead; /* large for a stack */
	int r = lock_dead_open(args->state, fd, &dead);

	if (r < 0)
		return r;
	for (unsigned waited = 0; lock_dead_poll(&dead) > 0; waited += POLL_MS) {
		if (waited >= LOCK_TIMEOUT_MS) {
			fprintf(stderr,
				"sarsen-fsck: %s: what is left of a dead sarsend (process %d) may "
				"still write: let the disk answer that hangs, or take its device "
				"from "
				"the kernel\n",
				args->state, (int)dead.all[0].holder.pid);
			lock_dead_close(&dead);
			return -EBUSY;
		}
		nanosleep(&pause, NULL);
	}
	return 0;
}

static int take_lock(const struct fsck_args *args)
{
	struct holder owner = {0};
	int r, r2;

	if (args->show_only) {
		r = lock_read_only(args);
		if (r >= 0)
			tell_of_dead(args);
		return r;
	}
	r = lock_take(args->state, LOCK_TIMEOUT_MS, NULL, NULL, &owner);
	if (r < 0)
		return r == -EBUSY ? in_use(args, (int)owner.pid) : r;
	r2 = wait_for_dead(args, r);
	if (r2 == 0)
		return r;
	lock_release(r);
	return r2;
}

static void print_finding(void *arg, const struct fsck_finding *finding)
{
	struct run *run = arg;

	fsck_print_finding(&run->print, finding);
}

static bool print_progress(void *arg, uint64_t bytes_done, uint64_t bytes_total)
{
	struct run *run = arg;

	fsck_print_progress(&run->print, bytes_done, bytes_total);
	return !atomic_load(&interrupted);
}

static int check(void *arg)
{
	struct run *run = arg;
	const struct fsck_options options = {.world = run->world,
					     .catalog = run->catalog,
					     .scratch = run->scratch,
					     .repair = !run->args.show_only,
					     .finding = print_finding,
					     .progress = print_progress,
					     .arg = run};

	return fsck_run(&options, &run->report);
}

static void print_note(void *arg, const struct fsck_rebuild_note *note)
{
	struct run *run = arg;

	fsck_rebuild_print_note(&run->rebuild_print, note);
}

static void print_vdisk(void *arg, const struct fsck_rebuild_vdisk *vdisk)
{
	struct run *run = arg;

	fsck_rebuild_print_vdisk(&run->rebuild_print, vdisk);
}

static int rebuild(void *arg)
{
	struct run *run = arg;
	const struct fsck_rebuild_options options = {.world = run->world,
						     .catalog = run->catalog,
						     .scratch = run->scratch,
						     .directories = run->args.directories,
						     .directory_count = run->args.directory_count,
						     .show_only = run->args.show_only,
						     .force = run->args.force,
						     .note = print_note,
						     .vdisk = print_vdisk,
						     .progress = print_progress,
						     .arg = run};

	return fsck_rebuild(&options, &run->rebuild_report);
}

static int make_scratch(struct run *run)
{
	const char *directory = getenv("TMPDIR");

	if (!directory || strlen(directory) > 32)
		directory = "/tmp";
	snprintf(run->scratch, sizeof(run->scratch), "%s/sarsen-fsck.XXXXXX", directory);
	return mkdtemp(run->scratch) ? 0 : -errno;
}

static int start(struct run *run)
{
	const struct world_real_options world_options = {.workers = 2, .fence_fd = -1};
	const struct reactor_options reactor_options = {.index = 0, .stack_bytes = 512 * 1024};
	int r = make_scratch(run);

	if (r < 0)
		return r;
	r = world_real_new(&world_options, &run->world);
	if (r == 0)
		r = reactor_new(run->world, &reactor_options, &run->reactor);
	return r < 0 ? r : reactor_start(run->reactor);
}

static void remove_scratch(const struct run *run)
{
	static const char *const names[] = {"", "-wal", "-shm", "-journal"};
	char path[128];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/catalog.db%s", run->scratch, names[i]);
		(void)unlink(path); /* mostly it is gone already */
	}
	(void)rmdir(run->scratch);
}

static void stop(struct run *run)
{
	if (run->reactor) {
		reactor_stop(run->reactor);
		reactor_free(run->reactor);
	}
	if (run->world)
		world_real_free(run->world);
	if (run->scratch[0])
		remove_scratch(run);
	json_decref(run->print.findings);
}

static int run_rebuild(struct run *run)
{
	int r;

	run->rebuild_print.print = &run->print;
	r = fiber_call_blocking(run->reactor, FIBER_CONTROL, rebuild, run);
	fsck_rebuild_print_end(&run->rebuild_print, &run->rebuild_report, r);
	if (r == -ECANCELED) {
		fprintf(stderr, "\nsarsen-fsck: canceled; nothing was changed\n");
		return FSCK_EXIT_CANCELED;
	}
	if (r == -EEXIST)
		return FSCK_EXIT_OPERATION;
	if (r < 0)
		return fail("cannot make the catalog again", run->catalog, r);
	return run->rebuild_report.doubts ? FSCK_EXIT_LEFT : FSCK_EXIT_CLEAN;
}

static int run_check(struct run *run)
{
	int r = start(run);

	if (r < 0)
		return fail("cannot begin", "io_uring", r);
	if (run->args.rebuild)
		return run_rebuild(run);
	r = fiber_call_blocking(run->reactor, FIBER_CONTROL, check, run);
	if (r == -ECANCELED) {
		fprintf(stderr, "\nsarsen-fsck: canceled\n");
		return FSCK_EXIT_CANCELED;
	}
	if (r < 0)
		return fail(r == -ENOENT ? "there is no catalog" : "cannot check", run->catalog, r);
	fsck_print_report(&run->print, &run->report);
	return fsck_exit_of(&run->report);
}

static int run_locked(struct run *run)
{
	int lock = take_lock(&run->args), r;

	if (lock == -EBUSY)
		return FSCK_EXIT_OPERATION;
	if (lock < 0)
		return fail("cannot lock the state", run->args.state, lock);
	r = run_check(run);
	stop(run);
	if (run->args.show_only)
		close(lock);
	else
		lock_release(lock);
	return r;
}

int main(int argc, char **argv)
{
	static struct run run;
	const struct sigaction action = {.sa_handler = on_signal};

	(void)umask(S_IRWXG | S_IRWXO);
	if (fsck_args_parse(argc, argv, &run.args) < 0)
		return FSCK_EXIT_USAGE;
	if (run.args.help) {
		fputs(fsck_help_text, stdout);
		return FSCK_EXIT_CLEAN;
	}
	if (run.args.version) {
		printf("sarsen-fsck %s\n", version_text());
		return FSCK_EXIT_CLEAN;
	}
	(void)sigaction(SIGINT, &action, NULL);  /* cannot fail */
	(void)sigaction(SIGTERM, &action, NULL); /* cannot fail */
	log_set_level(LOG_LEVEL_ERROR);
	run.print = (struct fsck_print){.out = stdout,
					.show_only = run.args.show_only,
					.terminal = isatty(STDERR_FILENO) == 1,
					.findings = run.args.json ? json_array() : NULL};
	if (snprintf(run.catalog, sizeof(run.catalog), "%s/catalog.db", run.args.state) >=
	    (int)sizeof(run.catalog))
		return FSCK_EXIT_USAGE;
	return run_locked(&run);
}
