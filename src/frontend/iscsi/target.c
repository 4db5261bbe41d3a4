/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/iscsi/target.h"

#include <errno.h>
#include <stdlib.h>

#include "block/remote.h"

int iscsi_unit_new(struct reactor *reactor, uint16_t lun, const struct iscsi_lun *spec,
		   struct iscsi_unit **ret_unit)
{
	struct block_volume *volume = spec->volume;
	_cleanup_free_ struct iscsi_unit *unit = calloc(1, sizeof(*unit));
	int r;

	if (!unit)
		return -ENOMEM;
	unit->source = volume;
	if (volume->home != reactor) {
		r = remote_volume_new(volume, reactor, 0, &unit->remote);
		if (r < 0)
			return r;
		volume = unit->remote;
	}
	scsi_unit_init(&unit->scsi, volume, lun, spec->serial, spec->product);
	unit->scsi.read_only = spec->read_only;
	unit->scsi.thin = spec->thin;
	unit->scsi.removable = spec->removable;
	unit->scsi.atomic_bytes = spec->atomic_bytes;
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

void iscsi_unit_resized(struct iscsi_unit *unit)
{
	if (unit->remote)
		remote_volume_set_size(unit->remote, unit->source->size_bytes);
	scsi_unit_attention(&unit->scsi, SCSI_ATTENTION_CAPACITY_CHANGED, NULL);
}
