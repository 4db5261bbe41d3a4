/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "real_fixture.h"

static void writes_and_reads_back(void **state)
{
	struct real_fixture *f = *state;
	struct world_file *file;
	char buffer[16] = {0};

	assert_int_equal(real_open(f, "a", WORLD_FILE_CREATE, &file), 0);
	assert_int_equal(real_write(f, file, "hello", 5, 3), 5);
	assert_int_equal(real_read(f, file, buffer, sizeof(buffer), 0), 8);
	assert_memory_equal(buffer, "\0\0\0hello", 8);
	assert_int_equal(real_read(f, file, buffer, sizeof(buffer), 8), 0);
	assert_int_equal(real_read(f, file, buffer, sizeof(buffer), 1000), 0);
	assert_int_equal(real_close(f, file), 0);
}

static void transfers_vectors(void **state)
{
	struct real_fixture *f = *state;
	struct iovec out[] = {{"one", 3}, {"", 0}, {"two", 3}, {"three", 5}};
	char a[4], b[20];
	struct iovec in[] = {{a, sizeof(a)}, {b, sizeof(b)}};
	struct world_file *file;
	struct waited_op op;

	assert_int_equal(real_open(f, "a", WORLD_FILE_CREATE, &file), 0);
	f->ops->file_write(f->port, file, out, 4, 0, waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), 11);
	f->ops->file_read(f->port, file, in, 2, 0, waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), 11);
	assert_memory_equal(a, "onet", 4);
	assert_memory_equal(b, "wothree", 7);
	assert_int_equal(real_close(f, file), 0);
}

static void refuses_bad_vectors_and_offsets(void **state)
{
	struct real_fixture *f = *state;
	struct iovec *iov = calloc(IOV_MAX + 1, sizeof(*iov));
	const struct {
		int count;
		uint64_t offset;
		int64_t result;
	} cases[] = {
		{IOV_MAX, 0, IOV_MAX},
		{IOV_MAX + 1, 0, -EINVAL},
		{0, 0, -EINVAL},
		{-1, 0, -EINVAL},
		{1, UINT64_MAX, -EINVAL},
		{1, INT64_MAX, -EINVAL},
	};
	struct world_file *file;
	struct waited_op op;

	for (int i = 0; i <= IOV_MAX; i++)
		iov[i] = (struct iovec){"x", 1};
	assert_int_equal(real_open(f, "a", WORLD_FILE_CREATE, &file), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		f->ops->file_write(f->port, file, iov, cases[i].count, cases[i].offset,
				   waited_init(&op));
		assert_int_equal(op.done_count, 0);
		assert_int_equal(waited_finish(f->port, f->world, &op), cases[i].result);
	}
	iov[0].iov_len = iov[1].iov_len = SIZE_MAX / 2 + 1;
	f->ops->file_write(f->port, file, iov, 2, 0, waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), -EINVAL);
	assert_int_equal(real_close(f, file), 0);
	free(iov);
}

static void reads_to_the_end_of_a_direct_file(void **state)
{
	struct real_fixture *f = *state;
	struct world_file *plain, *direct;
	char *buffer = aligned_alloc(4096, 16384);
	struct iovec iov[] = {{buffer, 4096}, {buffer + 4096, 8192}, {buffer + 12288, 4096}};
	struct waited_op op;

	memset(buffer, 'x', 16384);
	assert_int_equal(real_open(f, "a", WORLD_FILE_CREATE, &plain), 0);
	assert_int_equal(real_write(f, plain, buffer, 10000, 0), 10000);
	assert_int_equal(real_open(f, "a", WORLD_FILE_DIRECT, &direct), 0);
	memset(buffer, 0, 16384);
	assert_int_equal(real_read(f, direct, buffer, 16384, 0), 10000);
	assert_true(buffer[9999] == 'x');
	f->ops->file_read(f->port, direct, iov, 3, 4096, waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), 10000 - 4096);
	assert_int_equal(real_read(f, direct, buffer, 16384, 12288), 0);
	assert_int_equal(real_write(f, direct, buffer, 4096, 8192), 4096);
	assert_int_equal(real_read(f, direct, buffer, 100, 0), -EINVAL);
	assert_int_equal(real_close(f, plain), 0);
	assert_int_equal(real_close(f, direct), 0);
	free(buffer);
}

