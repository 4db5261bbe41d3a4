/* SPDX-License-Identifier: Apache-2.0 */
/* Reservations of a namespace that two controllers on two reactors share. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <nvme/types.h>

#include "base/endian.h"
#include "base/macros.h"
#include "frontend/nvme/reservation_state.h"
#include "nvme_rig.h"

#define DATA NVME_RIG_DATA

static struct sim_rig sim;
static struct nvme_rig rigs[2];
static struct block_volume *volume;
static struct nvme_reservations *reservations;
static struct nvme_reservation_state stored;
static unsigned saves;
static int save_error;

static int load(void *context, void *state, size_t size)
{
	assert_int_equal(size, sizeof(stored));
	memcpy(state, &stored, size);
	return 0;
}

static int save(void *context, const void *state, size_t size)
{
	if (save_error < 0)
		return save_error;
	memcpy(&stored, state, size);
	saves++;
	return 0;
}

static void make_reservations(void *arg)
{
	static const struct nvme_reservation_ops ops = {load, save};

	ASSERT(nvme_reservations_new(sim.reactors[0], &ops, NULL, &reservations) == 0);
}

static void start_all(void)
{
	sim_rig_run(&sim, 0, make_reservations, NULL);
	for (unsigned i = 0; i < 2; i++) {
		rigs[i].namespaces[0].reservations = reservations;
		nvme_rig_start(&rigs[i]);
	}
}

static int set_up(void **state)
{
	memset(&stored, 0, sizeof(stored));
	saves = 0;
	save_error = 0;
	sim_rig_init(&sim, 5, 3);
	for (unsigned i = 0; i < 2; i++) {
		nvme_rig_init_in(&rigs[i], &sim);
		rigs[i].reactor = i;
		rigs[i].options.controller_id = (uint16_t)(10 + i);
	}
	volume = nvme_rig_add_memory(&rigs[0], 1, 2, MIB, 512);
	rigs[0].namespaces[0].shared = true;
	rigs[1].namespaces[0] = rigs[0].namespaces[0];
	rigs[1].namespace_count = 1;
	start_all();
	for (unsigned i = 0; i < 2; i++)
		nvme_rig_make_queues(&rigs[i], 1);
	return 0;
}

static int tear_down(void **state)
{
	for (unsigned i = 0; i < 2; i++)
		nvme_rig_done(&rigs[i]);
	nvme_reservations_free(reservations);
	block_volume_free(volume);
	sim_rig_done(&sim);
	return 0;
}

static uint16_t command(unsigned who, uint8_t opcode, uint32_t cdw10, uint64_t key, uint64_t other)
{
	struct nvme_sqe sqe = {.opcode = opcode, .nsid = 1, .dptr = {DATA}, .cdw10 = cdw10};
	uint64_t *keys = nvme_rig_at(&rigs[who], DATA);

	keys[0] = key;
	keys[1] = other;
	return nvme_rig_run(&rigs[who], 1, &sqe, NULL);
}

static uint16_t registers(unsigned who, unsigned action, uint64_t key, uint64_t new_key)
{
	return command(who, nvme_cmd_resv_register, action, key, new_key);
}

static uint16_t acquires(unsigned who, unsigned action, unsigned type, uint64_t key, uint64_t other)
{
	return command(who, nvme_cmd_resv_acquire, action | type << 8, key, other);
}

static uint16_t releases(unsigned who, unsigned action, unsigned type, uint64_t key)
{
	return command(who, nvme_cmd_resv_release, action | type << 8, key, 0);
}

static uint16_t io(unsigned who, uint8_t opcode)
{
	struct nvme_sqe sqe = nvme_rig_rw(opcode, 1, 0, 1, DATA);

	return nvme_rig_run(&rigs[who], 1, &sqe, NULL);
}

#define CONFLICT NVME_SC_RESERVATION_CONFLICT

static void exclusive_access_keeps_others_out(void **state)
{
	assert_int_equal(acquires(0, 0, NVME_RESERVATION_RTYPE_WE, 1, 0), CONFLICT);
	assert_int_equal(registers(0, 0, 0, 0), NVME_SC_INVALID_FIELD);
	assert_int_equal(registers(0, 0, 0, 100), 0);
	assert_int_equal(registers(0, 0, 0, 100), 0);
	assert_int_equal(registers(0, 0, 0, 101), CONFLICT);
	assert_int_equal(registers(0, 7, 0, 101), NVME_SC_INVALID_FIELD);
	assert_int_equal(acquires(0, 0, 9, 100, 0), NVME_SC_INVALID_FIELD);
	assert_int_equal(acquires(0, 0, NVME_RESERVATION_RTYPE_WE, 99, 0), CONFLICT);
	assert_int_equal(io(1, nvme_cmd_write), 0);
	assert_int_equal(acquires(0, 0, NVME_RESERVATION_RTYPE_WE, 100, 0), 0);
	assert_int_equal(io(0, nvme_cmd_write), 0);
	assert_int_equal(io(1, nvme_cmd_write), CONFLICT);
	assert_int_equal(io(1, nvme_cmd_write_zeroes), CONFLICT);
	assert_int_equal(io(1, nvme_cmd_read), 0);
	assert_int_equal(releases(0, 0, NVME_RESERVATION_RTYPE_EA, 100), NVME_SC_INVALID_FIELD);
	assert_int_equal(releases(0, 0, NVME_RESERVATION_RTYPE_WE, 100), 0);
	assert_int_equal(acquires(0, 0, NVME_RESERVATION_RTYPE_EA, 100, 0), 0);
	assert_int_equal(io(1, nvme_cmd_read), CONFLICT);
	assert_int_equal(io(1, nvme_cmd_compare), CONFLICT);
	assert_int_equal(io(1, nvme_cmd_verify), CONFLICT);
	assert_int_equal(registers(0, 1, 100, 0), 0); /* goes, and the reservation with it */
	assert_int_equal(io(1, nvme_cmd_write), 0);
	assert_int_equal(registers(0, 1, 100, 0), CONFLICT);
}

