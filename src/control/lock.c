/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking over, step by step; a crash between any two leaves what the next daemon deals with:
 *
 *   lock.new is made, locked, filled and synced     it is made anew by the next who takes over
 *   lock gets a second name, lock.dead-PID-START    both names are one file: the second one goes
 *   lock.new is renamed to lock                     done; the dead file tells that I/O may land
 *
 * All under an flock() on lock.guard, so that one at a time does so. Who waits for the file that
 * was `lock` before gets its lock in the end, maybe before the rename. It then looks at the name
 * and writes itself into the file under the guard, too: either the name means another file by then,
 * and it begins again, or whoever takes over next finds a living owner.
 */
#include "control/lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/macros.h"

#define PROC    "/proc"
#define POLL_MS 20
/* Its holder makes a few syncs. While it hangs in one, who waits lets go of `lock` and looks again.
 */
#define GUARD_MS 1000
/* A killed process looks alive for an instant, so an owner counts as alive when it was so this
 * often. */
#define ALIVE_POLLS 5
#define PATH_BYTES  4300
#define DEAD_PREFIX "lock.dead-"

static void closep(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd); /* lets go of its lock, else nothing depends on it */
}
#define _cleanup_close_ _cleanup_(closep)

static int path_of(const char *directory, const char *name, char path[PATH_BYTES])
{
	int length = snprintf(path, PATH_BYTES, "%s/%s", directory, name);

	return length < PATH_BYTES ? 0 : -ENAMETOOLONG;
}

static bool owner_is_alive(const struct holder *owner)
{
	struct holder_report report;

	if (owner->pid <= 0)
		return false;
	holder_judge(PROC, owner, &report);
	return report.state == HOLDER_ALIVE;
}

static void read_owner(int fd, struct holder *ret_owner)
{
	char text[160];
	ssize_t length = pread(fd, text, sizeof(text) - 1, 0);
	int pid, fields;

	*ret_owner = (struct holder){0};
	if (length <= 0)
		return;
	text[length] = '\0';
	fields = sscanf(text, "%d %" SCNu64 " %39[0-9a-f-] %" SCNu64, &pid, &ret_owner->start_ticks,
			ret_owner->boot_id, &ret_owner->pid_namespace);
	if (fields < 2 || pid <= 0)
		*ret_owner = (struct holder){0};
	else
		ret_owner->pid = pid;
}

static int write_owner(int fd)
{
	struct holder self;
	char text[160];
	int length;

	if (holder_self(PROC, &self) < 0)
		return -ENOSYS;
	length = snprintf(text, sizeof(text), "%d %" PRIu64 " %s %" PRIu64 "\n", (int)self.pid,
			  self.start_ticks, self.boot_id[0] ? self.boot_id : "-",
			  self.pid_namespace);
	errno = 0;
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)length, 0) != length)
		return errno ? -errno : -EIO;
	return 0;
}

static int wait_for_lock(int fd, unsigned timeout_ms, lock_waiting_fn *waiting, void *arg,
			 struct holder *ret_owner)
{
	static const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
	unsigned alive_polls = 0;

	for (unsigned waited_ms = 0;; waited_ms += POLL_MS) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		read_owner(fd, ret_owner);
		alive_polls = owner_is_alive(ret_owner) ? alive_polls + 1 : 0;
		if (alive_polls == ALIVE_POLLS)
			return -EBUSY;
		if (alive_polls == 0 && waited_ms >= timeout_ms)
			return -ETIMEDOUT;
		if (alive_polls == 0 && waiting && !waiting(ret_owner, arg))
			return -ECANCELED;
		nanosleep(&pause, NULL);
	}
}

/* Whether the name still means the file that is open. */
static bool is_named(int fd, const char *path)
{
	struct stat open_one, named;

	return fstat(fd, &open_one) == 0 && stat(path, &named) == 0 &&
	       open_one.st_dev == named.st_dev && open_one.st_ino == named.st_ino;
}

static int open_guard(const char *directory, int *ret_guard)
{
	char path[PATH_BYTES];
	int fd, r = path_of(directory, "lock.guard", path);

	if (r < 0)
		return r;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	if (fd < 0)
		return -errno;
	*ret_guard = fd;
	return 0;
}

