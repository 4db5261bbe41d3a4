/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers of requests that may be given up: how many there are, what a disk that hangs keeps, and
 * when that comes back. Two simulated disks. */
#include "pool/pool_buffer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/macros.h"
#include "base/reached.h"
#include "fail_alloc.h"
#include "pool_rig.h"

#define PAGE     4096
#define COUNT    3u
#define LIMIT_NS (2 * POOL_DISK_TIMEOUT_NS)

static const char *const roots[] = {POOL_RIG_DISK, "/disk2"};

struct request {
	struct pool_buffer *buffer;
	int64_t result;
	bool ended;
};

static int setup(void **state)
{
	struct pool_rig *rig = pool_rig_new(POOL_RIG_DISK_BYTES);

	ASSERT(sim_disk_add(rig->sim.sim, roots[1], POOL_RIG_DISK_BYTES) == 0);
	*state = rig;
	return 0;
}

static void hang(struct pool_rig *rig, uint64_t disk, bool hangs)
{
	sim_disk_set_hung(rig->sim.sim, roots[disk - 1], hangs);
}

static struct pool_buffers *make(void)
{
	struct pool_buffers *buffers;

	ASSERT(pool_buffers_new(2 * PAGE, COUNT, &buffers) == 0);
	return buffers;
}

static void request_done(struct pool_buffer *buffer, int64_t result)
{
	struct request *request = buffer->arg;

	ASSERT(!request->ended);
	request->result = result;
	request->ended = true;
}

static struct pool_buffer *take(struct pool_buffers *buffers, struct request *request)
{
	struct pool_buffer *buffer = pool_buffers_take(buffers);

	ASSERT(buffer && !pool_buffer_is_held(buffer) &&
	       IS_ALIGNED((uintptr_t)buffer->memory, PAGE));
	buffer->arg = request;
	buffer->done = request_done;
	*request = (struct request){.buffer = buffer};
	return buffer;
}

static void begin_read(struct pool_buffers *buffers, struct request *request,
		       struct pool_file *file, unsigned copy)
{
	pool_buffer_read(take(buffers, request), file, copy, PAGE, 0);
	ASSERT(!request->ended);
}

static void begin_write(struct pool_buffers *buffers, struct request *request,
			struct pool_file *file, unsigned copy)
{
	memset(take(buffers, request)->memory, 'w', PAGE);
	pool_buffer_write(request->buffer, file, copy, PAGE, 0);
	ASSERT(!request->ended);
}

static int64_t finish(const struct request *request)
{
	while (!request->ended)
		fiber_sleep(NSEC_PER_MSEC);
	return request->result;
}

static void end(struct pool_rig *rig, struct pool_file *file)
{
	ASSERT(pool_disks_silent() == 0);
	if (file)
		pool_file_discard(file);
	pool_check(rig->pool);
	pool_rig_close(rig);
}

static void gives_out_no_more_than_it_has(void **state)
{
	struct pool_buffers *buffers = make();
	struct pool_buffer *taken[COUNT];

	(void)state;
	for (unsigned i = 0; i < COUNT; i++) {
		taken[i] = pool_buffers_take(buffers);
		assert_non_null(taken[i]);
		memset(taken[i]->memory, (int)('a' + i), 2 * (size_t)PAGE);
	}
	assert_null(pool_buffers_take(buffers));
	for (unsigned i = 0; i < COUNT; i++)
		for (unsigned at = 0; at < 2 * PAGE; at++)
			assert_int_equal(taken[i]->memory[at], 'a' + i);
	pool_buffer_put(taken[1]);
	pool_buffer_put(NULL);
	assert_ptr_equal(pool_buffers_take(buffers), taken[1]);
	assert_null(pool_buffers_take(buffers));
	for (unsigned i = 0; i < COUNT; i++)
		pool_buffer_put(taken[i]);
	pool_buffers_free(buffers);
	pool_buffers_free(NULL);
}

static void tells_when_memory_is_short(void **state)
{
	struct pool_buffers *buffers = NULL;
	uint64_t n = 1;
	int r = -ENOMEM;

	(void)state;
	for (; r < 0; n++) {
		fail_alloc_nth(n);
		r = pool_buffers_new(PAGE, COUNT, &buffers);
		assert_int_equal(fail_alloc_disarm(), r < 0);
		assert_int_equal(r, buffers ? 0 : -ENOMEM);
	}
	assert_int_equal(n, 4); /* the set, the memory, none */
	pool_buffers_free(buffers);
}

static bool is_resident(const char *memory)
{
	unsigned char page;

	ASSERT(mincore((void *)memory, PAGE, &page) == 0);
	return page & 1;
}

