/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iSCSI targets: those made by hand, which stay without LUNs, and those that came with an export
 * and go with it. The catalog holds a row for each that is made or guarded, key (CATALOG_ISCSI, 0,
 * number), value JSON text: name, made, chap, limits, redirect, rules. Secrets stand in it as they
 * are, because CHAP needs them; the catalog's file is readable for the daemon's user alone.
 *
 * One entry is no target: NODE_DISCOVERY holds the rules for discovery sessions. It is always
 * there.
 *
 * Whoever changes targets or exports holds node->iscsi_lock.
 */
#include "control/node_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static struct catalog_key row_key(const struct node_target *target)
{
	struct catalog_key key = catalog_key(CATALOG_ISCSI);

	catalog_key_add(&key, 0);
	catalog_key_add(&key, target->number);
	return key;
}

struct node_target *node_target_find(struct node *node, const char *name)
{
	struct node_target *target;

	LIST_FOR_EACH (&node->targets, target, struct node_target, link) {
		if (strcmp(target->name, name) == 0)
			return target;
	}
	return NULL;
}

struct node_vdisk *node_target_lun(struct node *node, const char *name, int lun)
{
	struct node_vdisk *vdisk;

	LIST_FOR_EACH (&node->vdisks, vdisk, struct node_vdisk, link) {
		if (vdisk->export && strcmp(vdisk->export->target, name) == 0 &&
		    (lun < 0 || vdisk->export->lun == lun))
			return vdisk;
	}
	return NULL;
}

void node_access_done(struct node_access *access)
{
	iscsi_chap_wipe(&access->chap);
	for (size_t i = 0; i < access->rule_count; i++)
		iscsi_chap_wipe(&access->rules[i].chap);
	free(access->rules);
	*access = (struct node_access){0};
}

int node_access_copy(const struct node_access *access, struct node_access *ret_access)
{
	size_t size = access->rule_count * sizeof(*access->rules);

	*ret_access = *access;
	ret_access->rules = malloc(size + 1);
	if (!ret_access->rules) {
		*ret_access = (struct node_access){0};
		return -ENOMEM;
	}
	if (size > 0)
		memcpy(ret_access->rules, access->rules, size);
	return 0;
}

int node_access_add_rule(struct node_access *access, const struct iscsi_rule *rule)
{
	struct iscsi_rule *rules;

	for (size_t i = 0; i < access->rule_count; i++) {
		if (strcmp(access->rules[i].initiator, rule->initiator) == 0)
			return -EEXIST;
	}
	rules = realloc(access->rules, (access->rule_count + 1) * sizeof(*rules));
	if (!rules)
		return -ENOMEM;
	rules[access->rule_count++] = *rule;
	access->rules = rules;
	return 0;
}

int node_access_remove_rule(struct node_access *access, const char *initiator)
{
	for (size_t i = 0; i < access->rule_count; i++) {
		if (strcmp(access->rules[i].initiator, initiator) != 0)
			continue;
		memmove(&access->rules[i], &access->rules[i + 1],
			(--access->rule_count - i) * sizeof(*access->rules));
		return 0;
	}
	return -ENOENT;
}

bool node_access_is_guarded(const struct node_access *access)
{
	return access->rule_count > 0 || access->chap.secret[0] || access->max_sessions ||
	       access->max_sessions_initiator || access->redirect[0];
}

/* --- Rows --- */

static json_t *chap_to_json(const struct iscsi_chap *chap)
{
	return json_pack("{s:s, s:s, s:s, s:s}", "user", chap->user, "secret", chap->secret,
			 "own_user", chap->own_user, "own_secret", chap->own_secret);
}

