/* SPDX-License-Identifier: Apache-2.0 */
/* System V ABI, x86-64: rbx, rbp, r12 to r15 survive a call. See context_priv.h. */
	.text

	.globl	context_swap
	.type	context_swap, @function
	.p2align 4
context_swap:
	.cfi_startproc
	pushq	%rbp
	pushq	%rbx
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, (%rdi)
	movq	%rsi, %rsp
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbx
	popq	%rbp
	/* Not `ret`: the return-address predictor holds the other stack's callers. */
	popq	%rcx
	jmp	*%rcx
	.cfi_endproc
	.size	context_swap, . - context_swap

	.globl	context_start
	.type	context_start, @function
	.p2align 4
context_start:
	.cfi_startproc
	.cfi_undefined rip
	/* As if called from address 0, where every unwinder stops. */
	movq	%r12, %rdi
	jmp	*%r13
	.cfi_endproc
	.size	context_start, . - context_start

	.section .note.GNU-stack, "", @progbits
