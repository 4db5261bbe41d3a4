/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The outside world: time, randomness, worker threads, files and sockets, behind one table of
 * functions. world/real serves it with io_uring, world/sim with one seed on one thread.
 *
 * Rules.
 *  1. An operation (`struct world_op`) is embedded by the caller, who keeps it, and every buffer,
 *     iovec and path it names, alive until `done` runs. `done` runs exactly once, on the port's
 *     thread, inside world_port_wait(), never inside the call that submitted it.
 *  2. A result is 0 or a byte count, or a negative errno. Outputs (`ret_*`) are written before
 *     `done` runs, and only on success.
 *  3. A port belongs to one reactor thread. Only world_port_post() and world_port_wake() may be
 *     called from other threads.
 *  4. Short reads and writes of files are completed inside the world: a file read returns fewer
 *     bytes than asked for only at the end of the file, a file write all or an error. Sockets may
 *     be short.
 *  5. After a simulated crash every operation completes with -ESHUTDOWN and without effect.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/list.h"

struct world_ops;
struct world_port; /* the submission and completion queue of one reactor */
struct world_file;
struct world_socket; /* a stream socket, listening or connected */

struct world {
	const struct world_ops *ops;
};

struct world_op {
	void (*done)(struct world_op *op, int64_t result);
	/* Private to the world from submit to done. */
	struct world_port *port;
	struct list_node link;
	uint64_t private_words[14];
};

/* A message to another port; embedded by the sender, owned by the receiver once run() is called. */
struct world_message {
	void (*run)(struct world_message *message);
	struct world_message *next; /* private to the world */
	uint64_t private_words[2];
};

enum {
	WORLD_FILE_READ_ONLY = 1 << 0,
	WORLD_FILE_CREATE = 1 << 1,
	WORLD_FILE_EXCLUSIVE = 1 << 2, /* with CREATE: -EEXIST when there */
	WORLD_FILE_DIRECT = 1 << 3,    /* O_DIRECT: memory, offset and length in 4 KiB units */
};

enum world_resize {
	WORLD_RESIZE_TRUNCATE, /* set the size; a grown part reads as zeros */
	WORLD_RESIZE_RESERVE,  /* set the size and allocate space for all of it, or -ENOSPC */
};

struct world_stat {
	uint64_t size_bytes;
	uint64_t allocated_bytes;
	bool is_directory;
};

struct world_fs_stat {
	uint64_t total_bytes;
	uint64_t free_bytes; /* available to us */
	uint64_t id;         /* the same for all paths of one file system; 0 = not known */
	bool read_only;
};

/* Names in a directory, without "." and "..", sorted bytewise. Freed by world_names_free(). */
struct world_names {
	size_t count;
	char **names;
};

void world_names_free(struct world_names *names);

struct world_ops {
	const char *name;

	/* Clock and randomness; callable from any thread. */
	uint64_t (*now_ns)(struct world *world);  /* monotonic */
	uint64_t (*wall_ns)(struct world *world); /* since 1970, may jump */
	void (*random)(struct world *world, void *buffer, size_t length);

	/*
	 * Ports. In the simulated world `turn(arg)` is called for the port whenever it has
	 * something to do, and again after a turn whose wait ran something or was given a deadline
	 * that had passed (the next wait may name another deadline); the real world leaves calling
	 * world_port_wait() to the reactor's thread.
	 */
	int (*port_open)(struct world *world, unsigned index, void (*turn)(void *arg), void *arg,
			 struct world_port **ret_port);
	void (*port_close)(struct world_port *port);
	/*
	 * Submits what was queued, waits until something completes, a message arrives, the port is
	 * woken or `deadline_ns` (monotonic; 0 = do not wait, UINT64_MAX = no limit) passes, then
	 * runs the messages and at most `max_completions` completions. Returns how many of both it
	 * ran.
	 */
	unsigned (*port_wait)(struct world_port *port, uint64_t deadline_ns,
			      unsigned max_completions);
	/* Hands queued operations to the kernel now instead of at the next wait. */
	void (*port_submit)(struct world_port *port);
	void (*port_wake)(struct world_port *port);
	/* Runs message->run on `to`'s thread. `from` is the sender's port, or NULL from a thread
	 * that has none. Order is kept between one sender and one receiver. */
	void (*port_post)(struct world_port *from, struct world_port *to,
			  struct world_message *message);
	/* Asks that `op` complete soon, with its result or -ECANCELED. No effect on a finished
	 * op. */
	void (*cancel)(struct world_port *port, struct world_op *op);

