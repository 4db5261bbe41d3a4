/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/daemon_upgrade.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/endian.h"
#include "base/macros.h"
#include "catalog/raw.h"
#include "control/error.h"
#include "control/format.h"
#include "control/version.h"
#include "pool/pool_rows.h"

#define PATH_SIZE    4400
#define VERSIONS_MAX 255   /* greater ones count as this */
#define FILES_MAX    20000 /* of one disk: the rest was written by the same programs */
#define LABEL_MAGIC  "SARSENPL"
#define RECORD_MAGIC "SARSREC1"
#define INDEX_MAGIC  "SARSIDX1"

struct check {
	uint64_t found[FORMAT_COUNT][VERSIONS_MAX + 1];
	uint64_t damaged;              /* rows, labels and files that cannot be understood at all */
	char problem[PATH_SIZE + 200]; /* the first of what could not be looked at */
};

__attribute__((format(printf, 2, 3))) static void note_problem(struct check *check,
							       const char *format, ...)
{
	va_list arguments;

	if (check->problem[0])
		return;
	va_start(arguments, format);
	vsnprintf(check->problem, sizeof(check->problem), format, arguments);
	va_end(arguments);
}

static void count(struct check *check, enum format_id id, uint64_t version)
{
	check->found[id][MIN(version, (uint64_t)VERSIONS_MAX)]++;
}

/* At most `size` bytes of the start of a file; how many, or an error. */
static ssize_t read_start(const char *path, void *ret_bytes, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t length;

	if (fd < 0)
		return -errno;
	length = read(fd, ret_bytes, size);
	if (length < 0)
		length = -errno;
	close(fd);
	return length;
}

static void check_label(struct check *check, const char *directory)
{
	char path[PATH_SIZE];
	uint8_t start[12];
	ssize_t length;

	snprintf(path, sizeof(path), "%s/label", directory);
	length = read_start(path, start, sizeof(start));
	if (length < 0)
		note_problem(check, "%s: %s", path, strerror((int)-length));
	else if (length < (ssize_t)sizeof(start) || memcmp(start, LABEL_MAGIC, 8) != 0)
		check->damaged++;
	else
		count(check, FORMAT_LABEL, get_le32(start + 8));
}

/* A file that was taken but not written yet has neither magic: it is none of a format. */
static void check_file(struct check *check, const char *path)
{
	uint8_t start[12];

	if (read_start(path, start, sizeof(start)) < (ssize_t)sizeof(start))
		return;
	if (memcmp(start, RECORD_MAGIC, 8) == 0)
		count(check, FORMAT_RECORD, get_le32(start + 8));
	else if (memcmp(start, INDEX_MAGIC, 8) == 0)
		count(check, FORMAT_INDEX, get_le32(start + 8));
}

static void check_files(struct check *check, const char *directory)
{
	unsigned left = FILES_MAX;

	for (unsigned i = 0; i < 256 && left > 0; i++) {
		char below[PATH_SIZE], path[PATH_SIZE + 300];
		const struct dirent *entry;
		DIR *listing;

		snprintf(below, sizeof(below), "%s/groups/%02x", directory, i);
		listing = opendir(below);
		if (!listing)
			continue; /* the label told what is wrong with the disk */
		for (; left > 0 && (entry = readdir(listing)); left--) {
			snprintf(path, sizeof(path), "%s/%s", below, entry->d_name);
			if (strstr(entry->d_name, ".eg"))
				check_file(check, path);
		}
		closedir(listing);
	}
}

static void check_disk(struct check *check, const struct catalog_row *row)
{
	struct pool_disk_row *disk = calloc(1, sizeof(*disk)); /* large for a stack */

	if (!disk) {
		note_problem(check, "out of memory");
	} else if (row->length > 0 && row->value[0] <= format_get(FORMAT_DISK)->newest) {
		if (pool_rows_decode_disk(row, disk) < 0) {
			check->damaged++;
		} else if (!disk->failed) {
			check_label(check, disk->directory);
			check_files(check, disk->directory);
		}
	}
	free(disk);
}

