/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Random operations, one at a time, on a volume of at most VOLUME_MODEL_BYTES that reads as zeros,
 * held against a plain array. From a fiber on the volume's home reactor. Fails the cmocka test.
 */
#include "block/block.h"

#define VOLUME_MODEL_BYTES (256 * KIB)

void volume_model_run(struct block_volume *volume, uint64_t seed, unsigned operations);
