/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A controller: its life, its registers, and when it looks at its queues.
 *
 * Phases: idle until nvme_controller_start(); serving; draining while a reset waits for the
 * commands in flight; stopping when this engine ends.
 *
 * Invariants
 *  1. Commands are taken only while serving, with RDY set and nothing left to recover first.
 *  2. A reset is told as done (disable_done, reset_done) only after no command is in flight, no
 *     completion of an old command can be posted any more, and RDY is 0.
 *  3. While the poller sleeps, the event indexes and engine_asleep are armed, and after a full
 *     barrier no doorbell had moved: whoever moves one later wakes us (rule 8). With doorbells that
 *     nobody traps a timer looks, at growing intervals.
 *
 * Home: options.home. Failure modes: what the guest does wrong ends in a status, an event or
 * CSTS.CFS; -ESHUTDOWN from a volume means that this engine is dying, and leaves the command to the
 * next.
 */
#include "frontend/nvme/nvme_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "base/reached.h"

#define POLL_PAUSE_MIN_NS (20 * NSEC_PER_USEC) /* mapped doorbells: first pause */
#define POLL_PAUSE_MAX_NS NSEC_PER_MSEC

static bool controller_is_ready(const struct nvme_controller *controller)
{
	return NVME_CSTS_RDY(controller->shared->registers.csts);
}

bool nvme_controller_reset_pending(const struct nvme_controller *controller)
{
	const struct vfu_registers *registers = &controller->shared->registers;

	return vfu_load(&registers->disable_count) != registers->disable_done ||
	       vfu_load(&registers->reset_count) != registers->reset_done;
}

static bool controller_registers_changed(const struct nvme_controller *controller)
{
	return vfu_load(&controller->shared->registers.cc) != controller->cc_seen ||
	       nvme_controller_reset_pending(controller);
}

void nvme_controller_fail(struct nvme_controller *controller, const char *why)
{
	struct vfu_registers *registers = &controller->shared->registers;

	log_warning("nvme", "the guest has left the controller no way to go on",
		    "controller=\"%s\" why=\"%s\"", controller->options.name, why);
	vfu_store(&registers->csts, registers->csts | NVME_CSTS_CFS_MASK << NVME_CSTS_CFS_SHIFT);
	controller->stats.fatal = true;
}

/* --- enabling: 3.1.5, 3.1.8 to 3.1.10 --- */

static const char *controller_open_admin(struct nvme_controller *controller)
{
	struct vfu_shared *shared = controller->shared;
	const struct vfu_registers *registers = &shared->registers;
	uint32_t cc = registers->cc, aqa = registers->aqa;
	uint16_t sq_depth = (uint16_t)(NVME_AQA_ASQS(aqa) + 1);
	uint16_t cq_depth = (uint16_t)(NVME_AQA_ACQS(aqa) + 1);

	if (NVME_CC_CSS(cc) != NVME_CC_CSS_NVM || NVME_CC_MPS(cc) || NVME_CC_AMS(cc))
		return "CC asks for what CAP does not offer";
	if (sq_depth < 2 || cq_depth < 2)
		return "AQA: a queue of one entry";
	if ((registers->asq | registers->acq) & (VFU_PAGE_BYTES - 1))
		return "ASQ or ACQ is not a page";
	shared->cqs[0] = (struct vfu_cq){
		.base = registers->acq,
		.state = VFU_QUEUE_LIVE,
		.depth = cq_depth,
		.interrupts = 1,
	};
	shared->sqs[0] = (struct vfu_sq){
		.base = registers->asq,
		.state = VFU_QUEUE_LIVE,
		.depth = sq_depth,
		.epoch = (uint32_t)++shared->admin.generation,
	};
	memset(controller->doorbells, 0, sizeof(*controller->doorbells));
	nvme_queue_open_cq(controller, 0);
	nvme_queue_open_sq(controller, 0);
	if (!controller->sqs[0].entries || !controller->cqs[0].entries)
		return "ASQ or ACQ is not in memory";
	return NULL;
}

