/* SPDX-License-Identifier: Apache-2.0 */
/* `get` and `set` of containers and vDisks: what policy.h knows, with where each value is from. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/api_priv.h"
#include "control/node_disk.h"
#include "control/policy_text.h"
#include "control/size.h"

/* Beside a limit or a reservation: how much of it is used. */
static bool use_of(const struct pool_quota_info *quota, enum policy_property property,
		   uint64_t *ret_bytes)
{
	if (property == POLICY_MAX_CAPACITY || property == POLICY_MIN_RESERVED)
		*ret_bytes = quota->taken;
	else if (property > POLICY_MAX_CAPACITY && property <= POLICY_MAX_CAPACITY_CLOUD)
		*ret_bytes = quota->tiers[property - POLICY_MAX_CAPACITY_SSD].used;
	else if (property > POLICY_MIN_RESERVED && property <= POLICY_MIN_RESERVED_CLOUD)
		*ret_bytes = quota->tiers[property - POLICY_MIN_RESERVED_SSD].used;
	else
		return false;
	return true;
}

static json_t *row_of(const struct container_policy *policy, enum policy_property property,
		      const struct pool_quota_info *quota)
{
	const struct policy_info *info = policy_info(property);
	uint64_t used;
	json_t *row = json_pack("{s:s, s:o, s:s, s:o, s:s}", "property", info->name, "value",
				policy_text_to_json(property, policy->values[property]), "source",
				policy_source_name(policy->sources[property]), "default",
				policy_text_to_json(property, info->fallback), "help", info->help);

	if (quota && use_of(quota, property, &used))
		json_object_set_new(row, "used", json_integer((json_int_t)used));
	return row;
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
static void show(struct api_request *request, const struct container_policy *policy, bool of_vdisk,
		 const struct pool_quota_info *quota)
{
	const json_t *names = json_object_get(request->params, "properties");

	request->result = json_array();
	for (unsigned i = 0; i < POLICY_PROPERTY_COUNT; i++)
		if (is_asked_for(names, i) &&
		    (!of_vdisk || policy_info(i)->of_vdisk || json_array_size(names) > 0))
			json_array_append_new(request->result, row_of(policy, i, quota));
}

static int refuse_conflict(struct api_request *request, const char *object,
			   const struct policy_conflict *conflict)
{
	const char *greater = policy_info(conflict->greater)->name;
	const char *than = policy_info(conflict->than)->name;
	char remedy[256];

	snprintf(remedy, sizeof(remedy), "lower %s, or raise %s",
		 conflict->sum ? "what is reserved on tiers" : greater, than);
	if (conflict->sum)
		return api_fail(request, ERROR_INVALID_REQUEST, object, remedy,
				"'%s': what is reserved on all tiers (min_reserved_ssd, _hdd, _san "
				"and _cloud) would be greater than %s",
				object, than);
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

static int refuse_problem(struct api_request *request, const struct api_policy_subject *subject,
			  enum pool_quota_problem problem)
{
	static const char *const causes[] = {
		[POOL_QUOTA_FEW_DISKS] = "the pool has fewer disks than there would be copies",
		[POOL_QUOTA_NO_TIER] = "something is reserved on a tier of which the pool has no "
				       "disk",
		[POOL_QUOTA_TIER_FULL] = "the disks of a tier hold less than is reserved there, or "
					 "have less free",
		[POOL_QUOTA_FULL] = "the pool has no room for that beside what others have, and "
				    "what is reserved for them",
	};
	static const char *const remedies[] = {
		[POOL_QUOTA_FEW_DISKS] = "add disks: sarsen disk add; or ask for fewer copies",
		[POOL_QUOTA_NO_TIER] = "add such a disk: sarsen disk add; or reserve elsewhere",
		[POOL_QUOTA_TIER_FULL] = "add disks: sarsen disk add; or reserve less",
		[POOL_QUOTA_FULL] = "reserve less, add disks, or delete what is not needed",
	};

	return api_fail(request,
			problem == POOL_QUOTA_FULL || problem == POOL_QUOTA_TIER_FULL
				? ERROR_NO_SPACE
				: ERROR_INVALID_REQUEST,
			subject->name, remedies[problem], "'%s' cannot have that: %s",
			subject->name, causes[problem]);
}

/* Does the call ask for something that the pool must have? */
static bool asks_of_pool(const struct api_request *request)
{
	const char *name;
	json_t *value;

	json_object_foreach(json_object_get(request->params, "set"), name, value)
	{
		if (strcmp(name, "replication_factor") == 0 ||
		    strncmp(name, "min_reserved", strlen("min_reserved")) == 0)
			return true;
	}
	return false;
}

static int check_pool(struct api_request *request, const struct api_policy_subject *subject,
		      struct container_policy *policy)
{
	const struct node_pool *pool = subject->pool;
	enum pool_quota_problem problem;
	int r;

	if (!pool || !pool->pool)
		return api_fail_errno(request, pool ? pool->error : -ENODEV, "use the pool of",
				      subject->name);
	if (subject->of_vdisk) /* what is reserved is the container's */
		for (unsigned i = 0; i <= POLICY_TIER_COUNT; i++)
			policy->values[POLICY_MIN_RESERVED + i] = 0;
	r = pool_quota_check(pool->pool, subject->container, policy, &problem);
	if (r < 0)
		return api_fail_errno(request, r, "check the policy of", subject->name);
	return problem == POOL_QUOTA_FINE ? 0 : refuse_problem(request, subject, problem);
}

/* What the vDisk has, when it would get more copies; and with how many it would be, by factor. */
static int add_raise(struct api_request *request, const struct api_policy_subject *subject,
		     struct node_vdisk *vdisk, struct pool_raise *raise, uint64_t *after)
{
	_cleanup_free_ struct node_vdisk_stats *stats = calloc(1, sizeof(*stats));
	bool asked = subject->of_vdisk && strcmp(vdisk->name, subject->name) == 0;
	unsigned factor = vdisk->factor;
	uint64_t live;
	struct container_policy policy;
	struct policy_set own;
	int r = stats ? 0 : -ENOMEM;

	if (r == 0 && !asked)
		r = policy_get_vdisk(request->node->catalog, vdisk->info.id, &own);
	if (r < 0)
		return r;
	policy_merge(&subject->of_container, asked ? subject->of_vdisk : &own, &policy);
	if (factor == 0 || vdisk->info.deleting)
		return 0;
	live = node_vdisk_get_stats(request->node, vdisk, stats) == 0 ? stats->stats.live_bytes
								      : vdisk->info.live_bytes;
	after[MAX(policy.replication_factor, (uint64_t)factor)] += live;
	if (policy.replication_factor <= factor || (subject->of_vdisk && !asked))
		return 0;
	raise->factor = (unsigned)policy.replication_factor;
	raise->bytes[factor] += live;
	return 0;
}

/* More copies of what is there already must have room, or repair would never end. */
static int check_copies(struct api_request *request, const struct api_policy_subject *subject,
			const struct container_policy *policy)
{
	char needed[SIZE_TEXT_MAX], room[SIZE_TEXT_MAX];
	struct pool_raise raise = {.factor = 1};
	uint64_t after[POOL_FACTOR_MAX + 1] = {0};
	struct node_vdisk *vdisk;
	int r = 0;

	for (uint64_t id = 0; r == 0 && (vdisk = node_vdisk_after(request->node, id));) {
		id = vdisk->info.id;
		if (vdisk->info.container_id == subject->container)
			r = add_raise(request, subject, vdisk, &raise, after);
	}
	if (r < 0)
		return api_fail_errno(request, r, "check the policy of", subject->name);
	if (raise.factor > 1 && !pool_quota_tiers_hold(subject->pool->pool, policy, after))
		return api_fail(request, ERROR_NO_SPACE, subject->name,
				"raise max_capacity of a tier, or add disks: sarsen disk add",
				"'%s' cannot have %u copies: what its max_capacity allows on each "
				"tier that the pool has, each copy on another disk, is less than "
				"what is stored",
				subject->name, raise.factor);
	if (pool_admit_could_raise(subject->pool->pool, &raise))
		return 0;
	return api_fail(request, ERROR_NO_SPACE, subject->name,
			"add disks: sarsen disk add; or delete what is not needed",
			"'%s' cannot have %u copies: what is stored would take %s more, and the "
			"pool's disks have room for %s, each copy on another disk",
			subject->name, raise.factor, size_format(raise.needed, needed),
			size_format(raise.room, room));
}

int api_policy_apply(struct api_request *request, struct api_policy_subject *subject)
{
	struct container_policy policy;
	struct policy_conflict conflict;
	int r = change(request, subject->name, subject->of_vdisk != NULL,
		       subject->of_vdisk ? subject->of_vdisk : &subject->of_container);

	if (r < 0)
		return r;
	policy_merge(&subject->of_container, subject->of_vdisk, &policy);
	if (!policy_is_sound(&policy, &conflict))
		return refuse_conflict(request, subject->name, &conflict);
	if (!asks_of_pool(request))
		return 0;
	r = check_pool(request, subject, &policy);
	return r < 0 ? r : check_copies(request, subject, &policy);
}

int api_policy_tell_pool(struct api_request *request, const struct api_policy_subject *subject)
{
	struct container_policy policy;
	int r;

	policy_merge(&subject->of_container, NULL, &policy);
	if (!subject->pool || !subject->pool->pool)
		return 0; /* it reads the rows when it is opened */
	r = pool_quota_set(subject->pool->pool, subject->container, &policy);
	return r < 0 ? api_fail_errno(request, r, "apply the policy of", subject->name) : 0;
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
	struct container_info info;
	struct pool_quota_info quota;
	const struct node_pool *pool = NULL;
	int r = container_policy_get(request->node->catalog, container, vdisk, &policy);

	if (r == 0)
		r = container_get(request->node->catalog, container, &info);
	if (r < 0)
		return api_fail_errno(request, r, "read the policy of", object);
	if (vdisk == 0)
		pool = node_pool_by_id(request->node, info.pool_id);
	/* What is used is not known while the pool is not open. */
	if (!pool || !pool->pool || pool_quota_get(pool->pool, container, &quota) < 0)
		show(request, &policy, vdisk != 0, NULL);
	else
		show(request, &policy, false, &quota);
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
	struct api_policy_subject subject = {.name = name};
	struct container_info info;
	int r = find_container(request, name, &info);

	if (r < 0)
		return r;
	subject.pool = node_pool_by_id(node, info.pool_id);
	subject.container = info.id;
	r = container_get_policy(node->catalog, info.id, &subject.of_container);
	if (r < 0)
		return api_fail_errno(request, r, "read the policy of", name);
	r = api_policy_apply(request, &subject);
	if (r < 0)
		return r;
	r = container_put_policy(node->catalog, info.id, &subject.of_container);
	if (r < 0)
		return api_fail_errno(request, r, "change the policy of", name);
	r = api_policy_tell_pool(request, &subject);
	node_factors_changed(node, info.id);
	return r < 0 ? r : show_now(request, name, info.id, 0);
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
	struct policy_set of_vdisk;
	struct api_policy_subject subject = {
		.name = vdisk->name,
		.pool = node_pool_by_id(node, vdisk->info.pool_id),
		.container = vdisk->info.container_id,
		.of_vdisk = &of_vdisk,
	};
	int r = container_get_policy(node->catalog, subject.container, &subject.of_container);

	if (r == 0)
		r = policy_get_vdisk(node->catalog, vdisk->info.id, &of_vdisk);
	if (r < 0)
		return api_fail_errno(request, r, "read the policy of", vdisk->name);
	r = api_policy_apply(request, &subject);
	if (r < 0)
		return r;
	r = policy_put_vdisk(node->catalog, vdisk->info.id, &of_vdisk);
	if (r < 0)
		return api_fail_errno(request, r, "change the policy of", vdisk->name);
	node_factors_changed(node, subject.container);
	return show_now(request, vdisk->name, subject.container, vdisk->info.id);
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
