/* SPDX-License-Identifier: Apache-2.0 */
/* iSCSI targets, their LUNs and the initiators that may use them. No answer holds a secret. */
#include "control/api_priv.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int require_server(struct api_request *request)
{
	if (request->node->iscsi)
		return 0;
	return api_fail(
		request, ERROR_UNAVAILABLE, NULL,
		"set [iscsi] enabled = true in the configuration and start the daemon again",
		"iSCSI is disabled");
}

/* Finds the target that the call names. */
static int find_target(struct api_request *request, struct node_target **ret_target)
{
	const char *name = params_text(request->params, "name");

	*ret_target = node_target_find(request->node, name);
	if (*ret_target)
		return 0;
	return api_fail(request, ERROR_NOT_FOUND, name, "see: sarsen iscsi target list",
			"there is no target '%s'", name);
}

/* Names compare without regard to case: they are kept in lower case. */
static void take_name(const char *text, char ret_name[ISCSI_NAME_MAX + 1])
{
	snprintf(ret_name, ISCSI_NAME_MAX + 1, "%s", text);
	for (char *c = ret_name; *c; c++)
		*c = (char)tolower((unsigned char)*c);
}

static int bad_name(struct api_request *request, const char *name)
{
	return api_fail(request, ERROR_INVALID_NAME, name,
			"give a name like iqn.2026-11.org.example:disks, at most 223 characters",
			"'%s' is no iSCSI name", name);
}

static int change_failed(struct api_request *request, int error, const char *name)
{
	if (error == -EINVAL)
		return api_fail(request, ERROR_INVALID_REQUEST, name,
				"give a user with each secret, and different secrets for the two "
				"directions; the initiator's comes first",
				"the names or secrets for '%s' do not fit together", name);
	return api_fail_errno(request, error, "change target", name);
}

static json_t *target_to_json(struct node *node, const struct node_target *target)
{
	const struct node_access *access = &target->access;
	const struct node_vdisk *vdisk;
	json_int_t luns = 0;

	LIST_FOR_EACH (&node->vdisks, vdisk, const struct node_vdisk, link)
		luns += vdisk->export && strcmp(vdisk->export->target, target->name) == 0;
	return json_pack("{s:s, s:I, s:I, s:b, s:b, s:i, s:i, s:s, s:s}", "name", target->name,
			 "luns", luns, "initiators", (json_int_t)access->rule_count, "chap",
			 access->chap.secret[0] != '\0', "mutual_chap",
			 access->chap.own_secret[0] != '\0', "max_sessions",
			 (int)access->max_sessions, "max_initiator_sessions",
			 (int)access->max_sessions_initiator, "redirect", access->redirect, "state",
			 target->error ? "failed" : "online");
}

int api_iscsi_target_list(struct api_request *request)
{
	struct node_target *target;

	request->result = json_array();
	LIST_FOR_EACH (&request->node->targets, target, struct node_target, link) {
		if (strcmp(target->name, NODE_DISCOVERY) == 0 &&
		    !node_access_is_guarded(&target->access))
			continue;
		json_array_append_new(request->result, target_to_json(request->node, target));
	}
	return 0;
}

/* Takes what is given over what is there. An empty text takes away. */
static void take_text(const json_t *params, const char *key, char *ret_text, size_t size)
{
	const char *text = params_text(params, key);

	if (text)
		snprintf(ret_text, size, "%s", text);
}

static void take_chap(const json_t *params, struct iscsi_chap *chap)
{
	if (params_bool(params, "no_chap"))
		iscsi_chap_wipe(chap);
	take_text(params, "chap_user", chap->user, sizeof(chap->user));
	take_text(params, "chap_secret", chap->secret, sizeof(chap->secret));
	take_text(params, "mutual_user", chap->own_user, sizeof(chap->own_user));
	take_text(params, "mutual_secret", chap->own_secret, sizeof(chap->own_secret));
}

static void take_settings(const json_t *params, struct node_access *access)
{
	take_chap(params, &access->chap);
	take_text(params, "redirect", access->redirect, sizeof(access->redirect));
	access->max_sessions =
		(unsigned)params_integer(params, "max_sessions", (int64_t)access->max_sessions);
	access->max_sessions_initiator = (unsigned)params_integer(
		params, "max_initiator_sessions", (int64_t)access->max_sessions_initiator);
}

static int create(struct api_request *request)
{
	char name[ISCSI_NAME_MAX + 1];
	struct node_target *target;
	int r;

	take_name(params_text(request->params, "name"), name);
	r = node_target_add(request->node, name, true, &target);
	if (r == -EINVAL)
		return bad_name(request, name);
	if (r < 0)
		return api_fail_errno(request, r, "make target", name);
	request->result = target_to_json(request->node, target);
	return 0;
}

typedef int change_fn(struct api_request *request, struct node_access *access);

