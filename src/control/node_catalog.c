/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog of the node and its mirrors: one in the directory of each disk of each pool, or of
 * the best of them when they are more than there may be mirrors (mirror_choice.h). The set of
 * mirrors follows the disk rows and the states of the disks; it is compared with them at start,
 * before any pool opens, after pools were made or deleted, and by the watch.
 *
 * Before any pool opens, because a catalog that a mirror proves to be old must not touch a pool:
 * group files that it does not know would be swept away.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "control/mirror_choice.h"
#include "control/node_priv.h"
#include "pool/pool_disk.h"
#include "pool/pool_rows.h"

static void refuse_forked(const struct catalog_report *report, const char *path,
			  struct error *error)
{
	error_set(error, ERROR_DAMAGED, path,
		  "to go on with what that disk knows: start with --restore-catalog and the "
		  "directory; with what this catalog knows: rename catalog/ there to "
		  "catalog.replaced-1; or put the right catalog back",
		  "the catalog %.200s (%" PRIu64 ") and its mirror in %.300s (%" PRIu64
		  ") have changes that the other lacks: the state directory was set back, and went "
		  "on from there",
		  path, report->catalog_sequence, report->directory, report->mirror_sequence);
}

static void refuse_newer(const struct catalog_report *report, const char *path, struct error *error)
{
	error_set(error, ERROR_DAMAGED, path,
		  "start with --restore-catalog and that directory; or put the right catalog back",
		  "the catalog %.200s is older (%" PRIu64 ") than its mirror in %.300s (%" PRIu64
		  "): the state directory was set back, and using it would lose data",
		  path, report->catalog_sequence, report->directory, report->mirror_sequence);
}

static void refuse_restore(const struct catalog_report *report, const char *path,
			   struct error *error)
{
	const char *directory = report->directory[0] ? report->directory : "any of its disks";

	if (report->mirror_error == -EEXIST)
		error_set(error, ERROR_EXISTS, path,
			  "start without --restore-catalog, or move the catalog away first",
			  "the catalog %.200s is good and not older (%" PRIu64
			  ") than the mirror in %.300s (%" PRIu64 ")",
			  path, report->catalog_sequence, directory, report->mirror_sequence);
	else if (report->mirror_error == -ESTALE && report->mirror_forked)
		error_set(
			error, ERROR_DAMAGED, path,
			"choose one: start with --restore-catalog and the directory of a disk",
			"the catalog %.200s is gone, and its mirrors are of two histories: that in "
			"%.300s has changes that others lack, and lacks some of theirs",
			path, directory);
	else if (report->mirror_error == -ESTALE && report->mirror_sequence)
		error_set(error, ERROR_DAMAGED, path, "give that directory instead",
			  "the mirror in %.300s is newer (%" PRIu64 ") than the one given (%" PRIu64
			  ")",
			  directory, report->mirror_sequence, report->catalog_sequence);
	else if (report->mirror_torn)
		error_set(error, ERROR_DAMAGED, path,
			  "to use it all the same: start with --restore-catalog and that directory",
			  "the catalog %.200s is gone, and the mirror in %.300s may lack the last "
			  "change",
			  path, directory);
	else
		error_set(error, ERROR_DAMAGED, path,
			  "mount the pools' disks and start again; or choose a mirror yourself: "
			  "--restore-catalog DIRECTORY",
			  "the catalog %.200s cannot be made again: no mirror in good standing can "
			  "be read (last tried: %.300s, error %d)",
			  path, directory, -report->mirror_error);
}

static void refuse(int r, const struct catalog_report *report, const char *path,
		   struct error *error)
{
	if (r == -ESTALE && report->mirror_forked)
		refuse_forked(report, path, error);
	else if (r == -ESTALE)
		refuse_newer(report, path, error);
	else if (r == -ENODATA || r == -EEXIST)
		refuse_restore(report, path, error);
	else if (r == -EUCLEAN)
		error_set(error, ERROR_DAMAGED, path,
			  "start with --restore-catalog and the directory of a pool's disk",
			  "the catalog %s is damaged", path);
	else if (r == -EPROTONOSUPPORT)
		error_set(error, ERROR_DAMAGED, path,
			  "start the version that wrote it, or a newer one",
			  "the catalog %s was written by a newer version of Sarsen", path);
	else
		error_set(error, error_code_of(r), path,
			  "see the log; the state directory must be writable and in no other use",
			  "the catalog %s cannot be opened (error %d)", path, -r);
}

int node_catalog_open(struct node *node, struct error *error)
{
	char path[4200];
	struct catalog_options options = {.path = path,
					  .vfs = node->options.catalog_vfs,
					  .create = true,
					  .restore_from = node->options.restore_catalog,
					  .renew_mirrors = node->dead_left > 0,
					  .disk_timeout_ns = node->options.disk_timeout_ns,
					  .report = &node->catalog_watch.report};
	int r = 0;

	if (snprintf(path, sizeof(path), "%s/catalog.db", node->options.state_directory) >=
	    (int)sizeof(path))
		r = -ENAMETOOLONG;
	if (r == 0)
		r = catalog_open(node->options.world, &options, &node->catalog);
	if (r < 0)
		refuse(r, &node->catalog_watch.report, path, error);
	return r;
}

