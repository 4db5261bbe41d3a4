/* SPDX-License-Identifier: Apache-2.0 */
#include "control/api_nvme.h"

#include <errno.h>

#include "control/time_text.h"

static json_t *export_to_json(struct node *node, const struct node_vdisk *vdisk)
{
	const struct node_export *export = vdisk->export;
	char url[NODE_URL_MAX];
	json_t *json = json_pack("{s:s, s:s, s:s, s:i, s:b, s:s}", "url",
				 node_export_url(node, export, url), "vdisk", vdisk->name, "target",
				 export->target, "lun", (int)export->lun, "read_only",
				 export->read_only, "state", export->error ? "failed" : "online");

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

static int export_vdisk(struct api_request *request, struct node_vdisk *vdisk)
{
	struct node *node = request->node;
	int r;

	if (vdisk->export)
		return api_fail(request, ERROR_EXISTS, vdisk->name, "see: sarsen iscsi list",
				"vDisk '%s' is exported already", vdisk->name);
	if (node_nvme_is_exclusive(node, vdisk))
		return api_nvme_refuse_attached(request, vdisk);
	r = node_export_add(node, vdisk, params_bool(request->params, "read_only"));
	if (r < 0)
		return api_fail_errno(request, r, "export vDisk", vdisk->name);
	request->result = export_to_json(node, vdisk);
	return 0;
}

int api_iscsi_export(struct api_request *request)
{
	struct node_vdisk *vdisk;
	int r = require_server(request);

	if (r == 0)
		r = api_begin_open(request, params_text(request->params, "name"), false, &vdisk);
	if (r < 0)
		return r;
	r = export_vdisk(request, vdisk);
	node_vdisk_end(request->node, vdisk);
	return r;
}

int api_iscsi_unexport(struct api_request *request)
{
	const char *name = params_text(request->params, "name");
	struct node_vdisk *vdisk;
	int r = api_begin(request, name, false, &vdisk);

	if (r < 0)
		return r;
	if (vdisk->export)
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

	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "initiator", info->initiator,
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
