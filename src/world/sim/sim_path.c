/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on names: what survives of them is sim_tree.c's business. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "world/sim/sim_priv.h"

/* Resolves, then draws the fault of an operation on metadata. */
static int enter(struct sim *sim, const char *path, bool faulty, struct sim_place *ret_place)
{
	int r = sim_tree_resolve(sim, path, ret_place);
	bool draw = r == 0 && faulty;
	int gate = sim_gate(sim, draw ? ret_place->disk->faults.metadata_error_ppm : 0);

	if (gate == 0 && r == 0 && ret_place->disk->missing)
		return -ENOENT;
	return gate < 0 ? gate : r;
}

void sim_path_delay(struct sim *sim, struct sim_op *op)
{
	const struct sim_disk *disk = sim_tree_disk(sim, op->path.path, NULL);

	if (disk)
		sim_op_slow(op, disk->faults.slow_ppm, disk->faults.slow_ns);
}

static struct sim_op *submit(struct world_port *port, struct world_op *op, enum sim_op_kind kind,
			     const char *path, void *ret)
{
	struct sim_op *state = sim_op_init(port, op, kind);

	state->path.path = path;
	state->path.ret = ret;
	state->path.mark = ++port->sim->stamp;
	sim_op_submit(state);
	return state;
}

static int64_t path_stat_effect(struct sim *sim, struct sim_op *op)
{
	struct sim_place place;
	int r = enter(sim, op->path.path, false, &place);

	if (r < 0)
		return r;
	if (!place.node)
		return -ENOENT;
	op->path.out.stat = (struct world_stat){
		.size_bytes = place.node->size_bytes,
		.allocated_bytes = place.node->allocated_pages * SIM_PAGE_BYTES,
		.is_directory = place.node->directory != NULL,
	};
	return 0;
}

static void path_stat_finish(struct sim *sim, struct sim_op *op)
{
	if (op->result == 0)
		*(struct world_stat *)op->path.ret = op->path.out.stat;
}

const struct sim_op_type sim_path_stat_type = {
	.name = "path-stat",
	.delay = sim_path_delay,
	.effect = path_stat_effect,
	.finish = path_stat_finish,
};

void sim_path_stat(struct world_port *port, const char *path, struct world_stat *ret_stat,
		   struct world_op *op)
{
	(void)submit(port, op, SIM_OP_PATH_STAT, path, ret_stat);
}

static int check_rename(const struct sim_place *from, const struct sim_place *to)
{
	if (!from->node)
		return -ENOENT;
	if (from->disk != to->disk)
		return -EXDEV;
	if (from->disk->read_only)
		return -EROFS;
	if (!from->parent || !to->parent)
		return -EBUSY;
	if (from->node->directory && sim_tree_contains(from->node, to->parent))
		return -EINVAL;
	if (to->node && to->node->directory && !from->node->directory)
		return -EISDIR;
	if (to->node && !to->node->directory && from->node->directory)
		return -ENOTDIR;
	if (to->node && to->node != from->node && to->node->directory &&
	    to->node->directory->count > 0)
		return -ENOTEMPTY;
	return 0;
}

static int64_t rename_effect(struct sim *sim, struct sim_op *op)
{
	struct sim_place from, to;
	int r = enter(sim, op->path.path, true, &from);

	if (r < 0)
		return r;
	r = sim_tree_resolve(sim, op->path.to, &to);
	if (r < 0)
		return r;
	r = check_rename(&from, &to);
	if (r < 0)
		return r;
	if (to.node != from.node)
		sim_tree_move(&from, &to);
	return 0;
}

static void crash_coin(struct sim *sim, struct sim_op *op,
		       int64_t (*effect)(struct sim *sim, struct sim_op *op))
{
	if (sim_op_stage(op) == SIM_QUEUED && sim_random_coin(&sim->fate))
		(void)effect(sim, op);
}

static void rename_crash(struct sim *sim, struct sim_op *op)
{
	crash_coin(sim, op, rename_effect);
}

const struct sim_op_type sim_path_rename_type = {
	.name = "rename",
	.delay = sim_path_delay,
	.effect = rename_effect,
	.crash = rename_crash,
};

void sim_path_rename(struct world_port *port, const char *from, const char *to, struct world_op *op)
{
	submit(port, op, SIM_OP_RENAME, from, NULL)->path.to = to;
}

int sim_path_do_unlink(struct sim *sim, const char *path)
{
	struct sim_place place;
	int r = enter(sim, path, true, &place);

	if (r < 0)
		return r;
	if (!place.node)
		return -ENOENT;
	if (place.node->directory)
		return -EISDIR;
	if (place.disk->read_only)
		return -EROFS;
	sim_tree_unlink(&place);
	return 0;
}

static int64_t unlink_effect(struct sim *sim, struct sim_op *op)
{
	return sim_path_do_unlink(sim, op->path.path);
}

static void unlink_crash(struct sim *sim, struct sim_op *op)
{
	crash_coin(sim, op, unlink_effect);
}

const struct sim_op_type sim_path_unlink_type = {
	.name = "unlink",
	.delay = sim_path_delay,
	.effect = unlink_effect,
	.crash = unlink_crash,
};

