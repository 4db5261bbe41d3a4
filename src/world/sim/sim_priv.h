/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the files of the simulated world share: the simulation, its ports and operations.
 *
 * An operation passes through these stages. QUEUED: it takes effect at a time drawn by the seed.
 * PARKED: a socket's operation waits for its peer. DECIDED: it took effect, its completion is due
 * later. READY: in its port's list, to be told at the next world_port_wait(). In between, a crash
 * turns its result into -ESHUTDOWN. While its disk hangs, a file operation whose event came up is
 * held where it is, QUEUED or DECIDED, without an event.
 */
#include "world/sim.h"

#include "base/list.h"
#include "base/macros.h"
#include "world/sim/sim_event.h"
#include "world/sim/sim_node.h"
#include "world/sim/sim_random.h"

#define SIM_PORTS_MAX 64
#define SIM_NAME_MAX  255

struct sim_transaction;

/* One name of a directory set from `before` to `after` (NULL = absent), not yet durable. */
struct sim_name_change {
	char *name;
	struct sim_node *before, *after;
	struct sim_transaction *transaction;
};

struct sim_entry {
	char *name;
	struct sim_node *node;
};

struct sim_directory {
	struct sim_entry *entries; /* sorted bytewise */
	size_t count, room;
	struct sim_name_change *changes; /* in order of taking effect */
	size_t change_count, change_room;
};

struct sim_disk {
	struct list_node link;
	struct sim *sim;
	char *root;
	uint64_t number; /* from 1 */
	uint64_t capacity_pages, used_pages;
	uint64_t taken_pages; /* by others than the files that are simulated */
	bool read_only;
	bool missing;
	bool hung;
	struct sim_faults faults;
	struct list nodes; /* all that exist, in order of creation */
	uint32_t next_node_id;
	struct sim_node *root_node;
};

/* Where a path leads. */
struct sim_place {
	struct sim_disk *disk;
	struct sim_node *parent; /* NULL for the root of a disk */
	struct sim_node *node;   /* NULL when there is no such name */
	char name[SIM_NAME_MAX + 1];
};

enum sim_op_kind {
	SIM_OP_JOB,
	SIM_OP_OPEN,
	SIM_OP_CLOSE,
	SIM_OP_READ,
	SIM_OP_WRITE,
	SIM_OP_SYNC,
	SIM_OP_RESIZE,
	SIM_OP_FILE_STAT,
	SIM_OP_PATH_STAT,
	SIM_OP_RENAME,
	SIM_OP_UNLINK,
	SIM_OP_DIRECTORY_MAKE,
	SIM_OP_DIRECTORY_LIST,
	SIM_OP_DIRECTORY_SYNC,
	SIM_OP_FS_STAT,
	SIM_OP_ACCEPT,
	SIM_OP_CONNECT,
	SIM_OP_RECEIVE,
	SIM_OP_SEND,
	SIM_OP_COUNT,
};

enum sim_stage { SIM_QUEUED, SIM_PARKED, SIM_RUNNING, SIM_DECIDED, SIM_READY };

#define SIM_PARK INT64_MIN /* an effect's result: not yet */

/* The state of an operation, in its private_words. */
struct sim_op {
	struct sim_event event; /* bytes: kind, stage */
	uint64_t due_ns;        /* of the completion */
	int64_t result;
	union {
		struct {
			void (*work)(void *arg);
			void *arg;
		} job;
		struct {
			struct world_file *file;
			const struct iovec *iov;
			uint64_t offset; /* or the size to set */
			uint64_t mark;   /* stamp of the submission */
			uint64_t change; /* that it made */
			int iov_count;
			bool reserve;
			struct world_stat *ret_stat;
		} io;
		struct {
			const char *path, *to;
			unsigned flags;
			uint64_t mark;
			void *ret;
			union {
				struct world_file *file;
				struct world_stat stat;
				struct world_fs_stat fs_stat;
				struct world_names names;
			} out;
		} path;
		struct {
			struct world_socket *socket;
			struct sim_op *next; /* in the socket's queue of parked operations */
			const struct iovec *iov;
			int iov_count;
			socklen_t address_length;
			const struct sockaddr *address;
			struct world_socket **ret_socket;
			struct world_socket *out;
		} net;
	};
};

