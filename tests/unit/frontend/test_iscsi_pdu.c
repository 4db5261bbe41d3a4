/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/iscsi/pdu.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void luns_of_one_level(void **state)
{
	uint8_t field[8];

	(void)state;
	for (unsigned lun = 0; lun < 0x4000; lun += 85) {
		iscsi_pdu_put_lun(field, (uint16_t)lun);
		assert_int_equal(iscsi_pdu_get_lun(field), lun);
	}
	memcpy(field, "\x40\x05\0\0\0\0\0\0", 8); /* flat addressing of a small one */
	assert_int_equal(iscsi_pdu_get_lun(field), 5);
	memcpy(field, "\x01\x05\0\0\0\0\0\0", 8); /* another bus */
	assert_int_equal(iscsi_pdu_get_lun(field), -EINVAL);
	memcpy(field, "\0\x05\0\x01\0\0\0\0", 8); /* a second level */
	assert_int_equal(iscsi_pdu_get_lun(field), -EINVAL);
	memcpy(field, "\xc1\x01\0\0\0\0\0\0", 8); /* well-known */
	assert_int_equal(iscsi_pdu_get_lun(field), -EINVAL);
}

static void checks_headers(void **state)
{
	struct iscsi_bhs bhs = {.opcode = ISCSI_OP_NOP_OUT | ISCSI_IMMEDIATE_BIT,
				.flags = ISCSI_FINAL_BIT};

	(void)state;
	assert_int_equal(iscsi_pdu_check(&bhs), 0);
	bhs.flags = 0;
	assert_int_equal(iscsi_pdu_check(&bhs), ISCSI_REJECT_INVALID_FIELD);
	bhs.flags = ISCSI_FINAL_BIT;
	bhs.ahs_words = 1;
	assert_int_equal(iscsi_pdu_check(&bhs), ISCSI_REJECT_INVALID_FIELD);
	bhs.opcode = ISCSI_OP_SCSI_COMMAND;
	assert_int_equal(iscsi_pdu_check(&bhs), 0);
	bhs.ahs_words = 0;
	bhs.opcode = ISCSI_OP_TASK_MANAGEMENT;
	put_be24(bhs.data_length, 4);
	assert_int_equal(iscsi_pdu_check(&bhs), ISCSI_REJECT_INVALID_FIELD);
	bhs.opcode = ISCSI_OP_SNACK;
	assert_int_equal(iscsi_pdu_check(&bhs), ISCSI_REJECT_SNACK);
	for (unsigned opcode = 0x11; opcode < 0x40; opcode++) {
		bhs.opcode = (uint8_t)opcode;
		assert_int_equal(iscsi_pdu_check(&bhs), ISCSI_REJECT_NOT_SUPPORTED);
	}
	for (unsigned opcode = 0x07; opcode < 0x10; opcode++) {
		bhs.opcode = (uint8_t)opcode;
		assert_int_equal(iscsi_pdu_check(&bhs), ISCSI_REJECT_NOT_SUPPORTED);
	}
}

static void extended_cdb(void **state)
{
	struct iscsi_scsi_command command = {.ahs_words = 5};
	uint8_t ahs[20] = {0, 17, 1}, cdb[32];

	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		command.cdb[i] = (uint8_t)i;
		ahs[4 + i] = (uint8_t)(16 + i);
	}
	assert_int_equal(iscsi_pdu_get_cdb(&command, ahs, cdb, sizeof(cdb)), 32);
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(cdb[i], i);
	assert_int_equal(iscsi_pdu_get_cdb(&command, ahs, cdb, 31), -EINVAL);
	ahs[1] = 18; /* one more byte than there is */
	assert_int_equal(iscsi_pdu_get_cdb(&command, ahs, cdb, sizeof(cdb)), -EINVAL);
	ahs[1] = 0;
	assert_int_equal(iscsi_pdu_get_cdb(&command, ahs, cdb, sizeof(cdb)), -EINVAL);
	command.ahs_words = 0;
	assert_int_equal(iscsi_pdu_get_cdb(&command, NULL, cdb, sizeof(cdb)), 16);
	assert_int_equal(cdb[16], 0);
}

static void unknown_additional_header(void **state)
{
	struct iscsi_scsi_command command = {.ahs_words = 2};
	uint8_t cdb[32];
	uint8_t bidi[8] = {0, 5, 2}, unknown[8] = {0, 5, 9}, overlong[8] = {0xff, 0xff, 1};

	(void)state;
	assert_int_equal(iscsi_pdu_get_cdb(&command, bidi, cdb, sizeof(cdb)), 16);
	assert_int_equal(iscsi_pdu_get_cdb(&command, unknown, cdb, sizeof(cdb)), -EINVAL);
	assert_int_equal(iscsi_pdu_get_cdb(&command, overlong, cdb, sizeof(cdb)), -EINVAL);
}

static void serial_numbers_wrap(void **state)
{
	(void)state;
	assert_true(iscsi_sn_before(0xffffffff, 0));
	assert_true(iscsi_sn_before(1, 2));
	assert_false(iscsi_sn_before(2, 2));
	assert_false(iscsi_sn_before(0, 0xffffffff));
	assert_int_equal(iscsi_pdu_pad(0), 0);
	assert_int_equal(iscsi_pdu_pad(1), 3);
	assert_int_equal(iscsi_pdu_pad(4), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(luns_of_one_level),   cmocka_unit_test(checks_headers),
		cmocka_unit_test(extended_cdb),        cmocka_unit_test(unknown_additional_header),
		cmocka_unit_test(serial_numbers_wrap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
