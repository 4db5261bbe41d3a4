/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon. The main thread sets everything up, then waits for a signal, then takes everything
 * down in the opposite order; the work is done by the reactors, and HTTP by threads of its own.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/daemon_args.h"
#include "cmd/daemon_upgrade.h"
#include "control/http.h"
#include "control/keeper_real.h"
#include "control/lock.h"
#include "control/node.h"
#include "control/notify.h"
#include "control/place_real.h"
#include "control/renew.h"
#include "control/service.h"
#include "control/version.h"
#include "pool/pool_disk.h"
#include "reactor/fiber.h"
#include "world/real.h"

#define LOCK_TIMEOUT_MS 60000
#define LOCK_AGAIN_MS   500   /* between attempts to take over from a dead daemon */
#define LOCK_MARGIN_MS  1000  /* beyond the time that a disk may take, before the first */
#define STATE_SLOW_MS   10000 /* when it is told that the state directory does not answer */
#define STOP_MARGIN_MS  5000  /* for the rest, when what hangs was given up */
/* API calls, jobs and log-ins at once; each is a fiber, and costs memory only when it was used. */
#define CONTROL_FIBERS      512
#define CONTROL_FIBERS_MOST 2048 /* while those stand still, because of disks that hang */

struct daemon {
	struct config config;
	int lock_fd;
	struct lock_dead dead;  /* daemons before this one; the watch of the node looks at them */
	_Atomic unsigned steps; /* of taking the lock: whether they go on is watched */
	atomic_bool has_lock;
	int fence_pipe[2]; /* for keepers; the write end lives in the rings alone */
	char nvme_directory[CONFIG_SOCKET_MAX];
	char keeper[CONFIG_PATH_MAX]; /* program */
	struct keeper_real *keepers;  /* NULL when NVMe is disabled */
	struct world *world;
	struct reactor *reactors[CONFIG_REACTORS_MAX];
	unsigned reactor_count, started_count;
	char host[256]; /* announced when iSCSI listens on all addresses */
	struct node *node;
	struct service *service;
	struct error error;
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void print_fault(const char *fault, void *arg)
{
	fprintf(stderr, "sarsend: %s\n", fault);
}

static int fail(const char *what, const char *object, int error, const char *remedy)
{
	log_error("sarsend", what, "object=%s error=\"%s\" remedy=\"%s\"", object, strerror(-error),
		  remedy);
	return error;
}

struct waiting {
	struct daemon *daemon;
	bool told;
};

/* The signals that end the daemon are blocked: one that has come is pending. */
static bool waiting_for_lock(const struct holder *owner, void *arg)
{
	struct waiting *waiting = arg;
	sigset_t pending;

	atomic_fetch_add(&waiting->daemon->steps, 1);
	if (!waiting->told) {
		log_info("sarsend",
			 "waiting until the kernel has finished the I/O of the last daemon",
			 "pid=%d", (int)owner->pid);
		http_clear_stale(waiting->daemon->config.socket); /* nobody shall wait there */
	}
	waiting->told = true;
	sigpending(&pending);
	return !sigismember(&pending, SIGINT) && !sigismember(&pending, SIGTERM);
}

/* The state directory can be on what hangs: then nothing can be done but say so. */
static void *watch_lock(void *arg)
{
	static const struct timespec pause = {.tv_sec = STATE_SLOW_MS / 1000};
	struct daemon *daemon = arg;
	unsigned before = atomic_load(&daemon->steps), now;

	for (;;) {
		(void)nanosleep(&pause, NULL); /* signals are blocked */
		if (atomic_load(&daemon->has_lock))
			return NULL;
		now = atomic_load(&daemon->steps);
		if (now == before)
			log_error(
				"sarsend", "the file system of the state directory does not answer",
				"directory=\"%s\" remedy=\"check its disk; without it nothing can "
				"be served\"",
				daemon->config.state);
		before = now;
	}
}

static void start_watch_lock(struct daemon *daemon)
{
	pthread_t thread;
	int error = pthread_create(&thread, NULL, watch_lock, daemon);

	if (error)
		log_warning("sarsend", "a state directory that hangs will not be told", "error=%d",
			    error);
	else
		(void)pthread_detach(thread); /* is ours */
}

/* The lock, or that of a dead daemon whose I/O does not end. `ret_why` tells why not. */
static int wait_for_lock(struct daemon *daemon, struct holder *ret_owner, const char **ret_why)
{
	const char *state = daemon->config.state;
	struct waiting waiting = {.daemon = daemon};
	unsigned wait_ms = (unsigned)MIN(daemon->config.disk_timeout_ms + LOCK_MARGIN_MS,
					 (uint64_t)LOCK_TIMEOUT_MS);
	unsigned waited_ms = 0;
	int r;

	for (;;) {
		r = lock_take(state, wait_ms, waiting_for_lock, &waiting, ret_owner);
		if (r != -ETIMEDOUT)
			return r;
		waited_ms += wait_ms;
		wait_ms = LOCK_AGAIN_MS;
		r = lock_take_over(state, ret_why);
		atomic_fetch_add(&daemon->steps, 1);
		if (r >= 0)
			return r;
		if (waited_ms >= LOCK_TIMEOUT_MS)
			return -ETIMEDOUT;
	}
}

static int fail_lock(const char *state, int error, const struct holder *owner, const char *why)
{
	char text[CONFIG_PATH_MAX + 64], remedy[400];

	if (error == -ECANCELED)
		return error;
	snprintf(text, sizeof(text), "%s pid=%d", state, (int)owner->pid);
	if (error == -EBUSY)
		return fail("another sarsend uses this state directory", text, error,
			    "stop that one first, or choose another with --state");
	snprintf(remedy, sizeof(remedy),
		 "a disk does not answer: let it, or take its device from the kernel; then start "
		 "again%s%s",
		 why ? ". The lock is not taken from the dead daemon because " : "",
		 why ? why : "");
	if (error == -ETIMEDOUT)
		return fail("I/O of a dead daemon does not end", text, error, remedy);
	return fail("cannot lock the state directory", state, error,
		    "it must be a writable directory");
}

/* Those before us of which something is left: what they have locked must not be ours. */
static int find_dead(struct daemon *daemon)
{
	const char *state = daemon->config.state;
	int r = lock_dead_open(state, daemon->lock_fd, &daemon->dead);

	if (r < 0)
		return fail("cannot look for locks of dead daemons", state, r,
			    "it must be a writable directory");
	if (lock_dead_poll(&daemon->dead) == 0)
		return 0;
	log_warning("sarsend",
		    "what is left of the last daemon cannot end: a disk does not answer; serving "
		    "the others",
		    "pid=%d daemons=%u", (int)daemon->dead.all[0].holder.pid, daemon->dead.count);
	r = renew_catalog(state);
	return r < 0 ? fail("cannot copy the catalog", state, r, "make room; see sarsend(8)") : 0;
}

static int take_lock(struct daemon *daemon)
{
	const char *state = daemon->config.state, *why = NULL;
	struct holder owner = {0};
	int r;

	start_watch_lock(daemon);
	if (mkdir(state, 0750) < 0 && errno != EEXIST)
		return fail("cannot make the state directory", state, -errno,
			    "make the directory above it, or choose another with --state");
	r = wait_for_lock(daemon, &owner, &why);
	if (r < 0)
		return fail_lock(state, r, &owner, why);
	daemon->lock_fd = r;
	r = find_dead(daemon);
	atomic_store(&daemon->has_lock, true);
	return r;
}

/* On a worker. */
static unsigned poll_dead(void *arg, bool *ret_may_name)
{
	struct daemon *daemon = arg;
	unsigned left = lock_dead_poll(&daemon->dead);

	*ret_may_name = lock_dead_may_name(&daemon->dead);
	return left;
}

static unsigned choose_reactor_count(const struct config *config)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (config->reactors)
		return (unsigned)config->reactors;
	return (unsigned)MAX(1L, MIN(cpus - 1, (long)CONFIG_REACTORS_MAX));
}

