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
#include "catalog/mirror_task.h"
#include "reactor/io.h"

/* Reading */

struct ask {
	struct fiber_task task;
	struct fiber *fiber;
	struct mirrors *mirrors; /* NULL: of none that are open */
	struct fiber_queue ended;
	int (*run)(struct ask *ask);
	struct mirror_look look;
	struct mirror_rows rows;
	int result;
	bool done, dropped;
	char directory[CATALOG_MIRROR_DIRECTORY_MAX + 1];
};

static void ask_free(struct ask *ask)
{
	mirror_rows_done(&ask->rows);
	free(ask);
}

static void ask_run(struct fiber_task *task)
{
	struct ask *ask = CONTAINER_OF(task, struct ask, task);
	struct mirrors *mirrors = ask->mirrors;

	ask->fiber = fiber_current();
	ask->result = ask->run(ask);
	ask->fiber = NULL;
	ask->done = true;
	if (ask->dropped)
		ask_free(ask);
	else
		fiber_queue_wake_all(&ask->ended);
	if (mirrors) {
		mirrors->asking--;
		fiber_queue_wake_all(&mirrors->changed);
	}
}

static int ask_new(struct mirrors *mirrors, const char *directory, int (*run)(struct ask *ask),
		   struct ask **ret_ask)
{
	size_t length = strlen(directory);
	struct ask *ask;

	if (length > CATALOG_MIRROR_DIRECTORY_MAX)
		return -ENAMETOOLONG;
	ask = calloc(1, sizeof(*ask));
	if (!ask)
		return -ENOMEM;
	ask->mirrors = mirrors;
	ask->run = run;
	ask->task.run = ask_run;
	fiber_queue_init(&ask->ended);
	memcpy(ask->directory, directory, length + 1);
	*ret_ask = ask;
	return 0;
}

/* False: its disk hangs, and it frees itself. */
static bool ask_wait(struct ask *ask, uint64_t timeout_ns)
{
	struct reactor *home = reactor_current();
	struct mirror_patience patience = {0};

	if (ask->mirrors)
		ask->mirrors->asking++;
	fiber_spawn(home, FIBER_CONTROL, &ask->task);
	while (!ask->done) {
		if (mirror_patience_ended(&patience, ask->fiber, timeout_ns)) {
			REACHED("mirror.ask-hung");
			ask->dropped = true;
			return false;
		}
		(void)fiber_queue_wait_until(
			&ask->ended, reactor_now_ns(home) + MIRROR_LOOK_AGAIN_NS); /* or woken */
	}
	return true;
}

/* 0: the caller frees it. */
static int ask(struct mirrors *mirrors, const char *directory, uint64_t timeout_ns,
	       int (*run)(struct ask *ask), struct ask **ret_ask)
{
	struct ask *asked;
	int r = ask_new(mirrors, directory, run, &asked);

	if (r)
		return r;
	if (!ask_wait(asked, timeout_ns))
		return -ETIMEDOUT;
	r = asked->result;
	if (r)
		ask_free(asked);
	else
		*ret_ask = asked;
	return r;
}

static int look_run(struct ask *ask)
{
	return mirror_look(ask->directory, &ask->look);
}

int mirror_look_within(struct mirrors *mirrors, const char *directory, uint64_t timeout_ns,
		       struct mirror_look *ret_look)
{
	struct ask *asked;
	int r = ask(mirrors, directory, timeout_ns, look_run, &asked);

	if (r)
		return r;
	*ret_look = asked->look;
	ask_free(asked);
	return 0;
}

static int load_run(struct ask *ask)
{
	return mirror_load(ask->directory, &ask->look, &ask->rows);
}

int mirror_load_within(const char *directory, uint64_t timeout_ns, struct mirror_look *ret_look,
		       struct mirror_rows *ret_rows)
{
	struct ask *asked;
	int r = ask(NULL, directory, timeout_ns, load_run, &asked);

	if (r)
		return r;
	*ret_look = asked->look;
	*ret_rows = asked->rows;
	asked->rows = (struct mirror_rows){0};
	ask_free(asked);
	return 0;
}

static int stat_run(struct ask *ask)
{
	struct mirror_path path;
	struct world_stat stat;
	int r;

	mirror_path_of(ask->directory, NULL, 0, &path);
	r = io_stat(path.text, &stat);
	return r == 0 && !stat.is_directory ? -ENOTDIR : r;
}

bool catalog_mirror_was(struct catalog *catalog, const char *directory)
{
	struct mirrors *mirrors = &catalog->mirrors;
	struct ask *asked;
	int r = ask(mirrors, directory, mirrors->timeout_ns, stat_run, &asked);

	if (r)
		return false;
	ask_free(asked);
	return true;
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
