/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the directory to its mount (/proc/self/mountinfo), from that to a block device
 * (/sys/dev/block), through device mapper, md and partitions (slaves, the folder above) down to
 * drives, and what place_facts.c finds about each. All of it is read anew each time, on a worker
 * thread; what cannot be read is left out.
 */
#include "control/place_real.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/macros.h"
#include "control/place_facts.h"

#define DEPTH_MAX   8 /* of devices on devices */
#define DEVICES_MAX 16
#define THROUGH_MAX 256

struct mount {
	char point[PATH_MAX], source[256], type[64];
	unsigned major, minor;
};

/* mountinfo writes blanks and backslashes as \040: in place. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		unsigned code;

		if (from[0] == '\\' && sscanf(from + 1, "%3o", &code) == 1) {
			*to = (char)code;
			from += strnlen(from, 4);
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

static bool is_below(const char *path, const char *point)
{
	size_t length = strlen(point);

	if (strcmp(point, "/") == 0)
		return true;
	return strncmp(path, point, length) == 0 && (path[length] == '/' || !path[length]);
}

/* proc(5): the fields after " - " are type and source. */
static bool parse_mount(const char *line, struct mount *ret_mount)
{
	const char *more = strstr(line, " - ");

	if (!more || sscanf(line, "%*u %*u %u:%u %*s %4095s", &ret_mount->major, &ret_mount->minor,
			    ret_mount->point) != 3)
		return false;
	if (sscanf(more + 3, "%63s %255s", ret_mount->type, ret_mount->source) != 2)
		return false;
	unescape(ret_mount->point);
	unescape(ret_mount->source);
	return true;
}

/* The deepest mount that the path is on; of several on one point the last is on top. */
static int find_mount(const char *root, const char *path, struct mount *ret_mount)
{
	_cleanup_free_ struct mount *mount = malloc(sizeof(*mount));
	_cleanup_free_ char *line = NULL;
	char name[PLACE_PATH_MAX];
	size_t size = 0;
	bool found = false;
	FILE *file;

	if (!mount)
		return -ENOMEM;
	snprintf(name, sizeof(name), "%s/proc/self/mountinfo", root);
	file = fopen(name, "re");
	if (!file)
		return -errno;
	while (getline(&line, &size, file) > 0) {
		if (!parse_mount(line, mount) || !is_below(path, mount->point) ||
		    (found && strlen(mount->point) < strlen(ret_mount->point)))
			continue;
		*ret_mount = *mount;
		found = true;
	}
	(void)fclose(file); /* only read */
	return found ? 0 : -ENOENT;
}

/* The real path of a block device's folder in sysfs. */
static bool resolve(const char *path, char ret_folder[PLACE_PATH_MAX])
{
	_cleanup_free_ char *real = realpath(path, NULL);

	if (!real || strlen(real) >= PLACE_PATH_MAX)
		return false;
	memcpy(ret_folder, real, strlen(real) + 1);
	return true;
}

/* File systems that span devices have a number that is none's; their source may be one. */
static bool find_device(const char *root, const struct mount *mount, char folder[PLACE_PATH_MAX])
{
	char path[PLACE_PATH_MAX];

	snprintf(path, sizeof(path), "%s/sys/dev/block/%u:%u", root, mount->major, mount->minor);
	if (resolve(path, folder))
		return true;
	if (strncmp(mount->source, "/dev/", 5) != 0)
		return false;
	snprintf(path, sizeof(path), "%s/sys/class/block/%.200s", root,
		 strrchr(mount->source, '/') + 1);
	return resolve(path, folder);
}

struct walk {
	const char *root;
	json_t *devices;
};

static void walk_device(const struct walk *walk, const char *folder, const char *through,
			unsigned depth);

static int is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* True: it lies on others. */
static bool walk_slaves(const struct walk *walk, const char *folder, const char *through,
			unsigned depth)
{
	char path[PLACE_PATH_MAX + NAME_MAX + 16], below[PLACE_PATH_MAX];
	struct dirent **names = NULL;
	int count;

	snprintf(path, sizeof(path), "%s/slaves", folder);
	count = scandir(path, &names, is_visible, alphasort);
	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s/slaves/%s", folder, names[i]->d_name);
		if (resolve(path, below))
			walk_device(walk, below, through, depth);
		free(names[i]);
	}
	free(names);
	return count > 0;
}

static void add_device(const struct walk *walk, const char *folder, const char *through)
{
	json_t *device = place_facts(walk->root, folder);

	if (!device || json_array_size(walk->devices) >= DEVICES_MAX) {
		json_decref(device);
		return;
	}
	if (through[0])
		json_object_set_new(device, "through", json_string(through));
	json_array_append_new(walk->devices, device);
}

