/* SPDX-License-Identifier: Apache-2.0 */
#include "fsck/fsck_file_name.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What the name is not, comparing it with what is made of the numbers tells. */
bool fsck_file_name_parse(const char *name, const char *suffix, uint64_t *ret_id)
{
	char expected[32];
	uint64_t id = 0;

	(void)sscanf(name, "%16" SCNx64, &id);
	snprintf(expected, sizeof(expected), "%016" PRIx64 "%s", id, suffix);
	if (id == 0 || strcmp(expected, name) != 0)
		return false;
	*ret_id = id;
	return true;
}

bool fsck_file_name_parse_unclaimed(const char *name, uint64_t *ret_id, unsigned *ret_number)
{
	char suffix[32];
	unsigned number = 0;

	if (fsck_file_name_parse(name, ".eg", ret_id)) {
		*ret_number = 0;
		return true;
	}
	if (strlen(name) < 16 || sscanf(name + 16, ".eg.%4u", &number) != 1 || number == 0)
		return false;
	snprintf(suffix, sizeof(suffix), ".eg.%u", number);
	if (!fsck_file_name_parse(name, suffix, ret_id))
		return false;
	*ret_number = number;
	return true;
}
