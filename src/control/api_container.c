/* SPDX-License-Identifier: Apache-2.0 */
#include "control/api_priv.h"

#include <errno.h>

#include "control/policy_text.h"
#include "control/time_text.h"

/* Of tiers that the pool has, or something is set for. */
static json_t *tiers_to_json(const struct pool_quota_info *quota)
{
	json_t *tiers = json_array();

	for (unsigned i = 0; i < POLICY_TIER_COUNT; i++) {
		const struct pool_quota_tier *tier = &quota->tiers[i];

		if (!tier->present && tier->used == 0 && tier->most == POLICY_NONE &&
		    tier->reserved == 0)
			continue;
		json_array_append_new(
			tiers,
			json_pack("{s:s, s:I, s:o, s:I}", "tier",
				  policy_tier_name((enum policy_tier)i), "used_bytes",
				  (json_int_t)tier->used, "limit_bytes",
				  policy_text_to_json(POLICY_MAX_CAPACITY_SSD + i, tier->most),
				  "reserved_bytes", (json_int_t)tier->reserved));
	}
	return tiers;
}

/* What it has and may have, in total and on each tier; not known while its pool is not open. */
static void add_room(json_t *json, const struct node_pool *pool, uint64_t container)
{
	struct pool_quota_info quota;

	if (!pool || !pool->pool || pool_quota_get(pool->pool, container, &quota) < 0) {
		json_object_set_new(json, "tiers", json_array());
		return;
	}
	json_object_set_new(json, "used_bytes", json_integer((json_int_t)quota.taken));
	json_object_set_new(json, "limit_bytes",
			    policy_text_to_json(POLICY_MAX_CAPACITY, quota.capacity));
	json_object_set_new(json, "reserved_bytes", json_integer((json_int_t)quota.reserved));
	json_object_set_new(json, "tiers", tiers_to_json(&quota));
}

static json_t *container_to_json(struct node *node, const struct container_info *info)
{
	const struct node_pool *pool = node_pool_by_id(node, info->pool_id);
	char created[TIME_TEXT_MAX];
	struct node_vdisk *vdisk;
	json_int_t count = 0;
	json_t *json;

	LIST_FOR_EACH (&node->vdisks, vdisk, struct node_vdisk, link)
		count += vdisk->info.container_id == info->id;
	json = json_pack("{s:s, s:I, s:s, s:I, s:s}", "name", info->name, "id",
			 (json_int_t)info->id, "pool", pool ? pool->name : "", "vdisks", count,
			 "created", time_text(info->created_wall_ns, created));
	add_room(json, pool, info->id);
	return json;
}

/* The pool that is asked for, or the only one. */
static int choose_pool(struct api_request *request, struct node_pool **ret_pool)
{
	struct list *pools = &request->node->pools;
	const char *name = params_text(request->params, "pool");

	if (name) {
		*ret_pool = node_pool_find(request->node, name);
		return *ret_pool ? 0 : api_fail_unknown(request, "pool", name);
	}
	if (list_is_empty(pools))
		return api_fail(request, ERROR_NOT_FOUND, NULL, "make one: sarsen pool create",
				"there is no pool");
	if (list_front(pools) != list_back(pools))
		return api_fail(request, ERROR_INVALID_REQUEST, "pool", "name it with --pool",
				"there is more than one pool");
	*ret_pool = LIST_ENTRY(list_front(pools), struct node_pool, link);
	return 0;
}

static int create_locked(struct api_request *request, const char *name)
{
	struct node *node = request->node;
	struct api_policy_subject subject = {.name = name};
	struct container_spec spec = {.name = name, .policy = &subject.of_container};
	struct container_info info;
	int r = choose_pool(request, &subject.pool);

	if (r == 0)
		r = api_policy_apply(request, &subject);
	if (r < 0)
		return r;
	spec.pool_id = subject.pool->id;
	r = container_create_with(node->catalog, node->options.world, &spec, &subject.container);
	if (r == 0)
		r = container_get(node->catalog, subject.container, &info);
	if (r < 0)
		return api_fail_errno(request, r, "create container", name);
	r = api_policy_tell_pool(request, &subject);
	if (r < 0)
		return r;
	request->result = container_to_json(node, &info);
	return 0;
}

int api_container_create(struct api_request *request)
{
	int r;

	fiber_mutex_lock(&request->node->lock);
	r = create_locked(request, params_text(request->params, "name"));
	fiber_mutex_unlock(&request->node->lock);
	return r;
}

int api_container_list(struct api_request *request)
{
	_cleanup_free_ struct container_info *infos = NULL;
	size_t count;
	int r = container_list(request->node->catalog, &infos, &count);

	if (r < 0)
		return api_fail_errno(request, r, "list", "containers");
	request->result = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(request->result, container_to_json(request->node, &infos[i]));
	return 0;
}

static int find(struct api_request *request, struct container_info *ret_info)
{
	const char *name = params_text(request->params, "name");
	int r = container_find(request->node->catalog, name, ret_info);

	if (r == -ENOENT)
		return api_fail_unknown(request, "container", name);
	return r < 0 ? api_fail_errno(request, r, "find container", name) : 0;
}

int api_container_show(struct api_request *request)
{
	struct container_info info;
	int r = find(request, &info);

	if (r == 0)
		request->result = container_to_json(request->node, &info);
	return r;
}

static int delete_locked(struct api_request *request)
{
	struct container_info info;
	struct node_pool *pool;
	int r = find(request, &info);

	if (r < 0)
		return r;
	r = container_delete(request->node->catalog, info.id);
	if (r == -ENOTEMPTY)
		return api_fail(request, ERROR_NOT_EMPTY, info.name,
				"delete its vDisks first: sarsen vdisk list",
				"container '%s' is not empty", info.name);
	if (r < 0)
		return api_fail_errno(request, r, "delete container", info.name);
	pool = node_pool_by_id(request->node, info.pool_id);
	if (pool && pool->pool)
		pool_quota_forget(pool->pool, info.id);
	request->result = json_object();
	return 0;
}

int api_container_delete(struct api_request *request)
{
	int r;

	fiber_mutex_lock(&request->node->lock);
	r = delete_locked(request);
	fiber_mutex_unlock(&request->node->lock);
	return r;
}
