/* SPDX-License-Identifier: Apache-2.0 */
/* Against a /proc of our own making, and against real processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/macros.h"
#include "control/holder.h"

#define PID   999999999 /* above all that there can be */
#define START 4711

static char proc[] = "/tmp/sarsen-test-holder-XXXXXX";

static void put(const char *name, const char *text)
{
	char path[200];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", proc, name);
	for (char *at = path + strlen(proc) + 1; (at = strchr(at, '/')) != NULL; at++) {
		*at = '\0';
		assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
		*at = '/';
	}
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static int remove_all(void)
{
	char command[100];

	snprintf(command, sizeof(command), "rm -rf %s", proc);
	return system(command);
}

static int make_proc(void **state)
{
	return mkdtemp(proc) ? 0 : -1;
}

static int empty_proc(void **state)
{
	return remove_all() == 0 && mkdir(proc, 0700) == 0 ? 0 : -1;
}

static int remove_proc(void **state)
{
	return remove_all();
}

struct thread {
	char state;
	unsigned flags;
	bool killed;
};

/* Names of programs may look like anything. */
static void put_thread(const char *directory, const struct thread *thread)
{
	char name[100], text[300];

	snprintf(name, sizeof(name), "%s/stat", directory);
	snprintf(text, sizeof(text),
		 "1 (a) R 4 (b) %c 1 1 1 0 -1 %u 0 0 0 0 0 0 0 0 20 0 3 0 %d 0 0\n", thread->state,
		 thread->flags, START);
	put(name, text);
	snprintf(name, sizeof(name), "%s/status", directory);
	snprintf(text, sizeof(text), "Name:\tSigPnd:\nSigQ:\t1/2\nSigPnd:\t%016x\nShdPnd:\t%016x\n",
		 thread->killed ? 0x100 : 0x4000, 0x100);
	put(name, text);
}

static void put_process(const struct thread *threads, unsigned count)
{
	char name[64];

	snprintf(name, sizeof(name), "%d", PID);
	put_thread(name, &threads[0]);
	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%d/task/%d", PID, PID + (int)i);
		put_thread(name, &threads[i]);
	}
}

static struct holder_report judge(uint64_t start_ticks)
{
	const struct holder holder = {.pid = PID, .start_ticks = start_ticks};
	struct holder_report report;

	holder_judge(proc, &holder, &report);
	return report;
}

#define EXITING   0x4u
#define IO_WORKER 0x10u
#define SIGNALED  0x400u

