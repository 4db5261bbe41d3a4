/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "control/api_directory.h"
#include "control/api_disk_warning.h"
#include "control/node_drain.h"
#include "control/node_retire.h"
#include "control/size.h"

static json_t *health_to_json(const struct pool_disk_health *health)
{
	return json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I, s:i}", "read_errors",
		(json_int_t)health->read_errors, "write_errors", (json_int_t)health->write_errors,
		"sync_errors", (json_int_t)health->sync_errors, "checksum_errors",
		(json_int_t)health->checksum_errors, "read_ns", (json_int_t)health->read_ns,
		"write_ns", (json_int_t)health->write_ns, "busy", (int)health->busy);
}

static json_t *limits_to_json(const struct node *node)
{
	return json_pack(
		"{s:I, s:i, s:i, s:I, s:I, s:I, s:i, s:I, s:I}", "slow_ns",
		(json_int_t)POOL_DISK_SLOW_NS, "errors", (int)POOL_DISK_ERRORS, "fatal_errors",
		(int)POOL_DISK_FATAL_ERRORS, "window_ns", (json_int_t)POOL_DISK_WINDOW_NS,
		"suspect_ns", (json_int_t)POOL_DISK_SUSPECT_NS, "missing_ns",
		(json_int_t)POOL_DISK_MISSING_NS, "fatal_silences", (int)POOL_DISK_FATAL_SILENCES,
		"silence_window_ns", (json_int_t)POOL_DISK_SILENCE_WINDOW_NS, "timeout_ns",
		(json_int_t)node->options.disk_timeout_ns);
}

static const char *state_of(const struct pool_disk_info *info)
{
	if (info->draining && info->state < POOL_DISK_READ_ONLY)
		return info->files == 0 ? "drained" : info->paused ? "drain-paused" : "draining";
	return pool_disk_state_name(info->state);
}

static json_t *disk_to_json(struct node *node, struct node_pool *pool,
			    const struct pool_disk_info *info)
{
	char uuid[2 * sizeof(info->uuid) + 1];
	json_t *json;

	for (size_t i = 0; i < sizeof(info->uuid); i++)
		snprintf(uuid + 2 * i, 3, "%02x", info->uuid[i]);
	json = json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:b, s:b}", "id", (json_int_t)info->id,
			 "pool", pool->name, "directory", info->directory, "uuid", uuid, "tier",
			 info->tier, "state", state_of(info), "draining", info->draining, "paused",
			 info->paused);
	json_object_set_new(json, "capacity_bytes", json_integer((json_int_t)info->capacity));
	json_object_set_new(json, "used_bytes", json_integer((json_int_t)info->used));
	json_object_set_new(json, "reserve_bytes", json_integer((json_int_t)info->reserve));
	json_object_set_new(json, "spare_bytes", json_integer((json_int_t)info->spare));
	json_object_set_new(json, "silent_ns", json_integer((json_int_t)info->silent_ns));
	json_object_set_new(json, "silences", json_integer((json_int_t)info->silences));
	json_object_set_new(json, "shares_with", json_integer((json_int_t)info->shares_with));
	json_object_set_new(json, "files", json_integer((json_int_t)info->files));
	json_object_set_new(
		json, "only_here_groups",
		json_integer(info->state == POOL_DISK_FAILED
				     ? (json_int_t)node_disk_resort(node, pool->id, info->id)
				     : 0));
	json_object_set_new(json, "catalog_mirror",
			    json_string(node_catalog_mirror_state(node, info->directory)));
	json_object_set_new(json, "removed_when_empty",
			    json_boolean(node_retire_is_meant(node, pool, info->id)));
	json_object_set_new(json, "health", health_to_json(&info->health));
	return json;
}

static int show_disk(struct api_request *request, struct node_pool *pool, uint64_t id)
{
	_cleanup_free_ struct pool_disk_info *info = calloc(1, sizeof(*info)); /* large */
	int r = info ? node_disk_get(pool, id, info) : -ENOMEM;

	if (r < 0)
		return api_fail_errno(request, r, "show a disk of pool", pool->name);
	request->result = disk_to_json(request->node, pool, info);
	return 0;
}

