/* SPDX-License-Identifier: Apache-2.0 */
/* Flush and FUA: syncing every group that has writes since its last sync, many requests at a time.
 */
#include <errno.h>

#include "base/reached.h"
#include "vdisk/log.h"
#include "vdisk/vdisk_priv.h"

/* One group. What completed before the sync was submitted is what a success covers. */
static int sync_group(struct log *log, struct log_group *group)
{
	uint64_t written = group->written;
	int r;

	if (group->synced == written)
		return 0;
	r = egroup_file_sync(group->group->file);
	if (r < 0) {
		REACHED("log.sync-failed");
		log_fail(log, r);
		return r;
	}
	group->synced = written;
	return 0;
}

/* Every group, not only the newest. Groups leave the list only under the mutex. */
static int sync_all(struct log *log)
{
	uint64_t target = log->acked_lsn;
	struct log_group *group;
	int r = log->failed;

	for (struct list_node *node = log->groups.head.next; r == 0 && node != &log->groups.head;
	     node = node->next) {
		group = LIST_ENTRY(node, struct log_group, link);
		r = sync_group(log, group);
	}
	if (r == 0)
		log->durable_lsn = MAX(log->durable_lsn, target);
	return r;
}

int log_sync(struct log *log)
{
	int r;

	fiber_mutex_lock(&log->sync_mutex);
	r = sync_all(log);
	fiber_mutex_unlock(&log->sync_mutex);
	return r;
}

static void complete_waiters(struct log *log)
{
	struct block_request *request;

	LIST_FOR_EACH (&log->sync_waiters, request, struct block_request, link)
		if (vdisk_request(request)->lsn <= log->durable_lsn) {
			list_remove(&request->link);
			vdisk_finish(log->vdisk, request, 0);
		}
}

static void sync_run(struct fiber_task *task)
{
	struct log *log = CONTAINER_OF(task, struct log, sync_task);

	while (!list_is_empty(&log->sync_waiters) && log_sync(log) == 0)
		complete_waiters(log);
	log->syncing = false;
	if (log->failed)
		log_fail(log, log->failed);
	fiber_queue_wake_all(&log->settled);
}

void log_add_sync(struct log *log, struct block_request *request, uint64_t lsn)
{
	if (log->failed || lsn <= log->durable_lsn) {
		vdisk_finish_later(log->vdisk, request, log->failed);
		return;
	}
	vdisk_request(request)->lsn = lsn;
	list_push_back(&log->sync_waiters, &request->link);
	if (log->syncing)
		return;
	log->syncing = true;
	log->sync_task.run = sync_run;
	fiber_spawn(log->vdisk->reactor, FIBER_CHECKPOINT, &log->sync_task);
}