	/* Runs work(arg) on a worker thread, which may block; then `done` with 0. */
	void (*job)(struct world_port *port, void (*work)(void *arg), void *arg,
		    struct world_op *op);

	/* Files. Paths are absolute or relative to the process. */
	void (*file_open)(struct world_port *port, const char *path, unsigned flags,
			  struct world_file **ret_file, struct world_op *op);
	void (*file_close)(struct world_port *port, struct world_file *file, struct world_op *op);
	void (*file_read)(struct world_port *port, struct world_file *file, const struct iovec *iov,
			  int iov_count, uint64_t offset, struct world_op *op);
	void (*file_write)(struct world_port *port, struct world_file *file,
			   const struct iovec *iov, int iov_count, uint64_t offset,
			   struct world_op *op);
	/* fdatasync: completed writes and the size survive a loss of power. */
	void (*file_sync)(struct world_port *port, struct world_file *file, struct world_op *op);
	void (*file_resize)(struct world_port *port, struct world_file *file, uint64_t size_bytes,
			    enum world_resize how, struct world_op *op);
	void (*file_stat)(struct world_port *port, struct world_file *file,
			  struct world_stat *ret_stat, struct world_op *op);

	/* Directory entries; durable only after directory_sync() of the directory concerned. */
	void (*path_stat)(struct world_port *port, const char *path, struct world_stat *ret_stat,
			  struct world_op *op);
	void (*rename)(struct world_port *port, const char *from, const char *to,
		       struct world_op *op); /* replaces `to` */
	void (*unlink)(struct world_port *port, const char *path, struct world_op *op);
	void (*directory_make)(struct world_port *port, const char *path, struct world_op *op);
	void (*directory_list)(struct world_port *port, const char *path,
			       struct world_names *ret_names, struct world_op *op);
	void (*directory_sync)(struct world_port *port, const char *path, struct world_op *op);
	void (*fs_stat)(struct world_port *port, const char *path, struct world_fs_stat *ret_stat,
			struct world_op *op);

	/* Stream sockets (AF_INET, AF_INET6, AF_UNIX). listen() does not block. */
	int (*socket_listen)(struct world_port *port, const struct sockaddr *address,
			     socklen_t length, int backlog, struct world_socket **ret_socket);
	int (*socket_address)(struct world_socket *socket, bool peer,
			      struct sockaddr_storage *ret_address, socklen_t *ret_length);
	void (*socket_accept)(struct world_port *port, struct world_socket *listener,
			      struct world_socket **ret_socket, struct world_op *op);
	void (*socket_connect)(struct world_port *port, const struct sockaddr *address,
			       socklen_t length, struct world_socket **ret_socket,
			       struct world_op *op);
	/* Result 0 of a receive means the peer closed. */
	void (*socket_receive)(struct world_port *port, struct world_socket *socket,
			       const struct iovec *iov, int iov_count, struct world_op *op);
	void (*socket_send)(struct world_port *port, struct world_socket *socket,
			    const struct iovec *iov, int iov_count, struct world_op *op);
	/* Ends both directions. Callable while operations pend, which complete soon: an accept with
	 * -EINVAL, a receive with what has arrived and then 0, a send with -EPIPE. */
	void (*socket_shutdown)(struct world_socket *socket);
	/* No operation may be pending on the socket. */
	void (*socket_close)(struct world_socket *socket);
};

static inline uint64_t world_now_ns(struct world *world)
{
	return world->ops->now_ns(world);
}
