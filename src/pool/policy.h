/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The policy of containers and of single vDisks: properties, each with a default, that a container
 * may set for its vDisks, and a vDisk for itself where the property allows it. The one table below
 * drives rows, parsing, JSON, help, completion and documents: a new property is one line of it.
 *
 * What is set for a container is in its row (container.h), what is set for a vDisk in a row of its
 * own (CATALOG_POLICY); docs/format.md. All functions that take a catalog are for fibers.
 */
#include "catalog/catalog.h"

enum policy_kind {
	POLICY_COUNT,   /* a number */
	POLICY_SIZE,    /* bytes; POLICY_NONE shows as "none" */
	POLICY_PERCENT, /* 1 to 100 */
	POLICY_TIERS,   /* an order of tiers, 4 bits each from the lowest: tier + 1; 0 ends it */
};

enum policy_tier { /* numbers are part of the format */
		   POLICY_SSD,
		   POLICY_HDD,
		   POLICY_SAN,
		   POLICY_CLOUD,
		   POLICY_TIER_COUNT,
};

#define POLICY_NONE       ((uint64_t)INT64_MAX) /* no limit */
#define POLICY_ALL_TIERS  0x4321u
#define POLICY_FACTOR_MAX 3u
#define POLICY_WIDTH_MAX  64u

/* Identifier, name, number in rows (never used again), kind, least, most, default, whether a vDisk
 * may have its own, what it is. */
#define POLICY_PROPERTIES(X)                                                                      \
	X(REPLICATION_FACTOR, replication_factor, 1, POLICY_COUNT, 1, POLICY_FACTOR_MAX, 1, true, \
	  "copies of all data, on different disks")                                               \
	X(MAX_CAPACITY, max_capacity, 2, POLICY_SIZE, MIB, POLICY_NONE, POLICY_NONE, false,       \
	  "most that may be live, copies not counted; writes beyond it fail")                     \
	X(MAX_CAPACITY_SSD, max_capacity_ssd, 3, POLICY_SIZE, 0, POLICY_NONE, POLICY_NONE, false, \
	  "size of files on SSDs")                                                                \
	X(MAX_CAPACITY_HDD, max_capacity_hdd, 4, POLICY_SIZE, 0, POLICY_NONE, POLICY_NONE, false, \
	  "size of files on hard disks")                                                          \
	X(MAX_CAPACITY_SAN, max_capacity_san, 5, POLICY_SIZE, 0, POLICY_NONE, POLICY_NONE, false, \
	  "size of files on SAN volumes")                                                         \
	X(MAX_CAPACITY_CLOUD, max_capacity_cloud, 6, POLICY_SIZE, 0, POLICY_NONE, POLICY_NONE,    \
	  false, "size of files in the cloud")                                                    \
	X(MIN_RESERVED, min_reserved, 7, POLICY_SIZE, 0, POLICY_NONE - 1, 0, false,               \
	  "room that no other container can take, copies not counted")                            \
	X(MIN_RESERVED_SSD, min_reserved_ssd, 8, POLICY_SIZE, 0, POLICY_NONE - 1, 0, false,       \
	  "the same, for files on SSDs")                                                          \
	X(MIN_RESERVED_HDD, min_reserved_hdd, 9, POLICY_SIZE, 0, POLICY_NONE - 1, 0, false,       \
	  "the same, for files on hard disks")                                                    \
	X(MIN_RESERVED_SAN, min_reserved_san, 10, POLICY_SIZE, 0, POLICY_NONE - 1, 0, false,      \
	  "the same, for files on SAN volumes")                                                   \
	X(MIN_RESERVED_CLOUD, min_reserved_cloud, 11, POLICY_SIZE, 0, POLICY_NONE - 1, 0, false,  \
	  "the same, for files in the cloud")                                                     \
	X(STRIPE_WIDTH, stripe_width, 12, POLICY_COUNT, 1, POLICY_WIDTH_MAX, 4, true,             \
	  "different disks that what is written in a row goes to, as far as there are so many")   \
	X(TIER_ORDER_RANDOM, tier_order_random, 13, POLICY_TIERS, 1, POLICY_ALL_TIERS,            \
	  POLICY_ALL_TIERS, true, "tiers for data written at random, the best first")             \
	X(TIER_ORDER_SEQUENTIAL, tier_order_sequential, 14, POLICY_TIERS, 1, POLICY_ALL_TIERS,    \
	  POLICY_ALL_TIERS, true,                                                                 \
	  "tiers for data written in sequence, from when a vDisk is seen to be written so")       \
	X(SPACE_NOTICE, space_notice, 15, POLICY_PERCENT, 1, 100, 75, false,                      \
	  "percent of max_capacity that an event tells of")                                       \
	X(SPACE_LOW, space_low, 16, POLICY_PERCENT, 1, 100, 90, false,                            \
	  "percent of max_capacity that a warning tells of")                                      \
	X(SPACE_CRITICAL, space_critical, 17, POLICY_PERCENT, 1, 100, 95, false,                  \
	  "percent of max_capacity that an error tells of")

