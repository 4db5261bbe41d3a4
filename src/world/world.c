/* SPDX-License-Identifier: Apache-2.0 */
#include "world/world.h"

#include <stdlib.h>

void world_names_free(struct world_names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->names[i]);
	free(names->names);
	*names = (struct world_names){0};
}
