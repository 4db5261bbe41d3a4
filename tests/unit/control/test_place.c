/* SPDX-License-Identifier: Apache-2.0 */
/* Places of disks from trees like those of /proc, /sys and udev, made here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macros.h"
#include "control/place_real.h"

static char root[64];

static void path_of(const char *name, char path[static 512])
{
	snprintf(path, 512, "%s/%s", root, name);
}

/* All folders above it. */
static void make_folders(const char *path)
{
	char part[512];

	for (const char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
		snprintf(part, sizeof(part), "%.*s", (int)(at - path), path);
		assert_true(mkdir(part, 0755) == 0 || errno == EEXIST);
	}
}

static void put_bytes(const char *name, const char *bytes, size_t length)
{
	char path[512];
	FILE *file;

	path_of(name, path);
	make_folders(path);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
}

static void put(const char *name, const char *text)
{
	put_bytes(name, text, strlen(text));
}

static void put_link(const char *name, const char *to)
{
	char path[512], target[512];

	path_of(name, path);
	path_of(to, target);
	make_folders(path);
	assert_int_equal(symlink(target, path), 0);
}

/* The mount table says that everything below the root is on that device. */
static void put_mounts(const char *number, const char *source)
{
	char text[1024];

	snprintf(text, sizeof(text),
		 "1 0 8:99 / / rw - ext4 /dev/root rw\n"
		 "2 1 8:99 / %s rw,noatime shared:1 - ext4 /dev/under rw\n"
		 "3 1 %s / %s rw,noatime - xfs %s rw\n"
		 "4 1 8:98 / %s/not rw - ext4 /dev/other rw\n"
		 "nonsense\n",
		 root, number, root, source, root);
	put("proc/self/mountinfo", text);
}

static int setup(void **state)
{
	snprintf(root, sizeof(root), "/tmp/sarsen-place-XXXXXX");
	assert_non_null(mkdtemp(root));
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	return system(command);
}

static json_t *find(void)
{
	json_t *place = NULL;

	assert_int_equal(place_real_ops.find(root, root, &place), 0);
	assert_non_null(place);
	return place;
}

static void expect(const json_t *object, const char *key, const char *value)
{
	const char *found = json_string_value(json_object_get(object, key));

	if (value)
		assert_string_equal(found ? found : "(none)", value);
	else
		assert_null(found);
}

static void put_drive(const char *folder, const char *name, const char *number)
{
	char path[512], link[64];

	snprintf(path, sizeof(path), "%s/dev", folder);
	put(path, number);
	snprintf(path, sizeof(path), "%s/size", folder);
	put(path, "2048\n");
	snprintf(link, sizeof(link), "sys/dev/block/%.*s", (int)strcspn(number, "\n"), number);
	put_link(link, folder);
	snprintf(link, sizeof(link), "sys/class/block/%s", name);
	put_link(link, folder);
}

#define SDA  "sys/devices/pci0/host0/target0/block/sda"
#define SDB  "sys/devices/pci0/host0/target1/block/sdb"
#define MD   "sys/devices/virtual/block/md0"
#define DM   "sys/devices/virtual/block/dm-3"
#define SES  "sys/class/enclosure/0:0:8:0/Slot 03"
#define NVME "sys/devices/pci0000:5d/0000:5e:00.0/nvme/nvme0/nvme0n1"

/* A logical volume on a RAID of a partition and a whole drive. */
static void goes_down_to_the_drives(void **state)
{
	json_t *place, *devices;

	put_mounts("252:3", "/dev/mapper/vg-pool");
	put_drive(DM, "dm-3", "252:3\n");
	put(DM "/dm/name", "vg-pool\n");
	put_drive(MD, "md0", "9:0\n");
	put_drive(SDA, "sda", "8:0\n");
	put_drive(SDB, "sdb", "8:16\n");
	put_drive(SDB "/sdb1", "sdb1", "8:17\n");
	put(SDB "/sdb1/partition", "1\n");
	put_link(DM "/slaves/md0", MD);
	put_link(MD "/slaves/sda", SDA);
	put_link(MD "/slaves/sdb1", SDB "/sdb1");
	put(SDA "/device/model", "ST4000NM   \n");
	put(SDA "/device/vendor", "SEAGATE \n");
	put_bytes(SDA "/device/vpd_pg80",
		  "\0\x80\0\x0a  ZC1\x01"
		  "234 ",
		  14);
	put(SDA "/device/wwid", "naa.5000c500a1b2c3d4\n");
	put(SDB "/device/model", "Samsung SSD\n");
	put(SDB "/device/vendor", "ATA     \n");
	put("run/udev/data/b8:16", "S:disk/by-id/x\nE:ID_SERIAL_SHORT=S5X\nE:ID_PATH=pci-0-sas-1\n"
				   "E:ID_WWN=0x5002538e\n");
	put(SES "/locate", "0\n");
	put_link(SES "/device", SDA "/device");
	place = find();
	expect(json_object_get(place, "mount"), "point", root);
	expect(json_object_get(place, "mount"), "type", "xfs");
	expect(json_object_get(place, "mount"), "source", "/dev/mapper/vg-pool");
	devices = json_object_get(place, "devices");
	assert_int_equal(json_array_size(devices), 2);
	expect(json_array_get(devices, 0), "name", "sda");
	expect(json_array_get(devices, 0), "through", "dm-3 (vg-pool), md0");
	expect(json_array_get(devices, 0), "model", "SEAGATE ST4000NM");
	expect(json_array_get(devices, 0), "serial", "ZC1?234");
	expect(json_array_get(devices, 0), "wwn", "naa.5000c500a1b2c3d4");
	expect(json_array_get(devices, 0), "enclosure", "0:0:8:0");
	expect(json_array_get(devices, 0), "slot", "Slot 03");
	assert_int_equal(
		json_integer_value(json_object_get(json_array_get(devices, 0), "size_bytes")),
		2048 * 512);
	expect(json_array_get(devices, 1), "name", "sdb");
	expect(json_array_get(devices, 1), "through", "dm-3 (vg-pool), md0, sdb1");
	expect(json_array_get(devices, 1), "model", "Samsung SSD");
	expect(json_array_get(devices, 1), "serial", "S5X");
	expect(json_array_get(devices, 1), "path", "pci-0-sas-1");
	expect(json_array_get(devices, 1), "wwn", "0x5002538e");
	expect(json_array_get(devices, 1), "slot", NULL);
	json_decref(place);
}