static void controller_enable(struct nvme_controller *controller)
{
	const char *why = controller_open_admin(controller);

	if (why) {
		nvme_recover_forget(controller);
		nvme_controller_fail(controller, why);
		return;
	}
	nvme_feature_reset(controller);
	nvme_namespace_seen(controller, false);
	vfu_store(&controller->shared->registers.csts, NVME_CSTS_RDY_MASK);
	controller->stats.ready = true;
	reactor_poller_wake(controller->home, &controller->poller);
}

/* --- resets --- */

static void controller_finish_reset(struct nvme_controller *controller)
{
	struct vfu_registers *registers = &controller->shared->registers;
	bool device_reset = controller->reset_seen != registers->reset_done;

	nvme_recover_forget(controller);
	nvme_keep_alive_stop(controller);
	controller->stats.ready = controller->stats.fatal = controller->stats.shutdown = false;
	registers->shutdown_done = 0;
	vfu_store(&registers->csts, 0);
	nvme_point(controller, NVME_POINT_RESET);
	vfu_store(&registers->disable_done, controller->disable_seen);
	vfu_store(&registers->reset_done, controller->reset_seen);
	controller->phase = NVME_SERVING;
	if (device_reset)
		controller->host->quiesced(controller->host_context, controller->reset_seen);
}

static void controller_reset(struct nvme_controller *controller)
{
	const struct vfu_registers *registers = &controller->shared->registers;

	while (controller->phase == NVME_DRAINING || nvme_controller_reset_pending(controller)) {
		if (controller->phase == NVME_SERVING) {
			controller->disable_seen = vfu_load(&registers->disable_count);
			controller->reset_seen = vfu_load(&registers->reset_count);
			controller->phase = NVME_DRAINING;
		}
		if (controller->in_flight > 0 || controller->shutdown_runs) {
			REACHED("nvme.reset-waits");
			return;
		}
		controller_finish_reset(controller);
	}
}

/* --- shutdown: 3.1.5 CC.SHN --- */

static void controller_flush_all(struct nvme_controller *controller)
{
	for (uint32_t nsid = 1; nsid <= NVME_NAMESPACE_MAX; nsid++) {
		struct nvme_ns *ns = nvme_namespace_get(controller, nsid);

		if (!ns)
			continue;
		ns->commands++;
		/* A failed sync is the volume's to report: the guest gets no answer here. */
		(void)block_io(ns->volume, BLOCK_FLUSH, 0, NULL, 0, 0);
		if (--ns->commands == 0 && ns->detaching)
			fiber_queue_wake_all(&controller->idle);
	}
}

static void controller_run_shutdown(struct fiber_task *task)
{
	struct nvme_controller *controller =
		CONTAINER_OF(task, struct nvme_controller, shutdown_task);
	struct vfu_registers *registers = &controller->shared->registers;

	controller_flush_all(controller);
	controller->shutdown_runs = false;
	if (controller->phase == NVME_SERVING && !nvme_controller_reset_pending(controller)) {
		registers->shutdown_done = controller->shutdown_kind;
		vfu_store(&registers->csts,
			  (registers->csts & ~(NVME_CSTS_SHST_MASK << NVME_CSTS_SHST_SHIFT)) |
				  NVME_CSTS_SHST_CMPLT << NVME_CSTS_SHST_SHIFT);
		controller->stats.shutdown = true;
	}
	nvme_controller_progress_later(controller);
}

static void controller_shut_down(struct nvme_controller *controller, uint32_t kind)
{
	struct vfu_registers *registers = &controller->shared->registers;

	nvme_keep_alive_stop(controller);
	controller->shutdown_kind = kind;
	controller->shutdown_runs = true;
	vfu_store(&registers->csts, registers->csts | NVME_CSTS_SHST_OCCUR << NVME_CSTS_SHST_SHIFT);
	controller->shutdown_task = (struct fiber_task){.run = controller_run_shutdown};
	fiber_spawn(controller->home, FIBER_CONTROL, &controller->shutdown_task);
}

