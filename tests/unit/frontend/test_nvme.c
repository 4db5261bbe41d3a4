/* SPDX-License-Identifier: Apache-2.0 */
/* The controller as a driver sees it: start, queues, reads, writes, resets, a change of engines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <nvme/types.h>

#include "base/macros.h"
#include "nvme_rig.h"

#define VOLUME_BYTES (4 * MIB)

static struct nvme_rig rig;
static struct block_volume *volume;

static int set_up(void **state)
{
	nvme_rig_init(&rig, 1, 2);
	volume = nvme_rig_add_memory(&rig, 1, 0, VOLUME_BYTES, 512);
	nvme_rig_start(&rig);
	return 0;
}

static int tear_down(void **state)
{
	if (rig.controller)
		nvme_rig_stop(&rig);
	block_volume_free(volume);
	nvme_rig_done(&rig);
	return 0;
}

static uint16_t run_rw(uint8_t opcode, uint64_t lba, uint32_t blocks, uint64_t data)
{
	struct nvme_sqe sqe = nvme_rig_rw(opcode, 1, lba, blocks, data);

	return nvme_rig_run(&rig, 1, &sqe, NULL);
}

static void fill(uint64_t address, size_t length, unsigned char seed)
{
	unsigned char *at = nvme_rig_at(&rig, address);

	for (size_t i = 0; i < length; i++)
		at[i] = (unsigned char)(seed + i * 7);
}

static void a_driver_starts_it(void **state)
{
	struct nvme_sqe sqe = {.opcode = nvme_admin_identify, .dptr = {NVME_RIG_DATA}};
	const struct nvme_id_ctrl *id = nvme_rig_at(&rig, NVME_RIG_DATA);
	const struct nvme_id_ns *ns = nvme_rig_at(&rig, NVME_RIG_DATA);
	const uint32_t *list = nvme_rig_at(&rig, NVME_RIG_DATA);
	uint32_t result;

	nvme_rig_make_queues(&rig, 2);
	sqe.cdw10 = NVME_IDENTIFY_CNS_CTRL;
	assert_int_equal(nvme_rig_run(&rig, 0, &sqe, NULL), 0);
	assert_memory_equal(id->sn, "SARSEN0001          ", 20);
	assert_int_equal(id->nn, NVME_NAMESPACE_MAX);
	sqe.cdw10 = NVME_IDENTIFY_CNS_NS_ACTIVE_LIST;
	assert_int_equal(nvme_rig_run(&rig, 0, &sqe, NULL), 0);
	assert_int_equal(list[0], 1);
	assert_int_equal(list[1], 0);
	sqe.cdw10 = NVME_IDENTIFY_CNS_NS;
	sqe.nsid = 1;
	assert_int_equal(nvme_rig_run(&rig, 0, &sqe, NULL), 0);
	assert_int_equal(ns->nsze, VOLUME_BYTES / 512);
	sqe = (struct nvme_sqe){.opcode = nvme_admin_get_features,
				.cdw10 = NVME_FEAT_FID_NUM_QUEUES};
	assert_int_equal(nvme_rig_run(&rig, 0, &sqe, &result), 0);
	assert_int_equal(result, 127 << 16 | 127);
	assert_true(rig.interrupts[0] > 0);
}

static void grants_as_many_queues_as_allowed(void **state)
{
	struct nvme_sqe sqe = {.opcode = nvme_admin_get_features,
			       .cdw10 = NVME_FEAT_FID_NUM_QUEUES};
	uint32_t result;

	nvme_rig_stop(&rig);
	rig.options.io_queues = 2;
	nvme_rig_start(&rig);
	nvme_rig_make_queues(&rig, 2);
	for (uint32_t select = 0; select < 2; select++) { /* current, default */
		sqe.cdw10 = NVME_FEAT_FID_NUM_QUEUES | select << 8;
		assert_int_equal(nvme_rig_run(&rig, 0, &sqe, &result), 0);
		assert_int_equal(result, 1 << 16 | 1);
	}
	sqe = (struct nvme_sqe){.opcode = nvme_admin_create_cq,
				.dptr = {NVME_RIG_DATA},
				.cdw10 = 7 << 16 | 3,
				.cdw11 = 1};
	assert_int_equal(nvme_rig_run(&rig, 0, &sqe, NULL), 0x100 | NVME_SC_QID_INVALID);
	sqe.opcode = nvme_admin_create_sq;
	sqe.cdw11 = 1 << 16 | 1;
	assert_int_equal(nvme_rig_run(&rig, 0, &sqe, NULL), 0x100 | NVME_SC_QID_INVALID);
}

static void what_is_written_is_read(void **state)
{
	const uint64_t from = NVME_RIG_DATA, to = NVME_RIG_DATA + 0x10000;

	nvme_rig_make_queues(&rig, 1);
	fill(from, 8192, 3);
	assert_int_equal(run_rw(nvme_cmd_write, 5, 16, from), 0);
	assert_int_equal(run_rw(nvme_cmd_read, 5, 16, to), 0);
	assert_memory_equal(nvme_rig_at(&rig, from), nvme_rig_at(&rig, to), 8192);
	assert_int_equal(run_rw(nvme_cmd_compare, 5, 16, to), 0);
	assert_true(rig.interrupts[1] > 0);
	assert_int_equal(run_rw(nvme_cmd_flush, 0, 1, 0), 0);
}

