/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A port: one io_uring, used by one thread. The ring is created disabled, because the thread that
 * opens a port need not be the one that waits; the first wait or submit binds it to its thread.
 *
 * Invariants
 *  1. Only real_port_wait() runs `done`. It submits before it runs anything, so that a cancel and
 *     the reuse of its operation reach the kernel in order.
 *  2. An operation without a submission entry is in `waiting`; while that is not empty, later ones
 *     queue behind it.
 *  3. wake_fd is polled with one multishot, edge-triggered poll: every write to it completes, and
 *     nobody has to read it.
 *
 * Failure modes: when the kernel refuses entries for lack of memory, they stay queued and the next
 * wait tries again. Completions beyond the queue's size are kept by the kernel and fetched when the
 * ring says so.
 */
#include "world/real/real_priv.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RING_FLAGS                                                                             \
	(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG | \
	 IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP)
#define RING_FEATURES (IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE)

static int open_ring(struct io_uring *ring, unsigned depth)
{
	struct io_uring_params params = {.flags = RING_FLAGS, .cq_entries = depth * 4};
	int error = io_uring_queue_init_params(depth, ring, &params);

	/* A kernel before 6.1 does not know the flags. */
	if (error)
		return error == -EINVAL ? -ENOSYS : error;
	if ((params.features & RING_FEATURES) != RING_FEATURES) {
		io_uring_queue_exit(ring);
		return -ENOSYS;
	}
	return 0;
}

int real_port_probe(void)
{
	struct io_uring ring;
	int error = open_ring(&ring, 1);

	if (!error)
		io_uring_queue_exit(&ring);
	return error;
}

static int register_fence(struct world_port *port, unsigned slot, int fd)
{
	int status = io_uring_register_files_update(&port->ring, slot, &fd, 1);

	return status < 0 ? status : 0;
}

/* The table of registered files; the entries of the fences come first. */
static int open_table(struct world_port *port)
{
	struct world_real *real = port->real;
	int status;

	status = io_uring_register_files_sparse(&port->ring, real->slot_count);
	if (status)
		return status;
	port->slots = calloc(real->slot_count, sizeof(struct world_file *));
	if (!port->slots)
		return -ENOMEM;
	if (real->options.fence_fd >= 0)
		status = register_fence(port, REAL_FENCE_SLOT, real->options.fence_fd);
	if (status == 0 && real->options.fence_pipe_fd > 0)
		status = register_fence(port, REAL_FENCE_PIPE_SLOT, real->options.fence_pipe_fd);
	return status;
}

/* What blocks runs on threads of the kernel, by default 4 a CPU: writes that wait for one disk that
 * hangs would take all of them, and with them every disk. */
static int widen_kernel_threads(struct io_uring *ring)
{
	unsigned limits[2] = {REAL_KERNEL_THREADS_MAX, 0}; /* of files; of others, as it is */

	return io_uring_register_iowq_max_workers(ring, limits);
}

static int open_kernel_side(struct world_port *port)
{
	int error = open_ring(&port->ring, port->real->options.queue_depth);

	if (error)
		return error;
	error = widen_kernel_threads(&port->ring);
	if (!error)
		error = open_table(port);
	if (!error) {
		port->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (port->wake_fd >= 0)
			return 0;
		error = -errno;
	}
	free(port->slots);
	io_uring_queue_exit(&port->ring);
	return error;
}

int real_port_open(struct world *world, unsigned index, void (*turn)(void *arg), void *arg,
		   struct world_port **ret_port)
{
	struct world_real *real = real_of(world);
	struct world_port *port;
	int error;

	if (index >= REAL_MAX_PORTS)
		return -EINVAL;
	port = aligned_alloc(64, ALIGN_UP(sizeof(*port), 64));
	if (!port)
		return -ENOMEM;
	*port = (struct world_port){.real = real, .index = index, .wake_fd = -1};
	list_init(&port->waiting);
	list_init(&port->finished);
	list_init(&port->cancels);
	error = open_kernel_side(port);
	if (error) {
		free(port);
		return error;
	}
	pthread_mutex_lock(&real->ports_lock);
	ASSERT(real->ports[index] == NULL);
	real->ports[index] = port;
	pthread_mutex_unlock(&real->ports_lock);
	*ret_port = port;
	return 0;
}

