/* SPDX-License-Identifier: Apache-2.0 */
#include "nvme_rig.h"

#include <nvme/types.h>
#include <string.h>

#include "block/memory.h"

#define ADMIN_SQ    UINT64_C(0x1000)
#define ADMIN_CQ    UINT64_C(0x2000)
#define QUEUES_FROM UINT64_C(0x10000)
#define CC_ENABLED  (1u | 6u << 16 | 4u << 20)
#define SECOND      (NSEC_PER_SEC)

static void on_interrupt(void *context, unsigned vector)
{
	struct nvme_rig *rig = context;

	ASSERT(vector < VFU_VECTOR_COUNT);
	rig->interrupts[vector]++;
}

static void on_unmapped(void *context, uint32_t id)
{
	struct nvme_rig *rig = context;

	ASSERT(rig->unmapped_count < ARRAY_SIZE(rig->unmapped));
	rig->unmapped[rig->unmapped_count++] = id;
}

static void on_quiesced(void *context, uint32_t reset_count)
{
	struct nvme_rig *rig = context;

	rig->quiesced = reset_count;
}

static void on_point(void *context, enum nvme_point point)
{
	struct nvme_rig *rig = context;

	rig->points[point]++;
	if (rig->on_point)
		rig->on_point(rig, point);
}

static int on_formatted(void *context, uint32_t nsid, uint32_t block_bytes)
{
	struct nvme_rig *rig = context;

	rig->formatted = rig->format_error ? 0 : block_bytes;
	for (unsigned i = 0; i < rig->namespace_count && !rig->format_error; i++)
		if (rig->namespaces[i].nsid == nsid)
			rig->namespaces[i].block_bytes = block_bytes;
	return rig->format_error;
}

static int on_manage(void *context, struct nvme_management *what)
{
	struct nvme_rig *rig = context;

	fiber_sleep(NSEC_PER_MSEC);
	rig->manage_count++;
	rig->managed = *what;
	if (what->kind == NVME_MANAGE_CREATE)
		what->nsid = 77;
	return rig->manage_result;
}

static const struct nvme_host_ops host_ops = {
	.interrupt = on_interrupt,
	.unmapped = on_unmapped,
	.quiesced = on_quiesced,
	.formatted = on_formatted,
	.manage = on_manage,
	.point = on_point,
};

static void *allocate(size_t bytes)
{
	void *at = aligned_alloc(4096, ALIGN_UP(bytes, (size_t)4096));

	ASSERT(at);
	memset(at, 0, bytes);
	return at;
}

void nvme_rig_init(struct nvme_rig *rig, uint64_t seed, unsigned reactors)
{
	struct sim_rig *sim = calloc(1, sizeof(*sim));

	ASSERT(sim);
	sim_rig_init(sim, seed, reactors);
	nvme_rig_init_in(rig, sim);
	rig->own = sim;
}

void nvme_rig_init_in(struct nvme_rig *rig, struct sim_rig *sim)
{
	memset(rig, 0, sizeof(*rig));
	rig->sim = sim;
	rig->shared = allocate(sizeof(*rig->shared));
	rig->doorbells = allocate(sizeof(*rig->doorbells));
	rig->memory = allocate(NVME_RIG_BYTES);
	rig->high = allocate(NVME_RIG_HIGH_BYTES);
	rig->shared->magic = VFU_SHARED_MAGIC;
	rig->shared->version = VFU_SHARED_VERSION;
	rig->shared->bytes = sizeof(*rig->shared);
	rig->shared->msix_enabled = 1;
	rig->shared->registers.cap = VFU_CAP;
	rig->shared->registers.vs = VFU_VS;
	rig->options = (struct nvme_controller_options){
		.host = &host_ops,
		.host_context = rig,
		.name = "test",
		.serial = "SARSEN0001",
		.model = "Sarsen",
		.controller_id = 1,
		.subsystem_id = 7,
	};
}

void nvme_rig_done(struct nvme_rig *rig)
{
	if (rig->controller)
		nvme_rig_stop(rig);
	if (rig->own)
		sim_rig_done(rig->own);
	free(rig->own);
	free(rig->shared);
	free(rig->doorbells);
	free(rig->memory);
	free(rig->high);
}

struct block_volume *nvme_rig_add_memory(struct nvme_rig *rig, uint32_t nsid, unsigned reactor,
					 uint64_t bytes, uint32_t block_bytes)
{
	struct block_volume *volume;

	ASSERT(memory_volume_new(rig->sim->reactors[reactor], bytes, block_bytes, &volume) == 0);
	ASSERT(rig->namespace_count < ARRAY_SIZE(rig->namespaces));
	rig->namespaces[rig->namespace_count++] = (struct nvme_namespace_options){
		.nsid = nsid,
		.volume = volume,
		.nguid = {0x1122334455667788, nsid},
		.eui64 = 0x0011223344556600 + nsid,
		.thin = true,
	};
	return volume;
}

