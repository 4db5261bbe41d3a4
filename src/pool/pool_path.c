/* SPDX-License-Identifier: Apache-2.0 */
/* Names of a disk's files. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/macros.h"
#include "pool/pool_priv.h"

/* Directories are at most POOL_DIRECTORY_MAX long, so nothing is ever cut. */
static void path_format(struct pool_path *ret_path, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void path_format(struct pool_path *ret_path, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(ret_path->text, sizeof(ret_path->text), format, arguments);
	va_end(arguments);
	ASSERT(length > 0 && (size_t)length < sizeof(ret_path->text));
}

void pool_path_of(const char *directory, const char *name, struct pool_path *ret_path)
{
	path_format(ret_path, "%s/%s", directory, name);
}

void pool_path_group_directory(const struct pool_disk *disk, unsigned index,
			       struct pool_path *ret_path)
{
	path_format(ret_path, "%s/groups/%02x", disk->row.directory, index);
}

void pool_path_group(const struct pool_disk *disk, uint64_t file_id, struct pool_path *ret_path)
{
	path_format(ret_path, "%s/groups/%02x/%016" PRIx64 ".eg", disk->row.directory,
		    (unsigned)(file_id & 0xff), file_id);
}

void pool_path_spare(const char *directory, uint64_t file_id, const char *suffix,
		     struct pool_path *ret_path)
{
	path_format(ret_path, "%s/spare/%016" PRIx64 "%s", directory, file_id, suffix);
}

bool pool_path_parse(const char *name, const char *suffix, uint64_t *ret_id)
{
	uint64_t id = 0;

	if (strlen(name) != 16 + strlen(suffix) || strcmp(name + 16, suffix) != 0)
		return false;
	for (int i = 0; i < 16; i++) {
		const char *digits = "0123456789abcdef";
		const char *digit = strchr(digits, name[i]);

		if (!digit)
			return false;
		id = id << 4 | (uint64_t)(digit - digits);
	}
	if (id == 0)
		return false;
	*ret_id = id;
	return true;
}