static void controller_read_cc(struct nvme_controller *controller)
{
	const struct vfu_registers *registers = &controller->shared->registers;
	uint32_t cc = vfu_load(&registers->cc), shutdown = NVME_CC_SHN(cc);

	controller->cc_seen = cc;
	controller->stats.enabled = NVME_CC_EN(cc);
	if (NVME_CC_EN(cc) && !controller_is_ready(controller) && !NVME_CSTS_CFS(registers->csts))
		controller_enable(controller);
	if (shutdown && shutdown != registers->shutdown_done && !controller->shutdown_runs)
		controller_shut_down(controller, shutdown);
}

void nvme_controller_progress(struct nvme_controller *controller)
{
	if (controller->phase == NVME_SERVING || controller->phase == NVME_DRAINING)
		controller_reset(controller);
	if (controller->phase == NVME_SERVING) {
		if (controller->recovering && controller->in_flight == 0)
			nvme_recover_more(controller);
		controller_read_cc(controller);
	}
	if (controller->phase == NVME_STOPPING)
		fiber_queue_wake_all(&controller->idle);
}

static void controller_run_progress(struct reactor_work *work)
{
	nvme_controller_progress(CONTAINER_OF(work, struct nvme_controller, progress));
}

void nvme_controller_progress_later(struct nvme_controller *controller)
{
	if (!list_is_linked(&controller->progress.link))
		reactor_defer(controller->home, &controller->progress);
}

/* --- looking and sleeping --- */

/* While this thread was not running, the guest may have given memory to the keeper and then used
 * it: the second is seen in shared memory before the first is read from the link. */
void nvme_controller_settle(struct nvme_controller *controller)
{
	uint64_t told = vfu_load(&controller->shared->told);

	if (LIKELY(told == controller->told))
		return;
	controller->told = told;
	if (controller->host->settle)
		controller->host->settle(controller->host_context);
}

static bool controller_poll(struct reactor_poller *poller)
{
	struct nvme_controller *controller = CONTAINER_OF(poller, struct nvme_controller, poller);

	if (UNLIKELY(controller->asleep))
		nvme_queue_set_events(controller, false);
	if (UNLIKELY(controller_registers_changed(controller))) {
		nvme_controller_settle(controller);
		nvme_controller_progress(controller);
	}
	if (UNLIKELY(controller->held > 0))
		nvme_queue_flush_all(controller);
	return nvme_queue_poll(controller);
}

static bool controller_must_look(const struct nvme_controller *controller)
{
	return vfu_load(&controller->shared->doorbells_mapped) &&
	       !controller->shared->admin.shadow_doorbells && controller_is_ready(controller);
}

static bool controller_nothing_came(struct nvme_controller *controller)
{
	return (controller->phase != NVME_SERVING || nvme_recover_holds(controller) ||
		nvme_queue_is_empty(controller)) &&
	       (!controller_registers_changed(controller) || controller->phase == NVME_DRAINING ||
		controller->phase == NVME_STOPPING);
}

static bool controller_sleep(struct reactor_poller *poller)
{
	struct nvme_controller *controller = CONTAINER_OF(poller, struct nvme_controller, poller);

	nvme_log_keep(controller);
	nvme_queue_set_events(controller, true);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!controller_nothing_came(controller)) {
		REACHED("nvme.came-before-sleep");
		nvme_queue_set_events(controller, false);
		return false;
	}
	if (controller_must_look(controller)) {
		controller->poll_pause_ns = POLL_PAUSE_MIN_NS;
		reactor_timer_arm(controller->home, &controller->poll_timer,
				  reactor_turn_ns(controller->home) + POLL_PAUSE_MIN_NS);
	}
	if (controller->host->sleeping && controller->shared->admin.shadow_doorbells)
		controller->host->sleeping(controller->host_context);
	return true;
}