static void prepare_run(void *arg)
{
	struct pool_buffers *buffers = make();
	struct pool_buffer *taken[COUNT];

	(void)arg;
	pool_buffers_prepare(buffers, 1);
	taken[0] = pool_buffers_take(buffers);
	ASSERT(is_resident(taken[0]->memory) && is_resident(taken[0]->memory + PAGE));
	memset(taken[0]->memory, 'a', 2 * (size_t)PAGE);
	pool_buffers_prepare(buffers, 1);
	pool_buffers_prepare(buffers, COUNT + 5);
	for (unsigned i = 1; i < COUNT; i++) {
		taken[i] = pool_buffers_take(buffers);
		ASSERT(is_resident(taken[i]->memory) && is_resident(taken[i]->memory + PAGE));
	}
	pool_buffer_populate(taken[0]->memory, 2 * (size_t)PAGE);
	for (unsigned at = 0; at < 2 * PAGE; at++)
		ASSERT(taken[0]->memory[at] == 'a');
	for (unsigned i = 0; i < COUNT; i++)
		pool_buffer_put(taken[i]);
	pool_buffers_free(buffers);
}

static void has_pages_before_memory_is_used(void **state)
{
	pool_rig_run(*state, prepare_run);
}

static void transfer_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	struct pool_buffers *buffers = make();
	struct request write, read;

	for (unsigned copy = 0; copy < 2; copy++) {
		begin_write(buffers, &write, file, copy);
		ASSERT(finish(&write) == 0);
		begin_read(buffers, &read, file, copy);
		ASSERT(finish(&read) == PAGE);
		ASSERT(memcmp(read.buffer->memory, write.buffer->memory, PAGE) == 0);
		pool_buffer_put(write.buffer);
		pool_buffer_put(read.buffer);
	}
	begin_read(buffers, &read, file, 2);
	begin_write(buffers, &write, file, 2);
	ASSERT(finish(&read) == -ENXIO && finish(&write) == -ENXIO);
	ASSERT(!pool_buffer_is_held(read.buffer) && !pool_buffer_is_held(write.buffer));
	pool_buffer_put(write.buffer);
	pool_buffer_put(read.buffer);
	pool_buffers_free(buffers);
	end(rig, file);
}

static void reads_and_writes_one_copy(void **state)
{
	pool_rig_run(*state, transfer_run);
}

/* None that a disk keeps is given out, put back before it returns or not. */
static void hang_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	unsigned copy = pool_rig_copy_on(file, 2);
	struct pool_buffers *buffers = make();
	struct request read, write, third, late;

	hang(rig, 2, true);
	begin_read(buffers, &read, file, copy);
	begin_write(buffers, &write, file, copy);
	ASSERT(finish(&read) == -ETIMEDOUT && finish(&write) == -ETIMEDOUT);
	ASSERT(pool_buffer_is_held(read.buffer) && pool_buffer_is_held(write.buffer));
	pool_buffer_put(read.buffer);
	take(buffers, &third);
	ASSERT(third.buffer != read.buffer && third.buffer != write.buffer);
	ASSERT(!pool_buffers_take(buffers));
	pool_buffer_put(third.buffer);
	/* Nothing more is begun there. */
	begin_read(buffers, &late, file, copy);
	ASSERT(finish(&late) == -ETIMEDOUT && !pool_buffer_is_held(late.buffer));
	pool_buffer_put(late.buffer);
	begin_write(buffers, &late, file, copy);
	ASSERT(finish(&late) == -EIO && !pool_buffer_is_held(late.buffer));
	hang(rig, 2, false);
	fiber_sleep(NSEC_PER_SEC);
	ASSERT(!pool_buffer_is_held(write.buffer));
	take(buffers, &third);
	ASSERT(third.buffer == read.buffer && !pool_buffers_take(buffers));
	pool_buffer_put(write.buffer);
	pool_buffer_put(third.buffer);
	pool_buffer_put(late.buffer);
	pool_buffers_free(buffers);
	end(rig, file);
}

static void gives_out_nothing_that_a_disk_keeps(void **state)
{
	pool_rig_run(*state, hang_run);
}

/* The memory is there until the disk has ended: what it then does, it does to that. The file may be
 * gone before. */
static void left_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *file = pool_rig_begin_two(rig);
	unsigned copy = pool_rig_copy_on(file, 2);
	uint64_t released = reached_count("pool.buffer-released");
	struct pool_buffers *buffers = make();
	struct request read, write;

	hang(rig, 2, true);
	begin_read(buffers, &read, file, copy);
	begin_write(buffers, &write, file, copy);
	ASSERT(finish(&read) == -ETIMEDOUT && finish(&write) == -ETIMEDOUT);
	pool_buffer_put(read.buffer);
	pool_buffer_put(write.buffer);
	pool_buffers_free(buffers);
	pool_file_close(file);
	fiber_sleep(LIMIT_NS);
	ASSERT(reached_count("pool.buffer-released") == released);
	hang(rig, 2, false);
	fiber_sleep(NSEC_PER_SEC);
	ASSERT(reached_count("pool.buffer-released") == released + 2);
	end(rig, NULL);
}

