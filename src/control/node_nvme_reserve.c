/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reservations of vDisks that controllers share: one object a vDisk, at the vDisk's home, made with
 * the first shared attachment and ended with the last. Its state is the row
 * (CATALOG_NVME_RESERVATION, vDisk), as the controllers' code gives it; whoever shares the disk
 * after a restart finds it as it was.
 *
 * What makes and ends them holds node->reservations_lock. Loads and saves run in fibers of the
 * vDisk's home and touch nothing but the catalog.
 */
#include "control/node_nvme.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"

struct node_reservations {
	struct catalog *catalog;
	uint64_t vdisk_id;
	struct nvme_reservations *object;
};

static struct catalog_key row_key(uint64_t vdisk_id)
{
	struct catalog_key key = catalog_key(CATALOG_NVME_RESERVATION);

	catalog_key_add(&key, vdisk_id);
	return key;
}

static int load(void *context, void *state, size_t size)
{
	const struct node_reservations *own = context;
	const struct catalog_key key = row_key(own->vdisk_id);
	struct catalog_row row;
	int r = catalog_get(own->catalog, &key, &row);

	memset(state, 0, size);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (row.length == size)
		memcpy(state, row.value, size);
	else
		r = -EUCLEAN;
	catalog_row_done(&row);
	return r;
}

static int save(void *context, const void *state, size_t size)
{
	const struct node_reservations *own = context;
	const struct catalog_change change = {.kind = CATALOG_PUT,
					      .key = row_key(own->vdisk_id),
					      .value = state,
					      .length = (uint32_t)size};

	return catalog_commit(own->catalog, &change, 1);
}

static const struct nvme_reservation_ops ops = {.load = load, .save = save};

static int new_at_home(void *arg)
{
	struct node_reservations *own = arg;

	return nvme_reservations_new(reactor_current(), &ops, own, &own->object);
}

static int free_at_home(void *arg)
{
	struct node_reservations *own = arg;

	nvme_reservations_free(own->object);
	return 0;
}

static int make(struct node *node, struct node_vdisk *vdisk)
{
	struct node_reservations *own = calloc(1, sizeof(*own));
	int r;

	if (!own)
		return -ENOMEM;
	own->catalog = node->catalog;
	own->vdisk_id = vdisk->info.id;
	r = node_vdisk_call(vdisk, new_at_home, own);
	if (r == 0)
		vdisk->reservations = own;
	else
		free(own);
	return r;
}

static void end(struct node_vdisk *vdisk)
{
	struct node_reservations *own = TAKE_PTR(vdisk->reservations);

	if (own) /* always 0 */
		(void)node_vdisk_call(vdisk, free_at_home, own);
	free(own);
}

int node_nvme_reservations(struct node *node, struct node_vdisk *vdisk,
			   struct nvme_reservations **ret_reservations)
{
	int r = 0;

	fiber_mutex_lock(&node->reservations_lock);
	if (!vdisk->reservations)
		r = make(node, vdisk);
	if (r == 0)
		*ret_reservations = vdisk->reservations->object;
	fiber_mutex_unlock(&node->reservations_lock);
	return r;
}

static bool is_shared(struct node *node, uint64_t vdisk_id)
{
	struct node_controller *controller;

	LIST_FOR_EACH (&node->controllers, controller, struct node_controller, entry) {
		const struct node_namespace *ns = node_nvme_namespace(controller, vdisk_id);

		if (ns && ns->shared)
			return true;
	}
	return false;
}

static void forget(struct node *node, uint64_t vdisk_id)
{
	const struct catalog_change change = {.kind = CATALOG_DELETE, .key = row_key(vdisk_id)};
	int r = catalog_commit(node->catalog, &change, 1);

	if (r < 0)
		log_warning("nvme", "reservations of a vDisk stay in the catalog",
			    "vdisk=%" PRIu64 " error=%d", vdisk_id, r);
}

void node_nvme_reservations_release(struct node *node, uint64_t vdisk_id)
{
	struct node_vdisk *vdisk;

	fiber_mutex_lock(&node->reservations_lock);
	vdisk = node_vdisk_by_id(node, vdisk_id);
	if (vdisk && vdisk->reservations && !is_shared(node, vdisk_id)) {
		end(vdisk);
		forget(node, vdisk_id);
	}
	fiber_mutex_unlock(&node->reservations_lock);
}

void node_nvme_reservations_close(struct node *node)
{
	struct node_vdisk *vdisk;

	LIST_FOR_EACH (&node->vdisks, vdisk, struct node_vdisk, link)
		end(vdisk);
}
