/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/macros.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "which architecture?"
#endif

#define WRITING (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND)

static const int allowed[] = {
	/* the loop */
	SYS_read,
	SYS_write,
	SYS_writev,
	SYS_recvmsg,
	SYS_sendmsg,
	SYS_recvfrom,
	SYS_accept4,
	SYS_epoll_ctl,
	SYS_shutdown,
	SYS_getsockopt,
	SYS_ppoll,
	SYS_close,
	SYS_fcntl,
	SYS_fstat,
	SYS_newfstatat,
	SYS_clock_gettime,
	SYS_pidfd_open,
	SYS_pidfd_send_signal,
	SYS_rt_sigreturn,
	SYS_rt_sigprocmask,
	SYS_rt_sigaction,
	SYS_restart_syscall,
	SYS_unlinkat,
	SYS_exit,
	SYS_exit_group,
	SYS_getpid,
	SYS_gettid,
	SYS_tgkill, /* abort() */
	SYS_futex,
	SYS_brk,
	SYS_mmap,
	SYS_munmap,
	SYS_mprotect,
	SYS_madvise,
	SYS_getrandom,
	/* REPLACE, and the loader of the new program */
	SYS_memfd_create,
	SYS_ftruncate,
	SYS_execve,
	SYS_pread64,
	SYS_lseek,
	SYS_faccessat,
	SYS_readlinkat,
	SYS_set_tid_address,
	SYS_set_robust_list,
	SYS_rseq,
	SYS_prlimit64,
	SYS_umask,
#ifdef SYS_poll
	SYS_poll,
	SYS_unlink,
	SYS_access,
	SYS_readlink,
	SYS_arch_prctl,
#endif
};

#define LOAD(field) \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define JUMP(code, value, yes, no) BPF_JUMP(BPF_JMP | (code) | BPF_K, (uint32_t)(value), yes, no)
#define RETURN(action)             BPF_STMT(BPF_RET | BPF_K, (action))

/* The number is an argument of no more than 32 bits in its low half. */
#define LOW_HALF(argument) LOAD(args[argument])
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "where is the low half?"
#endif

static unsigned build(struct sock_filter *filter)
{
	const struct sock_filter head[] = {
		LOAD(arch),
		JUMP(BPF_JEQ, ARCHITECTURE, 1, 0),
		RETURN(SECCOMP_RET_KILL_PROCESS), /* numbers of another meaning */
		LOAD(nr),
		JUMP(BPF_JEQ, SYS_openat, 0, 4),
		LOW_HALF(2),
		JUMP(BPF_JSET, WRITING, 1, 0),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_ERRNO | EPERM),
	};
	unsigned count = 0;

	for (size_t i = 0; i < ARRAY_SIZE(head); i++)
		filter[count++] = head[i];
	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++) {
		filter[count++] = (struct sock_filter)JUMP(BPF_JEQ, allowed[i], 0, 1);
		filter[count++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
	}
	filter[count++] = (struct sock_filter)RETURN(SECCOMP_RET_ERRNO | EPERM);
	return count;
}

int confine_self(void)
{
	struct sock_filter filter[16 + 2 * ARRAY_SIZE(allowed)];
	struct sock_fprog program = {.filter = filter};

	if (SANITIZED)
		return 0;
	program.len = (unsigned short)build(filter);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0)
		return errno == EINVAL ? -ENOSYS : -errno;
	return 0;
}
