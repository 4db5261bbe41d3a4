/* SPDX-License-Identifier: Apache-2.0 */
#include "control/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/macros.h"

#define POLL_MS 20
/* A killed process looks alive for an instant, so an owner counts as alive when it was so this
 * often. */
#define ALIVE_POLLS 5
#define PF_EXITING  0x4u /* include/linux/sched.h: the process is on its way out */

struct process {
	char state;
	unsigned flags;
	uint64_t start_ticks;
};

/* From /proc/PID/stat, see proc(5); false when there is no such process. */
static bool process_stat(pid_t pid, struct process *ret_process)
{
	char path[64], text[1024];
	const char *after_name;
	FILE *file;
	size_t length;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	length = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[length] = '\0';
	/* The name, field 2, may contain anything, but ends at the last parenthesis. */
	after_name = strrchr(text, ')');
	return after_name &&
	       sscanf(after_name + 1,
		      " %c %*s %*s %*s %*s %*s %u %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
		      "%" SCNu64,
		      &ret_process->state, &ret_process->flags, &ret_process->start_ticks) == 3;
}

static bool owner_is_alive(const struct lock_owner *owner)
{
	struct process process;

	return owner->pid > 0 && process_stat(owner->pid, &process) &&
	       !strchr("ZX", process.state) && !(process.flags & PF_EXITING) &&
	       process.start_ticks == owner->start_ticks;
}

static void read_owner(int fd, struct lock_owner *ret_owner)
{
	char text[64];
	ssize_t length = pread(fd, text, sizeof(text) - 1, 0);
	int pid;

	*ret_owner = (struct lock_owner){0};
	if (length <= 0)
		return;
	text[length] = '\0';
	if (sscanf(text, "%d %" SCNu64, &pid, &ret_owner->start_ticks) == 2)
		ret_owner->pid = pid;
}

static int write_owner(int fd)
{
	struct process process;
	char text[64];
	int length;

	if (!process_stat(getpid(), &process))
		return -ENOSYS;
	length = snprintf(text, sizeof(text), "%d %" PRIu64 "\n", (int)getpid(),
			  process.start_ticks);
	errno = 0;
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)length, 0) != length)
		return errno ? -errno : -EIO;
	return 0;
}

static int wait_for_lock(int fd, unsigned timeout_ms, lock_waiting_fn *waiting, void *arg,
			 struct lock_owner *ret_owner)
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

int lock_take(const char *state_directory, unsigned timeout_ms, lock_waiting_fn *waiting, void *arg,
	      struct lock_owner *ret_owner)
{
	char path[4200];
	int fd, r;

	if (snprintf(path, sizeof(path), "%s/lock", state_directory) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	if (fd < 0)
		return -errno;
	r = wait_for_lock(fd, timeout_ms, waiting, arg, ret_owner);
	if (r == 0)
		r = write_owner(fd);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

void lock_release(int fd)
{
	/* Only tidiness: an owner that is gone is recognised as such. */
	(void)!ftruncate(fd, 0);
	close(fd);
}
