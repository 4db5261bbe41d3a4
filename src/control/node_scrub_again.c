/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a scrub found damaged while a copy that may have it right could not be reached is looked at
 * again when the disks that cannot be reached are others than at the last time: the files that it
 * is in are scrubbed once more. What was found of them then takes the place of what was found
 * before.
 *
 * Between scrubs only: one that is under way comes first, and whatever begins one meanwhile has
 * forgotten these findings. Which disks these were is in memory, so a restart looks once.
 *
 * Failure modes: what cannot be read or recorded stays as it is until the next change of a disk.
 * Home: the node's; from the fiber of its service.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "control/node_disk.h"
#include "control/node_scrub.h"
#include "curator/found.h"
#include "pool/pool_disk.h"

struct again {
	struct node *node;
	uint64_t pool_id;
	struct scrub_state state;
	struct scrub_finding *findings; /* room for as many as are kept */
	size_t count;
	bool changed;
};

struct look { /* at one file, on its vDisk's home */
	struct again *again;
	struct vdisk *vdisk;
	struct vdisk_scrub scrub;
	struct scrub_found found;
	uint64_t seen_bytes;
};

static bool progress(void *arg, uint64_t bytes)
{
	struct look *look = arg;
	const struct node *node = look->again->node;

	node_scrub_keep_rate(node, bytes, &look->seen_bytes);
	return !node->stopping;
}

static void on_finding(void *arg, const struct vdisk_finding *finding)
{
	struct look *look = arg;

	scrub_found_add(&look->found, finding);
}

static int look_at_home(void *arg)
{
	struct look *look = arg;

	return vdisk_scrub(look->vdisk, &look->scrub);
}

static void count(struct again *again, const struct vdisk_finding *finding, int sign)
{
	struct scrub_state *state = &again->state;

	if (state->last.begun_wall_ns == state->now.begun_wall_ns)
		scrub_tally_add(&state->last, finding, sign);
	scrub_tally_add(&state->now, finding, sign);
}

/* What is not right yet is found again, where it still is. */
static void forget(struct again *again, uint64_t vdisk, uint64_t file)
{
	size_t kept = 0;

	for (size_t i = 0; i < again->count; i++) {
		const struct scrub_finding *finding = &again->findings[i];

		if (finding->vdisk == vdisk && finding->what.file == file &&
		    !finding->what.put_right)
			count(again, &finding->what, -1);
		else
			again->findings[kept++] = *finding;
	}
	again->count = kept;
}

static void take(struct again *again, struct node_vdisk *vdisk, struct look *look)
{
	struct world *world = again->node->options.world;

	for (unsigned i = 0; i < look->found.count; i++) {
		struct scrub_finding *finding = &look->found.findings[i];

		finding->vdisk = vdisk->info.id;
		finding->wall_ns = world->ops->wall_ns(world);
		count(again, &finding->what, 1);
		if (!finding->what.pending)
			node_scrub_tell(again->node, vdisk, &finding->what);
		if (again->count < SCRUB_FINDINGS_MAX)
			again->findings[again->count++] = *finding;
	}
}

/* 0 also when nothing could be found out. */
static int look_at_file(struct again *again, uint64_t id, uint64_t file)
{
	_cleanup_free_ struct look *look = calloc(1, sizeof(*look));
	struct node_vdisk *vdisk = node_vdisk_by_id(again->node, id);
	int r;

	if (!look)
		return -ENOMEM;
	if (vdisk && !node_vdisk_use(vdisk))
		return 0;
	if (!vdisk) { /* it was deleted */
		forget(again, id, file);
		again->changed = true;
		return 0;
	}
	look->again = again;
	look->vdisk = vdisk->vdisk;
	look->scrub = (struct vdisk_scrub){.after = file - 1,
					   .last = file,
					   .progress = progress,
					   .finding = on_finding,
					   .arg = look};
	r = fiber_call(vdisk->home, FIBER_RECLAIM, look_at_home, look);
	if (r == 0) {
		forget(again, id, file);
		take(again, vdisk, look);
		again->changed = true;
	}
	node_vdisk_unuse(again->node, vdisk);
	return r;
}

/* In order of vDisk and file, each file once. */
static int look_at_all(struct again *again)
{
	uint64_t vdisk = 0, file = 0;
	int r = 0;

	for (;;) {
		const struct scrub_finding *next = NULL;

		for (size_t i = 0; i < again->count; i++) {
			const struct scrub_finding *finding = &again->findings[i];

			if (!finding->what.pending || finding->vdisk < vdisk ||
			    (finding->vdisk == vdisk && finding->what.file <= file))
				continue;
			if (!next || finding->vdisk < next->vdisk ||
			    (finding->vdisk == next->vdisk && finding->what.file < next->what.file))
				next = finding;
		}
		if (!next || r < 0)
			return r;
		vdisk = next->vdisk;
		file = next->what.file;
		r = look_at_file(again, vdisk, file);
	}
}

/* Unless a scrub was begun meanwhile. */
static int record(struct again *again)
{
	struct node *node = again->node;
	struct scrub_state state;
	int r;

	fiber_mutex_lock(&node->scrub_lock);
	r = scrub_load(node->catalog, again->pool_id, &state);
	if (r == 0 && state.phase == SCRUB_IDLE &&
	    state.now.begun_wall_ns == again->state.now.begun_wall_ns)
		r = scrub_replace_found(node->catalog, again->pool_id, &again->state,
					again->findings, again->count);
	fiber_mutex_unlock(&node->scrub_lock);
	return r;
}

static int look_again(struct node *node, uint64_t pool_id)
{
	_cleanup_free_ struct scrub_finding *findings = NULL;
	struct again again = {.node = node, .pool_id = pool_id};
	int r = scrub_load(node->catalog, pool_id, &again.state);

	if (r < 0 || again.state.phase != SCRUB_IDLE || again.state.now.pending == 0)
		return r;
	r = scrub_get_findings(node->catalog, pool_id, &findings, &again.count);
	if (r < 0)
		return r;
	again.findings = calloc(SCRUB_FINDINGS_MAX, sizeof(*findings));
	if (!again.findings)
		return -ENOMEM;
	for (size_t i = 0; i < again.count; i++)
		again.findings[i] = findings[i];
	r = look_at_all(&again);
	if (again.changed && r != -ESHUTDOWN)
		r = record(&again);
	free(again.findings);
	return r;
}

void node_scrub_look_again(struct node *node, uint64_t pool_id)
{
	struct node_pool *pool = node_pool_by_id(node, pool_id);
	uint64_t gone = pool && pool->pool ? node_disks_out(pool->pool) : 0;
	int r;

	if (gone == 0 || pool->scrub_run || gone == pool->scrub_gone)
		return;
	pool->scrub_gone = gone;
	r = look_again(node, pool_id);
	if (r < 0 && r != -ECANCELED && r != -ESHUTDOWN)
		log_warning("scrub", "what was pending could not be looked at again",
			    "pool=%" PRIu64 " error=%d", pool_id, r);
}
