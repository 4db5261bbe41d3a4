/* SPDX-License-Identifier: Apache-2.0 */
#include "control/format.h"

#include "base/macros.h"

static const struct format formats[FORMAT_COUNT] = {
	[FORMAT_CATALOG] = {"catalog", 1, 2, true, 0, 0, 0},
	[FORMAT_POOL] = {"pool row", 1, 1, false, CATALOG_POOL, 0, 0},
	[FORMAT_DISK] = {"disk row", 1, 2, true, CATALOG_DISK, 0, 0},
	[FORMAT_CONTAINER] = {"container row", 1, 2, false, CATALOG_CONTAINER, 0, 0},
	[FORMAT_VDISK] = {"vDisk row", 1, 1, false, CATALOG_VDISK, 0, 0},
	[FORMAT_GROUP] = {"group row", 1, 1, false, CATALOG_EGROUP, 0, 0},
	[FORMAT_FILE] = {"file row", 1, 2, true, CATALOG_EGFILE, 8, 0},
	[FORMAT_EVENT] = {"event row", 1, 1, false, CATALOG_EVENT, 0, 0},
	[FORMAT_POLICY] = {"policy row", 1, 1, false, CATALOG_POLICY, 0, 0},
	[FORMAT_SCRUB] = {"scrub row", 1, 3, true, CATALOG_SCRUB, 0, 1},
	[FORMAT_FINDING] = {"scrub finding", 1, 2, true, CATALOG_SCRUB, 0, 2},
	[FORMAT_PLACE] = {"place row", 1, 1, false, CATALOG_PLACE, 0, 0},
	[FORMAT_DRAIN] = {"drain row", 1, 1, false, CATALOG_DRAIN, 0, 0},
	[FORMAT_RETIRE] = {"retire row", 1, 1, false, CATALOG_RETIRE, 0, 0},
	[FORMAT_LABEL] = {"disk label", 1, 1, false, 0, 0, 0},
	[FORMAT_RECORD] = {"record", 1, 1, false, 0, 0, 0},
	[FORMAT_INDEX] = {"index of a compacted file", 1, 1, false, 0, 0, 0},
};

const struct format *format_get(enum format_id id)
{
	ASSERT(id < FORMAT_COUNT);
	return &formats[id];
}

bool format_is_of(const struct format *format, const struct catalog_row *row)
{
	return format->table && format->table == row->key.bytes[0] &&
	       (format->key_numbers == 0 || row->key.length == 1 + 8 * format->key_numbers);
}
