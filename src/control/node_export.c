/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exports over iSCSI: each exported vDisk is LUN 0 of a target of its own. The catalog holds a row
 * for each, key (CATALOG_ISCSI, vDisk's id), value JSON text {"target": "iqn...", "lun": 0,
 * "read_only": false}. The target keeps its name when the vDisk is renamed, because initiators know
 * it.
 */
#include "control/node_priv.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define TARGET_PREFIX "iqn.2026-11.org.sarsen:" /* RFC 7143 section 4.2.7.4 */

static struct catalog_key row_key(const struct node_vdisk *vdisk)
{
	struct catalog_key key = catalog_key(CATALOG_ISCSI);

	catalog_key_add(&key, vdisk->info.id);
	return key;
}

/* The vDisk's name in the characters that an iSCSI name may have (RFC 7143 section 4.2.7.2). */
static void make_target(const struct node_vdisk *vdisk, bool with_id,
			char ret_target[ISCSI_NAME_MAX + 1])
{
	size_t length =
		(size_t)snprintf(ret_target, ISCSI_NAME_MAX + 1, TARGET_PREFIX "%s", vdisk->name);

	for (char *c = ret_target + strlen(TARGET_PREFIX); *c; c++)
		*c = *c == '/' ? '.' : *c == '_' ? '-' : (char)tolower((unsigned char)*c);
	if (with_id)
		snprintf(ret_target + length, ISCSI_NAME_MAX + 1 - length, "-%" PRIx64,
			 vdisk->info.id);
}

static int serve(struct node *node, struct node_vdisk *vdisk, const struct node_export *export)
{
	const struct iscsi_lun lun = {.volume = vdisk_volume(vdisk->vdisk),
				      .serial = vdisk->info.id,
				      .product = vdisk->info.name,
				      .read_only = export->read_only,
				      .thin = true};
	int r = iscsi_server_add_target(node->iscsi, export->target);

	if (r < 0)
		return r;
	r = iscsi_server_add_lun(node->iscsi, export->target, export->lun, &lun);
	if (r < 0)
		(void)iscsi_server_remove_target(node->iscsi, export->target); /* was just added */
	return r;
}

static int write_row(struct node *node, const struct node_vdisk *vdisk,
		     const struct node_export *export)
{
	_cleanup_json_ json_t *row = json_pack("{s:s, s:i, s:b}", "target", export->target, "lun",
					       (int)export->lun, "read_only", export->read_only);
	_cleanup_free_ char *text = json_dumps(row, JSON_COMPACT);
	struct catalog_change change = {.kind = CATALOG_PUT, .key = row_key(vdisk)};

	if (!text)
		return -ENOMEM;
	change.value = text;
	change.length = (uint32_t)strlen(text);
	return catalog_commit(node->catalog, &change, 1);
}

int node_export_add(struct node *node, struct node_vdisk *vdisk, bool read_only)
{
	_cleanup_free_ struct node_export *export = calloc(1, sizeof(*export));
	int r;

	ASSERT(vdisk->operation && vdisk->vdisk && !vdisk->export);
	if (!export)
		return -ENOMEM;
	export->read_only = read_only;
	make_target(vdisk, false, export->target);
	r = serve(node, vdisk, export);
	if (r == -EEXIST) { /* of another vDisk, whose name differs in case or in '_' */
		make_target(vdisk, true, export->target);
		r = serve(node, vdisk, export);
	}
	if (r < 0)
		return r;
	r = write_row(node, vdisk, export);
	if (r < 0) {
		(void)iscsi_server_remove_target(node->iscsi, export->target); /* was just added */
		return r;
	}
	vdisk->export = TAKE_PTR(export);
	return 0;
}

int node_export_remove(struct node *node, struct node_vdisk *vdisk)
{
	struct catalog_change change = {.kind = CATALOG_DELETE, .key = row_key(vdisk)};
	struct node_export *export = vdisk->export;
	int r;

	ASSERT(vdisk->operation && export);
	r = catalog_commit(node->catalog, &change, 1);
	if (r < 0)
		return r;
	vdisk->export = NULL;
	if (export->error == 0)
		r = iscsi_server_remove_target(node->iscsi, export->target);
	free(export);
	return r;
}

static int parse_row(const struct catalog_row *row, struct node_export *ret_export)
{
	_cleanup_json_ json_t *json = json_loadb((const char *)row->value, row->length, 0, NULL);
	const char *target;
	int lun, read_only;

	if (json_unpack(json, "{s:s, s:i, s:b}", "target", &target, "lun", &lun, "read_only",
			&read_only) < 0 ||
	    strlen(target) > ISCSI_NAME_MAX || lun < 0 || lun > UINT16_MAX)
		return -EUCLEAN;
	snprintf(ret_export->target, sizeof(ret_export->target), "%s", target);
	ret_export->lun = (uint16_t)lun;
	ret_export->read_only = read_only;
	return 0;
}

static int open_one(struct node *node, const struct catalog_row *row)
{
	uint64_t id = catalog_key_number(&row->key, 0);
	struct node_vdisk *vdisk = node_vdisk_by_id(node, id);
	struct node_export *export = calloc(1, sizeof(*export));
	int r = export ? parse_row(row, export) : -ENOMEM;

	if (r < 0 || !vdisk) {
		log_error("node", "ignoring an export that is not understood",
			  "vdisk=%" PRIu64 " error=%d", id, vdisk ? r : -ENOENT);
		free(export);
		return r == -ENOMEM ? r : 0;
	}
	vdisk->export = export;
	export->error = !node->iscsi    ? -ENODEV
			: !vdisk->vdisk ? vdisk->error
					: serve(node, vdisk, export);
	if (export->error < 0)
		log_error("node", "an export is not served", "vdisk=%s target=%s error=%d",
			  vdisk->name, export->target, export->error);
	return 0;
}

int node_exports_open(struct node *node)
{
	const struct catalog_key prefix = catalog_key(CATALOG_ISCSI);
	struct catalog_rows rows;
	int r = catalog_scan(node->catalog, &prefix, NULL, 0, &rows);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < rows.count; i++)
		r = open_one(node, &rows.rows[i]);
	catalog_rows_done(&rows);
	return r;
}

void node_export_resized(struct node *node, struct node_vdisk *vdisk)
{
	if (vdisk->export && vdisk->export->error == 0)
		iscsi_server_resized(node->iscsi, vdisk_volume(vdisk->vdisk));
}

const char *node_export_url(const struct node *node, const struct node_export *export,
			    char ret_url[static NODE_URL_MAX])
{
	const char *announce = node->options.iscsi_announce;
	char address[64] = "?";
	uint16_t port = 0;
	bool v6;

	if (node->iscsi)
		iscsi_server_address(node->iscsi, address, sizeof(address), &port);
	if (!announce || !*announce)
		announce = address;
	v6 = strchr(announce, ':') != NULL;
	snprintf(ret_url, NODE_URL_MAX, "iscsi://%s%s%s:%u/%s/%u", v6 ? "[" : "", announce,
		 v6 ? "]" : "", port, export->target, export->lun);
	return ret_url;
}