static void do_start(void *arg)
{
	struct nvme_rig *rig = arg;
	const unsigned flags = VFU_MAP_READ | VFU_MAP_WRITE | VFU_MAP_MEMORY;
	const struct vfu_map low = {0, NVME_RIG_BYTES, 1, flags};
	const struct vfu_map high = {NVME_RIG_HIGH, NVME_RIG_HIGH_BYTES, 2, flags};

	ASSERT(nvme_controller_map(rig->controller, &low, rig->memory) == 0);
	if (!rig->without_high)
		ASSERT(nvme_controller_map(rig->controller, &high, rig->high) == 0);
	for (unsigned i = 0; i < rig->namespace_count; i++)
		ASSERT(nvme_namespace_attach(rig->controller, &rig->namespaces[i]) == 0);
	nvme_controller_start(rig->controller);
}

void nvme_rig_start(struct nvme_rig *rig)
{
	rig->options.home = rig->sim->reactors[rig->reactor];
	ASSERT(!rig->controller);
	rig->shared->engine_epoch++;
	ASSERT(nvme_controller_new(&rig->options, rig->shared, rig->doorbells, &rig->controller) ==
	       0);
	sim_rig_run(rig->sim, rig->reactor, do_start, rig);
}

static void do_stop(void *arg)
{
	struct nvme_rig *rig = arg;

	nvme_controller_stop(rig->controller);
	nvme_controller_free(rig->controller);
}

void nvme_rig_stop(struct nvme_rig *rig)
{
	sim_rig_run(rig->sim, rig->reactor, do_stop, rig);
	rig->controller = NULL;
}

static void run_kick(struct world_message *message)
{
	struct nvme_rig *rig = CONTAINER_OF(message, struct nvme_rig, kick);

	rig->kick_pending = false;
	if (rig->controller)
		nvme_controller_kick(rig->controller);
}

void nvme_rig_kick(struct nvme_rig *rig)
{
	rig->kicks++;
	if (rig->kick_pending)
		return;
	rig->kick_pending = true;
	rig->kick.run = run_kick;
	reactor_post(rig->sim->reactors[rig->reactor], &rig->kick);
}

void nvme_rig_write_cc(struct nvme_rig *rig, uint32_t cc)
{
	struct vfu_registers *registers = &rig->shared->registers;
	bool falls = (registers->cc & 1) && !(cc & 1);

	vfu_store(&registers->cc, cc);
	if (falls)
		vfu_store(&registers->disable_count, registers->disable_count + 1);
	nvme_rig_kick(rig);
}

void nvme_rig_device_reset(struct nvme_rig *rig)
{
	struct vfu_registers *registers = &rig->shared->registers;

	vfu_store(&registers->cc, 0);
	vfu_store(&registers->reset_count, registers->reset_count + 1);
	nvme_rig_kick(rig);
}

static bool is_ready(void *arg)
{
	const struct nvme_rig *rig = arg;

	return rig->shared->registers.csts & 1;
}

static void reset_queue(struct nvme_rig *rig, unsigned id)
{
	struct nvme_rig_queue *queue = &rig->queues[id];

	*queue = (struct nvme_rig_queue){
		.sq_base = id ? QUEUES_FROM + id * 0x10000 : ADMIN_SQ,
		.cq_base = id ? QUEUES_FROM + id * 0x10000 + 0x8000 : ADMIN_CQ,
		.sq_depth = id ? NVME_RIG_DEPTH : NVME_RIG_ADMIN_DEPTH,
		.cq_depth = id ? NVME_RIG_DEPTH : NVME_RIG_ADMIN_DEPTH,
		.phase = true,
	};
	if (id > 0 && rig->cq_depth > 0)
		queue->cq_depth = rig->cq_depth;
	memset(rig->memory + queue->cq_base, 0, 0x1000);
}

void nvme_rig_enable(struct nvme_rig *rig)
{
	struct vfu_registers *registers = &rig->shared->registers;

	for (unsigned i = 0; i < NVME_RIG_QUEUES; i++)
		reset_queue(rig, i);
	rig->shadow = rig->events = 0;
	registers->aqa = (NVME_RIG_ADMIN_DEPTH - 1) << 16 | (NVME_RIG_ADMIN_DEPTH - 1);
	registers->asq = ADMIN_SQ;
	registers->acq = ADMIN_CQ;
	nvme_rig_write_cc(rig, CC_ENABLED);
	ASSERT(sim_run_until(rig->sim->sim, is_ready, rig, SECOND) == 0);
}

void nvme_rig_make_queues(struct nvme_rig *rig, unsigned count)
{
	nvme_rig_enable(rig);
	for (uint32_t id = 1; id <= count; id++) {
		struct nvme_sqe cq = {.opcode = nvme_admin_create_cq}, sq = cq;

		cq.dptr[0] = rig->queues[id].cq_base;
		cq.cdw10 = id | (rig->queues[id].cq_depth - 1) << 16;
		cq.cdw11 = 3 | id << 16;
		ASSERT(nvme_rig_run(rig, 0, &cq, NULL) == 0);
		sq.opcode = nvme_admin_create_sq;
		sq.dptr[0] = rig->queues[id].sq_base;
		sq.cdw10 = id | (rig->queues[id].sq_depth - 1) << 16;
		sq.cdw11 = 1 | id << 16;
		ASSERT(nvme_rig_run(rig, 0, &sq, NULL) == 0);
	}
}

