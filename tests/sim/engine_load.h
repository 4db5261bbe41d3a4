/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A load for simulations of the engine: clients with random operations on the rig's vDisk, each
 * result held against a model. Functions are called from the main thread.
 */
#include "block/chance.h"
#include "engine_mix.h"
#include "engine_model.h"
#include "engine_rig.h"

#define ENGINE_LOAD_CLIENTS 6
#define OP_MAX              (1 * MIB)

struct engine_load;

struct engine_client {
	struct engine_load *load;
	struct chance chance;
	unsigned operations;
	unsigned char *buffer; /* 2 * OP_MAX */
};

struct engine_load {
	struct engine_rig *rig;
	struct model model;
	struct chance *chance;
	struct mix mix;
	uint64_t spread;     /* each MiB of the model lies this many MiB after the one before */
	uint64_t size_bytes; /* of the model now */
	uint64_t max_bytes;
	uint64_t filled;     /* MiB, where the pool is to be filled */
	bool fills;          /* writes everything once before anything twice */
	bool checks;         /* vdisk_check() is one of the operations */
	uint64_t longest_ns; /* that a read, write or flush took */
	bool retries;        /* a checkpoint may fail to write: the vDisk makes another by itself */
	bool crashing;       /* errors are expected */
	/* Whether an operation may fail like this; NULL: none may. */
	bool (*is_fault)(const struct engine_load *load, int result);
	struct engine_client clients[ENGINE_LOAD_CLIENTS];
	unsigned char *verify;
	enum model_crash crash_kind; /* that is verified */
};

/* After spread, sizes and flags were set. */
void engine_load_init(struct engine_load *load, struct engine_rig *rig, struct chance *chance,
		      uint64_t seed);
void engine_load_done(struct engine_load *load);
/* Starts ENGINE_LOAD_CLIENTS tasks of `least` and up to `more` operations. */
void engine_load_start(struct engine_load *load, struct sim_rig_task *tasks, unsigned least,
		       unsigned more);
/* Fails the run unless it is 0 or a fault that may be. */
void engine_load_result(const struct engine_load *load, const char *what, int result);
/* Where the model's sector lies on the vDisk, in bytes: its MiB are spread, so that the map has
 * several levels and subtrees are unmapped whole. */
uint64_t engine_load_offset(const struct engine_load *load, uint64_t sector);
/* Everything reads as the model says; after a crash, as one of the states that it allows. */
void engine_load_verify(struct engine_load *load);
void engine_load_verify_crash(struct engine_load *load, enum model_crash kind);
/* vdisk_check() finds nothing, and the account agrees. */
void engine_load_check_clean(struct engine_load *load);