/* -EAGAIN: somebody has it for long. */
static int wait_for_guard(int guard, lock_waiting_fn *waiting, void *arg,
			  const struct holder *owner)
{
	static const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};

	for (unsigned waited_ms = 0;; waited_ms += POLL_MS) {
		if (flock(guard, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (waited_ms >= GUARD_MS)
			return -EAGAIN;
		if (waiting && !waiting(owner, arg))
			return -ECANCELED;
		nanosleep(&pause, NULL);
	}
}

/* 1: another daemon took over meanwhile, the name means another file. -EAGAIN: maybe it will. */
static int take(const char *directory, unsigned timeout_ms, lock_waiting_fn *waiting, void *arg,
		struct holder *ret_owner, int *ret_fd)
{
	_cleanup_close_ int fd = -1, guard = -1;
	char path[PATH_BYTES];
	int r = path_of(directory, "lock", path);

	if (r < 0)
		return r;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	if (fd < 0)
		return -errno;
	r = wait_for_lock(fd, timeout_ms, waiting, arg, ret_owner);
	if (r == 0)
		r = open_guard(directory, &guard);
	if (r < 0)
		return r;
	read_owner(fd, ret_owner);
	r = wait_for_guard(guard, waiting, arg, ret_owner);
	if (r == 0 && !is_named(fd, path))
		return 1;
	if (r == 0)
		r = write_owner(fd);
	if (r < 0)
		return r;
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int lock_take(const char *state_directory, unsigned timeout_ms, lock_waiting_fn *waiting, void *arg,
	      struct holder *ret_owner)
{
	unsigned guarded_ms = 0;
	int fd = -1, r;

	do {
		r = take(state_directory, timeout_ms, waiting, arg, ret_owner, &fd);
		if (r == -EAGAIN)
			guarded_ms += GUARD_MS;
	} while (r == 1 || (r == -EAGAIN && guarded_ms < timeout_ms));
	if (r == -EAGAIN)
		return -ETIMEDOUT;
	return r < 0 ? r : fd;
}

bool lock_is_named(int fd, const char *state_directory)
{
	char path[PATH_BYTES];

	return path_of(state_directory, "lock", path) == 0 && is_named(fd, path);
}

void lock_release(int fd)
{
	/* Only tidiness: an owner that is gone is recognised as such. */
	(void)!ftruncate(fd, 0);
	close(fd);
}

/* Taking over */

static bool alone_has_lock(int fd, const struct holder *owner)
{
	struct stat stat;

	return fstat(fd, &stat) == 0 && holder_has_lock(PROC, owner->pid, stat.st_dev, stat.st_ino);
}

/* That it never acts again, and that nobody else holds the lock. */
static int verify_dead(int fd, const struct holder *owner, const char **ret_why)
{
	struct holder_report report;

	*ret_why = "the lock file does not say who holds it, or of which boot and machine it is";
	if (owner->pid <= 0 || !holder_is_of_here(PROC, owner))
		return -EPERM;
	holder_judge(PROC, owner, &report);
	*ret_why = report.why;
	if (report.state == HOLDER_ENDING)
		return -EAGAIN;
	if (report.state != HOLDER_STUCK && report.state != HOLDER_GONE)
		return -EPERM;
	*ret_why = "the kernel does not tell that it alone holds the lock";
	if (!alone_has_lock(fd, owner))
		return -EPERM;
	*ret_why = NULL;
	return 0;
}

static int make_new(const char *path, int *ret_fd)
{
	_cleanup_close_ int fd = -1;
	int r;

	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	r = write_owner(fd);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r < 0)
		return r;
	*ret_fd = fd;
	fd = -1;
	return 0;
}

static int sync_directory(const char *directory)
{
	_cleanup_close_ int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int replace(const char *directory, const char *path, const struct holder *owner, int old,
		   int *ret_fd)
{
	char new_path[PATH_BYTES], dead_path[PATH_BYTES], name[80];
	_cleanup_close_ int fd = -1;
	int r;

	snprintf(name, sizeof(name), DEAD_PREFIX "%d-%" PRIu64, (int)owner->pid,
		 owner->start_ticks);
	r = path_of(directory, "lock.new", new_path);
	if (r == 0)
		r = path_of(directory, name, dead_path);
	if (r == 0)
		r = make_new(new_path, &fd);
	if (r < 0)
		return r;
	if (link(path, dead_path) < 0 && errno != EEXIST)
		return -errno;
	if (!is_named(old, dead_path))
		return -EAGAIN; /* it is another file: this one would be left without a name */
	r = sync_directory(directory);
	if (r == 0 && !alone_has_lock(old, owner))
		r = -EAGAIN; /* it was let go meanwhile; who has it waits for our guard, or shares
				it */
	if (r == 0 && rename(new_path, path) < 0)
		r = -errno;
	if (r == 0)
		r = sync_directory(directory);
	if (r < 0)
		return r;
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int lock_take_over(const char *state_directory, const char **ret_why)
{
	char path[PATH_BYTES];
	_cleanup_close_ int guard = -1, old = -1;
	struct holder owner;
	int fd = -1, r = path_of(state_directory, "lock", path);

	*ret_why = "the state directory cannot be used";
	if (r == 0)
		r = open_guard(state_directory, &guard);
	if (r < 0)
		return r;
	if (flock(guard, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	old = open(path, O_RDWR | O_CLOEXEC);
	if (old < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	if (flock(old, LOCK_EX | LOCK_NB) == 0)
		return -EAGAIN; /* it is free after all */
	read_owner(old, &owner);
	r = verify_dead(old, &owner, ret_why);
	if (r == 0)
		r = replace(state_directory, path, &owner, old, &fd);
	return r < 0 ? r : fd;
}

/* The dead */

static int dead_add(const char *path, const char *name, int own_fd, struct lock_dead *dead)
{
	struct lock_dead_one *one = &dead->all[dead->count];
	uint64_t start_ticks;
	int pid;

	if (sscanf(name, DEAD_PREFIX "%d-%" SCNu64, &pid, &start_ticks) != 2)
		return 0; /* not ours */
	/* A second name of our own lock: a takeover ended before it was one. */
	if (is_named(own_fd, path))
		return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
	if (dead->count == LOCK_DEAD_MAX)
		return -E2BIG;
	*one = (struct lock_dead_one){0};
	snprintf(one->path, sizeof(one->path), "%s", path);
	one->fd = open(path, O_RDWR | O_CLOEXEC);
	if (one->fd < 0)
		return -errno;
	/* The name does not tell of which boot and namespace it was. */
	read_owner(one->fd, &one->holder);
	if (one->holder.pid == 0)
		one->holder = (struct holder){.pid = pid, .start_ticks = start_ticks};
	dead->count++;
	return 0;
}

int lock_dead_open(const char *state_directory, int fd, struct lock_dead *dead)
{
	char path[PATH_BYTES];
	DIR *directory = opendir(state_directory);
	struct dirent *entry;
	int r = 0;

	*dead = (struct lock_dead){0};
	if (!directory)
		return -errno;
	while (r == 0 && (entry = readdir(directory)) != NULL) {
		if (strncmp(entry->d_name, DEAD_PREFIX, strlen(DEAD_PREFIX)) != 0)
			continue;
		r = path_of(state_directory, entry->d_name, path);
		if (r == 0)
			r = dead_add(path, entry->d_name, fd, dead);
	}
	closedir(directory);
	if (r < 0)
		lock_dead_close(dead);
	return r;
}

unsigned lock_dead_poll(struct lock_dead *dead)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < dead->count; i++) {
		struct lock_dead_one *one = &dead->all[i];

		if (flock(one->fd, LOCK_EX | LOCK_NB) < 0) {
			if (kept != i)
				dead->all[kept] = *one;
			kept++;
			continue;
		}
		(void)unlink(one->path); /* else the next daemon finds its lock free */
		close(one->fd);
	}
	dead->count = kept;
	return kept;
}

bool lock_dead_may_name(const struct lock_dead *dead)
{
	struct holder_report report;

	for (unsigned i = 0; i < dead->count; i++) {
		const struct holder *holder = &dead->all[i].holder;

		holder_judge(PROC, holder, &report);
		if (report.may_name || !holder_is_of_here(PROC, holder))
			return true;
	}
	return false;
}

/* One that cannot be looked at counts. */
static bool is_kept(const char *directory, const char *name)
{
	_cleanup_close_ int fd = -1;
	char path[PATH_BYTES];

	if (path_of(directory, name, path) < 0)
		return true;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? errno != ENOENT : flock(fd, LOCK_SH | LOCK_NB) < 0;
}

unsigned lock_dead_count(const char *state_directory, pid_t *ret_pid)
{
	DIR *directory = opendir(state_directory);
	struct dirent *entry;
	unsigned count = 0;
	int pid;

	if (!directory)
		return 0;
	while ((entry = readdir(directory)) != NULL)
		if (sscanf(entry->d_name, DEAD_PREFIX "%d-", &pid) == 1 &&
		    is_kept(state_directory, entry->d_name)) {
			*ret_pid = pid;
			count++;
		}
	closedir(directory);
	return count;
}

void lock_dead_close(struct lock_dead *dead)
{
	for (unsigned i = 0; i < dead->count; i++)
		close(dead->all[i].fd);
	dead->count = 0;
}
