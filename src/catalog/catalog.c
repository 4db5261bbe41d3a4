/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog's front: takes calls from fibers of all reactors, hands them to the store in batches.
 *
 * A call lives on the stack of its fiber. It goes to the catalog's home reactor (the one that
 * opened it) as a message, waits in a queue there, is run by a worker thread with all others that
 * wait, and goes back as a message.
 *
 * Invariants
 *  1. At most one job runs; the store belongs to it until `done`. Only then are `running` and the
 *     store looked at on the home reactor again.
 *  2. A call is in one of: on its way, `reads`, `writes`, `running`; it is answered exactly once.
 *  3. Reads and writes take turns, so that neither starves; upkeep goes first when it is wanted.
 *  4. After a write nothing runs until the mirrors are through with it (mirror.c): so what a read
 *     sees, all mirrors in good standing have. The calls of the write are `held` meanwhile.
 *
 * Failure modes: in a dead world jobs end with -ESHUTDOWN and so do all calls.
 */
#include "catalog/catalog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/macros.h"
#include "catalog/catalog_priv.h"
#include "reactor/io.h"

static void job_done(struct world_op *op, int64_t result);

static void job_work(void *arg)
{
	struct catalog *catalog = arg;

	switch (catalog->job) {
	case JOB_READ:
		store_read(catalog->store, &catalog->running);
		break;
	case JOB_WRITE:
		store_write(catalog->store, &catalog->running);
		break;
	case JOB_UPKEEP:
		store_upkeep(catalog->store);
		break;
	}
}

static bool job_choose(struct catalog *catalog)
{
	bool has_reads = !list_is_empty(&catalog->reads);
	bool has_writes = !list_is_empty(&catalog->writes);

	if (catalog->upkeep)
		catalog->job = JOB_UPKEEP;
	else if (has_reads && (!has_writes || catalog->job != JOB_READ))
		catalog->job = JOB_READ;
	else if (has_writes)
		catalog->job = JOB_WRITE;
	else
		return false;
	return true;
}

static void job_submit(struct catalog *catalog)
{
	catalog->busy = true;
	catalog->op = (struct world_op){.done = job_done};
	catalog->world->ops->job(reactor_port(catalog->home), job_work, catalog, &catalog->op);
}

void catalog_job_start(struct catalog *catalog)
{
	reactor_assert_home(catalog->home);
	if (catalog->busy)
		return;
	if (mirrors_must_tell(catalog)) {
		catalog->busy = true;
		mirrors_tell(catalog);
		return;
	}
	if (!job_choose(catalog)) {
		fiber_queue_wake_all(&catalog->idle);
		return;
	}
	if (catalog->job == JOB_READ)
		list_splice_back(&catalog->running, &catalog->reads);
	else if (catalog->job == JOB_WRITE)
		list_splice_back(&catalog->running, &catalog->writes);
	catalog->upkeep = false;
	job_submit(catalog);
}

void catalog_job_row(struct catalog *catalog)
{
	ASSERT(catalog->busy && list_is_empty(&catalog->running));
	catalog->job = JOB_WRITE;
	list_push_back(&catalog->running, &catalog->mirrors.row_request.link);
	job_submit(catalog);
}

static void start_hook(struct reactor_hook *hook)
{
	catalog_job_start(CONTAINER_OF(hook, struct catalog, hook));
}

static void call_wake(struct call *call)
{
	call->finished = true;
	fiber_wake(call->fiber);
}

static void call_return(struct world_message *message)
{
	call_wake(CONTAINER_OF(message, struct call, message));
}

/* The call may be gone when this returns. */
static void call_finish(struct call *call)
{
	if (call->reactor == call->catalog->home) {
		call_wake(call);
		return;
	}
	call->message.run = call_return;
	reactor_post(call->reactor, &call->message);
}

/* The world died while the job was under way: whatever it did has no effect. */
static void request_kill(struct store_request *request)
{
	if (request->kind == STORE_GET && request->result == 0)
		catalog_row_done(&request->get.row);
	if (request->kind == STORE_SCAN && request->result == 0)
		catalog_rows_done(&request->scan.rows);
	if (request->kind == STORE_DUMP && request->result == 0)
		catalog_rows_done(&request->dump.rows);
	request->result = -ESHUTDOWN;
}

