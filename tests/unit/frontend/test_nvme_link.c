/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's end of a link, against a keeper that this test plays: nothing that it says, or
 * gives, may do harm. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "frontend/nvme/link.h"
#include "real_rig.h"
#include "vfu/link.h"
#include "vfu/receive.h"

#define SEALED     F_SEAL_SHRINK
#define TIMEOUT_NS (300 * NSEC_PER_MSEC)

struct keeper {
	struct real_rig rig;
	int listen_fd, fd; /* `fd` of the engine that connected */
	pthread_t thread;
	void (*script)(struct keeper *keeper);
	int shared_fd, doorbells_fd, event_fd, memory_fd, unsealed_fd;
	struct nvme_link *link;
	_Atomic int lost;
	uint32_t cancelled; /* opening it is to end */
	bool goodbye;
};

/* --- the keeper --- */

static int make_memory(size_t bytes, int seals)
{
	int fd = memfd_create("link", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ASSERT(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	ASSERT(fcntl(fd, F_ADD_SEALS, seals) == 0);
	return fd;
}

static void say(struct keeper *keeper, const struct vfu_link_message *message, const int *fds,
		unsigned fd_count)
{
	struct iovec iov = {(void *)message, sizeof(*message)};

	(void)vfu_send(keeper->fd, &iov, 1, fds, fd_count); /* it may have hung up */
}

static void welcome(struct keeper *keeper)
{
	const int fds[] = {keeper->shared_fd, keeper->doorbells_fd, keeper->event_fd};

	say(keeper,
	    &(struct vfu_link_message){.type = VFU_LINK_WELCOME, .version = VFU_LINK_VERSION}, fds,
	    3);
}

static void welcome_with(struct keeper *keeper, uint32_t version, const int *fds, unsigned count)
{
	say(keeper, &(struct vfu_link_message){.type = VFU_LINK_WELCOME, .version = version}, fds,
	    count);
}

static void map(struct keeper *keeper, uint64_t address, uint64_t length, uint64_t offset, int fd)
{
	struct vfu_link_message message = {.type = VFU_LINK_MAP,
					   .id = 1 + (uint32_t)(address / MIB),
					   .address = address,
					   .length = length,
					   .offset = offset,
					   .flags = VFU_MAP_READ | VFU_MAP_WRITE | VFU_MAP_MEMORY};

	say(keeper, &message, &fd, fd >= 0);
}

static void irqs(struct keeper *keeper, uint32_t kind, uint32_t first, uint32_t count, int fd)
{
	struct vfu_link_message message = {
		.type = VFU_LINK_IRQS, .kind = kind, .first = first, .count = count};

	say(keeper, &message, &fd, fd >= 0);
}

static void early(struct keeper *keeper)
{
	say(keeper, &(struct vfu_link_message){.type = VFU_LINK_EARLY}, &keeper->event_fd, 1);
}

static void ready(struct keeper *keeper)
{
	say(keeper, &(struct vfu_link_message){.type = VFU_LINK_READY}, NULL, 0);
}

static void *play(void *arg)
{
	struct keeper *keeper = arg;
	struct vfu_receiver receiver = {0};
	struct vfu_link_message message;

	keeper->fd = accept4(keeper->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	ASSERT(keeper->fd >= 0);
	while (vfu_receive(&receiver, keeper->fd, &message, sizeof(message)) == 0)
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	ASSERT(message.type == VFU_LINK_HELLO && receiver.fd_count == 1);
	vfu_receiver_reset(&receiver);
	keeper->script(keeper);
	/* Until it hangs up, what it says is taken. */
	while (recv(keeper->fd, &message, sizeof(message), MSG_WAITALL) == sizeof(message))
		keeper->goodbye = message.type == VFU_LINK_BYE;
	return NULL;
}

/* The test itself speaks on the socket, too, so it is closed by neither before the other is done.
 */
static void end_play(struct keeper *keeper)
{
	assert_int_equal(pthread_join(keeper->thread, NULL), 0);
	close(keeper->fd);
}

/* --- the engine --- */

static void on_lost(void *context, int error)
{
	struct keeper *keeper = context;

	keeper->lost = error;
}

static int open_link(void *arg)
{
	struct keeper *keeper = arg;
	struct nvme_link_options options = {
		.home = keeper->rig.reactors[0],
		.path = real_rig_path(&keeper->rig, "link"),
		.fence_fd = keeper->event_fd, /* for this keeper any descriptor will do */
		.timeout_ns = keeper->cancelled ? 60 * NSEC_PER_SEC : TIMEOUT_NS,
		.cancelled = &keeper->cancelled,
		.controller = {.name = "test",
			       .serial = "TEST",
			       .model = "test",
			       .controller_id = 1,
			       .subsystem_id = 1},
		.lost = on_lost,
		.context = keeper};

	return nvme_link_open(&options, &keeper->link);
}

static int start_link(void *arg)
{
	struct keeper *keeper = arg;

	nvme_link_start(keeper->link);
	return 0;
}

static int close_link(void *arg)
{
	struct keeper *keeper = arg;

	nvme_link_close(keeper->link);
	keeper->link = NULL;
	return 0;
}

/* What open says to a keeper with that script; a link that opened is closed again. */
static int try_with(struct keeper *keeper, void (*script)(struct keeper *keeper))
{
	int r;

	keeper->script = script;
	keeper->lost = 0;
	keeper->goodbye = false;
	assert_int_equal(pthread_create(&keeper->thread, NULL, play, keeper), 0);
	r = real_rig_run(&keeper->rig, 0, open_link, keeper);
	if (r == 0)
		real_rig_run(&keeper->rig, 0, close_link, keeper);
	end_play(keeper);
	return r;
}

static int setup(void **state)
{
	struct keeper *keeper = calloc(1, sizeof(*keeper));
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct vfu_shared *shared;
	const char *path;

	alarm(60);
	real_rig_init(&keeper->rig);
	path = real_rig_path(&keeper->rig, "link");
	memcpy(address.sun_path, path, strlen(path));
	keeper->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(keeper->listen_fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(keeper->listen_fd, 1), 0);
	keeper->shared_fd = make_memory(sizeof(struct vfu_shared), SEALED);
	keeper->doorbells_fd = make_memory(2 * VFU_PAGE_BYTES, SEALED);
	keeper->memory_fd = make_memory(4 * MIB, SEALED);
	keeper->unsealed_fd = make_memory(4 * MIB, F_SEAL_GROW);
	keeper->event_fd = eventfd(0, EFD_CLOEXEC);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, keeper->shared_fd,
		      0);
	assert_ptr_not_equal(shared, MAP_FAILED);
	shared->magic = VFU_SHARED_MAGIC;
	shared->version = VFU_SHARED_VERSION;
	shared->bytes = sizeof(*shared);
	shared->registers.cap = VFU_CAP;
	shared->registers.vs = VFU_VS;
	munmap(shared, sizeof(*shared));
	*state = keeper;
	return 0;
}

static int teardown(void **state)
{
	struct keeper *keeper = *state;

	unlink(real_rig_path(&keeper->rig, "link"));
	real_rig_done(&keeper->rig);
	close(keeper->listen_fd);
	close(keeper->shared_fd);
	close(keeper->doorbells_fd);
	close(keeper->memory_fd);
	close(keeper->unsealed_fd);
	close(keeper->event_fd);
	free(keeper);
	return 0;
}

/* --- scripts --- */

static void good(struct keeper *keeper)
{
	welcome(keeper);
	map(keeper, 0, MIB, 0, keeper->memory_fd);
	map(keeper, MIB, 3 * MIB, MIB, keeper->memory_fd);
	irqs(keeper, VFU_IRQ_INTX, 0, 1, keeper->event_fd);
	irqs(keeper, VFU_IRQ_MSIX, VFU_VECTOR_COUNT - 1, 1, keeper->event_fd);
	irqs(keeper, VFU_IRQ_MSIX, 0, 0, -1);
	early(keeper);
	ready(keeper);
}

static void mute(struct keeper *keeper)
{
}

static void hang_up(struct keeper *keeper)
{
	shutdown(keeper->fd, SHUT_RDWR);
}

static void hang_up_in_between(struct keeper *keeper)
{
	welcome(keeper);
	(void)!write(keeper->fd, "half", 4);
	shutdown(keeper->fd, SHUT_RDWR);
}

static void refuse(struct keeper *keeper)
{
	say(keeper, &(struct vfu_link_message){.type = VFU_LINK_REFUSED, .value = EBUSY}, NULL, 0);
}

static void refuse_with_nonsense(struct keeper *keeper)
{
	say(keeper, &(struct vfu_link_message){.type = VFU_LINK_REFUSED, .value = UINT64_MAX}, NULL,
	    0);
}

static void other_version(struct keeper *keeper)
{
	const int fds[] = {keeper->shared_fd, keeper->doorbells_fd, keeper->event_fd};

	welcome_with(keeper, VFU_LINK_VERSION + 1, fds, 3);
}

static void two_descriptors(struct keeper *keeper)
{
	const int fds[] = {keeper->shared_fd, keeper->doorbells_fd};

	welcome_with(keeper, VFU_LINK_VERSION, fds, 2);
}

static void shared_that_may_shrink(struct keeper *keeper)
{
	const int fds[] = {keeper->unsealed_fd, keeper->doorbells_fd, keeper->event_fd};

	welcome_with(keeper, VFU_LINK_VERSION, fds, 3);
}

static void shared_too_small(struct keeper *keeper)
{
	const int fds[] = {keeper->doorbells_fd, keeper->doorbells_fd, keeper->event_fd};

	welcome_with(keeper, VFU_LINK_VERSION, fds, 3);
}

static void shared_of_zeros(struct keeper *keeper)
{
	const int fds[] = {keeper->memory_fd, keeper->doorbells_fd, keeper->event_fd};

	welcome_with(keeper, VFU_LINK_VERSION, fds, 3);
}

static void wake_that_is_no_event(struct keeper *keeper)
{
	const int fds[] = {keeper->shared_fd, keeper->doorbells_fd, keeper->memory_fd};

	welcome_with(keeper, VFU_LINK_VERSION, fds, 3);
}

static void welcome_twice(struct keeper *keeper)
{
	welcome(keeper);
	welcome(keeper);
}

static void ready_at_once(struct keeper *keeper)
{
	ready(keeper);
}

static void map_without_file(struct keeper *keeper)
{
	welcome(keeper);
	map(keeper, 0, MIB, 0, -1);
}

static void map_that_may_shrink(struct keeper *keeper)
{
	welcome(keeper);
	map(keeper, 0, MIB, 0, keeper->unsealed_fd);
}

static void map_beyond_the_file(struct keeper *keeper)
{
	welcome(keeper);
	map(keeper, 0, 4 * MIB, VFU_PAGE_BYTES, keeper->memory_fd);
}

static void map_of_nothing(struct keeper *keeper)
{
	welcome(keeper);
	map(keeper, 0, 0, 0, keeper->memory_fd);
}

static void map_twice(struct keeper *keeper)
{
	welcome(keeper);
	map(keeper, 0, 2 * MIB, 0, keeper->memory_fd);
	map(keeper, MIB, MIB, 0, keeper->memory_fd);
}

static void irq_that_is_no_event(struct keeper *keeper)
{
	welcome(keeper);
	irqs(keeper, VFU_IRQ_INTX, 0, 1, keeper->memory_fd);
}

static void irq_of_another_kind(struct keeper *keeper)
{
	welcome(keeper);
	irqs(keeper, 1, 0, 1, keeper->event_fd);
}

static void irq_beyond_the_last(struct keeper *keeper)
{
	welcome(keeper);
	irqs(keeper, VFU_IRQ_MSIX, VFU_VECTOR_COUNT, 1, keeper->event_fd);
}

static void irq_that_wraps(struct keeper *keeper)
{
	welcome(keeper);
	irqs(keeper, VFU_IRQ_MSIX, 2, UINT32_MAX, keeper->event_fd);
}

static void early_without_descriptor(struct keeper *keeper)
{
	welcome(keeper);
	say(keeper, &(struct vfu_link_message){.type = VFU_LINK_EARLY}, NULL, 0);
}

static void early_twice(struct keeper *keeper)
{
	welcome(keeper);
	early(keeper);
	early(keeper);
}

static void unknown_type(struct keeper *keeper)
{
	welcome(keeper);
	say(keeper, &(struct vfu_link_message){.type = 999}, NULL, 0);
}

/* --- tests --- */

static void opens_and_says_goodbye(void **state)
{
	struct keeper *keeper = *state;

	assert_int_equal(try_with(keeper, good), 0);
	assert_true(keeper->goodbye);
	assert_int_equal(try_with(keeper, good), 0); /* and again */
}

static void ends_links_that_speak_nonsense(void **state)
{
	static void (*const scripts[])(struct keeper *) = {
		refuse_with_nonsense,   other_version,       two_descriptors,
		shared_that_may_shrink, shared_too_small,    wake_that_is_no_event,
		welcome_twice,          ready_at_once,       map_without_file,
		map_that_may_shrink,    map_beyond_the_file, irq_that_is_no_event,
		irq_of_another_kind,    irq_beyond_the_last, irq_that_wraps,
		unknown_type,           early_twice,         early_without_descriptor,
	};

	for (unsigned i = 0; i < ARRAY_SIZE(scripts); i++)
		if (try_with(*state, scripts[i]) != -EPROTO)
			fail_msg("script %u", i);
	assert_int_equal(try_with(*state, map_of_nothing), -EINVAL);
	assert_int_equal(try_with(*state, map_twice), -EEXIST);
	assert_true(try_with(*state, shared_of_zeros) < 0);
	assert_int_equal(try_with(*state, good), 0);
}

static void gives_up_where_nobody_answers(void **state)
{
	struct keeper *keeper = *state;

	assert_int_equal(try_with(keeper, mute), -ETIMEDOUT);
	keeper->cancelled = 1;
	assert_int_equal(try_with(keeper, mute), -ECANCELED);
	keeper->cancelled = 0;
	assert_int_equal(try_with(keeper, hang_up), -ECONNRESET);
	assert_int_equal(try_with(keeper, hang_up_in_between), -ECONNRESET);
	assert_int_equal(try_with(keeper, refuse), -EBUSY);
	close(keeper->listen_fd);
	assert_int_equal(real_rig_run(&keeper->rig, 0, open_link, keeper), -ECONNREFUSED);
	unlink(real_rig_path(&keeper->rig, "link"));
	assert_int_equal(real_rig_run(&keeper->rig, 0, open_link, keeper), -ENOENT);
	keeper->listen_fd = -1;
}

static void wait_until_lost(struct keeper *keeper)
{
	for (int tries = 0; keeper->lost == 0; tries++) {
		assert_true(tries < 5000);
		nanosleep(&(struct timespec){.tv_nsec = NSEC_PER_MSEC}, NULL);
	}
}

/* While it runs: `after` is what the keeper does to a link that serves. */
static int lost_by(struct keeper *keeper, void (*after)(struct keeper *keeper))
{
	keeper->script = good;
	keeper->lost = 0;
	assert_int_equal(pthread_create(&keeper->thread, NULL, play, keeper), 0);
	assert_int_equal(real_rig_run(&keeper->rig, 0, open_link, keeper), 0);
	real_rig_run(&keeper->rig, 0, start_link, keeper);
	after(keeper);
	wait_until_lost(keeper);
	real_rig_run(&keeper->rig, 0, close_link, keeper);
	end_play(keeper);
	return keeper->lost;
}

static void tells_when_the_keeper_is_lost(void **state)
{
	assert_int_equal(lost_by(*state, hang_up), -ECONNRESET);
	assert_int_equal(lost_by(*state, welcome), -EPROTO);
	assert_int_equal(lost_by(*state, unknown_type), -EPROTO);
	assert_int_equal(lost_by(*state, refuse), -EBUSY);
	assert_int_equal(try_with(*state, good), 0);
}

/* --- the keeper speaks, and the guest acts on it, after this turn has looked at the socket --- */

struct late {
	struct reactor_timer timer;
	struct keeper *keeper;
	struct vfu_shared *shared;
};

static void run_late(struct reactor_timer *timer)
{
	struct late *late = CONTAINER_OF(timer, struct late, timer);
	struct vfu_registers *registers = &late->shared->registers;

	map(late->keeper, 16 * MIB, MIB, 0, late->keeper->memory_fd);
	vfu_store(&late->shared->told, late->shared->told + 1);
	registers->aqa = 7 << 16 | 7;
	registers->asq = 16 * MIB;
	registers->acq = 16 * MIB + VFU_PAGE_BYTES;
	vfu_store(&registers->cc, 4u << 20 | 6u << 16 | 1);
	nvme_controller_kick(nvme_link_controller(late->keeper->link));
}

static int arm_late(void *arg)
{
	struct late *late = arg;

	late->timer.run = run_late;
	reactor_timer_arm(late->keeper->rig.reactors[0], &late->timer, 0);
	return 0;
}

static void knows_memory_before_the_guest_uses_it(void **state)
{
	struct keeper *keeper = *state;
	struct late late = {.keeper = keeper};

	keeper->script = good;
	late.shared = mmap(NULL, sizeof(*late.shared), PROT_READ | PROT_WRITE, MAP_SHARED,
			   keeper->shared_fd, 0);
	assert_ptr_not_equal(late.shared, MAP_FAILED);
	assert_int_equal(pthread_create(&keeper->thread, NULL, play, keeper), 0);
	assert_int_equal(real_rig_run(&keeper->rig, 0, open_link, keeper), 0);
	real_rig_run(&keeper->rig, 0, start_link, keeper);
	real_rig_run(&keeper->rig, 0, arm_late, &late);
	for (int tries = 0; vfu_load(&late.shared->registers.csts) == 0; tries++) {
		assert_true(tries < 5000);
		nanosleep(&(struct timespec){.tv_nsec = NSEC_PER_MSEC}, NULL);
	}
	assert_int_equal(late.shared->registers.csts, 1); /* ready, and not failed */
	real_rig_run(&keeper->rig, 0, close_link, keeper);
	end_play(keeper);
	munmap(late.shared, sizeof(*late.shared));
}

#define LINK_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LINK_TEST(opens_and_says_goodbye),
		LINK_TEST(ends_links_that_speak_nonsense),
		LINK_TEST(gives_up_where_nobody_answers),
		LINK_TEST(tells_when_the_keeper_is_lost),
		LINK_TEST(knows_memory_before_the_guest_uses_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