/* RLIMIT_FSIZE makes the kernel write only the part below the limit, and then fail. */
static void continues_a_short_write_until_its_error(void **state)
{
	struct real_fixture *f = *state;
	struct rlimit old, low;
	struct world_file *file;
	char buffer[8192] = {0};

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	low = (struct rlimit){.rlim_cur = 4096, .rlim_max = old.rlim_max};
	assert_int_equal(real_open(f, "a", WORLD_FILE_CREATE, &file), 0);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	assert_int_equal(real_write(f, file, buffer, sizeof(buffer), 0), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(real_read(f, file, buffer, sizeof(buffer), 0), 4096);
	assert_int_equal(real_close(f, file), 0);
}

static void reports_write_to_a_read_only_file(void **state)
{
	struct real_fixture *f = *state;
	struct world_file *file;

	assert_int_equal(real_open(f, "a", WORLD_FILE_CREATE, &file), 0);
	assert_int_equal(real_close(f, file), 0);
	assert_int_equal(real_open(f, "a", WORLD_FILE_READ_ONLY, &file), 0);
	assert_int_equal(real_write(f, file, "x", 1, 0), -EBADF);
	assert_int_equal(real_close(f, file), 0);
}

static void syncs(void **state)
{
	struct real_fixture *f = *state;
	struct world_file *file;
	struct waited_op op;

	assert_int_equal(real_open(f, "a", WORLD_FILE_CREATE, &file), 0);
	assert_int_equal(real_write(f, file, "x", 1, 0), 1);
	f->ops->file_sync(f->port, file, waited_init(&op));
	assert_int_equal(waited_finish(f->port, f->world, &op), 0);
	assert_int_equal(real_close(f, file), 0);
}

/* More operations than submission (16) and completion (64) entries. */
static void takes_more_operations_than_the_ring_has_entries(void **state)
{
	enum { COUNT = 500 };
	struct real_fixture *f = *state;
	static struct waited_op ops[COUNT];
	static uint64_t values[COUNT];
	static struct iovec iov[COUNT];
	struct world_file *file;

	assert_int_equal(real_open(f, "a", WORLD_FILE_CREATE, &file), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		values[i] = i;
		iov[i] = (struct iovec){&values[i], sizeof(values[i])};
		f->ops->file_write(f->port, file, &iov[i], 1, i * sizeof(values[i]),
				   waited_init(&ops[i]));
	}
	for (unsigned i = 0; i < COUNT; i++)
		assert_int_equal(waited_finish(f->port, f->world, &ops[i]), sizeof(values[i]));
	memset(values, 0xff, sizeof(values));
	assert_int_equal(real_read(f, file, values, sizeof(values), 0), sizeof(values));
	for (unsigned i = 0; i < COUNT; i++)
		assert_int_equal(values[i], i);
	assert_int_equal(real_close(f, file), 0);
}

/* Before the first wait the ring belongs to no thread; operations wait until it does. */
static void takes_operations_before_the_first_wait(void **state)
{
	enum { COUNT = 40 };
	struct real_fixture *f = *state;
	struct waited_op ops[COUNT], refused;
	struct world_file *file;
	struct world_port *other;
	struct iovec iov = {"x", 1};

	assert_int_equal(real_open(f, "a", WORLD_FILE_CREATE, &file), 0);
	assert_int_equal(f->ops->port_open(f->world, 1, NULL, NULL, &other), 0);
	for (unsigned i = 0; i < COUNT; i++)
		f->ops->file_write(other, file, &iov, 1, i, waited_init(&ops[i]));
	/* One that has no submission entry yet, and one that was refused. */
	f->ops->cancel(other, &ops[COUNT - 1].op);
	f->ops->file_write(other, file, &iov, 0, 0, waited_init(&refused));
	f->ops->cancel(other, &refused.op);
	assert_int_equal(waited_finish(other, f->world, &ops[COUNT - 1]), -ECANCELED);
	assert_int_equal(waited_finish(other, f->world, &refused), -EINVAL);
	for (unsigned i = 0; i < COUNT - 1; i++)
		assert_int_equal(waited_finish(other, f->world, &ops[i]), 1);
	f->ops->port_close(other);
	assert_int_equal(real_close(f, file), 0);
}

static struct world *world_with_few_slots(unsigned slots)
{
	const struct world_real_options options = {.workers = 1, .fence_fd = -1};
	struct rlimit old, low;
	struct world *world;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = (struct rlimit){.rlim_cur = slots, .rlim_max = old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(world_real_new(&options, &world), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	return world;
}

/* A file that finds the table of registered files full is used all the same. */
static void opens_more_files_than_the_table_holds(void **state)
{
	enum { SLOTS = 32, COUNT = 40 };
	struct real_fixture f = *(struct real_fixture *)*state;
	struct world_file *files[COUNT];
	char byte = 0;

	f.world = world_with_few_slots(SLOTS);
	assert_int_equal(f.ops->port_open(f.world, 0, NULL, NULL, &f.port), 0);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < COUNT; i++) {
			assert_int_equal(real_open(&f, "a", WORLD_FILE_CREATE, &files[i]), 0);
			assert_int_equal(real_write(&f, files[i], &(char){(char)i}, 1, i), 1);
			assert_int_equal(real_read(&f, files[i], &byte, 1, i), 1);
			assert_int_equal(byte, i);
		}
		for (unsigned i = 0; i < COUNT; i++)
			assert_int_equal(real_close(&f, files[i]), 0);
	}
	f.ops->port_close(f.port);
	world_real_free(f.world);
}

/* A port that is closed lets go of the files it had registered; they stay usable elsewhere. */
static void a_port_closes_before_its_files(void **state)
{
	struct real_fixture *f = *state;
	struct world_port *other;
	struct world_file *file;
	struct iovec iov = {"x", 1};
	struct waited_op op;

	assert_int_equal(real_open(f, "a", WORLD_FILE_CREATE, &file), 0);
	assert_int_equal(f->ops->port_open(f->world, 1, NULL, NULL, &other), 0);
	assert_int_equal(f->ops->port_wait(other, 0, 8), 0);
	f->ops->file_write(other, file, &iov, 1, 0, waited_init(&op));
	assert_int_equal(waited_finish(other, f->world, &op), 1);
	f->ops->port_close(other);
	assert_int_equal(real_write(f, file, "y", 1, 0), 1);
	assert_int_equal(real_close(f, file), 0);
	/* The other way round: closed while the other port still had to forget it. */
	assert_int_equal(real_open(f, "a", 0, &file), 0);
	assert_int_equal(f->ops->port_open(f->world, 1, NULL, NULL, &other), 0);
	assert_int_equal(f->ops->port_wait(other, 0, 8), 0);
	f->ops->file_write(other, file, &iov, 1, 0, waited_init(&op));
	assert_int_equal(waited_finish(other, f->world, &op), 1);
	assert_int_equal(real_close(f, file), 0);
	f->ops->port_close(other);
}

struct user {
	struct real_fixture *f;
	struct world_file *file;
	struct world_port *port;
	bool stop;
	pthread_t thread;
};

static void *use_file(void *arg)
{
	struct user *user = arg;
	struct iovec iov = {"x", 1};
	struct waited_op op;

	user->f->ops->file_write(user->port, user->file, &iov, 1, 0, waited_init(&op));
	(void)waited_finish(user->port, user->f->world, &op);
	__atomic_store_n(&user->file, NULL, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&user->stop, __ATOMIC_ACQUIRE))
		user->f->ops->port_wait(user->port, UINT64_MAX, 8);
	return NULL;
}

