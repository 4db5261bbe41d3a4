/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The durable job that deletes a vDisk. Before the answer is given the job's row is in the catalog
 * and the vDisk is marked as deleting, so a kill at any later instant leads to the same end at the
 * next start. vdisk_delete() itself goes on where it stopped.
 */
#include "control/node_priv.h"

#include <errno.h>
#include <inttypes.h>

#include "base/log.h"

struct deletion {
	struct node *node;
	uint64_t vdisk_id;
};

static bool progress(void *arg, uint64_t bytes_done, uint64_t bytes_total)
{
	job_progress(arg, bytes_done, bytes_total);
	return !job_is_cancelled(arg);
}

static int delete_in(struct pool *pool, uint64_t id, struct job *job)
{
	int r = pool ? vdisk_mark_deleting(pool, id) : -ENODEV;

	if (r < 0)
		return r;
	job_begun(job);
	r = vdisk_delete(pool, id, progress, job);
	return r == -ECANCELED ? -ESHUTDOWN : r; /* the node stops, the job is not over */
}

static int run(struct job *job, void *arg, struct error *ret_error)
{
	const struct deletion *deletion = arg;
	struct node *node = deletion->node;
	struct node_vdisk *vdisk = node_vdisk_by_id(node, deletion->vdisk_id);
	struct node_pool *pool = node_pool_by_id(node, vdisk->info.pool_id);
	int r = delete_in(pool ? pool->pool : NULL, vdisk->info.id, job);

	if (r == 0 || r == -ENOENT) {
		node_vdisk_remove(node, vdisk);
		return 0;
	}
	error_set(ret_error, error_code_of(r), vdisk->name,
		  "the deletion goes on at the next start, or with: sarsen vdisk delete",
		  "vDisk '%s' could not be deleted completely (error %d)", vdisk->name, -r);
	vdisk->error = r;
	node_vdisk_end(node, vdisk);
	return r;
}

static int make_spec(struct node *node, const struct node_vdisk *vdisk, struct job_spec *ret_spec)
{
	struct deletion *deletion = malloc(sizeof(*deletion));

	if (!deletion)
		return -ENOMEM;
	*deletion = (struct deletion){.node = node, .vdisk_id = vdisk->info.id};
	*ret_spec = (struct job_spec){.method = method_get(METHOD_VDISK_DELETE),
				      .object = vdisk->name,
				      .subject = vdisk->info.id,
				      .durable = true,
				      .run = run,
				      .done = free,
				      .arg = deletion};
	return 0;
}

int node_delete_start(struct node *node, struct node_vdisk *vdisk, uint64_t *ret_job)
{
	struct job_spec spec = {0};
	int r = make_spec(node, vdisk, &spec);

	ASSERT(vdisk->operation_is_job && !vdisk->vdisk && !vdisk->export);
	if (r < 0)
		return r;
	r = job_start(node->jobs, &spec, ret_job);
	if (r < 0) {
		free(spec.arg);
		return r;
	}
	vdisk->info.deleting = true;
	job_wait_begun(node->jobs, *ret_job);
	return 0;
}

static void begin(struct node *node, struct node_vdisk *vdisk, const struct job_info *info)
{
	struct job_spec spec = {0};
	uint64_t id;
	int r = make_spec(node, vdisk, &spec);

	vdisk->info.deleting = true;
	vdisk->operation = "vdisk.delete";
	vdisk->operation_is_job = true;
	if (r == 0 && info)
		r = job_resume(node->jobs, info->id, &spec);
	else if (r == 0)
		r = job_start(node->jobs, &spec, &id);
	if (r == 0)
		return;
	log_error("node", "a deletion cannot go on", "vdisk=%s error=%d", vdisk->name, r);
	free(spec.arg);
	node_vdisk_end(node, vdisk);
}

void node_delete_mark(struct node *node)
{
	struct job_info info;

	for (size_t i = 0; jobs_unfinished(node->jobs, i, &info); i++) {
		struct node_vdisk *vdisk = node_vdisk_by_id(node, info.subject);

		if (vdisk && method_id(info.method) == METHOD_VDISK_DELETE)
			vdisk->info.deleting = true;
	}
}

void node_delete_resume(struct node *node)
{
	struct node_vdisk *vdisk;
	struct job_info info;
	size_t skipped = 0;

	while (jobs_unfinished(node->jobs, skipped, &info)) {
		vdisk = node_vdisk_by_id(node, info.subject);
		if (method_id(info.method) != METHOD_VDISK_DELETE)
			skipped++;
		else if (vdisk && !vdisk->operation)
			begin(node, vdisk, &info);
		else
			job_settle(node->jobs, info.id);
	}
	LIST_FOR_EACH (&node->vdisks, vdisk, struct node_vdisk, link)
		if (vdisk->info.deleting && !vdisk->operation)
			begin(node, vdisk, NULL);
}
