/* SPDX-License-Identifier: Apache-2.0 */
/* `get` and `set` of containers and vDisks: what policy.h knows, with where each value is from. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "control/api_priv.h"
#include "control/node_disk.h"
#include "control/policy_text.h"

static json_t *row_of(const struct container_policy *policy, enum policy_property property)
{
	const struct policy_info *info = policy_info(property);

	return json_pack("{s:s, s:o, s:s, s:o, s:s}", "property", info->name, "value",
			 policy_text_to_json(property, policy->values[property]), "source",
			 policy_source_name(policy->sources[property]), "default",
			 policy_text_to_json(property, info->fallback), "help", info->help);
}

static bool is_asked_for(const json_t *names, enum policy_property property)
{
	for (size_t i = 0; i < json_array_size(names); i++)
		if (strcmp(json_string_value(json_array_get(names, i)),
			   policy_info(property)->name) == 0)
			return true;
	return json_array_size(names) == 0;
}

/* In the order of the table; of a vDisk what it may have of its own, and what is asked for. */
static void show(struct api_request *request, const struct container_policy *policy, bool of_vdisk)
{
	const json_t *names = json_object_get(request->params, "properties");

	request->result = json_array();
	for (unsigned i = 0; i < POLICY_PROPERTY_COUNT; i++)
		if (is_asked_for(names, i) &&
		    (!of_vdisk || policy_info(i)->of_vdisk || json_array_size(names) > 0))
			json_array_append_new(request->result, row_of(policy, i));
}

static int refuse_conflict(struct api_request *request, const char *object,
			   const struct policy_conflict *conflict)
{
	const char *greater = policy_info(conflict->greater)->name;
	const char *than = policy_info(conflict->than)->name;
	char remedy[256];

	snprintf(remedy, sizeof(remedy), "lower %s, or raise %s", greater, than);
	if (conflict->sum)
		return api_fail(request, ERROR_INVALID_REQUEST, object, remedy,
				"'%s': the sum of %s and the like of the other tiers would be "
				"greater than %s",
				object, greater, than);
	return api_fail(request, ERROR_INVALID_REQUEST, object, remedy,
			"'%s': %s would be greater than %s", object, greater, than);
}

/* The parameter "set" over `set`. */
static int change(struct api_request *request, const char *object, bool of_vdisk,
		  struct policy_set *set)
{
	const char *name;
	json_t *value;

	json_object_foreach(json_object_get(request->params, "set"), name, value)
	{
		enum policy_property property;
		int r = policy_find(name, &property);

		ASSERT(r == 0); /* params_check() */
		if (of_vdisk && !policy_info(property)->of_vdisk)
			return api_fail(request, ERROR_INVALID_REQUEST, object,
					"set it for the container: sarsen container set",
					"a vDisk has no %s of its own", name);
		if (json_is_null(value))
			policy_set_remove(set, property);
		else
			r = policy_set_put(set, property, (uint64_t)json_integer_value(value));
		if (r < 0)
			return api_fail_errno(request, r, "change the policy of", object);
	}
	return 0;
}

static bool sets(const struct api_request *request, enum policy_property property)
{
	enum policy_property found;
	const char *name;
	json_t *value;

	json_object_foreach(json_object_get(request->params, "set"), name, value)
	{
		if (policy_find(name, &found) == 0 && found == property)
			return true;
	}
	return false;
}

/* More copies than disks could never be had. */
static int check_factor(struct api_request *request, const struct node_pool *pool,
			const char *object, unsigned factor)
{
	_cleanup_free_ struct pool_disk_info *infos = NULL;
	size_t count;

	if (factor <= 1 || !pool || !pool->pool || !sets(request, POLICY_REPLICATION_FACTOR))
		return 0;
	if (node_disk_list((struct node_pool *)pool, &infos, &count) < 0 || count >= factor)
		return 0;
	return api_fail(request, ERROR_INVALID_REQUEST, object, "add disks first: sarsen disk add",
			"'%s': %u copies need as many disks, and pool '%s' has %zu", object, factor,
			pool->name, count);
}