static void check_row(struct check *check, const struct catalog_row *row)
{
	char text[CATALOG_KEY_MAX + 1];

	if (row->key.bytes[0] == CATALOG_META) {
		catalog_key_text(&row->key, 0, text, sizeof(text));
		if (strcmp(text, "format") == 0 && row->length >= 12)
			count(check, FORMAT_CATALOG, get_le32(row->value + 8));
		return;
	}
	for (unsigned i = 0; i < FORMAT_COUNT; i++) {
		if (!format_is_of(format_get(i), row))
			continue;
		if (row->length > format_get(i)->offset)
			count(check, i, row->value[format_get(i)->offset]);
		else
			check->damaged++;
	}
	if (row->key.bytes[0] == CATALOG_DISK)
		check_disk(check, row);
}

static int copy_file(const char *from, const char *to)
{
	FILE *in = fopen(from, "re"), *out = in ? fopen(to, "we") : NULL;
	char buffer[65536];
	size_t length;
	int r = 0;

	if (!in || !out)
		r = -errno;
	while (r == 0 && (length = fread(buffer, 1, sizeof(buffer), in)) > 0)
		if (fwrite(buffer, 1, length, out) != length)
			r = -EIO;
	if (r == 0 && ferror(in))
		r = -EIO;
	if (out && fclose(out) != 0 && r == 0)
		r = -EIO;
	if (in)
		fclose(in);
	return r;
}

static void tell_damage(void *arg, const struct catalog_raw_damage *damage)
{
	struct check *check = arg;

	(void)damage;
	check->damaged++;
}

static bool path_of(char ret_path[PATH_SIZE], const char *directory, const char *suffix)
{
	int length = snprintf(ret_path, PATH_SIZE, "%s/catalog.db%s", directory, suffix);

	return length >= 0 && length < PATH_SIZE;
}

/* SQLite writes to what it opens, so it gets a copy. */
static int read_copy(struct check *check, const char *state, const char *directory)
{
	static const char *const suffixes[] = {"-wal", ""};
	_cleanup_(catalog_rows_done) struct catalog_rows rows = {0};
	char from[PATH_SIZE], to[PATH_SIZE];
	struct catalog_raw raw = {.path = to, .damage = tell_damage, .arg = check};
	int r = 0;

	for (unsigned i = 0; r == 0 && i < ARRAY_SIZE(suffixes); i++) {
		if (!path_of(from, state, suffixes[i]) || !path_of(to, directory, suffixes[i]))
			return -ENAMETOOLONG;
		r = copy_file(from, to);
		if (r == -ENOENT && suffixes[i][0])
			r = 0;
	}
	if (r == 0)
		r = catalog_raw_read(&raw, &rows);
	for (size_t i = 0; r == 0 && i < rows.count; i++)
		check_row(check, &rows.rows[i]);
	return r;
}

static void remove_copy(const char *directory)
{
	static const char *const names[] = {"catalog.db", "catalog.db-wal", "catalog.db-shm",
					    "catalog.db-journal"};
	char path[PATH_SIZE + 32];

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
		(void)unlink(path); /* some are not there */
	}
	(void)rmdir(directory); /* what stays is of no harm */
}

static int read_catalog(struct check *check, const char *state)
{
	const char *base = getenv("TMPDIR");
	char directory[PATH_SIZE];
	int r;

	snprintf(directory, sizeof(directory), "%s/sarsen-upgrade-XXXXXX",
		 base && *base ? base : "/tmp");
	if (!mkdtemp(directory))
		return -errno;
	r = read_copy(check, state, directory);
	remove_copy(directory);
	return r;
}

struct verdict {
	const char *text; /* "ok", "to be converted", "too new", "too old" */
	bool readable, converted, back;
};

static struct verdict judge(const struct check *check, enum format_id id)
{
	const struct format *format = format_get(id);
	struct verdict verdict = {.text = "ok", .readable = true, .back = true};

	for (unsigned version = 0; version <= VERSIONS_MAX; version++) {
		if (check->found[id][version] == 0)
			continue;
		if (version > format->newest || version < format->oldest) {
			verdict.readable = false;
			verdict.text = version > format->newest ? "too new" : "too old";
		} else if (version < format->newest && format->converts) {
			verdict.converted = true;
		}
		if (version == format->newest && format->newest > format->oldest)
			verdict.back = false;
	}
	if (verdict.readable && verdict.converted)
		verdict.text = "to be converted";
	return verdict;
}

