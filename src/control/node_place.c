/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invariants
 *  1. A row says where a disk was when it was last found, never less: what cannot be found now does
 *     not replace it, nor does a mount below which no device is left.
 *  2. A row is written only when what it says has changed, or is RENEW_NS old, and only while the
 *     disk is the pool's.
 * Failure modes: what cannot be looked up is not told; a row that cannot be written is written at
 * the next look. Home: the node's. What asks the system runs on a worker.
 */
#include "control/node_place.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "control/node_disk.h"
#include "reactor/io.h"

#define LOOK_NS     (60 * NSEC_PER_SEC)
#define RENEW_NS    (24 * UINT64_C(3600) * NSEC_PER_SEC)
#define ROW_VERSION 1
#define ROW_HEADER  16 /* docs/format.md, "Place row" */

/* Finding */

struct call { /* to a worker and back */
	const struct place_ops *ops;
	void *context;
	const char *directory, *enclosure, *slot;
	json_t *place;
	enum place_led led;
	bool set;
	int result;
};

static void find_on_worker(void *arg)
{
	struct call *call = arg;

	call->result = call->ops->find(call->context, call->directory, &call->place);
}

static int find(struct node *node, const char *directory, json_t **ret_place)
{
	struct call call = {.ops = node->options.places,
			    .context = node->options.places_context,
			    .directory = directory};
	int r = call.ops ? io_job(find_on_worker, &call) : -ENOENT;

	if (r == 0)
		r = call.result;
	if (r == 0)
		*ret_place = call.place;
	return r;
}

int node_place_type(struct node *node, const char *directory, char ret_type[static 32])
{
	_cleanup_free_ char *path = strdup(directory);
	json_t *place = NULL;
	const char *type;
	char *slash;
	int r = path ? find(node, path, &place) : -ENOMEM;

	if (r == -ENOENT && (slash = strrchr(path, '/')) && slash > path) {
		*slash = '\0';
		r = find(node, path, &place);
	}
	type = r == 0 ? json_string_value(json_object_get(json_object_get(place, "mount"), "type"))
		      : NULL;
	if (type)
		snprintf(ret_type, 32, "%s", type);
	json_decref(place);
	return r < 0 ? r : type ? 0 : -ENOENT;
}

static void led_on_worker(void *arg)
{
	struct call *call = arg;

	call->result = 0;
	if (call->set)
		call->result =
			call->ops->set_led(call->context, call->enclosure, call->slot, call->led);
	if (call->result == 0)
		call->result =
			call->ops->get_led(call->context, call->enclosure, call->slot, &call->led);
}

int node_place_led(struct node *node, const json_t *device, bool set, enum place_led *led)
{
	struct call call = {
		.ops = node->options.places,
		.context = node->options.places_context,
		.enclosure = json_string_value(json_object_get(device, "enclosure")),
		.slot = json_string_value(json_object_get(device, "slot")),
		.led = *led,
		.set = set,
	};
	int r = call.ops && call.enclosure && call.slot ? io_job(led_on_worker, &call) : -ENOENT;

	if (r == 0)
		r = call.result;
	if (r == 0)
		*led = call.led;
	return r;
}

/* Remembering */

static int load(struct node *node, uint64_t pool_id, uint64_t disk_id, struct node_place *ret_place)
{
	_cleanup_(catalog_row_done) struct catalog_row row = {0};
	const struct catalog_key key = node_disk_key(CATALOG_PLACE, pool_id, disk_id);
	json_t *place;
	int r = catalog_get(node->catalog, &key, &row);

	if (r < 0)
		return r;
	place = row.length > ROW_HEADER && row.value[0] == ROW_VERSION
			? json_loadb((const char *)row.value + ROW_HEADER, row.length - ROW_HEADER,
				     JSON_REJECT_DUPLICATES, NULL)
			: NULL;
	if (!json_is_object(place)) {
		json_decref(place);
		log_error("node", "a catalog row is damaged",
			  "row=place pool=%" PRIu64 " disk=%" PRIu64, pool_id, disk_id);
		return -EUCLEAN;
	}
	*ret_place = (struct node_place){
		.place = place, .wall_ns = get_le64(row.value + 8), .remembered = true};
	return 0;
}

static int store(struct node *node, uint64_t pool_id, uint64_t disk_id,
		 const struct node_place *place)
{
	size_t length = json_dumpb(place->place, NULL, 0, JSON_COMPACT | JSON_SORT_KEYS);
	_cleanup_free_ uint8_t *value = calloc(1, ROW_HEADER + length + 1);
	struct catalog_change change = {.kind = CATALOG_PUT,
					.key = node_disk_key(CATALOG_PLACE, pool_id, disk_id),
					.value = value,
					.length = (uint32_t)(ROW_HEADER + length)};

	if (!value || length == 0)
		return -ENOMEM;
	value[0] = ROW_VERSION;
	put_le64(value + 8, place->wall_ns);
	if (json_dumpb(place->place, (char *)value + ROW_HEADER, length,
		       JSON_COMPACT | JSON_SORT_KEYS) != length)
		return -ENOMEM;
	return node_disk_commit(node, pool_id, disk_id, &change);
}

