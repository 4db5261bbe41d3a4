/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/build.h"
#include "reactor/fiber.h"

static struct keeper_rig_keeper *by_path(struct keeper_rig *rig, const char *path)
{
	for (size_t i = 0; i < KEEPER_RIG_COUNT; i++)
		if (strcmp(rig->keepers[i].path, path) == 0)
			return &rig->keepers[i];
	return NULL;
}

struct keeper_rig_keeper *keeper_rig_find(struct keeper_rig *rig, const char *name)
{
	char path[KEEPER_PATH_MAX + 1];

	for (size_t i = 0; i < KEEPER_RIG_COUNT; i++) {
		const char *slash = strrchr(rig->keepers[i].path, '/');

		snprintf(path, sizeof(path), "/%s.link", name);
		if (slash && strcmp(slash, path) == 0)
			return &rig->keepers[i];
	}
	return NULL;
}

static int spawn(void *context, const struct keeper_spec *spec)
{
	struct keeper_rig *rig = context;
	struct keeper_rig_keeper *keeper = by_path(rig, spec->link);

	fiber_sleep(NSEC_PER_MSEC);
	if (rig->spawn_error)
		return rig->spawn_error;
	if (!keeper)
		keeper = by_path(rig, "");
	ASSERT(keeper && !keeper->running);
	snprintf(keeper->path, sizeof(keeper->path), "%s", spec->link);
	keeper->rig = rig;
	keeper->spec = *spec;
	keeper->spawned++;
	keeper->running = !rig->mute;
	free(keeper->shared);
	keeper->shared = calloc(1, sizeof(*keeper->shared));
	ASSERT(keeper->shared);
	keeper->shared->keeper_pid = 1000 + keeper->spawned;
	keeper->shared->keeper_build = build_number();
	return 0;
}

static void forget(void *context, const struct keeper_spec *spec)
{
	struct keeper_rig_keeper *keeper = by_path(context, spec->link);

	fiber_sleep(NSEC_PER_MSEC);
	if (keeper)
		keeper->forgotten++;
}

static int open_link(void *context, const struct nvme_link_options *options,
		     struct nvme_link **ret_link)
{
	struct keeper_rig *rig = context;
	struct keeper_rig_keeper *keeper = by_path(rig, options->path);
	struct nvme_link *link;

	fiber_sleep(NSEC_PER_MSEC);
	if (rig->open_error)
		return rig->open_error;
	if (keeper && keeper->open_error)
		return keeper->open_error;
	if (!keeper || !keeper->running)
		return -ECONNREFUSED;
	ASSERT(!keeper->link);
	link = calloc(1, sizeof(*link));
	ASSERT(link);
	link->options = *options;
	link->keeper = keeper;
	keeper->link = link;
	keeper->shared->engine_epoch++;
	*ret_link = link;
	return 0;
}

static void start(struct nvme_link *link)
{
	ASSERT(!link->started);
	link->started = true;
}

static void close_link(struct nvme_link *link)
{
	fiber_yield();
	fiber_sleep(NSEC_PER_MSEC);
	link->keeper->link = NULL;
	free(link);
}

static void tell(struct reactor_work *work)
{
	struct nvme_link *link = CONTAINER_OF(work, struct nvme_link, tell);

	link->options.lost(link->options.context, link->loss);
}

static void lose(struct nvme_link *link, int error)
{
	if (link->lost)
		return;
	link->lost = true;
	link->loss = error;
	link->tell.run = tell;
	reactor_defer(link->options.home, &link->tell);
}

void keeper_rig_kill(struct keeper_rig_keeper *keeper)
{
	ASSERT(keeper->running);
	keeper->running = false;
	if (keeper->link)
		lose(keeper->link, -ECONNRESET);
}

static int retire(struct nvme_link *link, bool at_once)
{
	struct keeper_rig *rig = link->keeper->rig;

	if (rig->retire_error)
		return rig->retire_error;
	if (!rig->deaf && (at_once || !link->keeper->shared->client_connected))
		keeper_rig_kill(link->keeper);
	return 0;
}

static int replace(struct nvme_link *link)
{
	int error = link->keeper->rig->replace_error;

	link->keeper->replaced += error == 0;
	lose(link, error ? error : -ECONNRESET);
	return 0;
}

static const struct vfu_shared *shared(const struct nvme_link *link)
{
	return link->keeper->shared;
}

static int attach(struct nvme_link *link, const struct nvme_namespace_options *options)
{
	struct keeper_rig *rig = link->keeper->rig;

	ASSERT(options->volume && link->namespaces[options->nsid].nsid == 0);
	fiber_sleep(NSEC_PER_MSEC);
	if (rig->attach_error)
		return rig->attach_error;
	link->namespaces[options->nsid] = *options;
	return 0;
}

static int detach(struct nvme_link *link, uint32_t nsid)
{
	fiber_sleep(NSEC_PER_MSEC);
	if (link->namespaces[nsid].nsid == 0)
		return -ENOENT;
	link->namespaces[nsid].nsid = 0;
	return 0;
}

static int set_active(struct nvme_link *link, uint32_t nsid, bool active)
{
	fiber_sleep(NSEC_PER_MSEC);
	if (link->namespaces[nsid].nsid == 0)
		return -ENOENT;
	link->namespaces[nsid].inactive = !active;
	return 0;
}

static void resized(struct nvme_link *link, uint32_t nsid)
{
	ASSERT(link->namespaces[nsid].nsid == nsid);
	link->resized++;
}

static unsigned redone(struct nvme_link *link)
{
	unsigned most = link->options.controller.gated ? link->gone_on + 1 : NVME_REDO_STEPS;

	return link->started && !link->keeper->slow ? MIN(most, NVME_REDO_STEPS) : 0;
}

static void go_on(struct nvme_link *link, unsigned step)
{
	ASSERT(link->started && step > link->gone_on);
	link->gone_on = step;
}

static void get_stats(struct nvme_link *link, struct nvme_stats *ret_stats)
{
	*ret_stats = (struct nvme_stats){.enabled = true, .ready = link->started, .reads = 7};
}

const struct keeper_ops keeper_rig_ops = {
	.spawn = spawn,
	.forget = forget,
	.open = open_link,
	.start = start,
	.close = close_link,
	.retire = retire,
	.replace = replace,
	.shared = shared,
	.attach = attach,
	.detach = detach,
	.set_active = set_active,
	.resized = resized,
	.redone = redone,
	.go_on = go_on,
	.get_stats = get_stats,
};

void keeper_rig_done(struct keeper_rig *rig)
{
	for (size_t i = 0; i < KEEPER_RIG_COUNT; i++) {
		ASSERT(!rig->keepers[i].link);
		free(rig->keepers[i].shared);
	}
	*rig = (struct keeper_rig){0};
}
