/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks and their directories.
 *
 * A directory keeps its names as they are now and, in order, the changes that are not durable.
 * On a loss of power a random number of the last changes of each directory is taken back. The
 * changes of one rename form a transaction, which survives as a whole even when it concerns
 * two directories.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/reached.h"
#include "world/sim/sim_priv.h"

struct sim_transaction {
	unsigned refs;
	bool undone;
	uint64_t stamp;
	struct sim_node *directories[2]; /* [1] is NULL unless two are concerned */
};

static bool has_prefix(const char *path, const char *root)
{
	size_t length = strlen(root);

	return strncmp(path, root, length) == 0 &&
	       (path[length] == '/' || path[length] == '\0' ||
		(length > 0 && root[length - 1] == '/'));
}

struct sim_disk *sim_tree_disk(struct sim *sim, const char *path, const char **ret_rest)
{
	struct sim_disk *disk, *best = NULL;

	LIST_FOR_EACH (&sim->disks, disk, struct sim_disk, link)
		if (has_prefix(path, disk->root) &&
		    (!best || strlen(disk->root) > strlen(best->root)))
			best = disk;
	if (best && ret_rest)
		*ret_rest = path + strlen(best->root);
	return best;
}

struct sim_node *sim_tree_node_new(struct sim_disk *disk, bool directory)
{
	struct sim_node *node = calloc(1, sizeof(*node));

	ASSERT(node);
	node->disk = disk;
	node->refs = 1;
	node->id = disk->next_node_id++;
	list_push_back(&disk->nodes, &node->link);
	if (directory) {
		node->directory = calloc(1, sizeof(*node->directory));
		ASSERT(node->directory);
	}
	return node;
}

struct sim_disk *sim_tree_disk_new(struct sim *sim, const char *root, uint64_t capacity_bytes)
{
	struct sim_disk *disk = calloc(1, sizeof(*disk));
	size_t length = strlen(root);

	ASSERT(disk);
	disk->sim = sim;
	disk->number = ++sim->disk_count;
	while (length > 1 && root[length - 1] == '/')
		length--;
	disk->root = strndup(root, length);
	ASSERT(disk->root);
	disk->capacity_pages = capacity_bytes / SIM_PAGE_BYTES;
	list_init(&disk->nodes);
	disk->root_node = sim_tree_node_new(disk, true);
	list_push_back(&sim->disks, &disk->link);
	return disk;
}

static void transaction_unref(struct sim_transaction *transaction)
{
	if (--transaction->refs == 0)
		free(transaction);
}

static void change_done(struct sim_name_change *change)
{
	transaction_unref(change->transaction);
	free(change->name);
	if (change->before)
		sim_node_unref(change->before);
	if (change->after)
		sim_node_unref(change->after);
}

void sim_tree_directory_free(struct sim_directory *directory)
{
	for (size_t i = 0; i < directory->change_count; i++)
		change_done(&directory->changes[i]);
	free(directory->changes);
	for (size_t i = 0; i < directory->count; i++) {
		sim_node_count(directory->entries[i].node, -1, 0);
		sim_node_unref(directory->entries[i].node);
		free(directory->entries[i].name);
	}
	free(directory->entries);
	free(directory);
}

void sim_tree_disk_free(struct sim_disk *disk)
{
	sim_node_unref(disk->root_node);
	ASSERT(list_is_empty(&disk->nodes));
	list_remove(&disk->link);
	free(disk->root);
	free(disk);
}