static json_t *found_to_json(const struct check *check, enum format_id id)
{
	json_t *found = json_object();

	for (unsigned version = 0; version <= VERSIONS_MAX; version++) {
		char name[16];

		if (check->found[id][version] == 0)
			continue;
		snprintf(name, sizeof(name), "%u", version);
		json_object_set_new(found, name,
				    json_integer((json_int_t)check->found[id][version]));
	}
	return found;
}

static json_t *to_json(const struct check *check, bool readable)
{
	json_t *rows = json_array();
	bool back = true, converts = false;

	for (unsigned i = 0; i < FORMAT_COUNT; i++) {
		struct verdict verdict = judge(check, i);

		back &= verdict.back;
		converts |= verdict.converted;
		json_array_append_new(
			rows, json_pack("{s:s, s:o, s:i, s:i, s:s}", "format", format_get(i)->name,
					"found", found_to_json(check, i), "oldest",
					(int)format_get(i)->oldest, "newest",
					(int)format_get(i)->newest, "verdict", verdict.text));
	}
	return json_pack("{s:i, s:{s:s, s:b, s:b, s:b, s:b, s:I, s:s, s:o}}", "schema",
			 API_SCHEMA_VERSION, "result", "version", version_text(), "readable",
			 readable, "converts", converts, "back_possible_now", back,
			 "back_possible_after_start", back && !converts, "damaged",
			 (json_int_t)check->damaged, "problem", check->problem, "formats", rows);
}

static void print_found(const struct check *check, enum format_id id)
{
	const char *between = "";

	for (unsigned version = 0; version <= VERSIONS_MAX; version++) {
		if (check->found[id][version] == 0)
			continue;
		printf("%s%" PRIu64 " of version %u", between, check->found[id][version], version);
		between = ", ";
	}
	puts(*between ? "" : "none");
}

static void print_text(const struct check *check, bool readable)
{
	bool back = true, converts = false;

	for (unsigned i = 0; i < FORMAT_COUNT; i++) {
		struct verdict verdict = judge(check, i);

		back &= verdict.back;
		converts |= verdict.converted;
		printf("%-26s reads %u to %u  %-16s ", format_get(i)->name, format_get(i)->oldest,
		       format_get(i)->newest, verdict.text);
		print_found(check, i);
	}
	if (check->damaged)
		printf("%" PRIu64 " rows, labels or files are damaged: see sarsen-fsck\n",
		       check->damaged);
	if (check->problem[0])
		printf("not looked at: %s\n", check->problem);
	printf("sarsend %s can%s read this state", version_text(), readable ? "" : "not");
	if (readable)
		printf(converts ? ", and converts what is older when it writes it" : " as it is");
	puts(".");
	if (readable && !back)
		puts("Programs of the format before cannot read it: there is no way back.");
	else if (readable && converts)
		puts("Programs of the format before can read it until this one was started.");
	else if (readable)
		puts("Programs of the format before can read it, as long as no newer feature is "
		     "used.");
	else
		puts("Install the version that wrote it, or a newer one.");
}

enum daemon_upgrade_result daemon_upgrade_check(const char *state_directory, bool json)
{
	_cleanup_free_ struct check *check = calloc(1, sizeof(*check));
	bool readable = true;
	int r = check ? read_catalog(check, state_directory) : -ENOMEM;

	if (r < 0) {
		fprintf(stderr, "sarsend: the catalog in %s cannot be looked at: %s\n",
			state_directory, strerror(-r));
		return DAEMON_UPGRADE_UNKNOWN;
	}
	for (unsigned i = 0; i < FORMAT_COUNT; i++)
		readable &= judge(check, i).readable;
	if (json) {
		json_t *answer = to_json(check, readable);

		json_dumpf(answer, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(answer);
	} else {
		print_text(check, readable);
	}
	if (fflush(stdout) != 0)
		return DAEMON_UPGRADE_UNKNOWN;
	return readable ? DAEMON_UPGRADE_READABLE : DAEMON_UPGRADE_REFUSED;
}
