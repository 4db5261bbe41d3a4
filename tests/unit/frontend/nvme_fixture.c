/* SPDX-License-Identifier: Apache-2.0 */
#include "nvme_fixture.h"

struct nvme_rig rig;
struct block_volume *volumes[2];

int nvme_set_up(void **state)
{
	nvme_rig_init(&rig, 1, 2);
	volumes[0] = nvme_rig_add_memory(&rig, 1, 0, VOLUME_BYTES, 512);
	volumes[1] = nvme_rig_add_memory(&rig, 2, 1, VOLUME_BYTES, 4096);
	nvme_rig_start(&rig);
	return 0;
}

int nvme_set_up_queues(void **state)
{
	(void)nvme_set_up(state);
	nvme_rig_make_queues(&rig, 3);
	return 0;
}

int nvme_tear_down(void **state)
{
	if (rig.controller)
		nvme_rig_stop(&rig);
	block_volume_free(volumes[0]);
	block_volume_free(volumes[1]);
	nvme_rig_done(&rig);
	return 0;
}

void nvme_fill(uint64_t address, size_t length, unsigned seed)
{
	unsigned char *at = nvme_rig_at(&rig, address);

	for (size_t i = 0; i < length; i++)
		at[i] = (unsigned char)(seed + i * 7 + i / 512);
}

uint16_t nvme_io(uint8_t opcode, uint64_t lba, uint32_t blocks, uint64_t data)
{
	struct nvme_sqe sqe = nvme_rig_rw(opcode, 1, lba, blocks, data);

	return nvme_rig_run(&rig, 1, &sqe, NULL);
}

uint16_t nvme_admin(struct nvme_sqe sqe)
{
	return nvme_rig_run(&rig, 0, &sqe, NULL);
}
