/* SPDX-License-Identifier: Apache-2.0 */
#include "control/api_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "control/json_memory.h"

static api_handler *const handlers[METHOD_COUNT] = {
	[METHOD_POOL_CREATE] = api_pool_create,
	[METHOD_POOL_LIST] = api_pool_list,
	[METHOD_POOL_SHOW] = api_pool_show,
	[METHOD_POOL_DELETE] = api_pool_delete,
	[METHOD_POOL_REPAIR] = api_pool_repair,
	[METHOD_POOL_SCRUB] = api_pool_scrub,
	[METHOD_POOL_FINDINGS] = api_pool_findings,
	[METHOD_DISK_ADD] = api_disk_add,
	[METHOD_DISK_LIST] = api_disk_list,
	[METHOD_DISK_SHOW] = api_disk_show,
	[METHOD_DISK_LOCATE] = api_disk_locate,
	[METHOD_DISK_DRAIN] = api_disk_drain,
	[METHOD_DISK_FAIL] = api_disk_fail,
	[METHOD_DISK_RESTORE] = api_disk_restore,
	[METHOD_DISK_REPLACE] = api_disk_replace,
	[METHOD_DISK_REMOVE] = api_disk_remove,
	[METHOD_CONTAINER_CREATE] = api_container_create,
	[METHOD_CONTAINER_LIST] = api_container_list,
	[METHOD_CONTAINER_SHOW] = api_container_show,
	[METHOD_CONTAINER_DELETE] = api_container_delete,
	[METHOD_CONTAINER_GET] = api_container_get,
	[METHOD_CONTAINER_SET] = api_container_set,
	[METHOD_VDISK_CREATE] = api_vdisk_create,
	[METHOD_VDISK_LIST] = api_vdisk_list,
	[METHOD_VDISK_SHOW] = api_vdisk_show,
	[METHOD_VDISK_RESIZE] = api_vdisk_resize,
	[METHOD_VDISK_RENAME] = api_vdisk_rename,
	[METHOD_VDISK_DELETE] = api_vdisk_delete,
	[METHOD_VDISK_CHECK] = api_vdisk_check,
	[METHOD_VDISK_FLUSH] = api_vdisk_flush,
	[METHOD_VDISK_GET] = api_vdisk_get,
	[METHOD_VDISK_SET] = api_vdisk_set,
	[METHOD_ISCSI_EXPORT] = api_iscsi_export,
	[METHOD_ISCSI_UNEXPORT] = api_iscsi_unexport,
	[METHOD_ISCSI_LIST] = api_iscsi_list,
	[METHOD_ISCSI_SESSIONS] = api_iscsi_sessions,
	[METHOD_ISCSI_TARGET_CREATE] = api_iscsi_target_create,
	[METHOD_ISCSI_TARGET_SET] = api_iscsi_target_set,
	[METHOD_ISCSI_TARGET_DELETE] = api_iscsi_target_delete,
	[METHOD_ISCSI_TARGET_LIST] = api_iscsi_target_list,
	[METHOD_ISCSI_LUN_ADD] = api_iscsi_lun_add,
	[METHOD_ISCSI_LUN_REMOVE] = api_iscsi_lun_remove,
	[METHOD_ISCSI_INITIATOR_ADD] = api_iscsi_initiator_add,
	[METHOD_ISCSI_INITIATOR_REMOVE] = api_iscsi_initiator_remove,
	[METHOD_ISCSI_INITIATOR_LIST] = api_iscsi_initiator_list,
	[METHOD_ISCSI_SESSION_DROP] = api_iscsi_session_drop,
	[METHOD_NVME_CREATE] = api_nvme_create,
	[METHOD_NVME_LIST] = api_nvme_list,
	[METHOD_NVME_SHOW] = api_nvme_show,
	[METHOD_NVME_USAGE] = api_nvme_usage,
	[METHOD_NVME_ATTACH] = api_nvme_attach,
	[METHOD_NVME_DETACH] = api_nvme_detach,
	[METHOD_NVME_NAMESPACES] = api_nvme_namespaces,
	[METHOD_NVME_KEEPER_REPLACE] = api_nvme_keeper_replace,
	[METHOD_NVME_DELETE] = api_nvme_delete,
	[METHOD_JOB_LIST] = api_job_list,
	[METHOD_JOB_SHOW] = api_job_show,
	[METHOD_JOB_CANCEL] = api_job_cancel,
	[METHOD_JOB_WAIT] = api_job_wait,
	[METHOD_STATS_SHOW] = api_stats_show,
	[METHOD_CATALOG_SHOW] = api_catalog_show,
	[METHOD_CATALOG_VERIFY] = api_catalog_verify,
	[METHOD_NODE_SHOW] = api_node_show,
	[METHOD_EVENT_LIST] = api_event_list,
	[METHOD_EVENT_FOLLOW] = api_event_follow,
	[METHOD_HEALTH_SHOW] = api_health_show,
};