/* As show_disk(), of one that was added. */
static int show_added(struct api_request *request, struct node_pool *pool, uint64_t id)
{
	_cleanup_free_ struct pool_disk_info *info = calloc(1, sizeof(*info)); /* large */
	int r = info ? node_disk_get(pool, id, info) : -ENOMEM;

	if (r < 0)
		return api_fail_errno(request, r, "show a disk of pool", pool->name);
	request->result = disk_to_json(request->node, pool, info);
	api_disk_warn_of_shared(request, pool, info);
	return 0;
}

static int fail_add(struct api_request *request, struct node_pool *pool,
		    const struct pool_disk_spec *spec, int r)
{
	const char *directory = spec->directory;
	char minimum[SIZE_TEXT_MAX];
	uint64_t id;

	switch (r) {
	case -EEXIST:
		if (pool_disk_find(pool->pool, directory, &id) < 0) /* a copy of one of its disks */
			return api_directory_refuse(request, directory);
		return api_fail(request, ERROR_EXISTS, directory, "see: sarsen disk list",
				"%s is a disk of the pool already", directory);
	case -ENOTEMPTY:
		return api_directory_refuse(request, directory);
	case -EOPNOTSUPP:
		return api_fail(request, ERROR_INVALID_REQUEST, directory,
				"use a directory on ext4 or xfs on a disk of its own",
				"the file system of %s cannot do direct I/O, or gives other data "
				"back than it was given",
				directory);
	case -ENOSPC:
		return api_fail(request, ERROR_NO_SPACE, directory,
				"give a larger disk or --capacity",
				"%s has less than %s of free room", directory,
				size_format(POOL_MIN_BYTES, minimum));
	case -E2BIG:
		return api_fail(request, ERROR_TOO_LARGE, directory, "remove a disk first",
				"a pool has %u disks at most", POOL_DISKS_MAX);
	case -ENOENT:
	case -ENOTDIR:
		return api_fail(request, ERROR_INVALID_REQUEST, directory,
				"make the directory above it first",
				"%s is not in a directory that exists", directory);
	default:
		return api_fail_errno(request, r, "add disk", directory);
	}
}

static struct pool_disk_spec spec_of(const struct api_request *request)
{
	return (struct pool_disk_spec){
		.directory = params_text(request->params, "directory"),
		.tier = params_text(request->params, "tier"),
		.capacity_bytes = (uint64_t)params_integer(request->params, "capacity", 0),
		.force = params_bool(request->params, "force"),
	};
}

static int add(struct api_request *request, struct node_pool *pool, uint64_t *ret_id)
{
	const struct pool_disk_spec spec = spec_of(request);
	int r = api_directory_check(request, spec.directory);

	if (r == 0)
		r = api_directory_check_capacity(request, spec.directory);
	if (r < 0)
		return r;
	r = node_disk_add(pool, &spec, ret_id);
	return r < 0 ? fail_add(request, pool, &spec, r) : 0;
}

int api_disk_add(struct api_request *request)
{
	const char *name = params_text(request->params, "pool");
	struct node *node = request->node;
	struct node_pool *pool;
	uint64_t id;
	int r;

	fiber_mutex_lock(&node->lock);
	pool = node_pool_find(node, name);
	r = pool ? add(request, pool, &id) : api_fail_unknown(request, "pool", name);
	if (r == 0)
		r = show_added(request, pool, id);
	if (r == 0)
		api_next(request,
			 "disk %" PRIu64 " was added and takes new data; for more copies of all "
			 "data: sarsen container set NAME replication_factor=N",
			 id);
	if (r == 0)
		(void)node_catalog_sync(node); /* logged, and tried again by the watch */
	fiber_mutex_unlock(&node->lock);
	node_repair_look(node);
	return r;
}

