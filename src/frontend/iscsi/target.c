/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/iscsi/target.h"

#include <errno.h>
#include <stdlib.h>

#include "block/remote.h"
#include "frontend/iscsi/server_priv.h"
#include "frontend/iscsi/task.h"

struct save {
	struct iscsi_server *server;
	uint64_t serial;
	const void *data;
	size_t length;
};

static int save_at_home(void *arg)
{
	const struct save *save = arg;

	return save->server->save(save->server->save_arg, save->serial, save->data, save->length);
}

/* One save covers all that came before it; what comes meanwhile takes part in the next. */
static void save_run(struct fiber_task *fiber_task)
{
	struct iscsi_unit *unit = CONTAINER_OF(fiber_task, struct iscsi_unit, save_task);
	struct iscsi_shard *shard = unit->shard;
	struct save save = {
		.server = shard->server, .serial = unit->scsi.serial, .data = unit->saved};

	while (!list_is_empty(&unit->savers)) {
		struct list covered;
		struct list_node *node;
		int r;

		list_init(&covered);
		list_splice_back(&covered, &unit->savers);
		save.length = scsi_persist_encode(&unit->scsi.persist, unit->saved);
		r = fiber_call(save.server->reactor, FIBER_CONTROL, save_at_home, &save);
		while ((node = list_pop_front(&covered))) {
			struct iscsi_task *task = LIST_ENTRY(node, struct iscsi_task, wait_link);

			task->scsi.io_result = r;
			iscsi_task_resume(task);
		}
	}
	unit->saving = false;
	unit->tasks--;
	shard->saves--;
	fiber_queue_wake_all(&shard->changed);
}

void iscsi_unit_save(struct iscsi_unit *unit)
{
	if (unit->saving)
		return;
	unit->saving = true;
	unit->tasks++;
	unit->shard->saves++;
	fiber_spawn(unit->shard->reactor, FIBER_CONTROL, &unit->save_task);
}

int iscsi_unit_new(struct iscsi_shard *shard, uint16_t lun, const struct iscsi_lun *spec,
		   struct iscsi_unit **ret_unit)
{
	struct block_volume *volume = spec->volume;
	_cleanup_free_ struct iscsi_unit *unit = calloc(1, sizeof(*unit));
	int r = 0;

	if (!unit)
		return -ENOMEM;
	unit->shard = shard;
	list_init(&unit->savers);
	unit->save_task.run = save_run;
	unit->source = volume;
	if (volume->home != shard->reactor) {
		r = remote_volume_new(volume, shard->reactor, 0, &unit->remote);
		if (r < 0)
			return r;
		volume = unit->remote;
	}
	scsi_unit_init(&unit->scsi, volume, lun, spec->serial, spec->product);
	r = scsi_persist_decode(&unit->scsi.persist, spec->reservations, spec->reservations_length);
	if (r < 0) {
		block_volume_free(unit->remote);
		return r;
	}
	unit->scsi.identity = spec->identity;
	unit->scsi.can_save = shard->server->save;
	unit->scsi.read_only = spec->read_only;
	unit->scsi.thin = spec->thin;
	unit->scsi.removable = spec->removable;
	unit->scsi.atomic_bytes = spec->atomic_bytes;
	scsi_unit_set_space(&unit->scsi, spec->space_available, spec->space_total);
	*ret_unit = TAKE_PTR(unit);
	return 0;
}

void iscsi_unit_free(struct iscsi_unit *unit)
{
	if (!unit)
		return;
	ASSERT(unit->tasks == 0 && list_is_empty(&unit->scsi.nexuses));
	block_volume_free(unit->remote);
	free(unit);
}

void iscsi_target_free(struct iscsi_target *target)
{
	for (unsigned lun = 0; lun < SCSI_LUNS; lun++) {
		if (target->scsi.units[lun])
			iscsi_unit_free(iscsi_unit_of(target->scsi.units[lun]));
	}
	iscsi_guard_done(&target->guard);
	list_remove(&target->link);
	free(target);
}

void iscsi_unit_resized(struct iscsi_unit *unit)
{
	if (unit->remote)
		remote_volume_set_size(unit->remote, unit->source->size_bytes);
	scsi_unit_attention(&unit->scsi, SCSI_ATTENTION_CAPACITY_CHANGED, NULL);
}
