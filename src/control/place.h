/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Where a disk of a pool is in this machine: which mount its directory is on, which drives lie
 * below that, and where these can be found by hand. A table, so that the node runs in the simulated
 * world, where there is neither sysfs nor an enclosure. control/place_real.h has that of the real
 * world.
 *
 * A place is a JSON object; disk.locate gives it, and a row of the catalog keeps it:
 *     mount     point, source, type
 *     devices   the lowest block devices: name, number, size_bytes, through (what lies between,
 *               from the mount down), and what is known of model, serial, wwn, path, enclosure,
 *               slot, backing_file
 */
#include <jansson.h>
#include <stdbool.h>

enum place_led {
	PLACE_LED_OFF,
	PLACE_LED_ON,
};

/* They block: on a worker thread. */
struct place_ops {
	/* -ENOENT there is no such directory. The caller drops *ret_place. */
	int (*find)(void *context, const char *directory, json_t **ret_place);
	/* The light that an enclosure has beside a slot. -ENOENT: it has none; -EACCES. */
	int (*get_led)(void *context, const char *enclosure, const char *slot,
		       enum place_led *ret_led);
	int (*set_led)(void *context, const char *enclosure, const char *slot, enum place_led led);
};
