/* SPDX-License-Identifier: Apache-2.0 */
/* The process: its sockets, its memory, and the loop. */
#include "keeper/keeper_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/build.h"
#include "base/log.h"
#include "base/macros.h"
#include "keeper/confine.h"

#define SEALS        (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define DOORBELLS_AT VFU_PAGE_BYTES /* in their file, where BAR0 has them */
#define BACKLOG      8

static volatile sig_atomic_t stopped, hung_up;

static void on_signal(int number)
{
	if (number == SIGHUP)
		hung_up = 1;
	else
		stopped = 1;
}

uint64_t keeper_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

/* A socket at `path`, in place of one that a keeper before left. */
static int listen_at(const char *path, mode_t mode, gid_t group, int *ret_fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	mode_t mask;
	int fd, r = 0;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (unlink(path) < 0 && errno != ENOENT)
		r = -errno;
	mask = umask(0777 & ~mode);
	if (r == 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		r = -errno;
	umask(mask);
	if (r == 0 && group != (gid_t)-1 && chown(path, (uid_t)-1, group) < 0)
		r = -errno;
	if (r == 0 && listen(fd, BACKLOG) < 0)
		r = -errno;
	if (r < 0)
		close(fd);
	else
		*ret_fd = fd;
	return r;
}

static int make_memory(const char *name, size_t bytes, int *ret_fd)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static int map_memory(struct keeper *keeper)
{
	void *shared = mmap(NULL, sizeof(*keeper->shared), PROT_READ | PROT_WRITE, MAP_SHARED,
			    keeper->shared_fd, 0);
	void *doorbells = mmap(NULL, VFU_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
			       keeper->doorbells_fd, DOORBELLS_AT);

	if (shared == MAP_FAILED || doorbells == MAP_FAILED)
		return -errno; /* the process ends with it */
	keeper->shared = shared;
	keeper->doorbells = doorbells;
	return 0;
}

/* What another build made. */
static int map_found_memory(struct keeper *keeper)
{
	struct stat status;

	if (fstat(keeper->shared_fd, &status) < 0)
		return -errno;
	if (status.st_size != (off_t)sizeof(*keeper->shared))
		return -EPROTONOSUPPORT;
	if (map_memory(keeper) < 0)
		return -ENOMEM;
	return keeper->shared->magic == VFU_SHARED_MAGIC &&
			       keeper->shared->version == VFU_SHARED_VERSION
		       ? 0
		       : -EPROTONOSUPPORT;
}

static int make_all(struct keeper *keeper)
{
	const struct keeper_options *options = &keeper->options;
	int r = make_memory("sarsen-controller", sizeof(*keeper->shared), &keeper->shared_fd);

	if (r == 0)
		r = make_memory("sarsen-doorbells", 2 * VFU_PAGE_BYTES, &keeper->doorbells_fd);
	if (r == 0)
		r = map_memory(keeper);
	if (r < 0)
		return r;
	keeper->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	keeper->nobody_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (keeper->wake_fd < 0 || keeper->nobody_fd < 0)
		return -errno;
	keeper->shared->magic = VFU_SHARED_MAGIC;
	keeper->shared->version = VFU_SHARED_VERSION;
	keeper->shared->bytes = sizeof(*keeper->shared);
	keeper->shared->doorbells_mapped = options->doorbells_mapped;
	device_init(keeper);
	r = listen_at(options->link_path, 0600, (gid_t)-1, &keeper->link_listen_fd);
	return r < 0 ? r
		     : listen_at(options->socket_path, 0660, options->group,
				 &keeper->socket_listen_fd);
}

/* A message from an engine that stopped reads as a hang-up, even where it has left words. */
static void serve(struct keeper *keeper, const struct pollfd *polled)
{
	if (polled[0].revents && keeper->fence_fd == polled[0].fd)
		engine_fence_hung_up(keeper);
	if (polled[1].revents & ~POLLOUT && keeper->engine_fd == polled[1].fd)
		engine_readable(keeper);
	if (polled[2].revents && keeper->candidate_fd == polled[2].fd)
		engine_candidate_readable(keeper);
	if (polled[3].revents && keeper->client_fd == polled[3].fd)
		client_readable(keeper);
	if (polled[4].revents)
		engine_accept(keeper);
	if (polled[5].revents)
		client_accept(keeper);
}

void keeper_turn(struct keeper *keeper, const sigset_t *mask, bool may_sleep)
{
	bool waits = keeper->wait != KEEPER_WAIT_NOTHING;
	/* A closed connection would be told again and again while nobody reads it. The next client
	 * waits in the backlog while the last one's memory is taken away. */
	struct pollfd polled[] = {
		{keeper->fence_fd, 0, 0}, /* a hang-up is always told */
		{keeper->engine_fd, POLLIN, 0},
		{keeper->candidate_fd, POLLIN, 0},
		{waits ? -1 : keeper->client_fd, POLLIN, 0},
		{keeper->candidate_fd >= 0 ? -1 : keeper->link_listen_fd, POLLIN, 0},
		{waits && keeper->client_fd < 0 ? -1 : keeper->socket_listen_fd, POLLIN, 0},
	};
	struct timespec patience = {.tv_nsec = may_sleep ? 50 * NSEC_PER_MSEC : 0};
	bool full = keeper->full_since_ns != 0, limited = waits || full || !may_sleep;

	if (full) { /* nothing is read until the engine has read */
		polled[1].events |= POLLOUT;
		polled[3].fd = -1;
	}
	if (ppoll(polled, ARRAY_SIZE(polled), limited ? &patience : NULL, mask) < 0)
		return; /* a signal */
	if (full && (polled[1].revents & POLLOUT || keeper->engine_fd < 0))
		keeper->full_since_ns = 0;
	if (!waits && !full && polled[3].revents == 0)
		keeper->batch_since_ns = 0;
	serve(keeper, polled);
	client_tidy(keeper);
	engine_check_patience(keeper);
}

/* Between two messages of the client only; the engine's link ends anyway. */
static void replace_if_asked(struct keeper *keeper)
{
	keeper->replacing = keeper->replacing || hung_up;
	hung_up = 0;
	if (keeper->replacing && keeper->wait == KEEPER_WAIT_NOTHING &&
	    keeper->client_receiver.used == 0)
		replace_run(keeper);
}

static void init(struct keeper *keeper, const struct keeper_options *options)
{
	*keeper = (struct keeper){.options = *options,
				  .shared_fd = -1,
				  .doorbells_fd = -1,
				  .wake_fd = -1,
				  .nobody_fd = -1,
				  .early_fd = -1,
				  .link_listen_fd = -1,
				  .socket_listen_fd = -1,
				  .client_fd = -1,
				  .intx_fd = -1,
				  .engine_fd = -1,
				  .engine_pidfd = -1,
				  .fence_fd = -1,
				  .candidate_fd = -1};
	for (unsigned i = 0; i < VFU_VECTOR_COUNT; i++)
		keeper->msix_fds[i] = -1;
	for (unsigned i = 0; i < VFU_MAP_COUNT; i++)
		keeper->maps[i].fd = -1;
}

/* Each range and each vector is an open file, and files in flight count too. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warning("keeper", "the limit on open files stays low", "errno=%d", errno);
}

int keeper_start(struct keeper *keeper, const struct keeper_options *options)
{
	int r;

	init(keeper, options);
	r = options->resume_fd >= 0 ? replace_resume(keeper, options->resume_fd) : make_all(keeper);
	if (r == 0 && options->resume_fd >= 0)
		r = map_found_memory(keeper);
	if (r < 0)
		return r;
	if (options->resume_fd >= 0)
		device_resume(keeper);
	client_watch_early(keeper);
	keeper->shared->keeper_pid = (uint64_t)getpid();
	keeper->shared->keeper_build = build_number();
	return r;
}

static void drop(int fd)
{
	if (fd >= 0)
		close(fd);
}

void keeper_done(struct keeper *keeper)
{
	const int fds[] = {keeper->shared_fd,    keeper->doorbells_fd,     keeper->wake_fd,
			   keeper->nobody_fd,    keeper->link_listen_fd,   keeper->client_fd,
			   keeper->engine_fd,    keeper->socket_listen_fd, keeper->intx_fd,
			   keeper->candidate_fd, keeper->fence_fd,         keeper->engine_pidfd,
			   keeper->early_fd};

	unlink(keeper->options.link_path);
	unlink(keeper->options.socket_path);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		drop(fds[i]);
	for (unsigned i = 0; i < VFU_VECTOR_COUNT; i++)
		drop(keeper->msix_fds[i]);
	for (unsigned i = 0; i < VFU_MAP_COUNT; i++)
		drop(keeper->maps[i].fd);
	vfu_receiver_reset(&keeper->client_receiver);
	vfu_receiver_reset(&keeper->engine_receiver);
	vfu_receiver_reset(&keeper->candidate_receiver);
	if (keeper->shared)
		munmap(keeper->shared, sizeof(*keeper->shared));
	if (keeper->doorbells)
		munmap(keeper->doorbells, VFU_PAGE_BYTES);
}

/* The signals are told in ppoll() only. They may be blocked already, by a keeper before. */
static void take_signals(sigset_t *ret_before)
{
	static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
	struct sigaction action = {.sa_handler = on_signal};
	sigset_t blocked;

	sigemptyset(&blocked);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		sigaddset(&blocked, numbers[i]);
	sigprocmask(SIG_BLOCK, &blocked, ret_before);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		sigaction(numbers[i], &action, NULL);
		sigdelset(ret_before, numbers[i]);
	}
}

/* The filter of a keeper before, which has executed this program, is inherited. */
static int confine(const struct keeper_options *options)
{
	int r = options->confine && options->resume_fd < 0 ? confine_self() : 0;

	if (r < 0)
		log_error("keeper", "system calls cannot be filtered", "error=%d", r);
	return r;
}

int keeper_run(const struct keeper_options *options)
{
	static struct keeper keeper; /* large, and one a process */
	sigset_t mask;
	int r;

	take_signals(&mask);
	raise_file_limit();
	r = keeper_start(&keeper, options);
	if (r == 0 && options->ready && options->resume_fd < 0)
		options->ready();
	if (r == 0)
		r = confine(options);
	if (r < 0)
		return r;
	log_info("keeper", "serving", "name=%s socket=%s", options->name, options->socket_path);
	while (!stopped && !keeper.finished) {
		keeper_turn(&keeper, &mask, true);
		replace_if_asked(&keeper);
	}
	log_info("keeper", "ended", "name=%s", options->name);
	keeper_done(&keeper);
	return 0;
}
