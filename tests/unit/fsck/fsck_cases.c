/* SPDX-License-Identifier: Apache-2.0 */
#include "fsck_cases.h"

const char *case_name;
unsigned char *buffer;

int fsck_cases_run(int argc, char **argv, const struct fsck_case *cases, size_t count,
		   void (*run)(const struct fsck_case *one))
{
	if (!getenv("SHOW"))
		sim_rig_silence_log();
	buffer = aligned_alloc(4096, MIB);
	if (!buffer)
		return 1;
	for (size_t i = 0; i < count; i++) {
		if (argc < 2 ? cases[i].is_slow : strcmp(argv[1], cases[i].name) != 0)
			continue;
		case_name = cases[i].name;
		run(&cases[i]);
	}
	free(buffer);
	return 0;
}
