/* SPDX-License-Identifier: Apache-2.0 */
#include "control/size.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char units[] = "KMGTPE";

/* The shift of a unit such as "", "B", "G", "g" or "GiB"; negative when it is none. */
static int unit_shift(const char *unit)
{
	const char *found;

	if (!*unit || strcasecmp(unit, "b") == 0)
		return 0;
	found = strchr(units, toupper((unsigned char)*unit));
	if (!found || (unit[1] && strcasecmp(unit + 1, "ib") != 0))
		return -EINVAL;
	return 10 * (int)(found - units + 1);
}

int size_parse(const char *text, uint64_t *ret_bytes)
{
	uint64_t value = 0;
	const char *at = text;
	int shift;

	if (!isdigit((unsigned char)*at))
		return -EINVAL;
	for (; isdigit((unsigned char)*at); at++) {
		if (value > INT64_MAX / 10)
			return -ERANGE;
		value = value * 10 + (uint64_t)(*at - '0');
	}
	shift = unit_shift(at);
	if (shift < 0)
		return shift;
	if (value > (uint64_t)INT64_MAX >> shift) /* also one digit too many */
		return -ERANGE;
	*ret_bytes = value << shift;
	return 0;
}

const char *size_format(uint64_t bytes, char ret_text[static SIZE_TEXT_MAX])
{
	int unit = -1;
	uint64_t scale = 1;
	double value;

	while (unit + 1 < (int)sizeof(units) - 1 && bytes / scale >= 1024) {
		scale <<= 10;
		unit++;
	}
	if (bytes % scale == 0) {
		snprintf(ret_text, SIZE_TEXT_MAX, "%" PRIu64 "%.1s", bytes / scale,
			 unit < 0 ? "" : units + unit);
		return ret_text;
	}
	value = (double)bytes / (double)scale;
	snprintf(ret_text, SIZE_TEXT_MAX, "%.*f%.1s",
		 value < 10    ? 2
		 : value < 100 ? 1
			       : 0,
		 value, units + unit);
	return ret_text;
}
