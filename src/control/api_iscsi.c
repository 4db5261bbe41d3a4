/* SPDX-License-Identifier: Apache-2.0 */
#include "control/api_nvme.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control/time_text.h"

static json_t *export_to_json(struct node *node, const struct node_vdisk *vdisk)
{
	const struct node_export *export = vdisk->export;
	char url[NODE_URL_MAX];
	json_t *json = json_pack("{s:s, s:s, s:s, s:i, s:b, s:b, s:s}", "url",
				 node_export_url(node, export, url), "vdisk", vdisk->name, "target",
				 export->target, "lun", (int)export->lun, "read_only",
				 export->read_only, "removable", export->removable, "state",
				 export->error ? "failed" : "online");

	if (export->error)
		json_object_set_new(json, "error", json_string(api_error_text(export->error)));
	return json;
}

static int require_server(struct api_request *request)
{
	if (request->node->iscsi)
		return 0;
	return api_fail(
		request, ERROR_UNAVAILABLE, NULL,
		"set [iscsi] enabled = true in the configuration and start the daemon again",
		"iSCSI is disabled");
}

static int add_failed(struct api_request *request, int error, const char *vdisk,
		      const struct node_lun *lun)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", lun->lun);
	if (error == -ENOENT && lun->target)
		return api_fail(request, ERROR_NOT_FOUND, lun->target,
				"see: sarsen iscsi target list", "there is no target '%s'",
				lun->target);
	if (error == -EEXIST && lun->target)
		return api_fail(request, ERROR_EXISTS, number, "choose another LUN",
				"LUN %s of '%s' is in use", number, lun->target);
	if (error == -EMFILE)
		return api_fail(request, ERROR_TOO_LARGE, lun->target, "use another target",
				"all LUNs of the target are in use");
	return api_fail_errno(request, error, "export vDisk", vdisk);
}

static int export_vdisk(struct api_request *request, struct node_vdisk *vdisk,
			const struct node_lun *lun)
{
	struct node *node = request->node;
	int r;

	if (vdisk->export)
		return api_fail(request, ERROR_EXISTS, vdisk->name, "see: sarsen iscsi list",
				"vDisk '%s' is exported already", vdisk->name);
	if (node_nvme_is_exclusive(node, vdisk))
		return api_nvme_refuse_attached(request, vdisk);
	r = node_export_add(node, vdisk, lun);
	if (r < 0)
		return add_failed(request, r, vdisk->name, lun);
	request->result = export_to_json(node, vdisk);
	return 0;
}

static int export(struct api_request *request, const char *name, const struct node_lun *lun)
{
	struct node_vdisk *vdisk;
	int r = require_server(request);

	if (r == 0)
		r = api_begin_open(request, name, false, &vdisk);
	if (r < 0)
		return r;
	r = export_vdisk(request, vdisk, lun);
	node_vdisk_end(request->node, vdisk);
	return r;
}

int api_iscsi_export(struct api_request *request)
{
	const struct node_lun lun = {.lun = -1,
				     .read_only = params_bool(request->params, "read_only")};

	return export(request, params_text(request->params, "name"), &lun);
}

int api_iscsi_lun_add(struct api_request *request)
{
	const json_t *params = request->params;
	const struct node_lun lun = {.target = params_text(params, "name"),
				     .lun = (int)params_integer(params, "lun", -1),
				     .read_only = params_bool(params, "read_only"),
				     .removable = params_bool(params, "removable")};

	return export(request, params_text(params, "vdisk"), &lun);
}

/* `vdisk_name` of the export, as `target` has it when that is given. */
static int unexport(struct api_request *request, const char *name, const char *target)
{
	struct node_vdisk *vdisk;
	int r = api_begin(request, name, false, &vdisk);

	if (r < 0)
		return r;
	if (vdisk->export && (!target || strcmp(vdisk->export->target, target) == 0))
		r = node_export_remove(request->node, vdisk);
	else
		r = -ENOENT;
	node_vdisk_end(request->node, vdisk);
	if (r == -ENOENT)
		return api_fail(request, ERROR_NOT_FOUND, name, "see: sarsen iscsi list",
				"vDisk '%s' is not exported", name);
	if (r < 0)
		return api_fail_errno(request, r, "unexport vDisk", name);
	request->result = json_object();
	return 0;
}

int api_iscsi_unexport(struct api_request *request)
{
	return unexport(request, params_text(request->params, "name"), NULL);
}

int api_iscsi_lun_remove(struct api_request *request)
{
	const char *target = params_text(request->params, "name");
	int lun = (int)params_integer(request->params, "lun", 0);
	const struct node_vdisk *vdisk = node_target_lun(request->node, target, lun);
	char name[NODE_NAME_MAX + 1];

	if (!vdisk)
		return api_fail(request, ERROR_NOT_FOUND, target, "see: sarsen iscsi list",
				"'%s' has no LUN %d", target, lun);
	memcpy(name, vdisk->name, sizeof(name)); /* it may go while we wait for our turn */
	return unexport(request, name, target);
}

int api_iscsi_list(struct api_request *request)
{
	struct node *node = request->node;
	struct node_vdisk *vdisk;

	request->result = json_array();
	LIST_FOR_EACH (&node->vdisks, vdisk, struct node_vdisk, link)
		if (vdisk->export)
			json_array_append_new(request->result, export_to_json(node, vdisk));
	return 0;
}

static json_t *session_to_json(const struct iscsi_session_info *info)
{
	char created[TIME_TEXT_MAX];

	return json_pack("{s:i, s:s, s:I, s:s, s:s, s:s, s:I, s:I, s:I}", "id", (int)info->id,
			 "initiator", info->initiator, "connections", (json_int_t)info->connections,
			 "peer", info->peer, "target", info->target, "created",
			 time_text(info->created_wall_ns, created), "commands",
			 (json_int_t)info->commands, "read_bytes", (json_int_t)info->bytes_read,
			 "written_bytes", (json_int_t)info->bytes_written);
}

int api_iscsi_sessions(struct api_request *request)
{
	_cleanup_free_ struct iscsi_session_info *infos = NULL;
	size_t count;
	int r = require_server(request);

	if (r < 0)
		return r;
	r = iscsi_server_sessions(request->node->iscsi, &infos, &count);
	if (r < 0)
		return api_fail_errno(request, r, "list", "sessions");
	request->result = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(request->result, session_to_json(&infos[i]));
	return 0;
}