static int list_pool(struct api_request *request, struct node_pool *pool)
{
	_cleanup_free_ struct pool_disk_info *infos = NULL;
	size_t count;
	int r;

	if (!pool->pool)
		return 0; /* pool list tells */
	r = node_disk_list(pool, &infos, &count);
	for (size_t i = 0; r == 0 && i < count; i++)
		json_array_append_new(request->result,
				      disk_to_json(request->node, pool, &infos[i]));
	return r < 0 ? api_fail_errno(request, r, "list the disks of pool", pool->name) : 0;
}

int api_disk_list(struct api_request *request)
{
	const char *name = params_text(request->params, "pool");
	struct node *node = request->node;
	struct node_pool *pool;
	bool found = !name;
	int r = 0;

	request->result = json_array();
	fiber_mutex_lock(&node->lock);
	LIST_FOR_EACH (&node->pools, pool, struct node_pool, link)
		if (r == 0 && (!name || strcmp(pool->name, name) == 0)) {
			found = true;
			r = list_pool(request, pool);
		}
	fiber_mutex_unlock(&node->lock);
	return r < 0 || found ? r : api_fail_unknown(request, "pool", name);
}

/* Runs fn on the disk that the call names, under the lock. */
static int with_disk(struct api_request *request,
		     int (*fn)(struct api_request *request, struct node_pool *pool, uint64_t id))
{
	const char *text = params_text(request->params, "disk");
	struct node *node = request->node;
	struct node_pool *pool;
	uint64_t id;
	int r;

	fiber_mutex_lock(&node->lock);
	if (node_disk_find(node, text, &pool, &id) < 0)
		r = api_fail(request, ERROR_NOT_FOUND, text, "see: sarsen disk list",
			     "there is no disk '%s': give its number, directory or UUID", text);
	else
		r = fn(request, pool, id);
	if (r == 0 && request->method->changes)
		(void)node_catalog_sync(node); /* logged, and tried again by the watch */
	fiber_mutex_unlock(&node->lock);
	return r;
}

static int show(struct api_request *request, struct node_pool *pool, uint64_t id)
{
	int r = show_disk(request, pool, id);

	if (r == 0)
		json_object_set_new(request->result, "limits", limits_to_json(request->node));
	return r;
}

int api_disk_show(struct api_request *request)
{
	return with_disk(request, show);
}

/* The others may only be full, slow or away. */
static int refuse_last(struct api_request *request, const struct node_pool *pool)
{
	return api_fail(request, ERROR_INVALID_REQUEST, params_text(request->params, "disk"),
			"add a disk (sarsen disk add), or see what the others lack: sarsen disk "
			"list",
			"no other disk of pool '%s' takes data just now", pool->name);
}

static int change(struct api_request *request, struct node_pool *pool, uint64_t id,
		  enum node_disk_change what)
{
	int r = node_disk_change(pool, id, what);

	if (r == -EINVAL)
		return refuse_last(request, pool);
	if (r < 0)
		return api_fail_errno(request, r, "change disk",
				      params_text(request->params, "disk"));
	return show_disk(request, pool, id);
}

/* It does not leave after all, so it is not to be removed either. */
static int keep(struct api_request *request, struct node_pool *pool, uint64_t id,
		enum node_disk_change what)
{
	int r = node_retire_set(request->node, pool, id, false);

	if (r == 0)
		r = node_drain_set_paused(request->node, pool, id, false);
	return r < 0 ? api_fail_errno(request, r, "keep disk", params_text(request->params, "disk"))
		     : change(request, pool, id, what);
}

static int pause_drain(struct api_request *request, struct node_pool *pool, uint64_t id)
{
	const char *text = params_text(request->params, "disk");
	_cleanup_free_ struct pool_disk_info *info = calloc(1, sizeof(*info)); /* large */
	int r = info ? node_disk_get(pool, id, info) : -ENOMEM;

	if (r == 0 && !info->draining)
		return api_fail(request, ERROR_INVALID_REQUEST, text,
				"see: sarsen disk list; begin with: sarsen disk drain",
				"disk '%s' is not being drained", text);
	if (r == 0)
		r = node_drain_set_paused(request->node, pool, id, true);
	r = r < 0 ? api_fail_errno(request, r, "pause draining disk", text)
		  : show_disk(request, pool, id);
	if (r == 0)
		api_next(request,
			 "nothing is moved from disk %" PRIu64 " now; go on: sarsen disk drain "
			 "%" PRIu64 "; keep it: sarsen disk drain %" PRIu64 " --stop",
			 id, id, id);
	return r;
}