/* Index of the name, or where it would be. */
static size_t find(const struct sim_directory *directory, const char *name, bool *ret_found)
{
	size_t low = 0, high = directory->count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		int order = strcmp(directory->entries[middle].name, name);

		if (order == 0) {
			*ret_found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_found = false;
	return low;
}

static struct sim_node *lookup(const struct sim_node *node, const char *name)
{
	bool found;
	size_t index = find(node->directory, name, &found);

	return found ? node->directory->entries[index].node : NULL;
}

/* Copies the next component of a path and moves past it; 0 at the end. */
static int next_name(const char **path, char name[SIM_NAME_MAX + 1])
{
	size_t length;

	do {
		*path += strspn(*path, "/");
		length = strcspn(*path, "/");
		if (length > SIM_NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, *path, length);
		name[length] = '\0';
		*path += length;
	} while (strcmp(name, ".") == 0);
	if (strcmp(name, "..") == 0)
		return -EINVAL;
	return length > 0;
}

int sim_tree_resolve(struct sim *sim, const char *path, struct sim_place *ret_place)
{
	struct sim_place place = {0};
	char name[SIM_NAME_MAX + 1];
	int r;

	place.disk = sim_tree_disk(sim, path, &path);
	if (!place.disk)
		return -ENOENT;
	place.node = place.disk->root_node;
	while ((r = next_name(&path, name)) > 0) {
		if (!place.node)
			return -ENOENT;
		if (!place.node->directory)
			return -ENOTDIR;
		place.parent = place.node;
		place.node = lookup(place.parent, name);
		memcpy(place.name, name, sizeof(name));
	}
	if (r < 0)
		return r;
	*ret_place = place;
	return 0;
}

/* Sets a name as it is now; NULL removes it. */
static void set_entry(struct sim_directory *directory, const char *name, struct sim_node *node)
{
	bool found;
	size_t index = find(directory, name, &found);
	struct sim_entry *entry;

	if (node) {
		node->refs++;
		sim_node_count(node, 1, 0);
	}
	if (!found && !node)
		return;
	if (!found) {
		if (directory->count == directory->room) {
			directory->room = directory->room ? directory->room * 2 : 8;
			directory->entries = realloc(
				directory->entries, directory->room * sizeof(*directory->entries));
			ASSERT(directory->entries);
		}
		entry = &directory->entries[index];
		memmove(entry + 1, entry, (directory->count++ - index) * sizeof(*entry));
		entry->name = strdup(name);
		ASSERT(entry->name);
		entry->node = node;
		return;
	}
	entry = &directory->entries[index];
	sim_node_count(entry->node, -1, 0);
	sim_node_unref(entry->node);
	entry->node = node;
	if (!node) {
		free(entry->name);
		memmove(entry, entry + 1, (--directory->count - index) * sizeof(*entry));
	}
}

static struct sim_transaction *transaction_new(struct sim *sim, struct sim_node *first,
					       struct sim_node *second)
{
	struct sim_transaction *transaction = calloc(1, sizeof(*transaction));

	ASSERT(transaction);
	transaction->stamp = ++sim->stamp;
	transaction->directories[0] = first;
	transaction->directories[1] = second != first ? second : NULL;
	return transaction;
}

static void apply(struct sim_node *parent, const char *name, struct sim_node *node,
		  struct sim_transaction *transaction)
{
	struct sim_directory *directory = parent->directory;
	struct sim_name_change change = {.after = node, .transaction = transaction};

	change.before = lookup(parent, name);
	if (change.before)
		change.before->refs++;
	if (change.after)
		change.after->refs++;
	change.name = strdup(name);
	ASSERT(change.name);
	transaction->refs++;
	if (directory->change_count == directory->change_room) {
		directory->change_room = directory->change_room ? directory->change_room * 2 : 8;
		directory->changes = realloc(directory->changes,
					     directory->change_room * sizeof(*directory->changes));
		ASSERT(directory->changes);
	}
	directory->changes[directory->change_count++] = change;
	set_entry(directory, name, node);
}

void sim_tree_link(const struct sim_place *place, struct sim_node *node)
{
	apply(place->parent, place->name, node,
	      transaction_new(place->disk->sim, place->parent, NULL));
}

void sim_tree_unlink(const struct sim_place *place)
{
	apply(place->parent, place->name, NULL,
	      transaction_new(place->disk->sim, place->parent, NULL));
}

void sim_tree_move(const struct sim_place *from, const struct sim_place *to)
{
	struct sim_transaction *transaction =
		transaction_new(from->disk->sim, from->parent, to->parent);

	apply(to->parent, to->name, from->node, transaction);
	apply(from->parent, from->name, NULL, transaction);
}

bool sim_tree_contains(const struct sim_node *directory, const struct sim_node *node)
{
	if (directory == node)
		return true;
	for (size_t i = 0; directory->directory && i < directory->directory->count; i++)
		if (sim_tree_contains(directory->directory->entries[i].node, node))
			return true;
	return false;
}

/* How many changes there are up to the last one of `transaction`. */
static size_t changes_up_to(const struct sim_directory *directory,
			    const struct sim_transaction *transaction)
{
	size_t count = directory->change_count;

	while (count > 0 && directory->changes[count - 1].transaction != transaction)
		count--;
	return count;
}

/* Forgets the first `count` changes, and with each rename out of another directory the changes of
 * that one up to it. */
static void make_durable(struct sim_node *node, size_t count)
{
	struct sim_directory *directory = node->directory;

	for (; count > 0; count--) {
		struct sim_name_change change = directory->changes[0];
		struct sim_transaction *transaction = change.transaction;

		memmove(directory->changes, directory->changes + 1,
			--directory->change_count * sizeof(change));
		for (unsigned i = 0; i < 2; i++) {
			struct sim_node *other = transaction->directories[i];

			if (other && other != node)
				make_durable(other, changes_up_to(other->directory, transaction));
		}
		change_done(&change);
	}
}

void sim_tree_sync(struct sim_node *node, uint64_t mark)
{
	struct sim_directory *directory = node->directory;
	size_t count = directory->change_count;

	while (count > 0 && directory->changes[count - 1].transaction->stamp >= mark)
		count--;
	make_durable(node, count);
}

/* Where each directory's history is cut; parallel to the disk's list of nodes. */
struct cut {
	struct sim_node *node;
	size_t kept;
};

/* Marks what is beyond the cuts, then shortens the others to agree; true when one changed. */
static bool agree(struct cut *cuts, size_t count)
{
	bool changed = false;

	for (size_t i = 0; i < count; i++) {
		struct sim_directory *directory = cuts[i].node->directory;

		for (size_t j = cuts[i].kept; j < directory->change_count; j++)
			directory->changes[j].transaction->undone = true;
	}
	for (size_t i = 0; i < count; i++) {
		struct sim_directory *directory = cuts[i].node->directory;

		for (size_t j = 0; j < cuts[i].kept; j++) {
			if (directory->changes[j].transaction->undone) {
				cuts[i].kept = j;
				changed = true;
			}
		}
	}
	return changed;
}

static void take_back(const struct cut *cut)
{
	struct sim_directory *directory = cut->node->directory;

	while (directory->change_count > cut->kept) {
		struct sim_name_change change = directory->changes[--directory->change_count];

		REACHED("sim.name-lost");
		set_entry(directory, change.name, change.before);
		change_done(&change);
	}
	while (directory->change_count > 0)
		change_done(&directory->changes[--directory->change_count]);
}

static size_t draw_kept(size_t count, struct sim_rng *rng)
{
	switch (sim_random_upto(rng, 4)) {
	case 0:
		return 0;
	case 1:
		return count;
	default:
		return sim_random_upto(rng, count + 1);
	}
}

static void lose_names(struct sim_disk *disk, struct sim_rng *rng)
{
	_cleanup_free_ struct cut *cuts = NULL;
	struct sim_node *node;
	size_t count = 0, room = 1;

	LIST_FOR_EACH (&disk->nodes, node, struct sim_node, link)
		room++;
	cuts = calloc(room, sizeof(*cuts));
	ASSERT(cuts);
	LIST_FOR_EACH (&disk->nodes, node, struct sim_node, link) {
		if (!node->directory || node->directory->change_count == 0)
			continue;
		/* While names change, nodes without any must stay. */
		node->refs++;
		cuts[count++] = (struct cut){
			.node = node, .kept = draw_kept(node->directory->change_count, rng)};
	}
	while (agree(cuts, count))
		;
	for (size_t i = 0; i < count; i++)
		take_back(&cuts[i]);
	for (size_t i = 0; i < count; i++)
		sim_node_unref(cuts[i].node);
}

void sim_tree_power_loss(struct sim_disk *disk, struct sim_rng *rng)
{
	struct sim_node *node;

	lose_names(disk, rng);
	LIST_FOR_EACH (&disk->nodes, node, struct sim_node, link)
		sim_undo_power_loss(node, rng);
}
