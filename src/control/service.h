/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The API over HTTP (docs/api.md):
 *     POST /v1/METHOD      parameters as a JSON object in the body
 *     GET  /v1/health      answered without the reactors' help beyond one message
 *     GET  /openapi.json
 *     GET  /metrics        Prometheus' text format
 * Runs on threads of the HTTP server; each request becomes a fiber of the node's home.
 */
#include "control/api.h"
#include "reactor/reactor.h"

struct service;

/* The node and its home outlive the service. Errors as of http_start(). */
int service_start(struct node *node, struct reactor *home, const char *socket_path,
		  struct service **ret_service);
void service_stop(struct service *service); /* NULL is fine */
