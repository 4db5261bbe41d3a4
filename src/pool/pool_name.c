/* SPDX-License-Identifier: Apache-2.0 */
#include "pool/pool_name.h"

#include <string.h>

#include "pool/pool.h"

static bool is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool pool_name_is_valid(const char *name)
{
	size_t length = strnlen(name, POOL_NAME_MAX + 1);

	if (length == 0 || length > POOL_NAME_MAX || !is_plain(name[0]))
		return false;
	for (size_t i = 1; i < length; i++)
		if (!is_plain(name[i]) && !strchr("._-", name[i]))
			return false;
	return true;
}
