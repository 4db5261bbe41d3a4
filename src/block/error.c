/* SPDX-License-Identifier: Apache-2.0 */
#include "block/error.h"

#include <errno.h>

#include "block/chance.h"
#include "block/sub.h"

struct armed_rule {
	struct error_rule rule;
	uint64_t seen;
	uint64_t fired;
};

struct error_volume {
	struct block_volume volume;
	struct block_volume *below;
	struct sub_pool pool;
	struct chance chance;
	uint64_t failures;
	unsigned rule_count;
	struct armed_rule rules[ERROR_RULES_MAX];
};

struct verdict { /* in request->space */
	int error; /* to report when the volume below succeeded, or 0 */
};

static const struct block_volume_ops error_ops;

static struct error_volume *error_of(const struct block_volume *volume)
{
	ASSERT(volume->ops == &error_ops);
	return CONTAINER_OF(volume, struct error_volume, volume);
}

static bool matches(const struct error_rule *rule, const struct block_request *request)
{
	if (rule->ops && !(rule->ops & 1u << request->op))
		return false;
	if (rule->length == 0)
		return true;
	return request->offset < rule->offset + rule->length &&
	       rule->offset < request->offset + request->length;
}

static bool fires(struct error_volume *error, struct armed_rule *armed,
		  const struct block_request *request)
{
	const struct error_rule *rule = &armed->rule;

	if (!matches(rule, request) || armed->seen++ < rule->skip)
		return false;
	if (rule->times && armed->fired >= rule->times)
		return false;
	if (rule->chance_ppm && !chance_ppm(&error->chance, rule->chance_ppm))
		return false;
	armed->fired++;
	return true;
}

static const struct error_rule *find_rule(struct error_volume *error,
					  const struct block_request *request)
{
	for (unsigned i = 0; i < error->rule_count; i++)
		if (fires(error, &error->rules[i], request))
			return &error->rules[i].rule;
	return NULL;
}

static void error_submit(struct block_volume *volume, struct block_request *request)
{
	struct error_volume *error = error_of(volume);
	struct verdict *verdict = (struct verdict *)request->space;
	const struct error_rule *rule = find_rule(error, request);

	error->failures += rule != NULL;
	if (rule && !rule->after) {
		block_complete_later(request, rule->error);
		return;
	}
	verdict->error = rule ? rule->error : 0;
	sub_pool_submit(&error->pool, request);
}

static void below_done(struct block_request *request, int result)
{
	struct sub *sub = sub_of(request);
	const struct verdict *verdict = (const struct verdict *)sub->parent->space;

	sub_complete(sub, result < 0 ? result : verdict->error);
}

static void start(struct sub *sub)
{
	sub->request.done = below_done;
	block_submit(error_of(sub->parent->volume)->below, &sub->request);
}

static void error_free(struct block_volume *volume)
{
	struct error_volume *error = error_of(volume);

	sub_pool_done(&error->pool);
	free(error);
}

static const struct block_volume_ops error_ops = {
	.kind = "error",
	.submit = error_submit,
	.free = error_free,
};

int error_volume_new(struct block_volume *below, uint64_t seed, unsigned requests,
		     struct block_volume **ret_volume)
{
	_cleanup_free_ struct error_volume *error = calloc(1, sizeof(*error));
	int result;

	if (!error)
		return -ENOMEM;
	result = sub_pool_init(&error->pool, requests, start);
	if (result < 0)
		return result;
	block_volume_init_like(&error->volume, &error_ops, below->home, below);
	error->below = below;
	chance_init(&error->chance, seed);
	*ret_volume = &TAKE_PTR(error)->volume;
	return 0;
}

int error_volume_add(struct block_volume *volume, const struct error_rule *rule)
{
	struct error_volume *error = error_of(volume);

	reactor_assert_home(volume->home);
	if (rule->error >= 0)
		return -EINVAL;
	if (error->rule_count == ERROR_RULES_MAX)
		return -E2BIG;
	error->rules[error->rule_count++] = (struct armed_rule){.rule = *rule};
	return 0;
}

void error_volume_clear(struct block_volume *volume)
{
	reactor_assert_home(volume->home);
	error_of(volume)->rule_count = 0;
}

uint64_t error_volume_failures(const struct block_volume *volume)
{
	return error_of(volume)->failures;
}
