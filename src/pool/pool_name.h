/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Names of pools and containers: [a-z0-9][a-z0-9._-]*, up to POOL_NAME_MAX bytes. */
#include <stdbool.h>

bool pool_name_is_valid(const char *name);