void sim_path_unlink(struct world_port *port, const char *path, struct world_op *op)
{
	(void)submit(port, op, SIM_OP_UNLINK, path, NULL);
}

static int64_t directory_make_effect(struct sim *sim, struct sim_op *op)
{
	struct sim_place place;
	struct sim_node *node;
	int r = enter(sim, op->path.path, true, &place);

	if (r < 0)
		return r;
	if (place.node)
		return -EEXIST;
	if (!place.parent->directory)
		return -ENOTDIR;
	if (place.disk->read_only)
		return -EROFS;
	node = sim_tree_node_new(place.disk, true);
	sim_tree_link(&place, node);
	sim_node_unref(node);
	return 0;
}

static void directory_make_crash(struct sim *sim, struct sim_op *op)
{
	crash_coin(sim, op, directory_make_effect);
}

const struct sim_op_type sim_path_directory_make_type = {
	.name = "directory-make",
	.delay = sim_path_delay,
	.effect = directory_make_effect,
	.crash = directory_make_crash,
};

void sim_path_directory_make(struct world_port *port, const char *path, struct world_op *op)
{
	(void)submit(port, op, SIM_OP_DIRECTORY_MAKE, path, NULL);
}

static int enter_directory(struct sim *sim, const char *path, bool faulty,
			   struct sim_place *ret_place)
{
	int r = enter(sim, path, faulty, ret_place);

	if (r < 0)
		return r;
	if (!ret_place->node)
		return -ENOENT;
	return ret_place->node->directory ? 0 : -ENOTDIR;
}

static int64_t directory_list_effect(struct sim *sim, struct sim_op *op)
{
	struct world_names *names = &op->path.out.names;
	const struct sim_directory *directory;
	struct sim_place place;
	int r = enter_directory(sim, op->path.path, false, &place);

	if (r < 0)
		return r;
	directory = place.node->directory;
	names->names = calloc(directory->count + 1, sizeof(*names->names));
	ASSERT(names->names);
	for (; names->count < directory->count; names->count++) {
		names->names[names->count] = strdup(directory->entries[names->count].name);
		ASSERT(names->names[names->count]);
	}
	return 0;
}

static void directory_list_finish(struct sim *sim, struct sim_op *op)
{
	if (op->result == 0)
		*(struct world_names *)op->path.ret = op->path.out.names;
	else
		world_names_free(&op->path.out.names);
}

const struct sim_op_type sim_path_directory_list_type = {
	.name = "directory-list",
	.delay = sim_path_delay,
	.effect = directory_list_effect,
	.finish = directory_list_finish,
};

void sim_path_directory_list(struct world_port *port, const char *path,
			     struct world_names *ret_names, struct world_op *op)
{
	(void)submit(port, op, SIM_OP_DIRECTORY_LIST, path, ret_names);
}

int sim_path_do_directory_sync(struct sim *sim, const char *path, uint64_t mark)
{
	struct sim_place place;
	int r = enter_directory(sim, path, true, &place);

	if (r < 0)
		return r;
	if (place.disk->read_only && place.node->directory->change_count > 0)
		return -EROFS;
	sim_tree_sync(place.node, sim_random_coin(&sim->fate) ? UINT64_MAX : mark);
	return 0;
}

static int64_t directory_sync_effect(struct sim *sim, struct sim_op *op)
{
	return sim_path_do_directory_sync(sim, op->path.path, op->path.mark);
}

static void directory_sync_crash(struct sim *sim, struct sim_op *op)
{
	crash_coin(sim, op, directory_sync_effect);
}

const struct sim_op_type sim_path_directory_sync_type = {
	.name = "directory-sync",
	.delay = sim_path_delay,
	.effect = directory_sync_effect,
	.crash = directory_sync_crash,
};

void sim_path_directory_sync(struct world_port *port, const char *path, struct world_op *op)
{
	(void)submit(port, op, SIM_OP_DIRECTORY_SYNC, path, NULL);
}

static int64_t fs_stat_effect(struct sim *sim, struct sim_op *op)
{
	struct sim_place place;
	uint64_t used;
	int r = enter(sim, op->path.path, false, &place);

	if (r < 0)
		return r;
	if (!place.node)
		return -ENOENT;
	used = place.disk->used_pages + place.disk->taken_pages;
	op->path.out.fs_stat = (struct world_fs_stat){
		.total_bytes = place.disk->capacity_pages * SIM_PAGE_BYTES,
		.free_bytes = (place.disk->capacity_pages - MIN(used, place.disk->capacity_pages)) *
			      SIM_PAGE_BYTES,
		.id = place.disk->number,
		.read_only = place.disk->read_only,
	};
	return 0;
}

static void fs_stat_finish(struct sim *sim, struct sim_op *op)
{
	if (op->result == 0)
		*(struct world_fs_stat *)op->path.ret = op->path.out.fs_stat;
}

const struct sim_op_type sim_path_fs_stat_type = {
	.name = "fs-stat",
	.delay = sim_path_delay,
	.effect = fs_stat_effect,
	.finish = fs_stat_finish,
};

void sim_path_fs_stat(struct world_port *port, const char *path, struct world_fs_stat *ret_stat,
		      struct world_op *op)
{
	(void)submit(port, op, SIM_OP_FS_STAT, path, ret_stat);
}
