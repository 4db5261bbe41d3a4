/* SPDX-License-Identifier: Apache-2.0 */
#include "control/api_priv.h"

#include <errno.h>
#include <inttypes.h>

#define WAIT_MS 1000

static uint64_t job_id(const struct api_request *request)
{
	return (uint64_t)params_integer(request->params, "id", 0);
}

static int unknown(struct api_request *request)
{
	char number[32];

	snprintf(number, sizeof(number), "%" PRIu64, job_id(request));
	return api_fail_unknown(request, "job", number);
}

int api_job_list(struct api_request *request)
{
	request->result = jobs_to_json(request->node->jobs);
	return 0;
}

int api_job_show(struct api_request *request)
{
	struct job_info info;

	if (job_get(request->node->jobs, job_id(request), &info) < 0)
		return unknown(request);
	request->result = job_to_json(request->node->jobs, info.id);
	return 0;
}

int api_job_cancel(struct api_request *request)
{
	struct jobs *jobs = request->node->jobs;
	uint64_t id = job_id(request);
	struct job_info info;
	int r = job_get(jobs, id, &info);

	if (r == 0)
		r = job_cancel(jobs, id);
	if (r == -ENOENT)
		return unknown(request);
	if (r == -EPERM)
		return api_fail(request, ERROR_BUSY, info.object,
				"wait for its end: sarsen job wait",
				"job %" PRIu64 " (%s.%s of '%s') cannot be cancelled", id,
				info.method->noun, info.method->verb, info.object);
	if (r == -EALREADY)
		return api_fail(request, ERROR_BUSY, info.object, "see: sarsen job show",
				"job %" PRIu64 " has ended already", id);
	request->result = job_to_json(jobs, id);
	return 0;
}

int api_job_wait(struct api_request *request)
{
	struct node *node = request->node;
	uint64_t timeout_ms = (uint64_t)params_integer(request->params, "timeout_ms", WAIT_MS);

	job_wait(node->jobs, job_id(request),
		 reactor_now_ns(node->home) + timeout_ms * NSEC_PER_MSEC);
	return api_job_show(request);
}
