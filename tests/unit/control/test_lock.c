/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/lock.h"

static char directory[] = "/tmp/sarsen-test-lock-XXXXXX";

/* In front of the n-th sync or rename of a takeover; 0 = of none. */
static unsigned step_left;
static void (*at_step)(void);

static void step(void)
{
	if (step_left > 0 && --step_left == 0)
		at_step();
}

int fsync(int fd)
{
	step();
	return (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to)
{
	step();
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

static int make_directory(void **state)
{
	/* Those that keep a lock are children of owners that are gone. */
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return -1;
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/lock", directory);
	unlink(path);
	snprintf(path, sizeof(path), "%s/lock.guard", directory);
	unlink(path);
	snprintf(path, sizeof(path), "%s/lock.new", directory);
	unlink(path);
	return rmdir(directory);
}

static bool count(const struct holder *owner, void *arg)
{
	++*(int *)arg;
	return true;
}

static bool give_up(const struct holder *owner, void *arg)
{
	return --*(int *)arg > 0;
}

/* A child that holds the lock until it is killed. Returns when it holds it. */
static pid_t start_owner(void)
{
	int ready[2];
	char byte;
	pid_t child;

	assert_int_equal(pipe(ready), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct holder owner;

		if (lock_take(directory, 0, NULL, NULL, &owner) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return child;
}

static void takes_and_releases(void **state)
{
	struct holder owner;
	int fd = lock_take(directory, 0, NULL, NULL, &owner);

	assert_true(fd >= 0);
	/* The same process is a second daemon just as well. */
	assert_int_equal(lock_take(directory, 0, NULL, NULL, &owner), -EBUSY);
	assert_int_equal(owner.pid, getpid());
	lock_release(fd);
	fd = lock_take(directory, 0, NULL, NULL, &owner);
	assert_true(fd >= 0);
	lock_release(fd);
}

static void refuses_beside_a_living_owner(void **state)
{
	pid_t child = start_owner();
	struct holder owner;
	int waits = 0, fd;

	assert_int_equal(lock_take(directory, 5000, count, &waits, &owner), -EBUSY);
	assert_int_equal(owner.pid, child);
	assert_int_equal(waits, 0);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	fd = lock_take(directory, 5000, NULL, NULL, &owner);
	assert_true(fd >= 0);
	lock_release(fd);
}

/* A killed owner whose lock lives on in the kernel: played by a descriptor that a third one shares.
 */
static void waits_for_a_dead_owner(void **state)
{
	char path[128];
	struct holder owner;
	int waits = 0, fd;
	pid_t child;

	snprintf(path, sizeof(path), "%s/lock", directory);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	/* A dead pid, and a living one with another start time (the pid was used again). */
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, "999999999 5\n", 12, 0), 12);
	assert_int_equal(lock_take(directory, 40, count, &waits, &owner), -ETIMEDOUT);
	assert_in_range(waits, 1, 3);
	assert_int_equal(owner.pid, 999999999);
	waits = 3;
	assert_int_equal(lock_take(directory, 60000, give_up, &waits, &owner), -ECANCELED);
	assert_int_equal(waits, 0);
	assert_int_equal(pwrite(fd, "1 99999999999\n", 14, 0), 14);
	assert_int_equal(lock_take(directory, 0, NULL, NULL, &owner), -ETIMEDOUT);

	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		usleep(100000);
		_exit(0); /* the last holder of the descriptor */
	}
	close(fd);
	fd = lock_take(directory, 10000, count, &waits, &owner);
	assert_true(fd >= 0);
	assert_true(waits > 0);
	lock_release(fd);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static void a_zombie_does_not_own(void **state)
{
	pid_t child = start_owner();
	struct holder owner;
	int fd;

	assert_int_equal(kill(child, SIGKILL), 0);
	/* Not waited for: it stays a zombie. */
	fd = lock_take(directory, 5000, NULL, NULL, &owner);
	assert_true(fd >= 0);
	lock_release(fd);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static void survives_rubbish_in_the_file(void **state)
{
	char path[128];
	struct holder owner;
	int fd;

	snprintf(path, sizeof(path), "%s/lock", directory);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, "-7 rubbish", 10, 0), 10);
	assert_int_equal(lock_take(directory, 0, NULL, NULL, &owner), -ETIMEDOUT);
	close(fd);
	fd = lock_take(directory, 0, NULL, NULL, &owner);
	assert_true(fd >= 0);
	lock_release(fd);
}

static void names_a_missing_directory(void **state)
{
	struct holder owner;
	char path[5000];

	assert_int_equal(lock_take("/nonexistent", 0, NULL, NULL, &owner), -ENOENT);
	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(lock_take(path, 0, NULL, NULL, &owner), -ENAMETOOLONG);
}

/* The lock of an owner that is gone, kept by a process that does nothing: as the kernel keeps it
 * while I/O does not end. Ends when the pipe is closed. */
struct kept {
	pid_t owner, keeper;
	int release;
};

static struct kept start_kept(void)
{
	int ready[2], release[2];
	struct kept kept;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(release), 0);
	kept.owner = fork();
	assert_true(kept.owner >= 0);
	if (kept.owner == 0) {
		struct holder owner;
		char byte;
		pid_t keeper;

		close(release[1]);
		if (lock_take(directory, 0, NULL, NULL, &owner) < 0)
			_exit(1);
		keeper = fork();
		if (keeper == 0)
			_exit((int)read(release[0], &byte, 1));
		if (write(ready[1], &keeper, sizeof(keeper)) != sizeof(keeper))
			_exit(1);
		for (;;)
			pause();
	}
	close(release[0]);
	close(ready[1]);
	assert_int_equal(read(ready[0], &kept.keeper, sizeof(kept.keeper)), sizeof(kept.keeper));
	close(ready[0]);
	kept.release = release[1];
	return kept;
}

