/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The one table of the API's methods. The daemon dispatches by it, checks parameters by it and
 * makes the OpenAPI document from it; the CLI, which links the same table, makes its commands, help
 * and tables from it. A new method is one entry here and one handler in an api_*.c file.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum method_id {
	METHOD_POOL_CREATE,
	METHOD_POOL_LIST,
	METHOD_POOL_SHOW,
	METHOD_POOL_DELETE,
	METHOD_POOL_REPAIR,
	METHOD_POOL_SCRUB,
	METHOD_POOL_FINDINGS,
	METHOD_DISK_ADD,
	METHOD_DISK_LIST,
	METHOD_DISK_SHOW,
	METHOD_DISK_LOCATE,
	METHOD_DISK_DRAIN,
	METHOD_DISK_FAIL,
	METHOD_DISK_RESTORE,
	METHOD_DISK_REPLACE,
	METHOD_DISK_REMOVE,
	METHOD_CONTAINER_CREATE,
	METHOD_CONTAINER_LIST,
	METHOD_CONTAINER_SHOW,
	METHOD_CONTAINER_DELETE,
	METHOD_CONTAINER_GET,
	METHOD_CONTAINER_SET,
	METHOD_VDISK_CREATE,
	METHOD_VDISK_LIST,
	METHOD_VDISK_SHOW,
	METHOD_VDISK_RESIZE,
	METHOD_VDISK_RENAME,
	METHOD_VDISK_DELETE,
	METHOD_VDISK_CHECK,
	METHOD_VDISK_FLUSH,
	METHOD_VDISK_GET,
	METHOD_VDISK_SET,
	METHOD_ISCSI_EXPORT,
	METHOD_ISCSI_UNEXPORT,
	METHOD_ISCSI_LIST,
	METHOD_ISCSI_SESSIONS,
	METHOD_ISCSI_TARGET_CREATE,
	METHOD_ISCSI_TARGET_SET,
	METHOD_ISCSI_TARGET_DELETE,
	METHOD_ISCSI_TARGET_LIST,
	METHOD_ISCSI_LUN_ADD,
	METHOD_ISCSI_LUN_REMOVE,
	METHOD_ISCSI_INITIATOR_ADD,
	METHOD_ISCSI_INITIATOR_REMOVE,
	METHOD_ISCSI_INITIATOR_LIST,
	METHOD_ISCSI_SESSION_DROP,
	METHOD_NVME_CREATE,
	METHOD_NVME_LIST,
	METHOD_NVME_SHOW,
	METHOD_NVME_USAGE,
	METHOD_NVME_ATTACH,
	METHOD_NVME_DETACH,
	METHOD_NVME_NAMESPACES,
	METHOD_NVME_KEEPER_REPLACE,
	METHOD_NVME_DELETE,
	METHOD_JOB_LIST,
	METHOD_JOB_SHOW,
	METHOD_JOB_CANCEL,
	METHOD_JOB_WAIT,
	METHOD_CATALOG_SHOW,
	METHOD_CATALOG_VERIFY,
	METHOD_STATS_SHOW,
	METHOD_NODE_SHOW,
	METHOD_EVENT_LIST,
	METHOD_EVENT_FOLLOW,
	METHOD_HEALTH_SHOW,
	METHOD_DOCTOR_RUN,
	METHOD_SUPPORT_BUNDLE_WRITE,
	METHOD_COMPLETION_BASH,
	METHOD_COUNT,
};

enum role { /* each may do what those before it may */
	    ROLE_READER,
	    ROLE_OPERATOR,
	    ROLE_ADMINISTRATOR,
};

enum param_type {
	PARAM_NAME,  /* of a pool or container: [a-z0-9][a-z0-9._-]*, at most 63 */
	PARAM_VDISK, /* container/vdisk */
	PARAM_TEXT,
	PARAM_SECRET, /* minimum to maximum bytes; on the command line the name of a file */
	PARAM_SIZE,   /* bytes: a number, or text such as "10G" */
	PARAM_BOOL,
	PARAM_INTEGER, /* minimum to maximum */
	PARAM_ENUM,    /* one of `choices`; a number is taken as its text */
	/* Of policies (pool/policy.h). Both take several words on the command line. */
	PARAM_PROPERTIES, /* an array of names */
	PARAM_SETTINGS,   /* an object of values; null = not set */
};

enum {
	PARAM_REQUIRED = 1 << 0,
	PARAM_POSITIONAL = 1 << 1, /* on the command line, in the order of the table */
};

struct method_param {
	const char *name; /* in JSON; `--name` with dashes on the command line */
	enum param_type type;
	unsigned flags;
	const char *help;
	int64_t minimum, maximum;   /* PARAM_INTEGER; maximum: the length of PARAM_TEXT */
	const char *const *choices; /* PARAM_ENUM, NULL-terminated */
};

enum column_type {
	COLUMN_TEXT,
	COLUMN_SIZE, /* bytes */
	COLUMN_RATE, /* bytes a second */
	COLUMN_COUNT,
	COLUMN_DURATION, /* ns */
	COLUMN_RATIO,
	COLUMN_BOOL,
};

struct method_column {
	/* In the result, dots lead into objects: "space.used_bytes". Of METHOD_PRINT_FIELDS also
	 * "devices[].model": neighbours that begin with the same array are printed for each of its
	 * elements. */
	const char *key;
	const char *title;
	enum column_type type;
};

/* How the CLI shows a result to people. */
enum method_print {
	METHOD_PRINT_NONE,
	METHOD_PRINT_ROWS,   /* a table; an object is one row */
	METHOD_PRINT_FIELDS, /* one line a property */
	METHOD_PRINT_VALUE,  /* the first column alone */
	METHOD_PRINT_TEXT,   /* the same, of several lines, as it is */
};

struct method {
	const char *noun, *verb; /* the name is noun.verb */
	enum role role;
	const char *summary;
	const struct method_param *params; /* ends with a NULL name */
	const struct method_column
		*columns; /* ends with a NULL key; of a job: of the job's result */
	enum method_print print;
	bool changes;               /* not only reads: written to the log */
	bool job;                   /* answers with a job, which goes on afterwards */
	bool destructive;           /* the CLI asks before */
	const char *destructive_if; /* destructive only with this PARAM_BOOL */
	bool local;   /* done by the command line itself; the daemon does not know it */
	bool implied; /* on the command line the noun alone means this verb */
};

const struct method *method_get(enum method_id id);
/* By "vdisk.create", or by the two words; NULL when there is none. */
const struct method *method_find(const char *name);
const struct method *method_find_words(const char *noun, const char *verb);
/* The one that the noun alone means, or NULL. */
const struct method *method_find_implied(const char *noun);
enum method_id method_id(const struct method *method);
/* What the noun is, for help; NULL for an unknown one. */
const char *method_noun_summary(const char *noun);
const char *method_noun(size_t index); /* NULL after the last */
const struct method_param *method_param_find(const struct method *method, const char *name);
const char *role_name(enum role role);
const char *param_type_name(enum param_type type);
/* May it be given more than once on the command line? */
bool param_is_many(const struct method_param *param);

#define METHOD_NAME_MAX 64
/* "vdisk.create" */
const char *method_name(const struct method *method, char ret_name[static METHOD_NAME_MAX]);
