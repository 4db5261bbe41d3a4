/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/lineage.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "base/macros.h"

#define ROW_VERSION 1

/* META row "epochs": this, then the epochs. */
struct row_header {
	uint8_t version;
	uint8_t zero;
	uint8_t count[2];
	uint8_t zero_2[4];
};
_Static_assert(sizeof(struct row_header) == 8, "on disk");

struct row_epoch {
	uint8_t id[8];
	uint8_t first[8];
	uint8_t end[8];
};
_Static_assert(sizeof(struct row_epoch) == 24, "on disk");
_Static_assert(LINEAGE_ROW_BYTES ==
		       sizeof(struct row_header) + LINEAGE_MAX * sizeof(struct row_epoch),
	       "room for all");

struct catalog_key lineage_key(void)
{
	struct catalog_key key = catalog_key(CATALOG_META);

	catalog_key_add_text(&key, "epochs");
	return key;
}

uint64_t lineage_current(const struct lineage *lineage)
{
	return lineage->count > 0 ? lineage->epochs[lineage->count - 1].id : 0;
}

static void forget_shortest(struct lineage *lineage)
{
	const struct lineage_epoch *epochs = lineage->epochs;
	unsigned shortest = 0;

	for (unsigned i = 1; i < lineage->count; i++)
		if (epochs[i].end - epochs[i].first < epochs[shortest].end - epochs[shortest].first)
			shortest = i;
	lineage->count--;
	memmove(&lineage->epochs[shortest], &lineage->epochs[shortest + 1],
		(lineage->count - shortest) * sizeof(lineage->epochs[0]));
}

void lineage_begin(struct lineage *lineage, uint64_t id, uint64_t first)
{
	ASSERT(id != 0 && !lineage->is_damaged);
	if (lineage->count > 0) {
		ASSERT(lineage->epochs[lineage->count - 1].first < first);
		lineage->epochs[lineage->count - 1].end = first;
	}
	if (lineage->count == LINEAGE_MAX)
		forget_shortest(lineage);
	lineage->epochs[lineage->count++] = (struct lineage_epoch){.id = id, .first = first};
}

bool lineage_includes(const struct lineage *lineage, uint64_t epoch, uint64_t sequence)
{
	uint64_t known = 0; /* up to where epochs are known, or there were none yet */

	if (epoch == 0 || lineage->is_damaged)
		return true;
	for (unsigned i = 0; i < lineage->count; i++) {
		const struct lineage_epoch *one = &lineage->epochs[i];

		if (one->id == epoch)
			return one->end == 0 || sequence < one->end;
	}
	for (unsigned i = 0; i < lineage->count; i++) {
		if (sequence >= known && sequence < lineage->epochs[i].first)
			return true;
		known = lineage->epochs[i].end;
	}
	return false;
}

size_t lineage_encode(const struct lineage *lineage, uint8_t value[static LINEAGE_ROW_BYTES])
{
	struct row_header *header = (struct row_header *)value;
	struct row_epoch *epochs = (struct row_epoch *)(value + sizeof(*header));

	ASSERT(lineage->count <= LINEAGE_MAX);
	*header = (struct row_header){.version = ROW_VERSION};
	put_le16(header->count, (uint16_t)lineage->count);
	for (unsigned i = 0; i < lineage->count; i++) {
		put_le64(epochs[i].id, lineage->epochs[i].id);
		put_le64(epochs[i].first, lineage->epochs[i].first);
		put_le64(epochs[i].end, lineage->epochs[i].end);
	}
	return sizeof(*header) + lineage->count * sizeof(*epochs);
}

/* They follow each other, and only the last one goes on. */
static bool epoch_is_sound(const struct lineage *lineage, unsigned index)
{
	const struct lineage_epoch *one = &lineage->epochs[index];
	bool is_last = index + 1 == lineage->count;

	return one->id != 0 && one->first != 0 && (one->end == 0) == is_last &&
	       (is_last || one->end > one->first) &&
	       (index == 0 || one->first >= lineage->epochs[index - 1].end);
}

int lineage_decode(const uint8_t *value, size_t length, struct lineage *ret_lineage)
{
	const struct row_header *header = (const struct row_header *)value;
	const struct row_epoch *epochs = (const struct row_epoch *)(value + sizeof(*header));
	unsigned count;

	if (length < sizeof(*header) || header->version != ROW_VERSION)
		return -EUCLEAN;
	count = get_le16(header->count);
	if (count > LINEAGE_MAX || length != sizeof(*header) + count * sizeof(*epochs))
		return -EUCLEAN;
	*ret_lineage = (struct lineage){.count = count};
	for (unsigned i = 0; i < count; i++)
		ret_lineage->epochs[i] = (struct lineage_epoch){.id = get_le64(epochs[i].id),
								.first = get_le64(epochs[i].first),
								.end = get_le64(epochs[i].end)};
	for (unsigned i = 0; i < count; i++)
		if (!epoch_is_sound(ret_lineage, i))
			return -EUCLEAN;
	return 0;
}
