/* SPDX-License-Identifier: Apache-2.0 */
/* What a scrub found, for people and programs. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "control/node_scrub.h"
#include "control/time_text.h"

#define RESULT_FINDINGS_MAX 100 /* in a job's result; pool.findings gives all that are kept */

const char *node_scrub_kind_name(enum vdisk_finding_kind kind)
{
	static const char *const names[] = {"data", "map", "record", "index"};

	ASSERT(kind < ARRAY_SIZE(names));
	return names[kind];
}

const char *node_scrub_use_name(enum vdisk_use use)
{
	static const char *const names[] = {"unknown", "live", "dead"};

	ASSERT(use < ARRAY_SIZE(names));
	return names[use];
}

static const char *result_name(const struct scrub_finding *finding)
{
	if (finding->what.put_right)
		return "put-right";
	if (finding->what.pending)
		return "pending";
	return finding->what.disk && finding->subject == SCRUB_OF_VDISK ? "left" : "damaged";
}

const char *node_scrub_place(const struct vdisk_finding *finding, uint32_t block_bytes,
			     char ret_place[static NODE_SCRUB_PLACE_MAX])
{
	if (finding->bytes == 0)
		return "an unknown offset";
	snprintf(ret_place, NODE_SCRUB_PLACE_MAX,
		 "offset %" PRIu64 ", %" PRIu64 " bytes (LBA %" PRIu64 ", %" PRIu64
		 " blocks of %" PRIu32 ")",
		 finding->offset, finding->bytes, finding->offset / block_bytes,
		 finding->bytes / block_bytes, block_bytes);
	return ret_place;
}

static enum event_reason reason_of(const struct vdisk_finding *finding)
{
	if (finding->put_right)
		return EVENT_SCRUB_REPAIRED;
	if (finding->pending)
		return EVENT_SCRUB_PENDING;
	return finding->disk ? EVENT_SCRUB_LEFT : EVENT_SCRUB_DAMAGE;
}

static const char *outcome(const struct vdisk_finding *finding)
{
	if (finding->put_right)
		return "put right";
	if (finding->pending)
		return "another copy cannot be reached now";
	return finding->error ? strerrorname_np(-finding->error) : "cannot be written again";
}

void node_scrub_tell(struct node *node, const struct node_vdisk *vdisk,
		     const struct vdisk_finding *finding)
{
	char place[NODE_SCRUB_PLACE_MAX], disk[48] = "on every copy";

	if (finding->disk)
		snprintf(disk, sizeof(disk), "on disk %" PRIu64, finding->disk);
	event_emit(node->events, reason_of(finding), vdisk->name,
		   "%s at %s, %s, %s: %s (group %" PRIu64 ", slot %" PRIu32 ", file %" PRIx64 ")",
		   node_scrub_kind_name(finding->kind),
		   node_scrub_place(finding, vdisk->info.block_bytes, place),
		   node_scrub_use_name(finding->use), disk, outcome(finding), finding->group,
		   finding->slot, finding->file);
}

static void add_place(json_t *json, const struct vdisk_finding *finding, uint32_t block_bytes)
{
	if (finding->bytes == 0)
		return;
	json_object_set_new(json, "offset", json_integer((json_int_t)finding->offset));
	json_object_set_new(json, "bytes", json_integer((json_int_t)finding->bytes));
	if (block_bytes == 0) /* the vDisk is gone */
		return;
	json_object_set_new(json, "lba", json_integer((json_int_t)(finding->offset / block_bytes)));
	json_object_set_new(json, "blocks",
			    json_integer((json_int_t)(finding->bytes / block_bytes)));
	json_object_set_new(json, "block_bytes", json_integer(block_bytes));
}

static void add_vdisk(struct node *node, json_t *json, const struct scrub_finding *finding)
{
	const struct node_vdisk *vdisk = node_vdisk_by_id(node, finding->vdisk);
	const struct vdisk_finding *what = &finding->what;

	json_object_set_new(json, "vdisk", json_string(vdisk ? vdisk->name : "(deleted)"));
	json_object_set_new(json, "vdisk_id", json_integer((json_int_t)finding->vdisk));
	json_object_set_new(json, "group", json_integer((json_int_t)what->group));
	json_object_set_new(json, "slot", json_integer((json_int_t)what->slot));
	json_object_set_new(json, "file", json_integer((json_int_t)what->file));
	add_place(json, what, vdisk ? vdisk->info.block_bytes : 0);
}

static json_t *finding_to_json(struct node *node, const struct scrub_finding *finding)
{
	static const char *const facts[] = {
		[SCRUB_OF_LABEL] = "label", [SCRUB_OF_CATALOG] = "catalog"};
	const struct vdisk_finding *what = &finding->what;
	bool is_fact = finding->subject != SCRUB_OF_VDISK;
	char time[TIME_TEXT_MAX];
	json_t *json =
		json_pack("{s:s, s:s, s:s, s:s}", "what",
			  is_fact ? facts[finding->subject] : node_scrub_kind_name(what->kind),
			  "use", node_scrub_use_name(what->use), "result", result_name(finding),
			  "time", time_text(finding->wall_ns, time));

	if (!is_fact)
		add_vdisk(node, json, finding);
	if (finding->subject == SCRUB_OF_CATALOG && what->slots)
		json_object_set_new(json, "rows", json_integer(what->slots));
	if (what->disk)
		json_object_set_new(json, "disk", json_integer((json_int_t)what->disk));
	if (what->error)
		json_object_set_new(json, "error", json_string(strerrorname_np(-what->error)));
	return json;
}

json_t *node_scrub_findings_to_json(struct node *node, uint64_t pool_id, size_t limit,
				    int *ret_error)
{
	_cleanup_free_ struct scrub_finding *findings = NULL;
	size_t count = 0;
	json_t *json;
	int r = scrub_get_findings(node->catalog, pool_id, &findings, &count);

	if (r < 0) {
		*ret_error = r;
		return NULL;
	}
	json = json_array();
	for (size_t i = 0; i < MIN(count, limit); i++)
		json_array_append_new(json, finding_to_json(node, &findings[i]));
	return json;
}

json_t *node_scrub_result_to_json(struct node *node, uint64_t pool_id,
				  const struct scrub_state *state)
{
	json_t *json = json_pack(
		"{s:s, s:I, s:I, s:I, s:I, s:I}", "state", scrub_phase_name(state->phase),
		"read_bytes", (json_int_t)state->now.bytes, "put_right_blocks",
		(json_int_t)state->now.put_right, "left_blocks", (json_int_t)state->now.left,
		"damaged_blocks", (json_int_t)state->now.damaged, "pending_blocks",
		(json_int_t)state->now.pending);
	int error;
	json_t *findings = node_scrub_findings_to_json(node, pool_id, RESULT_FINDINGS_MAX, &error);

	if (findings)
		json_object_set_new(json, "findings", findings);
	return json;
}