struct disks {
	size_t count;
	char **directories;
	struct mirror_candidate *candidates; /* of each */
};

static void disks_done(struct disks *disks)
{
	for (size_t i = 0; i < disks->count; i++)
		free(disks->directories[i]);
	free(disks->directories);
	free(disks->candidates);
}

/* Before pools are open nothing is known but what is in the rows. */
static enum mirror_rank rank_of(struct node *node, const struct catalog_row *row,
				const struct pool_disk_row *disk)
{
	struct node_pool *pool = node_pool_by_id(node, catalog_key_number(&row->key, 0));
	enum pool_disk_state state = POOL_DISK_ONLINE;

	if (pool && pool->pool)
		state = pool_disk_state(pool->pool, catalog_key_number(&row->key, 1));
	if (state >= POOL_DISK_READ_ONLY)
		return MIRROR_RANK_LOST;
	return disk->draining || state != POOL_DISK_ONLINE ? MIRROR_RANK_LEAVING
							   : MIRROR_RANK_USABLE;
}

static int disks_add(struct node *node, struct disks *disks, const struct catalog_row *row,
		     const struct pool_disk_row *disk)
{
	char *directory = strdup(disk->directory);

	if (!directory)
		return -ENOMEM;
	disks->candidates[disks->count] = (struct mirror_candidate){
		.pool = catalog_key_number(&row->key, 0),
		.tier = pool_tier_number(disk->tier),
		.rank = rank_of(node, row, disk),
	};
	disks->directories[disks->count++] = directory;
	return 0;
}

static int disks_read(struct node *node, struct disks *disks)
{
	_cleanup_free_ struct pool_disk_row *disk = calloc(1, sizeof(*disk));
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	struct catalog_key prefix = catalog_key(CATALOG_DISK);
	int r = disk ? catalog_scan(node->catalog, &prefix, NULL, 0, &rows) : -ENOMEM;

	if (r)
		return r;
	disks->directories = calloc(rows.count + 1, sizeof(*disks->directories));
	disks->candidates = calloc(rows.count + 1, sizeof(*disks->candidates));
	if (!disks->directories || !disks->candidates)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < rows.count; i++) {
		if (pool_rows_decode_disk(&rows.rows[i], disk) != 0)
			continue; /* logged; its pool cannot be opened either */
		if (!disk->failed)
			r = disks_add(node, disks, &rows.rows[i], disk);
	}
	return r;
}

static struct mirror_candidate *candidate_of(const struct disks *disks, const char *directory)
{
	for (size_t i = 0; i < disks->count; i++)
		if (strcmp(disks->directories[i], directory) == 0)
			return &disks->candidates[i];
	return NULL;
}

/* All, as long as there are not too many. */
static int disks_choose(struct node *node, struct disks *disks)
{
	_cleanup_free_ struct catalog_mirror_info *infos = NULL;
	size_t count = 0;
	int r = catalog_mirror_list(node->catalog, &infos, &count);

	if (r)
		return r;
	/* From one run to the next only the disk itself tells. */
	for (size_t i = 0; count == 0 && disks->count > CATALOG_MIRRORS_MAX && i < disks->count;
	     i++)
		disks->candidates[i].has_one =
			catalog_mirror_was(node->catalog, disks->directories[i]);
	for (size_t i = 0; i < count; i++) {
		struct mirror_candidate *candidate = candidate_of(disks, infos[i].directory);

		if (!candidate)
			continue;
		candidate->has_one = true;
		if (infos[i].state == CATALOG_MIRROR_REFUSED) /* the operator is to decide */
			candidate->rank = MIRROR_RANK_FIXED;
		else if (infos[i].state == CATALOG_MIRROR_LOST)
			candidate->rank = MIRROR_RANK_LOST;
	}
	mirror_choose(disks->candidates, disks->count, CATALOG_MIRRORS_MAX);
	return 0;
}

static int remove_others(struct node *node, const struct disks *disks)
{
	_cleanup_free_ struct catalog_mirror_info *infos = NULL;
	size_t count = 0;
	int r = catalog_mirror_list(node->catalog, &infos, &count);

	for (size_t i = 0; r == 0 && i < count; i++) {
		const struct mirror_candidate *candidate = candidate_of(disks, infos[i].directory);

		if (!candidate || !candidate->chosen)
			r = catalog_mirror_remove(node->catalog, infos[i].directory);
	}
	return r == -ENOENT ? 0 : r;
}