_Static_assert(sizeof(struct sim_op) <= sizeof(((struct world_op *)0)->private_words),
	       "an operation's state must fit into its private words");

struct sim_op_type {
	const char *name;
	/* Before it takes effect: may put off its completion. NULL = no. */
	void (*delay)(struct sim *sim, struct sim_op *op);
	/* Takes effect; returns the result or SIM_PARK. */
	int64_t (*effect)(struct sim *sim, struct sim_op *op);
	/* Just before the caller is told: writes outputs, or drops them when result < 0. */
	void (*finish)(struct sim *sim, struct sim_op *op);
	/* A crash while it is not finished: may let it have part of its effect. NULL = none. */
	void (*crash)(struct sim *sim, struct sim_op *op);
	/* Asked to end early while QUEUED or PARKED: true when it may. NULL = never. */
	bool (*cancel)(struct sim *sim, struct sim_op *op);
};

struct world_file {
	struct list_node link; /* of the simulation */
	struct sim_node *node;
	unsigned flags;
	unsigned in_flight; /* operations */
	bool never_flips;
};

struct sim_channel { /* messages from one sender, FIFO */
	struct world_message *head, *tail;
};

struct world_port {
	struct sim *sim;
	struct sim_event turn_event;
	unsigned slot;
	unsigned index;
	uint64_t serial;
	void (*turn)(void *arg);
	void *arg;
	struct list pending;
	struct list ready;
	uint64_t deadline_ns;
	uint64_t busy_until_ns; /* the next turn is not before */
	bool active;            /* something ran in this turn, so the deadline may be old */
	unsigned message_count;
	struct sim_channel channels[SIM_PORTS_MAX + 1]; /* by sender's slot + 1; 0 = no sender */
};

struct sim {
	struct world world;
	uint64_t seed;
	bool trace;
	bool running;
	uint64_t now_ns;
	uint64_t wall_offset_ns;
	uint64_t stamp; /* orders completions and submissions of syncs */
	uint64_t hash;

	/* Streams of random numbers: the world's timing, faults, what survives, tests, programs. */
	struct sim_rng timing, faults, fate, tests, program;
	uint64_t min_latency_ns, max_latency_ns;
	uint64_t message_delay_ns; /* at most */
	uint64_t turn_cost_ns;     /* at most */
	uint32_t stall_ppm;        /* a turn that takes long */

	struct sim_heap heap;
	struct world_port *ports[SIM_PORTS_MAX];
	uint64_t port_serial;

	bool dead;
	enum sim_crash crash;
	uint64_t fail_countdown, crash_countdown;
	int fail_error;
	bool fail_hit;
	enum sim_crash crash_next;

	uint64_t disk_count;
	struct list disks;
	struct list files;   /* open */
	struct list sockets; /* not closed */
	uint16_t next_tcp_port;
	struct sim_network_faults network_faults;
	uint64_t slow_jobs_ns; /* 0: as usual */
	struct sim_pool pool;
	int vfs_errno; /* of SQLite's VFS */
};

static inline struct sim *sim_of(struct world *world)
{
	return CONTAINER_OF(world, struct sim, world);
}

static inline struct sim_op *sim_op_of(struct world_op *op)
{
	return (struct sim_op *)(void *)op->private_words;
}

static inline struct world_op *sim_op_outer(struct sim_op *op)
{
	return CONTAINER_OF((uint64_t *)(void *)op, struct world_op, private_words[0]);
}

/* sim.c */
/* Adds to the trace hash; with tracing on, prints. */
void sim_trace(struct sim *sim, const char *what, uint64_t a, uint64_t b, int64_t result);
/*
 * Every file operation passes here once, when it takes effect: counts down to the forced fault or
 * crash, then draws a fault of `error_ppm`. 0 or the error it must fail with.
 */