static void queues_wrap(void **state)
{
	nvme_rig_make_queues(&rig, 1);
	for (unsigned round = 0; round < 5 * NVME_RIG_DEPTH; round++) {
		fill(NVME_RIG_DATA, 512, (unsigned char)round);
		assert_int_equal(run_rw(nvme_cmd_write, round, 1, NVME_RIG_DATA), 0);
	}
	for (unsigned round = 0; round < 5 * NVME_RIG_DEPTH; round++) {
		fill(NVME_RIG_DATA, 512, (unsigned char)round);
		assert_int_equal(run_rw(nvme_cmd_compare, round, 1, NVME_RIG_DATA), 0);
	}
}

static void a_reset_forgets_queues(void **state)
{
	nvme_rig_make_queues(&rig, 1);
	nvme_rig_write_cc(&rig, 0);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	assert_int_equal(rig.shared->registers.csts, 0);
	assert_int_equal(rig.shared->registers.disable_done, 1);
	nvme_rig_make_queues(&rig, 1);
	assert_int_equal(run_rw(nvme_cmd_write, 5, 16, NVME_RIG_DATA), 0);
	nvme_rig_device_reset(&rig);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	assert_int_equal(rig.shared->registers.csts, 0);
	assert_int_equal(rig.quiesced, 1);
}

static void another_engine_goes_on(void **state)
{
	struct nvme_sqe sqe = nvme_rig_rw(nvme_cmd_write, 1, 9, 4, NVME_RIG_DATA);
	struct nvme_cqe cqe;

	nvme_rig_make_queues(&rig, 1);
	for (unsigned i = 0; i < 3 * NVME_RIG_DEPTH; i++) {
		uint16_t cid;

		nvme_rig_stop(&rig);
		cid = nvme_rig_submit(&rig, 1, &sqe);
		nvme_rig_start(&rig);
		assert_true(nvme_rig_take(&rig, 1, &cqe));
		assert_int_equal(cqe.cid, cid);
		assert_int_equal(cqe.status >> 1, 0);
	}
	assert_false(nvme_rig_peek(&rig, 1, &cqe));
}

static void counters_go_on(void **state)
{
	struct nvme_sqe sqe = {.opcode = nvme_admin_get_log_page,
			       .nsid = NVME_NSID_ALL,
			       .dptr = {NVME_RIG_DATA},
			       .cdw10 = NVME_LOG_LID_SMART | 127u << 16};
	const struct nvme_smart_log *smart = nvme_rig_at(&rig, NVME_RIG_DATA);

	nvme_rig_make_queues(&rig, 1);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(run_rw(nvme_cmd_write, 0, 8, NVME_RIG_DATA), 0);
	assert_int_equal(run_rw(nvme_cmd_read, VOLUME_BYTES, 8, NVME_RIG_DATA), NVME_SC_LBA_RANGE);
	nvme_rig_stop(&rig);
	nvme_rig_start(&rig);
	nvme_rig_write_cc(&rig, 0);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	nvme_rig_make_queues(&rig, 1);
	assert_int_equal(run_rw(nvme_cmd_write, 0, 8, NVME_RIG_DATA), 0);
	assert_int_equal(nvme_rig_run(&rig, 0, &sqe, NULL), 0);
	assert_int_equal(smart->host_writes[0], 4);
	assert_int_equal(smart->data_units_written[0], 1);
	assert_int_equal(smart->num_err_log_entries[0], 1);
}

static void go_on(void *arg)
{
	assert_int_equal(nvme_controller_redone(rig.controller), NVME_REDO_STEPS);
	nvme_controller_go_on(rig.controller, *(unsigned *)arg);
}

/* Also after a reset: what the guest does next must not come before what others redo. */
static void a_gated_controller_takes_nothing(void **state)
{
	struct nvme_sqe sqe = {.opcode = nvme_admin_keep_alive};
	struct nvme_cqe cqe;

	nvme_rig_make_queues(&rig, 1);
	nvme_rig_stop(&rig);
	rig.options.gated = true;
	nvme_rig_start(&rig);
	nvme_rig_write_cc(&rig, 0);
	nvme_rig_sleep(&rig, NSEC_PER_MSEC);
	nvme_rig_enable(&rig);
	nvme_rig_submit(&rig, 0, &sqe);
	assert_false(nvme_rig_take(&rig, 0, &cqe));
	sim_rig_run(rig.sim, 0, go_on, &(unsigned){1});
	assert_false(nvme_rig_take(&rig, 0, &cqe));
	sim_rig_run(rig.sim, 0, go_on, &(unsigned){NVME_REDO_STEPS});
	assert_true(nvme_rig_take(&rig, 0, &cqe));
	assert_int_equal(cqe.status >> 1, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_driver_starts_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(grants_as_many_queues_as_allowed, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(what_is_written_is_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown(queues_wrap, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_reset_forgets_queues, set_up, tear_down),
		cmocka_unit_test_setup_teardown(another_engine_goes_on, set_up, tear_down),
		cmocka_unit_test_setup_teardown(counters_go_on, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_gated_controller_takes_nothing, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