int api_policy_apply(struct api_request *request, const struct node_pool *pool, const char *object,
		     struct policy_set *of_container, struct policy_set *of_vdisk)
{
	struct container_policy policy;
	struct policy_conflict conflict;
	int r = change(request, object, of_vdisk, of_vdisk ? of_vdisk : of_container);

	if (r < 0)
		return r;
	policy_merge(of_container, of_vdisk, &policy);
	if (!policy_is_sound(&policy, &conflict))
		return refuse_conflict(request, object, &conflict);
	return check_factor(request, pool, object, (unsigned)policy.replication_factor);
}

static int find_container(struct api_request *request, const char *name,
			  struct container_info *ret_info)
{
	int r = container_find(request->node->catalog, name, ret_info);

	if (r == -ENOENT)
		return api_fail_unknown(request, "container", name);
	return r < 0 ? api_fail_errno(request, r, "find container", name) : 0;
}

static int show_now(struct api_request *request, const char *object, uint64_t container,
		    uint64_t vdisk)
{
	struct container_policy policy;
	int r = container_policy_get(request->node->catalog, container, vdisk, &policy);

	if (r < 0)
		return api_fail_errno(request, r, "read the policy of", object);
	show(request, &policy, vdisk != 0);
	return 0;
}

int api_container_get(struct api_request *request)
{
	const char *name = params_text(request->params, "name");
	struct container_info info;
	int r = find_container(request, name, &info);

	return r < 0 ? r : show_now(request, name, info.id, 0);
}

static int set_container_locked(struct api_request *request, const char *name)
{
	struct node *node = request->node;
	struct container_info info;
	struct policy_set set;
	int r = find_container(request, name, &info);

	if (r < 0)
		return r;
	r = container_get_policy(node->catalog, info.id, &set);
	if (r < 0)
		return api_fail_errno(request, r, "read the policy of", name);
	r = api_policy_apply(request, node_pool_by_id(node, info.pool_id), name, &set, NULL);
	if (r < 0)
		return r;
	r = container_put_policy(node->catalog, info.id, &set);
	if (r < 0)
		return api_fail_errno(request, r, "change the policy of", name);
	node_factors_changed(node, info.id);
	return show_now(request, name, info.id, 0);
}

int api_container_set(struct api_request *request)
{
	int r;

	fiber_mutex_lock(&request->node->lock);
	r = set_container_locked(request, params_text(request->params, "name"));
	fiber_mutex_unlock(&request->node->lock);
	return r;
}

int api_vdisk_get(struct api_request *request)
{
	const char *name = params_text(request->params, "name");
	const struct node_vdisk *vdisk = node_vdisk_find(request->node, name);

	if (!vdisk)
		return api_fail_unknown(request, "vdisk", name);
	return show_now(request, name, vdisk->info.container_id, vdisk->info.id);
}

static int set_vdisk(struct api_request *request, const struct node_vdisk *vdisk)
{
	struct node *node = request->node;
	struct policy_set of_container, of_vdisk;
	int r = container_get_policy(node->catalog, vdisk->info.container_id, &of_container);

	if (r == 0)
		r = policy_get_vdisk(node->catalog, vdisk->info.id, &of_vdisk);
	if (r < 0)
		return api_fail_errno(request, r, "read the policy of", vdisk->name);
	r = api_policy_apply(request, node_pool_by_id(node, vdisk->info.pool_id), vdisk->name,
			     &of_container, &of_vdisk);
	if (r < 0)
		return r;
	r = policy_put_vdisk(node->catalog, vdisk->info.id, &of_vdisk);
	if (r < 0)
		return api_fail_errno(request, r, "change the policy of", vdisk->name);
	node_factors_changed(node, vdisk->info.container_id);
	return show_now(request, vdisk->name, vdisk->info.container_id, vdisk->info.id);
}

int api_vdisk_set(struct api_request *request)
{
	struct node_vdisk *vdisk;
	int r = api_begin(request, params_text(request->params, "name"), false, &vdisk);

	if (r < 0)
		return r;
	r = set_vdisk(request, vdisk);
	node_vdisk_end(request->node, vdisk);
	return r;
}
