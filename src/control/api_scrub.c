/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "control/api_priv.h"
#include "control/node_scrub.h"
#include "control/time_text.h"

static void add_tally(json_t *json, const struct scrub_tally *tally)
{
	json_object_set_new(json, "read_bytes", json_integer((json_int_t)tally->bytes));
	json_object_set_new(json, "put_right_blocks", json_integer((json_int_t)tally->put_right));
	json_object_set_new(json, "left_blocks", json_integer((json_int_t)tally->left));
	json_object_set_new(json, "damaged_blocks", json_integer((json_int_t)tally->damaged));
	json_object_set_new(json, "pending_blocks", json_integer((json_int_t)tally->pending));
}

json_t *api_scrub_to_json(struct node *node, uint64_t pool_id)
{
	char time[TIME_TEXT_MAX];
	struct scrub_state state;
	json_t *json;

	if (scrub_load(node->catalog, pool_id, &state) < 0)
		return json_pack("{s:s}", "state", "unknown");
	json = json_pack("{s:s}", "state", scrub_phase_name(state.phase));
	add_tally(json, state.phase == SCRUB_IDLE ? &state.last : &state.now);
	if (state.last.ended_wall_ns)
		json_object_set_new(json, "ended",
				    json_string(time_text(state.last.ended_wall_ns, time)));
	return json;
}

/* What is asked for holds already: saying it twice does no harm. */
static bool is_so(struct api_request *request, uint64_t pool_id)
{
	enum scrub_phase wanted = params_bool(request->params, "pause")    ? SCRUB_PAUSED
				  : params_bool(request->params, "resume") ? SCRUB_RUNNING
									   : SCRUB_IDLE;
	struct scrub_state state;

	return wanted != SCRUB_IDLE && scrub_load(request->node->catalog, pool_id, &state) == 0 &&
	       state.phase == wanted;
}

static int change(struct api_request *request, struct node_pool *pool)
{
	const char *name = params_text(request->params, "name");
	struct node *node = request->node;
	uint64_t id = pool->id;
	int r;

	if (params_bool(request->params, "pause"))
		r = node_scrub_change(node, pool, SCRUB_RUNNING, SCRUB_PAUSED);
	else if (params_bool(request->params, "resume"))
		r = node_scrub_change(node, pool, SCRUB_PAUSED, SCRUB_RUNNING);
	else
		r = node_scrub_change(node, pool, SCRUB_IDLE, SCRUB_IDLE);
	if (r == -ENOENT && is_so(request, id))
		r = 0;
	if (r == -ENOENT)
		return api_fail(request, ERROR_NOT_FOUND, name,
				"see: sarsen pool show; begin one with: sarsen pool scrub",
				"no scrub of pool '%s' is under way", name);
	if (r < 0)
		return api_fail_errno(request, r, "scrub pool", name);
	request->result = api_scrub_to_json(node, id);
	return 0;
}

static int start(struct api_request *request, struct node_pool *pool)
{
	uint64_t job;
	int r = node_scrub_start(request->node, pool, &job);

	if (r == -EALREADY)
		return api_fail(request, ERROR_BUSY, pool->name,
				"see sarsen pool show; or say --resume or --cancel",
				"a scrub of pool '%s' is under way or paused", pool->name);
	if (r < 0)
		return api_fail_errno(request, r, "scrub pool", pool->name);
	request->result = job_to_json(request->node->jobs, job);
	return 0;
}

static int scrub(struct api_request *request, const char *name)
{
	struct node_pool *pool = node_pool_find(request->node, name);
	int flags = params_bool(request->params, "pause") + params_bool(request->params, "resume") +
		    params_bool(request->params, "cancel");

	if (!pool)
		return api_fail_unknown(request, "pool", name);
	if (!pool->pool)
		return api_fail_errno(request, pool->error, "scrub pool", name);
	if (flags > 1)
		return api_fail(request, ERROR_INVALID_REQUEST, name, "give one of them",
				"pause, resume and cancel exclude each other");
	return flags ? change(request, pool) : start(request, pool);
}

int api_pool_scrub(struct api_request *request)
{
	int r;

	fiber_mutex_lock(&request->node->lock);
	r = scrub(request, params_text(request->params, "name"));
	fiber_mutex_unlock(&request->node->lock);
	return r;
}

int api_pool_findings(struct api_request *request)
{
	const char *name = params_text(request->params, "name");
	struct node_pool *pool = node_pool_find(request->node, name);
	int r = 0;

	if (!pool)
		return api_fail_unknown(request, "pool", name);
	request->result =
		node_scrub_findings_to_json(request->node, pool->id, SCRUB_FINDINGS_MAX, &r);
	return r < 0 ? api_fail_errno(request, r, "read the findings of pool", name) : 0;
}