static void kill_owner(const struct kept *kept)
{
	assert_int_equal(kill(kept->owner, SIGKILL), 0);
	assert_int_equal(waitpid(kept->owner, NULL, 0), kept->owner);
}

static void release_kept(const struct kept *kept)
{
	close(kept->release);
	assert_int_equal(waitpid(kept->keeper, NULL, 0), kept->keeper);
}

static unsigned count_dead(struct lock_dead *dead)
{
	unsigned left = 1;

	for (unsigned i = 0; left > 0 && i < 500; i++) {
		left = lock_dead_poll(dead);
		usleep(10000);
	}
	return left;
}

static bool kernel_tells(void)
{
	struct holder owner;
	struct stat stat;
	int fd = lock_take(directory, 0, NULL, NULL, &owner);
	bool tells;

	assert_true(fd >= 0 && fstat(fd, &stat) == 0);
	tells = holder_has_lock("/proc", getpid(), stat.st_dev, stat.st_ino);
	lock_release(fd);
	return tells;
}

static void takes_over_from_the_dead(void **state)
{
	struct lock_dead *dead;
	struct holder owner;
	struct kept kept;
	const char *why;
	pid_t waiter;
	int fd, status;

	if (!kernel_tells()) {
		print_message("the file system of /tmp hides who holds a lock\n");
		skip();
	}
	kept = start_kept();
	dead = calloc(1, sizeof(*dead));
	assert_non_null(dead);
	kill_owner(&kept);
	assert_int_equal(lock_take(directory, 0, NULL, NULL, &owner), -ETIMEDOUT);
	/* Who waits for the old file must not take it for the new one. */
	waiter = fork();
	assert_true(waiter >= 0);
	if (waiter == 0) {
		close(kept.release);
		_exit(-lock_take(directory, 60000, NULL, NULL, &owner));
	}
	fd = lock_take_over(directory, &why);
	assert_true(fd >= 0);
	assert_int_equal(lock_take(directory, 0, NULL, NULL, &owner), -EBUSY);
	assert_int_equal(owner.pid, getpid());
	assert_int_equal(lock_dead_open(directory, fd, dead), 0);
	assert_int_equal(lock_dead_poll(dead), 1);
	assert_int_equal(dead->all[0].holder.pid, kept.owner);
	assert_false(lock_dead_may_name(dead));
	lock_dead_close(dead);
	/* The next daemon, after a clean stop, finds it too. */
	lock_release(fd);
	fd = lock_take(directory, 5000, NULL, NULL, &owner);
	assert_true(fd >= 0);
	assert_int_equal(lock_dead_open(directory, fd, dead), 0);
	assert_int_equal(lock_dead_poll(dead), 1);
	release_kept(&kept);
	assert_int_equal(count_dead(dead), 0);
	assert_int_equal(access(dead->all[0].path, F_OK), -1);
	assert_int_equal(waitpid(waiter, &status, 0), waiter);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EBUSY);
	lock_dead_close(dead);
	lock_release(fd);
	free(dead);
}

static struct kept racing;
static atomic_int waiter_result;
#define WAITS INT_MIN

