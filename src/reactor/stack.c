/* SPDX-License-Identifier: Apache-2.0 */
#include "reactor/stack.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/macros.h"

static size_t stack_guard_bytes(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t stack_stride(const struct stack_pool *pool)
{
	return pool->stack_bytes + stack_guard_bytes();
}

int stack_pool_init(struct stack_pool *pool, unsigned count, size_t stack_bytes)
{
	struct stack_pool made = {
		.stack_bytes = ALIGN_UP(stack_bytes, stack_guard_bytes()),
		.count = count,
	};
	/* One more guard at the end keeps the neighbours of the mapping apart from the last
	 * stack. */
	size_t length = count * stack_stride(&made) + stack_guard_bytes();

	made.memory = mmap(NULL, length, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (made.memory == MAP_FAILED)
		return -errno;
	*pool = made;
	return 0;
}

int stack_pool_open(struct stack_pool *pool, unsigned index)
{
	void *stack = stack_pool_get(pool, index);

	return mprotect(stack, pool->stack_bytes, PROT_READ | PROT_WRITE) < 0 ? -errno : 0;
}

void stack_pool_done(struct stack_pool *pool)
{
	if (pool->memory)
		(void)munmap(pool->memory, pool->count * stack_stride(pool) + stack_guard_bytes());
	*pool = (struct stack_pool){0};
}

void *stack_pool_get(const struct stack_pool *pool, unsigned index)
{
	ASSERT(index < pool->count);
	return pool->memory + index * stack_stride(pool) + stack_guard_bytes();
}
