/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One daemon a state directory: an flock() on STATE/lock, which also holds the owner's pid and
 * start time.
 *
 * The file is registered with every ring (struct world_real_options.fence_fd), so the kernel keeps
 * the lock after a daemon was killed until no I/O of it can land any more. A successor waits for
 * that when the owner that the file names is dead, and refuses when it lives.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct lock_owner {
	pid_t pid;
	uint64_t start_ticks; /* field 22 of /proc/PID/stat: tells a reused pid */
};

/* False ends the waiting. */
typedef bool lock_waiting_fn(const struct lock_owner *owner, void *arg);

/*
 * The locked descriptor, or -EBUSY: the daemon in `ret_owner` is alive; -ETIMEDOUT: its owner is
 * dead but the kernel did not let go within `timeout_ms`; -ECANCELED; or the error of opening the
 * file. `waiting` (may be NULL) is called some times a second while it waits.
 */
int lock_take(const char *state_directory, unsigned timeout_ms, lock_waiting_fn *waiting, void *arg,
	      struct lock_owner *ret_owner);
/* Forgets the owner and closes the descriptor. */
void lock_release(int fd);