/* A write lease is granted only when nobody else has the file open. */
static bool is_open_elsewhere(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	bool refused;

	assert_true(fd >= 0);
	refused = fcntl(fd, F_SETLEASE, F_WRLCK) < 0;
	close(fd);
	return refused;
}

/* After the close no ring keeps the file open, although another port had it registered too. */
static void closes_a_file_that_two_ports_used(void **state)
{
	struct real_fixture *f = *state;
	struct user user = {.f = f};
	struct world_file *file;
	uint64_t limit_ns;

	assert_int_equal(real_open(f, "a", WORLD_FILE_CREATE, &file), 0);
	user.file = file;
	assert_int_equal(real_write(f, file, "x", 1, 0), 1);
	assert_int_equal(f->ops->port_open(f->world, 1, NULL, NULL, &user.port), 0);
	assert_int_equal(pthread_create(&user.thread, NULL, use_file, &user), 0);
	while (__atomic_load_n(&user.file, __ATOMIC_ACQUIRE))
		f->ops->port_wait(f->port, f->ops->now_ns(f->world) + NSEC_PER_MSEC, 8);
	assert_true(is_open_elsewhere(real_path(f, "a")));
	assert_int_equal(real_close(f, file), 0);
	limit_ns = f->ops->now_ns(f->world) + 5 * NSEC_PER_SEC;
	while (is_open_elsewhere(real_path(f, "a")) && f->ops->now_ns(f->world) < limit_ns)
		f->ops->port_wait(f->port, f->ops->now_ns(f->world) + NSEC_PER_MSEC, 8);
	assert_true(f->ops->now_ns(f->world) < limit_ns);
	__atomic_store_n(&user.stop, true, __ATOMIC_RELEASE);
	f->ops->port_wake(user.port);
	assert_int_equal(pthread_join(user.thread, NULL), 0);
	f->ops->port_close(user.port);
}

#define REAL_TEST(name) cmocka_unit_test_setup_teardown(name, real_setup, real_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		REAL_TEST(writes_and_reads_back),
		REAL_TEST(transfers_vectors),
		REAL_TEST(refuses_bad_vectors_and_offsets),
		REAL_TEST(reads_to_the_end_of_a_direct_file),
		REAL_TEST(continues_a_short_write_until_its_error),
		REAL_TEST(reports_write_to_a_read_only_file),
		REAL_TEST(syncs),
		REAL_TEST(takes_more_operations_than_the_ring_has_entries),
		REAL_TEST(takes_operations_before_the_first_wait),
		REAL_TEST(opens_more_files_than_the_table_holds),
		REAL_TEST(a_port_closes_before_its_files),
		REAL_TEST(closes_a_file_that_two_ports_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
