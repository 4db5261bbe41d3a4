/* SPDX-License-Identifier: Apache-2.0 */
#include "control/service.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control/http.h"
#include "control/metrics.h"
#include "control/openapi.h"
#include "control/version.h"
#include "reactor/fiber.h"

#define JSON_TYPE    "application/json"
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"
#define API_PREFIX   "/v1/"

struct service {
	struct node *node;
	struct reactor *home;
	struct http *http;
};

/* One request, on its way to the node's home and back. */
struct call {
	struct service *service;
	struct api_identity identity;
	const char *method;
	json_t *params, *answer;
	enum error_code code;
	struct metrics *metrics;
};

static void answer_json(struct http_answer *answer, unsigned status, json_t *json)
{
	answer->status = status;
	answer->content_type = JSON_TYPE;
	answer->body = json_dumps(json, JSON_COMPACT);
	answer->length = answer->body ? strlen(answer->body) : 0;
	json_decref(json);
}

static void answer_error(struct http_answer *answer, enum error_code code, const char *object,
			 const char *remedy, const char *message)
{
	struct error error = {0};

	error_set(&error, code, object, remedy, "%s", message);
	answer_json(answer, error_http_status(code), error_to_json(&error));
}

static int call_api(void *arg)
{
	struct call *call = arg;

	call->answer = api_call(call->service->node, &call->identity, call->method, call->params,
				&call->code);
	return 0;
}

static int call_metrics(void *arg)
{
	struct call *call = arg;

	return metrics_gather(call->service->node, &call->metrics);
}

static int call_nothing(void *arg)
{
	return 0;
}

static void serve_method(struct service *service, const struct http_request *request,
			 struct http_answer *answer)
{
	char who[32], message[JSON_ERROR_TEXT_LENGTH + 100];
	struct call call = {.service = service,
			    .identity = {.name = who, .role = ROLE_ADMINISTRATOR},
			    .method = request->path + strlen(API_PREFIX)};
	json_error_t problem;

	/* The socket's mode lets in only those who may administer. */
	snprintf(who, sizeof(who), "uid:%u", (unsigned)request->uid);
	if (request->length > 0) {
		call.params = json_loadb(request->body, request->length,
					 JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &problem);
		if (!call.params) {
			snprintf(message, sizeof(message),
				 "the body is not JSON: %s at line %d, "
				 "column %d",
				 problem.text, problem.line, problem.column);
			answer_error(answer, ERROR_INVALID_REQUEST, request->path,
				     "send a JSON object, {} when empty", message);
			return;
		}
	}
	if (fiber_call_blocking(service->home, FIBER_CONTROL, call_api, &call) == 0)
		answer_json(answer, error_http_status(call.code), call.answer);
	json_decref(call.params);
}

static void serve_metrics(struct service *service, struct http_answer *answer)
{
	struct call call = {.service = service};

	if (fiber_call_blocking(service->home, FIBER_CONTROL, call_metrics, &call) < 0)
		return;
	if (metrics_print(call.metrics, &answer->body, &answer->length) == 0) {
		answer->status = 200;
		answer->content_type = METRICS_TYPE;
	}
	metrics_free(call.metrics);
}

/* Alive means: the home reactor runs a fiber. */
static void serve_health(struct service *service, struct http_answer *answer)
{
	(void)fiber_call_blocking(service->home, FIBER_CONTROL, call_nothing, NULL); /* is 0 */
	answer_json(answer, 200,
		    json_pack("{s:i, s:{s:s, s:s}}", "schema", API_SCHEMA_VERSION, "result",
			      "status", "ok", "version", version_text()));
}

static void serve_get(struct service *service, const struct http_request *request,
		      struct http_answer *answer)
{
	if (strcmp(request->path, "/metrics") == 0)
		serve_metrics(service, answer);
	else if (strcmp(request->path, "/openapi.json") == 0)
		answer_json(answer, 200, openapi_document(version_text()));
	else if (strcmp(request->path, API_PREFIX "health") == 0)
		serve_health(service, answer);
	else if (strncmp(request->path, API_PREFIX, strlen(API_PREFIX)) == 0)
		answer_error(answer, ERROR_INVALID_REQUEST, request->path, "use POST",
			     "methods are called with POST");
	else
		answer_error(answer, ERROR_UNKNOWN_METHOD, request->path, "see /openapi.json",
			     "there is nothing at this path");
}

static void serve(const struct http_request *request, struct http_answer *answer, void *arg)
{
	struct service *service = arg;

	if (request->too_large)
		answer_error(answer, ERROR_TOO_LARGE, request->path, "send at most 1 MiB",
			     "the body is larger than 1 MiB");
	else if (strcmp(request->verb, "GET") == 0 || strcmp(request->verb, "HEAD") == 0)
		serve_get(service, request, answer);
	else if (strcmp(request->verb, "POST") != 0)
		answer_error(answer, ERROR_INVALID_REQUEST, request->verb, "use POST or GET",
			     "this HTTP method is not known here");
	else if (strncmp(request->path, API_PREFIX, strlen(API_PREFIX)) == 0)
		serve_method(service, request, answer);
	else
		answer_error(answer, ERROR_UNKNOWN_METHOD, request->path, "see /openapi.json",
			     "there is nothing at this path");
}

int service_start(struct node *node, struct reactor *home, const char *socket_path,
		  struct service **ret_service)
{
	struct service *service = calloc(1, sizeof(*service));
	int r;

	if (!service)
		return -ENOMEM;
	service->node = node;
	service->home = home;
	r = http_start(socket_path, serve, service, &service->http);
	if (r < 0) {
		free(service);
		return r;
	}
	*ret_service = service;
	return 0;
}

void service_stop(struct service *service)
{
	if (!service)
		return;
	http_stop(service->http);
	free(service);
}
