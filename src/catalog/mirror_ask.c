/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking a mirror's disk whether it answers, before anything waits for it: a disk that hangs would
 * hold up who holds `work`, and with it all other mirrors, or the opening of the catalog.
 *
 * What may hang is done by a fiber of its own, with memory of its own: who asked goes on without
 * it, and the fiber finds that out when the disk answers after all. Home: the catalog's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "base/reached.h"
#include "catalog/catalog_priv.h"
#include "reactor/io.h"

#define LOOK_LIMIT_NS (5 * NSEC_PER_SEC)

/* Reading */

struct look_call {
	struct fiber_task task;
	struct catalog *catalog;
	struct fiber_queue ended;
	struct mirror_look look;
	int result;
	bool done, dropped;
	char directory[CATALOG_MIRROR_DIRECTORY_MAX + 1];
};

static void look_run(struct fiber_task *task)
{
	struct look_call *call = CONTAINER_OF(task, struct look_call, task);
	struct mirrors *mirrors = &call->catalog->mirrors;

	call->result = mirror_look(call->directory, &call->look);
	call->done = true;
	mirrors->asking--;
	fiber_queue_wake_all(&mirrors->changed);
	if (call->dropped)
		free(call);
	else
		fiber_queue_wake_all(&call->ended);
}

int mirror_look_within(struct catalog *catalog, const char *directory, struct mirror_look *ret_look)
{
	struct look_call *call = calloc(1, sizeof(*call));
	uint64_t deadline_ns = reactor_now_ns(catalog->home) + LOOK_LIMIT_NS;
	int r;

	if (!call)
		return -ENOMEM;
	call->catalog = catalog;
	call->task.run = look_run;
	fiber_queue_init(&call->ended);
	memcpy(call->directory, directory, strlen(directory) + 1);
	catalog->mirrors.asking++;
	fiber_spawn(catalog->home, FIBER_CONTROL, &call->task);
	while (!call->done && reactor_now_ns(catalog->home) < deadline_ns)
		(void)fiber_queue_wait_until(&call->ended, deadline_ns); /* or woken */
	if (!call->done) {
		REACHED("mirror.look-hung");
		call->dropped = true;
		return -ETIMEDOUT;
	}
	r = call->result;
	if (r == 0)
		*ret_look = call->look;
	free(call);
	return r;
}

/* Before writing */

struct mirror_probe {
	struct fiber_task task;
	struct catalog *catalog;
	struct mirror *mirror; /* NULL: it is gone */
	char directory[CATALOG_MIRROR_DIRECTORY_MAX + 1];
};

/* The label of its pool is read from the device and synced, but not changed. Without it the disk is
 * not mounted. */
static int label_read(const char *directory)
{
	_cleanup_free_ void *block = aligned_alloc(MIRROR_BLOCK, MIRROR_BLOCK);
	char path[MIRROR_PATH_BYTES];
	struct world_file *file;
	int64_t n;
	int r, r2;

	if (!block)
		return -ENOMEM;
	snprintf(path, sizeof(path), "%s/label", directory);
	r = mirror_file_open(path, 0, &file);
	if (r)
		return r;
	n = io_read(file, block, MIRROR_BLOCK, 0);
	r = n < 0 ? (int)n : io_sync(file);
	r2 = io_close(file);
	return r ? r : r2;
}

static int directory_make(const char *directory)
{
	struct mirror_path path;
	int r;

	mirror_path_of(directory, NULL, 0, &path);
	r = io_directory_make(path.text);
	if (r == -EEXIST)
		return 0;
	return r ? r : io_directory_sync(directory);
}

/* A file system that is frozen gives all that, and hangs where something is to be made: so the
 * mirror's directory is made here, even when it is there, and not while others wait. */
static int probe(struct mirror_probe *call)
{
	int r = label_read(call->directory);

	if (r == 0 && !call->mirror)
		r = -ECANCELED;
	return r ? r : directory_make(call->directory);
}

static void probe_run(struct fiber_task *task)
{
	struct mirror_probe *call = CONTAINER_OF(task, struct mirror_probe, task);
	struct mirrors *mirrors = &call->catalog->mirrors;
	int r = probe(call);

	mirrors->asking--;
	if (call->mirror) {
		call->mirror->probe = NULL;
		call->mirror->answers = r == 0;
		if (r && r != -ESHUTDOWN && !call->mirror->removed)
			mirror_lose(call->mirror, r);
	}
	fiber_queue_wake_all(&mirrors->changed);
	free(call);
}

void mirror_probe_start(struct mirror *mirror)
{
	struct catalog *catalog = mirror->catalog;
	struct mirror_probe *call = calloc(1, sizeof(*call));

	if (!call) {
		mirror_lose(mirror, -ENOMEM); /* is tried again */
		return;
	}
	call->catalog = catalog;
	call->mirror = mirror;
	call->task.run = probe_run;
	memcpy(call->directory, mirror->directory, strlen(mirror->directory) + 1);
	mirror->probe = call;
	mirror->probe_ns = reactor_now_ns(catalog->home);
	catalog->mirrors.asking++;
	fiber_spawn(catalog->home, FIBER_CONTROL, &call->task);
}

void mirror_probe_forget(struct mirror *mirror)
{
	if (mirror->probe)
		TAKE_PTR(mirror->probe)->mirror = NULL;
}