static void requests_finish(struct list *requests)
{
	struct store_request *request;

	LIST_FOR_EACH (requests, request, struct store_request, link) {
		list_remove(&request->link);
		call_finish(CONTAINER_OF(request, struct call, request));
	}
}

static void requests_fail(struct list *requests, int error)
{
	struct store_request *request;

	LIST_FOR_EACH (requests, request, struct store_request, link)
		if (request->result == 0)
			request->result = error;
}

static void note_errors(struct catalog *catalog)
{
	struct store_request *request;

	LIST_FOR_EACH (&catalog->held, request, struct store_request, link) {
		int r = request->result;

		if (r == 0 || r == -EIO || r == -EROFS || r == -ENOSPC || r == -ENOTRECOVERABLE)
			catalog->write_error = r;
	}
}

int catalog_get_error(struct catalog *catalog)
{
	reactor_assert_home(catalog->home);
	return catalog->write_error;
}

void catalog_write_end(struct catalog *catalog, int error)
{
	struct store_request *request;

	ASSERT(catalog->busy && list_is_empty(&catalog->running));
	if (error) {
		/* What is known to have no effect keeps its own result. */
		requests_fail(&catalog->held, error);
		LIST_FOR_EACH (&catalog->writes, request, struct store_request, link)
			request->result = error;
		list_splice_back(&catalog->held, &catalog->writes);
	}
	note_errors(catalog);
	requests_finish(&catalog->held);
	catalog->upkeep = store_wants_upkeep(catalog->store);
	catalog->busy = false;
	catalog_job_start(catalog);
}

static void job_done(struct world_op *op, int64_t result)
{
	struct catalog *catalog = CONTAINER_OF(op, struct catalog, op);
	struct store_request *request;

	reactor_assert_home(catalog->home);
	if (result < 0)
		LIST_FOR_EACH (&catalog->running, request, struct store_request, link)
			request_kill(request);
	if (catalog->mirrors.stage == MIRRORS_ROW) {
		(void)list_pop_front(&catalog->running); /* the row's */
		mirrors_row_written(catalog);
		return;
	}
	if (catalog->job == JOB_WRITE) {
		list_splice_back(&catalog->held, &catalog->running);
		mirrors_written(catalog);
		return;
	}
	requests_finish(&catalog->running);
	catalog->busy = false;
	catalog_job_start(catalog);
}

static void call_enqueue(struct call *call)
{
	struct catalog *catalog = call->catalog;
	bool is_read = call->request.kind != STORE_COMMIT && call->request.kind != STORE_IDS;

	list_push_back(is_read ? &catalog->reads : &catalog->writes, &call->request.link);
	reactor_hook_arm(catalog->home, &catalog->hook);
}

static void call_arrive(struct world_message *message)
{
	call_enqueue(CONTAINER_OF(message, struct call, message));
}

int catalog_call_run(struct catalog *catalog, struct call *call)
{
	ASSERT(fiber_current());
	call->catalog = catalog;
	call->reactor = reactor_current();
	call->fiber = fiber_current();
	call->request.result = -ESHUTDOWN;
	if (call->reactor == catalog->home) {
		call_enqueue(call);
	} else {
		call->message.run = call_arrive;
		reactor_post(catalog->home, &call->message);
	}
	while (!call->finished)
		fiber_suspend();
	return call->request.result;
}

int catalog_get(struct catalog *catalog, const struct catalog_key *key, struct catalog_row *ret_row)
{
	struct call call = {.request = {.kind = STORE_GET, .get.key = key}};
	int r = catalog_call_run(catalog, &call);

	if (r == 0)
		*ret_row = call.request.get.row;
	return r;
}

static int scan(struct catalog *catalog, struct call *call, struct catalog_rows *ret_rows)
{
	int r;

	ASSERT(call->request.scan.prefix->length > 0);
	r = catalog_call_run(catalog, call);
	if (r == 0)
		*ret_rows = call->request.scan.rows;
	return r;
}

