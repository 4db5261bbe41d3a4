/* SPDX-License-Identifier: Apache-2.0 */
#include "reactor/context.h"

#include <stdint.h>

#include "base/macros.h"

#ifdef CONTEXT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#endif
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define CONTEXT_VALGRIND 1
#endif

_Static_assert(offsetof(struct context, stack_pointer) == 0, "context_swap()");
_Static_assert(offsetof(struct context, frame_pointer) == 8, "context_swap()");
_Static_assert(offsetof(struct context, resume) == 16, "context_swap()");

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
		  void (*entry)(struct context *context))
{
	void **top = (void **)((char *)stack + stack_bytes);

	ASSERT(IS_ALIGNED((uintptr_t)top, 16));
	*context = (struct context){
		.stack_pointer = top,
		.resume = (void *)entry,
		.stack = stack,
		.stack_bytes = stack_bytes,
	};
	context_tools_init(context, stack, stack_bytes);
#ifdef __x86_64__
	/* As if called from address 0, where every unwinder stops. */
	top[-1] = NULL;
	context->stack_pointer = &top[-1];
#endif
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
