/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Going through all that a sealed file stores, from its first block to its last, each block held
 * against the checksum that it was written with: a record's header and what the header says of its
 * payload, or the file's index. What repair copies and what scrub looks at. Home: the vDisk's
 * reactor; in fibers.
 */
#include "egroup/ahead.h"

enum egroup_finding_kind {
	EGROUP_FINDING_BLOCK,  /* a block does not match its checksum */
	EGROUP_FINDING_HEADER, /* a record's header is damaged: what it described is not checked */
	EGROUP_FINDING_INDEX,  /* of a compacted file */
};

struct egroup_finding {
	enum egroup_finding_kind kind;
	unsigned copy;
	uint32_t place;       /* block of the file */
	uint64_t group;       /* 0: of the file as a whole */
	uint32_t slot, slots; /* of a header: its record's as far as is known; else 1 */
	int error;            /* -EIO: it cannot be read at all */
	/* What the record says that it held when it was written: blocks of the vDisk; of a header
	 * its first extent of data. 0 blocks: not known, or no data. */
	uint64_t block;
	uint32_t block_count;
	bool right_elsewhere; /* another copy had it right, and was used to put this one right ...
			       */
	bool put_right;       /* ... and that succeeded */
	/* Bits of copies: those that have it wrong, those that gave an error instead, and those
	 * that could not be asked: when it is right elsewhere, only the one that the scan is of. */
	unsigned wrong, unread, away;
};

struct egroup_scan {
	struct ahead *ahead; /* to be read with; all its pieces are back before and after */
	/* What is stored, in order, as it should be, with its CRCs. The piece is given away:
	 * whoever gets it puts it back (ahead_put()) when its memory is not used any more, in any
	 * case; the scan does not end before. May be NULL. An error ends the scan. */
	int (*content)(void *arg, struct ahead_piece *piece);
	/* May be NULL. */
	void (*finding)(void *arg, const struct egroup_finding *finding);
	/* After each piece that was read; an error ends the scan. May be NULL. */
	int (*pause)(void *arg, uint64_t bytes);
	/* As in struct ahead_options. */
	void (*pace)(void *arg, struct egroup_pace *pace);
	void *arg;
};

/* Reads copy `copy` (or EGROUP_ANY_COPY: the best), and where that is wrong the others. The file is
 * open and referenced; it is not being written. 0 also when there were findings; -EUCLEAN when the
 * index of a compacted file can be read from no copy. */
int egroup_scan(struct egroup_file *file, unsigned copy, const struct egroup_scan *scan);
/* Bytes that it will go through. */
uint64_t egroup_scan_bytes(const struct egroup_file *file);