static void *take_it(void *arg)
{
	struct holder owner;

	atomic_store(&waiter_result, lock_take(directory, 60000, NULL, NULL, &owner));
	return NULL;
}

static void end_racing(void)
{
	release_kept(&racing);
	/* It polls: it has the lock by then, and maybe more. */
	for (unsigned i = 0; i < 20 && atomic_load(&waiter_result) == WAITS; i++)
		usleep(10000);
}

/* The dead one's lock becomes free at step n of a takeover, while another daemon waits for it. */
static void race(unsigned n)
{
	struct lock_dead *dead = calloc(1, sizeof(*dead));
	int over, waited, fd;
	const char *why;
	pthread_t thread;

	assert_non_null(dead);
	racing = start_kept();
	kill_owner(&racing);
	atomic_store(&waiter_result, WAITS);
	assert_int_equal(pthread_create(&thread, NULL, take_it, NULL), 0);
	at_step = end_racing;
	step_left = n;
	over = lock_take_over(directory, &why);
	assert_int_equal(step_left, 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	waited = atomic_load(&waiter_result);
	assert_true((over >= 0) != (waited >= 0));
	assert_true(over >= 0 || over == -EAGAIN);
	assert_true(waited >= 0 || waited == -EBUSY);
	fd = over >= 0 ? over : waited;
	assert_int_equal(lock_dead_open(directory, fd, dead), 0);
	assert_int_equal(count_dead(dead), 0);
	lock_dead_close(dead);
	lock_release(fd);
	free(dead);
}

static void one_of_two_gets_the_lock(void **state)
{
	if (!kernel_tells()) {
		print_message("the file system of /tmp hides who holds a lock\n");
		skip();
	}
	for (unsigned n = 1; n <= 4; n++) /* sync, sync, rename, sync */
		race(n);
}

/* A takeover that hangs does not keep those out for ever who can give up or look again. */
static void the_guard_is_waited_for(void **state)
{
	char path[128];
	struct holder owner;
	int waits = 0, guard, fd;

	snprintf(path, sizeof(path), "%s/lock.guard", directory);
	guard = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(guard >= 0);
	assert_int_equal(flock(guard, LOCK_EX), 0);
	assert_int_equal(lock_take(directory, 0, count, &waits, &owner), -ETIMEDOUT);
	assert_true(waits > 0);
	waits = 2;
	assert_int_equal(lock_take(directory, 60000, give_up, &waits, &owner), -ECANCELED);
	close(guard);
	fd = lock_take(directory, 0, NULL, NULL, &owner);
	assert_true(fd >= 0);
	lock_release(fd);
}

static void expect_refused(void)
{
	const char *why = NULL;

	assert_int_equal(lock_take_over(directory, &why), -EPERM);
	assert_non_null(why);
}

static void write_lock(int fd, const char *text)
{
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, text, strlen(text), 0), (ssize_t)strlen(text));
}

static void takes_nothing_from_the_living(void **state)
{
	pid_t child = start_owner();
	const char *why;
	char path[128], text[200];
	struct holder self;
	int fd, shared;

	expect_refused();
	assert_int_equal(kill(child, SIGSTOP), 0);
	assert_int_equal(waitpid(child, NULL, WUNTRACED), child);
	expect_refused();
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(lock_take_over(directory, &why), -EAGAIN); /* it is free */

	/* A check without changes shares the lock; the file names one that is gone. */
	snprintf(path, sizeof(path), "%s/lock", directory);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(holder_self("/proc", &self), 0);
	snprintf(text, sizeof(text), "999999999 5 %s %llu\n", self.boot_id,
		 (unsigned long long)self.pid_namespace);
	write_lock(fd, text);
	shared = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(flock(shared, LOCK_SH), 0);
	expect_refused();
	close(shared);
	/* Another holder than the file says; another machine; an older version; rubbish. */
	assert_int_equal(flock(fd, LOCK_EX), 0);
	expect_refused();
	write_lock(fd, "999999999 5 00000000-0000-0000-0000-000000000000 1\n");
	expect_refused();
	write_lock(fd, "999999999 5\n");
	expect_refused();
	write_lock(fd, "");
	expect_refused();
	close(fd);
}

