/* SPDX-License-Identifier: Apache-2.0 */
#include "reactor/context.h"

#include <stdint.h>
#include <string.h>

#include "base/macros.h"
#include "reactor/context_priv.h"

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define CONTEXT_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define CONTEXT_TSAN 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define CONTEXT_ASAN 1
#endif
#ifdef __SANITIZE_THREAD__
#define CONTEXT_TSAN 1
#endif

#ifdef CONTEXT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#ifdef CONTEXT_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define CONTEXT_VALGRIND 1
#endif

/*
 * TSan keeps a stack of calls for each fiber: a function that switches fibers must not leave by
 * another stack than it came by.
 */
#if defined(CONTEXT_TSAN) && defined(__clang__)
#define CONTEXT_SWITCHES __attribute__((disable_sanitizer_instrumentation))
#elif defined(CONTEXT_TSAN)
#define CONTEXT_SWITCHES __attribute__((no_sanitize("thread")))
#else
#define CONTEXT_SWITCHES
#endif

/* The registers as context_swap() pops them, for context_start(). */
#if defined(__x86_64__)
struct context_frame {
	void *r15, *r14, *r13, *r12, *rbx, *rbp;
	void (*resume)(void);
	void *no_caller;
};
#define CONTEXT_FRAME(entry_, arg_) \
	{.r12 = (arg_), .r13 = (void *)(entry_), .resume = context_start}
#elif defined(__aarch64__)
struct context_frame {
	void *x19, *x20, *x21_to_x28[8], *x29;
	void (*x30)(void);
	uint64_t d8_to_d15[8];
};
#define CONTEXT_FRAME(entry_, arg_) \
	{.x19 = (arg_), .x20 = (void *)(entry_), .x30 = context_start}
#else
#error "write context_swap() for this machine"
#endif
_Static_assert(sizeof(struct context_frame) % 16 == 0, "the stack stays aligned");

static void context_tools_init(struct context *context, void *stack, size_t stack_bytes)
{
#ifdef CONTEXT_ASAN
	__asan_unpoison_memory_region(stack, stack_bytes);
	__lsan_register_root_region(stack, stack_bytes);
#endif
#ifdef CONTEXT_TSAN
	context->tsan_fiber = __tsan_create_fiber(0);
#endif
#ifdef CONTEXT_VALGRIND
	context->valgrind_id =
		(unsigned)VALGRIND_STACK_REGISTER(stack, (char *)stack + stack_bytes);
#endif
}

void context_init(struct context *context, void *stack, size_t stack_bytes,
		  void (*entry)(void *arg), void *arg)
{
	const struct context_frame frame = CONTEXT_FRAME(entry, arg);
	char *top = (char *)stack + stack_bytes;

	ASSERT(IS_ALIGNED((uintptr_t)top, 16));
	*context = (struct context){.stack = stack, .stack_bytes = stack_bytes};
	context_tools_init(context, stack, stack_bytes);
	context->stack_pointer = top - sizeof(frame);
	memcpy(context->stack_pointer, &frame, sizeof(frame));
}

void context_done(struct context *context)
{
#ifdef CONTEXT_ASAN
	__lsan_unregister_root_region(context->stack, context->stack_bytes);
	__asan_unpoison_memory_region(context->stack, context->stack_bytes);
#endif
#ifdef CONTEXT_TSAN
	__tsan_destroy_fiber(context->tsan_fiber);
#endif
#ifdef CONTEXT_VALGRIND
	VALGRIND_STACK_DEREGISTER(context->valgrind_id);
#endif
	*context = (struct context){0};
}

void context_init_thread(struct context *context)
{
	*context = (struct context){0};
#ifdef CONTEXT_TSAN
	context->tsan_fiber = __tsan_get_current_fiber();
#endif
}

static CONTEXT_SWITCHES void context_leaving(void **fake_stack, struct context *to)
{
#ifdef CONTEXT_ASAN
	__sanitizer_start_switch_fiber(fake_stack, to->stack, to->stack_bytes);
#endif
#ifdef CONTEXT_TSAN
	__tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
}

CONTEXT_SWITCHES void context_entered(struct context *context, struct context *from)
{
#ifdef CONTEXT_ASAN
	__sanitizer_finish_switch_fiber(context->fake_stack, &from->stack, &from->stack_bytes);
#endif
}

CONTEXT_SWITCHES void context_switch(struct context *from, struct context *to)
{
	context_leaving(&from->fake_stack, to);
	context_swap(&from->stack_pointer, to->stack_pointer);
	context_entered(from, to);
}

_Noreturn CONTEXT_SWITCHES void context_exit(struct context *from, struct context *to)
{
	context_leaving(NULL, to);
	context_swap(&from->stack_pointer, to->stack_pointer);
	__builtin_unreachable();
}
