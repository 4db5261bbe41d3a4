/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* What was done with a disk, but leaves data less safe than one may think: "warnings" in the
 * result. Under the node's lock. */
#include "control/api_priv.h"
#include "pool/pool_disk.h"

/* Fewer disks stay in the pool than there should be copies of a vDisk in it. */
void api_disk_warn_of_copies(struct api_request *request, const struct node_pool *pool);
/* Another disk of the pool is on the same file system, and is lost with it. */
void api_disk_warn_of_shared(struct api_request *request, const struct node_pool *pool,
			     const struct pool_disk_info *info);
