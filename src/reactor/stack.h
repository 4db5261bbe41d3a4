/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Equal stacks in one mapping. Below each lies a page without access: running over the end of a
 * stack is a fault, never damage. A stack has no access either until it is opened, which costs a
 * mapping and a call of the kernel: most are never needed. Memory is used once touched.
 */
#include <stddef.h>

struct stack_pool {
	char *memory;
	size_t stack_bytes; /* a multiple of the page size */
	unsigned count;
};

int stack_pool_init(struct stack_pool *pool, unsigned count, size_t stack_bytes);
/* Makes the stack usable, once. -ENOMEM: the process has too many mappings. */
int stack_pool_open(struct stack_pool *pool, unsigned index);
void stack_pool_done(struct stack_pool *pool);
/* The lowest usable address. */
void *stack_pool_get(const struct stack_pool *pool, unsigned index);