/* The second name was given, but not yet the new file. */
static void goes_on_after_half_a_takeover(void **state)
{
	struct lock_dead *dead = calloc(1, sizeof(*dead));
	char path[128], second[128];
	struct holder owner;
	int fd = lock_take(directory, 0, NULL, NULL, &owner);

	assert_true(fd >= 0);
	snprintf(path, sizeof(path), "%s/lock", directory);
	snprintf(second, sizeof(second), "%s/lock.dead-5-6", directory);
	assert_int_equal(link(path, second), 0);
	assert_int_equal(lock_dead_open(directory, fd, dead), 0);
	assert_int_equal(dead->count, 0);
	assert_int_equal(access(second, F_OK), -1);
	assert_int_equal(access(path, F_OK), 0);
	lock_release(fd);
	free(dead);
}

/* The name for what is left of the dead one means another file: it must not lose its only one. */
static void keeps_the_file_of_the_dead(void **state)
{
	char path[128], second[128];
	struct holder owner;
	struct kept kept;
	const char *why;
	int fd;

	if (!kernel_tells()) {
		print_message("the file system of /tmp hides who holds a lock\n");
		skip();
	}
	kept = start_kept();
	kill_owner(&kept);
	assert_int_equal(lock_take(directory, 0, NULL, NULL, &owner), -ETIMEDOUT);
	snprintf(path, sizeof(path), "%s/lock", directory);
	snprintf(second, sizeof(second), "%s/lock.dead-%d-%llu", directory, (int)owner.pid,
		 (unsigned long long)owner.start_ticks);
	fd = open(second, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(lock_take_over(directory, &why), -EAGAIN);
	assert_int_equal(lock_take(directory, 0, NULL, NULL, &owner), -ETIMEDOUT);
	/* The link was made, but not the rename. */
	assert_int_equal(unlink(second), 0);
	assert_int_equal(link(path, second), 0);
	fd = lock_take_over(directory, &why);
	assert_true(fd >= 0);
	assert_int_equal(access(second, F_OK), 0);
	lock_release(fd);
	release_kept(&kept);
	assert_int_equal(unlink(second), 0);
}

/* A file of a dead one, whose lock is kept: whether it may change names still. */
static bool may_name(const char *text)
{
	struct lock_dead *dead = calloc(1, sizeof(*dead));
	char path[128];
	struct holder owner;
	int fd = lock_take(directory, 0, NULL, NULL, &owner), kept;
	pid_t pid;
	bool may;

	assert_true(fd >= 0);
	assert_non_null(dead);
	snprintf(path, sizeof(path), "%s/lock.dead-999999999-5", directory);
	kept = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(kept >= 0);
	assert_int_equal(flock(kept, LOCK_EX), 0);
	write_lock(kept, text);
	assert_int_equal(lock_dead_open(directory, fd, dead), 0);
	assert_int_equal(lock_dead_poll(dead), 1);
	assert_int_equal(dead->all[0].holder.pid, 999999999);
	may = lock_dead_may_name(dead);
	assert_int_equal(lock_dead_count(directory, &pid), 1);
	assert_int_equal(pid, 999999999);
	close(kept);
	assert_int_equal(lock_dead_count(directory, &pid), 0);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(lock_dead_poll(dead), 0);
	assert_int_equal(access(path, F_OK), -1);
	lock_dead_close(dead);
	lock_release(fd);
	free(dead);
	return may;
}

/* A pid of another namespace says nothing here: not that there is no such process, either. */
static void judges_only_the_dead_of_here(void **state)
{
	struct holder self;
	char text[200];

	assert_int_equal(holder_self("/proc", &self), 0);
	snprintf(text, sizeof(text), "999999999 5 %s %llu\n", self.boot_id,
		 (unsigned long long)self.pid_namespace);
	assert_false(may_name(text));
	snprintf(text, sizeof(text), "999999999 5 %s %llu\n", self.boot_id,
		 (unsigned long long)self.pid_namespace + 1);
	assert_true(may_name(text));
	assert_true(may_name("999999999 5\n"));
	assert_true(may_name("rubbish"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_and_releases),
		cmocka_unit_test(refuses_beside_a_living_owner),
		cmocka_unit_test(waits_for_a_dead_owner),
		cmocka_unit_test(a_zombie_does_not_own),
		cmocka_unit_test(survives_rubbish_in_the_file),
		cmocka_unit_test(names_a_missing_directory),
		cmocka_unit_test(takes_over_from_the_dead),
		cmocka_unit_test(one_of_two_gets_the_lock),
		cmocka_unit_test(the_guard_is_waited_for),
		cmocka_unit_test(takes_nothing_from_the_living),
		cmocka_unit_test(goes_on_after_half_a_takeover),
		cmocka_unit_test(keeps_the_file_of_the_dead),
		cmocka_unit_test(judges_only_the_dead_of_here),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
