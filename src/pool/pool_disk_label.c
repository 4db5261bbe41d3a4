/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The label of a disk, held against its row: when the disk is found, when it is in doubt, and by a
 * scrub. What a label says stands in the rows, too; so one that is damaged is written anew, where
 * what is left of it proves that it was this disk's (pool_label_resembles()).
 *
 * The new one is written beside the old and takes its place in one step: a crash leaves either, and
 * perhaps label.new, which a disk with a label does not look at. Home: the pool's; in fibers.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/reached.h"
#include "pool/pool_priv.h"
#include "pool/pool_watch.h"

/* A crash between the disk's row and the last step of making it leaves label.new. */
static int label_find(const struct pool_disk *disk, struct pool_path *ret_path,
		      struct pool_label *ret_label, bool *ret_is_new)
{
	int r;

	pool_path_of(disk->row.directory, "label", ret_path);
	r = pool_label_read(ret_path->text, ret_label);
	*ret_is_new = false;
	if (r != -ENOENT)
		return r;
	pool_path_of(disk->row.directory, "label.new", ret_path);
	*ret_is_new = true;
	return pool_label_read(ret_path->text, ret_label);
}

/* Once, not each time it is searched for. */
static void warn_foreign(const struct pool_disk *disk, const struct pool_label *label)
{
	const struct pool *pool = disk->pool;

	if (pool->keeper_runs && pool_disk_is_gone(disk))
		return;
	log_error("pool", "the directory belongs to another pool or disk",
		  "pool=%s disk=%" PRIu64 " directory=\"%s\" label=%s label_id=%" PRIu64
		  " label_disk=%" PRIu64,
		  pool->name, disk->id, disk->row.directory, label->name, label->pool_id,
		  label->disk_id);
}

static void label_of(const struct pool_disk *disk, struct pool_label *ret_label)
{
	*ret_label = (struct pool_label){.pool_id = disk->pool->id,
					 .disk_id = disk->id,
					 .created_wall_ns = disk->row.created_wall_ns};
	memcpy(ret_label->uuid, disk->row.uuid, sizeof(ret_label->uuid));
	memcpy(ret_label->name, disk->pool->name, sizeof(ret_label->name));
}

static int write_anew(const struct pool_disk *disk, const struct pool_label *label)
{
	int r = pool_directory_label(disk->row.directory, label);

	if (r == 0)
		r = pool_directory_rename_label(disk->row.directory, "label.new", "label");
	if (r && r != -ESHUTDOWN)
		log_error("pool", "a damaged label cannot be written anew",
			  "pool=%s disk=%" PRIu64 " directory=\"%s\" error=%d", disk->pool->name,
			  disk->id, disk->row.directory, r);
	if (r)
		return r;
	REACHED("pool.label-put-right");
	log_warning("pool", "a damaged label was written anew",
		    "pool=%s disk=%" PRIu64 " directory=\"%s\"", disk->pool->name, disk->id,
		    disk->row.directory);
	return 0;
}

static int check(const struct pool_disk *disk, bool read_only, bool *ret_put_right)
{
	struct pool_label label, expected;
	struct pool_path path;
	bool is_new;
	int r = label_find(disk, &path, &label, &is_new);

	*ret_put_right = false;
	label_of(disk, &expected);
	if (r == -EUCLEAN) {
		r = pool_label_resembles(path.text, &expected);
		if (r || read_only)
			return r;
		r = write_anew(disk, &expected);
		*ret_put_right = r == 0;
		return r;
	}
	if (r == -ENOENT || r == -ENOTDIR)
		return -ENODEV;
	if (r)
		return r;
	if (label.pool_id != expected.pool_id || label.disk_id != expected.disk_id ||
	    memcmp(label.uuid, expected.uuid, sizeof(label.uuid)) != 0) {
		warn_foreign(disk, &label);
		return -ENODEV;
	}
	if (!is_new || read_only)
		return 0;
	return pool_directory_rename_label(disk->row.directory, "label.new", "label");
}

int pool_disk_check_label(const struct pool_disk *disk, bool read_only)
{
	bool put_right;

	return check(disk, read_only, &put_right);
}

/* Of a disk that hangs nobody waits for its end, where it can be spared. */
struct scrub {
	struct pool_disk *disk;
	bool put_right;
};

static int scrub_run(void *arg)
{
	struct scrub *scrub = arg;
	struct pool_disk *disk = scrub->disk;
	int r = check(disk, pool_disk_state_of(disk) == POOL_DISK_READ_ONLY, &scrub->put_right);

	if (r == -EUCLEAN || scrub->put_right)
		pool_disk_report_mismatch(disk->pool, disk->id);
	else
		(void)pool_disk_note(disk, POOL_DISK_READS, r == -ENODEV ? -ENOENT : r);
	return r;
}

static void scrub_dropped(void *arg, int result)
{
	(void)result;
	free(arg);
}

struct scrub_call { /* to the pool's home and back */
	struct pool *pool;
	uint64_t id;
	bool put_right;
};

static int scrub_at_home(void *arg)
{
	static const struct pool_flow_ops ops = {scrub_run, scrub_dropped};
	struct scrub_call *call = arg;
	struct pool_disk *disk = pool_disk_by_id(call->pool, call->id);
	struct scrub *scrub;
	int r;

	if (!disk)
		return -ENOENT;
	if (pool_disk_is_gone(disk) || disk->leaving)
		return 0;
	scrub = calloc(1, sizeof(*scrub));
	if (!scrub)
		return -ENOMEM;
	scrub->disk = disk;
	r = pool_flow(disk, &ops, scrub);
	if (r == -ETIMEDOUT) /* and it was dropped */
		return r;
	call->put_right = scrub->put_right;
	free(scrub);
	return r;
}

int pool_disk_scrub_label(struct pool *pool, uint64_t id, bool *ret_put_right)
{
	struct scrub_call call = {.pool = pool, .id = id};
	int r = pool_carry(pool, scrub_at_home, &call);

	if (r == 0)
		*ret_put_right = call.put_right;
	return r;
}
