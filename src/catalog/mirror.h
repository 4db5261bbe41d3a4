/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Mirrors of the catalog: checked copies in the directories of a pool's disks, DIRECTORY/catalog/.
 * A mirror in good standing has every change that catalog_commit() has acknowledged; one that fails
 * loses its standing, durably, before anything more is acknowledged, and is built again in the
 * background when its disk works.
 *
 * All functions are called from fibers of the catalog's home reactor.
 */
#include "catalog/mirror_rows.h"

#define CATALOG_MIRRORS_MAX          16
#define CATALOG_MIRROR_DIRECTORY_MAX 3900 /* leaves room for the names below it */

enum catalog_mirror_state {
	CATALOG_MIRROR_GOOD,
	CATALOG_MIRROR_BUILDING,
	CATALOG_MIRROR_LOST,    /* cannot be reached or failed; tried again now and then */
	CATALOG_MIRROR_REFUSED, /* what is there is of another catalog, or newer than this one */
};

struct catalog_mirror_info {
	char directory[CATALOG_MIRROR_DIRECTORY_MAX + 1];
	enum catalog_mirror_state state;
	int error;             /* why it is lost or refused */
	bool was_lost;         /* since this catalog was opened */
	uint64_t sequence;     /* of the last change that it has for certain */
	uint64_t bytes;        /* of its files */
	uint64_t made_wall_ns; /* when its snapshot was made */
};

const char *catalog_mirror_state_name(enum catalog_mirror_state state);

/*
 * Makes a mirror in the directory, which holds a pool's label; it is built in the background. One
 * that is there already is fine. -ESTALE: what is there is newer than this catalog, or of a history
 * that it has lost, and it must not be used then; -EEXIST: it is of another catalog; -EMFILE,
 * -ENAMETOOLONG.
 */
int catalog_mirror_add(struct catalog *catalog, const char *directory);
/* Forgets it and removes its files as far as possible. -ENOENT. */
int catalog_mirror_remove(struct catalog *catalog, const char *directory);
/* Whether files of a mirror were made there, as far as the disk answers. */
bool catalog_mirror_was(struct catalog *catalog, const char *directory);
/* From a fiber of any reactor. Whether the disk whose directory that is may be changed by the rows
 * of this catalog: -ESTALE when a mirror there is newer than this catalog or of another history of
 * it. */
int catalog_mirror_admits(struct catalog *catalog, const char *directory);
/* Freed by the caller. */
int catalog_mirror_list(struct catalog *catalog, struct catalog_mirror_info **ret_infos,
			size_t *ret_count);
/* Why the last write failed for reasons of the disk; 0 once one has succeeded. */
int catalog_get_error(struct catalog *catalog);
void catalog_get_position(struct catalog *catalog, struct catalog_position *ret_position);
/* Until none is being built or about to be; for tests and for tools. */
void catalog_mirror_wait(struct catalog *catalog);

/* Why a catalog cannot be opened, or what was done so that it could. */
struct catalog_report {
	bool restored; /* from the mirror in `directory`; the old files lie beside the new */
	int damage;    /* of what was there before: -ENOENT, -EUCLEAN; 0 = none. When it was not
			  restored, what can be read of it is served */
	char directory[CATALOG_MIRROR_DIRECTORY_MAX + 1]; /* restored from, newer, or not usable */
	int mirror_error;                                 /* of that mirror */
	uint64_t catalog_sequence, mirror_sequence;
	bool mirror_torn;   /* it may lack the last change */
	bool mirror_forked; /* it and the other have changes that the other lacks */
};

struct catalog_verify {
	uint64_t rows; /* compared in each mirror */
	unsigned mirrors;
	uint64_t differences; /* rows that are missing, too many or not alike, and mirrors that
				 cannot be read */
};

/*
 * Reads all rows of the catalog and of the mirrors in good standing from their disks and compares
 * them. A mirror that is not alike or cannot be read loses its standing, and is built again.
 * -EUCLEAN: a row of the catalog itself is damaged or missing; then no mirror is judged.
 */
int catalog_verify(struct catalog *catalog, struct catalog_verify *ret_verify);
