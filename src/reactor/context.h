/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Machine contexts: a stack and a place to go on at, switched by a few instructions that are
 * inlined into the caller, so that the compiler saves what it needs and nothing else. ASan, LSan,
 * TSan and Valgrind are told about every stack and switch.
 *
 * Nothing is written to the stack that is left: its red zone stays whole. The floating-point
 * control words are not switched, and no x87 value may be live across a switch: no code here uses
 * either.
 */
#include <stddef.h>

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
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CONTEXT_TSAN
#include <sanitizer/tsan_interface.h>
#endif

struct context {
	/* While it does not run. context_swap() knows the places of these three. */
	void *stack_pointer;
	void *frame_pointer;
	void *resume;
	const void *stack; /* lowest address and size; of the thread's own stack: learned */
	size_t stack_bytes;
	void *fake_stack; /* ASan */
	void *tsan_fiber;
	unsigned valgrind_id;
};

/* Prepares entry(context) on `stack`; entry begins with context_entered(), ends with
 * context_exit(). */
void context_init(struct context *context, void *stack, size_t stack_bytes,
		  void (*entry)(struct context *context));
/* The context was never switched to, or left its stack by context_exit(). */
void context_done(struct context *context);
#define CONTEXT_INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__)
/* System V ABI. A new context gets `to` as the first argument of its entry function. */
CONTEXT_INLINE void context_swap(struct context *from, struct context *to)
{
	__asm__ volatile("leaq 1f(%%rip), %%rax\n\t"
			 "movq %%rsp, 0(%%rsi)\n\t"
			 "movq %%rbp, 8(%%rsi)\n\t"
			 "movq %%rax, 16(%%rsi)\n\t"
			 "movq 0(%%rdi), %%rsp\n\t"
			 "movq 8(%%rdi), %%rbp\n\t"
			 "jmpq *16(%%rdi)\n"
			 "1:"
			 : "+S"(from), "+D"(to)
			 :
			 : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13",
			   "r14", "r15", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
			   "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
			   "xmm15", "memory", "cc");
}
#elif defined(__aarch64__)
/* AAPCS64. A new context gets `to` as the first argument of its entry function, and no caller. */
CONTEXT_INLINE void context_swap(struct context *from, struct context *to)
{
	register struct context *left __asm__("x1") = from;
	register struct context *entered __asm__("x0") = to;

	__asm__ volatile("adr x9, 1f\n\t"
			 "mov x10, sp\n\t"
			 "stp x10, x29, [x1]\n\t"
			 "str x9, [x1, #16]\n\t"
			 "ldp x10, x29, [x0]\n\t"
			 "ldr x9, [x0, #16]\n\t"
			 "mov sp, x10\n\t"
			 "mov x30, xzr\n\t"
			 "br x9\n"
			 "1:"
			 : "+r"(left), "+r"(entered)
			 :
			 : "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12",
			   "x13", "x14", "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22",
			   "x23", "x24", "x25", "x26", "x27", "x28", "x30", "v0", "v1", "v2", "v3",
			   "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14",
			   "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24",
			   "v25", "v26", "v27", "v28", "v29", "v30", "v31", "memory", "cc");
}
#else
#error "write context_swap() for this machine"
#endif

/* Makes `context` stand for the running thread, before it switches to another. */
CONTEXT_INLINE void context_init_thread(struct context *context)
{
#ifdef CONTEXT_TSAN
	context->tsan_fiber = __tsan_get_current_fiber();
#endif
}

/*
 * Inlined also for TSan's sake, which keeps a stack of calls for each fiber: a function must leave
 * by the one it came by.
 */
CONTEXT_INLINE void context_leaving(void **fake_stack, struct context *to)
{
#ifdef CONTEXT_ASAN
	__sanitizer_start_switch_fiber(fake_stack, to->stack, to->stack_bytes);
#endif
#ifdef CONTEXT_TSAN
	__tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
}

/* First act of an entry function that was switched to from `from`. */
CONTEXT_INLINE void context_entered(struct context *context, struct context *from)
{
#ifdef CONTEXT_ASAN
	__sanitizer_finish_switch_fiber(context->fake_stack, &from->stack, &from->stack_bytes);
#endif
}

/* Saves the running context in `from` and goes on in `to`, until `to` switches back. */
CONTEXT_INLINE void context_switch(struct context *from, struct context *to)
{
	context_leaving(&from->fake_stack, to);
	context_swap(from, to);
	context_entered(from, to);
}

/* Leaves `from` for ever. */
CONTEXT_INLINE _Noreturn void context_exit(struct context *from, struct context *to)
{
	context_leaving(NULL, to);
	context_swap(from, to);
	__builtin_unreachable();
}
