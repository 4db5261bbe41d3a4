/* SPDX-License-Identifier: Apache-2.0 */
/* Why a directory cannot be a disk of a pool: looked up once it was refused, for the operator. */
#include "control/api_directory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "control/node_disk.h"
#include "control/node_place.h"
#include "control/size.h"
#include "pool/pool_label.h"
#include "reactor/io.h"

/* They say that a sync was done, and have nothing when the power comes back. */
static bool is_volatile(const char *type)
{
	static const char *const types[] = {"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"};

	for (unsigned i = 0; i < ARRAY_SIZE(types); i++)
		if (strcmp(types[i], type) == 0)
			return true;
	return false;
}

int api_directory_check(struct api_request *request, const char *directory)
{
	char type[32];

	if (directory[0] != '/')
		return api_fail(request, ERROR_INVALID_REQUEST, directory,
				"give the path from / on", "'%s' is not an absolute path",
				directory);
	if (node_place_type(request->node, directory, type) < 0 || !is_volatile(type))
		return 0; /* what is there and cannot be used is refused by the pool */
	return api_fail(request, ERROR_INVALID_REQUEST, directory,
			"use a directory on ext4 or xfs on a disk of its own",
			"%s is on %s, which keeps nothing over a loss of power, although it says "
			"that it was synced",
			directory, type);
}

int api_directory_check_capacity(struct api_request *request, const char *object)
{
	uint64_t capacity = (uint64_t)params_integer(request->params, "capacity", 0);
	char minimum[SIZE_TEXT_MAX], given[SIZE_TEXT_MAX];

	if (!json_object_get(request->params, "capacity") || capacity >= POOL_MIN_BYTES)
		return 0;
	return api_fail(request, ERROR_INVALID_SIZE, object, "give more, or leave --capacity out",
			"'%s': the capacity is at least %s, not %s", object,
			size_format(POOL_MIN_BYTES, minimum), size_format(capacity, given));
}

static void uuid_text(const struct pool_label *label, char ret_text[static 2 * POOL_UUID_BYTES + 1])
{
	for (size_t i = 0; i < POOL_UUID_BYTES; i++)
		snprintf(ret_text + 2 * i, 3, "%02x", label->uuid[i]);
}

static int refuse_label(struct api_request *request, const char *directory,
			const struct pool_label *label)
{
	char uuid[2 * POOL_UUID_BYTES + 1];
	struct node_pool *pool;
	uint64_t id;

	uuid_text(label, uuid);
	if (node_disk_find(request->node, uuid, &pool, &id) == 0)
		return api_fail(request, ERROR_NOT_EMPTY, directory,
				"give another directory; see: sarsen disk list",
				"%s belongs to pool '%s': it is its disk %" PRIu64, directory,
				pool->name, id);
	pool = node_pool_by_id(request->node, label->pool_id);
	if (pool && strcmp(pool->name, label->name) == 0)
		return api_fail(request, ERROR_NOT_EMPTY, directory,
				"give another directory; if it is empty by intent: sarsen disk "
				"add --force",
				"%s has the label of pool '%s', which does not have it now",
				directory, pool->name);
	return api_fail(request, ERROR_NOT_EMPTY, directory,
			"give another directory; if that pool is no more: sarsen disk add --force",
			"%s belongs to a pool '%s' that this daemon does not know", directory,
			label->name);
}

static int refuse_content(struct api_request *request, const char *directory)
{
	struct world_names names;
	int r = io_directory_list(directory, &names);

	if (r < 0 || names.count == 0) { /* or it has changed meanwhile */
		if (r == 0)
			world_names_free(&names);
		return api_fail(request, ERROR_NOT_EMPTY, directory, "give an empty directory",
				"%s has other content", directory);
	}
	r = api_fail(request, ERROR_NOT_EMPTY, directory,
		     "give an empty directory, or one below it that does not exist yet",
		     "%s has other content: %.100s%s", directory, names.names[0],
		     names.count > 1 ? " and more" : "");
	world_names_free(&names);
	return r;
}

int api_directory_refuse(struct api_request *request, const char *directory)
{
	char path[4096 + 8];
	struct pool_label label;
	struct world_stat stat;
	int r = io_stat(directory, &stat);

	if (r == -ENOTDIR || (r == 0 && !stat.is_directory))
		return api_fail(request, ERROR_INVALID_REQUEST, directory, "give a directory",
				"%s is not a directory%s", directory,
				r == 0 ? "" : ", nor can it be one: a part of it is a file");
	snprintf(path, sizeof(path), "%s/label", directory);
	r = pool_label_read(path, &label);
	if (r == 0)
		return refuse_label(request, directory, &label);
	if (r == -EUCLEAN)
		return api_fail(request, ERROR_NOT_EMPTY, directory,
				"give another directory; if nothing there is needed: sarsen disk "
				"add --force",
				"%s has a label that is damaged: it is not known whose it is",
				directory);
	return refuse_content(request, directory);
}
