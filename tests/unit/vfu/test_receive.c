/* SPDX-License-Identifier: Apache-2.0 */
/* Messages with descriptors over a socket pair. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/macros.h"
#include "vfu/receive.h"

#define FDS_LOOKED_AT 256

struct pair {
	int ours, theirs, event;
	unsigned open_files; /* while nothing is under way */
	struct vfu_receiver receiver;
	char buffer[64];
};

static unsigned open_files(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < FDS_LOOKED_AT; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static int setup(void **state)
{
	struct pair *pair = calloc(1, sizeof(*pair));
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	pair->ours = fds[0];
	pair->theirs = fds[1];
	pair->event = eventfd(0, EFD_CLOEXEC);
	pair->open_files = open_files();
	*state = pair;
	return 0;
}

static int teardown(void **state)
{
	struct pair *pair = *state;

	vfu_receiver_reset(&pair->receiver);
	close(pair->ours);
	close(pair->theirs);
	close(pair->event);
	free(pair);
	return 0;
}

static int receive(struct pair *pair, size_t wanted)
{
	return vfu_receive(&pair->receiver, pair->ours, pair->buffer, wanted);
}

static int send_bytes(struct pair *pair, const char *bytes, size_t length, unsigned fd_count)
{
	struct iovec iov = {(void *)bytes, length};
	int fds[VFU_MESSAGE_FDS_MAX];

	for (unsigned i = 0; i < VFU_MESSAGE_FDS_MAX; i++)
		fds[i] = pair->event;
	return vfu_send(pair->theirs, &iov, 1, fds, fd_count);
}

static void takes_a_message_in_pieces(void **state)
{
	struct pair *pair = *state;

	assert_int_equal(receive(pair, 8), 0);
	assert_int_equal(send_bytes(pair, "abc", 3, 1), 0);
	assert_int_equal(receive(pair, 8), 0);
	assert_int_equal(pair->receiver.used, 3);
	assert_int_equal(send_bytes(pair, "defgh", 5, 1), 0);
	assert_int_equal(receive(pair, 8), 1);
	assert_memory_equal(pair->buffer, "abcdefgh", 8);
	assert_int_equal(pair->receiver.fd_count, 2);
	assert_int_equal(receive(pair, 8), 1); /* it is there still */
}

static void never_reads_into_the_next(void **state)
{
	struct pair *pair = *state;

	assert_int_equal(send_bytes(pair, "abcd", 4, 0), 0);
	assert_int_equal(send_bytes(pair, "efgh", 4, 1), 0);
	assert_int_equal(receive(pair, 4), 1);
	assert_int_equal(pair->receiver.fd_count, 0);
	vfu_receiver_reset(&pair->receiver);
	assert_int_equal(receive(pair, 4), 1);
	assert_memory_equal(pair->buffer, "efgh", 4);
	assert_int_equal(pair->receiver.fd_count, 1);
}

static void closes_what_nobody_took(void **state)
{
	struct pair *pair = *state;
	int taken;

	assert_int_equal(send_bytes(pair, "abcd", 4, 3), 0);
	assert_int_equal(receive(pair, 4), 1);
	assert_int_equal(pair->receiver.fd_count, 3);
	assert_true(fcntl(pair->receiver.fds[0], F_GETFD) & FD_CLOEXEC);
	taken = vfu_receiver_take_fd(&pair->receiver, 1);
	vfu_receiver_reset(&pair->receiver);
	assert_int_equal(open_files(), pair->open_files + 1);
	assert_true(fcntl(taken, F_GETFD) >= 0);
	close(taken);
}

static void limits_descriptors(void **state)
{
	struct pair *pair = *state;

	assert_int_equal(send_bytes(pair, "abcd", 4, VFU_MESSAGE_FDS_MAX), 0);
	assert_int_equal(receive(pair, 4), 1);
	assert_int_equal(pair->receiver.fd_count, VFU_MESSAGE_FDS_MAX);
	vfu_receiver_reset(&pair->receiver);
	/* One more, in the message's second piece. */
	assert_int_equal(send_bytes(pair, "ab", 2, VFU_MESSAGE_FDS_MAX), 0);
	assert_int_equal(receive(pair, 4), 0);
	assert_int_equal(send_bytes(pair, "cd", 2, 1), 0);
	assert_int_equal(receive(pair, 4), -EPROTO);
	vfu_receiver_reset(&pair->receiver);
	assert_int_equal(open_files(), pair->open_files);
}

/* More in one piece than a message may have: what does not fit is never opened. */
static void limits_descriptors_of_one_piece(void **state)
{
	struct pair *pair = *state;
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE((VFU_MESSAGE_FDS_MAX + 4) * sizeof(int))];
	} control = {.bytes = {0}};
	struct iovec iov = {(char *)"abcd", 4};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	int fds[VFU_MESSAGE_FDS_MAX + 4];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = pair->event;
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(&control.header), fds, sizeof(fds));
	assert_int_equal(sendmsg(pair->theirs, &message, 0), 4);
	assert_int_equal(receive(pair, 4), -EPROTO);
	vfu_receiver_reset(&pair->receiver);
	assert_int_equal(open_files(), pair->open_files);
}

static void tells_when_the_other_side_is_gone(void **state)
{
	struct pair *pair = *state;

	assert_int_equal(send_bytes(pair, "abc", 3, 1), 0);
	shutdown(pair->theirs, SHUT_RDWR);
	assert_int_equal(receive(pair, 8), -EPIPE);
	assert_int_equal(send_bytes(pair, "abc", 3, 0), -EPIPE);
	vfu_receiver_reset(&pair->receiver);
	assert_int_equal(open_files(), pair->open_files);
}

static void does_not_wait_for_a_reader(void **state)
{
	struct pair *pair = *state;
	char bytes[4096] = {0};
	struct iovec iov[3] = {{bytes, 1}, {bytes, 0}, {bytes, sizeof(bytes)}};
	unsigned count = 0;
	int r;

	do
		r = vfu_send(pair->theirs, iov, 3, NULL, 0);
	while (r == 0 && ++count < 100000);
	assert_int_equal(r, -EAGAIN);
	assert_true(count > 0);
}

#define RECEIVE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RECEIVE_TEST(takes_a_message_in_pieces),
		RECEIVE_TEST(never_reads_into_the_next),
		RECEIVE_TEST(closes_what_nobody_took),
		RECEIVE_TEST(limits_descriptors),
		RECEIVE_TEST(limits_descriptors_of_one_piece),
		RECEIVE_TEST(tells_when_the_other_side_is_gone),
		RECEIVE_TEST(does_not_wait_for_a_reader),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
