/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Writes tar archives (POSIX ustar) of texts that are in memory. */
#include <stdint.h>
#include <stdio.h>

#define CLI_TAR_NAME_MAX 99

/* Errors show in ferror(stream). */
void cli_tar_add(FILE *stream, const char *name, const char *bytes, size_t length, uint64_t time_s);
void cli_tar_end(FILE *stream);