int catalog_scan(struct catalog *catalog, const struct catalog_key *prefix,
		 const struct catalog_key *after, size_t limit, struct catalog_rows *ret_rows)
{
	struct call call = {
		.request = {.kind = STORE_SCAN,
			    .scan = {.prefix = prefix, .after = after, .limit = limit}}};

	return scan(catalog, &call, ret_rows);
}

int catalog_scan_all(struct catalog *catalog, const struct catalog_key *prefix,
		     const struct catalog_key *after, size_t limit, struct catalog_rows *ret_rows)
{
	struct call call = {
		.request = {
			.kind = STORE_SCAN,
			.scan = {.prefix = prefix, .after = after, .limit = limit, .all = true}}};

	return scan(catalog, &call, ret_rows);
}

bool catalog_is_whole(const struct catalog *catalog)
{
	return !catalog->damaged;
}

int catalog_commit(struct catalog *catalog, const struct catalog_change *changes, size_t count)
{
	struct call call = {
		.request = {.kind = STORE_COMMIT, .commit = {.changes = changes, .count = count}}};

	for (size_t i = 0; i < count; i++) {
		ASSERT(changes[i].key.length > 0 && changes[i].key.length <= CATALOG_KEY_MAX);
		if (changes[i].kind == CATALOG_PUT && changes[i].length > CATALOG_VALUE_MAX)
			return -E2BIG;
	}
	return catalog_call_run(catalog, &call);
}

int catalog_reserve_ids(struct catalog *catalog, const char *counter, uint64_t count,
			uint64_t *ret_first)
{
	struct call call = {
		.request = {.kind = STORE_IDS, .ids = {.counter = counter, .count = count}}};
	int r;

	ASSERT(count > 0);
	r = catalog_call_run(catalog, &call);
	if (r == 0)
		*ret_first = call.request.ids.first;
	return r;
}

int catalog_name_find(struct catalog *catalog, enum catalog_name_kind kind, uint64_t parent,
		      const char *name, uint64_t *ret_id)
{
	_cleanup_(catalog_row_done) struct catalog_row row = {0};
	struct catalog_key key = catalog_name_key(kind, parent, name);
	int r = catalog_get(catalog, &key, &row);

	if (r)
		return r;
	if (row.length != sizeof(uint64_t)) {
		log_error("catalog", "the row of a name is damaged", "name=\"%s\" length=%u", name,
			  row.length);
		return -EUCLEAN;
	}
	*ret_id = get_le64(row.value);
	return 0;
}

struct open_job {
	const struct catalog_options *options;
	struct store *store;
	int result;
};

static void open_work(void *arg)
{
	struct open_job *job = arg;

	job->result = store_open(job->options, &job->store);
}

static void close_work(void *arg)
{
	struct store **store = arg;

	store_close(*store);
	*store = NULL;
}

static void store_close_somewhere(struct store *store)
{
	/* A world that dies may have run the job or not; its disk does not block. */
	if (store && io_job(close_work, &store) != 0)
		store_close(store);
}

/* The entries of the database and of its WAL are durable before anything is promised. */
static int sync_directory_of(const char *path)
{
	_cleanup_free_ char *directory = strdup(path);
	char *slash;

	if (!directory)
		return -ENOMEM;
	slash = strrchr(directory, '/');
	if (!slash)
		return io_directory_sync(".");
	slash[slash == directory ? 1 : 0] = '\0';
	return io_directory_sync(directory);
}

static int open_store(const struct catalog_options *options, struct store **ret_store)
{
	struct open_job job = {.options = options};
	int r = io_job(open_work, &job);

	if (r == 0)
		r = job.result;
	if (r == 0)
		r = sync_directory_of(options->path);
	if (r) {
		store_close_somewhere(job.store);
		return r;
	}
	*ret_store = job.store;
	return 0;
}

static void check_work(void *arg)
{
	struct open_job *job = arg;

	job->result = store_check(job->store);
}

