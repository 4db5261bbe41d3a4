/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "control/api_priv.h"
#include "control/time_text.h"
#include "reactor/io.h"

static json_t *mirror_to_json(const struct catalog_mirror_info *info)
{
	const char *text = info->error ? api_error_text(info->error) : NULL;
	char made[TIME_TEXT_MAX] = "", error[64] = "";

	if (info->made_wall_ns)
		time_text(info->made_wall_ns, made);
	if (info->error && !text)
		snprintf(error, sizeof(error), "error %d", -info->error);
	if (info->state == CATALOG_MIRROR_REFUSED)
		text = info->error == -ESTALE ? "it is newer than the catalog"
					      : "it is of another catalog";
	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:s}", "path", info->directory, "kind",
			 "mirror", "state", catalog_mirror_state_name(info->state), "sequence",
			 (json_int_t)info->sequence, "size", (json_int_t)info->bytes, "made", made,
			 "error", text ? text : error);
}

static json_t *catalog_to_json(struct node *node)
{
	int error = catalog_get_error(node->catalog);
	const char *text = error ? api_error_text(error) : "";
	struct catalog_position position;
	struct world_stat stat = {0};
	char path[4200];

	snprintf(path, sizeof(path), "%s/catalog.db", node->options.state_directory);
	(void)io_stat(path, &stat); /* the size of what cannot be found is 0 */
	catalog_get_position(node->catalog, &position);
	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:s}", "path", path, "kind", "catalog",
			 "state", error ? "failing" : "good", "sequence",
			 (json_int_t)position.sequence, "size", (json_int_t)stat.size_bytes, "made",
			 "", "error", text ? text : "its disk fails");
}

int api_catalog_show(struct api_request *request)
{
	_cleanup_free_ struct catalog_mirror_info *infos = NULL;
	size_t count = 0;
	int r = catalog_mirror_list(request->node->catalog, &infos, &count);

	if (r < 0)
		return api_fail_errno(request, r, "show", "catalog");
	request->result = json_array();
	json_array_append_new(request->result, catalog_to_json(request->node));
	for (size_t i = 0; i < count; i++)
		json_array_append_new(request->result, mirror_to_json(&infos[i]));
	return 0;
}

int api_catalog_verify(struct api_request *request)
{
	struct catalog_verify verify;
	int r = node_catalog_verify(request->node, &verify);

	if (r < 0)
		return api_fail_errno(request, r, "verify", "catalog");
	if (verify.differences > 0)
		return api_fail(request, ERROR_DAMAGED, "catalog",
				"check the disk; the mirror is being built again: sarsen catalog "
				"show",
				"%" PRIu64 " differences between the catalog and its mirrors; the "
				"log names them",
				verify.differences);
	request->result = json_pack("{s:I, s:I, s:I}", "rows", (json_int_t)verify.rows, "mirrors",
				    (json_int_t)verify.mirrors, "differences",
				    (json_int_t)verify.differences);
	return 0;
}
