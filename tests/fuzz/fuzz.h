/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A fuzz target. clang links it with its fuzzer (-Dfuzz=true); without, replay.c runs it over the
 * files and directories that are named on the command line.
 */
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
