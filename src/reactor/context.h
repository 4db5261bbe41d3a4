/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Machine contexts: a stack and the registers that a call preserves, switched by a few instructions
 * (context_x86_64.S, context_aarch64.S). ASan, LSan, TSan and Valgrind are told about every stack
 * and switch.
 *
 * The floating-point control words are not switched: no code here changes them.
 */
#include <stdbool.h>
#include <stddef.h>

struct context {
	void *stack_pointer; /* while it does not run */
	const void *stack;   /* lowest address and size; of the thread's own stack: learned */
	size_t stack_bytes;
	void *fake_stack; /* ASan */
	void *tsan_fiber;
	unsigned valgrind_id;
};

/* Prepares entry(arg) on `stack`; entry begins with context_entered() and never returns. */
void context_init(struct context *context, void *stack, size_t stack_bytes,
		  void (*entry)(void *arg), void *arg);
/* The context has left its stack by context_exit(). */
void context_done(struct context *context);
/* Makes `context` stand for the running thread. */
void context_init_thread(struct context *context);

/* Saves the running context in `from` and goes on in `to`, until somebody switches back from `to`. */
void context_switch(struct context *from, struct context *to);
/* First act of an entry function that was switched to from `from`. */
void context_entered(struct context *context, struct context *from);
/* Leaves `from` for ever. */
_Noreturn void context_exit(struct context *from, struct context *to);
