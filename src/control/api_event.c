/* SPDX-License-Identifier: Apache-2.0 */
#include "control/api_priv.h"

#include "control/event.h"
#include "control/time_text.h"

#define LIMIT   100
#define WAIT_MS 10000

static json_t *event_to_json(const struct event *event)
{
	char time[TIME_TEXT_MAX];

	return json_pack("{s:I, s:s, s:s, s:s, s:s, s:s}", "id", (json_int_t)event->id, "time",
			 time_text(event->wall_ns, time), "severity",
			 event_severity_name(event_severity_by_name(event->reason)), "reason",
			 event->reason, "object", event->object, "text", event->text);
}

static void answer(struct api_request *request, uint64_t after)
{
	int64_t limit = params_integer(request->params, "limit", LIMIT);
	struct event event;

	request->result = json_array();
	while (limit-- > 0 && events_next(request->node->events, after, &event)) {
		json_array_append_new(request->result, event_to_json(&event));
		after = event.id;
	}
}

int api_event_list(struct api_request *request)
{
	uint64_t last = events_last(request->node->events);
	uint64_t limit = (uint64_t)params_integer(request->params, "limit", LIMIT);
	int64_t after = params_integer(request->params, "after", -1);

	/* Without a cursor: the newest. */
	answer(request, after >= 0 ? (uint64_t)after : last > limit ? last - limit : 0);
	return 0;
}

int api_event_follow(struct api_request *request)
{
	struct node *node = request->node;
	uint64_t last = events_last(node->events);
	uint64_t after = (uint64_t)params_integer(request->params, "after", (int64_t)last);
	uint64_t wait_ms = (uint64_t)params_integer(request->params, "timeout_ms", WAIT_MS);

	events_wait(node->events, after, reactor_now_ns(node->home) + wait_ms * NSEC_PER_MSEC);
	answer(request, after);
	return 0;
}
