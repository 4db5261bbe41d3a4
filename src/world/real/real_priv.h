/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the files of the real world share: the world, its ports, and the state that an operation
 * keeps in `private_words`.
 *
 * An operation is in exactly one place (enum real_place) from real_op_begin() to real_op_finish().
 */
#include "world/real.h"

#include <liburing.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "base/macros.h"

#define REAL_MAX_PORTS          64
#define REAL_MAX_SLOTS          8192 /* entries of each ring's table of registered files */
#define REAL_FENCE_SLOT         0
#define REAL_FENCE_PIPE_SLOT    1
#define REAL_DIRECT_UNIT        4096
#define REAL_KERNEL_THREADS_MAX 1024u /* of one port, for operations on files that block */
#define REAL_WORKERS_MAX        512u  /* of the world, when those that were asked for are held up */
/* Of more entries than this that are submitted together, the kernel holds the disk requests back
 * until the last is prepared (a plug, to merge neighbours): reads then reach the disk in bursts. */
#define REAL_HAND_OVER 2u

struct real_jobs {
	struct list_node *_Atomic pushed; /* world_op.link, the newest first, by `next` alone */
	sem_t wanted;
	sem_t crowded;        /* for the minder: something waits, and no worker is idle */
	atomic_bool told;     /* the minder was, and has not looked since */
	atomic_uint idle;     /* workers */
	pthread_mutex_t lock; /* protects these two */
	struct list queue;    /* world_op.link */
	uint64_t taken;       /* jobs, so far */
	atomic_bool stopping;
	unsigned thread_count; /* the minder's, from start to stop */
	pthread_t *threads;    /* REAL_WORKERS_MAX */
	pthread_t minder;
	bool minded;
};

struct world_real {
	struct world world;
	struct world_real_options options;
	struct real_jobs jobs;
	unsigned slot_count;
	_Atomic uint64_t slots[REAL_MAX_SLOTS / 64]; /* bit set = slot in use, in all ports alike */
	pthread_mutex_t ports_lock; /* protects ports[] and the hand-over in real_slots.c */
	struct world_port *ports[REAL_MAX_PORTS];
};

struct world_port {
	struct world_real *real;
	unsigned index;
	bool enabled;    /* the ring belongs to the thread that waits */
	bool wake_armed; /* the poll of wake_fd is in the kernel */
	int wake_fd;
	unsigned in_flight;        /* operations between begin and finish */
	struct list waiting;       /* found no submission entry */
	struct list finished;      /* their result is known, `done` runs in the next wait */
	struct list cancels;       /* in the kernel, a cancel is to be sent */
	struct world_file **slots; /* which file this ring has registered in each slot */
	struct io_uring ring;
	/* Written by other threads. */
	_Alignas(64) _Atomic(struct world_message *) mail; /* newest first */
	atomic_bool asleep;
	atomic_bool woken;
	atomic_uint posting; /* senders inside of a post or wake */
};

struct world_file {
	int fd;
	bool direct;
	int slot;                    /* -1 = none */
	_Atomic uint64_t registered; /* bit i = port i has it in its table */
	struct world_message forget; /* travels from port to port after the close */
	struct world_real *real;
};

enum real_place {
	REAL_IN_KERNEL, /* link may be in port->cancels */
	REAL_WAITING,
	REAL_FINISHED,
	REAL_IN_JOB, /* link is in the job queue until a worker takes it */
};

struct real_kind {
	void (*prepare)(struct world_op *op, struct io_uring_sqe *sqe);
	/* Calls real_op_finish() or real_port_queue() again. */
	void (*complete)(struct world_op *op, int result);
	/* Frees what the state still owns when the operation finishes; may be NULL. */
	void (*drop)(struct world_op *op);
};

/* The first words of every operation's state. */
struct real_head {
	const struct real_kind *kind;
	int64_t result;
	uint8_t place; /* enum real_place */
	bool cancelled;
	uint8_t retries;
};

/* State of an operation that a worker thread carries out. */
struct real_job {
	struct real_head head;
	struct world_message message;
	void (*run)(struct world_op *op); /* on the worker; leaves its result in head.result */
	void *arg;
	union {
		void (*work)(void *arg);
		const char *path;
		struct world_file *file;
	};
	union {
		const char *to;
		uint64_t size_bytes;
	};
	uint64_t flags;
};

