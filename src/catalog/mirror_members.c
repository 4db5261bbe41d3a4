/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which directories have mirrors: adding, admitting, removing, listing. On the catalog's home
 * reactor. What commits do with them is in mirror.c.
 *
 * Invariants
 *  1. A mirror that was asked for counts from when that is told (mirrors_tell_wait()); until then,
 *     and from when it is to go, it is `removed`.
 *  2. Nothing of another catalog, or of a later state of this one, is overwritten.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "base/reached.h"
#include "catalog/catalog_priv.h"
#include "catalog/mirror.h"
#include "catalog/mirror_task.h"

const char *catalog_mirror_state_name(enum catalog_mirror_state state)
{
	static const char *const names[] = {"good", "building", "lost", "refused"};

	ASSERT(state < ARRAY_SIZE(names));
	return names[state];
}

int mirrors_prepare(struct mirrors *mirrors)
{
	if (!mirrors->hint_data)
		mirrors->hint_data = malloc(MIRROR_HINT_SLOT);
	if (!mirrors->row_value)
		mirrors->row_value = malloc(MIRROR_STANDING_MAX);
	if (!mirrors->hint_data || !mirrors->row_value)
		return -ENOMEM;
	return mirrors->hint_file ? 0 : mirror_hint_open(mirrors->hint_path, &mirrors->hint_file);
}

struct mirror *mirror_new(struct catalog *catalog, const char *directory)
{
	struct mirror *mirror = calloc(1, sizeof(*mirror));

	if (mirror)
		mirror->directory = strdup(directory);
	if (!mirror || !mirror->directory) {
		free(mirror);
		return NULL;
	}
	mirror->catalog = catalog;
	list_push_back(&catalog->mirrors.list, &mirror->link);
	catalog->mirrors.count++;
	return mirror;
}

void mirror_free(struct mirror *mirror)
{
	ASSERT(!mirror->late && !mirror->in_flight && !mirror->file && !mirror->old_file &&
	       !mirror->next_file);
	mirror_probe_forget(mirror);
	list_remove(&mirror->link);
	mirror->catalog->mirrors.count--;
	free(mirror->directory);
	free(mirror);
}

struct mirror *mirror_find(struct mirrors *mirrors, const char *directory)
{
	struct mirror *mirror;

	LIST_FOR_EACH (&mirrors->list, mirror, struct mirror, link)
		if (!mirror->removed && strcmp(mirror->directory, directory) == 0)
			return mirror;
	return NULL;
}

/* Nothing of another catalog, or of a later state of this one, is overwritten. */
static int add_check(struct mirror *mirror)
{
	struct mirrors *mirrors = &mirror->catalog->mirrors;
	struct mirror_look look;
	int r = mirror_look_within(mirrors, mirror->directory, mirrors->timeout_ns, &look);

	if (r == 0)
		r = mirror_compare(mirrors, &look);
	return r == -EEXIST || r == -ESTALE || r == -ESHUTDOWN || r == -ENOMEM ||
			       r == -EPROTONOSUPPORT
		       ? r
		       : 0;
}

static int add_locked(struct catalog *catalog, const char *directory)
{
	struct mirrors *mirrors = &catalog->mirrors;
	struct mirror *mirror = mirror_find(mirrors, directory);
	int r;

	if (mirror)
		return mirror->refused ? mirror->error : 0;
	if (mirrors->count == CATALOG_MIRRORS_MAX)
		return -EMFILE;
	mirror = mirror_new(catalog, directory);
	if (!mirror)
		return -ENOMEM;
	mirror->removed = true; /* until it is known to be good for one */
	r = mirrors_prepare(mirrors);
	if (r == 0)
		r = add_check(mirror);
	mirror->removed = r < 0;
	if (r == 0)
		r = mirrors_tell_wait(catalog);
	if (r)
		mirror_free(mirror);
	else
		mirror_builder_start(catalog);
	return r;
}

int catalog_mirror_add(struct catalog *catalog, const char *directory)
{
	int r;

	reactor_assert_home(catalog->home);
	if (directory[0] != '/' || strlen(directory) > CATALOG_MIRROR_DIRECTORY_MAX)
		return directory[0] == '/' ? -ENAMETOOLONG : -EINVAL;
	fiber_mutex_lock(&catalog->mirrors.work);
	r = add_locked(catalog, directory);
	fiber_mutex_unlock(&catalog->mirrors.work);
	return r;
}