/* Changes a copy of the target's rules, which then takes the place of the old ones. */
static int change(struct api_request *request, change_fn *fn)
{
	struct node_target *target;
	struct node_access access;
	int r = find_target(request, &target);

	if (r < 0)
		return r;
	r = node_access_copy(&target->access, &access);
	if (r < 0)
		return api_fail_errno(request, r, "change target", target->name);
	r = fn(request, &access);
	if (r == 0) {
		r = node_target_set(request->node, target, &access);
		if (r < 0)
			r = change_failed(request, r, target->name);
		else
			request->result = target_to_json(request->node, target);
	}
	node_access_done(&access);
	return r;
}

static int change_settings(struct api_request *request, struct node_access *access)
{
	take_settings(request->params, access);
	return 0;
}

static int set(struct api_request *request)
{
	return change(request, change_settings);
}

static int delete (struct api_request *request)
{
	struct node_target *target;
	int r = find_target(request, &target);

	if (r < 0)
		return r;
	r = node_target_remove(request->node, target);
	if (r == -ENOTEMPTY)
		return api_fail(request, ERROR_NOT_EMPTY, params_text(request->params, "name"),
				"first: sarsen iscsi lun remove, or iscsi unexport",
				"target '%s' has LUNs", params_text(request->params, "name"));
	if (r < 0)
		return api_fail_errno(request, r, "delete target",
				      params_text(request->params, "name"));
	request->result = json_object();
	return 0;
}

static int change_add(struct api_request *request, struct node_access *access)
{
	struct iscsi_rule rule = {0};
	int r;

	take_name(params_text(request->params, "initiator"), rule.initiator);
	take_chap(request->params, &rule.chap);
	r = iscsi_is_name(rule.initiator) ? node_access_add_rule(access, &rule) : -EINVAL;
	iscsi_chap_wipe(&rule.chap);
	if (r == -EINVAL)
		return bad_name(request, rule.initiator);
	return r < 0 ? api_fail_errno(request, r, "add initiator", rule.initiator) : 0;
}

static int add_initiator(struct api_request *request)
{
	return change(request, change_add);
}

static int change_remove(struct api_request *request, struct node_access *access)
{
	char name[ISCSI_NAME_MAX + 1];
	int r;

	take_name(params_text(request->params, "initiator"), name);
	/* Without rules everybody may: the last one must not open the target unseen. */
	if (access->rule_count == 1 && !params_bool(request->params, "open") &&
	    strcmp(access->rules[0].initiator, name) == 0)
		return api_fail(request, ERROR_BUSY, name,
				"add --open if every initiator may log in then",
				"'%s' is the last initiator of target '%s'", name,
				params_text(request->params, "name"));
	r = node_access_remove_rule(access, name);
	if (r == 0)
		return 0;
	return api_fail(request, ERROR_NOT_FOUND, name, "see: sarsen iscsi initiator list TARGET",
			"target '%s' does not name '%s'", params_text(request->params, "name"),
			name);
}

static int remove_initiator(struct api_request *request)
{
	return change(request, change_remove);
}

/* One at a time; the vDisks' exports keep out of the way meanwhile. */
static int locked(struct api_request *request, int (*fn)(struct api_request *request))
{
	int r = require_server(request);

	if (r < 0)
		return r;
	fiber_mutex_lock(&request->node->iscsi_lock);
	r = fn(request);
	fiber_mutex_unlock(&request->node->iscsi_lock);
	return r;
}

int api_iscsi_target_create(struct api_request *request)
{
	return locked(request, create);
}

int api_iscsi_target_set(struct api_request *request)
{
	return locked(request, set);
}

int api_iscsi_target_delete(struct api_request *request)
{
	return locked(request, delete);
}

int api_iscsi_initiator_add(struct api_request *request)
{
	return locked(request, add_initiator);
}

int api_iscsi_initiator_remove(struct api_request *request)
{
	return locked(request, remove_initiator);
}

int api_iscsi_initiator_list(struct api_request *request)
{
	struct node_target *target;
	int r = find_target(request, &target);

	if (r < 0)
		return r;
	request->result = json_array();
	for (size_t i = 0; i < target->access.rule_count; i++) {
		const struct iscsi_rule *rule = &target->access.rules[i];

		json_array_append_new(request->result,
				      json_pack("{s:s, s:s, s:b, s:b}", "initiator",
						rule->initiator, "user", rule->chap.user, "chap",
						rule->chap.secret[0] != '\0', "mutual_chap",
						rule->chap.own_secret[0] != '\0'));
	}
	return 0;
}

int api_iscsi_session_drop(struct api_request *request)
{
	int64_t id = params_integer(request->params, "id", 0);
	char text[24];
	int r = require_server(request);

	if (r < 0)
		return r;
	snprintf(text, sizeof(text), "%d", (int)id);
	if (iscsi_server_drop_session(request->node->iscsi, (uint16_t)id) < 0)
		return api_fail(request, ERROR_NOT_FOUND, text, "see: sarsen iscsi sessions",
				"there is no session %s", text);
	request->result = json_object();
	return 0;
}