static void knows_slots_of_pci(void **state)
{
	json_t *place, *device;

	/* A file system that spans devices: its number is none's. */
	put_mounts("0:45", "/dev/nvme0n1");
	put_drive(NVME, "nvme0n1", "259:0\n");
	put(NVME "/device/serial", "PHL1\n");
	put(NVME "/device/model", "INTEL\n");
	put(NVME "/wwid", "eui.0102\n");
	put("sys/bus/pci/slots/7/address", "0000:5e:00\n");
	put("sys/bus/pci/slots/8/address", "0000:5f:00\n");
	place = find();
	device = json_array_get(json_object_get(place, "devices"), 0);
	expect(device, "name", "nvme0n1");
	expect(device, "serial", "PHL1");
	expect(device, "model", "INTEL");
	expect(device, "wwn", "eui.0102");
	expect(device, "slot", "PCI slot 7");
	expect(device, "through", NULL);
	json_decref(place);
}

static void says_what_there_is_without_a_drive(void **state)
{
	json_t *place = NULL;

	put_mounts("0:46", "server:/export\\040x\\134y");
	place = find();
	expect(json_object_get(place, "mount"), "source", "server:/export x\\y");
	assert_int_equal(json_array_size(json_object_get(place, "devices")), 0);
	json_decref(place);
	put_mounts("0:46", "bad\xff");
	place = find();
	expect(json_object_get(place, "mount"), "source", "bad?");
	json_decref(place);
	assert_int_equal(place_real_ops.find(root, "/no/such/directory", &place), -ENOENT);
	put("proc/self/mountinfo", "");
	assert_int_equal(place_real_ops.find(root, root, &place), -ENOENT);
}

/* Devices that lie on each other in a ring, which sysfs never shows. */
static void ends_in_a_ring(void **state)
{
	json_t *place;

	put_mounts("252:3", "/dev/dm-3");
	put_drive(DM, "dm-3", "252:3\n");
	put_drive(MD, "md0", "9:0\n");
	put_link(DM "/slaves/md0", MD);
	put_link(MD "/slaves/dm-3", DM);
	place = find();
	assert_int_equal(json_array_size(json_object_get(place, "devices")), 0);
	json_decref(place);
}

static void switches_the_light(void **state)
{
	enum place_led led = PLACE_LED_ON;
	char path[512];

	put(SES "/locate", "0\n");
	assert_int_equal(place_real_ops.get_led(root, "0:0:8:0", "Slot 03", &led), 0);
	assert_int_equal(led, PLACE_LED_OFF);
	assert_int_equal(place_real_ops.set_led(root, "0:0:8:0", "Slot 03", PLACE_LED_ON), 0);
	assert_int_equal(place_real_ops.get_led(root, "0:0:8:0", "Slot 03", &led), 0);
	assert_int_equal(led, PLACE_LED_ON);
	assert_int_equal(place_real_ops.set_led(root, "0:0:8:0", "Slot 03", PLACE_LED_OFF), 0);
	assert_int_equal(place_real_ops.get_led(root, "0:0:8:0", "Slot 03", &led), 0);
	assert_int_equal(led, PLACE_LED_OFF);
	put(SES "/locate", "what\n");
	assert_int_equal(place_real_ops.get_led(root, "0:0:8:0", "Slot 03", &led), -EIO);
	/* None is made where there is none, and names lead nowhere else. */
	assert_int_equal(place_real_ops.set_led(root, "0:0:8:0", "Slot 04", PLACE_LED_ON), -ENOENT);
	assert_int_equal(place_real_ops.set_led(root, "..", "Slot 03", PLACE_LED_ON), -ENOENT);
	assert_int_equal(place_real_ops.set_led(root, "0:0:8:0", "x/y", PLACE_LED_ON), -ENOENT);
	assert_int_equal(place_real_ops.set_led(root, "", "", PLACE_LED_ON), -ENOENT);
	if (geteuid() == 0)
		return; /* nothing is forbidden to root */
	path_of(SES "/locate", path);
	assert_int_equal(chmod(path, 0444), 0);
	assert_int_equal(place_real_ops.set_led(root, "0:0:8:0", "Slot 03", PLACE_LED_ON), -EACCES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(goes_down_to_the_drives, setup, teardown),
		cmocka_unit_test_setup_teardown(knows_slots_of_pci, setup, teardown),
		cmocka_unit_test_setup_teardown(says_what_there_is_without_a_drive, setup,
						teardown),
		cmocka_unit_test_setup_teardown(ends_in_a_ring, setup, teardown),
		cmocka_unit_test_setup_teardown(switches_the_light, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