int api_fail(struct api_request *request, enum error_code code, const char *object,
	     const char *remedy, const char *format, ...)
{
	char text[ERROR_TEXT_MAX];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	error_set(&request->error, code, object, remedy, "%s", text);
	return -EINVAL;
}

const char *api_error_text(int error)
{
	switch (error) {
	case 0:
		return "";
	case -ENOENT:
		return "it does not exist";
	case -EEXIST:
		return "it exists already";
	case -ENOTEMPTY:
		return "it is not empty";
	case -EBUSY:
		return "it is in use";
	case -ENOSPC:
		return "there is not enough space";
	case -EUCLEAN:
		return "its structure on disk is damaged";
	case -EBADMSG:
		return "stored data does not match its checksum";
	case -EINPROGRESS:
		return "it is being deleted, which was cut off and goes on by itself";
	case -ENODEV:
		return "its pool or directory is missing";
	case -ENOTDIR:
		return "a part of the path is not a directory";
	case -EROFS:
		return "the file system is read-only";
	case -EACCES:
	case -EPERM:
		return "the daemon is not permitted to";
	case -EIO:
		return "the disk reports an I/O error";
	case -ESTALE:
		return "it was changed by something else at the same time";
	case -EPROTONOSUPPORT:
		return "it was written by a newer version of Sarsen";
	case -ENOTRECOVERABLE:
		return "the catalog's disk failed; it is not known whether the change survives";
	case -ENOMEM:
		return "the daemon is out of memory";
	case -ESHUTDOWN:
		return "the daemon is stopping";
	case -EINVAL:
		return "it is not valid";
	default:
		return NULL;
	}
}

void api_next(struct api_request *request, const char *format, ...)
{
	char text[ERROR_TEXT_MAX];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	json_object_set_new(request->result, "next", json_string(text));
}

static const char *remedy_of(enum error_code code)
{
	switch (code) {
	case ERROR_EXISTS:
		return "choose another name";
	case ERROR_NOT_EMPTY:
		return "delete first what is in it, or choose another";
	case ERROR_BUSY:
		return "try again when it is not in use";
	case ERROR_NO_SPACE:
		return "free space, or use a larger disk";
	case ERROR_DAMAGED:
		return "see the daemon's log for the place of the damage; restore from a copy";
	case ERROR_IO:
		return "check the disk and its mount; see the daemon's log";
	case ERROR_UNAVAILABLE:
		return "try again when the daemon runs";
	default:
		return "see the daemon's log";
	}
}

int api_fail_errno(struct api_request *request, int error, const char *what, const char *object)
{
	enum error_code code = error_code_of(error);
	const char *text = api_error_text(error);
	char number[32];

	snprintf(number, sizeof(number), "error %d", -error);
	return api_fail(request, code, object, remedy_of(code), "cannot %s '%s': %s", what, object,
			text ? text : number);
}

int api_fail_unknown(struct api_request *request, const char *noun, const char *object)
{
	char remedy[100];

	snprintf(remedy, sizeof(remedy), "see: sarsen %s list", noun);
	return api_fail(request, ERROR_NOT_FOUND, object, remedy, "there is no %s '%s'", noun,
			object);
}

