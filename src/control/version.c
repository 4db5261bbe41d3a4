/* SPDX-License-Identifier: Apache-2.0 */
#include "control/version.h"

const char *version_text(void)
{
	return SARSEN_VERSION;
}