int sim_gate(struct sim *sim, uint32_t error_ppm);
extern const struct world_ops sim_world_ops;

/* sim_port.c */
int sim_port_open(struct world *world, unsigned index, void (*turn)(void *arg), void *arg,
		  struct world_port **ret_port);
void sim_port_close(struct world_port *port);
unsigned sim_port_wait(struct world_port *port, uint64_t deadline_ns, unsigned max_completions);
void sim_port_submit(struct world_port *port);
void sim_port_wake(struct world_port *port);
void sim_port_post(struct world_port *from, struct world_port *to, struct world_message *message);
void sim_port_turn(struct world_port *port);
/* Its next turn is at `due_ns` or earlier. */
void sim_port_need_turn(struct world_port *port, uint64_t due_ns);
void sim_port_free(struct world_port *port);

/* sim_op.c */
/* Returns the operation's state, cleared; the caller fills it in and then calls sim_op_submit(). */
struct sim_op *sim_op_init(struct world_port *port, struct world_op *op, enum sim_op_kind kind);
void sim_op_submit(struct sim_op *op);
void sim_op_run(struct sim *sim, struct sim_op *op); /* its event came up */
/* Ends a parked operation soon. */
void sim_op_decide(struct sim *sim, struct sim_op *op, int64_t result);
/* Lets a parked operation try again soon. */
void sim_op_retry(struct sim *sim, struct sim_op *op);
void sim_op_cancel(struct world_port *port, struct world_op *op);
/* Runs the next ready operation of the port. */
void sim_op_deliver(struct world_port *port);
/* The disk hangs no more: what was held back goes on. */
void sim_op_let_go(struct world_port *port, const struct sim_disk *disk);
void sim_op_shutdown_all(struct world_port *port);
void sim_op_job(struct world_port *port, void (*work)(void *arg), void *arg, struct world_op *op);
enum sim_stage sim_op_stage(const struct sim_op *op);
enum sim_op_kind sim_op_kind(const struct sim_op *op);
/* Delays a completion by what the disk's faults say. */
void sim_op_slow(struct sim_op *op, uint32_t ppm, uint64_t at_most_ns);

/* sim_tree.c */
struct sim_disk *sim_tree_disk(struct sim *sim, const char *path, const char **ret_rest);
struct sim_disk *sim_tree_disk_new(struct sim *sim, const char *root, uint64_t capacity_bytes);
void sim_tree_disk_free(struct sim_disk *disk);
/* -ENOENT, -ENOTDIR when it leads nowhere; a missing last name is no error. */
int sim_tree_resolve(struct sim *sim, const char *path, struct sim_place *ret_place);
/* A node without a name and with one reference. */
struct sim_node *sim_tree_node_new(struct sim_disk *disk, bool directory);
/* Gives `place` a node; replaces what has the name. */
void sim_tree_link(const struct sim_place *place, struct sim_node *node);
void sim_tree_unlink(const struct sim_place *place);
void sim_tree_move(const struct sim_place *from, const struct sim_place *to);
bool sim_tree_contains(const struct sim_node *directory, const struct sim_node *node);
/* Makes the changes of a directory durable that took effect before `mark`. */
void sim_tree_sync(struct sim_node *directory, uint64_t mark);
void sim_tree_power_loss(struct sim_disk *disk, struct sim_rng *rng);
void sim_tree_directory_free(struct sim_directory *directory);

/* sim_file.c: also called by SQLite's VFS, which waits for nothing. */
struct world_file *sim_file_new(struct sim *sim, struct sim_node *node, unsigned flags);
void sim_file_free(struct world_file *file);
int sim_file_do_open(struct sim *sim, const char *path, unsigned flags,
		     struct world_file **ret_file);
