/* SPDX-License-Identifier: Apache-2.0 */
/* The sender's bytes, cut into pieces of any size, go through the receiver and come out as they
 * were. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "block/chance.h"
#include "frontend/iscsi/receiver.h"
#include "frontend/iscsi/sender.h"

#define PDUS       200
#define LENGTH_MAX 60000

struct pdu {
	struct iscsi_out out;
	uint32_t number, length;
	uint8_t *data;
	bool sent;
};

struct fixture {
	struct iscsi_sender sender;
	struct iscsi_receiver receiver;
	struct pdu pdus[PDUS];
	uint32_t headers, arrived;
	uint8_t in[LENGTH_MAX];
	bool drop; /* every third data segment */
	int fail_at;
};

static struct fixture f;

static enum iscsi_out_fill fill(struct iscsi_out *out, struct iscsi_pdu_out *made)
{
	struct pdu *pdu = CONTAINER_OF(out, struct pdu, out);

	put_be32(((struct iscsi_bhs *)made->header)->itt, pdu->number);
	made->data = pdu->data;
	made->length = pdu->length;
	return ISCSI_OUT_LAST;
}

static void sent(struct iscsi_out *out)
{
	CONTAINER_OF(out, struct pdu, out)->sent = true;
}

static int on_header(struct iscsi_receiver *receiver, const struct iscsi_bhs *bhs,
		     const uint8_t *ahs, uint8_t **ret_data)
{
	assert_int_equal(get_be32(bhs->itt), f.headers);
	assert_int_equal(iscsi_pdu_data_length(bhs), f.pdus[f.headers].length);
	*ret_data = f.drop && f.headers % 3 == 0 ? NULL : f.in;
	f.headers++;
	return 0;
}

static int on_pdu(struct iscsi_receiver *receiver)
{
	const struct pdu *pdu = &f.pdus[f.arrived];

	if ((int)f.arrived == f.fail_at)
		return -EPROTO;
	assert_int_equal(f.arrived + 1, f.headers);
	if (pdu->length > 0 && !(f.drop && f.arrived % 3 == 0))
		assert_memory_equal(f.in, pdu->data, pdu->length);
	f.arrived++;
	if (f.arrived % 50 == 0)
		receiver->paused = true;
	return 0;
}

static const struct iscsi_receiver_ops ops = {.header = on_header, .pdu = on_pdu};

static void begin(struct chance *chance, bool digests)
{
	memset(&f, 0, sizeof(f));
	f.fail_at = -1;
	iscsi_sender_init(&f.sender);
	assert_int_equal(iscsi_receiver_init(&f.receiver, &ops, 4096), 0);
	f.sender.header_digest = f.receiver.header_digest = digests;
	f.sender.data_digest = f.receiver.data_digest = digests;
	for (uint32_t i = 0; i < PDUS; i++) {
		struct pdu *pdu = &f.pdus[i];

		pdu->number = i;
		pdu->length =
			(uint32_t)chance_below(chance, chance_below(chance, 4) ? 100 : LENGTH_MAX);
		pdu->data = malloc(pdu->length + 1);
		assert_non_null(pdu->data);
		for (uint32_t at = 0; at < pdu->length; at++)
			pdu->data[at] = (uint8_t)(at * 31 + i);
		pdu->out.fill = fill;
		pdu->out.sent = sent;
		iscsi_sender_queue(&f.sender, &pdu->out);
	}
}

static void end(void)
{
	iscsi_receiver_done(&f.receiver);
	for (uint32_t i = 0; i < PDUS; i++)
		free(f.pdus[i].data);
}

/* Moves up to `most` bytes from what the sender gives to what the receiver wants. */
static size_t move(size_t most)
{
	int want = iscsi_receiver_want(&f.receiver), at = 0;
	struct iovec to = f.receiver.iov[0];
	size_t moved = 0;

	while (moved < most && iscsi_sender_gather(&f.sender) > 0) {
		const struct iovec *from = &f.sender.iov[f.sender.iov_at];
		size_t n = MIN(MIN(from->iov_len, to.iov_len), most - moved);

		memcpy(to.iov_base, from->iov_base, n);
		to.iov_base = (uint8_t *)to.iov_base + n;
		to.iov_len -= n;
		moved += n;
		iscsi_sender_sent(&f.sender, n);
		if (to.iov_len == 0 && ++at == want)
			break;
		if (to.iov_len == 0)
			to = f.receiver.iov[at];
	}
	return moved;
}

static int pass_all(struct chance *chance)
{
	size_t moved;
	int r = 0;

	while (r == 0 &&
	       (moved = move(1 + chance_below(chance, chance_below(chance, 3) ? 64 : 90000)))) {
		r = iscsi_receiver_take(&f.receiver, moved);
		while (r == 0 && f.receiver.paused) {
			f.receiver.paused = false;
			if (f.arrived == 100)
				assert_int_equal(iscsi_receiver_resize(&f.receiver, 128 * 1024), 0);
			r = iscsi_receiver_resume(&f.receiver);
		}
	}
	return r;
}

static void bytes_survive(void **state)
{
	struct chance chance;

	(void)state;
	for (uint64_t seed = 0; seed < 40; seed++) {
		chance_init(&chance, seed);
		begin(&chance, seed % 2);
		f.drop = seed % 3 == 0;
		assert_int_equal(pass_all(&chance), 0);
		assert_int_equal(f.arrived, PDUS);
		assert_true(iscsi_sender_is_idle(&f.sender));
		for (uint32_t i = 0; i < PDUS; i++)
			assert_true(f.pdus[i].sent);
		end();
	}
}

static void a_failing_op_stops(void **state)
{
	struct chance chance;

	(void)state;
	chance_init(&chance, 1);
	begin(&chance, false);
	f.fail_at = 17;
	assert_int_equal(pass_all(&chance), -EPROTO);
	assert_int_equal(f.arrived, 17);
	iscsi_sender_drop(&f.sender);
	for (uint32_t i = 0; i < PDUS; i++)
		assert_true(f.pdus[i].sent);
	end();
}

static void a_flipped_bit_is_found(void **state)
{
	struct chance chance;

	(void)state;
	for (uint64_t seed = 0; seed < 100; seed++) {
		size_t moved;
		int r;

		chance_init(&chance, 1);
		begin(&chance, true);
		f.pdus[0].length = 20;
		moved = move(200);
		assert_true(moved > 48 + 4 + 20 + 4);
		f.receiver.buffer[seed % (48 + 4 + 20 + 4)] ^= (uint8_t)(1 << seed % 8);
		if (seed % 76 < 8) { /* lengths: more may be awaited than has come */
			end();
			continue;
		}
		f.fail_at = 0;
		r = iscsi_receiver_take(&f.receiver, moved);
		assert_int_equal(r, -EBADMSG);
		end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_survive),
		cmocka_unit_test(a_failing_op_stops),
		cmocka_unit_test(a_flipped_bit_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
