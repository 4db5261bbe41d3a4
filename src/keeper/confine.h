/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A filter of system calls (seccomp) for a keeper that has its sockets: it can make no socket and
 * no process, and can open files for reading only. What it needs to execute its program anew, which
 * inherits the filter, is allowed: execve and what the dynamic loader does. All else fails with
 * EPERM, rather than ending the process, whose virtual machine would lose its disk.
 */

/* For the whole process and what it executes, for ever, once. -ENOSYS where the kernel has none.
 * Does nothing in builds with sanitizers, which need other calls. */
int confine_self(void);
