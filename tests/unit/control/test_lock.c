/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/lock.h"

static char directory[] = "/tmp/sarsen-test-lock-XXXXXX";

static int make_directory(void **state)
{
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/lock", directory);
	unlink(path);
	return rmdir(directory);
}

static bool count(const struct lock_owner *owner, void *arg)
{
	++*(int *)arg;
	return true;
}

static bool give_up(const struct lock_owner *owner, void *arg)
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
		struct lock_owner owner;

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
	struct lock_owner owner;
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
	struct lock_owner owner;
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
	struct lock_owner owner;
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
	struct lock_owner owner;
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
	struct lock_owner owner;
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
	struct lock_owner owner;
	char path[5000];

	assert_int_equal(lock_take("/nonexistent", 0, NULL, NULL, &owner), -ENOENT);
	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(lock_take(path, 0, NULL, NULL, &owner), -ENAMETOOLONG);
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
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