static void controller_run_poll_timer(struct reactor_timer *timer)
{
	struct nvme_controller *controller =
		CONTAINER_OF(timer, struct nvme_controller, poll_timer);

	if (!controller->asleep || !controller_must_look(controller))
		return;
	if (!controller_nothing_came(controller)) {
		reactor_poller_wake(controller->home, &controller->poller);
		return;
	}
	controller->poll_pause_ns = MIN(2 * controller->poll_pause_ns, POLL_PAUSE_MAX_NS);
	reactor_timer_arm(controller->home, timer,
			  reactor_turn_ns(controller->home) + controller->poll_pause_ns);
}

void nvme_controller_kick(struct nvme_controller *controller)
{
	reactor_assert_home(controller->home);
	if (controller->phase == NVME_IDLE || controller->phase == NVME_STOPPING)
		return;
	controller->stats.wakeups++;
	nvme_interrupt_level(controller);
	reactor_poller_wake(controller->home, &controller->poller);
}

void nvme_controller_look(struct nvme_controller *controller)
{
	reactor_assert_home(controller->home);
	if (controller->phase != NVME_IDLE && controller->phase != NVME_STOPPING)
		reactor_poller_wake(controller->home, &controller->poller);
}

/* --- memory --- */

int nvme_controller_map(struct nvme_controller *controller, const struct vfu_map *map, void *memory)
{
	int result;

	reactor_assert_home(controller->home);
	result = guest_map(&controller->guest, map, memory);
	if (result < 0)
		return result;
	if (controller->phase != NVME_IDLE) {
		nvme_queue_resolve(controller);
		nvme_controller_kick(controller);
	}
	return 0;
}

static void controller_let_go(void *context, uint32_t id)
{
	struct nvme_controller *controller = context;

	controller->host->unmapped(controller->host_context, id);
}

void nvme_controller_unmap(struct nvme_controller *controller, uint32_t id)
{
	reactor_assert_home(controller->home);
	if (!guest_unmap(&controller->guest, id)) {
		controller->host->unmapped(controller->host_context, id);
		return;
	}
	if (controller->phase != NVME_IDLE)
		nvme_queue_resolve(controller);
}

/* --- life --- */

