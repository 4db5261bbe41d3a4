/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The HTTP server on a unix socket (libmicrohttpd), with threads of its own: it is outside of the
 * reactors and of the simulated world. Who may use it is decided by the socket's mode, 0660.
 */
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define HTTP_BODY_MAX    (1u << 20)
#define HTTP_CONNECTIONS 64

struct http;

struct http_request {
	const char *verb, *path; /* "POST", "/v1/pool.list" */
	const char *body;        /* `length` bytes and a NUL */
	size_t length;
	bool too_large; /* the body was over HTTP_BODY_MAX and was thrown away */
	uid_t uid;      /* of the caller, (uid_t)-1 when unknown */
};

struct http_answer {
	unsigned status;
	const char *content_type;
	char *body; /* freed with free(); NULL: without memory, answered as 500 */
	size_t length;
};

/* Runs on a thread of the connection and may block. */
typedef void http_handler_fn(const struct http_request *request, struct http_answer *ret_answer,
			     void *arg);

/*
 * Listens on the socket; makes its directory when only that is missing; replaces a socket that
 * nobody listens on. -EADDRINUSE when somebody does, -EEXIST when the path is something else.
 */
int http_start(const char *socket_path, http_handler_fn *handler, void *arg,
	       struct http **ret_http);
/* Removes the socket when nobody will ever answer there, so that who comes before http_start() is
 * refused at once. */
void http_clear_stale(const char *socket_path);
/* Waits for requests under way, removes the socket. NULL is fine. */
void http_stop(struct http *http);