static bool is_known(const struct walk *walk, const char *name)
{
	const json_t *device;
	size_t i;

	json_array_foreach(walk->devices, i, device)
	{
		const char *known = json_string_value(json_object_get(device, "name"));

		if (known && strcmp(known, name) == 0)
			return true;
	}
	return false;
}

static void walk_device(const struct walk *walk, const char *folder, const char *through,
			unsigned depth)
{
	char path[PLACE_PATH_MAX], more[THROUGH_MAX], mapped[64] = "";
	const char *name = strrchr(folder, '/') + 1;

	if (depth >= DEPTH_MAX)
		return;
	if (place_fact(folder, "dm/name", mapped, sizeof(mapped)))
		snprintf(more, sizeof(more), "%.150s%s%.32s (%s)", through, through[0] ? ", " : "",
			 name, mapped);
	else
		snprintf(more, sizeof(more), "%.200s%s%.48s", through, through[0] ? ", " : "",
			 name);
	if (walk_slaves(walk, folder, more, depth + 1))
		return;
	if (place_fact(folder, "partition", mapped, sizeof(mapped))) {
		snprintf(path, sizeof(path), "%.*s", (int)(name - folder - 1), folder);
		walk_device(walk, path, more, depth + 1);
	} else if (!is_known(walk, name)) {
		add_device(walk, folder, through);
	}
}

/* A name need not be UTF-8. */
static json_t *text_to_json(char *text)
{
	json_t *json = json_string(text);

	for (; !json && *text; text++)
		if ((unsigned char)*text > '~')
			*text = '?';
	return json;
}

static json_t *mount_to_json(struct mount *mount)
{
	char *const texts[] = {mount->point, mount->source, mount->type};
	static const char *const keys[] = {"point", "source", "type"};
	json_t *json = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		json_t *text = text_to_json(texts[i]);

		json_object_set_new(json, keys[i], text ? text : json_string(texts[i]));
	}
	return json;
}

static int find_place(const char *root, const char *directory, struct mount *mount,
		      json_t **ret_place)
{
	_cleanup_free_ char *path = realpath(directory, NULL);
	char folder[PLACE_PATH_MAX];
	struct walk walk = {.root = root};
	int r;

	if (!path)
		return -errno;
	r = find_mount(root, path, mount);
	if (r < 0)
		return r;
	walk.devices = json_array();
	if (find_device(root, mount, folder))
		walk_device(&walk, folder, "", 0);
	*ret_place =
		json_pack("{s:o, s:o}", "mount", mount_to_json(mount), "devices", walk.devices);
	return *ret_place ? 0 : -ENOMEM;
}

static int find(void *context, const char *directory, json_t **ret_place)
{
	_cleanup_free_ struct mount *mount = calloc(1, sizeof(*mount));

	return mount ? find_place(context, directory, mount, ret_place) : -ENOMEM;
}

static bool is_one_name(const char *text)
{
	return text[0] && text[0] != '.' && !strchr(text, '/') && strlen(text) <= NAME_MAX;
}

/* The two are names from a catalog: they must not lead elsewhere. */
static int open_led(const char *root, const char *enclosure, const char *slot, const char *mode,
		    FILE **ret_file)
{
	char path[PLACE_PATH_MAX + 2 * NAME_MAX + 64];

	if (!is_one_name(enclosure) || !is_one_name(slot))
		return -ENOENT;
	snprintf(path, sizeof(path), "%s" PLACE_LED_PATH, root, enclosure, slot);
	*ret_file = fopen(path, mode);
	if (*ret_file)
		return 0;
	return errno == EROFS || errno == EPERM ? -EACCES : -errno;
}

static int get_led(void *context, const char *enclosure, const char *slot, enum place_led *ret_led)
{
	FILE *file;
	int r = open_led(context, enclosure, slot, "re", &file), value;

	if (r < 0)
		return r;
	r = fscanf(file, "%d", &value) == 1 ? 0 : -EIO;
	(void)fclose(file); /* only read */
	if (r == 0)
		*ret_led = value ? PLACE_LED_ON : PLACE_LED_OFF;
	return r;
}

static int set_led(void *context, const char *enclosure, const char *slot, enum place_led led)
{
	FILE *file;
	/* "r+": a light that is not there is not made. */
	int r = open_led(context, enclosure, slot, "r+e", &file);

	if (r < 0)
		return r;
	r = fprintf(file, "%d\n", led == PLACE_LED_ON) > 0 ? 0 : -EIO;
	return fclose(file) == 0 ? r : -errno;
}

const struct place_ops place_real_ops = {.find = find, .get_led = get_led, .set_led = set_led};