static void judges_by_all_threads(void **state)
{
	static const struct {
		struct thread threads[3];
		enum holder_state expected;
		bool may_name;
	} cases[] = {
		/* as one looks that was killed while a disk hangs */
		{{{'Z', EXITING | SIGNALED, false}, {'D', SIGNALED, false}, {'D', IO_WORKER, true}},
		 HOLDER_STUCK,
		 false},
		{{{'Z', EXITING, false}, {'D', 0, true}, {'D', IO_WORKER, false}},
		 HOLDER_STUCK,
		 true},
		{{{'S', EXITING, false}, {'S', SIGNALED, false}, {'X', 0, false}},
		 HOLDER_STUCK,
		 false},
		/* on its way */
		{{{'Z', EXITING, false}, {'R', 0, true}, {'D', 0, true}}, HOLDER_ENDING, true},
		{{{'D', 0, true}, {'S', 0, true}, {'D', 0, true}}, HOLDER_ENDING, true},
		/* alive, though its main thread has ended, or other threads hang */
		{{{'Z', EXITING, false}, {'S', 0, false}, {'D', 0, true}}, HOLDER_ALIVE, false},
		{{{'S', 0, false}, {'D', 0, false}, {'D', IO_WORKER, false}}, HOLDER_ALIVE, false},
		{{{'D', 0, false}, {'D', 0, false}, {'D', 0, false}}, HOLDER_ALIVE, false},
		/* stopped, traced */
		{{{'T', 0, false}, {'T', 0, false}, {'T', 0, false}}, HOLDER_ALIVE, false},
		{{{'t', 0, false}, {'D', 0, true}, {'D', 0, true}}, HOLDER_ALIVE, false},
		{{{'T', 0, true}, {'D', 0, true}, {'D', 0, true}}, HOLDER_ENDING, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct holder_report report;

		assert_int_equal(empty_proc(NULL), 0);
		put_process(cases[i].threads, 3);
		report = judge(START);
		assert_int_equal(report.state, cases[i].expected);
		if (report.state == HOLDER_ALIVE)
			assert_non_null(report.why);
		else
			assert_int_equal(report.may_name, cases[i].may_name);
		assert_int_equal(holder_is_dead(proc, PID), cases[i].expected != HOLDER_ALIVE);
	}
}

static void tells_a_reused_pid(void **state)
{
	const struct thread thread = {'S', 0, false};

	put_process(&thread, 1);
	assert_int_equal(judge(START).state, HOLDER_ALIVE);
	assert_int_equal(judge(START - 1).state, HOLDER_GONE);
}

static void does_not_guess(void **state)
{
	const struct thread thread = {'D', 0, true};
	struct holder holder = {.pid = getpid(), .start_ticks = 1};
	struct holder_report report;
	char name[64];

	/* Nothing of it is there, and nobody has the number. */
	assert_int_equal(judge(START).state, HOLDER_GONE);
	assert_false(holder_is_dead(proc, PID));
	/* Hidden: somebody has the number. */
	holder_judge(proc, &holder, &report);
	assert_int_equal(report.state, HOLDER_UNKNOWN);
	assert_true(report.may_name);
	holder.pid = 0;
	holder_judge(proc, &holder, &report);
	assert_int_equal(report.state, HOLDER_UNKNOWN);
	/* What cannot be understood. */
	put_process(&thread, 1);
	snprintf(name, sizeof(name), "%d/task/%d/status", PID, PID);
	put(name, "Name:\tx\n");
	assert_int_equal(judge(START).state, HOLDER_UNKNOWN);
	put(name, "Name:\tx\nSigPnd:\t\n");
	assert_int_equal(judge(START).state, HOLDER_UNKNOWN);
	snprintf(name, sizeof(name), "%d/task/%d/stat", PID, PID);
	put(name, "rubbish");
	assert_int_equal(judge(START).state, HOLDER_UNKNOWN);
	snprintf(name, sizeof(name), "%d/stat", PID);
	put(name, "rubbish");
	assert_int_equal(judge(START).state, HOLDER_UNKNOWN);
}

static void knows_boot_and_namespace(void **state)
{
	struct holder self, other;

	assert_int_equal(holder_self("/proc", &self), 0);
	assert_int_equal(self.pid, getpid());
	assert_true(holder_is_of_here("/proc", &self));
	other = self;
	other.boot_id[0] = other.boot_id[0] == '0' ? '1' : '0';
	assert_false(holder_is_of_here("/proc", &other));
	other = self;
	other.pid_namespace++;
	assert_false(holder_is_of_here("/proc", &other));
	other = self;
	other.boot_id[0] = '\0';
	assert_false(holder_is_of_here("/proc", &other));
	assert_int_equal(holder_self(proc, &other), -ENOSYS);
}

static void knows_who_holds_a_lock(void **state)
{
	dev_t device = makedev(0xfe, 1);

	assert_false(holder_has_lock(proc, 77, device, 5)); /* no list */
	put("locks", "1: POSIX  ADVISORY  WRITE 77 fe:01:5 0 EOF\n"
		     "2: FLOCK  ADVISORY  WRITE 77 fe:01:6 0 EOF\n"
		     "3: FLOCK  ADVISORY  WRITE 77 fe:02:5 0 EOF\n");
	assert_false(holder_has_lock(proc, 77, device, 5));
	put("locks", "1: FLOCK  ADVISORY  WRITE 77 fe:01:5 0 EOF\n"
		     "1: -> FLOCK  ADVISORY  WRITE 78 fe:01:5 0 EOF\n");
	assert_true(holder_has_lock(proc, 77, device, 5));
	assert_false(holder_has_lock(proc, 78, device, 5));
	/* A check that looks at the files shares the lock. */
	put("locks", "1: FLOCK  ADVISORY  READ 77 fe:01:5 0 EOF\n");
	assert_false(holder_has_lock(proc, 77, device, 5));
	put("locks", "1: FLOCK  ADVISORY  WRITE 77 fe:01:5 0 EOF\n"
		     "2: FLOCK  ADVISORY  READ 78 fe:01:5 0 EOF\n");
	assert_false(holder_has_lock(proc, 77, device, 5));
}

static void judges_real_processes(void **state)
{
	struct holder holder;
	struct holder_report report;
	int ready[2], status;
	pid_t child;

	assert_int_equal(pipe(ready), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (holder_self("/proc", &holder) < 0 ||
		    write(ready[1], &holder, sizeof(holder)) != sizeof(holder))
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &holder, sizeof(holder)), sizeof(holder));
	close(ready[0]);
	close(ready[1]);
	holder_judge("/proc", &holder, &report);
	assert_int_equal(report.state, HOLDER_ALIVE);
	assert_int_equal(kill(child, SIGSTOP), 0);
	assert_int_equal(waitpid(child, &status, WUNTRACED), child);
	holder_judge("/proc", &holder, &report);
	assert_int_equal(report.state, HOLDER_ALIVE);
	assert_non_null(strstr(report.why, "stopped"));
	assert_int_equal(kill(child, SIGKILL), 0);
	/* On its way it may look alive for an instant. Not waited for, it stays a zombie. */
	for (unsigned i = 0; report.state != HOLDER_STUCK && i < 10000; i++) {
		usleep(1000);
		holder_judge("/proc", &holder, &report);
	}
	assert_int_equal(report.state, HOLDER_STUCK);
	assert_false(report.may_name);
	assert_int_equal(waitpid(child, &status, 0), child);
	holder_judge("/proc", &holder, &report);
	assert_int_equal(report.state, HOLDER_GONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(judges_by_all_threads),
		cmocka_unit_test_setup(tells_a_reused_pid, empty_proc),
		cmocka_unit_test_setup(does_not_guess, empty_proc),
		cmocka_unit_test_setup(knows_boot_and_namespace, empty_proc),
		cmocka_unit_test_setup(knows_who_holds_a_lock, empty_proc),
		cmocka_unit_test(judges_real_processes),
	};

	return cmocka_run_group_tests(tests, make_proc, remove_proc);
}
