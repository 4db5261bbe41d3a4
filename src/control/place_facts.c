/* SPDX-License-Identifier: Apache-2.0 */
#include "control/place_facts.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

#define FACT_MAX     256
#define SECTOR_BYTES 512 /* of sysfs, whatever the drive's own is */
#define VPD_HEADER   4   /* SPC-4, 7.8: unit serial number page */

/* Drives fill what they say with blanks, and some with worse. */
static void tidy_text(char *text)
{
	size_t length = strlen(text), skip = strspn(text, " \t");

	memmove(text, text + skip, length - skip + 1);
	length -= skip;
	while (length > 0 && strchr(" \t\n", text[length - 1]))
		text[--length] = '\0';
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || (unsigned char)*text > '~')
			*text = '?';
}

static FILE *open_in(const char *folder, const char *name)
{
	char path[PLACE_PATH_MAX + NAME_MAX];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return fopen(path, "re");
}

bool place_fact(const char *folder, const char *name, char *ret_text, size_t size)
{
	FILE *file = open_in(folder, name);
	bool found;

	if (!file)
		return false;
	found = fgets(ret_text, (int)size, file) != NULL;
	(void)fclose(file); /* only read */
	if (!found)
		return false;
	tidy_text(ret_text);
	return ret_text[0] != '\0';
}

static void set(json_t *facts, const char *key, const char *value)
{
	if (!json_object_get(facts, key))
		json_object_set_new(facts, key, json_string(value));
}

static void add_fact(json_t *facts, const char *key, const char *folder, const char *name)
{
	char text[FACT_MAX];

	if (place_fact(folder, name, text, sizeof(text)))
		set(facts, key, text);
}

static void add_model(json_t *facts, const char *folder)
{
	char model[FACT_MAX], vendor[64], both[FACT_MAX + 70];

	if (!place_fact(folder, "device/model", model, sizeof(model)))
		return;
	/* SATA drives all say "ATA"; others an identifier of PCI. */
	if (place_fact(folder, "device/vendor", vendor, sizeof(vendor)) &&
	    strcmp(vendor, "ATA") != 0 && strncmp(vendor, "0x", 2) != 0)
		snprintf(both, sizeof(both), "%s %s", vendor, model);
	else
		snprintf(both, sizeof(both), "%s", model);
	set(facts, "model", both);
}

/* SCSI: the page as the drive gave it. */
static void add_vpd_serial(json_t *facts, const char *folder)
{
	FILE *file = open_in(folder, "device/vpd_pg80");
	char page[VPD_HEADER + 64];
	size_t length;

	if (!file)
		return;
	length = fread(page, 1, sizeof(page) - 1, file);
	(void)fclose(file); /* only read */
	if (length <= VPD_HEADER)
		return;
	page[length] = '\0';
	tidy_text(page + VPD_HEADER);
	if (page[VPD_HEADER])
		set(facts, "serial", page + VPD_HEADER);
}

/* udev's database: lines such as "E:ID_SERIAL_SHORT=S5XYZ". */
static void add_udev(json_t *facts, const char *root, const char *number)
{
	static const char *const keys[][2] = {{"E:ID_MODEL=", "model"},
					      {"E:ID_SERIAL_SHORT=", "serial"},
					      {"E:ID_WWN=", "wwn"},
					      {"E:ID_PATH=", "path"}};
	char folder[PLACE_PATH_MAX], name[64], line[FACT_MAX];
	FILE *file;

	snprintf(folder, sizeof(folder), "%s/run/udev/data", root);
	snprintf(name, sizeof(name), "b%s", number);
	file = open_in(folder, name);
	while (file && fgets(line, sizeof(line), file)) {
		tidy_text(line);
		for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
			if (strncmp(line, keys[i][0], strlen(keys[i][0])) == 0)
				set(facts, keys[i][1], line + strlen(keys[i][0]));
	}
	if (file)
		(void)fclose(file); /* only read */
}

static int is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void free_names(struct dirent **names, int count)
{
	for (int i = 0; i < count; i++)
		free(names[i]);
	free(names);
}

/* The same file in the end. */
static bool is_same(const char *a, const char *b)
{
	_cleanup_free_ char *real_a = realpath(a, NULL);
	_cleanup_free_ char *real_b = realpath(b, NULL);

	return real_a && real_b && strcmp(real_a, real_b) == 0;
}

static bool add_slot_of(json_t *facts, const char *enclosures, const char *enclosure,
			const char *device)
{
	char path[PLACE_PATH_MAX + 2 * NAME_MAX + 16];
	struct dirent **slots = NULL;
	bool found = false;
	int count;

	snprintf(path, sizeof(path), "%s/%s", enclosures, enclosure);
	count = scandir(path, &slots, is_visible, alphasort);
	for (int i = 0; i < count && !found; i++) {
		snprintf(path, sizeof(path), "%s/%s/%s/device", enclosures, enclosure,
			 slots[i]->d_name);
		found = is_same(path, device);
		if (found) {
			set(facts, "enclosure", enclosure);
			set(facts, "slot", slots[i]->d_name);
		}
	}
	free_names(slots, count);
	return found;
}

static bool add_enclosure(json_t *facts, const char *root, const char *folder)
{
	char path[PLACE_PATH_MAX], device[PLACE_PATH_MAX + 16];
	struct dirent **names = NULL;
	bool found = false;
	int count;

	snprintf(path, sizeof(path), "%s/sys/class/enclosure", root);
	snprintf(device, sizeof(device), "%s/device", folder);
	count = scandir(path, &names, is_visible, alphasort);
	for (int i = 0; i < count && !found; i++)
		found = add_slot_of(facts, path, names[i]->d_name, device);
	free_names(names, count);
	return found;
}

/* NVMe drives sit in slots of PCI, which have addresses without the function: 0000:5e:00. */
static void add_pci_slot(json_t *facts, const char *root, const char *folder)
{
	char path[PLACE_PATH_MAX], name[NAME_MAX + 16], address[32], part[40];
	struct dirent **names = NULL;
	int count;

	snprintf(path, sizeof(path), "%s/sys/bus/pci/slots", root);
	count = scandir(path, &names, is_visible, alphasort);
	for (int i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%s/address", names[i]->d_name);
		if (!place_fact(path, name, address, sizeof(address)))
			continue;
		snprintf(part, sizeof(part), "/%s.", address);
		if (strstr(folder, part)) {
			snprintf(name, sizeof(name), "PCI slot %s", names[i]->d_name);
			set(facts, "slot", name);
		}
	}
	free_names(names, count);
}

json_t *place_facts(const char *root, const char *folder)
{
	const char *name = strrchr(folder, '/') + 1;
	char number[32] = "", size[32];
	json_t *facts = json_pack("{s:s}", "name", name);

	if (!facts)
		return NULL;
	if (place_fact(folder, "dev", number, sizeof(number)))
		set(facts, "number", number);
	if (place_fact(folder, "size", size, sizeof(size)))
		json_object_set_new(
			facts, "size_bytes",
			json_integer((json_int_t)(strtoull(size, NULL, 10) * SECTOR_BYTES)));
	add_model(facts, folder);
	add_fact(facts, "serial", folder, "device/serial");
	add_fact(facts, "serial", folder, "serial");
	add_vpd_serial(facts, folder);
	add_fact(facts, "wwn", folder, "wwid");
	add_fact(facts, "wwn", folder, "device/wwid");
	add_fact(facts, "backing_file", folder, "loop/backing_file");
	add_udev(facts, root, number);
	if (!add_enclosure(facts, root, folder))
		add_pci_slot(facts, root, folder);
	return facts;
}
