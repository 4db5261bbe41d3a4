/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Properties of policies as people and programs write them: "10G", 2, "ssd,hdd", "none". */
#include <jansson.h>

#include "pool/policy.h"

#define POLICY_TEXT_MAX 100

/* -EINVAL not what the property is, or out of its range. */
int policy_text_parse(enum policy_property property, const char *text, uint64_t *ret_value);
int policy_text_from_json(enum policy_property property, const json_t *value, uint64_t *ret_value);
/* A number; text for an order of tiers; null for "none". */
json_t *policy_text_to_json(enum policy_property property, uint64_t value);
/* What may be given: "a number from 1 to 3". Returns ret_text. */
const char *policy_text_range(enum policy_property property, char ret_text[static POLICY_TEXT_MAX]);
