/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making the light of a drive blink: a job that reads the disk's label, directly, for a part of
 * each second and not for the rest of it. That works with every drive that shows its activity,
 * needs no right to its device, and costs the guests next to nothing.
 *
 * It ends after the time asked for, when it is cancelled, and at the first error. Each is a fiber
 * for up to an hour, so there are NODE_BLINKS_MAX at most, and one a disk. Home: the node's.
 */
#include "control/node_place.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reactor/io.h"

#define PERIOD_NS   NSEC_PER_SEC
#define LIT_NS      (300 * NSEC_PER_MSEC) /* of each period */
#define READ_BYTES  4096u
#define READS_MAX   256u /* in one period, however quick they are */
#define READ_GAP_NS NSEC_PER_MSEC

struct blink {
	uint64_t *slot; /* of node->blinking; NULL = none yet */
	unsigned seconds;
	char label[4096 + 8]; /* path */
	json_t *result;
};

static void blink_free(void *arg)
{
	struct blink *blink = arg;

	if (blink->slot)
		*blink->slot = 0;
	json_decref(blink->result);
	free(blink);
}

static int light_up(struct world_file *file, void *memory, uint64_t until_ns)
{
	struct reactor *home = reactor_current();

	for (unsigned i = 0; i < READS_MAX && reactor_now_ns(home) < until_ns; i++) {
		int64_t n = io_read(file, memory, READ_BYTES, 0);

		if (n < 0)
			return (int)n;
		fiber_sleep(READ_GAP_NS);
	}
	return 0;
}

static int blink_file(struct job *job, const struct blink *blink, struct world_file *file)
{
	_cleanup_free_ void *memory = aligned_alloc(READ_BYTES, READ_BYTES);
	struct reactor *home = reactor_current();
	uint64_t begun_ns = reactor_now_ns(home);
	int r = memory ? 0 : -ENOMEM;

	for (unsigned i = 0; r == 0 && i < blink->seconds; i++) {
		uint64_t next_ns = begun_ns + (i + 1) * PERIOD_NS, now_ns;

		r = light_up(file, memory, next_ns - PERIOD_NS + LIT_NS);
		now_ns = reactor_now_ns(home);
		if (r == 0 && now_ns < next_ns)
			fiber_sleep(next_ns - now_ns);
		if (r == 0 && job_is_cancelled(job))
			r = -ECANCELED;
		if (now_ns >= begun_ns + blink->seconds * PERIOD_NS)
			break; /* reads that take long do not make it longer */
	}
	return r;
}

static int run(struct job *job, void *arg, struct error *ret_error)
{
	struct blink *blink = arg;
	struct world_file *file;
	int r, r2;

	job_set_cancellable(job, true);
	job_set_result(job, json_incref(blink->result));
	r = io_open(blink->label, WORLD_FILE_READ_ONLY | WORLD_FILE_DIRECT, &file);
	if (r == 0) {
		r = blink_file(job, blink, file);
		r2 = io_close(file);
		r = r ? r : r2;
	}
	if (r < 0 && r != -ECANCELED && r != -ESHUTDOWN)
		error_set(ret_error, ERROR_IO, blink->label,
			  "look for it by its serial number: sarsen disk locate",
			  "the disk cannot be read (%s), so it does not blink", strerror(-r));
	return r;
}

static int take_slot(struct node *node, uint64_t disk, uint64_t **ret_slot)
{
	uint64_t *slot = NULL;

	for (unsigned i = 0; i < NODE_BLINKS_MAX; i++) {
		if (node->blinking[i] == disk)
			return -EALREADY;
		if (node->blinking[i] == 0)
			slot = &node->blinking[i];
	}
	if (!slot)
		return -EMFILE;
	*slot = disk;
	*ret_slot = slot;
	return 0;
}

int node_blink_start(struct node *node, const struct pool_disk_info *info, unsigned seconds,
		     json_t *result, uint64_t *ret_job)
{
	struct blink *blink = calloc(1, sizeof(*blink));
	const struct job_spec spec = {.method = method_get(METHOD_DISK_LOCATE),
				      .object = info->directory,
				      .subject = info->id,
				      .run = run,
				      .done = blink_free,
				      .arg = blink};
	int r;

	if (!blink) {
		json_decref(result);
		return -ENOMEM;
	}
	*blink = (struct blink){.seconds = seconds, .result = result};
	snprintf(blink->label, sizeof(blink->label), "%s/label", info->directory);
	r = take_slot(node, info->id, &blink->slot);
	if (r == 0)
		r = job_start(node->jobs, &spec, ret_job);
	if (r < 0)
		blink_free(blink);
	return r;
}
