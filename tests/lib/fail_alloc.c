/* SPDX-License-Identifier: Apache-2.0 */
#include "fail_alloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Allocations until the one that fails; 0 = none does. Threads may allocate meanwhile. */
static uint64_t fail_alloc_left;
static bool fail_alloc_failed;

void fail_alloc_nth(uint64_t n)
{
	__atomic_store_n(&fail_alloc_failed, false, __ATOMIC_SEQ_CST);
	__atomic_store_n(&fail_alloc_left, n, __ATOMIC_SEQ_CST);
}

bool fail_alloc_disarm(void)
{
	__atomic_store_n(&fail_alloc_left, 0, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&fail_alloc_failed, __ATOMIC_SEQ_CST);
}

static bool must_fail(void)
{
	uint64_t left = __atomic_load_n(&fail_alloc_left, __ATOMIC_SEQ_CST);

	do
		if (left == 0)
			return false;
	while (!__atomic_compare_exchange_n(&fail_alloc_left, &left, left - 1, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	if (left > 1)
		return false;
	__atomic_store_n(&fail_alloc_failed, true, __ATOMIC_SEQ_CST);
	errno = ENOMEM;
	return true;
}

/* The linker gives the names: __wrap_x is called in place of x, __real_x is x. With file offsets of
 * 64 bits, mmap() is mmap64(). */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *at, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t length);
void *__real_mmap64(void *at, size_t length, int protection, int flags, int fd, off_t offset);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *at, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t length);
void *__wrap_mmap64(void *at, size_t length, int protection, int flags, int fd, off_t offset);

void *__wrap_malloc(size_t size)
{
	return must_fail() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return must_fail() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *at, size_t size)
{
	return must_fail() ? NULL : __real_realloc(at, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return must_fail() ? NULL : __real_aligned_alloc(alignment, size);
}

char *__wrap_strdup(const char *text)
{
	return must_fail() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t length)
{
	return must_fail() ? NULL : __real_strndup(text, length);
}

void *__wrap_mmap64(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
	if (must_fail())
		return MAP_FAILED;
	return __real_mmap64(at, length, protection, flags, fd, offset);
}
