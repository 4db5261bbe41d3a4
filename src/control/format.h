/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The formats on disk (docs/format.md) and the versions of them that this program knows. */
#include "catalog/catalog.h"

enum format_id {
	FORMAT_CATALOG,
	FORMAT_POOL,
	FORMAT_DISK,
	FORMAT_CONTAINER,
	FORMAT_VDISK,
	FORMAT_GROUP,
	FORMAT_FILE,
	FORMAT_EVENT,
	FORMAT_POLICY,
	FORMAT_SCRUB,
	FORMAT_FINDING,
	FORMAT_PLACE,
	FORMAT_RETIRE,
	FORMAT_DRAIN,
	FORMAT_LABEL,
	FORMAT_RECORD,
	FORMAT_INDEX,
	FORMAT_COUNT,
};

/* What older programs could read is what they wrote: one version less. */
struct format {
	const char *name;
	unsigned oldest, newest;  /* that this program reads */
	bool converts;            /* older ones are written as the newest, sooner or later */
	enum catalog_table table; /* of rows with the version at an offset; 0 = none */
	unsigned offset;
	unsigned key_numbers; /* of those rows of the table whose keys have so many; 0 = of all */
};

const struct format *format_get(enum format_id id);
/* Whether a row of the catalog is one of that format. */
bool format_is_of(const struct format *format, const struct catalog_row *row);