/* A damaged row concerns only what it is about, unless a mirror has it. */
static int check_store(struct store *store)
{
	struct open_job job = {.store = store};
	int r = io_job(check_work, &job);

	return r ? r : job.result;
}

static int open_checked(const struct catalog_options *options, struct store **ret_store)
{
	struct store *store;
	int r = open_store(options, &store);

	if (r)
		return r;
	r = check_store(store);
	if (r)
		store_close_somewhere(store);
	else
		*ret_store = store;
	return r;
}

/* The database is missing or damaged, and mirrors of it are known. */
static int open_instead(struct world *world, const struct catalog_options *options,
			struct catalog_report *report, struct store **ret_store)
{
	int r = mirror_restore(world, options, NULL, report);

	if (r == 0)
		return open_store(options, ret_store);
	if (report->damage == -ENOENT || (r != -ENODATA && r != -EUCLEAN))
		return r;
	/* Without a mirror that can replace it, what can be read is served. */
	return open_store(options, ret_store);
}

/* The database at the path, or one made again from a mirror. */
static int open_or_restore(struct world *world, const struct catalog_options *options,
			   struct catalog_report *report, struct store **ret_store)
{
	struct catalog_options own = *options;
	bool has_mirrors;
	int r = mirror_hint_find(options->path, &has_mirrors);

	if (r == 0 && options->restore_from)
		r = mirror_restore(world, options, options->restore_from, report);
	if (r)
		return r;
	own.create = options->create && !has_mirrors && !report->restored;
	r = open_checked(&own, ret_store);
	if (r == -EUCLEAN && !has_mirrors) {
		report->damage = r;
		return open_store(&own, ret_store); /* as far as it can be read */
	}
	if ((r != -EUCLEAN && r != -ENOENT) || !has_mirrors || report->restored)
		return r;
	report->damage = r;
	return open_instead(world, &own, report, ret_store);
}

static int open_parts(struct world *world, const struct catalog_options *options,
		      struct catalog_report *report, struct catalog **ret_catalog)
{
	struct catalog *catalog;
	struct store *store;
	int r;

	ASSERT(fiber_current());
	r = open_or_restore(world, options, report, &store);
	if (r)
		return r;
	catalog = calloc(1, sizeof(*catalog));
	if (!catalog) {
		store_close_somewhere(store);
		return -ENOMEM;
	}
	catalog->world = world;
	catalog->home = reactor_current();
	catalog->store = store;
	catalog->damaged = report->damage == -EUCLEAN && !report->restored;
	if (catalog->damaged)
		store_set_damaged(store);
	list_init(&catalog->reads);
	list_init(&catalog->writes);
	list_init(&catalog->running);
	list_init(&catalog->held);
	fiber_queue_init(&catalog->idle);
	reactor_hook_init(&catalog->hook, start_hook);
	mirrors_init(&catalog->mirrors);
	r = mirrors_open(catalog, options, report);
	if (r) {
		catalog_close(catalog);
		return r;
	}
	*ret_catalog = catalog;
	return 0;
}

int catalog_open(struct world *world, const struct catalog_options *options,
		 struct catalog **ret_catalog)
{
	_cleanup_free_ struct catalog_report *unwanted = NULL;
	struct catalog_report *report = options->report;

	if (!report)
		report = unwanted = calloc(1, sizeof(*report));
	if (!report)
		return -ENOMEM;
	*report = (struct catalog_report){0};
	return open_parts(world, options, report, ret_catalog);
}

static bool is_idle(const struct catalog *catalog)
{
	return !catalog->busy && list_is_empty(&catalog->reads) && list_is_empty(&catalog->writes);
}

void catalog_close(struct catalog *catalog)
{
	if (!catalog)
		return;
	reactor_assert_home(catalog->home);
	mirrors_stop(catalog);
	while (!is_idle(catalog))
		fiber_queue_wait(&catalog->idle);
	mirrors_close(catalog);
	reactor_hook_disarm(&catalog->hook);
	store_close_somewhere(catalog->store);
	free(catalog);
}
