/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One daemon a state directory: an flock() on STATE/lock, which also says who its owner is.
 *
 * The file is registered with every ring (struct world_real_options.fence_fd), so the kernel keeps
 * the lock after a daemon was killed until no I/O of it can land any more. A successor waits for
 * that when the owner that the file names is dead, and refuses when it lives.
 *
 * While a disk hangs the kernel may never let go. Then the successor can put a lock file of its own
 * in the place of the dead one (lock_take_over()), whose file stays, as STATE/lock.dead-PID-START,
 * until its lock is free: as long as there is such a file, I/O of that daemon may still land, and
 * who works on the state must work such that it does no harm (pool/pool_fence.h), or not at all.
 */
#include "control/holder.h"

/* False ends the waiting. */
typedef bool lock_waiting_fn(const struct holder *owner, void *arg);

/*
 * The locked descriptor, or -EBUSY: the daemon in `ret_owner` is alive; -ETIMEDOUT: its owner is
 * dead but the kernel did not let go within `timeout_ms`; -ECANCELED; or the error of opening the
 * file. `waiting` (may be NULL) is called some times a second while it waits. Also -ETIMEDOUT: a
 * takeover by another daemon did not end (a second is always waited for that).
 */
int lock_take(const char *state_directory, unsigned timeout_ms, lock_waiting_fn *waiting, void *arg,
	      struct holder *ret_owner);
/*
 * In place of a dead owner whose lock the kernel keeps. -EPERM: it cannot be proved that it never
 * acts again; `ret_why` says so. -EAGAIN: it is still on its way out, its lock is free after all,
 * or another daemon is taking over. The locked descriptor of the new lock file.
 */
int lock_take_over(const char *state_directory, const char **ret_why);
/* Whether the state's lock is this file still, and not one that was put in its place. */
bool lock_is_named(int fd, const char *state_directory);
/* Forgets the owner and closes the descriptor. */
void lock_release(int fd);

/* Daemons whose I/O may still land. */
#define LOCK_DEAD_MAX 16

struct lock_dead {
	unsigned count;
	struct lock_dead_one {
		int fd;
		struct holder holder;
		char path[4300];
	} all[LOCK_DEAD_MAX];
};

/* With the lock in `fd` held. -E2BIG: there are too many. */
int lock_dead_open(const char *state_directory, int fd, struct lock_dead *dead);
/* Forgets those that have ended, and their files. How many are left. */
unsigned lock_dead_poll(struct lock_dead *dead);
/* Whether a thread of any of them may be in a call that changes names; of one of another namespace
 * of processes that cannot be known. */
bool lock_dead_may_name(const struct lock_dead *dead);
/* Without the lock, and changes nothing: how many there are, and which process one of them was. 0
 * also when the directory cannot be read. */
unsigned lock_dead_count(const char *state_directory, pid_t *ret_pid);
/* Files stay. */
void lock_dead_close(struct lock_dead *dead);