static char *make_row(const struct node_target *target, const struct node_access *access)
{
	json_t *rules = json_array();
	_cleanup_json_ json_t *row =
		json_pack("{s:s, s:b, s:i, s:i, s:s, s:o, s:o}", "name", target->name, "made",
			  target->made, "max_sessions", (int)access->max_sessions,
			  "max_initiator_sessions", (int)access->max_sessions_initiator, "redirect",
			  access->redirect, "chap", chap_to_json(&access->chap), "rules", rules);

	for (size_t i = 0; row && i < access->rule_count; i++)
		json_array_append_new(rules, json_pack("{s:s, s:o}", "initiator",
						       access->rules[i].initiator, "chap",
						       chap_to_json(&access->rules[i].chap)));
	return row && json_array_size(rules) == access->rule_count ? json_dumps(row, JSON_COMPACT)
								   : NULL;
}

static void wipe_text(char **text)
{
	if (*text)
		explicit_bzero(*text, strlen(*text));
	free(*text);
}

static int write_row(struct node *node, const struct node_target *target,
		     const struct node_access *access)
{
	_cleanup_(wipe_text) char *text = NULL;
	struct catalog_change change = {.kind = CATALOG_DELETE, .key = row_key(target)};

	if (target->made || node_access_is_guarded(access)) {
		text = make_row(target, access);
		if (!text)
			return -ENOMEM;
		change.kind = CATALOG_PUT;
		change.value = text;
		change.length = (uint32_t)strlen(text);
	}
	return catalog_commit(node->catalog, &change, 1);
}

static int take_text(const json_t *json, const char *key, char *ret_text, size_t size)
{
	const char *text = json_string_value(json_object_get(json, key));

	if (!text || strlen(text) >= size)
		return -EUCLEAN;
	memcpy(ret_text, text, strlen(text) + 1);
	return 0;
}

static int parse_chap(const json_t *json, struct iscsi_chap *ret_chap)
{
	if (take_text(json, "user", ret_chap->user, sizeof(ret_chap->user)) < 0 ||
	    take_text(json, "secret", ret_chap->secret, sizeof(ret_chap->secret)) < 0 ||
	    take_text(json, "own_user", ret_chap->own_user, sizeof(ret_chap->own_user)) < 0)
		return -EUCLEAN;
	return take_text(json, "own_secret", ret_chap->own_secret, sizeof(ret_chap->own_secret));
}

static int parse_rule(const json_t *json, struct node_access *access)
{
	struct iscsi_rule rule = {0};
	int r = take_text(json, "initiator", rule.initiator, sizeof(rule.initiator));

	if (r == 0)
		r = parse_chap(json_object_get(json, "chap"), &rule.chap);
	if (r == 0)
		r = node_access_add_rule(access, &rule);
	iscsi_chap_wipe(&rule.chap);
	return r == -EEXIST ? -EUCLEAN : r;
}

static int parse_row(const struct catalog_row *row, struct node_target *target)
{
	_cleanup_json_ json_t *json = json_loadb((const char *)row->value, row->length, 0, NULL);
	struct node_access *access = &target->access;
	int made, sessions, initiator_sessions, r;
	const json_t *rules = json_object_get(json, "rules");

	if (json_unpack(json, "{s:b, s:i, s:i}", "made", &made, "max_sessions", &sessions,
			"max_initiator_sessions", &initiator_sessions) < 0 ||
	    sessions < 0 || initiator_sessions < 0 || !json_is_array(rules) ||
	    take_text(json, "name", target->name, sizeof(target->name)) < 0 ||
	    take_text(json, "redirect", access->redirect, sizeof(access->redirect)) < 0)
		return -EUCLEAN;
	target->made = made;
	access->max_sessions = (unsigned)sessions;
	access->max_sessions_initiator = (unsigned)initiator_sessions;
	r = parse_chap(json_object_get(json, "chap"), &access->chap);
	for (size_t i = 0; r == 0 && i < json_array_size(rules); i++)
		r = parse_rule(json_array_get(rules, i), access);
	return r;
}

/* --- Life --- */

static bool is_discovery(const char *name)
{
	return strcmp(name, NODE_DISCOVERY) == 0;
}

static int apply(struct node *node, const char *name, const struct node_access *access)
{
	const struct iscsi_access wanted = {
		.chap = access->chap,
		.rules = access->rules,
		.rule_count = access->rule_count,
		.max_sessions = access->max_sessions,
		.max_sessions_initiator = access->max_sessions_initiator,
		.redirect = access->redirect[0] ? access->redirect : NULL,
	};

	if (is_discovery(name))
		name = NULL;
	return node->iscsi ? iscsi_server_set_access(node->iscsi, name, &wanted) : 0;
}