#define POLICY_ENUM(ID, ...) POLICY_##ID,
enum policy_property { POLICY_PROPERTIES(POLICY_ENUM) POLICY_PROPERTY_COUNT };
#undef POLICY_ENUM

struct policy_info {
	const char *name, *help;
	uint16_t number;
	enum policy_kind kind;
	uint64_t least, most, fallback;
	bool of_vdisk; /* may be set for a vDisk */
};

const struct policy_info *policy_info(enum policy_property property);
/* Also with dashes in the name. -ENOENT */
int policy_find(const char *name, enum policy_property *ret_property);
/* In range, and a sound order of tiers. */
bool policy_value_is_valid(enum policy_property property, uint64_t value);
const char *policy_tier_name(enum policy_tier tier);

/* What one row sets. Properties that only a newer version knows are kept as they are. */
#define POLICY_ENTRIES_MAX 64u
struct policy_set {
	unsigned count;
	struct {
		uint16_t number;
		uint64_t value;
	} entries[POLICY_ENTRIES_MAX]; /* by number */
};

bool policy_set_get(const struct policy_set *set, enum policy_property property,
		    uint64_t *ret_value);
int policy_set_put(struct policy_set *set, enum policy_property property,
		   uint64_t value); /* -E2BIG, only with many unknown ones */
void policy_set_remove(struct policy_set *set, enum policy_property property);

#define POLICY_ENTRY_BYTES 16u
#define POLICY_BYTES_MAX   (POLICY_ENTRIES_MAX * POLICY_ENTRY_BYTES)
/* The part of a row that holds the set; the length. */
uint32_t policy_encode(const struct policy_set *set, uint8_t *ret_bytes);
int policy_decode(const uint8_t *bytes, uint32_t length, struct policy_set *ret_set); /* -EUCLEAN */

enum policy_source { POLICY_DEFAULT, POLICY_CONTAINER, POLICY_VDISK };
const char *policy_source_name(enum policy_source source);

/* What counts: `policy.replication_factor`, or values[] by property. */
struct container_policy {
	union {
		uint64_t values[POLICY_PROPERTY_COUNT];
#define POLICY_FIELD(ID, name, ...) uint64_t name;
		struct {
			POLICY_PROPERTIES(POLICY_FIELD)
		};
#undef POLICY_FIELD
	};
	enum policy_source sources[POLICY_PROPERTY_COUNT];
};

/* `vdisk` 0: of the container alone. -ENOENT no such container. */
int container_policy_get(struct catalog *catalog, uint64_t container, uint64_t vdisk,
			 struct container_policy *ret_policy);
/* From what is set; `of_vdisk` may be NULL. */
void policy_merge(const struct policy_set *of_container, const struct policy_set *of_vdisk,
		  struct container_policy *ret_policy);

/* Of a vDisk; none is set when there is no row. */
struct catalog_key policy_vdisk_key(uint64_t vdisk);
int policy_get_vdisk(struct catalog *catalog, uint64_t vdisk, struct policy_set *ret_set);
int policy_put_vdisk(struct catalog *catalog, uint64_t vdisk, const struct policy_set *set);

/* Two properties of which the first is greater than the second allows. */
struct policy_conflict {
	enum policy_property greater, than;
	bool sum; /* `greater` names the first of the tiers, whose sum it is */
};
/* Whether all of it can be had at once: each minimum within its maximum, the tiers' minima within
 * the total's, the thresholds in order. */
bool policy_is_sound(const struct container_policy *policy, struct policy_conflict *ret_conflict);
/* What is reserved in total: at least the sum over the tiers. */
uint64_t policy_reserved(const struct container_policy *policy);
