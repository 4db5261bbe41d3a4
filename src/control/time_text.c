/* SPDX-License-Identifier: Apache-2.0 */
#include "control/time_text.h"

#include <time.h>

#include "base/macros.h"

const char *time_text(uint64_t wall_ns, char ret_text[static TIME_TEXT_MAX])
{
	time_t seconds = (time_t)(wall_ns / NSEC_PER_SEC);
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || strftime(ret_text, TIME_TEXT_MAX, "%FT%TZ", &tm) == 0)
		ret_text[0] = '\0';
	return ret_text;
}
