/* SPDX-License-Identifier: Apache-2.0 */
#include "control/http.h"

#include <errno.h>
#include <libgen.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <microhttpd.h>

#include "base/log.h"
#include "base/macros.h"
#include "control/holder.h"

#define IDLE_SECONDS 60
/* Of a body that is refused, this much is still read, so that the client sees the answer. */
#define DISCARD_MAX (64 * MIB)

struct http {
	struct MHD_Daemon *daemon;
	http_handler_fn *handler;
	void *arg;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	dev_t device; /* the socket file that is ours */
	ino_t inode;
};

struct body { /* of one request, while it arrives */
	char *bytes;
	size_t length, size;
	uint64_t received;
	bool too_large, no_memory;
};

static void body_add(struct body *body, const char *bytes, size_t length)
{
	body->received += length;
	if (body->received > HTTP_BODY_MAX)
		body->too_large = true;
	if (body->too_large || body->no_memory)
		return;
	if (body->length + length + 1 > body->size) {
		size_t size =
			MAX(body->length + length + 1, MIN(body->size * 2, HTTP_BODY_MAX + 1));
		char *grown = realloc(body->bytes, size);

		body->no_memory = !grown;
		if (!grown)
			return;
		body->bytes = grown;
		body->size = size;
	}
	memcpy(body->bytes + body->length, bytes, length);
	body->length += length;
	body->bytes[body->length] = '\0';
}

static uid_t peer_uid(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct ucred peer;
	socklen_t length = sizeof(peer);

	if (!info || getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return (uid_t)-1;
	return peer.uid;
}

static enum MHD_Result answer(struct http *http, struct MHD_Connection *connection,
			      const char *verb, const char *path, const struct body *body)
{
	const struct http_request request = {.verb = verb,
					     .path = path,
					     .body = body->bytes ? body->bytes : "",
					     .length = body->length,
					     .too_large = body->too_large,
					     .uid = peer_uid(connection)};
	struct http_answer reply = {.status = MHD_HTTP_INTERNAL_SERVER_ERROR};
	struct MHD_Response *response;
	enum MHD_Result result;

	if (!body->no_memory)
		http->handler(&request, &reply, http->arg);
	if (!reply.body)
		reply = (struct http_answer){.status = MHD_HTTP_INTERNAL_SERVER_ERROR};
	/* Takes reply.body, also when it fails. */
	response = MHD_create_response_from_buffer(reply.length, reply.body, MHD_RESPMEM_MUST_FREE);
	if (!response)
		return MHD_NO;
	if (reply.content_type)
		(void)MHD_add_response_header(response, "Content-Type", reply.content_type);
	result = MHD_queue_response(connection, reply.status, response);
	MHD_destroy_response(response);
	return result;
}

/* libmicrohttpd calls this once for the header, once for each part of the body, once at its end. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path,
				  const char *verb, const char *version, const char *bytes,
				  size_t *length, void **context)
{
	struct body *body = *context;

	if (!body) {
		*context = calloc(1, sizeof(*body));
		return *context ? MHD_YES : MHD_NO;
	}
	if (*length > 0) {
		body_add(body, bytes, *length);
		*length = 0;
		return body->received > DISCARD_MAX ? MHD_NO : MHD_YES;
	}
	return answer(arg, connection, verb, path, body);
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **context,
			 enum MHD_RequestTerminationCode code)
{
	struct body *body = *context;

	if (body)
		free(body->bytes);
	free(body);
	*context = NULL;
}

static int make_directory_of(const char *path)
{
	char copy[sizeof(((struct sockaddr_un *)0)->sun_path)];

	snprintf(copy, sizeof(copy), "%s", path);
	return mkdir(dirname(copy), 0755) < 0 && errno != EEXIST ? -errno : 0;
}

/* What is left of a dead daemon in the kernel takes connections, but answers none. */
static bool is_dead(int fd)
{
	struct ucred peer = {0};
	socklen_t length = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
	       holder_is_dead("/proc", peer.pid);
}

/* Removes a socket that nobody listens on. 0 when the path is free afterwards. */
static int clear_stale(const struct sockaddr_un *address)
{
	struct stat stat;
	int fd, r;

	if (lstat(address->sun_path, &stat) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(stat.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	r = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
	if (r == 0 && is_dead(fd))
		r = -ECONNREFUSED;
	close(fd);
	if (r != -ECONNREFUSED)
		return r == 0 || r == -EAGAIN ? -EADDRINUSE : r;
	log_info("http", "replacing a socket that nobody listens on", "path=%s", address->sun_path);
	return unlink(address->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

void http_clear_stale(const char *socket_path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(socket_path) >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
	(void)clear_stale(&address); /* http_start() tells */
}

static int bind_and_listen(struct http *http, int fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat stat;
	int r;

	memcpy(address.sun_path, http->path, strlen(http->path) + 1);
	r = make_directory_of(http->path);
	if (r == 0)
		r = clear_stale(&address);
	if (r < 0)
		return r;
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	/* Nobody can connect before listen(), so nobody sees the mode that umask left. */
	if (lstat(http->path, &stat) < 0 || chmod(http->path, 0660) < 0 ||
	    listen(fd, HTTP_CONNECTIONS) < 0) {
		r = -errno;
		(void)unlink(http->path); /* the first error is the one to tell */
		return r;
	}
	http->device = stat.st_dev;
	http->inode = stat.st_ino;
	return 0;
}

static void remove_own_socket(const struct http *http)
{
	struct stat stat;

	if (lstat(http->path, &stat) == 0 && stat.st_dev == http->device &&
	    stat.st_ino == http->inode)
		(void)unlink(http->path); /* a stale one is replaced at the next start */
}

static int start(struct http *http)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	if (fd < 0)
		return -errno;
	r = bind_and_listen(http, fd);
	if (r < 0) {
		close(fd);
		return r;
	}
	http->daemon = MHD_start_daemon(
		MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0,
		NULL, NULL, on_request, http, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_CONNECTION_LIMIT, HTTP_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT,
		IDLE_SECONDS, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_END);
	if (http->daemon)
		return 0;
	close(fd);
	remove_own_socket(http);
	return -ENOMEM;
}

int http_start(const char *socket_path, http_handler_fn *handler, void *arg, struct http **ret_http)
{
	struct http *http;
	int r;

	if (strlen(socket_path) >= sizeof(http->path))
		return -ENAMETOOLONG;
	http = calloc(1, sizeof(*http));
	if (!http)
		return -ENOMEM;
	http->handler = handler;
	http->arg = arg;
	memcpy(http->path, socket_path, strlen(socket_path) + 1);
	r = start(http);
	if (r < 0) {
		free(http);
		return r;
	}
	*ret_http = http;
	return 0;
}

void http_stop(struct http *http)
{
	if (!http)
		return;
	remove_own_socket(http);
	MHD_stop_daemon(http->daemon);
	free(http);
}
