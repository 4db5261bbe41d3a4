/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include "control/api.h"
#include "control/node_priv.h"

/* One call. A handler finds its parameters checked; it sets `result` and returns 0, or returns what
 * api_fail() or api_fail_errno() returned. */
struct api_request {
	struct node *node;
	const struct method *method;
	const json_t *params;
	json_t *result;
	struct error error;
};

typedef int api_handler(struct api_request *request);

/* Negative, always. */
int api_fail(struct api_request *request, enum error_code code, const char *object,
	     const char *remedy, const char *format, ...) __attribute__((format(printf, 5, 6)));
/* "cannot WHAT 'OBJECT': why". */
int api_fail_errno(struct api_request *request, int error, const char *what, const char *object);
int api_fail_unknown(struct api_request *request, const char *noun, const char *object);

/* Begins an operation that changes the vDisk `name`, or fails with the right error. */
int api_begin(struct api_request *request, const char *name, bool is_job,
	      struct node_vdisk **ret_vdisk);
/* The same for one that must be open. */
int api_begin_open(struct api_request *request, const char *name, bool is_job,
		   struct node_vdisk **ret_vdisk);

/* What was done, and what comes next, for people: in the result as "next". */
void api_next(struct api_request *request, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* What went wrong with an object, in a few words: "its structure on disk is damaged". */
const char *api_error_text(int error);

/* Whose policy a call changes. */
struct api_policy_subject {
	const char *name;
	struct node_pool *pool; /* NULL: not known */
	uint64_t container;     /* 0: to be made */
	struct policy_set of_container;
	struct policy_set *of_vdisk; /* NULL: it is the container's */
};
/* What the call's parameter "set" sets, over what was set before; refuses what cannot be had. */
int api_policy_apply(struct api_request *request, struct api_policy_subject *subject);
/* After it was committed: the pool knows it too. */
int api_policy_tell_pool(struct api_request *request, const struct api_policy_subject *subject);

/* One finding of health.show. */
void api_find(struct api_request *request, enum event_severity severity, const char *object,
	      const char *remedy, const char *format, ...) __attribute__((format(printf, 5, 6)));
/* Formats on disk that are older than what this program writes, keepers of other builds. */
void api_health_check_versions(struct api_request *request);

api_handler api_pool_create, api_pool_list, api_pool_show, api_pool_delete;
api_handler api_container_create, api_container_list, api_container_show, api_container_delete,
	api_container_get, api_container_set;
/* Of the pool's scrub, or what the last one found. */
json_t *api_scrub_to_json(struct node *node, uint64_t pool_id);
api_handler api_pool_scrub;
api_handler api_disk_locate;
api_handler api_pool_findings;
api_handler api_pool_repair, api_disk_add, api_disk_list, api_disk_show, api_disk_drain,
	api_disk_fail, api_disk_restore, api_disk_replace, api_disk_remove;
api_handler api_vdisk_create, api_vdisk_list, api_vdisk_show, api_vdisk_resize, api_vdisk_rename,
	api_vdisk_delete, api_vdisk_check, api_vdisk_flush, api_vdisk_get, api_vdisk_set;
api_handler api_iscsi_target_create, api_iscsi_target_set, api_iscsi_target_delete,
	api_iscsi_target_list, api_iscsi_lun_add, api_iscsi_lun_remove, api_iscsi_initiator_add,
	api_iscsi_initiator_remove, api_iscsi_initiator_list, api_iscsi_session_drop;
api_handler api_iscsi_export, api_iscsi_unexport, api_iscsi_list, api_iscsi_sessions;
api_handler api_nvme_create, api_nvme_list, api_nvme_show, api_nvme_usage, api_nvme_attach,
	api_nvme_detach, api_nvme_namespaces, api_nvme_keeper_replace, api_nvme_delete;
api_handler api_job_list, api_job_show, api_job_cancel, api_job_wait;
api_handler api_catalog_show, api_catalog_verify;
api_handler api_stats_show, api_node_show;
api_handler api_event_list, api_event_follow, api_health_show;
