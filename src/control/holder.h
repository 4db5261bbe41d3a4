/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Whether the process that holds a lock can ever act again. One that was killed runs no instruction
 * of its own any more; what is left of it are system calls and I/O that the kernel has begun.
 * All is read from /proc, and nothing is believed that cannot be verified.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define HOLDER_BOOT_ID_MAX 40

/* Who it is, such that no other process, no other boot and no other machine can be meant. */
struct holder {
	pid_t pid;
	uint64_t start_ticks;             /* field 22 of /proc/PID/stat: tells a reused pid */
	char boot_id[HOLDER_BOOT_ID_MAX]; /* "" = not known */
	uint64_t pid_namespace;           /* 0 = not known */
};

enum holder_state {
	HOLDER_ALIVE,   /* at least one thread runs, or could be made to: also a stopped one */
	HOLDER_ENDING,  /* it was killed; some of its threads are on their way out */
	HOLDER_STUCK,   /* it was killed; what is left sleeps in the kernel */
	HOLDER_GONE,    /* there is no such process; I/O of it may be left */
	HOLDER_UNKNOWN, /* it cannot be looked at */
};

struct holder_report {
	enum holder_state state;
	/* A thread of it may be in a call that makes, renames or removes a file. */
	bool may_name;
	const char *why; /* of HOLDER_ALIVE and HOLDER_UNKNOWN, for people */
};

/* This process. -ENOSYS without /proc. */
int holder_self(const char *proc, struct holder *ret_holder);
/* `proc` is "/proc", but for tests. */
void holder_judge(const char *proc, const struct holder *holder, struct holder_report *ret_report);
/* Whether it is of this boot and of our namespace of processes, so that its pid means the same to
 * us. */
bool holder_is_of_here(const char *proc, const struct holder *holder);
/* Whether the only flock() on the file is an exclusive one, taken by that process. */
bool holder_has_lock(const char *proc, pid_t pid, dev_t device, ino_t inode);
/* Whether nothing listens any more behind a socket that a process of this id has bound. */
bool holder_is_dead(const char *proc, pid_t pid);
