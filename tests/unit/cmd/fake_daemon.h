/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* A daemon that gives prepared answers, one a connection, from a child process. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct fake_daemon {
	char directory[64];
	char path[80];
	pid_t child;
};

static inline void fake_daemon_serve(int listener, const char *const *answers)
{
	for (; *answers; answers++) {
		int fd = accept(listener, NULL, NULL);
		char request[4096];

		alarm(20);
		if (fd < 0 || recv(fd, request, sizeof(request), 0) <= 0 ||
		    send(fd, *answers, strlen(*answers), MSG_NOSIGNAL) < 0)
			_exit(1);
		close(fd);
	}
	_exit(0);
}

/* Answers end with NULL. */
static inline void fake_daemon_start(struct fake_daemon *daemon, const char *const *answers)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(daemon->directory, "/tmp/sarsen-test-cli-XXXXXX");
	assert_non_null(mkdtemp(daemon->directory));
	snprintf(daemon->path, sizeof(daemon->path), "%s/s", daemon->directory);
	strcpy(address.sun_path, daemon->path);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 8), 0);
	fflush(NULL);
	daemon->child = fork();
	assert_true(daemon->child >= 0);
	if (daemon->child == 0)
		fake_daemon_serve(listener, answers);
	close(listener);
}

static inline void fake_daemon_stop(struct fake_daemon *daemon)
{
	kill(daemon->child, SIGKILL);
	waitpid(daemon->child, NULL, 0);
	unlink(daemon->path);
	rmdir(daemon->directory);
}

#define HTTP_OK(body) "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" body
