/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* A simulated world with the disk of a catalog and up to three that may hold mirrors of it. */
#include "catalog/catalog.h"
#include "catalog/mirror.h"
#include "sim_rig.h"

#define STATE      "/state"
#define PATH       STATE "/catalog.db"
#define DISK_BYTES (64 * MIB)

extern struct sim_rig rig;
extern struct catalog *catalog;
extern struct catalog_report report; /* of the last opening */
extern const char *const mirrored_disks[3];
extern uint64_t mirrored_timeout_ns; /* of a disk, at the next opening; 0 at first */

/* The first `disks` of them, each with a label. */
void mirrored_rig_begin(uint64_t seed, unsigned disks);
void mirrored_rig_end(void);
void mirrored_in_fiber(void (*run)(void));

/* From fibers. `restore_from`: NULL, or a directory. */
int mirrored_open(const char *restore_from);
void mirrored_close(void);
int mirrored_put(uint64_t number, uint8_t byte, uint32_t length);
int mirrored_drop(uint64_t number);
/* The row's byte, or an error. */
int mirrored_look(uint64_t number);