int api_begin(struct api_request *request, const char *name, bool is_job,
	      struct node_vdisk **ret_vdisk)
{
	const char *blocker = NULL;
	int r = node_vdisk_begin(request->node, name, request->method->verb, is_job, ret_vdisk,
				 &blocker);

	if (r == -ENOENT)
		return api_fail_unknown(request, "vdisk", name);
	if (r < 0)
		return api_fail(request, ERROR_BUSY, name, "wait for it: sarsen job list",
				"vDisk '%s' is busy: a %s is under way", name, blocker);
	return 0;
}

int api_begin_open(struct api_request *request, const char *name, bool is_job,
		   struct node_vdisk **ret_vdisk)
{
	char damage[NODE_DAMAGE_TEXT_MAX];
	struct node_vdisk *vdisk;
	int r = api_begin(request, name, is_job, &vdisk);

	if (r < 0)
		return r;
	if (!vdisk->vdisk) {
		r = node_damage_text(request->node, vdisk, damage)
			    ? api_fail(request, ERROR_DAMAGED, name, NODE_DAMAGE_REMEDY,
				       "vDisk '%s' is not open: %s", name, damage)
			    : api_fail_errno(request, vdisk->error ? vdisk->error : -ENODEV,
					     "use vDisk", name);
		node_vdisk_end(request->node, vdisk);
		return r;
	}
	*ret_vdisk = vdisk;
	return 0;
}

static int check(struct api_request *request, const struct api_identity *identity, const char *name,
		 const json_t *params, json_t **ret_checked)
{
	request->method = method_find(name);
	if (!request->method || request->method->local)
		return api_fail(request, ERROR_UNKNOWN_METHOD, name, "see /openapi.json",
				"there is no method '%.80s'", name);
	if (identity->role < request->method->role)
		return api_fail(request, ERROR_FORBIDDEN, name, "ask an administrator",
				"%s needs the role %s; %s is %s", name,
				role_name(request->method->role), identity->name,
				role_name(identity->role));
	if (request->node->stopping)
		return api_fail(request, ERROR_UNAVAILABLE, name, "try again when the daemon runs",
				"the daemon is stopping");
	return params_check(request->method, params, ret_checked, &request->error);
}

static void record(const struct api_request *request, const struct api_identity *identity)
{
	const char *name = params_text(request->params, "name");

	log_info("api", "call", "by=%s method=%s.%s name=%s result=%s", identity->name,
		 request->method->noun, request->method->verb, name ? name : "",
		 request->error.code ? error_code_name(request->error.code) : "ok");
}

/* The answer to a handler that has ended with `r`. */
static json_t *make_answer(struct api_request *request, int r)
{
	ASSERT((r == 0) == (request->error.code == ERROR_NONE));
	if (r == 0)
		return json_pack("{s:i, s:O}", "schema", API_SCHEMA_VERSION, "result",
				 request->result);
	return error_to_json(&request->error);
}

json_t *api_call(struct node *node, const struct api_identity *identity, const char *method,
		 const json_t *params, enum error_code *ret_code)
{
	uint64_t failures_before = json_memory_failures();
	_cleanup_json_ json_t *checked = NULL, *answer = NULL;
	struct api_request request = {.node = node};
	int r;

	reactor_assert_home(node->home);
	r = check(&request, identity, method, params, &checked);
	if (r == 0) {
		request.params = checked;
		r = handlers[method_id(request.method)](&request);
		if (request.method->changes)
			record(&request, identity);
	}
	answer = make_answer(&request, r);
	json_decref(request.result);
	if (json_memory_failures() != failures_before) {
		json_decref(answer);
		(void)api_fail(&request, ERROR_INTERNAL, NULL, "see what was done, and try again",
			       "the daemon is out of memory for the answer");
		answer = make_answer(&request, -ENOMEM);
	}
	*ret_code = request.error.code;
	return TAKE_PTR(answer);
}