static void free_target(struct node_target *target)
{
	list_remove(&target->link);
	node_access_done(&target->access);
	free(target);
}

static struct node_target *new_target(struct node *node, const char *name)
{
	struct node_target *target = calloc(1, sizeof(*target)), *other;

	if (!target)
		return NULL;
	LIST_FOR_EACH (&node->targets, other, struct node_target, link)
		target->number = MAX(target->number, other->number);
	target->number++;
	snprintf(target->name, sizeof(target->name), "%s", name);
	list_push_back(&node->targets, &target->link);
	return target;
}

int node_target_add(struct node *node, const char *name, bool made, struct node_target **ret_target)
{
	struct node_target *target;
	int r;

	if (node_target_find(node, name))
		return -EEXIST;
	target = new_target(node, name);
	if (!target)
		return -ENOMEM;
	target->made = made;
	r = node->iscsi ? iscsi_server_add_target(node->iscsi, name) : -ENODEV;
	if (r == 0 && made) {
		r = write_row(node, target, &target->access);
		if (r < 0)
			(void)iscsi_server_remove_target(node->iscsi, name); /* was just added */
	}
	if (r < 0) {
		free_target(target);
		return r;
	}
	*ret_target = target;
	return 0;
}

int node_target_set(struct node *node, struct node_target *target, struct node_access *access)
{
	int r = apply(node, target->name, access);

	if (r == 0)
		r = write_row(node, target, access);
	if (r < 0) {
		(void)apply(node, target->name, &target->access); /* as before */
		return r;
	}
	node_access_done(&target->access);
	target->access = *access;
	*access = (struct node_access){0};
	return 0;
}

int node_target_remove(struct node *node, struct node_target *target)
{
	struct catalog_change change = {.kind = CATALOG_DELETE, .key = row_key(target)};
	int r;

	if (is_discovery(target->name))
		return -EBUSY;
	if (node_target_lun(node, target->name, -1))
		return -ENOTEMPTY;
	r = catalog_commit(node->catalog, &change, 1);
	if (r < 0)
		return r;
	if (node->iscsi)
		r = iscsi_server_remove_target(node->iscsi, target->name);
	free_target(target);
	return r == -ENOENT ? 0 : r;
}

static int open_one(struct node *node, const struct catalog_row *row)
{
	struct node_target *target = new_target(node, "");
	int r = target ? parse_row(row, target) : -ENOMEM;

	if (target)
		target->number = catalog_key_number(&row->key, 1);
	if (r == 0 && node->iscsi && !is_discovery(target->name))
		r = iscsi_server_add_target(node->iscsi, target->name);
	if (r == 0)
		r = apply(node, target->name, &target->access);
	if (r == 0 || r == -ENOMEM)
		return r;
	/* Not served at all is better than served without its rules. */
	log_error("node", "a target is not served", "target=%s error=%d", target->name, r);
	if (node->iscsi) /* it may not be there */
		(void)iscsi_server_remove_target(node->iscsi, target->name);
	target->error = r;
	return 0;
}

int node_targets_open(struct node *node)
{
	struct catalog_key prefix = catalog_key(CATALOG_ISCSI);
	struct catalog_rows rows;
	int r;

	catalog_key_add(&prefix, 0);
	r = catalog_scan(node->catalog, &prefix, NULL, 0, &rows);
	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < rows.count; i++)
		r = open_one(node, &rows.rows[i]);
	catalog_rows_done(&rows);
	if (r == 0 && !node_target_find(node, NODE_DISCOVERY))
		r = new_target(node, NODE_DISCOVERY) ? 0 : -ENOMEM;
	return r;
}

void node_targets_close(struct node *node)
{
	struct node_target *target;

	LIST_FOR_EACH (&node->targets, target, struct node_target, link)
		free_target(target);
}
