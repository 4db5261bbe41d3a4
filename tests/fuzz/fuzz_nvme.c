/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: an NVMe controller and a hostile guest. The input is a list of steps (see enum
 * step): memory, commands, doorbells, registers, memory that goes, engines that come. Meanwhile a
 * second thread changes the guest's memory, queues included. Nothing may reach beyond it, and when
 * the guest is quiet everything must come to an end.
 */
#include <nvme/types.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "fuzz.h"
#include "nvme_rig.h"
#include "reactor/context.h"

#define STEPS_MAX  256u
#define VOLUME     (256 * KIB)
#define SCRIBBLED  (NVME_RIG_DATA + 256 * KIB)
#define FULL_FLAGS (VFU_MAP_READ | VFU_MAP_WRITE | VFU_MAP_MEMORY)

enum step {
	STEP_MEMORY,   /* address (4), length (1), bytes */
	STEP_COMMAND,  /* queue (1), 64 bytes */
	STEP_DOORBELL, /* index (1), value (4) */
	STEP_TIME,     /* units of 256 ns (2) */
	STEP_CC,       /* value (4) */
	STEP_UNMAP,
	STEP_MAP,
	STEP_ENGINE, /* another one */
	STEP_REAP,   /* queue (1) */
	STEP_RESET,
	STEP_COUNT,
};

struct input {
	const uint8_t *at;
	size_t left;
};

static struct nvme_rig rig;
static bool mapped;
static uint32_t map_id;
static atomic_bool stop;

static uint64_t take(struct input *input, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes && input->left > 0; i++, input->left--)
		value |= (uint64_t)*input->at++ << 8 * i;
	return value;
}

/* The second thread is a race by intent, which ThreadSanitizer rightly reports: in its build the
 * guest's memory holds still. */
#ifdef CONTEXT_TSAN
static const bool scribbles = false;
#else
static const bool scribbles = true;
#endif

static void *scribble(void *arg)
{
	uint64_t state = *(const uint64_t *)arg | 1;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		uint32_t *word;

		state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
		word = (uint32_t *)(rig.memory + ((state >> 33) % SCRIBBLED & ~UINT64_C(3)));
		__atomic_store_n(word, (uint32_t)(state >> 20), __ATOMIC_RELAXED);
	}
	return NULL;
}

static void do_unmap(void *arg)
{
	rig.unmapped_count = 0;
	nvme_controller_unmap(rig.controller, map_id);
}

static void do_map(void *arg)
{
	const struct vfu_map map = {0, NVME_RIG_BYTES, map_id + 100, FULL_FLAGS};

	ASSERT(nvme_controller_map(rig.controller, &map, rig.memory) == 0);
	map_id = map.id;
}

static void set_mapped(bool to)
{
	if (mapped != to)
		sim_rig_run(rig.sim, 0, to ? do_map : do_unmap, NULL);
	mapped = to;
}

static void step_memory(struct input *input)
{
	uint64_t address = take(input, 4) % (NVME_RIG_BYTES - 256);
	uint64_t length = take(input, 1);

	for (uint64_t i = 0; i < length; i++)
		rig.memory[address + i] = (uint8_t)take(input, 1);
}

static void step_command(struct input *input)
{
	unsigned queue = (unsigned)take(input, 1) % 4;
	struct nvme_sqe sqe;

	for (unsigned i = 0; i < sizeof(sqe); i++)
		((uint8_t *)&sqe)[i] = (uint8_t)take(input, 1);
	if (rig.queues[queue].sq_depth == 0)
		return;
	(void)nvme_rig_push(&rig, queue, &sqe);
	nvme_rig_ring(&rig, queue);
}

static void step_doorbell(struct input *input)
{
	uint32_t *words = (uint32_t *)rig.doorbells;

	vfu_store(&words[take(input, 1) * 4 % (VFU_PAGE_BYTES / 4)], (uint32_t)take(input, 4));
	nvme_rig_kick(&rig);
}

static void step_engine(void)
{
	nvme_rig_stop(&rig);
	nvme_rig_start(&rig);
	map_id = 1;
	mapped = true;
}

static void step(struct input *input)
{
	struct nvme_cqe cqe;
	unsigned queue;

	switch ((enum step)(take(input, 1) % STEP_COUNT)) {
	case STEP_MEMORY:
		step_memory(input);
		break;
	case STEP_COMMAND:
		step_command(input);
		break;
	case STEP_DOORBELL:
		step_doorbell(input);
		break;
	case STEP_TIME:
		nvme_rig_sleep(&rig, take(input, 2) * 256);
		break;
	case STEP_CC:
		nvme_rig_write_cc(&rig, (uint32_t)take(input, 4));
		break;
	case STEP_UNMAP:
		set_mapped(false);
		break;
	case STEP_MAP:
		set_mapped(true);
		break;
	case STEP_ENGINE:
		step_engine();
		break;
	case STEP_REAP:
		queue = (unsigned)take(input, 1) % 4;
		if (rig.queues[queue].cq_depth > 0)
			(void)nvme_rig_peek(&rig, queue, &cqe);
		break;
	case STEP_RESET:
		nvme_rig_device_reset(&rig);
		break;
	default:
		break;
	}
}

static bool is_quiet(void *arg)
{
	return rig.quiesced == rig.shared->registers.reset_count;
}

static void silent(enum log_level level, const char *line, void *arg)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	struct block_volume *volumes[2];
	uint64_t seed = take(&input, 2);
	pthread_t thread;

	log_set_sink(silent, NULL);
	nvme_rig_init(&rig, 1, 2);
	volumes[0] = nvme_rig_add_memory(&rig, 1, 0, VOLUME, 512);
	volumes[1] = nvme_rig_add_memory(&rig, 2, 1, VOLUME, 4096);
	nvme_rig_start(&rig);
	nvme_rig_make_queues(&rig, 3);
	map_id = 1;
	mapped = true;
	atomic_store(&stop, false);
	if (scribbles)
		ASSERT(pthread_create(&thread, NULL, scribble, &seed) == 0);
	for (unsigned i = 0; i < STEPS_MAX && input.left > 0; i++)
		step(&input);
	/* Whatever was done, a reset ends it. */
	nvme_rig_device_reset(&rig);
	ASSERT(sim_run_until(rig.sim->sim, is_quiet, NULL, 10 * NSEC_PER_SEC) == 0);
	atomic_store(&stop, true);
	if (scribbles)
		(void)pthread_join(thread, NULL);
	nvme_rig_stop(&rig);
	block_volume_free(volumes[0]);
	block_volume_free(volumes[1]);
	nvme_rig_done(&rig);
	return 0;
}