static int start_reactors(struct daemon *daemon)
{
	const struct config *config = &daemon->config;
	unsigned count = choose_reactor_count(config);
	int r;

	for (unsigned i = 0; i < count; i++) {
		const struct reactor_options options = {
			.index = i,
			.fibers = {[FIBER_CONTROL] = CONTROL_FIBERS},
			.fibers_most = {[FIBER_CONTROL] = CONTROL_FIBERS_MOST},
			/* A single reactor shares its CPU with everything else. */
			.pin = config->pin && count > 1,
			.poll_ns = config->poll_us * NSEC_PER_USEC};

		r = reactor_new(daemon->world, &options, &daemon->reactors[i]);
		if (r < 0)
			return fail(
				"cannot set up a reactor", "io_uring", r,
				"raise the limits on memory and files, or give fewer --reactors");
		daemon->reactor_count++;
		r = reactor_start(daemon->reactors[i]);
		if (r < 0)
			return fail("cannot start a reactor", "thread", r,
				    "raise the thread limit");
		daemon->started_count++;
	}
	return 0;
}

static int start_world(struct daemon *daemon)
{
	struct world_real_options options = {.workers = (unsigned)daemon->config.workers,
					     .fence_fd = daemon->lock_fd,
					     .dead_listeners = daemon->dead.count};
	int r;

	if (pipe2(daemon->fence_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return fail("cannot make a pipe", "fence", -errno, "raise the limit on files");
	options.fence_pipe_fd = daemon->fence_pipe[1];
	r = world_real_new(&options, &daemon->world);
	if (r < 0)
		return fail("cannot use io_uring", "kernel", r,
			    "Linux 6.1 or newer is needed, with kernel.io_uring_disabled = 0");
	r = start_reactors(daemon);
	close_fd(&daemon->fence_pipe[1]);
	return r;
}

/* The program beside our own, unless the configuration names another. */
static void find_keeper(struct daemon *daemon)
{
	ssize_t length;
	char *slash;

	snprintf(daemon->keeper, sizeof(daemon->keeper), "%s", daemon->config.nvme_keeper);
	if (daemon->keeper[0])
		return;
	length = readlink("/proc/self/exe", daemon->keeper, sizeof(daemon->keeper) - 16);
	daemon->keeper[MAX(length, (ssize_t)0)] = '\0';
	slash = strrchr(daemon->keeper, '/');
	snprintf(slash ? slash + 1 : daemon->keeper, 16, "sarsen-keeper");
}

static int prepare_keepers(struct daemon *daemon)
{
	const struct config *config = &daemon->config;
	const struct keeper_real_options options = {
		.program = daemon->keeper,
		.directory = daemon->nvme_directory,
		.group = config->nvme_group,
		.systemd = config->nvme_keepers == CONFIG_KEEPERS_SYSTEMD ||
			   (config->nvme_keepers == CONFIG_KEEPERS_AUTO &&
			    keeper_real_under_systemd())};
	int r;

	if (!config->nvme_enabled)
		return 0;
	find_keeper(daemon);
	config_nvme_directory(config, daemon->nvme_directory);
	r = keeper_real_new(&options, &daemon->keepers);
	if (r == -ENOENT)
		return fail("the group of [nvme] does not exist", config->nvme_group, r,
			    "make it, or name another");
	return r < 0 ? fail("cannot prepare NVMe", "memory", r, "free memory") : 0;
}

/* The host in URLs: as configured, or this machine's name when every address is served. */
static const char *announce(struct daemon *daemon)
{
	const struct config *config = &daemon->config;

	if (config->iscsi_announce[0])
		return config->iscsi_announce;
	if ((strcmp(config->iscsi_address, "0.0.0.0") == 0 ||
	     strcmp(config->iscsi_address, "::") == 0) &&
	    gethostname(daemon->host, sizeof(daemon->host) - 1) == 0)
		return daemon->host;
	return "";
}

static int start_node(void *arg)
{
	struct daemon *daemon = arg;
	const struct config *config = &daemon->config;
	const struct node_options options = {
		.world = daemon->world,
		.reactors = daemon->reactors,
		.reactor_count = daemon->reactor_count,
		.state_directory = config->state,
		.restore_catalog = config->restore_catalog[0] ? config->restore_catalog : NULL,
		.map_budget_bytes = config_map_bytes(config),
		.scrub_days = config->scrub_days,
		.scrub_rate_bytes = config->scrub_rate_bytes,
		.disk_timeout_ns = config->disk_timeout_ms * NSEC_PER_MSEC,
		.iscsi_enabled = config->iscsi_enabled,
		.iscsi = {.address = config->iscsi_address,
			  .port = (uint16_t)config->iscsi_port,
			  .port_fallback = config->iscsi_port_fallback,
			  .max_sessions = (unsigned)config->iscsi_max_sessions,
			  .memory_bytes = config->iscsi_memory_bytes},
		.iscsi_announce = announce(daemon),
		.nvme = {.keepers = daemon->keepers ? &keeper_real_ops : NULL,
			 .keepers_context = daemon->keepers,
			 .directory = daemon->nvme_directory,
			 .fence_fd = daemon->fence_pipe[0],
			 .max_controllers = (unsigned)config->nvme_max_controllers,
			 .max_queues = (unsigned)config->nvme_max_queues,
			 .max_namespaces = (unsigned)config->nvme_max_namespaces,
			 .in_flight_bytes = config->nvme_in_flight_bytes},
		.dead = {.count = daemon->dead.count,
			 .pid = daemon->dead.count ? (int)daemon->dead.all[0].holder.pid : 0,
			 .poll = poll_dead,
			 .arg = daemon},
		.places = &place_real_ops,
		.places_context = (void *)"",
		.space_percents = {(unsigned)config->space_notice, (unsigned)config->space_low,
				   (unsigned)config->space_critical},
		.process_id = (uint64_t)getpid()};

	return node_start(&options, &daemon->node, &daemon->error);
}

static int begin_stop(void *arg)
{
	struct daemon *daemon = arg;

	node_begin_stop(daemon->node);
	return 0;
}

static int stop_node(void *arg)
{
	struct daemon *daemon = arg;

	node_stop(daemon->node);
	return 0;
}

static int start(struct daemon *daemon)
{
	int r = take_lock(daemon);

	if (r == 0)
		r = prepare_keepers(daemon);
	if (r == 0)
		r = start_world(daemon);
	if (r < 0)
		return r;
	r = fiber_call_blocking(daemon->reactors[0], FIBER_CONTROL, start_node, daemon);
	if (r < 0) {
		log_error("sarsend", daemon->error.message, "code=%s object=\"%s\" remedy=\"%s\"",
			  error_code_name(daemon->error.code), daemon->error.object,
			  daemon->error.remedy);
		return r;
	}
	r = service_start(daemon->node, daemon->reactors[0], daemon->config.socket,
			  &daemon->service);
	if (r < 0)
		return fail("cannot open the socket of the API", daemon->config.socket, r,
			    "choose another with --socket, or remove what is there");
	return 0;
}

/* The kernel keeps all that is open while a thread is held up in it: whoever is connected would
 * wait as long. Other threads may open and close some meanwhile, which does no harm. */
static void hang_up(void)
{
	DIR *directory = opendir("/proc/self/fd");
	struct dirent *entry;

	if (!directory)
		return;
	while ((entry = readdir(directory)) != NULL)
		if (entry->d_name[0] != '.')
			(void)shutdown(atoi(entry->d_name), SHUT_RDWR); /* or it is no socket */
	(void)closedir(directory);                                      /* was only read */
}

/* What disks that hang have under way cannot be taken back: the process ends as if it was killed,
 * which loses nothing that was answered, and the lock is free when the kernel has ended all of it.
 */
__attribute__((noreturn)) static void leave(const char *what)
{
	log_warning("sarsend", what, "disks=%u", pool_disks_silent());
	hang_up();
	_exit(0);
}

/* Beside the stopping, which waits for what has one copy: not for ever, if that hangs. */
static void *watch_stop(void *arg)
{
	const struct daemon *daemon = arg;
	uint64_t ms = daemon->config.disk_timeout_ms + STOP_MARGIN_MS;
	const struct timespec patience = {.tv_sec = (time_t)(ms / 1000),
					  .tv_nsec = (long)(ms % 1000 * NSEC_PER_MSEC)};
	const struct timespec pause = {.tv_sec = 1};

	(void)nanosleep(&patience, NULL); /* signals are blocked */
	for (;;) {
		if (pool_disks_silent() > 0)
			leave("not stopped in order: disks do not answer");
		(void)nanosleep(&pause, NULL);
	}
	return NULL;
}

static void limit_stop(struct daemon *daemon)
{
	pthread_t thread;
	int error = pthread_create(&thread, NULL, watch_stop, daemon);

	if (error)
		log_warning("sarsend", "a disk that hangs may hold up the stopping", "error=%d",
			    error);
	else
		(void)pthread_detach(thread); /* is ours */
}

static void stop(struct daemon *daemon)
{
	struct reactor *home = daemon->reactors[0];

	limit_stop(daemon);
	if (daemon->node)
		(void)fiber_call_blocking(home, FIBER_CONTROL, begin_stop, daemon); /* is 0 */
	service_stop(daemon->service);
	if (daemon->node)
		(void)fiber_call_blocking(home, FIBER_CONTROL, stop_node, daemon); /* is 0 */
	if (pool_disks_silent() > 0)
		leave("stopped while disks do not answer");
	for (unsigned i = 0; i < daemon->started_count; i++)
		reactor_stop(daemon->reactors[i]);
	for (unsigned i = 0; i < daemon->reactor_count; i++)
		reactor_free(daemon->reactors[i]);
	if (daemon->world)
		world_real_free(daemon->world);
	keeper_real_free(daemon->keepers);
	close_fd(&daemon->fence_pipe[0]);
	lock_dead_close(&daemon->dead);
	if (daemon->lock_fd >= 0)
		lock_release(daemon->lock_fd);
}

/* Before any thread exists, so that all have it: signals are taken by wait_for_signal() alone. */
static void block_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warning("sarsend", "the limit on open files stays low", "errno=%d", errno);
}

static void notify(const char *message)
{
	int r = notify_send(message);

	if (r < 0)
		log_warning("sarsend", "the service manager cannot be notified", "error=%d", r);
}

static int do_nothing(void *arg)
{
	return 0;
}

/* A sign of life is one of every reactor: each has run a fiber since the last. */
static void notify_alive(struct daemon *daemon)
{
	for (unsigned i = 0; i < daemon->reactor_count; i++)
		(void)fiber_call_blocking(daemon->reactors[i], FIBER_CONTROL, do_nothing,
					  NULL); /* is 0 */
	notify("WATCHDOG=1");
}

/* The signal that ends the daemon. */
static int wait_for_signal(struct daemon *daemon, const sigset_t *signals)
{
	uint64_t pause_ns = notify_watchdog_ns() / 2;
	const struct timespec pause = {.tv_sec = (time_t)(pause_ns / NSEC_PER_SEC),
				       .tv_nsec = (long)(pause_ns % NSEC_PER_SEC)};
	int number;

	for (;;) {
		number =
			pause_ns ? sigtimedwait(signals, NULL, &pause) : sigwaitinfo(signals, NULL);
		if (number > 0)
			return number;
		if (errno == EAGAIN)
			notify_alive(daemon);
	}
}

static int run(struct daemon *daemon)
{
	sigset_t signals;
	int r;

	block_signals(&signals);
	raise_file_limit();
	log_set_level(daemon->config.log_level);
	log_set_format(daemon->config.log_format);
	r = start(daemon);
	if (r == 0) {
		log_info("sarsend", "ready", "version=%s pid=%d socket=%s state=%s reactors=%u",
			 version_text(), (int)getpid(), daemon->config.socket, daemon->config.state,
			 daemon->reactor_count);
		notify("READY=1");
		log_info("sarsend", "stopping", "signal=%s",
			 strsignal(wait_for_signal(daemon, &signals)));
		notify("STOPPING=1");
	}
	stop(daemon);
	/* Told to stop before it had begun: as good as later. */
	if (r == -ECANCELED)
		r = 0;
	if (r == 0)
		log_info("sarsend", "stopped", "");
	return r == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	static struct daemon daemon = {.lock_fd = -1, .fence_pipe = {-1, -1}};
	enum daemon_action action;

	/* What the daemon makes is its own: the catalog holds secrets of iSCSI. */
	(void)umask(S_IRWXG | S_IRWXO);
	if (daemon_args_parse(argc, argv, &daemon.config, &action, print_fault, NULL) < 0)
		return 2;
	if (action == DAEMON_HELP)
		fputs(daemon_help_text, stdout);
	else if (action == DAEMON_VERSION)
		printf("sarsend %s\n", version_text());
	else if (action == DAEMON_CHECK_CONFIG)
		puts("the configuration is good");
	else if (action == DAEMON_CHECK_UPGRADE || action == DAEMON_CHECK_UPGRADE_JSON)
		return (int)daemon_upgrade_check(daemon.config.state,
						 action == DAEMON_CHECK_UPGRADE_JSON);
	else
		return run(&daemon);
	return 0;
}
