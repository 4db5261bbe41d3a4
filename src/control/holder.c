/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread never returns to user space when SIGKILL is pending for it (nothing can take that back),
 * when a signal is ending it, when it is past that, or when it is one of the kernel's, which carry
 * out I/O of io_uring. A process all of whose threads are so can make no new ones. Each of them
 * finishes at most the one system call that it is in.
 */
#include "control/holder.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/macros.h"

/* include/linux/sched.h */
#define PF_EXITING   0x4u   /* past the end of its work */
#define PF_IO_WORKER 0x10u  /* of the kernel */
#define PF_SIGNALED  0x400u /* a signal is ending it */

struct thread {
	char state;
	unsigned flags;
	uint64_t start_ticks;
	bool killed; /* SIGKILL is pending for it */
};

static int read_text(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "re");
	size_t length;

	if (!file)
		return -errno;
	length = fread(text, 1, size - 1, file);
	fclose(file);
	text[length] = '\0';
	return length > 0 ? 0 : -ENODATA;
}

/* From the stat of a process or a thread, see proc(5). */
static int read_stat(const char *directory, struct thread *ret_thread)
{
	char path[300], text[1024];
	const char *after_name;
	int r;

	snprintf(path, sizeof(path), "%s/stat", directory);
	r = read_text(path, text, sizeof(text));
	if (r < 0)
		return r;
	/* The name, field 2, may contain anything, but ends at the last parenthesis. */
	after_name = strrchr(text, ')');
	if (after_name &&
	    sscanf(after_name + 1,
		   " %c %*s %*s %*s %*s %*s %u %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
		   "%" SCNu64,
		   &ret_thread->state, &ret_thread->flags, &ret_thread->start_ticks) == 3)
		return 0;
	return -EBADMSG;
}

static int read_pending(const char *directory, bool *ret_killed)
{
	static const char name[] = "\nSigPnd:";
	char path[300], text[4096];
	const char *at;
	char *end;
	uint64_t mask;
	int r;

	snprintf(path, sizeof(path), "%s/status", directory);
	r = read_text(path, text, sizeof(text));
	if (r < 0)
		return r;
	at = strstr(text, name);
	if (!at)
		return -EBADMSG;
	mask = strtoull(at + strlen(name), &end, 16);
	if (end == at + strlen(name))
		return -EBADMSG;
	*ret_killed = mask >> (SIGKILL - 1) & 1;
	return 0;
}

static void judge_thread(const struct thread *thread, struct holder_report *report)
{
	if (strchr("ZX", thread->state) || (thread->flags & PF_EXITING))
		return;
	if (thread->flags & (PF_IO_WORKER | PF_SIGNALED))
		return; /* whatever it waits for */
	if (!thread->killed) {
		report->state = HOLDER_ALIVE;
		report->why = strchr("Tt", thread->state)
				      ? "it is stopped, and can be made to go on"
				      : "it was not killed";
		return;
	}
	report->may_name = true;
	if (thread->state != 'D' && report->state == HOLDER_STUCK)
		report->state = HOLDER_ENDING;
}

static void unknown(struct holder_report *report, const char *why)
{
	*report = (struct holder_report){.state = HOLDER_UNKNOWN, .may_name = true, .why = why};
}

/* One that has ended meanwhile is as good as not listed. */
static void look_at_thread(const char *directory, struct holder_report *report)
{
	struct thread thread = {0};
	int r = read_pending(directory, &thread.killed);

	/* In this order: what is pending is taken back only to set a flag. */
	if (r == 0)
		r = read_stat(directory, &thread);
	if (r == 0)
		judge_thread(&thread, report);
	else if (r != -ENOENT && r != -ESRCH)
		unknown(report, "its threads cannot be looked at");
}

static void look_at_threads(const char *proc, pid_t pid, struct holder_report *report)
{
	char path[128], directory[256];
	struct dirent *entry;
	DIR *threads;

	snprintf(path, sizeof(path), "%s/%d/task", proc, (int)pid);
	threads = opendir(path);
	if (!threads) {
		if (errno != ENOENT)
			unknown(report, "its threads cannot be listed");
		return;
	}
	while (report->state != HOLDER_ALIVE && report->state != HOLDER_UNKNOWN &&
	       (entry = readdir(threads)) != NULL) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(directory, sizeof(directory), "%s/%.20s", path, entry->d_name);
		look_at_thread(directory, report);
	}
	closedir(threads);
}

