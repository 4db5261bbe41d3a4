/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What a vDisk may contain: every write and zeroing as a numbered operation, and for each 512-byte
 * sector those that may be seen in it.
 *
 * A sector written by operation n carries n and its own number, so what is read tells who wrote it.
 * Operations that overlap must not be in flight together (model_claim()); so on one sector the
 * numbers tell the order.
 *
 * After a process crash nothing acknowledged may be missing. After power loss the content must be a
 * prefix of the order of acknowledgement, which contains all that was flushed: some cut C fits
 * every sector. Operations that the engine may acknowledge out of the order of its log (partial
 * blocks, FUA) do not take part in the cut; they must be there once flushed. One that was never
 * acknowledged may be there in part.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECTOR 512u

enum model_state { MODEL_PENDING, MODEL_ACKED, MODEL_FAILED };

struct model_op {
	enum model_state state;
	bool zero;
	bool ordered;   /* takes part in the cut */
	bool large;     /* may be there in part at the cut */
	bool durable;   /* flushed, or FUA */
	uint64_t acked; /* position among the acknowledged, from 1; 0 = not, or settled */
	uint64_t begun; /* how many were acknowledged when it began */
};

struct model_sector {
	uint32_t *ids; /* in order; the first is the settled one (0: zeros from the start) */
	uint16_t count, capacity;
	bool busy;
};

struct model {
	uint64_t sector_count;
	struct model_sector *sectors;
	struct model_op *ops; /* [0]: zeros from the start */
	uint32_t op_count, op_capacity;
	uint64_t acked;   /* how many so far */
	uint64_t flushed; /* all acknowledged up to it are durable */
	uint64_t settled; /* `acked` at the last crash */
	bool overtaking;  /* in a full pool others may pass a large one that is there in part */
};

void model_init(struct model *model, uint64_t sector_count);
void model_done(struct model *model);
/* False when something in flight overlaps. */
bool model_claim(struct model *model, uint64_t first, uint64_t count);
void model_release(struct model *model, uint64_t first, uint64_t count);

uint32_t model_begin(struct model *model, uint64_t first, uint64_t count, bool zero, bool ordered);
void model_acknowledge(struct model *model, uint32_t op, bool durable);
void model_fail(struct model *model, uint32_t op);
/* A flush that began when `acked` were acknowledged has succeeded. */
void model_flushed(struct model *model, uint64_t acked);
/* What operation `op` puts into the sectors. */
void model_fill(uint32_t op, uint64_t first, uint64_t count, void *buffer);

/* A read that began when `acked` were acknowledged: fails the run when a sector is not what it may
 * be. */
void model_check_read(const struct model *model, uint64_t first, uint64_t count, const void *buffer,
		      uint64_t acked);
/* The whole content after a crash, part by part; then model_settle(). */
enum model_crash { MODEL_PROCESS_CRASH, MODEL_POWER_LOSS };
struct model_cut;
struct model_cut *model_cut_new(struct model *model, enum model_crash crash);
void model_cut_add(struct model_cut *cut, uint64_t first, uint64_t count, const void *buffer);
/* Fails the run when no cut fits. What was seen is what is there from now on. */
void model_cut_finish(struct model_cut *cut);
/* The vDisk was cut off at `sector`: what comes back later is zeros. */
void model_truncate(struct model *model, uint64_t sector);
