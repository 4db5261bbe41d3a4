/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What is kept of third-party copies (SPC-4 5.17): the outcome of the last few of each I_T nexus,
 * and the progress of those that run in the background, for RECEIVE COPY STATUS; and what the copy
 * manager can do, for the pages that tell.
 */
#include <stdbool.h>
#include <stdint.h>

#include "frontend/iscsi/scsi/sense.h"

#define SCSI_COPIES_HELD       4
#define SCSI_COPIES_RUNNING    16 /* of a target, in the background */
#define SCSI_COPY_CSCDS_MAX    16 /* copy source and copy destination descriptors */
#define SCSI_COPY_SEGMENTS_MAX 64
#define SCSI_COPY_CSCD_BYTES   32
#define SCSI_COPY_SEGMENT_MAX  (UINT32_C(1) << 30) /* bytes that one segment copies */
#define SCSI_COPY_LIST_MAX     (SCSI_COPY_CSCDS_MAX * 32u + SCSI_COPY_SEGMENTS_MAX * 32u)
#define SCSI_COPY_CSCD_IDENT   0xe4 /* identification descriptor */
#define SCSI_COPY_BLOCKS       0x02 /* block to block */
#define SCSI_COPY_BYTES        0x0a /* block to block, offsets and length in bytes */
#define SCSI_COPY_GRANULARITY  12   /* log2 of bytes */

struct scsi_copy_result {
	bool used, failed;
	bool running;    /* in the background; a command refers to it */
	bool terminated; /* did not come to its end: a reset, the loss of the connection */
	uint32_t list_id;
	uint16_t segments;
	uint64_t bytes;
	struct scsi_sense sense;
};

struct scsi_copies {
	unsigned next; /* the one to replace */
	struct scsi_copy_result results[SCSI_COPIES_HELD];
};
