/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cli_tar.h"

#include <inttypes.h>
#include <string.h>

#include "base/macros.h"

#define BLOCK 512

struct header { /* POSIX.1-2017, pax, "ustar Interchange Format" */
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type;
	char link[100], magic[6], version[2], user[32], group[32], major[8], minor[8];
	char prefix[155], padding[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "in the file");

static void write_zeros(FILE *stream, size_t count)
{
	while (count-- > 0)
		fputc(0, stream);
}

void cli_tar_add(FILE *stream, const char *name, const char *bytes, size_t length, uint64_t time_s)
{
	struct header header = {.type = '0', .magic = "ustar", .version = {'0', '0'}};
	unsigned sum = 0;

	ASSERT(strlen(name) <= CLI_TAR_NAME_MAX);
	snprintf(header.name, sizeof(header.name), "%s", name);
	snprintf(header.mode, sizeof(header.mode), "%07o", 0600);
	snprintf(header.uid, sizeof(header.uid), "%07o", 0);
	snprintf(header.gid, sizeof(header.gid), "%07o", 0);
	snprintf(header.size, sizeof(header.size), "%011zo", length);
	snprintf(header.mtime, sizeof(header.mtime), "%011" PRIo64, time_s);
	memset(header.checksum, ' ', sizeof(header.checksum));
	for (size_t i = 0; i < sizeof(header); i++)
		sum += ((const unsigned char *)&header)[i];
	snprintf(header.checksum, sizeof(header.checksum), "%06o", sum);
	fwrite(&header, sizeof(header), 1, stream);
	fwrite(bytes, 1, length, stream);
	write_zeros(stream, (BLOCK - length % BLOCK) % BLOCK);
}

void cli_tar_end(FILE *stream)
{
	write_zeros(stream, 2 * BLOCK);
}