static bool has_devices(const struct node_place *place)
{
	return json_array_size(json_object_get(place->place, "devices")) > 0;
}

/* Of a drive that was pulled the mount stays, and nothing is below it. */
static bool was_pulled(const struct node_place *before, const struct node_place *now)
{
	return has_devices(before) && !has_devices(now) &&
	       json_equal(json_object_get(before->place, "mount"),
			  json_object_get(now->place, "mount"));
}

/* The row of a drive that was pulled says more, and takes the place of what was found. */
static void remember(struct node *node, uint64_t pool_id, uint64_t disk_id,
		     struct node_place *place)
{
	struct node_place before = {0};
	bool known = load(node, pool_id, disk_id, &before) == 0, same;
	int r;

	if (known && was_pulled(&before, place)) {
		json_decref(place->place);
		*place = before;
		return;
	}
	same = known && json_equal(before.place, place->place) &&
	       place->wall_ns >= before.wall_ns && place->wall_ns - before.wall_ns < RENEW_NS;
	r = same ? 0 : store(node, pool_id, disk_id, place);
	json_decref(before.place);
	if (r < 0 && r != -ENOENT) /* it was removed meanwhile */
		log_warning("node", "where a disk is could not be recorded",
			    "pool=%" PRIu64 " disk=%" PRIu64 " error=%d", pool_id, disk_id, r);
}

void node_place_forget(struct node *node, uint64_t pool_id, uint64_t disk_id)
{
	const struct catalog_change change = {
		.kind = CATALOG_DELETE, .key = node_disk_key(CATALOG_PLACE, pool_id, disk_id)};
	int r = catalog_commit(node->catalog, &change, 1);

	if (r < 0) /* a row that nobody asks for any more: numbers of disks do not come again */
		log_warning("node", "where a disk was could not be forgotten",
			    "pool=%" PRIu64 " disk=%" PRIu64 " error=%d", pool_id, disk_id, r);
}

void node_place_forget_pool(struct node *node, uint64_t pool_id)
{
	struct catalog_change changes[] = {
		{.kind = CATALOG_DELETE_PREFIX, .key = catalog_key(CATALOG_PLACE)},
		{.kind = CATALOG_DELETE_PREFIX, .key = catalog_key(CATALOG_RETIRE)},
		{.kind = CATALOG_DELETE_PREFIX, .key = catalog_key(CATALOG_DRAIN)}};
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(changes); i++)
		catalog_key_add(&changes[i].key, pool_id);
	r = catalog_commit(node->catalog, changes, ARRAY_SIZE(changes));
	if (r < 0) /* as above */
		log_warning("node", "rows of a deleted pool are left", "pool=%" PRIu64 " error=%d",
			    pool_id, r);
}

int node_place_get(struct node *node, uint64_t pool_id, const struct pool_disk_info *info,
		   struct node_place *ret_place)
{
	struct world *world = node->options.world;
	struct node_place place = {0};
	int r = -ENOENT;

	/* The directory of one that is gone may be there, on the file system above; one that does
	 * not answer is not asked more. */
	if (node_disk_answers(info))
		r = find(node, info->directory, &place.place);
	if (r == 0) {
		place.wall_ns = world->ops->wall_ns(world);
		remember(node, pool_id, info->id, &place);
	} else if (r != -ENOMEM) {
		r = load(node, pool_id, info->id, &place);
	}
	if (r < 0 && r != -ENOENT && r != -EUCLEAN)
		return r;
	*ret_place = place;
	return 0;
}

/* The service */

static void look_at_pool(struct node *node, uint64_t pool_id)
{
	_cleanup_free_ struct pool_disk_info *infos = NULL;
	struct node_pool *pool;
	size_t count = 0;

	fiber_mutex_lock(&node->lock);
	pool = node_pool_by_id(node, pool_id);
	if (pool && pool->pool)
		(void)node_disk_list(pool, &infos, &count); /* then none: the next look tries */
	fiber_mutex_unlock(&node->lock);
	for (size_t i = 0; i < count && !node->stopping; i++) {
		struct node_place place = {0};

		if (!node_disk_answers(&infos[i]))
			continue;
		if (node_place_get(node, pool_id, &infos[i], &place) == 0)
			json_decref(place.place);
	}
}

static void look(struct node *node)
{
	struct node_pool *pool;

	for (uint64_t id = 0; !node->stopping && (pool = node_pool_after(node, id));) {
		id = pool->id;
		look_at_pool(node, id);
	}
}

void node_place_start_service(struct node *node)
{
	if (node->options.places)
		node_service_start(&node->places, node, look, LOOK_NS);
}
