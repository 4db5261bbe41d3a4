/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Makes a catalog of given rows, in two steps, so that whoever found the rows can do in between
 * what must come before it is used. For tools, while nobody uses the catalog. From fibers.
 */
#include "catalog/catalog.h"

/* All rows but that of the format and what store_change.c keeps for itself, sorted here; each gets
 * version 1. Whole and synced in PATH-new when it returns 0. -EUCLEAN: two rows have one key. */
int catalog_make_new(const struct catalog_options *options, struct catalog_rows *rows);
/* That takes the place of the catalog at options->path. What was there, and the hint of its
 * mirrors, stay under the same names and `suffix`. A crash leaves the old catalog, if it could be
 * used, or the new one. */
int catalog_make_replace(const struct catalog_options *options, const char *suffix);

/* Where mirrors are or were, as the hint beside the catalog says; none when there is no hint. */
struct catalog_make_hint {
	unsigned count;
	char *directories[16];
};
int catalog_make_read_hint(const char *path, struct catalog_make_hint *ret_hint);
void catalog_make_hint_done(struct catalog_make_hint *hint);
