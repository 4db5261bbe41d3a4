/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sub-request belongs to the home reactor until its message is posted, then to the target's
 * reactor until the message is posted back. The parent is touched on the home reactor only.
 */
#include "block/remote.h"

#include <errno.h>

#include "block/sub.h"

struct remote_volume {
	struct block_volume volume;
	struct block_volume *target;
	struct sub_pool pool;
};

static struct remote_volume *remote_of(const struct block_volume *volume)
{
	return CONTAINER_OF(volume, struct remote_volume, volume);
}

static struct remote_volume *remote_of_sub(const struct sub *sub)
{
	return CONTAINER_OF(sub->pool, struct remote_volume, pool);
}

static void arrive_back(struct world_message *message)
{
	struct sub *sub = CONTAINER_OF(message, struct sub, message);

	sub_complete(sub, sub->result);
}

static void target_done(struct block_request *request, int result)
{
	struct sub *sub = sub_of(request);

	sub->result = result;
	sub->message.run = arrive_back;
	reactor_post(remote_of_sub(sub)->volume.home, &sub->message);
}

static void arrive_at_target(struct world_message *message)
{
	struct sub *sub = CONTAINER_OF(message, struct sub, message);

	block_submit(remote_of_sub(sub)->target, &sub->request);
}

static void done_here(struct block_request *request, int result)
{
	sub_complete(sub_of(request), result);
}

static void start(struct sub *sub)
{
	struct remote_volume *remote = remote_of_sub(sub);

	if (remote->target->home == remote->volume.home) {
		sub->request.done = done_here;
		block_submit(remote->target, &sub->request);
		return;
	}
	sub->request.done = target_done;
	sub->message.run = arrive_at_target;
	reactor_post(remote->target->home, &sub->message);
}

static void remote_submit(struct block_volume *volume, struct block_request *request)
{
	sub_pool_submit(&remote_of(volume)->pool, request);
}

static void remote_free(struct block_volume *volume)
{
	struct remote_volume *remote = remote_of(volume);

	sub_pool_done(&remote->pool);
	free(remote);
}

static const struct block_volume_ops remote_ops = {
	.kind = "remote",
	.submit = remote_submit,
	.free = remote_free,
};

int remote_volume_new(struct block_volume *target, struct reactor *home, unsigned requests,
		      struct block_volume **ret_volume)
{
	_cleanup_free_ struct remote_volume *remote = calloc(1, sizeof(*remote));
	int result;

	if (!remote)
		return -ENOMEM;
	result = sub_pool_init(&remote->pool, requests, start);
	if (result < 0)
		return result;
	block_volume_init_like(&remote->volume, &remote_ops, home, target);
	remote->target = target;
	*ret_volume = &TAKE_PTR(remote)->volume;
	return 0;
}

void remote_volume_set_size(struct block_volume *volume, uint64_t size_bytes)
{
	ASSERT(volume->ops == &remote_ops);
	reactor_assert_home(volume->home);
	ASSERT(block_check_geometry(size_bytes, volume->block_bytes) == 0);
	volume->size_bytes = size_bytes;
}
