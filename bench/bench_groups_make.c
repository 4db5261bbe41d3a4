/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_groups.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench_rig.h"
#include "egroup/store.h"
#include "pool/container.h"
#include "reactor/io.h"
#include "vdisk/rows.h"

#define BATCH 200u

static int make_vdisk(struct groups_make *make)
{
	char path[4096];
	struct pool_spec spec = {.name = "bench", .directory = path, .capacity_bytes = 4 * GIB};
	struct vdisk_spec vdisk = {
		.name = "disk", .size_bytes = VDISK_MAX_BYTES, .block_bytes = 4096};
	struct pool *pool = NULL;
	int r;

	snprintf(path, sizeof(path), "%s/pool", make->directory);
	r = pool_create(make->world, make->catalog, &spec, &make->pool_id);
	if (r == 0)
		r = pool_open(make->world, make->catalog, make->pool_id, &pool);
	if (r == 0)
		r = container_create(make->catalog, make->world, make->pool_id, "c",
				     &vdisk.container_id);
	if (r == 0)
		r = vdisk_create(pool, &vdisk, &make->vdisk_id);
	pool_close(pool);
	return r;
}

/* One more than there are groups of the log: the last is the map's. */
static int reserve(struct groups_make *make, const char *format, uint64_t *ret_first)
{
	char counter[64];

	snprintf(counter, sizeof(counter), format, make->pool_id);
	return catalog_reserve_ids(make->catalog, counter, make->groups + 1, ret_first);
}

static int open_file(const struct groups_make *make, uint64_t id, uint64_t bytes)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/pool/groups/%02x/%016" PRIx64 ".eg", make->directory,
		 (unsigned)(id & 0xff), id);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		bench_fail(path, -errno);
	return fd;
}

/* On a thread of the world's: it blocks. */
static void make_files(void *arg)
{
	const struct groups_make *make = arg;

	for (uint64_t i = 0; i < make->groups; i++)
		(void)close(open_file(make, make->first_file + i, BLOCK_BYTES)); /* not written */
}

struct row_pair {
	uint8_t group[EGROUP_ROW_BYTES], file[EGROUP_ROW_BYTES];
};

/* Number n of the groups; `slots` long, of one file. */
static void make_rows(const struct groups_make *make, uint64_t n, uint32_t slots,
		      struct row_pair *values, struct catalog_change *changes)
{
	struct egroup_file file = {.id = make->first_file + n,
				   .allocated_bytes = (uint64_t)slots * BLOCK_BYTES,
				   .copies = {.count = 1, .disks = {1}}};
	const struct egroup group = {.id = make->first_group + n,
				     .stream = n < make->groups ? RECORD_STREAM_LOG
								: RECORD_STREAM_PAGES,
				     .epoch = 1,
				     .slots = slots,
				     .sealed = true,
				     .file = &file};

	egroup_row(&group, values->group);
	egroup_file_row(&file, values->file);
	changes[0] = (struct catalog_change){
		.kind = CATALOG_PUT,
		.key = egroup_prefix(CATALOG_EGROUP, make->pool_id, make->vdisk_id),
		.value = values->group,
		.length = EGROUP_ROW_BYTES};
	catalog_key_add(&changes[0].key, group.id);
	changes[1] = (struct catalog_change){
		.kind = CATALOG_PUT,
		.key = egroup_prefix(CATALOG_EGFILE, make->pool_id, make->vdisk_id),
		.value = values->file,
		.length = EGROUP_ROW_BYTES};
	catalog_key_add(&changes[1].key, file.id);
}

static int make_log(const struct groups_make *make)
{
	static struct catalog_change changes[2 * BATCH];
	static struct row_pair values[BATCH];
	int r = 0;

	for (uint64_t done = 0; r == 0 && done < make->groups;) {
		unsigned count = (unsigned)MIN((uint64_t)BATCH, make->groups - done);

		for (unsigned i = 0; i < count; i++, done++)
			make_rows(make, done, 1, &values[i], &changes[2 * i]);
		r = catalog_commit(make->catalog, changes, 2 * (size_t)count);
	}
	return r;
}

struct tree {
	const struct groups_make *make;
	struct page_disk *pages;
	struct map_entry *entries; /* of the level that was made last */
	uint64_t count;            /* of them */
	uint32_t slots;            /* pages so far */
	unsigned level;
};

/* The pages of one level, over the entries; then they are what the entries name. */
static void make_level(struct tree *tree)
{
	uint64_t pages = DIV_ROUND_UP(tree->count, MAP_FANOUT);

	for (uint64_t i = 0; i < pages; i++) {
		const struct page_id id = {
			.vdisk = tree->make->vdisk_id, .index = i, .level = tree->level};
		struct map_entry own[MAP_FANOUT] = {0};

		for (uint64_t n = 0; n < MIN((uint64_t)MAP_FANOUT, tree->count - i * MAP_FANOUT);
		     n++)
			own[n] = tree->entries[i * MAP_FANOUT + n];
		tree->entries[i].crc = page_encode(&tree->pages[tree->slots], &id, 1, own, NULL);
		tree->entries[i].address =
			address_make(tree->make->first_group + tree->make->groups, tree->slots++);
	}
	tree->count = pages;
}

static void write_pages(void *arg)
{
	const struct tree *tree = arg;
	size_t bytes = tree->slots * sizeof(struct page_disk);
	int fd = open_file(tree->make, tree->make->first_file + tree->make->groups, bytes);

	if (write(fd, tree->pages, bytes) != (ssize_t)bytes || close(fd) < 0)
		bench_fail("the map", -EIO);
}

static int commit_map(const struct tree *tree)
{
	const struct groups_make *make = tree->make;
	struct vdisk_row row;
	uint8_t value[VDISK_ROW_BYTES];
	struct row_pair values;
	struct catalog_change changes[3];
	int r = vdisk_row_get(make->catalog, make->vdisk_id, &row);

	if (r < 0)
		return r;
	row.root = tree->entries[0];
	row.root_level = tree->level - 1;
	row.live_slots = make->groups + tree->slots;
	vdisk_row_encode(&row, value);
	make_rows(make, make->groups, tree->slots, &values, changes);
	changes[2] = (struct catalog_change){.kind = CATALOG_PUT,
					     .key = vdisk_row_key(make->vdisk_id),
					     .value = value,
					     .length = sizeof(value)};
	return catalog_commit(make->catalog, changes, 3);
}

static int make_map(const struct groups_make *make)
{
	struct tree tree = {.make = make, .count = make->groups};
	int r = -ENOMEM;

	tree.entries = calloc(make->groups, sizeof(*tree.entries));
	tree.pages = calloc(make->groups / MAP_FANOUT * 2 + 8, sizeof(*tree.pages));
	for (uint64_t i = 0; tree.entries && i < make->groups; i++)
		tree.entries[i].address = address_make(make->first_group + i, 0);
	if (tree.entries && tree.pages) {
		for (; tree.level < 2 || tree.count > 1; tree.level++)
			make_level(&tree);
		r = io_job(write_pages, &tree);
		if (r == 0)
			r = commit_map(&tree);
	}
	free(tree.entries);
	free(tree.pages);
	return r;
}

int groups_make(struct groups_make *make)
{
	int r = make_vdisk(make);

	if (r == 0)
		r = reserve(make, "egroup/%016" PRIx64, &make->first_group);
	if (r == 0)
		r = reserve(make, "pool/%016" PRIx64 "/file", &make->first_file);
	if (r == 0)
		r = io_job(make_files, make);
	if (r == 0)
		r = make_log(make);
	return r == 0 ? make_map(make) : r;
}
