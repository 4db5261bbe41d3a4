/* SPDX-License-Identifier: Apache-2.0 */
#include "base/macros.h"

#include <stdio.h>

_Noreturn void assert_failed(const char *expression, const char *file, int line,
			     const char *function)
{
	fprintf(stderr, "sarsen: assertion failed: %s, in %s() at %s:%d\n", expression, function,
		file, line);
	abort();
}
