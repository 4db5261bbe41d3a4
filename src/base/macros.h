/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Small helpers that every folder uses: assertions, ownership, arithmetic.
 *
 * ASSERT is for programmer errors only and is always compiled in. Bytes from a guest, a network or
 * a disk are validated and refused, never asserted.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)

#define NSEC_PER_USEC UINT64_C(1000)
#define NSEC_PER_MSEC UINT64_C(1000000)
#define NSEC_PER_SEC  UINT64_C(1000000000)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(pointer, type, member) \
	((type *)((char *)(pointer)-offsetof(type, member)))

/* Each use has names of its own, so that uses can be nested. */
#define PICK_(a, compare, b, x, y)      \
	({                              \
		__auto_type x = (a);    \
		__auto_type y = (b);    \
		x compare y ? x : y;    \
	})
#define PICK_AS_(a, compare, b, n) PICK_(a, compare, b, JOIN_(pick_x_, n), JOIN_(pick_y_, n))
#define JOIN_(a, b)                JOIN_AS_(a, b)
#define JOIN_AS_(a, b)             a##b
#define MIN(a, b)                  PICK_AS_(a, <, b, __COUNTER__)
#define MAX(a, b)                  PICK_AS_(a, >, b, __COUNTER__)

#define DIV_ROUND_UP(n, d) (((n) + (d)-1) / (d))
/* `a` must be a power of two. */
#define ALIGN_UP(n, a)   (((n) + (a)-1) & ~((__typeof__(n))(a)-1))
#define ALIGN_DOWN(n, a) ((n) & ~((__typeof__(n))(a)-1))
#define IS_ALIGNED(n, a) (((n) & ((a)-1)) == 0)

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Gives up ownership: evaluates to the pointer and leaves NULL behind. */
#define TAKE_PTR(p)                       \
	({                                \
		__auto_type take_p_ = &(p);  \
		__auto_type take_v_ = *take_p_; \
		*take_p_ = NULL;          \
		take_v_;                  \
	})

#define _cleanup_(f) __attribute__((cleanup(f)))

/* Defines x_freep-style cleanup functions for `_cleanup_`. */
#define DEFINE_CLEANUP(type, f)                    \
	static inline void f##p(type *p)           \
	{                                          \
		if (*p)                            \
			f(*p);                     \
	}

static inline void free_voidp(void *p)
{
	free(*(void **)p);
}
#define _cleanup_free_ _cleanup_(free_voidp)

/* Prints the expression and its place, then aborts. */
_Noreturn void assert_failed(const char *expression, const char *file, int line,
			     const char *function);

#define ASSERT(e) \
	(LIKELY(e) ? (void)0 : assert_failed(#e, __FILE__, __LINE__, __func__))