/* Linux's rule: is the doorbell itself to be written? */
static bool needs_event(uint32_t event, uint32_t new, uint32_t old)
{
	return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

static void write_doorbell(struct nvme_rig *rig, unsigned id, bool completion, uint32_t value)
{
	uint32_t *doorbell = completion ? &rig->doorbells->queues[id].cq_head
					: &rig->doorbells->queues[id].sq_tail;
	unsigned index = 2 * id + completion;

	if (rig->shadow && id > 0) {
		uint32_t *shadow = (uint32_t *)nvme_rig_at(rig, rig->shadow) + index;
		uint32_t *event = (uint32_t *)nvme_rig_at(rig, rig->events) + index;
		uint32_t old = vfu_load(shadow);

		vfu_store(shadow, value);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (!needs_event(vfu_load(event), value, old))
			return;
	}
	vfu_store(doorbell, value);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!rig->shared->doorbells_mapped && vfu_load(&rig->shared->engine_asleep))
		nvme_rig_kick(rig);
}

void nvme_rig_ring(struct nvme_rig *rig, unsigned queue)
{
	write_doorbell(rig, queue, false, rig->queues[queue].tail);
}

uint16_t nvme_rig_push(struct nvme_rig *rig, unsigned id, struct nvme_sqe *sqe)
{
	struct nvme_rig_queue *queue = &rig->queues[id];

	sqe->cid = ++rig->next_cid;
	memcpy(nvme_rig_at(rig, queue->sq_base + queue->tail * sizeof(*sqe)), sqe, sizeof(*sqe));
	queue->tail = (queue->tail + 1) % queue->sq_depth;
	return sqe->cid;
}

uint16_t nvme_rig_submit(struct nvme_rig *rig, unsigned queue, struct nvme_sqe *sqe)
{
	uint16_t cid = nvme_rig_push(rig, queue, sqe);

	nvme_rig_ring(rig, queue);
	return cid;
}

bool nvme_rig_peek(struct nvme_rig *rig, unsigned id, struct nvme_cqe *ret_cqe)
{
	struct nvme_rig_queue *queue = &rig->queues[id];
	const struct nvme_cqe *cqe = nvme_rig_at(rig, queue->cq_base + queue->head * sizeof(*cqe));

	if ((vfu_load(&cqe->status) & 1) != queue->phase)
		return false;
	*ret_cqe = *cqe;
	if (++queue->head == queue->cq_depth) {
		queue->head = 0;
		queue->phase = !queue->phase;
	}
	write_doorbell(rig, id, true, queue->head);
	return true;
}

struct completion_wait {
	struct nvme_rig *rig;
	unsigned queue;
};

static bool has_completion(void *arg)
{
	const struct completion_wait *wait = arg;
	const struct nvme_rig_queue *queue = &wait->rig->queues[wait->queue];
	const struct nvme_cqe *cqe =
		nvme_rig_at(wait->rig, queue->cq_base + queue->head * sizeof(*cqe));

	return (cqe->status & 1) == queue->phase;
}

bool nvme_rig_take(struct nvme_rig *rig, unsigned queue, struct nvme_cqe *ret_cqe)
{
	struct completion_wait wait = {rig, queue};

	(void)sim_run_until(rig->sim->sim, has_completion, &wait, SECOND);
	return nvme_rig_peek(rig, queue, ret_cqe);
}

uint16_t nvme_rig_run(struct nvme_rig *rig, unsigned queue, struct nvme_sqe *sqe,
		      uint32_t *ret_result)
{
	uint16_t cid = nvme_rig_submit(rig, queue, sqe);
	struct nvme_cqe cqe;

	ASSERT(nvme_rig_take(rig, queue, &cqe));
	ASSERT(cqe.cid == cid && cqe.sqid == queue);
	if (ret_result)
		*ret_result = cqe.result;
	return cqe.status >> 1 & 0x7ff;
}

static bool never(void *arg)
{
	return false;
}

void nvme_rig_sleep(struct nvme_rig *rig, uint64_t duration_ns)
{
	(void)sim_run_until(rig->sim->sim, never, NULL, duration_ns);
}

struct nvme_sqe nvme_rig_rw(uint8_t opcode, uint32_t nsid, uint64_t lba, uint32_t blocks,
			    uint64_t data)
{
	return (struct nvme_sqe){
		.opcode = opcode,
		.nsid = nsid,
		.dptr = {data, data + 4096},
		.cdw10 = (uint32_t)lba,
		.cdw11 = (uint32_t)(lba >> 32),
		.cdw12 = blocks - 1,
	};
}
