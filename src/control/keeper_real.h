/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Keepers of the real world: processes of the program sarsen-keeper that outlive the daemon, found
 * again by their sockets.
 *
 * Started as the unit sarsen-keeper@NAME.service, through systemctl, where systemd has started the
 * daemon, so that a restart of the daemon's unit does not end them; else as a process in a session
 * of its own.
 */
#include "control/keeper.h"

struct keeper_real_options {
	const char *program;   /* absolute path of sarsen-keeper */
	const char *directory; /* of the sockets; made when it is missing, but not its parents */
	const char *group;     /* of QEMU's sockets and the directory; NULL or "" = ours */
	bool systemd;
};

struct keeper_real;

/* Strings live until keeper_real_free(). -ENOENT: no such group. */
int keeper_real_new(const struct keeper_real_options *options, struct keeper_real **ret_keepers);
void keeper_real_free(struct keeper_real *keepers);
/* Was this process started by systemd, so that its children are units' too? */
bool keeper_real_under_systemd(void);
extern const struct keeper_ops keeper_real_ops; /* context: struct keeper_real */
