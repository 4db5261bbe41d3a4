/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Who may log in: a guard for each target, and one for discovery sessions. Without rules any
 * initiator may; once there is one, only those that are named.
 *
 * Owned by the server; its reactor. Secrets are wiped when the guard changes or ends.
 */
#include "frontend/iscsi/iscsi.h"
#include "frontend/iscsi/login.h"

struct iscsi_guard {
	struct iscsi_chap chap;
	struct iscsi_rule *rules;
	size_t rule_count;
	uint64_t generation; /* changes with it: logins under way begin anew */
	unsigned max_sessions, max_sessions_initiator;
	char redirect[ISCSI_REDIRECT_MAX];
};

/* Takes a copy of what is asked. -EINVAL; -ENOMEM. */
int iscsi_guard_set(struct iscsi_guard *guard, const struct iscsi_access *access);
void iscsi_guard_done(struct iscsi_guard *guard);
/* May the initiator see the target, and try to log in? */
bool iscsi_guard_admits(const struct iscsi_guard *guard, const char *initiator);
/* What it has to prove; an empty secret: nothing. */
const struct iscsi_chap *iscsi_guard_chap(const struct iscsi_guard *guard, const char *initiator);
