/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The iSCSI front end (RFC 7143, SPC-4, SBC-3): a server that presents block volumes as LUNs of
 * targets.
 *
 * The server lives on one reactor. Each target, with its sessions, is served by one of the reactors
 * that it may use: by that of the volume that became its first LUN, if it can. Requests for volumes
 * elsewhere are carried there. Functions are called from fibers of the server's reactor.
 */
#include "block/block.h"
#include "frontend/iscsi/chap.h"

struct iscsi_server;

#define ISCSI_NAME_MAX     223 /* RFC 7143 section 4.2.7.1 */
#define ISCSI_LUNS         256 /* of a target */
#define ISCSI_RULES_MAX    256 /* of one target */
#define ISCSI_REACTORS_MAX 64

/* Makes a unit's reservations durable, in place of what was saved before; nothing when `length` is
 * 0. In a fiber of the server's reactor; one at a time for each unit. */
typedef int iscsi_save_fn(void *arg, uint64_t serial, const void *data, size_t length);

struct iscsi_server_options {
	const char *address;              /* numeric IPv4 or IPv6 */
	uint16_t port;                    /* 0 = any free one */
	bool port_fallback;               /* take any free port where `port` is in use */
	bool closed;                      /* accepts nobody before iscsi_server_open() */
	struct reactor *const *reactors;  /* that serve targets; the first is the server's */
	unsigned reactor_count;           /* 0: only the server's; at most ISCSI_REACTORS_MAX */
	unsigned max_sessions;            /* on each reactor; 0 = 256 */
	uint64_t memory_bytes;            /* on each, for data in flight; 0 = 64 MiB */
	iscsi_save_fn *save_reservations; /* NULL: they end with the server (no APTPL) */
	void *save_arg;
};

struct iscsi_lun {                   /* copied */
	struct block_volume *volume; /* lives until iscsi_server_remove_lun() has returned */
	uint64_t identity;           /* of the node: no other has it, nor a unit of another one */
	uint64_t serial;             /* of the unit, among the node's; both are stable for ever */
	const char *product;         /* for INQUIRY, e.g. the vDisk's name; cut at 16 */
	const void *reservations;    /* as they were saved; read once */
	size_t reservations_length;
	bool read_only;
	bool thin;                             /* advertises provisioning, UNMAP */
	uint64_t space_available, space_total; /* see iscsi_server_set_space(); 0: not known yet */
	bool removable;                        /* its medium can be ejected and loaded again */
	uint32_t atomic_bytes; /* a write of so many is stored whole or not at all; 0: no promise */
};

struct iscsi_rule { /* an initiator that may log in */
	char initiator[ISCSI_NAME_MAX + 1];
	struct iscsi_chap chap; /* without a secret: the target's holds for it */
};

struct iscsi_access {           /* copied */
	struct iscsi_chap chap; /* with a secret: every initiator must prove that it knows it */
	const struct iscsi_rule *rules; /* any rule: no other initiator may log in or see it */
	size_t rule_count;
	unsigned max_sessions, max_sessions_initiator; /* 0: no limit but the server's */
	const char *redirect; /* host:port where the target is for now; NULL: here */
};

struct iscsi_session_info {
	char initiator[ISCSI_NAME_MAX + 1];
	char target[ISCSI_NAME_MAX + 1];
	char peer[64];
	uint16_t id; /* its TSIH: no other session has it now */
	unsigned connections;
	uint64_t created_wall_ns, commands, bytes_read, bytes_written;
};

/* iqn., eui. or naa. in lower case, at most 223 bytes (RFC 7143 section 4.2.7). */
bool iscsi_is_name(const char *name);

int iscsi_server_new(struct reactor *reactor, const struct iscsi_server_options *options,
		     struct iscsi_server **ret_server); /* -EADDRINUSE, -EINVAL address */
/* Accepts connections from now on. Those that came before have waited in the kernel's queue, so
 * that initiators find all targets when they come back after a restart. */
void iscsi_server_open(struct iscsi_server *server);
/* Drops all sessions, waits for their requests. */
void iscsi_server_free(struct iscsi_server *server);
/* The address and port that it listens on. */
void iscsi_server_address(const struct iscsi_server *server, char *ret_text, size_t size,
			  uint16_t *ret_port);

int iscsi_server_add_target(struct iscsi_server *server, const char *name); /* -EEXIST, -EINVAL */
/* Logs its sessions out, waits for their requests, removes its LUNs. -ENOENT. */
int iscsi_server_remove_target(struct iscsi_server *server, const char *name);
int iscsi_server_add_lun(struct iscsi_server *server, const char *target, uint16_t lun,
			 const struct iscsi_lun *spec); /* -ENOENT target, -EEXIST lun */
/* Who may log in; `target` NULL: for discovery sessions. Sessions of initiators that may no longer,
 * or of a target that is redirected, end. -ENOENT; -EINVAL secrets, names; -ENOMEM. */
int iscsi_server_set_access(struct iscsi_server *server, const char *target,
			    const struct iscsi_access *access);
/* Requests under way are completed first; later ones get LOGICAL UNIT NOT SUPPORTED. */
int iscsi_server_remove_lun(struct iscsi_server *server, const char *target, uint16_t lun);
/* The volume's size changed: CAPACITY DATA HAS CHANGED to each session. */
void iscsi_server_resized(struct iscsi_server *server, struct block_volume *volume);
/* What a thin volume can still grow by, of how much in all, in bytes. When it falls to a tenth:
 * THIN PROVISIONING SOFT THRESHOLD REACHED to each session, and again when it was more between. */
void iscsi_server_set_space(struct iscsi_server *server, struct block_volume *volume,
			    uint64_t available, uint64_t total);
/* Ends a session; its initiator may log in again. -ENOENT. */
int iscsi_server_drop_session(struct iscsi_server *server, uint16_t id);
/* Caller frees. */
int iscsi_server_sessions(struct iscsi_server *server, struct iscsi_session_info **ret_infos,
			  size_t *ret_count);
