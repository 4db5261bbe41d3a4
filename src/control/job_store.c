/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Durable jobs in the catalog: key (CATALOG_JOB, number), value JSON text:
 *     {"kind": "vdisk.delete", "object": "a/b", "subject": 7, "state": "running", "created": ns}
 * with "error" when the state is "failed". A row that cannot be understood is logged and left.
 */
#include "control/job_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"

static struct catalog_key row_key(uint64_t id)
{
	struct catalog_key key = catalog_key(CATALOG_JOB);

	catalog_key_add(&key, id);
	return key;
}

int job_store_write(const struct job *job, enum job_state state)
{
	char name[METHOD_NAME_MAX];
	_cleanup_json_ json_t *row =
		json_pack("{s:s, s:s, s:I, s:s, s:I}", "kind", method_name(job->method, name),
			  "object", job->object, "subject", (json_int_t)job->subject, "state",
			  job_state_name(state), "created", (json_int_t)job->created_wall_ns);
	_cleanup_free_ char *text = NULL;
	struct catalog_change change = {.kind = CATALOG_PUT, .key = row_key(job->id)};

	if (state == JOB_FAILED)
		json_object_set_new(row, "error", error_to_object(&job->error));
	text = json_dumps(row, JSON_COMPACT);
	if (!text)
		return -ENOMEM;
	change.value = text;
	change.length = (uint32_t)strlen(text);
	return catalog_commit(job->jobs->catalog, &change, 1);
}

int job_store_remove(const struct job *job)
{
	struct catalog_change change = {.kind = CATALOG_DELETE, .key = row_key(job->id)};

	return catalog_commit(job->jobs->catalog, &change, 1);
}

static int parse_row(struct jobs *jobs, uint64_t id, const json_t *row)
{
	const char *kind, *object, *state;
	json_int_t subject, created;
	const struct method *method;
	struct job *job;

	if (json_unpack((json_t *)row, "{s:s, s:s, s:I, s:s, s:I}", "kind", &kind, "object",
			&object, "subject", &subject, "state", &state, "created", &created) < 0)
		return -EUCLEAN;
	method = method_find(kind);
	if (!method || !method->job)
		return -EUCLEAN;
	job = job_add(jobs, id, method, object, (uint64_t)subject);
	if (!job)
		return -ENOMEM;
	job->durable = true;
	job->created_wall_ns = (uint64_t)created;
	job->state = strcmp(state, "running") == 0  ? JOB_RUNNING
		     : strcmp(state, "failed") == 0 ? JOB_FAILED
						    : JOB_DONE;
	job->resumable = job->state == JOB_RUNNING;
	if (job->state == JOB_FAILED)
		error_from_json(json_object_get(row, "error"), &job->error);
	return 0;
}

int job_store_load(struct jobs *jobs)
{
	const struct catalog_key prefix = catalog_key(CATALOG_JOB);
	struct catalog_rows rows;
	int r = catalog_scan(jobs->catalog, &prefix, NULL, 0, &rows);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < rows.count; i++) {
		uint64_t id = catalog_key_number(&rows.rows[i].key, 0);
		_cleanup_json_ json_t *row =
			json_loadb((const char *)rows.rows[i].value, rows.rows[i].length, 0, NULL);

		r = parse_row(jobs, id, row);
		if (r != -EUCLEAN)
			continue;
		log_error("job", "ignoring a row that is not understood", "job=%" PRIu64, id);
		r = 0;
	}
	catalog_rows_done(&rows);
	return r;
}
