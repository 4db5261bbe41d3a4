/* SPDX-License-Identifier: Apache-2.0 */
#include "pool/policy.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/macros.h"
#include "pool/container.h"

#define ROW_VERSION 1
#define ROW_HEADER  8u
#define RETRIES_MAX 16

#define INFO(ID, name_, number_, kind_, least_, most_, fallback_, of_vdisk_, help_) \
	[POLICY_##ID] = {.name = #name_,                                            \
			 .help = help_,                                             \
			 .number = number_,                                         \
			 .kind = kind_,                                             \
			 .least = least_,                                           \
			 .most = most_,                                             \
			 .fallback = fallback_,                                     \
			 .of_vdisk = of_vdisk_},
static const struct policy_info infos[POLICY_PROPERTY_COUNT] = {POLICY_PROPERTIES(INFO)};
#undef INFO

_Static_assert(POLICY_MAX_CAPACITY_CLOUD - POLICY_MAX_CAPACITY_SSD == POLICY_CLOUD &&
		       POLICY_MIN_RESERVED_CLOUD - POLICY_MIN_RESERVED_SSD == POLICY_CLOUD,
	       "in the order of the tiers");

const struct policy_info *policy_info(enum policy_property property)
{
	ASSERT(property < POLICY_PROPERTY_COUNT);
	return &infos[property];
}

static bool is_called(const char *given, const char *name)
{
	while (*name && (*given == *name || (*given == '-' && *name == '_'))) {
		given++;
		name++;
	}
	return !*given && !*name;
}

int policy_find(const char *name, enum policy_property *ret_property)
{
	for (unsigned i = 0; i < POLICY_PROPERTY_COUNT; i++)
		if (is_called(name, infos[i].name)) {
			*ret_property = (enum policy_property)i;
			return 0;
		}
	return -ENOENT;
}

static bool tiers_are_valid(uint64_t order)
{
	unsigned seen = 0;

	for (; order; order >>= 4) {
		unsigned tier = order & 15;

		if (tier == 0 || tier > POLICY_TIER_COUNT || (seen >> tier & 1))
			return false;
		seen |= 1u << tier;
	}
	return seen != 0;
}

bool policy_value_is_valid(enum policy_property property, uint64_t value)
{
	const struct policy_info *info = policy_info(property);

	if (info->kind == POLICY_TIERS)
		return tiers_are_valid(value);
	return value >= info->least && value <= info->most;
}

const char *policy_tier_name(enum policy_tier tier)
{
	static const char *const names[] = {"ssd", "hdd", "san", "cloud"};

	ASSERT(tier < POLICY_TIER_COUNT);
	return names[tier];
}

const char *policy_source_name(enum policy_source source)
{
	static const char *const names[] = {"default", "container", "vdisk"};

	ASSERT(source < ARRAY_SIZE(names));
	return names[source];
}

/* Where the number is, or would be. */
static unsigned place_of(const struct policy_set *set, uint16_t number)
{
	unsigned at = 0;

	while (at < set->count && set->entries[at].number < number)
		at++;
	return at;
}

bool policy_set_get(const struct policy_set *set, enum policy_property property,
		    uint64_t *ret_value)
{
	uint16_t number = policy_info(property)->number;
	unsigned at = place_of(set, number);

	if (at == set->count || set->entries[at].number != number)
		return false;
	*ret_value = set->entries[at].value;
	return true;
}

int policy_set_put(struct policy_set *set, enum policy_property property, uint64_t value)
{
	uint16_t number = policy_info(property)->number;
	unsigned at = place_of(set, number);

	ASSERT(policy_value_is_valid(property, value));
	if (at == set->count || set->entries[at].number != number) {
		if (set->count == POLICY_ENTRIES_MAX)
			return -E2BIG;
		memmove(&set->entries[at + 1], &set->entries[at],
			(set->count++ - at) * sizeof(set->entries[0]));
	}
	set->entries[at].number = number;
	set->entries[at].value = value;
	return 0;
}

void policy_set_remove(struct policy_set *set, enum policy_property property)
{
	uint16_t number = policy_info(property)->number;
	unsigned at = place_of(set, number);

	if (at < set->count && set->entries[at].number == number)
		memmove(&set->entries[at], &set->entries[at + 1],
			(--set->count - at) * sizeof(set->entries[0]));
}

uint32_t policy_encode(const struct policy_set *set, uint8_t *ret_bytes)
{
	memset(ret_bytes, 0, set->count * POLICY_ENTRY_BYTES);
	for (unsigned i = 0; i < set->count; i++) {
		put_le16(ret_bytes + i * POLICY_ENTRY_BYTES, set->entries[i].number);
		put_le64(ret_bytes + i * POLICY_ENTRY_BYTES + 8, set->entries[i].value);
	}
	return set->count * POLICY_ENTRY_BYTES;
}

static bool entry_is_sound(uint16_t number, uint64_t value)
{
	for (unsigned i = 0; i < POLICY_PROPERTY_COUNT; i++)
		if (infos[i].number == number)
			return policy_value_is_valid((enum policy_property)i, value);
	return number != 0; /* a newer version's */
}

int policy_decode(const uint8_t *bytes, uint32_t length, struct policy_set *ret_set)
{
	struct policy_set set = {.count = length / POLICY_ENTRY_BYTES};
	uint16_t before = 0;

	if (length % POLICY_ENTRY_BYTES != 0 || set.count > POLICY_ENTRIES_MAX)
		return -EUCLEAN;
	for (unsigned i = 0; i < set.count; i++) {
		uint16_t number = get_le16(bytes + i * POLICY_ENTRY_BYTES);
		uint64_t value = get_le64(bytes + i * POLICY_ENTRY_BYTES + 8);

		if (number <= before || !entry_is_sound(number, value))
			return -EUCLEAN;
		set.entries[i].number = before = number;
		set.entries[i].value = value;
	}
	*ret_set = set;
	return 0;
}

