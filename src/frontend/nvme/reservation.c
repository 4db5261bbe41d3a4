/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reservations of a namespace that several controllers share. The state lives on one reactor, with
 * a copy of what each member (a controller's attachment) may do at that controller's.
 *
 * A command travels to the state's home in a message and waits in its queue. A fiber there, one at
 * a time, executes commands in order: state changed, stored, members told, answer sent back.
 *
 * Invariants
 *  1. The answer is sent only after the state with its result is durable, and after no member is
 *     carrying out a write any more that the new state forbids.
 *  2. A controller has at most one command here: the state remembers one result for each
 *     controller. Others wait in controller->reservations_waiting.
 *  3. Members change only while the mutex is held.
 *
 * Failure modes: a state that cannot be stored is taken back and the command fails.
 */
#include "frontend/nvme/reservation.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "frontend/nvme/nvme_priv.h"

#define REPORT_BYTES 8192u

struct nvme_reservations {
	struct reactor *home;
	const struct nvme_reservation_ops *ops;
	void *context;
	struct nvme_reservation_state state;
	struct nvme_reservation_state before; /* while a command is executed */
	struct list members;
	struct list queue; /* requests */
	struct fiber_mutex mutex;
	struct fiber_task task;
	bool working;
	struct fiber_queue told; /* the fiber that waits for members */
	unsigned untold;
};

struct request { /* in nvme_command.buffer */
	struct nvme_command *command;
	struct nvme_reservations *reservations;
	struct world_message message;
	struct list_node link;
	struct nvme_reservation_command what;
	bool is_host_change; /* by Set Features */
	int result;
	uint16_t status;
	uint32_t length; /* of the report */
	unsigned char report[REPORT_BYTES];
};

/* --- members --- */

static void reservation_told(struct world_message *message)
{
	struct nvme_member *member = CONTAINER_OF(message, struct nvme_member, message);

	if (--member->reservations->untold == 0)
		fiber_queue_wake_all(&member->reservations->told);
}

void nvme_reservation_settled(struct nvme_member *member)
{
	member->settling = false;
	member->message.run = reservation_told;
	reactor_post(member->reservations->home, &member->message);
}

/* At the member's controller. */
static void reservation_tell(struct world_message *message)
{
	struct nvme_member *member = CONTAINER_OF(message, struct nvme_member, message);

	member->access = member->next_access;
	if (member->notice)
		nvme_log_reservation(member->controller, member->nsid, member->notice);
	member->settling = true;
	if (member->writes == 0 || (member->access & NVME_ACCESS_WRITE))
		nvme_reservation_settled(member);
}

/* Tells all members what they may do now and waits until they act on it. `command` may be NULL. */
static void reservation_tell_all(struct nvme_reservations *reservations,
				 const struct nvme_reservation_command *command)
{
	struct nvme_member *member;

	LIST_FOR_EACH (&reservations->members, member, struct nvme_member, link) {
		member->next_access =
			nvme_reservation_state_access(&reservations->state, member->host);
		member->notice = command ? nvme_reservation_state_notice(&reservations->before,
									 &reservations->state,
									 command, member->host)
					 : NVME_NOTICE_NONE;
		member->message.run = reservation_tell;
		reservations->untold++;
		reactor_post(member->controller->home, &member->message);
	}
	while (reservations->untold > 0)
		fiber_queue_wait(&reservations->told);
}

struct join {
	struct nvme_reservations *reservations;
	struct nvme_member *member;
	bool joins;
};

static int reservation_run_join(void *arg)
{
	struct join *join = arg;
	struct nvme_reservations *reservations = join->reservations;

	fiber_mutex_lock(&reservations->mutex);
	if (join->joins) {
		list_push_back(&reservations->members, &join->member->link);
		join->member->access =
			nvme_reservation_state_access(&reservations->state, join->member->host);
	} else {
		list_remove(&join->member->link);
	}
	fiber_mutex_unlock(&reservations->mutex);
	return 0;
}

void nvme_reservation_join(struct nvme_member *member)
{
	struct join join = {member->reservations, member, true};

	list_node_init(&member->link);
	(void)fiber_call(member->reservations->home, FIBER_CONTROL, reservation_run_join, &join);
}

void nvme_reservation_leave(struct nvme_member *member)
{
	struct join join = {member->reservations, member, false};

	(void)fiber_call(member->reservations->home, FIBER_CONTROL, reservation_run_join, &join);
}

/* --- at the state's home --- */

static int reservation_store(struct nvme_reservations *reservations)
{
	int result = reservations->ops->save(reservations->context, &reservations->state,
					     sizeof(reservations->state));

	if (result < 0)
		reservations->state = reservations->before;
	return result;
}

static void reservation_execute(struct nvme_reservations *reservations, struct request *request)
{
	reservations->before = reservations->state;
	request->status = nvme_reservation_state_run(&reservations->state, &request->what);
	/* A command that was executed before has changed nothing now. */
	if (memcmp(&reservations->before, &reservations->state, sizeof(reservations->state)) != 0)
		request->result = reservation_store(reservations);
	/* Perhaps the engine before died while it told the members. */
	reservation_tell_all(reservations, &request->what);
}

static void reservation_report(const struct nvme_reservations *reservations,
			       struct request *request)
{
	const struct nvme_sqe *sqe = nvme_sqe_of(request->command);

	request->length = nvme_reservation_state_report(&reservations->state, sqe->cdw11 & 1,
							request->report, sizeof(request->report));
}

static void reservation_answer(struct world_message *message);

static void reservation_serve(struct nvme_reservations *reservations, struct request *request)
{
	struct nvme_member *member;

	if (request->is_host_change) {
		LIST_FOR_EACH (&reservations->members, member, struct nvme_member, link)
			if (member->controller == request->command->controller)
				memcpy(member->host, request->what.host, sizeof(member->host));
		reservation_tell_all(reservations, NULL);
	} else if (request->what.opcode == nvme_cmd_resv_report) {
		reservation_report(reservations, request);
	} else {
		reservation_execute(reservations, request);
	}
	request->message.run = reservation_answer;
	reactor_post(request->command->controller->home, &request->message);
}

static void reservation_work(struct fiber_task *task)
{
	struct nvme_reservations *reservations = CONTAINER_OF(task, struct nvme_reservations, task);
	struct list_node *node;

	fiber_mutex_lock(&reservations->mutex);
	while ((node = list_pop_front(&reservations->queue)))
		reservation_serve(reservations, LIST_ENTRY(node, struct request, link));
	reservations->working = false;
	fiber_mutex_unlock(&reservations->mutex);
}

static void reservation_arrive(struct world_message *message)
{
	struct request *request = CONTAINER_OF(message, struct request, message);
	struct nvme_reservations *reservations = request->reservations;

	list_push_back(&reservations->queue, &request->link);
	if (reservations->working)
		return;
	reservations->working = true;
	reservations->task = (struct fiber_task){.run = reservation_work};
	fiber_spawn(reservations->home, FIBER_CONTROL, &reservations->task);
}

/* --- at the controller --- */

static void reservation_send(struct request *request)
{
	request->message.run = reservation_arrive;
	reactor_post(request->reservations->home, &request->message);
}

static void reservation_finish(struct nvme_command *command, struct request *request)
{
	uint64_t asked = ((uint64_t)nvme_sqe_of(command)->cdw10 + 1) * 4;

	if (request->result < 0) {
		nvme_command_end_errno(command, request->result);
	} else if (request->is_host_change) {
		free(request);
		command->buffer = NULL;
		nvme_namespace_unuse(command);
		nvme_reservation_host_changed(command);
	} else if (request->what.opcode == nvme_cmd_resv_report) {
		(void)nvme_command_answer(command, request->report, request->length, asked);
	} else {
		nvme_command_end(command, request->status ? request->status | NVME_STATUS_DNR : 0);
	}
}

static void reservation_answer(struct world_message *message)
{
	struct request *request = CONTAINER_OF(message, struct request, message);
	struct nvme_controller *controller = request->command->controller;
	struct list_node *next;

	/* Its result is recorded in its slot before the next one may replace it in the state. */
	reservation_finish(request->command, request);
	next = list_pop_front(&controller->reservations_waiting);
	controller->reservation_busy = next != NULL;
	if (next)
		reservation_send(LIST_ENTRY(next, struct request, link));
}

static struct request *reservation_request(struct nvme_command *command)
{
	const struct nvme_controller *controller = command->controller;
	struct request *request = calloc(1, sizeof(*request));
	uint8_t *host;

	if (!request) {
		nvme_command_end(command, NVME_SC_INTERNAL);
		return NULL;
	}
	command->buffer = request;
	request->command = command;
	list_node_init(&request->link);
	host = request->what.host;
	nvme_reservation_host(controller, host);
	request->is_host_change = command->sq->id == 0;
	request->what.opcode = nvme_sqe_of(command)->opcode;
	request->what.cdw10 = nvme_sqe_of(command)->cdw10;
	request->what.cntlid = controller->options.controller_id;
	request->what.sqid = command->slot->sqid;
	request->what.epoch = command->sq->shared->epoch;
	request->what.sequence = command->slot->sequence;
	return request;
}

static void reservation_submit(struct nvme_command *command, struct nvme_reservations *reservations)
{
	struct nvme_controller *controller = command->controller;
	struct request *request = command->buffer;

	request->reservations = reservations;
	if (controller->reservation_busy) {
		list_push_back(&controller->reservations_waiting, &request->link);
		return;
	}
	controller->reservation_busy = true;
	reservation_send(request);
}

/* A host that has not said who it is, is this controller's. */
void nvme_reservation_host(const struct nvme_controller *controller, uint8_t ret_host[16])
{
	static const uint8_t nobody[16];
	const uint8_t *host = controller->shared->admin.host_id;

	memcpy(ret_host, host, 16);
	if (memcmp(host, nobody, sizeof(nobody)) != 0)
		return;
	ret_host[14] = (uint8_t)controller->options.controller_id;
	ret_host[15] = (uint8_t)(controller->options.controller_id >> 8);
}

void nvme_reservation_command(struct nvme_command *command)
{
	uint8_t opcode = nvme_sqe_of(command)->opcode;
	uint64_t length = opcode == nvme_cmd_resv_release ? 8 : 16;
	struct request *request;

	if (!nvme_namespace_use(command))
		return;
	if (!command->ns->options.reservations) {
		nvme_command_end(command, NVME_SC_INVALID_OPCODE | NVME_STATUS_DNR);
		return;
	}
	if (opcode == nvme_cmd_resv_report &&
	    nvme_sqe_of(command)->cdw10 >= NVME_DATA_BYTES_MAX / 4) {
		nvme_command_end(command, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
		return;
	}
	request = reservation_request(command);
	if (!request)
		return;
	if (opcode != nvme_cmd_resv_report &&
	    !nvme_command_take_data(command, request->what.keys, length))
		return;
	command->controller->stats.others++;
	reservation_submit(command, command->ns->options.reservations);
}

void nvme_reservation_host_changed(struct nvme_command *command)
{
	struct nvme_controller *controller = command->controller;

	while (++command->step <= NVME_NAMESPACE_MAX) {
		struct nvme_ns *ns = nvme_namespace_get(controller, command->step);

		if (!ns || !ns->options.reservations)
			continue;
		if (!reservation_request(command))
			return;
		ns->commands++;
		command->ns = ns;
		reservation_submit(command, ns->options.reservations);
		return;
	}
	nvme_command_end(command, 0);
}

/* --- life --- */

int nvme_reservations_new(struct reactor *home, const struct nvme_reservation_ops *ops,
			  void *context, struct nvme_reservations **ret_reservations)
{
	_cleanup_free_ struct nvme_reservations *reservations = calloc(1, sizeof(*reservations));
	int result;

	reactor_assert_home(home);
	if (!reservations)
		return -ENOMEM;
	reservations->home = home;
	reservations->ops = ops;
	reservations->context = context;
	list_init(&reservations->members);
	list_init(&reservations->queue);
	fiber_mutex_init(&reservations->mutex);
	fiber_queue_init(&reservations->told);
	result = ops->load(context, &reservations->state, sizeof(reservations->state));
	if (result < 0)
		return result;
	if (!nvme_reservation_state_check(&reservations->state))
		return -EUCLEAN;
	*ret_reservations = TAKE_PTR(reservations);
	return 0;
}

void nvme_reservations_free(struct nvme_reservations *reservations)
{
	if (!reservations)
		return;
	ASSERT(list_is_empty(&reservations->members) && !reservations->working);
	free(reservations);
}