int64_t sim_file_do_read(struct world_file *file, struct sim_cursor cursor, uint64_t offset);
int64_t sim_file_do_write(struct world_file *file, struct sim_cursor cursor, uint64_t offset,
			  uint64_t *ret_change);
int sim_file_do_sync(struct world_file *file, uint64_t mark);
int sim_file_do_resize(struct world_file *file, uint64_t size_bytes, bool reserve,
		       uint64_t *ret_change);
int sim_path_do_unlink(struct sim *sim, const char *path);
int sim_path_do_directory_sync(struct sim *sim, const char *path, uint64_t mark);

void sim_file_open(struct world_port *port, const char *path, unsigned flags,
		   struct world_file **ret_file, struct world_op *op);
void sim_file_close(struct world_port *port, struct world_file *file, struct world_op *op);
void sim_file_read(struct world_port *port, struct world_file *file, const struct iovec *iov,
		   int iov_count, uint64_t offset, struct world_op *op);
void sim_file_write(struct world_port *port, struct world_file *file, const struct iovec *iov,
		    int iov_count, uint64_t offset, struct world_op *op);
void sim_file_sync(struct world_port *port, struct world_file *file, struct world_op *op);
void sim_file_resize(struct world_port *port, struct world_file *file, uint64_t size_bytes,
		     enum world_resize how, struct world_op *op);
void sim_file_stat(struct world_port *port, struct world_file *file, struct world_stat *ret_stat,
		   struct world_op *op);
extern const struct sim_op_type sim_file_open_type, sim_file_close_type, sim_file_read_type,
	sim_file_write_type, sim_file_sync_type, sim_file_resize_type, sim_file_stat_type;

/* sim_path.c */
void sim_path_delay(struct sim *sim, struct sim_op *op);
void sim_path_stat(struct world_port *port, const char *path, struct world_stat *ret_stat,
		   struct world_op *op);
void sim_path_rename(struct world_port *port, const char *from, const char *to,
		     struct world_op *op);
void sim_path_unlink(struct world_port *port, const char *path, struct world_op *op);
void sim_path_directory_make(struct world_port *port, const char *path, struct world_op *op);
void sim_path_directory_list(struct world_port *port, const char *path,
			     struct world_names *ret_names, struct world_op *op);
void sim_path_directory_sync(struct world_port *port, const char *path, struct world_op *op);
void sim_path_fs_stat(struct world_port *port, const char *path, struct world_fs_stat *ret_stat,
		      struct world_op *op);
extern const struct sim_op_type sim_path_stat_type, sim_path_rename_type, sim_path_unlink_type,
	sim_path_directory_make_type, sim_path_directory_list_type, sim_path_directory_sync_type,
	sim_path_fs_stat_type;

/* sim_socket.c */
int sim_socket_listen(struct world_port *port, const struct sockaddr *address, socklen_t length,
		      int backlog, struct world_socket **ret_socket);
int sim_socket_address(struct world_socket *socket, bool peer, struct sockaddr_storage *ret_address,
		       socklen_t *ret_length);
void sim_socket_accept(struct world_port *port, struct world_socket *listener,
		       struct world_socket **ret_socket, struct world_op *op);
void sim_socket_connect(struct world_port *port, const struct sockaddr *address, socklen_t length,
			struct world_socket **ret_socket, struct world_op *op);
void sim_socket_receive(struct world_port *port, struct world_socket *socket,
			const struct iovec *iov, int iov_count, struct world_op *op);
void sim_socket_send(struct world_port *port, struct world_socket *socket, const struct iovec *iov,
		     int iov_count, struct world_op *op);
void sim_socket_shutdown(struct world_socket *socket);
void sim_socket_close(struct world_socket *socket);
void sim_socket_free_all(struct sim *sim);
extern const struct sim_op_type sim_socket_accept_type, sim_socket_connect_type,
	sim_socket_receive_type, sim_socket_send_type;

/* sim_vfs.c */
void sim_vfs_register(struct sim *sim);
void sim_vfs_unregister(struct sim *sim);
