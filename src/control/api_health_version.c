/* SPDX-License-Identifier: Apache-2.0 */
/* Which of what belongs to this daemon is of another version. */
#include <inttypes.h>
#include <stdio.h>

#include "base/build.h"
#include "control/api_nvme.h"
#include "control/format.h"

#define ROWS_MAX 4096 /* of a table that are looked at: the first have the lowest numbers */

static uint64_t count_older(struct node *node, const struct format *format)
{
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	const struct catalog_key prefix = catalog_key(format->table);
	uint64_t older = 0;

	if (catalog_scan(node->catalog, &prefix, NULL, ROWS_MAX, &rows) < 0)
		return 0; /* the catalog's own finding tells */
	for (size_t i = 0; i < rows.count; i++)
		older += format_is_of(format, &rows.rows[i]) &&
			 rows.rows[i].length > format->offset &&
			 rows.rows[i].value[format->offset] < format->newest;
	return older;
}

static void check_format(struct api_request *request, const struct format *format)
{
	uint64_t older;

	if (!format->table || !format->converts) /* those that stay as they are are no news */
		return;
	older = count_older(request->node, format);
	if (older > 0)
		api_find(request, EVENT_INFO, "format",
			 "nothing need be done: each is written anew when it changes, and older "
			 "programs cannot read it from then on (sarsend --upgrade-check)",
			 "%s%" PRIu64 " of '%s' are older than version %u, which this program "
			 "writes",
			 older == ROWS_MAX ? "at least " : "", older, format->name, format->newest);
}

static void build_text(uint32_t build, char ret_text[static 40])
{
	if (build)
		snprintf(ret_text, 40, "%" PRIu32 ".%" PRIu32 ".%" PRIu32, build / 1000000,
			 build / 1000 % 1000, build % 1000);
	else
		snprintf(ret_text, 40, "one that does not tell");
}

static void check_keeper(struct api_request *request, struct node_controller *controller,
			 struct node_controller_status *status)
{
	char name[NODE_NAME_MAX], theirs[40], ours[40];

	snprintf(name, sizeof(name), "%s", controller->name);
	if (node_nvme_get_status(controller, status) < 0 || status->keeper_build == build_number())
		return; /* or it is not served, which is told */
	build_text(status->keeper_build, theirs);
	build_text(build_number(), ours);
	api_find(request, EVENT_WARNING, name,
		 status->keeper_build < build_number()
			 ? "let it go on as the new program: sarsen nvme keeper-replace"
			 : "was the daemon set back? Restart the one that is installed",
		 "its keeper is of version %s, the daemon of %s", theirs, ours);
}

static void check_keepers(struct api_request *request)
{
	_cleanup_free_ struct node_controller_status *status = calloc(1, sizeof(*status));
	struct node_controller *controller;

	for (uint64_t id = 0; status && (controller = node_nvme_after(request->node, id));) {
		id = controller->id;
		check_keeper(request, controller, status);
	}
}

void api_health_check_versions(struct api_request *request)
{
	for (unsigned i = 0; i < FORMAT_COUNT; i++)
		check_format(request, format_get(i));
	check_keepers(request);
}
