/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The engine's connection to one keeper (vfu/link.h), with the controller that is served through it
 * (nvme.h). Real world only: it maps memory and signals events.
 *
 * All functions are called on the link's home reactor, which is the controller's too. Order:
 *
 *   nvme_link_open()       connects, sends HELLO with the fence, takes WELCOME and all up to READY,
 *                          makes the controller with its guest memory; nothing runs yet
 *   nvme_namespace_attach(nvme_link_controller(), ...)   for all that exist
 *   nvme_link_start()      the controller recovers and serves
 *   nvme_link_close()      stops the controller, leaves its state for the next engine, disconnects
 *
 * The keeper is started by control as
 *
 *   sarsen-keeper --name NAME --link PATH --socket PATH [--doorbells trapped|mapped] [--queues N]
 *                 [--group GID]
 *
 * It makes both sockets itself, in place of sockets of a keeper that is gone; --link is for the
 * engine (mode 0600, or its group's), --socket for QEMU (mode 0660, group GID when given).
 */
#include "frontend/nvme/nvme.h"

struct nvme_link;

struct nvme_link_options {
	struct reactor *home;
	const char *path; /* the keeper's link socket; used during open only */
	int fence_fd;     /* read end of this process's fence; belongs to the caller, outlives the
			   * link */
	const uint32_t *cancelled; /* opening ends with -ECANCELED once it is not 0; may be NULL.
				    * Read with vfu_load() */
	uint64_t timeout_ns; /* from connecting to READY: an engine before this one may still be
			      * draining. 0 = 30 s */
	/* home, host and host_context are filled in by the link. */
	struct nvme_controller_options controller;
	/* The keeper is gone or spoke nonsense (-ECONNRESET, -EPROTO): called once, on `home`, not
	 * from inside of a call of this header. The caller closes the link. */
	void (*lost)(void *context, int error);
	/* nvme_host_ops.formatted; may be NULL. */
	int (*formatted)(void *context, uint32_t nsid, uint32_t block_bytes);
	/* nvme_host_ops.manage; may be NULL. */
	int (*manage)(void *context, struct nvme_management *what);
	void *context;
};

/* From a fiber. -ENOENT, -ECONNREFUSED: no keeper listens. -ETIMEDOUT; -ECANCELED; -EPROTO: another
 * version, or nonsense; -EUCLEAN: contents that no engine wrote; what the keeper refused with;
 * -ENOMEM. */
int nvme_link_open(const struct nvme_link_options *options, struct nvme_link **ret_link);
void nvme_link_start(struct nvme_link *link);
struct nvme_controller *nvme_link_controller(struct nvme_link *link);
/* What the keeper counts; read with vfu_load(). */
const struct vfu_shared *nvme_link_shared(const struct nvme_link *link);
/* RETIRE: the keeper ends as soon as no client is connected, or at once. 0 when it was sent; its
 * end is told by lost(). */
int nvme_link_retire(struct nvme_link *link, bool at_once);
/* REPLACE: the keeper executes its program anew. The connection ends and lost() tells so with
 * -ECONNRESET; the caller opens a new link. */
int nvme_link_replace(struct nvme_link *link);
/* From a fiber; also after lost() and before nvme_link_start(). NULL is allowed. */
void nvme_link_close(struct nvme_link *link);