void real_port_close(struct world_port *port)
{
	ASSERT(port->in_flight == 0);
	real_slots_port_gone(port);
	real_mail_wait_for_senders(port);
	io_uring_queue_exit(&port->ring);
	(void)close(port->wake_fd); /* an eventfd loses nothing */
	free(port->slots);
	free(port);
}

/* Whether the kernel has something that only an enter fetches. */
static bool kernel_wants_us(const struct world_port *port)
{
	unsigned flags = IO_URING_READ_ONCE(*port->ring.sq.kflags);

	return flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

static void check_enter(int status)
{
	/* The others are wrong calls: not our thread, not our ring. */
	ASSERT(status >= 0 || status == -ETIME || status == -EINTR || status == -EAGAIN ||
	       status == -EBUSY || status == -ENOMEM);
}

static struct io_uring_sqe *get_entry(struct world_port *port)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&port->ring);

	if (sqe || !port->enabled)
		return sqe;
	check_enter(io_uring_submit(&port->ring));
	return io_uring_get_sqe(&port->ring);
}

static bool try_queue(struct world_port *port, struct world_op *op)
{
	struct real_head *head = real_op_state(op);
	struct io_uring_sqe *sqe = get_entry(port);

	if (!sqe)
		return false;
	head->kind->prepare(op, sqe);
	sqe->user_data = (uintptr_t)op;
	head->place = REAL_IN_KERNEL;
	return true;
}

void real_port_queue(struct world_port *port, struct world_op *op)
{
	struct real_head *head = real_op_state(op);

	list_remove(&op->link);
	if (list_is_empty(&port->waiting) && try_queue(port, op))
		return;
	head->place = REAL_WAITING;
	list_push_back(&port->waiting, &op->link);
}

static void queue_cancels(struct world_port *port)
{
	struct list_node *node;
	struct io_uring_sqe *sqe;

	while ((node = list_front(&port->cancels)) != NULL && (sqe = get_entry(port)) != NULL) {
		struct world_op *op = LIST_ENTRY(node, struct world_op, link);

		io_uring_prep_cancel64(sqe, (uintptr_t)op, 0);
		sqe->user_data = 0;
		list_remove(node);
	}
}

static void queue_waiting(struct world_port *port)
{
	struct list_node *node;

	while ((node = list_front(&port->waiting)) != NULL) {
		struct world_op *op = LIST_ENTRY(node, struct world_op, link);

		if (!try_queue(port, op))
			return;
		list_remove(node);
	}
}

static void arm_wake(struct world_port *port)
{
	struct io_uring_sqe *sqe = get_entry(port);

	if (!sqe)
		return; /* the next wait tries again; until then it does not sleep */
	io_uring_prep_poll_multishot(sqe, port->wake_fd, POLLIN);
	sqe->user_data = (uintptr_t)port;
	port->wake_armed = true;
}

/* From here on the ring belongs to this thread. */
static void enable_ring(struct world_port *port)
{
	/* io_uring_enable_rings() is not exported by liburing 2.3. */
	long status = syscall(__NR_io_uring_register, port->ring.ring_fd,
			      IORING_REGISTER_ENABLE_RINGS, NULL, 0);

	ASSERT(status == 0);
	port->enabled = true;
}

/* Turns all that the port has put aside into submission entries. */
static void fill(struct world_port *port)
{
	if (UNLIKELY(!port->enabled))
		enable_ring(port);
	if (UNLIKELY(!port->wake_armed))
		arm_wake(port);
	if (UNLIKELY(!list_is_empty(&port->cancels)))
		queue_cancels(port);
	if (UNLIKELY(!list_is_empty(&port->waiting)))
		queue_waiting(port);
}

void real_port_submit(struct world_port *port)
{
	fill(port);
	if (io_uring_sq_ready(&port->ring))
		check_enter(io_uring_submit(&port->ring));
}

void real_port_hand_over(struct world_port *port)
{
	if (port->enabled && io_uring_sq_ready(&port->ring) >= REAL_HAND_OVER)
		check_enter(io_uring_submit(&port->ring));
}