struct admission {
	struct catalog *catalog;
	const char *directory;
};

/* One that gets frames is this catalog's, and may be a frame ahead of what is known here. */
static bool gets_frames(struct mirrors *mirrors, const char *directory)
{
	const struct mirror *mirror = mirror_find(mirrors, directory);

	return mirror && (mirror->standing || mirror->joined);
}

static int admit_at_home(void *arg)
{
	const struct admission *admission = arg;
	struct mirrors *mirrors = &admission->catalog->mirrors;
	struct mirror_look look;
	int r;

	if (gets_frames(mirrors, admission->directory))
		return 0;
	r = mirror_look(admission->directory, &look);
	if (r) /* nothing can be said of it */
		return r == -ESHUTDOWN || r == -ENOMEM ? r : 0;
	if (gets_frames(mirrors, admission->directory))
		return 0;
	return mirror_compare(mirrors, &look) == -ESTALE ? -ESTALE : 0;
}

int catalog_mirror_admits(struct catalog *catalog, const char *directory)
{
	struct admission admission = {catalog, directory};

	if (strlen(directory) > CATALOG_MIRROR_DIRECTORY_MAX)
		return 0; /* no mirror can be there */
	return fiber_call(catalog->home, FIBER_CONTROL, admit_at_home, &admission);
}

static int remove_locked(struct catalog *catalog, const char *directory)
{
	struct mirrors *mirrors = &catalog->mirrors;
	struct mirror *mirror = mirror_find(mirrors, directory);
	int r;

	if (!mirror)
		return -ENOENT;
	mirror->removed = true;
	r = mirrors_tell_wait(catalog);
	if (r) {
		mirror->removed = false;
		return r;
	}
	mirror->joined = mirror->standing = false;
	while (mirror->in_flight && !mirror->abandoned)
		fiber_queue_wait(&mirrors->changed);
	if (mirror->abandoned || mirror->late) {
		/* Its disk may hang for ever: the builder frees it if not. */
		REACHED("mirror.removed-hung");
		return 0;
	}
	mirror_clear(mirror, !mirror->refused);
	return 0;
}

int catalog_mirror_remove(struct catalog *catalog, const char *directory)
{
	int r;

	reactor_assert_home(catalog->home);
	fiber_mutex_lock(&catalog->mirrors.work);
	r = remove_locked(catalog, directory);
	fiber_mutex_unlock(&catalog->mirrors.work);
	return r;
}

/* It has been asked and does not answer. */
static bool is_silent(const struct mirror *mirror)
{
	const struct catalog *catalog = mirror->catalog;

	return mirror->probe &&
	       reactor_now_ns(catalog->home) - mirror->probe_ns > catalog->mirrors.limit_ns;
}

static void info_fill(const struct mirror *mirror, struct catalog_mirror_info *info)
{
	int error = mirror->error || !is_silent(mirror) ? mirror->error : -ETIMEDOUT;

	memcpy(info->directory, mirror->directory, strlen(mirror->directory) + 1);
	info->state = mirror->standing   ? CATALOG_MIRROR_GOOD
		      : mirror->building ? CATALOG_MIRROR_BUILDING
		      : mirror->refused  ? CATALOG_MIRROR_REFUSED
		      : error            ? CATALOG_MIRROR_LOST
					 : CATALOG_MIRROR_BUILDING;
	info->error = mirror->standing ? 0 : error;
	info->was_lost = mirror->was_lost;
	info->sequence = mirror->sequence;
	info->bytes = mirror->bytes;
	info->made_wall_ns = mirror->made_wall_ns;
}

int catalog_mirror_list(struct catalog *catalog, struct catalog_mirror_info **ret_infos,
			size_t *ret_count)
{
	struct mirrors *mirrors = &catalog->mirrors;
	struct catalog_mirror_info *infos = calloc(mirrors->count + 1, sizeof(*infos));
	struct mirror *mirror;
	size_t count = 0;

	reactor_assert_home(catalog->home);
	if (!infos)
		return -ENOMEM;
	LIST_FOR_EACH (&mirrors->list, mirror, struct mirror, link)
		if (!mirror->removed)
			info_fill(mirror, &infos[count++]);
	*ret_infos = infos;
	*ret_count = count;
	return 0;
}
