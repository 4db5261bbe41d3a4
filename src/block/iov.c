/* SPDX-License-Identifier: Apache-2.0 */
#include "block/iov.h"

#include <stdbool.h>
#include <string.h>

#include "base/macros.h"

struct cursor {
	const struct iovec *iov;
	size_t skip;
	size_t left;
};

/* The next contiguous part, or false at the end. */
static bool next_part(struct cursor *cursor, struct iovec *ret_part)
{
	size_t room;

	if (cursor->left == 0)
		return false;
	while (cursor->skip >= cursor->iov->iov_len) {
		cursor->skip -= cursor->iov->iov_len;
		cursor->iov++;
	}
	room = MIN(cursor->iov->iov_len - cursor->skip, cursor->left);
	ret_part->iov_base = (char *)cursor->iov->iov_base + cursor->skip;
	ret_part->iov_len = room;
	cursor->skip += room;
	cursor->left -= room;
	return true;
}

void iov_read(const struct iovec *iov, size_t skip, void *to, size_t length)
{
	struct cursor cursor = {iov, skip, length};
	char *at = to;
	struct iovec part;

	while (next_part(&cursor, &part)) {
		memcpy(at, part.iov_base, part.iov_len);
		at += part.iov_len;
	}
}

void iov_write(const struct iovec *iov, size_t skip, const void *from, size_t length)
{
	struct cursor cursor = {iov, skip, length};
	const char *at = from;
	struct iovec part;

	while (next_part(&cursor, &part)) {
		memcpy(part.iov_base, at, part.iov_len);
		at += part.iov_len;
	}
}

void iov_clear(const struct iovec *iov, size_t skip, size_t length)
{
	struct cursor cursor = {iov, skip, length};
	struct iovec part;

	while (next_part(&cursor, &part))
		memset(part.iov_base, 0, part.iov_len);
}

static size_t first_difference(const char *a, const char *b, size_t length)
{
	size_t i = 0;

	if (memcmp(a, b, length) == 0)
		return length;
	while (a[i] == b[i])
		i++;
	return i;
}

size_t iov_compare(const struct iovec *iov, size_t skip, const void *with, size_t length)
{
	struct cursor cursor = {iov, skip, length};
	const char *at = with;
	size_t compared = 0;
	struct iovec part;

	while (next_part(&cursor, &part)) {
		size_t same = first_difference(part.iov_base, at + compared, part.iov_len);

		compared += same;
		if (same < part.iov_len)
			break;
	}
	return compared;
}

size_t iov_compare_zero(const struct iovec *iov, size_t skip, size_t length)
{
	struct cursor cursor = {iov, skip, length};
	size_t compared = 0;
	struct iovec part;

	while (next_part(&cursor, &part)) {
		const char *bytes = part.iov_base;

		for (size_t i = 0; i < part.iov_len; i++)
			if (bytes[i])
				return compared + i;
		compared += part.iov_len;
	}
	return compared;
}

int iov_slice(const struct iovec *iov, size_t skip, size_t length, struct iovec *ret_slice)
{
	struct cursor cursor = {iov, skip, length};
	int count = 0;

	while (next_part(&cursor, &ret_slice[count]))
		count++;
	return count;
}
