/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cli_client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_SECONDS 300

struct text {
	char *bytes;
	size_t length, size;
};

static void text_done(struct text *text)
{
	free(text->bytes);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static int unreachable(struct error *error, const char *path, const char *what, int cause)
{
	error_set(error, ERROR_UNAVAILABLE, path,
		  "start sarsend, or name its socket with --socket or SARSEN_SOCKET",
		  "%s sarsend at %s: %s", what, path, strerror(cause));
	return -EIO;
}

static int connect_to(const char *path, struct error *error, int *ret_fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = ANSWER_SECONDS};
	_cleanup_(close_fd) int fd = -1;

	if (strlen(path) >= sizeof(address.sun_path))
		return unreachable(error, path, "cannot reach", ENAMETOOLONG);
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return unreachable(error, path, "cannot reach", errno);
	*ret_fd = fd;
	fd = -1;
	return 0;
}

static int send_all(int fd, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		bytes += sent;
		length -= (size_t)sent;
	}
	return 0;
}

static int receive_all(int fd, struct text *text)
{
	for (;;) {
		ssize_t got;

		if (text->size - text->length < 2) {
			size_t size = text->size ? text->size * 2 : 16 * KIB;
			char *bytes = size > CLI_ANSWER_MAX ? NULL : realloc(text->bytes, size);

			if (!bytes)
				return -ENOMEM;
			text->bytes = bytes;
			text->size = size;
		}
		got = recv(fd, text->bytes + text->length, text->size - text->length - 1, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		text->bytes[text->length += (size_t)got] = '\0';
		if (got == 0)
			return 0;
	}
}

/* The request as one text; the caller frees. */
static char *compose(const struct method *method, const json_t *params)
{
	_cleanup_free_ char *body = json_dumps(params, JSON_COMPACT);
	char name[METHOD_NAME_MAX], *request = NULL;

	if (!body || asprintf(&request,
			      "POST /v1/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
			      "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
			      method_name(method, name), strlen(body), body) < 0)
		return NULL;
	return request;
}

int cli_client_parse_http(const char *text, size_t length, unsigned *ret_status,
			  const char **ret_body, size_t *ret_body_length)
{
	const char *end = memmem(text, length, "\r\n\r\n", 4);
	size_t body_length = SIZE_MAX;

	if (!end || sscanf(text, "HTTP/1.%*1[01] %3u ", ret_status) != 1)
		return -EBADMSG;
	for (const char *line = text; line < end;) {
		line = (const char *)memmem(line, (size_t)(end - line) + 2, "\r\n", 2) + 2;
		if (strncasecmp(line, "content-length:", 15) == 0 &&
		    sscanf(line + 15, " %9zu", &body_length) != 1)
			return -EBADMSG;
	}
	end += 4;
	/* Cut off on the way: the daemon died while it answered. */
	if (body_length != SIZE_MAX && body_length != (size_t)(text + length - end))
		return -EBADMSG;
	*ret_body = end;
	*ret_body_length = (size_t)(text + length - end);
	return 0;
}

static int interpret(const struct text *text, const char *path, json_t **ret_answer,
		     struct error *error)
{
	_cleanup_json_ json_t *answer = NULL;
	const json_t *schema;
	const char *body;
	size_t length;
	unsigned status;

	if (cli_client_parse_http(text->bytes, text->length, &status, &body, &length) == 0)
		answer = json_loadb(body, length, JSON_REJECT_DUPLICATES, NULL);
	schema = json_object_get(answer, "schema");
	if (!json_is_integer(schema))
		return unreachable(error, path, "no usable answer from", EBADMSG);
	if (json_object_get(answer, "error")) {
		error_from_json(json_object_get(answer, "error"), error);
		return -EIO;
	}
	if (json_integer_value(schema) != API_SCHEMA_VERSION) {
		error_set(error, ERROR_UNAVAILABLE, path, "use the sarsen of the daemon's version",
			  "the daemon answers in schema %d, this program knows %d",
			  (int)json_integer_value(schema), API_SCHEMA_VERSION);
		return -EIO;
	}
	*ret_answer = TAKE_PTR(answer);
	return 0;
}

static int exchange(const char *socket_path, const char *request, struct text *text,
		    struct error *error)
{
	_cleanup_(close_fd) int fd = -1;
	int r = connect_to(socket_path, error, &fd);

	if (r < 0)
		return r;
	r = send_all(fd, request, strlen(request));
	if (r == 0)
		r = receive_all(fd, text);
	return r < 0 ? unreachable(error, socket_path, "no answer from", -r) : 0;
}

int cli_client_get(const char *socket_path, const char *path, char **ret_body,
		   struct error *ret_error)
{
	_cleanup_(text_done) struct text text = {0};
	char request[200];
	const char *body;
	size_t length;
	unsigned status;
	int r;

	snprintf(request, sizeof(request),
		 "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
	r = exchange(socket_path, request, &text, ret_error);
	if (r < 0)
		return r;
	if (cli_client_parse_http(text.bytes, text.length, &status, &body, &length) < 0 ||
	    status != 200)
		return unreachable(ret_error, socket_path, "no usable answer from", EBADMSG);
	*ret_body = strndup(body, length);
	return *ret_body ? 0 : unreachable(ret_error, socket_path, "cannot ask", ENOMEM);
}

int cli_client_call(const char *socket_path, const struct method *method, const json_t *params,
		    json_t **ret_answer, struct error *ret_error)
{
	_cleanup_(text_done) struct text text = {0};
	_cleanup_free_ char *request = compose(method, params);
	int r;

	if (!request)
		return unreachable(ret_error, socket_path, "cannot ask", ENOMEM);
	r = exchange(socket_path, request, &text, ret_error);
	if (r < 0)
		return r;
	return interpret(&text, socket_path, ret_answer, ret_error);
}