void policy_merge(const struct policy_set *of_container, const struct policy_set *of_vdisk,
		  struct container_policy *ret_policy)
{
	for (unsigned i = 0; i < POLICY_PROPERTY_COUNT; i++) {
		enum policy_property property = (enum policy_property)i;

		ret_policy->values[i] = infos[i].fallback;
		ret_policy->sources[i] = POLICY_DEFAULT;
		if (policy_set_get(of_container, property, &ret_policy->values[i]))
			ret_policy->sources[i] = POLICY_CONTAINER;
		if (of_vdisk && infos[i].of_vdisk &&
		    policy_set_get(of_vdisk, property, &ret_policy->values[i]))
			ret_policy->sources[i] = POLICY_VDISK;
	}
}

int container_policy_get(struct catalog *catalog, uint64_t container, uint64_t vdisk,
			 struct container_policy *ret_policy)
{
	struct policy_set of_container, of_vdisk = {0};
	int r = container_get_policy(catalog, container, &of_container);

	if (r == 0 && vdisk)
		r = policy_get_vdisk(catalog, vdisk, &of_vdisk);
	if (r == 0)
		policy_merge(&of_container, &of_vdisk, ret_policy);
	return r;
}

struct catalog_key policy_vdisk_key(uint64_t vdisk)
{
	struct catalog_key key = catalog_key(CATALOG_POLICY);

	catalog_key_add(&key, vdisk);
	return key;
}

static int decode_row(const struct catalog_row *row, struct policy_set *ret_set)
{
	int r = -EUCLEAN;

	if (row->length >= ROW_HEADER && row->value[0] == ROW_VERSION)
		r = policy_decode(row->value + ROW_HEADER, row->length - ROW_HEADER, ret_set);
	if (r < 0)
		log_error("policy", "a catalog row is damaged", "vdisk=%" PRIu64 " length=%u",
			  catalog_key_number(&row->key, 0), row->length);
	return r;
}

int policy_get_vdisk(struct catalog *catalog, uint64_t vdisk, struct policy_set *ret_set)
{
	_cleanup_(catalog_row_done) struct catalog_row row = {0};
	struct catalog_key key = policy_vdisk_key(vdisk);
	int r = catalog_get(catalog, &key, &row);

	if (r == -ENOENT) {
		ret_set->count = 0;
		return 0;
	}
	return r < 0 ? r : decode_row(&row, ret_set);
}

int policy_put_vdisk(struct catalog *catalog, uint64_t vdisk, const struct policy_set *set)
{
	uint8_t value[ROW_HEADER + POLICY_BYTES_MAX] = {ROW_VERSION};
	struct catalog_change change = {
		.kind = set->count > 0 ? CATALOG_PUT : CATALOG_DELETE,
		.key = policy_vdisk_key(vdisk),
		.value = value,
		.length = ROW_HEADER + policy_encode(set, value + ROW_HEADER),
	};

	return catalog_commit(catalog, &change, 1);
}

static uint64_t sum_of_tiers(const struct container_policy *policy, enum policy_property first,
			     unsigned tiers)
{
	uint64_t sum = 0;

	for (unsigned tier = 0; tier < POLICY_TIER_COUNT; tier++)
		if (tiers >> tier & 1)
			sum = MIN(sum + policy->values[first + tier], POLICY_NONE);
	return sum;
}

uint64_t policy_reserved(const struct container_policy *policy)
{
	return MAX(policy->min_reserved,
		   sum_of_tiers(policy, POLICY_MIN_RESERVED_SSD, (1u << POLICY_TIER_COUNT) - 1));
}

static bool conflict(const struct container_policy *policy, enum policy_property greater,
		     enum policy_property than, struct policy_conflict *ret_conflict)
{
	if (policy->values[greater] <= policy->values[than])
		return false;
	*ret_conflict = (struct policy_conflict){.greater = greater, .than = than};
	return true;
}

static bool tiers_conflict(const struct container_policy *policy, enum policy_property first,
			   enum policy_property than, struct policy_conflict *ret_conflict)
{
	if (sum_of_tiers(policy, first, (1u << POLICY_TIER_COUNT) - 1) <= policy->values[than])
		return false;
	*ret_conflict = (struct policy_conflict){.greater = first, .than = than, .sum = true};
	return true;
}

bool policy_is_sound(const struct container_policy *policy, struct policy_conflict *ret_conflict)
{
	for (unsigned i = 0; i <= POLICY_TIER_COUNT; i++)
		if (conflict(policy, POLICY_MIN_RESERVED + i, POLICY_MAX_CAPACITY + i,
			     ret_conflict))
			return false;
	if (policy->sources[POLICY_MIN_RESERVED] != POLICY_DEFAULT &&
	    tiers_conflict(policy, POLICY_MIN_RESERVED_SSD, POLICY_MIN_RESERVED, ret_conflict))
		return false;
	return !tiers_conflict(policy, POLICY_MIN_RESERVED_SSD, POLICY_MAX_CAPACITY,
			       ret_conflict) &&
	       !conflict(policy, POLICY_SPACE_NOTICE, POLICY_SPACE_LOW, ret_conflict) &&
	       !conflict(policy, POLICY_SPACE_LOW, POLICY_SPACE_CRITICAL, ret_conflict);
}
