/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>

#include "control/api_directory.h"
#include "control/node_disk.h"
#include "control/node_overcommit.h"
#include "control/size.h"
#include "control/time_text.h"

static json_t *space_to_json(const struct pool_space *space)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "capacity_bytes",
			 (json_int_t)space->capacity, "used_bytes", (json_int_t)space->used,
			 "live_bytes", (json_int_t)space->live, "reclaimable_bytes",
			 (json_int_t)space->reclaimable, "reserve_bytes",
			 (json_int_t)space->reserve, "spare_bytes", (json_int_t)space->spare,
			 "admitted_bytes", (json_int_t)space->admitted, "limit_bytes",
			 (json_int_t)space->limit);
}

/* Under the lock. */
static json_t *pool_to_json(struct node *node, struct node_pool *pool)
{
	_cleanup_free_ struct pool_info *info = calloc(1, sizeof(*info)); /* large for a stack */
	json_t *json = json_pack("{s:s, s:I, s:s}", "name", pool->name, "id", (json_int_t)pool->id,
				 "directory", pool->directory);
	struct node_overcommit overcommit;

	if (!info || !pool->pool) {
		json_object_set_new(json, "state", json_string("failed"));
		json_object_set_new(json, "error", json_string(api_error_text(pool->error)));
		return json;
	}
	node_pool_get_info(pool, info);
	/* The first disk's; the one that the pool was made on may be gone. */
	json_object_set_new(json, "directory", json_string(info->directory));
	json_object_set_new(json, "state", json_string(info->state));
	json_object_set_new(json, "space", space_to_json(&info->space));
	node_overcommit_get(node, pool, &overcommit);
	json_object_set_new(json, "provisioned_bytes",
			    json_integer((json_int_t)overcommit.provisioned));
	json_object_set_new(json, "provisioned_factor",
			    json_real(node_overcommit_ratio(&overcommit)));
	return json;
}

static json_t *copies_to_json(struct node *node, uint64_t pool_id)
{
	struct vdisk_redundancy sum;

	node_pool_redundancy(node, pool_id, &sum);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "whole_bytes",
			 (json_int_t)sum.whole, "degraded_bytes", (json_int_t)sum.degraded,
			 "single_bytes", (json_int_t)sum.single, "lost_bytes", (json_int_t)sum.lost,
			 "resort_bytes", (json_int_t)sum.resort, "leaving_bytes",
			 (json_int_t)sum.leaving, "to_copy_bytes", (json_int_t)sum.to_copy,
			 "to_drop_bytes", (json_int_t)sum.to_drop);
}

static int create(struct api_request *request, const struct pool_spec *spec)
{
	_cleanup_free_ struct pool_info *info = calloc(1, sizeof(*info));
	struct node *node = request->node;
	struct node_pool *pool;
	char minimum[SIZE_TEXT_MAX];
	int r = info ? pool_create(node->options.world, node->catalog, spec, &info->id) : -ENOMEM;

	if (r == -ENOSPC)
		return api_fail(request, ERROR_NO_SPACE, spec->name,
				"give a larger --capacity, or a directory on a larger disk",
				"cannot create pool '%s' in %s: it needs at least %s of free room",
				spec->name, spec->directory, size_format(POOL_MIN_BYTES, minimum));
	if (r == -ENOTEMPTY)
		return api_directory_refuse(request, spec->directory);
	if (r == -ENOENT || r == -ENOTDIR)
		return api_fail(request, ERROR_INVALID_REQUEST, spec->directory,
				"make the directory above it first",
				"cannot create pool '%s': %s is not in a directory that exists",
				spec->name, spec->directory);
	if (r == 0) {
		snprintf(info->name, sizeof(info->name), "%s", spec->name);
		snprintf(info->directory, sizeof(info->directory), "%s", spec->directory);
		r = node_pool_add(node, info, &pool);
	}
	if (r == 0)
		r = pool->error;
	if (r == 0)
		(void)node_catalog_sync(node); /* logged, and tried again by the watch */
	if (r < 0)
		return api_fail_errno(request, r, "create pool", spec->name);
	request->result = pool_to_json(request->node, pool);
	api_next(request,
		 "pool '%s' was made; next: sarsen container create NAME --pool %s; more disks: "
		 "sarsen disk add %s DIRECTORY",
		 spec->name, spec->name, spec->name);
	return 0;
}

int api_pool_create(struct api_request *request)
{
	const struct pool_spec spec = {
		.name = params_text(request->params, "name"),
		.directory = params_text(request->params, "directory"),
		.capacity_bytes = (uint64_t)params_integer(request->params, "capacity", 0),
		.tier = params_text(request->params, "tier")};
	int r;

	r = api_directory_check(request, spec.directory);
	if (r == 0)
		r = api_directory_check_capacity(request, spec.name);
	if (r < 0)
		return r;
	fiber_mutex_lock(&request->node->lock);
	if (node_pool_find(request->node, spec.name))
		r = api_fail_errno(request, -EEXIST, "create pool", spec.name);
	else
		r = create(request, &spec);
	fiber_mutex_unlock(&request->node->lock);
	return r;
}

int api_pool_list(struct api_request *request)
{
	struct node *node = request->node;
	struct node_pool *pool;

	request->result = json_array();
	fiber_mutex_lock(&node->lock);
	LIST_FOR_EACH (&node->pools, pool, struct node_pool, link)
		json_array_append_new(request->result, pool_to_json(request->node, pool));
	fiber_mutex_unlock(&node->lock);
	return 0;
}

int api_pool_show(struct api_request *request)
{
	const char *name = params_text(request->params, "name");
	struct node *node = request->node;
	struct node_pool *pool;

	fiber_mutex_lock(&node->lock);
	pool = node_pool_find(node, name);
	if (pool) {
		uint64_t id = pool->id;

		request->result = pool_to_json(request->node, pool);
		json_object_set_new(request->result, "copies", copies_to_json(node, id));
		json_object_set_new(request->result, "scrub", api_scrub_to_json(node, id));
	}
	fiber_mutex_unlock(&node->lock);
	return pool ? 0 : api_fail_unknown(request, "pool", name);
}

static int delete_locked(struct api_request *request, const char *name)
{
	struct node_pool *pool = node_pool_find(request->node, name);
	int r;

	if (!pool)
		return api_fail_unknown(request, "pool", name);
	r = pool->pool ? node_pool_delete(request->node, pool) : pool->error;
	if (r == -EBUSY)
		return api_fail(request, ERROR_NOT_EMPTY, name,
				"delete its vDisks and containers first: sarsen vdisk list",
				"pool '%s' is not empty", name);
	if (r == -EUCLEAN && pool->pool)
		return api_fail(request, ERROR_DAMAGED, name, NODE_DAMAGE_REMEDY,
				"rows of the catalog are damaged that may be of files of pool '%s'",
				name);
	if (r == -EAGAIN)
		return api_fail(request, ERROR_BUSY, name,
				"see which disk does not answer: sarsen health; then say it again",
				"a disk of pool '%s' is being read, and does not answer", name);
	if (r < 0)
		return api_fail_errno(request, r, "delete pool", name);
	request->result = json_object();
	api_next(request, "pool '%s' was deleted; its directories can be unmounted", name);
	return 0;
}

int api_pool_delete(struct api_request *request)
{
	int r;

	fiber_mutex_lock(&request->node->lock);
	r = delete_locked(request, params_text(request->params, "name"));
	fiber_mutex_unlock(&request->node->lock);
	return r;
}