static void stays_until_the_disk_has_ended(void **state)
{
	pool_rig_run(*state, left_run);
}

/* The only copy is waited for, though there is another disk. */
static void only_run(void *arg)
{
	struct pool_rig *rig = arg;
	struct pool_file *both = pool_rig_begin_two(rig), *file = pool_rig_take(rig, 1);
	struct pool_buffers *buffers = make();
	struct request read, write;
	struct pool_copies copies;

	ASSERT(pool_rig_write(file, 'o') == 0);
	pool_file_get_copies(file, &copies);
	hang(rig, copies.disks[0], true);
	begin_read(buffers, &read, file, 0);
	begin_write(buffers, &write, file, 0);
	fiber_sleep(2 * LIMIT_NS);
	ASSERT(pool_disks_silent() == 1 && !read.ended && !write.ended);
	hang(rig, copies.disks[0], false);
	ASSERT(finish(&read) == PAGE && finish(&write) == 0);
	ASSERT(!pool_buffer_is_held(read.buffer) && !pool_buffer_is_held(write.buffer));
	pool_buffer_put(read.buffer);
	pool_buffer_put(write.buffer);
	pool_buffers_free(buffers);
	fiber_sleep(NSEC_PER_SEC);
	pool_file_discard(file);
	end(rig, both);
}

static void waits_for_the_only_copy(void **state)
{
	pool_rig_run(*state, only_run);
}

/* Memory is waited for; meanwhile the copy may have gone, or be called stale. */

struct waiting {
	struct fiber_task task;
	struct pool_file *file;
	unsigned copy;
	size_t length; /* more than what is kept of earlier operations has */
	bool write;
	int result;
	bool ended;
};

static void waiting_run(struct fiber_task *task)
{
	struct waiting *waiting = CONTAINER_OF(task, struct waiting, task);
	void *memory = aligned_alloc(PAGE, waiting->length);

	ASSERT(memory);
	memset(memory, 'w', waiting->length);
	fail_alloc_nth(1);
	if (waiting->write)
		waiting->result = pool_io_write_copy(waiting->file, waiting->copy, memory,
						     waiting->length, 0);
	else
		waiting->result =
			pool_io_read_copy(waiting->file, waiting->copy, memory, waiting->length, 0);
	waiting->ended = true;
	free(memory);
}

static void lose_copy(struct pool_file *file, struct waiting waiting, bool stale)
{
	uint64_t waits = reached_count("pool.piece-waits");
	struct pool_copies copies;

	pool_file_get_copies(file, &copies);
	ASSERT(copies.count == 2);
	waiting.task.run = waiting_run;
	waiting.file = file;
	waiting.copy = 1;
	fiber_spawn(reactor_current(), FIBER_DATA, &waiting.task);
	fiber_yield();
	ASSERT(fail_alloc_disarm() && reached_count("pool.piece-waits") == waits + 1);
	if (stale)
		copies.stale = 2;
	else
		copies.count = 1;
	pool_file_set_copies(file, &copies);
	ASSERT(!waiting.ended);
	fiber_sleep(NSEC_PER_SEC);
	ASSERT(waiting.ended && waiting.result == -ENXIO);
	pool_file_discard(file);
}

static void lose_run(void *arg)
{
	struct pool_rig *rig = arg;

	lose_copy(pool_rig_begin_two(rig), (struct waiting){.length = 2 * PAGE}, false);
	lose_copy(pool_rig_take(rig, 2), (struct waiting){.length = 3 * PAGE}, true);
	lose_copy(pool_rig_take(rig, 2), (struct waiting){.length = 4 * PAGE, .write = true},
		  false);
	pool_check(rig->pool);
	pool_rig_close(rig);
}

static void a_copy_may_go_while_memory_is_waited_for(void **state)
{
	pool_rig_run(*state, lose_run);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, pool_rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_out_no_more_than_it_has),
		cmocka_unit_test(tells_when_memory_is_short),
		TEST(has_pages_before_memory_is_used),
		TEST(reads_and_writes_one_copy),
		TEST(gives_out_nothing_that_a_disk_keeps),
		TEST(stays_until_the_disk_has_ended),
		TEST(waits_for_the_only_copy),
		TEST(a_copy_may_go_while_memory_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