static void registrants_may_write(void **state)
{
	assert_int_equal(registers(0, 0, 0, 100), 0);
	assert_int_equal(acquires(0, 0, NVME_RESERVATION_RTYPE_EARO, 100, 0), 0);
	assert_int_equal(io(1, nvme_cmd_read), CONFLICT);
	assert_int_equal(registers(1, 0, 0, 200), 0);
	assert_int_equal(io(1, nvme_cmd_write), 0);
	assert_int_equal(registers(1, 2, 200, 201), 0);
	assert_int_equal(registers(1, 2, 200, 202), CONFLICT);
	assert_int_equal(acquires(1, 0, NVME_RESERVATION_RTYPE_EARO, 201, 0), CONFLICT);
	assert_int_equal(releases(1, 0, NVME_RESERVATION_RTYPE_EARO, 201), 0); /* not its own */
	assert_int_equal(acquires(1, 1, NVME_RESERVATION_RTYPE_WEAR, 201, 100), 0);
	assert_int_equal(io(0, nvme_cmd_write), CONFLICT);
	assert_int_equal(io(0, nvme_cmd_read), 0);
	assert_int_equal(registers(0, 0, 0, 100), 0);
	assert_int_equal(io(0, nvme_cmd_write), 0);
	assert_int_equal(acquires(0, 1, NVME_RESERVATION_RTYPE_WE, 100, 0), 0); /* all others */
	assert_int_equal(io(1, nvme_cmd_write), CONFLICT);
	assert_int_equal(releases(0, 1, 0, 100), 0);
	assert_int_equal(io(1, nvme_cmd_write), 0);
}

static void the_preempted_hear_of_it(void **state)
{
	struct nvme_sqe aer = {.opcode = nvme_admin_async_event};
	struct nvme_sqe log = {.opcode = nvme_admin_get_log_page,
			       .dptr = {DATA},
			       .cdw10 = NVME_LOG_LID_RESERVATION | 15 << 16};
	const struct nvme_resv_notification_log *page = nvme_rig_at(&rigs[0], DATA);
	struct nvme_cqe cqe;

	(void)nvme_rig_submit(&rigs[0], 0, &aer);
	assert_int_equal(registers(0, 0, 0, 100), 0);
	assert_int_equal(registers(1, 0, 0, 200), 0);
	assert_int_equal(acquires(0, 0, NVME_RESERVATION_RTYPE_WE, 100, 0), 0);
	assert_int_equal(acquires(1, 2, NVME_RESERVATION_RTYPE_WE, 200, 100), 0);
	assert_true(nvme_rig_take(&rigs[0], 0, &cqe));
	assert_int_equal(cqe.result, NVME_AER_CSS | NVME_LOG_LID_RESERVATION << 16);
	assert_int_equal(nvme_rig_run(&rigs[0], 0, &log, NULL), 0);
	assert_int_equal(page->rnlpt, NVME_NOTICE_REGISTRATION_PREEMPTED);
	assert_int_equal(page->nsid, 1);
	assert_int_equal(page->lpc, 1);
	assert_int_equal(nvme_rig_run(&rigs[0], 0, &log, NULL), 0);
	assert_int_equal(page->rnlpt, NVME_NOTICE_NONE);
}

