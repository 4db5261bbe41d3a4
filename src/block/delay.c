/* SPDX-License-Identifier: Apache-2.0 */
#include "block/delay.h"

#include <errno.h>

#include "block/chance.h"
#include "block/sub.h"

struct delay_volume {
	struct block_volume volume;
	struct block_volume *below;
	struct sub_pool pool;
	struct delay_options options;
	struct chance chance;
};

struct waiting { /* in request->space */
	struct reactor_timer timer;
	int result;
};
_Static_assert(sizeof(struct waiting) <= BLOCK_SPACE_BYTES, "fits in a request");

static struct delay_volume *delay_of(const struct block_volume *volume)
{
	return CONTAINER_OF(volume, struct delay_volume, volume);
}

static struct block_request *request_of(struct reactor_timer *timer)
{
	return block_request_of(CONTAINER_OF(timer, struct waiting, timer));
}

static uint64_t draw(struct delay_volume *delay, const struct block_request *request,
		     uint64_t fixed_ns, uint64_t random_ns)
{
	if (delay->options.ops && !(delay->options.ops & 1u << request->op))
		return 0;
	if (random_ns)
		fixed_ns += chance_below(&delay->chance, random_ns + 1);
	return fixed_ns;
}

static void wait_for(struct block_request *request, uint64_t duration_ns,
		     void (*run)(struct reactor_timer *timer))
{
	struct waiting *waiting = (struct waiting *)request->space;
	struct reactor *home = request->volume->home;

	waiting->timer = (struct reactor_timer){.run = run};
	reactor_timer_arm(home, &waiting->timer, reactor_now_ns(home) + duration_ns);
}

static void go_below(struct reactor_timer *timer)
{
	struct block_request *request = request_of(timer);

	sub_pool_submit(&delay_of(request->volume)->pool, request);
}

static void delay_submit(struct block_volume *volume, struct block_request *request)
{
	struct delay_volume *delay = delay_of(volume);
	uint64_t duration_ns = draw(delay, request, delay->options.before_ns,
				    delay->options.before_random_ns);

	if (duration_ns)
		wait_for(request, duration_ns, go_below);
	else
		sub_pool_submit(&delay->pool, request);
}

static void finish(struct reactor_timer *timer)
{
	struct block_request *request = request_of(timer);

	block_complete(request, ((struct waiting *)request->space)->result);
}

static void below_done(struct block_request *request, int result)
{
	struct sub *sub = sub_of(request);
	struct block_request *parent = sub->parent;
	struct delay_volume *delay = delay_of(parent->volume);
	uint64_t duration_ns = draw(delay, parent, delay->options.after_ns,
				    delay->options.after_random_ns);

	if (duration_ns == 0) {
		sub_complete(sub, result);
		return;
	}
	((struct waiting *)parent->space)->result = result;
	sub_release(sub);
	wait_for(parent, duration_ns, finish);
}

static void start(struct sub *sub)
{
	sub->request.done = below_done;
	block_submit(delay_of(sub->parent->volume)->below, &sub->request);
}

static void delay_free(struct block_volume *volume)
{
	struct delay_volume *delay = delay_of(volume);

	sub_pool_done(&delay->pool);
	free(delay);
}

static const struct block_volume_ops delay_ops = {
	.kind = "delay",
	.submit = delay_submit,
	.free = delay_free,
};

int delay_volume_new(struct block_volume *below, const struct delay_options *options,
		     struct block_volume **ret_volume)
{
	_cleanup_free_ struct delay_volume *delay = calloc(1, sizeof(*delay));
	int result;

	if (!delay)
		return -ENOMEM;
	result = sub_pool_init(&delay->pool, options->requests, start);
	if (result < 0)
		return result;
	block_volume_init_like(&delay->volume, &delay_ops, below->home, below);
	delay->below = below;
	delay->options = *options;
	chance_init(&delay->chance, options->seed);
	*ret_volume = &TAKE_PTR(delay)->volume;
	return 0;
}