static void *controller_reserve(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

#define COMMANDS_BYTES (VFU_SLOT_COUNT * sizeof(struct nvme_command))
#define IOVS_BYTES     (VFU_SLOT_COUNT * NVME_DATA_IOV_MAX * sizeof(struct iovec))

/* Pages of commands and vectors exist once they are used: an idle controller is small. */
static int controller_allocate(struct nvme_controller *controller)
{
	controller->commands = controller_reserve(COMMANDS_BYTES);
	controller->iovs = controller_reserve(IOVS_BYTES);
	return controller->commands && controller->iovs ? 0 : -ENOMEM;
}

static void controller_init(struct nvme_controller *controller,
			    const struct nvme_controller_options *options,
			    struct vfu_shared *shared, struct vfu_doorbells *doorbells)
{
	controller->shared = shared;
	controller->doorbells = doorbells;
	controller->home = options->home;
	controller->host = options->host;
	controller->host_context = options->host_context;
	controller->options = *options;
	if (controller->options.in_flight_bytes_max == 0)
		controller->options.in_flight_bytes_max = NVME_IN_FLIGHT_BYTES;
	if (controller->options.io_queues == 0 || controller->options.io_queues > NVME_IO_QUEUES)
		controller->options.io_queues = NVME_IO_QUEUES;
	controller->gate = options->gated ? 0 : NVME_REDO_STEPS;
	controller->poll_timer.run = controller_run_poll_timer;
	controller->progress.run = controller_run_progress;
	controller->keep_alive.run = nvme_keep_alive_run;
	list_node_init(&controller->progress.link);
	list_init(&controller->management);
	fiber_queue_init(&controller->idle);
	list_init(&controller->reservations_waiting);
	guest_init(&controller->guest, controller_let_go, controller);
	reactor_poller_init(&controller->poller, controller_poll, controller_sleep);
	nvme_interrupt_init(controller);
	nvme_queue_init(controller);
}

int nvme_controller_new(const struct nvme_controller_options *options, struct vfu_shared *shared,
			struct vfu_doorbells *doorbells, struct nvme_controller **ret_controller)
{
	struct nvme_controller *controller;
	int result = nvme_recover_check(shared);

	if (result < 0)
		return result;
	controller = calloc(1, sizeof(*controller));
	if (!controller)
		return -ENOMEM;
	controller_init(controller, options, shared, doorbells);
	result = controller_allocate(controller);
	if (result < 0) {
		nvme_controller_free(controller);
		return result;
	}
	*ret_controller = controller;
	return 0;
}

void nvme_controller_start(struct nvme_controller *controller)
{
	reactor_assert_home(controller->home);
	ASSERT(controller->phase == NVME_IDLE);
	controller->phase = NVME_SERVING;
	nvme_log_load(controller);
	nvme_recover(controller);
	if (controller_is_ready(controller) && !nvme_controller_reset_pending(controller))
		nvme_namespace_seen(controller, true);
	nvme_keep_alive_restart(controller);
	nvme_controller_progress(controller);
	reactor_poller_wake(controller->home, &controller->poller);
}

unsigned nvme_controller_redone(const struct nvme_controller *controller)
{
	reactor_assert_home(controller->home);
	return controller->redone;
}

void nvme_controller_go_on(struct nvme_controller *controller, unsigned step)
{
	reactor_assert_home(controller->home);
	ASSERT(step <= NVME_REDO_STEPS);
	controller->gate = MAX(controller->gate, step);
	if (controller->phase == NVME_IDLE || controller->phase == NVME_STOPPING)
		return;
	nvme_controller_progress_later(controller);
	reactor_poller_wake(controller->home, &controller->poller);
}

void nvme_controller_stop(struct nvme_controller *controller)
{
	reactor_assert_home(controller->home);
	reactor_poller_stop(controller->home, &controller->poller);
	reactor_timer_cancel(controller->home, &controller->poll_timer);
	nvme_keep_alive_stop(controller);
	if (controller->phase != NVME_IDLE)
		controller->phase = NVME_STOPPING;
	while (controller->in_flight > 0 || controller->shutdown_runs ||
	       list_is_linked(&controller->progress.link))
		fiber_queue_wait(&controller->idle);
	/* A completion that found no room may have woken it. */
	reactor_poller_stop(controller->home, &controller->poller);
	reactor_timer_cancel(controller->home, &controller->poll_timer);
	if (controller->phase != NVME_IDLE)
		nvme_log_keep(controller);
	nvme_interrupt_done(controller);
	nvme_namespace_leave_all(controller);
}

void nvme_controller_free(struct nvme_controller *controller)
{
	if (!controller)
		return;
	ASSERT(controller->in_flight == 0 && !list_is_linked(&controller->poller.link));
	for (unsigned i = 1; i <= NVME_NAMESPACE_MAX; i++) {
		if (!controller->namespaces[i])
			continue;
		block_volume_free(controller->namespaces[i]->remote);
		free(controller->namespaces[i]);
	}
	if (controller->commands)
		(void)munmap(controller->commands, COMMANDS_BYTES);
	if (controller->iovs)
		(void)munmap(controller->iovs, IOVS_BYTES);
	free(controller);
}

void nvme_controller_get_stats(const struct nvme_controller *controller,
			       struct nvme_stats *ret_stats)
{
	reactor_assert_home(controller->home);
	*ret_stats = controller->stats;
	ret_stats->commands_in_flight = controller->in_flight;
	ret_stats->bytes_in_flight = controller->bytes_in_flight;
	for (unsigned i = 0; i < VFU_QUEUE_COUNT; i++) {
		ret_stats->submission_queues += controller->shared->sqs[i].state != 0;
		ret_stats->completion_queues += controller->shared->cqs[i].state != 0;
	}
}
