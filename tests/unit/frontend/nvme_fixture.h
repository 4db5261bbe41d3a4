/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* One controller for a test: two namespaces on memory volumes, 512 and 4096 bytes a block, the
 * second on another reactor. */
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
#define BLOCKS       (VOLUME_BYTES / 512)
#define DATA         NVME_RIG_DATA
#define OTHER        (NVME_RIG_DATA + 2 * MIB)

#define SPECIFIC(code) (0x100 | (code))
#define MEDIA(code)    (0x200 | (code))

extern struct nvme_rig rig;
extern struct block_volume *volumes[2];

int nvme_set_up(void **state);        /* started, not enabled */
int nvme_set_up_queues(void **state); /* enabled, with I/O queues 1 to 3 */
int nvme_tear_down(void **state);

void nvme_fill(uint64_t address, size_t length, unsigned seed);
/* On queue 1, namespace 1. */
uint16_t nvme_io(uint8_t opcode, uint64_t lba, uint32_t blocks, uint64_t data);
uint16_t nvme_admin(struct nvme_sqe sqe);

#define NVME_TEST(function) \
	cmocka_unit_test_setup_teardown(function, nvme_set_up_queues, nvme_tear_down)