#define REAL_OP_FITS(type) \
	_Static_assert(sizeof(type) <= sizeof(((struct world_op *)NULL)->private_words), #type)

static inline void *real_op_state(struct world_op *op)
{
	return op->private_words;
}

static inline struct world_real *real_of(struct world *world)
{
	return CONTAINER_OF(world, struct world_real, world);
}

/* real_port.c: the ring. */
int real_port_probe(void);
int real_port_open(struct world *world, unsigned index, void (*turn)(void *arg), void *arg,
		   struct world_port **ret_port);
void real_port_close(struct world_port *port);
unsigned real_port_wait(struct world_port *port, uint64_t deadline_ns, unsigned max_completions);
void real_port_submit(struct world_port *port);
/* After an operation that a disk works on: submits what is queued if that is enough, see
 * REAL_HAND_OVER. */
void real_port_hand_over(struct world_port *port);
void real_port_cancel(struct world_port *port, struct world_op *op);
/* Gives the operation to the kernel at the next submit. */
void real_port_queue(struct world_port *port, struct world_op *op);

/* real_op.c */
/* The operation starts; `kind` is NULL for a job. Returns its state, cleared. */
void *real_op_begin(struct world_port *port, struct world_op *op, const struct real_kind *kind);
/* Runs `done`; only inside real_port_wait(). */
void real_op_finish(struct world_op *op, int64_t result);
/* Lets `done` run in the next wait. */
void real_op_finish_later(struct world_op *op, int64_t result);

/* real_mail.c */
bool real_mail_is_waiting(struct world_port *port);
void real_mail_post(struct world_port *from, struct world_port *to, struct world_message *message);
void real_mail_wake(struct world_port *port);
/* Returns when no sender touches the port any more. */
void real_mail_wait_for_senders(struct world_port *port);
/* Runs what has arrived until now; returns how many messages. */
unsigned real_mail_run(struct world_port *port);
/* All messages that have arrived, oldest first. */
struct world_message *real_mail_take(struct world_port *port);

/* real_jobs.c */
int real_jobs_start(struct real_jobs *jobs, unsigned thread_count);
void real_jobs_stop(struct real_jobs *jobs);
/* real_op_begin() and the fields for run() come first. */
void real_jobs_queue(struct world_port *port, struct world_op *op,
		     void (*run)(struct world_op *op));
/* True when no worker has begun it; it is then out of the queue. */
bool real_jobs_withdraw(struct real_jobs *jobs, struct world_op *op);
void real_jobs_call(struct world_port *port, void (*work)(void *arg), void *arg,
		    struct world_op *op);

/* real_slots.c: which files the rings have registered. */
int real_slots_acquire(struct world_real *real); /* -1 when all are in use */
/* Whether `port` may name the file by its slot; registers it on the first call. */
bool real_slots_use(struct world_port *port, struct world_file *file);
/* On the port's thread: takes the file out of this port's table. */
void real_slots_forget(struct world_port *port, struct world_file *file);
/* Takes the file out of the other ports' tables, then frees it. */
void real_slots_release(struct world_file *file);
void real_slots_port_gone(struct world_port *port);

/* real_file.c, real_path.c, real_socket.c: the operations, see world.h. */
void real_file_read(struct world_port *port, struct world_file *file, const struct iovec *iov,
		    int iov_count, uint64_t offset, struct world_op *op);
void real_file_write(struct world_port *port, struct world_file *file, const struct iovec *iov,
		     int iov_count, uint64_t offset, struct world_op *op);
void real_file_sync(struct world_port *port, struct world_file *file, struct world_op *op);

void real_path_open(struct world_port *port, const char *path, unsigned flags,
		    struct world_file **ret_file, struct world_op *op);
void real_path_close(struct world_port *port, struct world_file *file, struct world_op *op);
void real_path_resize(struct world_port *port, struct world_file *file, uint64_t size_bytes,
		      enum world_resize how, struct world_op *op);
void real_path_file_stat(struct world_port *port, struct world_file *file,
			 struct world_stat *ret_stat, struct world_op *op);
void real_path_stat(struct world_port *port, const char *path, struct world_stat *ret_stat,
		    struct world_op *op);
void real_path_rename(struct world_port *port, const char *from, const char *to,
		      struct world_op *op);
void real_path_unlink(struct world_port *port, const char *path, struct world_op *op);
void real_path_directory_make(struct world_port *port, const char *path, struct world_op *op);
void real_path_directory_list(struct world_port *port, const char *path,
			      struct world_names *ret_names, struct world_op *op);
void real_path_directory_sync(struct world_port *port, const char *path, struct world_op *op);
void real_path_fs_stat(struct world_port *port, const char *path, struct world_fs_stat *ret_stat,
		       struct world_op *op);

int real_socket_listen(struct world_port *port, const struct sockaddr *address, socklen_t length,
		       int backlog, struct world_socket **ret_socket);
int real_socket_address(struct world_socket *socket, bool peer,
			struct sockaddr_storage *ret_address, socklen_t *ret_length);
void real_socket_accept(struct world_port *port, struct world_socket *listener,
			struct world_socket **ret_socket, struct world_op *op);
void real_socket_connect(struct world_port *port, const struct sockaddr *address, socklen_t length,
			 struct world_socket **ret_socket, struct world_op *op);
void real_socket_receive(struct world_port *port, struct world_socket *socket,
			 const struct iovec *iov, int iov_count, struct world_op *op);
void real_socket_send(struct world_port *port, struct world_socket *socket, const struct iovec *iov,
		      int iov_count, struct world_op *op);
void real_socket_shutdown(struct world_socket *socket);
void real_socket_close(struct world_socket *socket);
