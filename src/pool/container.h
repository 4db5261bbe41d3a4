/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Containers: named groups of vDisks in one pool, which carry the policy of their vDisks. Rows of
 * the catalog; no state of their own. From fibers.
 *
 * A container has vDisks while rows (CATALOG_NAME_VDISK, container id, ...) exist. Whoever adds one
 * commits it together with catalog_touch() of the container's row (container_key()), so that the
 * container cannot be deleted at the same time.
 */
#include "catalog/catalog.h"
#include "pool/policy.h"

#define CONTAINER_NAME_MAX 63

struct container_info {
	uint64_t id;
	uint64_t pool_id;
	char name[CONTAINER_NAME_MAX + 1]; /* [a-z0-9][a-z0-9._-]*, unique on the node */
	uint64_t created_wall_ns;
};

struct catalog_key container_key(uint64_t id);
/* The value of a row, for tools that make one; the length. */
#define CONTAINER_ROW_BYTES_MAX (88u + POLICY_BYTES_MAX)
uint32_t container_row_encode(const struct container_info *info, const struct policy_set *set,
			      uint8_t ret_value[CONTAINER_ROW_BYTES_MAX]);
/* Nothing is set. -EEXIST, -EINVAL name, -ENOENT pool */
int container_create(struct catalog *catalog, struct world *world, uint64_t pool_id,
		     const char *name, uint64_t *ret_id);
struct container_spec {
	uint64_t pool_id;
	const char *name;
	const struct policy_set *policy; /* NULL: nothing is set */
};
int container_create_with(struct catalog *catalog, struct world *world,
			  const struct container_spec *spec, uint64_t *ret_id);
int container_get(struct catalog *catalog, uint64_t id, struct container_info *ret_info);
int container_find(struct catalog *catalog, const char *name, struct container_info *ret_info);
/* In order of id; caller frees. */
int container_list(struct catalog *catalog, struct container_info **ret_infos, size_t *ret_count);
/* What the container sets for its vDisks; container_policy_get() tells what counts. */
int container_get_policy(struct catalog *catalog, uint64_t id, struct policy_set *ret_set);
int container_put_policy(struct catalog *catalog, uint64_t id, const struct policy_set *set);
int container_delete(struct catalog *catalog, uint64_t id); /* -ENOTEMPTY while it has vDisks */