static void report_names_registrants(void **state)
{
	struct nvme_sqe sqe = {
		.opcode = nvme_cmd_resv_report, .nsid = 1, .dptr = {DATA + 4096}, .cdw10 = 255};
	struct nvme_sqe feature = {.opcode = nvme_admin_set_features,
				   .dptr = {DATA},
				   .cdw10 = NVME_FEAT_FID_HOST_ID,
				   .cdw11 = 1};
	const unsigned char *page = nvme_rig_at(&rigs[0], DATA + 4096);

	memcpy(nvme_rig_at(&rigs[0], DATA), "the first host..", 16);
	assert_int_equal(nvme_rig_run(&rigs[0], 0, &feature, NULL), 0);
	assert_int_equal(registers(0, 0, 0, 100), 0);
	assert_int_equal(registers(1, 0, 0, 200), 0);
	assert_int_equal(acquires(1, 0, NVME_RESERVATION_RTYPE_WERO, 200, 0), 0);
	assert_int_equal(nvme_rig_run(&rigs[0], 1, &sqe, NULL), 0);
	assert_int_equal(get_le32(page), 2);
	assert_int_equal(page[4], NVME_RESERVATION_RTYPE_WERO);
	assert_int_equal(get_le16(page + 5), 2);
	assert_int_equal(get_le16(page + 24), 10);
	assert_int_equal(page[26], 0);
	assert_int_equal(get_le64(page + 24 + 16), 100);
	assert_int_equal(page[48 + 2], 1);
	sqe.cdw11 = 1; /* extended */
	assert_int_equal(nvme_rig_run(&rigs[0], 1, &sqe, NULL), 0);
	assert_memory_equal(page + 64 + 16, "the first host..", 16);
	assert_int_equal(get_le64(page + 128 + 8), 200);
	sqe.cdw10 = UINT32_MAX;
	assert_int_equal(nvme_rig_run(&rigs[0], 1, &sqe, NULL), NVME_SC_INVALID_FIELD);
}

/* Who says at last who it is, is that host from then on. */
static void a_host_may_be_named_late(void **state)
{
	struct nvme_sqe feature = {.opcode = nvme_admin_set_features,
				   .dptr = {DATA},
				   .cdw10 = NVME_FEAT_FID_HOST_ID,
				   .cdw11 = 1};

	assert_int_equal(registers(0, 0, 0, 100), 0);
	assert_int_equal(acquires(0, 0, NVME_RESERVATION_RTYPE_EA, 100, 0), 0);
	assert_int_equal(io(0, nvme_cmd_write), 0);
	memcpy(nvme_rig_at(&rigs[0], DATA), "somebody else...", 16);
	assert_int_equal(nvme_rig_run(&rigs[0], 0, &feature, NULL), 0);
	assert_int_equal(io(0, nvme_cmd_write), CONFLICT);
}

static void they_outlive_the_engine(void **state)
{
	assert_int_equal(registers(0, 0, 0, 100), 0);
	assert_int_equal(acquires(0, 0, NVME_RESERVATION_RTYPE_WE, 100, 0), 0);
	for (unsigned i = 0; i < 2; i++)
		nvme_rig_stop(&rigs[i]);
	nvme_reservations_free(reservations);
	start_all();
	assert_int_equal(io(1, nvme_cmd_write), CONFLICT);
	assert_int_equal(io(0, nvme_cmd_write), 0);
}

static void what_cannot_be_stored_has_not_happened(void **state)
{
	assert_int_equal(registers(0, 0, 0, 100), 0);
	save_error = -ENOSPC;
	assert_int_equal(acquires(0, 0, NVME_RESERVATION_RTYPE_WE, 100, 0), NVME_SC_CAP_EXCEEDED);
	save_error = 0;
	assert_int_equal(io(1, nvme_cmd_write), 0);
	assert_int_equal(acquires(0, 0, NVME_RESERVATION_RTYPE_WE, 100, 0), 0);
	assert_int_equal(io(1, nvme_cmd_write), CONFLICT);
}

/* The engine dies between storing a result and recording the completion. */
static void a_command_has_one_answer(void **state)
{
	struct nvme_reservation_state one = {0};
	struct nvme_reservation_command what = {.opcode = nvme_cmd_resv_register,
						.cdw10 = 0,
						.keys = {0, 5},
						.cntlid = 3,
						.sqid = 1,
						.epoch = 9,
						.sequence = 70};

	assert_int_equal(nvme_reservation_state_run(&one, &what), 0);
	what.cdw10 = NVME_RESERVATION_RREGA_REPLACE_KEY;
	what.keys[0] = 5;
	what.keys[1] = 6;
	what.sequence++;
	assert_int_equal(nvme_reservation_state_run(&one, &what), 0);
	assert_int_equal(nvme_reservation_state_run(&one, &what), 0);
	what.sequence++;
	assert_int_equal(nvme_reservation_state_run(&one, &what), CONFLICT);
	assert_true(nvme_reservation_state_check(&one));
	one.type = 3;
	one.holder = 7;
	assert_false(nvme_reservation_state_check(&one));
}

static void registrants_have_a_limit(void **state)
{
	struct nvme_reservation_state one = {0};
	struct nvme_reservation_command what = {.opcode = nvme_cmd_resv_register, .keys = {0, 5}};

	for (unsigned i = 0; i <= NVME_REGISTRANTS_MAX; i++) {
		what.host[0] = (uint8_t)(i + 1);
		what.sequence = i + 1;
		assert_int_equal(nvme_reservation_state_run(&one, &what),
				 i < NVME_REGISTRANTS_MAX ? 0 : NVME_SC_CAP_EXCEEDED);
	}
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(exclusive_access_keeps_others_out),
		TEST(registrants_may_write),
		TEST(the_preempted_hear_of_it),
		TEST(report_names_registrants),
		TEST(a_host_may_be_named_late),
		TEST(they_outlive_the_engine),
		TEST(what_cannot_be_stored_has_not_happened),
		cmocka_unit_test(a_command_has_one_answer),
		cmocka_unit_test(registrants_have_a_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
