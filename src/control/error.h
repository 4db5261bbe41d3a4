/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Errors as the API gives them: a stable code, a message for people, the object concerned and what
 * to do about it. One table gives each code its HTTP status and the CLI's exit code (docs/api.md,
 * sarsen(1)).
 */
#include <jansson.h>

#include "base/macros.h"

/* Version of the shape of every JSON answer; grows when a field changes meaning or goes away. */
#define API_SCHEMA_VERSION 1

enum error_code {
	ERROR_NONE,
	ERROR_INVALID_REQUEST,
	ERROR_INVALID_NAME,
	ERROR_INVALID_SIZE,
	ERROR_TOO_LARGE,
	ERROR_UNKNOWN_METHOD,
	ERROR_FORBIDDEN,
	ERROR_NOT_FOUND,
	ERROR_EXISTS,
	ERROR_BUSY,
	ERROR_NOT_EMPTY,
	ERROR_NO_SPACE,
	ERROR_DAMAGED,
	ERROR_IO,
	ERROR_UNAVAILABLE,
	ERROR_CANCELLED,
	ERROR_TIMEOUT,
	ERROR_INTERNAL,
	ERROR_CODE_COUNT,
};

/* Exit codes of the CLI. */
enum exit_code {
	EXIT_CODE_OK = 0,
	EXIT_CODE_FAILED = 1,      /* the daemon tried and could not */
	EXIT_CODE_USAGE = 2,       /* the command line, or a value in it, is wrong */
	EXIT_CODE_UNREACHABLE = 3, /* no answer from the daemon */
	EXIT_CODE_NOT_FOUND = 4,
	EXIT_CODE_CONFLICT = 5, /* exists already, in use, not empty */
	EXIT_CODE_NO_SPACE = 6,
	EXIT_CODE_FORBIDDEN = 7,
	EXIT_CODE_DAMAGED = 8, /* stored data or structure is damaged */
	EXIT_CODE_CANCELLED = 9,
	EXIT_CODE_TIMEOUT = 10,
	EXIT_CODE_UNHEALTHY = 11, /* `health show` found more than notes */
};

#define ERROR_TEXT_MAX 1024

struct error { /* zero = none */
	enum error_code code;
	char message[ERROR_TEXT_MAX];
	char object[256];
	char remedy[256];
};

/* Fills `error`; the texts are cut where they are too long. Control characters become '?'. */
void error_set(struct error *error, enum error_code code, const char *object, const char *remedy,
	       const char *format, ...) __attribute__((format(printf, 5, 6)));

/* The code that a negative errno of the layers below stands for. */
enum error_code error_code_of(int error);

const char *error_code_name(enum error_code code);
/* ERROR_INTERNAL for a name that is none. */
enum error_code error_code_by_name(const char *name);
unsigned error_http_status(enum error_code code);
int error_exit_code(enum error_code code);

/* {"code":, "message":, "object":, "remedy":}; NULL without memory. */
json_t *error_to_object(const struct error *error);
/* {"schema": N, "error": {...}}; NULL without memory. */
json_t *error_to_json(const struct error *error);
/* From the object under "error"; what is missing there becomes ERROR_INTERNAL and empty texts. */
void error_from_json(const json_t *json, struct error *ret_error);

#define _cleanup_json_ _cleanup_(json_decrefp)
