/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Which build of the project a program is from, for those who meet another. */
#include <stdint.h>

/* Greater ones are newer: 1002003 is 1.2.3. */
uint32_t build_number(void);
