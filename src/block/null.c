/* SPDX-License-Identifier: Apache-2.0 */
#include "block/null.h"

#include <errno.h>

#include "block/iov.h"

static int run(struct block_request *request)
{
	switch (request->op) {
	case BLOCK_READ:
		iov_clear(request->iov, 0, request->length);
		return 0;
	case BLOCK_COMPARE:
	case BLOCK_COMPARE_AND_WRITE:
		request->miscompare_offset = iov_compare_zero(request->iov, 0, request->length);
		return request->miscompare_offset == request->length ? 0 : -EILSEQ;
	case BLOCK_STATUS:
		request->status = (struct block_status){.length = request->length, .zero = true};
		return 0;
	default:
		return 0;
	}
}

static void null_submit(struct block_volume *volume, struct block_request *request)
{
	int result = run(request);

	if (result == 0)
		block_written(request);
	block_complete_later(request, result);
}

static void null_free(struct block_volume *volume)
{
	free(volume);
}

static const struct block_volume_ops null_ops = {
	.kind = "null",
	.submit = null_submit,
	.free = null_free,
};

int null_volume_new(struct reactor *home, uint64_t size_bytes, uint32_t block_bytes,
		    struct block_volume **ret_volume)
{
	struct block_volume *volume;
	int result = block_check_geometry(size_bytes, block_bytes);

	if (result < 0)
		return result;
	volume = calloc(1, sizeof(*volume));
	if (!volume)
		return -ENOMEM;
	block_volume_init(volume, &null_ops, home, size_bytes, block_bytes);
	*ret_volume = volume;
	return 0;
}
