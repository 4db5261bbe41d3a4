/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "control/http.h"
#include "control/notify.h"

static char directory[] = "/tmp/sarsen-test-http-XXXXXX";
static char path[80];

/* Answers with what it saw. */
static void echo(const struct http_request *request, struct http_answer *ret_answer, void *arg)
{
	int length;

	++*(int *)arg;
	if (strcmp(request->path, "/nothing") == 0)
		return;
	length = asprintf(&ret_answer->body, "%s %s %zu %.10s %d %d", request->verb, request->path,
			  request->length, request->body, request->too_large,
			  request->uid == getuid());
	ret_answer->length = (size_t)length;
	ret_answer->status = request->too_large ? 413 : 200;
	ret_answer->content_type = "text/plain";
}

static int connect_to(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = 20};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	return fd;
}

static void send_bytes(int fd, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);

		assert_true(sent > 0);
		bytes += sent;
		length -= (size_t)sent;
	}
}

/* Sends the text, then `body_length` bytes 'b'; the answer until the server closes. */
static const char *ask(const char *head, size_t body_length)
{
	static char answer[4096];
	static char part[65536];
	size_t length = 0;
	ssize_t got;
	int fd = connect_to();

	memset(part, 'b', sizeof(part));
	send_bytes(fd, head, strlen(head));
	for (; body_length > 0;
	     body_length -= body_length < sizeof(part) ? body_length : sizeof(part))
		send_bytes(fd, part, body_length < sizeof(part) ? body_length : sizeof(part));
	while ((got = recv(fd, answer + length, sizeof(answer) - 1 - length, 0)) > 0)
		length += (size_t)got;
	answer[length] = '\0';
	close(fd);
	return answer;
}

static void answers(void **state)
{
	struct http *http;
	struct stat stat;
	int calls = 0;

	assert_int_equal(http_start(path, echo, &calls, &http), 0);
	assert_int_equal(lstat(path, &stat), 0);
	assert_int_equal(stat.st_mode & 07777, 0660);
	assert_non_null(strstr(ask("GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 0),
			       "GET /x 0  0 1"));
	assert_non_null(strstr(ask("POST /y HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
				   "Content-Length: 7\r\n\r\n",
				   7),
			       "POST /y 7 bbbbbbb 0 1"));
	assert_non_null(
		strstr(ask("GET /nothing HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 0),
		       "HTTP/1.1 500"));
	assert_int_equal(calls, 3);
	http_stop(http);
	assert_int_equal(lstat(path, &stat), -1);
}

static void bounds_the_body(void **state)
{
	struct http *http;
	char head[200];
	int calls = 0;

	assert_int_equal(http_start(path, echo, &calls, &http), 0);
	snprintf(head, sizeof(head),
		 "POST /z HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
		 "Content-Length: %u\r\n\r\n",
		 HTTP_BODY_MAX);
	assert_non_null(strstr(ask(head, HTTP_BODY_MAX), "POST /z 1048576 bbbbbbbbbb 0 1"));
	snprintf(head, sizeof(head),
		 "POST /z HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
		 "Content-Length: %u\r\n\r\n",
		 HTTP_BODY_MAX + 1);
	assert_non_null(strstr(ask(head, HTTP_BODY_MAX + 1), "HTTP/1.1 413"));
	assert_int_equal(calls, 2);
	http_stop(http);
}

static void survives_nonsense(void **state)
{
	struct http *http;
	int calls = 0, fd;

	assert_int_equal(http_start(path, echo, &calls, &http), 0);
	ask("\r\n\r\nrubbish\r\n\r\n", 0);
	ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n", 0);
	fd = connect_to();
	send_bytes(fd, "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nxx", 53);
	close(fd); /* in the middle of a body */
	assert_non_null(
		strstr(ask("GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 0), "200"));
	http_stop(http);
}

static void replaces_only_stale_sockets(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct http *http, *second;
	int calls = 0, fd;
	FILE *file;

	assert_int_equal(http_start(path, echo, &calls, &http), 0);
	assert_int_equal(http_start(path, echo, &calls, &second), -EADDRINUSE);
	http_stop(http);

	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd); /* as after a SIGKILL */
	assert_int_equal(http_start(path, echo, &calls, &http), 0);
	http_stop(http);

	file = fopen(path, "w");
	assert_non_null(file);
	fclose(file);
	assert_int_equal(http_start(path, echo, &calls, &http), -EEXIST);
	assert_int_equal(unlink(path), 0);
}

static void refuses_bad_paths(void **state)
{
	char text[300];
	struct http *http;
	int calls = 0;

	assert_int_equal(http_start("/nonexistent/deeper/s", echo, &calls, &http), -ENOENT);
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(http_start(text, echo, &calls, &http), -ENAMETOOLONG);
}

static void notifies(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char text[32] = "";
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(notify_send("READY=1"), 0);
	setenv("NOTIFY_SOCKET", path, 1);
	assert_int_equal(notify_send("READY=1"), 0);
	assert_int_equal(recv(fd, text, sizeof(text), MSG_DONTWAIT), 7);
	assert_memory_equal(text, "READY=1", 7);
	close(fd);
	unlink(path);
	assert_int_equal(notify_send("READY=1"), -ENOENT);
	setenv("NOTIFY_SOCKET", "relative", 1);
	assert_int_equal(notify_send("READY=1"), -EINVAL);
	unsetenv("NOTIFY_SOCKET");
}

static int set_up(void **state)
{
	if (!mkdtemp(directory))
		return -1;
	/* The last directory of the path is made by the server. */
	snprintf(path, sizeof(path), "%s/s", directory);
	return 0;
}

static int tear_down(void **state)
{
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers),           cmocka_unit_test(bounds_the_body),
		cmocka_unit_test(survives_nonsense), cmocka_unit_test(replaces_only_stale_sockets),
		cmocka_unit_test(refuses_bad_paths), cmocka_unit_test(notifies),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
