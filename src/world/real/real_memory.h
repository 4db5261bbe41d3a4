/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Tells the memory checkers what the kernel does, which they cannot see through io_uring: buffers
 * are checked when an operation is submitted, and what the kernel wrote is marked as defined when
 * it completes. Nothing remains of this in a build without a checker; the requests to Valgrind are
 * compiled in when its header is there and cost a few instructions outside of it.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/macros.h"

#if defined(__has_feature)
#define REAL_HAS_FEATURE(feature) __has_feature(feature)
#else
#define REAL_HAS_FEATURE(feature) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || REAL_HAS_FEATURE(address_sanitizer)
#include <sanitizer/asan_interface.h>
#define REAL_IS_POISONED(base, length) (__asan_region_is_poisoned(base, length) != NULL)
#else
#define REAL_IS_POISONED(base, length) 0
#endif

#if REAL_HAS_FEATURE(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#define REAL_MSAN_CHECK(base, length)   __msan_check_mem_is_initialized(base, length)
#define REAL_MSAN_DEFINED(base, length) __msan_unpoison(base, length)
#else
#define REAL_MSAN_CHECK(base, length)   ((void)0)
#define REAL_MSAN_DEFINED(base, length) ((void)0)
#endif

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#else
#define VALGRIND_CHECK_MEM_IS_ADDRESSABLE(base, length) ((void)(base), (void)(length))
#define VALGRIND_CHECK_MEM_IS_DEFINED(base, length)     ((void)(base), (void)(length))
#define VALGRIND_MAKE_MEM_DEFINED(base, length)         ((void)(base), (void)(length))
#endif

/* The kernel will read these buffers. */
static inline void real_memory_check_source(const struct iovec *iov, int iov_count)
{
	for (int i = 0; i < iov_count; i++) {
		ASSERT(!REAL_IS_POISONED(iov[i].iov_base, iov[i].iov_len));
		REAL_MSAN_CHECK(iov[i].iov_base, iov[i].iov_len);
		(void)VALGRIND_CHECK_MEM_IS_DEFINED(iov[i].iov_base, iov[i].iov_len);
	}
}

/* The kernel will write these buffers. */
static inline void real_memory_check_target(const struct iovec *iov, int iov_count)
{
	for (int i = 0; i < iov_count; i++) {
		ASSERT(!REAL_IS_POISONED(iov[i].iov_base, iov[i].iov_len));
		(void)VALGRIND_CHECK_MEM_IS_ADDRESSABLE(iov[i].iov_base, iov[i].iov_len);
	}
}

/* The kernel has written the first `length` bytes of the buffers. */
static inline void real_memory_written(const struct iovec *iov, int iov_count, uint64_t length)
{
	for (int i = 0; i < iov_count && length > 0; i++) {
		size_t part = MIN(length, (uint64_t)iov[i].iov_len);

		REAL_MSAN_DEFINED(iov[i].iov_base, part);
		(void)VALGRIND_MAKE_MEM_DEFINED(iov[i].iov_base, part);
		length -= part;
	}
}
