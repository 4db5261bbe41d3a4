/* SPDX-License-Identifier: Apache-2.0 */
#include "vdisk/page.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "codec/crc32c.h"

uint32_t page_encode(struct page_disk *page, const struct page_id *id, uint64_t lsn,
		     const struct map_entry *entries, const void *note)
{
	memset(page, 0, sizeof(*page));
	page->magic = htole32(PAGE_MAGIC);
	page->version = PAGE_VERSION;
	page->level = (uint8_t)id->level;
	page->vdisk = htole64(id->vdisk);
	page->index = htole64(id->index);
	page->lsn = htole64(lsn);
	for (unsigned i = 0; i < MAP_FANOUT; i++) {
		page->entries[i].crc = htole32(entries[i].crc);
		page->entries[i].address = htole64(entries[i].address);
	}
	if (note)
		memcpy(page->note, note, sizeof(page->note));
	return crc32c(page, sizeof(*page));
}

static bool entry_is_sound(const struct map_entry *entry, unsigned level)
{
	if (entry->address == 0 || (entry->address == ADDRESS_OF_LOST && level == 0))
		return entry->crc == 0;
	return address_group(entry->address) != 0 && address_type(entry->address) == ADDRESS_PLAIN;
}

int page_decode(const struct page_disk *page, const struct page_id *id, uint32_t crc,
		struct map_entry *ret_entries)
{
	if (crc32c(page, sizeof(*page)) != crc)
		return -EBADMSG;
	if (le32toh(page->magic) != PAGE_MAGIC || page->version != PAGE_VERSION ||
	    page->level != id->level || le64toh(page->vdisk) != id->vdisk ||
	    le64toh(page->index) != id->index)
		return -EUCLEAN;
	for (unsigned i = 0; i < MAP_FANOUT; i++) {
		ret_entries[i].crc = le32toh(page->entries[i].crc);
		ret_entries[i].address = le64toh(page->entries[i].address);
		if (!entry_is_sound(&ret_entries[i], id->level))
			return -EUCLEAN;
	}
	return 0;
}
