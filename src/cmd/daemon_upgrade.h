/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * `sarsend --upgrade-check`: can this program read what is on disk, what does it convert, and can
 * one go back? Looks at a copy of the catalog, at the labels of disks and at the first record of
 * group files; changes nothing. Blocking; no daemon need run, but one may.
 */
#include <stdbool.h>

enum daemon_upgrade_result {
	DAEMON_UPGRADE_READABLE = 0,
	DAEMON_UPGRADE_REFUSED = 1, /* something is too new, too old or damaged */
	DAEMON_UPGRADE_UNKNOWN = 3, /* it could not be looked at */
};

/* Prints to stdout. The exit code. */
enum daemon_upgrade_result daemon_upgrade_check(const char *state_directory, bool json);
