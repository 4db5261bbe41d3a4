/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* What context.c needs of the machine: context_x86_64.S, context_aarch64.S. */
#include <stddef.h>

/* Pushes the preserved registers, stores the stack pointer in *save and goes on at `load`. */
void context_swap(void **save, void *load);
/* Where a new context starts: jumps to entry(arg), which CONTEXT_FRAME() put into its registers. */
void context_start(void);
