/* SPDX-License-Identifier: Apache-2.0 */
#include "base/build.h"

uint32_t build_number(void)
{
	return SARSEN_BUILD;
}