/* Said again it goes on, when it was paused. */
static int drain(struct api_request *request, struct node_pool *pool, uint64_t id)
{
	bool stop = params_bool(request->params, "stop");
	const char *text = params_text(request->params, "disk");
	int r;

	if (stop && params_bool(request->params, "pause"))
		return api_fail(request, ERROR_INVALID_REQUEST, text, "give one of them",
				"stop and pause exclude each other");
	if (params_bool(request->params, "pause"))
		return pause_drain(request, pool, id);
	if (stop) {
		r = keep(request, pool, id, NODE_DISK_KEEP);
		if (r == 0)
			api_next(request,
				 "disk %" PRIu64 " stays and takes new data; what was moved stays "
				 "where it is",
				 id);
		return r;
	}
	r = node_disk_change(pool, id, NODE_DISK_DRAIN);
	if (r == 0)
		r = node_drain_set_paused(request->node, pool, id, false);
	if (r == -EINVAL)
		return refuse_last(request, pool);
	r = r < 0 ? api_fail_errno(request, r, "drain disk", text) : show_disk(request, pool, id);
	if (r < 0)
		return r;
	api_disk_warn_of_copies(request, pool);
	api_next(request,
		 "disk %" PRIu64 " is being emptied: sarsen job list; once it is drained: "
		 "sarsen disk remove %" PRIu64 "; keep it after all: sarsen disk drain %" PRIu64
		 " --stop",
		 id, id, id);
	return 0;
}

int api_disk_drain(struct api_request *request)
{
	int r = with_disk(request, drain);

	node_repair_look(request->node);
	return r;
}

static int fail(struct api_request *request, struct node_pool *pool, uint64_t id)
{
	int r = change(request, pool, id, NODE_DISK_FAIL);

	if (r < 0)
		return r;
	api_disk_warn_of_copies(request, pool);
	api_next(request,
		 "disk %" PRIu64 " was given up: copies are made elsewhere (sarsen job list); "
		 "replace it: sarsen disk replace %" PRIu64
		 " DIRECTORY; take it back: sarsen disk restore %" PRIu64,
		 id, id, id);
	return 0;
}

int api_disk_fail(struct api_request *request)
{
	int r = with_disk(request, fail);

	node_repair_look(request->node);
	return r;
}

static int restore(struct api_request *request, struct node_pool *pool, uint64_t id)
{
	return keep(request, pool, id, NODE_DISK_RESTORE);
}

int api_disk_restore(struct api_request *request)
{
	int r = with_disk(request, restore);

	node_repair_look(request->node);
	return r;
}

static int remove_disk(struct api_request *request, struct node_pool *pool, uint64_t id)
{
	const char *text = params_text(request->params, "disk");
	int r = node_disk_change(pool, id, NODE_DISK_REMOVE);

	if (r == -EBUSY)
		return api_fail(request, ERROR_NOT_EMPTY, text,
				"move them first: sarsen disk drain, then sarsen job list",
				"disk '%s' still has copies that count", text);
	if (r == -EUCLEAN)
		return api_fail(request, ERROR_DAMAGED, text, NODE_DAMAGE_REMEDY,
				"disk '%s' may have files whose rows in the catalog are damaged",
				text);
	if (r == -EINVAL)
		return refuse_last(request, pool);
	if (r < 0)
		return api_fail_errno(request, r, "remove disk", text);
	node_retire_forget(request->node, pool, id);
	request->result = json_object();
	api_next(request, "disk %" PRIu64 " was removed from pool '%s': it can be unmounted", id,
		 pool->name);
	return 0;
}

int api_disk_remove(struct api_request *request)
{
	return with_disk(request, remove_disk);
}

