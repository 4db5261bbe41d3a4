/* SPDX-License-Identifier: Apache-2.0 */
#include "control/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct error_kind {
	const char *name;
	unsigned http_status;
	enum exit_code exit_code;
};

static const struct error_kind kinds[ERROR_CODE_COUNT] = {
	[ERROR_NONE] = {"none", 200, EXIT_CODE_OK},
	[ERROR_INVALID_REQUEST] = {"invalid-request", 400, EXIT_CODE_USAGE},
	[ERROR_INVALID_NAME] = {"invalid-name", 400, EXIT_CODE_USAGE},
	[ERROR_INVALID_SIZE] = {"invalid-size", 400, EXIT_CODE_USAGE},
	[ERROR_TOO_LARGE] = {"too-large", 413, EXIT_CODE_USAGE},
	[ERROR_UNKNOWN_METHOD] = {"unknown-method", 404, EXIT_CODE_USAGE},
	[ERROR_FORBIDDEN] = {"forbidden", 403, EXIT_CODE_FORBIDDEN},
	[ERROR_NOT_FOUND] = {"not-found", 404, EXIT_CODE_NOT_FOUND},
	[ERROR_EXISTS] = {"exists", 409, EXIT_CODE_CONFLICT},
	[ERROR_BUSY] = {"busy", 409, EXIT_CODE_CONFLICT},
	[ERROR_NOT_EMPTY] = {"not-empty", 409, EXIT_CODE_CONFLICT},
	[ERROR_NO_SPACE] = {"no-space", 507, EXIT_CODE_NO_SPACE},
	[ERROR_DAMAGED] = {"damaged", 500, EXIT_CODE_DAMAGED},
	[ERROR_IO] = {"io-error", 500, EXIT_CODE_FAILED},
	[ERROR_UNAVAILABLE] = {"unavailable", 503, EXIT_CODE_UNREACHABLE},
	[ERROR_CANCELLED] = {"cancelled", 409, EXIT_CODE_CANCELLED},
	[ERROR_TIMEOUT] = {"timeout", 504, EXIT_CODE_TIMEOUT},
	[ERROR_INTERNAL] = {"internal", 500, EXIT_CODE_FAILED},
};

/* Makes text printable UTF-8 again after cutting or hostile input. */
static void clean(char *text)
{
	_cleanup_json_ json_t *probe = NULL;

	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = '?';
	probe = json_string(text);
	if (probe)
		return;
	for (char *c = text; *c; c++)
		if ((unsigned char)*c >= 128)
			*c = '?';
}

void error_set(struct error *error, enum error_code code, const char *object, const char *remedy,
	       const char *format, ...)
{
	va_list arguments;

	error->code = code;
	va_start(arguments, format);
	vsnprintf(error->message, sizeof(error->message), format, arguments);
	va_end(arguments);
	snprintf(error->object, sizeof(error->object), "%s", object ? object : "");
	snprintf(error->remedy, sizeof(error->remedy), "%s", remedy ? remedy : "");
	clean(error->message);
	clean(error->object);
	clean(error->remedy);
}

enum error_code error_code_of(int error)
{
	switch (error) {
	case 0:
		return ERROR_NONE;
	case -ENOENT:
		return ERROR_NOT_FOUND;
	case -EEXIST:
		return ERROR_EXISTS;
	case -EBUSY:
	case -ESTALE:
		return ERROR_BUSY;
	case -ENOTEMPTY:
		return ERROR_NOT_EMPTY;
	case -ENOSPC:
		return ERROR_NO_SPACE;
	case -EBADMSG:
	case -EUCLEAN:
	case -EPROTONOSUPPORT:
		return ERROR_DAMAGED;
	case -EIO:
	case -EROFS:
	case -ENODEV:
	case -EREMOTEIO:
		return ERROR_IO;
	case -EINVAL:
		return ERROR_INVALID_REQUEST;
	case -ERANGE:
		return ERROR_INVALID_SIZE;
	case -EACCES:
	case -EPERM:
		return ERROR_FORBIDDEN;
	case -ESHUTDOWN:
		return ERROR_UNAVAILABLE;
	case -ECANCELED:
		return ERROR_CANCELLED;
	case -ETIMEDOUT:
		return ERROR_TIMEOUT;
	default:
		return ERROR_INTERNAL;
	}
}

const char *error_code_name(enum error_code code)
{
	ASSERT(code < ERROR_CODE_COUNT);
	return kinds[code].name;
}

enum error_code error_code_by_name(const char *name)
{
	for (int code = 0; code < ERROR_CODE_COUNT; code++)
		if (strcmp(kinds[code].name, name) == 0)
			return code;
	return ERROR_INTERNAL;
}

unsigned error_http_status(enum error_code code)
{
	ASSERT(code < ERROR_CODE_COUNT);
	return kinds[code].http_status;
}

int error_exit_code(enum error_code code)
{
	ASSERT(code < ERROR_CODE_COUNT);
	return kinds[code].exit_code;
}

json_t *error_to_object(const struct error *error)
{
	return json_pack("{s:s, s:s, s:s, s:s}", "code", error_code_name(error->code), "message",
			 error->message, "object", error->object, "remedy", error->remedy);
}

json_t *error_to_json(const struct error *error)
{
	return json_pack("{s:i, s:o}", "schema", API_SCHEMA_VERSION, "error",
			 error_to_object(error));
}

void error_from_json(const json_t *json, struct error *ret_error)
{
	const char *code = "internal", *message = "no message", *object = "", *remedy = "";

	(void)json_unpack((json_t *)json, "{s?s, s?s, s?s, s?s}", "code", &code, "message",
			  &message, "object", &object, "remedy", &remedy);
	error_set(ret_error, error_code_by_name(code), object, remedy, "%s", message);
}
