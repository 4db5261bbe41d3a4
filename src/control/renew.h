/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The catalog's files anew, under their names: a dead daemon whose threads are held up in the
 * kernel keeps its locks on the old ones, and a write of it could still land there.
 */

/* The lock is held, and nobody has the catalog open. Files that are not there are left out. */
int renew_catalog(const char *state_directory);
