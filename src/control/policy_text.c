/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/size.h"

static int parse_number(const char *text, uint64_t *ret_value)
{
	char *end;

	errno = 0;
	*ret_value = strtoull(text, &end, 10);
	return errno || end == text || *end || text[0] == '-' ? -EINVAL : 0;
}

static int find_tier(const char *name, size_t length, unsigned *ret_tier)
{
	for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++) {
		const char *own = policy_tier_name((enum policy_tier)tier);

		if (strlen(own) == length && strncmp(own, name, length) == 0) {
			*ret_tier = tier;
			return 0;
		}
	}
	return -EINVAL;
}

/* "ssd,hdd" */
static int parse_tiers(const char *text, uint64_t *ret_value)
{
	uint64_t value = 0;
	unsigned count = 0, tier;

	for (;; text++) {
		size_t length = strcspn(text, ",");

		if (count == POLICY_TIER_COUNT || find_tier(text, length, &tier) < 0)
			return -EINVAL;
		value |= (uint64_t)(tier + 1) << (4 * count++);
		text += length;
		if (!*text)
			break;
	}
	*ret_value = value;
	return 0;
}

int policy_text_parse(enum policy_property property, const char *text, uint64_t *ret_value)
{
	enum policy_kind kind = policy_info(property)->kind;
	uint64_t value;
	int r;

	if (kind == POLICY_TIERS) {
		r = parse_tiers(text, &value);
	} else if (kind == POLICY_SIZE && strcmp(text, "none") == 0) {
		value = POLICY_NONE;
		r = 0;
	} else {
		r = kind == POLICY_SIZE ? size_parse(text, &value) : parse_number(text, &value);
	}
	if (r < 0 || !policy_value_is_valid(property, value))
		return -EINVAL;
	*ret_value = value;
	return 0;
}

int policy_text_from_json(enum policy_property property, const json_t *value, uint64_t *ret_value)
{
	json_int_t number = json_integer_value(value);

	if (json_is_string(value))
		return policy_text_parse(property, json_string_value(value), ret_value);
	if (!json_is_integer(value) || number < 0 || policy_info(property)->kind == POLICY_TIERS ||
	    !policy_value_is_valid(property, (uint64_t)number))
		return -EINVAL;
	*ret_value = (uint64_t)number;
	return 0;
}

static json_t *tiers_to_json(uint64_t order)
{
	char text[POLICY_TEXT_MAX] = "";
	size_t used = 0;

	for (; order; order >>= 4)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", used ? "," : "",
					 policy_tier_name((enum policy_tier)((order & 15) - 1)));
	return json_string(text);
}

json_t *policy_text_to_json(enum policy_property property, uint64_t value)
{
	const struct policy_info *info = policy_info(property);

	ASSERT(policy_value_is_valid(property, value));
	if (info->kind == POLICY_TIERS)
		return tiers_to_json(value);
	if (info->kind == POLICY_SIZE && value == POLICY_NONE)
		return json_null();
	return json_integer((json_int_t)value);
}

const char *policy_text_range(enum policy_property property, char ret_text[static POLICY_TEXT_MAX])
{
	const struct policy_info *info = policy_info(property);
	char least[SIZE_TEXT_MAX];

	if (info->kind == POLICY_TIERS)
		snprintf(ret_text, POLICY_TEXT_MAX,
			 "tiers with commas between, out of ssd, hdd, san, cloud");
	else if (info->kind == POLICY_SIZE)
		snprintf(ret_text, POLICY_TEXT_MAX, "a size from %s%s, such as 10G",
			 size_format(info->least, least),
			 info->most == POLICY_NONE ? ", or none" : "");
	else
		snprintf(ret_text, POLICY_TEXT_MAX, "a number from %" PRIu64 " to %" PRIu64,
			 info->least, info->most);
	return ret_text;
}
