/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exports over iSCSI: an exported vDisk is a LUN of a target, its own one or one made by hand. The
 * catalog holds a row for each, key (CATALOG_ISCSI, vDisk's id), value JSON text {"target":
 * "iqn...", "lun": 0, "read_only": false, "removable": false}. The target keeps its name when the
 * vDisk is renamed, because initiators know it.
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

/* Its persistent reservations, when initiators want them to outlive the daemon. */
static struct catalog_key reservations_key(uint64_t vdisk)
{
	struct catalog_key key = catalog_key(CATALOG_ISCSI);

	catalog_key_add(&key, vdisk);
	catalog_key_add(&key, 1);
	return key;
}

int node_export_save(void *arg, uint64_t serial, const void *data, size_t length)
{
	struct node *node = arg;
	struct catalog_change change = {.kind = length > 0 ? CATALOG_PUT : CATALOG_DELETE,
					.key = reservations_key(serial),
					.value = data,
					.length = (uint32_t)length};

	return catalog_commit(node->catalog, &change, 1);
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

static int serve(struct node *node, struct node_vdisk *vdisk, const struct node_export *export,
		 const void *reservations, size_t length)
{
	struct iscsi_lun lun = {.volume = vdisk_volume(vdisk->vdisk),
				.identity = node->identity,
				.serial = vdisk->info.id,
				.product = vdisk->info.name,
				.read_only = export->read_only,
				.removable = export->removable,
				.reservations = reservations,
				.reservations_length = length,
				.thin = true};

	node_space_get(node, vdisk->info.pool_id, &lun.space_available, &lun.space_total);
	return iscsi_server_add_lun(node->iscsi, export->target, export->lun, &lun);
}

static int write_row(struct node *node, const struct node_vdisk *vdisk,
		     const struct node_export *export)
{
	_cleanup_json_ json_t *row =
		json_pack("{s:s, s:i, s:b, s:b}", "target", export->target, "lun", (int)export->lun,
			  "read_only", export->read_only, "removable", export->removable);
	_cleanup_free_ char *text = json_dumps(row, JSON_COMPACT);
	struct catalog_change change = {.kind = CATALOG_PUT, .key = row_key(vdisk)};

	if (!text)
		return -ENOMEM;
	change.value = text;
	change.length = (uint32_t)strlen(text);
	return catalog_commit(node->catalog, &change, 1);
}

/* One that came with an export goes with it. */
static void drop_unused(struct node *node, struct node_target *target)
{
	int r;

	if (target->made || node_target_lun(node, target->name, -1))
		return;
	r = node_target_remove(node, target);
	if (r < 0)
		log_error("node", "a target without LUNs stays", "target=%s error=%d", target->name,
			  r);
}

/* The target that is asked for, or one named after the vDisk. */
static int find_target(struct node *node, const struct node_vdisk *vdisk, const char *name,
		       struct node_target **ret_target)
{
	char own[ISCSI_NAME_MAX + 1];
	int r;

	if (name) {
		*ret_target = node_target_find(node, name);
		return *ret_target ? (*ret_target)->error : -ENOENT;
	}
	make_target(vdisk, false, own);
	r = node_target_add(node, own, false, ret_target);
	if (r == -EEXIST) { /* of another vDisk, whose name differs in case or in '_' */
		make_target(vdisk, true, own);
		r = node_target_add(node, own, false, ret_target);
	}
	return r;
}

static int choose_lun(struct node *node, const char *target, int wanted, uint16_t *ret_lun)
{
	int lun = wanted >= 0 ? wanted : 0;

	if (wanted >= 0 && node_target_lun(node, target, wanted))
		return -EEXIST;
	while (lun < ISCSI_LUNS && node_target_lun(node, target, lun))
		lun++;
	if (lun >= ISCSI_LUNS)
		return -EMFILE;
	*ret_lun = (uint16_t)lun;
	return 0;
}

static int add_to(struct node *node, struct node_vdisk *vdisk, const struct node_target *target,
		  const struct node_lun *lun)
{
	_cleanup_free_ struct node_export *export = calloc(1, sizeof(*export));
	int r;

	if (!export)
		return -ENOMEM;
	export->read_only = lun->read_only;
	export->removable = lun->removable;
	snprintf(export->target, sizeof(export->target), "%s", target->name);
	r = choose_lun(node, target->name, lun->lun, &export->lun);
	if (r == 0)
		r = serve(node, vdisk, export, NULL, 0);
	if (r < 0)
		return r;
	r = write_row(node, vdisk, export);
	if (r < 0) { /* it was just added */
		(void)iscsi_server_remove_lun(node->iscsi, export->target, export->lun);
		return r;
	}
	vdisk->export = TAKE_PTR(export);
	return 0;
}

int node_export_add(struct node *node, struct node_vdisk *vdisk, const struct node_lun *lun)
{
	struct node_target *target;
	int r;

	ASSERT(vdisk->operation && vdisk->vdisk && !vdisk->export);
	fiber_mutex_lock(&node->iscsi_lock);
	r = find_target(node, vdisk, lun->target, &target);
	if (r == 0) {
		r = add_to(node, vdisk, target, lun);
		if (r < 0)
			drop_unused(node, target);
	}
	fiber_mutex_unlock(&node->iscsi_lock);
	return r;
}

/* Without the LUN, or with the whole target, whose sessions are asked to log out first. */
static int stop_serving(struct node *node, const struct node_export *export)
{
	struct node_target *target = node_target_find(node, export->target);
	int r = 0;

	if (target && (target->made || node_target_lun(node, export->target, -1))) {
		if (export->error == 0)
			r = iscsi_server_remove_lun(node->iscsi, export->target, export->lun);
		return r;
	}
	return target ? node_target_remove(node, target) : 0;
}

static int remove_locked(struct node *node, struct node_vdisk *vdisk)
{
	struct catalog_change change = {.kind = CATALOG_DELETE, .key = row_key(vdisk)};
	struct node_export *export = vdisk->export;
	int r = catalog_commit(node->catalog, &change, 1);

	if (r < 0)
		return r;
	vdisk->export = NULL;
	r = stop_serving(node, export);
	free(export);
	/* Only now, when nothing saves them any more. */
	change.key = reservations_key(vdisk->info.id);
	return r < 0 ? r : catalog_commit(node->catalog, &change, 1);
}

int node_export_remove(struct node *node, struct node_vdisk *vdisk)
{
	int r;

	ASSERT(vdisk->operation && vdisk->export);
	fiber_mutex_lock(&node->iscsi_lock);
	r = remove_locked(node, vdisk);
	fiber_mutex_unlock(&node->iscsi_lock);
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
	ret_export->removable = json_is_true(json_object_get(json, "removable"));
	return 0;
}

static int serve_as_before(struct node *node, struct node_vdisk *vdisk,
			   const struct node_export *export)
{
	const struct catalog_key key = reservations_key(vdisk->info.id);
	struct catalog_row row = {0};
	int r = catalog_get(node->catalog, &key, &row);

	if (r == 0 || r == -ENOENT)
		r = serve(node, vdisk, export, row.value, r == 0 ? row.length : 0);
	catalog_row_done(&row);
	return r;
}

/* Its target may have come with it, and then has no row of its own. */
static int serve_again(struct node *node, struct node_vdisk *vdisk,
		       const struct node_export *export)
{
	struct node_target *target = node_target_find(node, export->target);
	int r = 0;

	if (!node->iscsi)
		return -ENODEV;
	if (!target)
		r = node_target_add(node, export->target, false, &target);
	if (r < 0 || target->error < 0)
		return r < 0 ? r : target->error;
	return vdisk->vdisk ? serve_as_before(node, vdisk, export) : vdisk->error;
}

static void log_not_served(const struct node_vdisk *vdisk)
{
	log_error("node", "an export is not served", "vdisk=%s target=%s error=%d", vdisk->name,
		  vdisk->export->target, vdisk->export->error);
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
	export->error = serve_again(node, vdisk, export);
	if (export->error < 0)
		log_not_served(vdisk);
	return 0;
}

int node_exports_open(struct node *node)
{
	const struct catalog_key prefix = catalog_key(CATALOG_ISCSI);
	const size_t export_length = prefix.length + sizeof(uint64_t);
	struct catalog_rows rows;
	int r = catalog_scan(node->catalog, &prefix, NULL, 0, &rows);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < rows.count; i++) {
		const struct catalog_key *key = &rows.rows[i].key;

		/* 0: targets; a longer key: reservations. */
		if (catalog_key_number(key, 0) != 0 && key->length == export_length)
			r = open_one(node, &rows.rows[i]);
	}
	catalog_rows_done(&rows);
	return r;
}

void node_export_reopened(struct node *node, struct node_vdisk *vdisk)
{
	struct node_export *export = vdisk->export;

	ASSERT(vdisk->operation && vdisk->vdisk);
	if (!export || export->error == 0)
		return;
	fiber_mutex_lock(&node->iscsi_lock);
	export->error = serve_again(node, vdisk, export);
	fiber_mutex_unlock(&node->iscsi_lock);
	if (export->error < 0)
		log_not_served(vdisk);
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
