/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The server's own state, for the files of this folder: its listener, and which target is where. */
#include "frontend/iscsi/shard.h"

struct iscsi_place { /* of a target */
	struct list_node link;
	char name[ISCSI_NAME_MAX + 1];
	struct iscsi_shard *shard;
	struct iscsi_guard guard; /* as the target has it; here it filters discovery */
	bool leaving;             /* being removed */
	bool moving;              /* to another shard */
};

struct iscsi_server {
	/* Never change, so every shard may read them. */
	struct reactor *reactor;
	const struct world_ops *world;
	struct world_port *port;
	uint64_t memory_bytes; /* of each shard */
	unsigned max_sessions; /* of each shard; 0: by default */
	iscsi_save_fn *save;   /* NULL: reservations are not saved */
	void *save_arg;
	unsigned shard_count;
	struct iscsi_shard *shards[ISCSI_REACTORS_MAX]; /* the first is on `reactor` */

	/* At home on `reactor`. */
	struct world_socket *listener;
	struct world_socket *accepted;
	struct world_op accept_op;
	struct reactor_timer retry;
	bool accepting, open, closing;
	struct iscsi_guard discovery_guard;
	struct list places;
	struct fiber_queue changed; /* accept ended; a target has moved */
};

/* On the server's reactor. */
struct iscsi_place *iscsi_server_find_place(const struct iscsi_server *server, const char *name);
