/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* What sysfs and udev's database say of one block device. On a worker thread. */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define PLACE_PATH_MAX 4200

/* The first line of folder/name, without blanks at its ends and with nothing that is not printable;
 * false when there is none. */
bool place_fact(const char *folder, const char *name, char *ret_text, size_t size);
/* Of a drive, by its folder in sysfs; NULL without memory. */
json_t *place_facts(const char *root, const char *folder);