/* The first error of an addition; one that says that this catalog must not be used goes first. */
int node_catalog_sync(struct node *node)
{
	_cleanup_(disks_done) struct disks disks = {0};
	int r = disks_read(node, &disks), first = 0;

	if (r == 0)
		r = disks_choose(node, &disks);
	if (r == 0)
		r = remove_others(node, &disks);
	for (size_t i = 0; r == 0 && i < disks.count; i++) {
		int r2 = disks.candidates[i].chosen
				 ? catalog_mirror_add(node->catalog, disks.directories[i])
				 : 0;

		if (r2 == 0 || r2 == -EMFILE)
			continue; /* the next look finds room for it */
		if (first == 0)
			log_warning("node", "no mirror of the catalog can be made",
				    "directory=\"%s\" error=%d", disks.directories[i], r2);
		first = first == 0 || r2 == -ESTALE ? r2 : first;
	}
	return r ? r : first;
}

int node_catalog_start(struct node *node, struct error *error)
{
	int r = node_catalog_sync(node);

	if (r != -ESTALE)
		return 0; /* logged, and tried again by the watch */
	error_set(
		error, ERROR_DAMAGED, node->options.state_directory,
		"start with --restore-catalog and the disk's directory, which the log names; or "
		"put the right catalog back; to go on without what only that disk knows, rename "
		"catalog/ there to catalog.replaced-1",
		"the catalog in %.300s lacks changes that a mirror on the disk of a pool has: the "
		"state directory was set back, and using it would lose data",
		node->options.state_directory);
	return r;
}

static void tell_restored(struct node *node)
{
	struct catalog_report *report = &node->catalog_watch.report;

	if (!report->restored)
		return;
	report->restored = false;
	event_emit(node->events, EVENT_CATALOG_RESTORED, "catalog",
		   "made again from the mirror in %.120s, as of change %" PRIu64 "%s",
		   report->directory, report->mirror_sequence,
		   report->mirror_torn ? "; the last change may be missing" : "");
}

static const struct catalog_mirror_info *seen(const struct node *node, const char *directory)
{
	for (size_t i = 0; i < node->catalog_watch.count; i++)
		if (strcmp(node->catalog_watch.infos[i].directory, directory) == 0)
			return &node->catalog_watch.infos[i];
	return NULL;
}

static void tell_mirror(struct node *node, const struct catalog_mirror_info *now)
{
	const struct catalog_mirror_info *before = seen(node, now->directory);
	enum catalog_mirror_state was = before ? before->state : CATALOG_MIRROR_BUILDING;

	if (now->state == was)
		return;
	if (now->state == CATALOG_MIRROR_LOST)
		event_emit(node->events, EVENT_CATALOG_MIRROR_LOST, now->directory,
			   "it has no good copy of the catalog (error %d)", -now->error);
	else if (now->state == CATALOG_MIRROR_REFUSED)
		event_emit(node->events, EVENT_CATALOG_MIRROR_REFUSED, now->directory,
			   "what is there is %s",
			   now->error == -ESTALE ? "of changes that this catalog lacks"
						 : "a copy of another catalog");
	else if (now->state == CATALOG_MIRROR_GOOD && before && before->was_lost)
		event_emit(node->events, EVENT_CATALOG_MIRROR_GOOD, now->directory,
			   "it has a good copy of the catalog again");
}

int node_catalog_verify(struct node *node, struct catalog_verify *ret_verify)
{
	int r = catalog_verify(node->catalog, ret_verify);

	if (r == 0 && ret_verify->differences > 0)
		event_emit(node->events, EVENT_SCRUB_REPAIRED, "catalog",
			   "%" PRIu64 " differences between it and its mirrors; those that differ "
			   "are made again",
			   ret_verify->differences);
	if (r == -EUCLEAN && node->catalog_watch.damage == 0)
		event_emit(node->events, EVENT_CATALOG_DAMAGED, "catalog",
			   "rows of its database are damaged or missing");
	if (r == 0 || r == -EUCLEAN)
		node->catalog_watch.damage = r;
	return r;
}

const char *node_catalog_mirror_state(const struct node *node, const char *directory)
{
	const struct catalog_mirror_info *info = seen(node, directory);

	return info ? catalog_mirror_state_name(info->state) : "none";
}

void node_catalog_watch(struct node *node)
{
	struct catalog_mirror_info *infos;
	size_t count;

	tell_restored(node);
	if (node->catalog_watch.turns++ % 10 == 9) {
		fiber_mutex_lock(&node->lock);
		(void)node_catalog_sync(node); /* logged, and tried again */
		fiber_mutex_unlock(&node->lock);
	}
	if (catalog_mirror_list(node->catalog, &infos, &count) != 0)
		return; /* the next turn looks again */
	for (size_t i = 0; i < count; i++)
		tell_mirror(node, &infos[i]);
	free(node->catalog_watch.infos);
	node->catalog_watch.infos = infos;
	node->catalog_watch.count = count;
}
