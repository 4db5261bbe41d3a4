/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/iscsi/access.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

static const struct iscsi_rule *find_rule(const struct iscsi_guard *guard, const char *initiator)
{
	for (size_t i = 0; i < guard->rule_count; i++) {
		if (strcmp(guard->rules[i].initiator, initiator) == 0)
			return &guard->rules[i];
	}
	return NULL;
}

bool iscsi_guard_admits(const struct iscsi_guard *guard, const char *initiator)
{
	return guard->rule_count == 0 || find_rule(guard, initiator);
}

const struct iscsi_chap *iscsi_guard_chap(const struct iscsi_guard *guard, const char *initiator)
{
	const struct iscsi_rule *rule = find_rule(guard, initiator);

	return rule && rule->chap.secret[0] != '\0' ? &rule->chap : &guard->chap;
}

static int check(const struct iscsi_access *access)
{
	if (iscsi_chap_check(&access->chap) < 0 || access->rule_count > ISCSI_RULES_MAX ||
	    (access->redirect && strlen(access->redirect) >= ISCSI_REDIRECT_MAX))
		return -EINVAL;
	for (size_t i = 0; i < access->rule_count; i++) {
		const struct iscsi_rule *rule = &access->rules[i];

		if (!iscsi_text_is_name(rule->initiator) || iscsi_chap_check(&rule->chap) < 0)
			return -EINVAL;
	}
	return 0;
}

static void wipe(struct iscsi_guard *guard)
{
	iscsi_chap_wipe(&guard->chap);
	for (size_t i = 0; i < guard->rule_count; i++)
		iscsi_chap_wipe(&guard->rules[i].chap);
	free(guard->rules);
	guard->rules = NULL;
	guard->rule_count = 0;
}

int iscsi_guard_set(struct iscsi_guard *guard, const struct iscsi_access *access)
{
	struct iscsi_rule *rules = NULL;
	int r = check(access);

	if (r < 0)
		return r;
	if (access->rule_count > 0) {
		rules = calloc(access->rule_count, sizeof(*rules));
		if (!rules)
			return -ENOMEM;
		memcpy(rules, access->rules, access->rule_count * sizeof(*rules));
	}
	wipe(guard);
	guard->chap = access->chap;
	guard->rules = rules;
	guard->rule_count = access->rule_count;
	guard->max_sessions = access->max_sessions;
	guard->max_sessions_initiator = access->max_sessions_initiator;
	guard->generation++;
	memset(guard->redirect, 0, sizeof(guard->redirect));
	if (access->redirect)
		memcpy(guard->redirect, access->redirect, strlen(access->redirect));
	return 0;
}

void iscsi_guard_done(struct iscsi_guard *guard)
{
	wipe(guard);
}
