/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Copying between iovecs and flat memory. `skip` counts bytes from the start of the iovec. The
 * iovec holds at least skip + length bytes.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

void iov_read(const struct iovec *iov, size_t skip, void *to, size_t length);
void iov_write(const struct iovec *iov, size_t skip, const void *from, size_t length);
void iov_clear(const struct iovec *iov, size_t skip, size_t length);
/* The offset (from skip) of the first byte that differs from `with`, or `length`. */
size_t iov_compare(const struct iovec *iov, size_t skip, const void *with, size_t length);
/* The same against zeros. */
size_t iov_compare_zero(const struct iovec *iov, size_t skip, size_t length);
/* Fills `ret_slice` with the part [skip, skip + length); returns its number of elements, which is
 * at most that of the whole. */
int iov_slice(const struct iovec *iov, size_t skip, size_t length, struct iovec *ret_slice);