void holder_judge(const char *proc, const struct holder *holder, struct holder_report *ret_report)
{
	struct thread leader = {0};
	char path[128];
	int r;

	*ret_report = (struct holder_report){.state = HOLDER_STUCK};
	if (holder->pid <= 0) {
		unknown(ret_report, "it is not known which process it was");
		return;
	}
	snprintf(path, sizeof(path), "%s/%d", proc, (int)holder->pid);
	r = read_stat(path, &leader);
	if (r == 0 && leader.start_ticks == holder->start_ticks) {
		look_at_threads(proc, holder->pid, ret_report);
		return;
	}
	/* Where /proc hides the processes of others, a signal still tells that there is one. */
	if (r == 0 || ((r == -ENOENT || r == -ESRCH) && kill(holder->pid, 0) < 0 && errno == ESRCH))
		ret_report->state = HOLDER_GONE;
	else
		unknown(ret_report, "its process cannot be looked at");
}

bool holder_is_dead(const char *proc, pid_t pid)
{
	struct holder holder = {.pid = pid};
	struct holder_report report;
	struct thread leader = {0};
	char path[128];

	snprintf(path, sizeof(path), "%s/%d", proc, (int)pid);
	if (pid <= 0 || read_stat(path, &leader) < 0)
		return false;
	holder.start_ticks = leader.start_ticks;
	holder_judge(proc, &holder, &report);
	return report.state != HOLDER_ALIVE && report.state != HOLDER_UNKNOWN;
}

static void read_boot_id(const char *proc, char boot_id[HOLDER_BOOT_ID_MAX])
{
	char path[128], text[HOLDER_BOOT_ID_MAX];

	snprintf(path, sizeof(path), "%s/sys/kernel/random/boot_id", proc);
	boot_id[0] = '\0';
	if (read_text(path, text, sizeof(text)) == 0 && sscanf(text, "%39[0-9a-f-]", boot_id) != 1)
		boot_id[0] = '\0';
}

static uint64_t read_pid_namespace(const char *proc)
{
	char path[128], text[64];
	uint64_t number;
	ssize_t length;

	snprintf(path, sizeof(path), "%s/self/ns/pid", proc);
	length = readlink(path, text, sizeof(text) - 1);
	if (length <= 0)
		return 0;
	text[length] = '\0';
	return sscanf(text, "pid:[%" SCNu64 "]", &number) == 1 ? number : 0;
}

int holder_self(const char *proc, struct holder *ret_holder)
{
	struct thread process = {0};
	char path[128];

	snprintf(path, sizeof(path), "%s/%d", proc, (int)getpid());
	if (read_stat(path, &process) < 0)
		return -ENOSYS;
	*ret_holder = (struct holder){.pid = getpid(),
				      .start_ticks = process.start_ticks,
				      .pid_namespace = read_pid_namespace(proc)};
	read_boot_id(proc, ret_holder->boot_id);
	return 0;
}

bool holder_is_of_here(const char *proc, const struct holder *holder)
{
	struct holder self;

	return holder_self(proc, &self) == 0 && holder->boot_id[0] && holder->pid_namespace &&
	       strcmp(holder->boot_id, self.boot_id) == 0 &&
	       holder->pid_namespace == self.pid_namespace;
}

bool holder_has_lock(const char *proc, pid_t pid, dev_t device, ino_t inode)
{
	char path[128], line[256], kind[8], mode[8];
	unsigned found = 0, others = 0, at_major, at_minor;
	unsigned long at_inode;
	FILE *file;
	int owner;

	snprintf(path, sizeof(path), "%s/locks", proc);
	file = fopen(path, "re");
	if (!file)
		return false;
	/* Lines of those who wait have an arrow in front of the kind, and do not match. */
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%*d: %7s %*s %7s %d %x:%x:%lu", kind, mode, &owner, &at_major,
			   &at_minor, &at_inode) != 6 ||
		    strcmp(kind, "FLOCK") != 0 || at_inode != inode || at_major != major(device) ||
		    at_minor != minor(device))
			continue;
		if (owner == pid && strcmp(mode, "WRITE") == 0)
			found++;
		else
			others++;
	}
	fclose(file);
	return found == 1 && others == 0;
}
