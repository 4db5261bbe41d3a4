/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* One call of the API: HTTP/1.1 over the daemon's unix socket, a connection for each. */
#include "control/error.h"
#include "control/method.h"

#define CLI_ANSWER_MAX (64 * MIB)

/*
 * The whole answer, {"schema":, "result":}. On failure `ret_error` is filled, with what the daemon
 * said or with ERROR_UNAVAILABLE when it could not be reached or answered nonsense. -EIO.
 */
int cli_client_call(const char *socket_path, const struct method *method, const json_t *params,
		    json_t **ret_answer, struct error *ret_error);

/* The body of what GET answers with status 200, as text; the caller frees. -EIO like above. */
int cli_client_get(const char *socket_path, const char *path, char **ret_body,
		   struct error *ret_error);

/* For tests: takes a whole HTTP answer apart. -EBADMSG when it is none. */
int cli_client_parse_http(const char *text, size_t length, unsigned *ret_status,
			  const char **ret_body, size_t *ret_body_length);
