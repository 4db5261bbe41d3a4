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
};

const struct format *format_get(enum format_id id);