void real_port_cancel(struct world_port *port, struct world_op *op)
{
	struct real_head *head = real_op_state(op);

	if (op->port != port)
		return;
	switch ((enum real_place)head->place) {
	case REAL_IN_KERNEL:
		head->cancelled = true;
		list_remove(&op->link);
		list_push_back(&port->cancels, &op->link);
		return;
	case REAL_WAITING:
		real_op_finish_later(op, -ECANCELED);
		return;
	case REAL_IN_JOB:
		if (real_jobs_withdraw(&port->real->jobs, op))
			real_op_finish_later(op, -ECANCELED);
		return;
	case REAL_FINISHED:
		return;
	}
}

static bool may_sleep(struct world_port *port)
{
	return port->wake_armed && list_is_empty(&port->finished) &&
	       list_is_empty(&port->waiting) && list_is_empty(&port->cancels) &&
	       !io_uring_cq_ready(&port->ring) && !real_mail_is_waiting(port);
}

static void submit_and_sleep(struct world_port *port, uint64_t deadline_ns)
{
	struct __kernel_timespec timeout, *limit = NULL;
	struct io_uring_cqe *cqe;

	if (deadline_ns != UINT64_MAX) {
		uint64_t now_ns = world_now_ns(&port->real->world);
		uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;

		timeout.tv_sec = (int64_t)(left_ns / NSEC_PER_SEC);
		timeout.tv_nsec = (long long)(left_ns % NSEC_PER_SEC);
		limit = &timeout;
	}
	check_enter(io_uring_submit_and_wait_timeout(&port->ring, &cqe, 1, limit, NULL));
}

/* One system call at most: submits, and sleeps when there is nothing to do. */
static void enter(struct world_port *port, uint64_t deadline_ns)
{
	if (deadline_ns != 0 && may_sleep(port)) {
		atomic_store(&port->asleep, true);
		if (!real_mail_is_waiting(port)) {
			submit_and_sleep(port, deadline_ns);
			atomic_store(&port->asleep, false);
			return;
		}
		atomic_store(&port->asleep, false);
	}
	if (kernel_wants_us(port))
		check_enter(io_uring_submit_and_get_events(&port->ring));
	else if (io_uring_sq_ready(&port->ring))
		check_enter(io_uring_submit(&port->ring));
}

static unsigned run_finished(struct world_port *port, unsigned limit)
{
	struct list_node *node;
	unsigned count = 0;

	while (count < limit && (node = list_pop_front(&port->finished)) != NULL) {
		struct world_op *op = LIST_ENTRY(node, struct world_op, link);
		struct real_head *head = real_op_state(op);

		real_op_finish(op, head->result);
		count++;
	}
	return count;
}

static unsigned run_completion(struct world_port *port, const struct io_uring_cqe *cqe)
{
	void *tag = (void *)(uintptr_t)cqe->user_data;
	int result = cqe->res;
	bool more = cqe->flags & IORING_CQE_F_MORE;
	struct real_head *head;

	io_uring_cq_advance(&port->ring, 1);
	if (tag == NULL) /* a cancel; its operation tells what became of it */
		return 0;
	if (tag == port) {
		port->wake_armed = more;
		return 0;
	}
	head = real_op_state(tag);
	head->kind->complete(tag, result);
	return 1;
}

/* io_uring_peek_cqe() would enter the kernel for more, before what is new was submitted. */
static const struct io_uring_cqe *next_completion(const struct world_port *port)
{
	const struct io_uring_cqe *cqe;
	unsigned head;

	io_uring_for_each_cqe(&port->ring, head, cqe) return cqe;
	return NULL;
}

static unsigned run_completions(struct world_port *port, unsigned limit)
{
	const struct io_uring_cqe *cqe;
	unsigned count = 0;

	while (count < limit && (cqe = next_completion(port)) != NULL)
		count += run_completion(port, cqe);
	return count;
}

unsigned real_port_wait(struct world_port *port, uint64_t deadline_ns, unsigned max_completions)
{
	unsigned messages, completions;

	fill(port);
	enter(port, deadline_ns);
	if (atomic_load_explicit(&port->woken, memory_order_relaxed))
		atomic_store(&port->woken, false);
	messages = real_mail_run(port);
	completions = run_finished(port, max_completions);
	completions += run_completions(port, max_completions - completions);
	return messages + completions;
}
