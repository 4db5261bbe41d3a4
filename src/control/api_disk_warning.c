/* SPDX-License-Identifier: Apache-2.0 */
#include "control/api_disk_warning.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

__attribute__((format(printf, 4, 5))) static void warn(struct api_request *request,
						       const char *code, const char *remedy,
						       const char *format, ...)
{
	json_t *warnings = json_object_get(request->result, "warnings");
	char message[ERROR_TEXT_MAX];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	if (!warnings) {
		warnings = json_array();
		json_object_set_new(request->result, "warnings", warnings);
	}
	json_array_append_new(warnings, json_pack("{s:s, s:s, s:s}", "code", code, "message",
						  message, "remedy", remedy));
}

void api_disk_warn_of_copies(struct api_request *request, const struct node_pool *pool)
{
	unsigned staying = pool_disks_staying(pool->pool), most = 0;
	const struct node_vdisk *vdisk;
	uint64_t vdisks = 0;

	LIST_FOR_EACH (&request->node->vdisks, vdisk, const struct node_vdisk, link) {
		if (vdisk->info.pool_id != pool->id || vdisk->info.deleting ||
		    vdisk->factor <= staying)
			continue;
		most = MAX(most, vdisk->factor);
		vdisks++;
	}
	if (vdisks == 0)
		return;
	warn(request, "fewer-copies", "add a disk now: sarsen disk add",
	     "pool '%s' keeps %u disk%s for %u copies: %" PRIu64
	     " of its vDisks will have fewer copies than they should",
	     pool->name, staying, staying == 1 ? "" : "s", most, vdisks);
}

void api_disk_warn_of_shared(struct api_request *request, const struct node_pool *pool,
			     const struct pool_disk_info *info)
{
	if (info->shares_with == 0)
		return;
	warn(request, "shared-file-system",
	     "for copies that outlive a disk, use a file system of its own for each",
	     "%s is on the same file system as disk %" PRIu64
	     " of pool '%s': copies on both are lost together",
	     info->directory, info->shares_with, pool->name);
}