/* A disk of the pool that is to take another's place: it has to stay. */
static int check_fresh(struct api_request *request, struct node_pool *pool, uint64_t id,
		       uint64_t fresh)
{
	_cleanup_free_ struct pool_disk_info *info = calloc(1, sizeof(*info)); /* large */
	const char *directory = params_text(request->params, "directory");
	int r = info ? node_disk_get(pool, fresh, info) : -ENOMEM;

	if (r < 0)
		return api_fail_errno(request, r, "replace disk",
				      params_text(request->params, "disk"));
	if (fresh == id)
		return api_fail(request, ERROR_INVALID_REQUEST, directory,
				"give the directory of another disk",
				"%s is the disk that is to be replaced", directory);
	if (info->draining || info->state >= POOL_DISK_READ_ONLY)
		return api_fail(request, ERROR_INVALID_REQUEST, directory,
				"give an empty directory on another disk",
				"%s is disk %" PRIu64 " of the pool already, and is %s", directory,
				fresh, state_of(info));
	return 0;
}

/* What an attempt had added before it failed is taken as it is, so that it can be said again. */
static int add_fresh(struct api_request *request, struct node_pool *pool, uint64_t id,
		     uint64_t *ret_fresh)
{
	const char *directory = params_text(request->params, "directory");

	if (directory[0] == '/' && pool_disk_find(pool->pool, directory, ret_fresh) == 0)
		return check_fresh(request, pool, id, *ret_fresh);
	return add(request, pool, ret_fresh);
}

/* The old one is emptied as long as it can be read; else it is given up. It is removed when it is
 * empty (node_retire.c). */
static int replace(struct api_request *request, struct node_pool *pool, uint64_t id)
{
	enum pool_disk_state state = pool_disk_state(pool->pool, id);
	const char *text = params_text(request->params, "disk"), *why;
	uint64_t fresh;
	int r = add_fresh(request, pool, id, &fresh);

	if (r < 0)
		return r;
	r = node_disk_change(pool, id,
			     state >= POOL_DISK_MISSING ? NODE_DISK_FAIL : NODE_DISK_DRAIN);
	if (r == 0)
		r = node_drain_set_paused(request->node, pool, id, false);
	if (r == 0)
		r = node_retire_set(request->node, pool, id, !params_bool(request->params, "keep"));
	why = api_error_text(r);
	if (r < 0)
		return api_fail(request, error_code_of(r), text,
				"say the same again: what was done is not done twice",
				"disk '%s' is not replaced yet, but disk %" PRIu64 " was added: %s",
				text, fresh, why ? why : strerror(-r));
	r = show_added(request, pool, fresh);
	if (r == 0)
		api_disk_warn_of_copies(request, pool);
	if (r == 0)
		api_next(request, "what disk %" PRIu64 " has is moved (sarsen job list); %s", id,
			 params_bool(request->params, "keep")
				 ? "it stays when it is empty: sarsen disk remove"
				 : "it is removed when it is empty (event disk-removed)");
	return r;
}

int api_disk_replace(struct api_request *request)
{
	int r = with_disk(request, replace);

	node_repair_look(request->node);
	return r;
}

int api_pool_repair(struct api_request *request)
{
	const char *name = params_text(request->params, "name");
	struct node *node = request->node;
	struct node_pool *pool;
	uint64_t job = 0;
	int r;

	fiber_mutex_lock(&node->lock);
	pool = node_pool_find(node, name);
	if (!pool)
		r = api_fail_unknown(request, "pool", name);
	else if (!pool->pool)
		r = api_fail_errno(request, pool->error, "repair pool", name);
	else
		r = node_repair_start(node, pool, &job);
	if (r == -EALREADY)
		r = api_fail(request, ERROR_BUSY, name, "see its progress: sarsen job list",
			     "pool '%s' is being repaired already", name);
	else if (pool && pool->pool && r < 0)
		r = api_fail_errno(request, r, "repair pool", name);
	fiber_mutex_unlock(&node->lock);
	if (r == 0)
		request->result = job_to_json(node->jobs, job);
	return r;
}
