/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/macros.h"
#include "control/config.h"

struct faults {
	unsigned count;
	char text[8192];
};

static void collect(const char *fault, void *arg)
{
	struct faults *faults = arg;

	faults->count++;
	snprintf(faults->text + strlen(faults->text), sizeof(faults->text) - strlen(faults->text),
		 "%s\n", fault);
}

static int read_text(const char *text, struct config *config, struct faults *faults)
{
	FILE *stream = fmemopen((void *)text, strlen(text), "r");
	int r;

	assert_non_null(stream);
	*faults = (struct faults){0};
	config_defaults(config);
	r = config_read_stream(config, stream, "x.conf", collect, faults);
	fclose(stream);
	assert_int_equal(r, faults->count ? -EINVAL : 0);
	return r;
}

static void reads_all_keys(void **state)
{
	struct config config;
	struct faults faults;

	assert_int_equal(
		read_text("\xEF\xBB\xBF# comment\n[node]\nstate = /srv/s\n  socket=/run/x\r\n"
			  "reactors = 3\nworkers=2\npin = no\npoll_us = 0\n"
			  "disk_timeout_ms = 120000\n\n[iscsi]\n"
			  "enabled=off\naddress = ::1 ; loopback\nannounce=host.example\n"
			  "port = 0\nport_fallback = yes\nmax_sessions = 9\nmemory = 1G\n"
			  "[nvme]\nenabled=no\ndirectory=/run/n\nkeeper=/opt/k\nkeepers=systemd\n"
			  "group=kvm\nmax_controllers=1\nmax_queues=128\nmax_namespaces=256\n"
			  "in_flight=1M\n"
			  "; another\n[log]\nlevel = Debug\nformat=json\n[memory]\nbudget=2G\n",
			  &config, &faults),
		0);
	assert_string_equal(config.state, "/srv/s");
	assert_string_equal(config.socket, "/run/x");
	assert_int_equal(config.reactors, 3);
	assert_int_equal(config.workers, 2);
	assert_false(config.pin);
	assert_int_equal(config.poll_us, 0);
	assert_int_equal(config.disk_timeout_ms, 120000);
	assert_false(config.iscsi_enabled);
	assert_string_equal(config.iscsi_address, "::1");
	assert_string_equal(config.iscsi_announce, "host.example");
	assert_int_equal(config.iscsi_port, 0);
	assert_true(config.iscsi_port_fallback);
	assert_int_equal(config.iscsi_max_sessions, 9);
	assert_int_equal(config.iscsi_memory_bytes, GIB);
	assert_false(config.nvme_enabled);
	assert_string_equal(config.nvme_directory, "/run/n");
	assert_string_equal(config.nvme_keeper, "/opt/k");
	assert_int_equal(config.nvme_keepers, CONFIG_KEEPERS_SYSTEMD);
	assert_string_equal(config.nvme_group, "kvm");
	assert_int_equal(config.nvme_max_controllers, 1);
	assert_int_equal(config.nvme_max_queues, 128);
	assert_int_equal(config.nvme_max_namespaces, 256);
	assert_int_equal(config.nvme_in_flight_bytes, MIB);
	assert_int_equal(config.log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(config.log_format, LOG_FORMAT_JSON);
	assert_int_equal(config.memory_budget_bytes, 2 * GIB);
	/* iSCSI is off here and needs nothing. */
	assert_int_equal(config_map_bytes(&config), 2 * GIB - CONFIG_MEMORY_BASE);
	assert_int_equal(config_check(&config, collect, &faults), 0);
}

static void controllers_have_a_directory(void **state)
{
	char directory[CONFIG_SOCKET_MAX];
	struct config config;
	struct faults faults = {0};

	config_defaults(&config);
	config_nvme_directory(&config, directory);
	assert_string_equal(directory, "/run/sarsen/nvme");
	assert_int_equal(config_check(&config, collect, &faults), 0);
	snprintf(config.nvme_directory, sizeof(config.nvme_directory), "run/n");
	snprintf(config.nvme_keeper, sizeof(config.nvme_keeper), "keeper");
	config_nvme_directory(&config, directory);
	assert_string_equal(directory, "run/n");
	assert_int_equal(config_check(&config, collect, &faults), -EINVAL);
	assert_int_equal(faults.count, 2);
	config.nvme_enabled = false; /* whatever stands there then */
	assert_int_equal(config_check(&config, collect, &faults), 0);
	for (unsigned i = 0; i < 4; i++) {
		static const char *const wrong[] = {
			"[nvme]\nmax_controllers=257\n", "[nvme]\nmax_queues=129\n",
			"[nvme]\nin_flight=1023K\n", "[nvme]\nkeepers=always\n"};

		assert_int_equal(read_text(wrong[i], &config, &faults), -EINVAL);
		assert_int_equal(faults.count, 1);
	}
}

static void a_disk_may_take_a_while_but_not_for_ever(void **state)
{
	struct config config;
	struct faults faults;

	assert_int_equal(read_text("[node]\ndisk_timeout_ms = 1000\n", &config, &faults), 0);
	assert_int_equal(config.disk_timeout_ms, 1000);
	assert_int_equal(read_text("[node]\ndisk_timeout_ms = 999\n", &config, &faults), -EINVAL);
	assert_int_equal(read_text("[node]\ndisk_timeout_ms=120001\n", &config, &faults), -EINVAL);
	assert_int_equal(config.disk_timeout_ms, 5000);
}

static void names_the_sections_that_there_are(void **state)
{
	struct config config;
	struct config_key key;
	struct faults faults;
	char section[20], *key_fault;

	assert_int_equal(read_text("[disk]\nsize = 1\n", &config, &faults), -EINVAL);
	assert_int_equal(faults.count, 2); /* the section's own line, and the key in it */
	key_fault = strchr(faults.text, '\n');
	*key_fault++ = '\0';
	for (size_t i = 0; config_key_get(i, &key); i++) {
		snprintf(section, sizeof(section), "[%s]", key.section);
		assert_non_null(strstr(faults.text, section));
		assert_non_null(strstr(key_fault, section));
	}
}

static void an_empty_file_is_the_defaults(void **state)
{
	struct config config, defaults;
	struct faults faults;

	config_defaults(&defaults);
	assert_int_equal(read_text("\n", &config, &faults), 0);
	assert_memory_equal(&config, &defaults, sizeof(config));
	assert_int_equal(config_check(&config, collect, &faults), 0);
}

static void reports_all_faults_with_their_lines(void **state)
{
	static const char text[] = "[node]\n"            /* 1 */
				   "reactors = many\n"   /* 2 */
				   "what is this\n"      /* 3 */
				   "colour = red\n"      /* 4 */
				   "reactors = 1\n"      /* 5: given twice */
				   "[disk]\n"            /* 6 */
				   "path = /x\n"         /* 7 */
				   "[iscsi\n"            /* 8 */
				   "[iscsi]\n"           /* 9 */
				   "port = 65536\n"      /* 10 */
				   "enabled = perhaps\n" /* 11 */
				   "memory = 1X\n"       /* 12 */
				   "memory = 1G\n"       /* 13: given twice */
				   "address =\n"         /* 14 */
				   "[log]\n"
				   "level = loud\n" /* 16 */
				   "[memory]\n"
				   "budget = 1K\n"     /* 18 */
				   "last line is bad"; /* 19 */
	static const unsigned lines[] = {2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 18, 19};
	struct config config;
	struct faults faults;
	char start[32];

	assert_int_equal(read_text(text, &config, &faults), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		snprintf(start, sizeof(start), "x.conf:%u: ", lines[i]);
		if (!strstr(faults.text, start))
			fail_msg("line %u was not reported in:\n%s", lines[i], faults.text);
	}
	assert_int_equal(faults.count, ARRAY_SIZE(lines));
}

static void refuses_long_lines_and_texts(void **state)
{
	char text[1024];
	struct config config;
	struct faults faults;

	snprintf(text, sizeof(text), "[node]\nstate = /%0500d\nreactors = 2\n", 0);
	assert_int_equal(read_text(text, &config, &faults), -EINVAL);
	assert_int_equal(faults.count, 1);
	assert_non_null(strstr(faults.text, "x.conf:2: line is longer"));
	assert_int_equal(config.reactors, 2);
	snprintf(text, sizeof(text), "[node]\nsocket = /%0107d\n", 0);
	assert_int_equal(read_text(text, &config, &faults), -EINVAL);
	assert_non_null(strstr(faults.text, "x.conf:2: socket is longer than 107"));
}

static void checks_what_is_left(void **state)
{
	struct config config;
	struct faults faults = {0};

	config_defaults(&config);
	strcpy(config.iscsi_address, "localhost");
	strcpy(config.iscsi_announce, "a/b");
	config.memory_budget_bytes = 128 * MIB; /* iSCSI takes half */
	config.iscsi_memory_bytes = 64 * MIB;
	strcpy(config.state, "state");
	strcpy(config.socket, "x.sock");
	assert_int_equal(config_check(&config, collect, &faults), -EINVAL);
	assert_int_equal(faults.count, 5);
}

static void a_missing_file_is_an_error(void **state)
{
	struct config config;
	struct faults faults = {0};

	config_defaults(&config);
	assert_int_equal(config_read_file(&config, "/nonexistent/x.conf", collect, &faults),
			 -ENOENT);
	assert_int_equal(config_read_file(&config, "/", collect, &faults), -EISDIR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_all_keys),
		cmocka_unit_test(controllers_have_a_directory),
		cmocka_unit_test(a_disk_may_take_a_while_but_not_for_ever),
		cmocka_unit_test(names_the_sections_that_there_are),
		cmocka_unit_test(an_empty_file_is_the_defaults),
		cmocka_unit_test(reports_all_faults_with_their_lines),
		cmocka_unit_test(refuses_long_lines_and_texts),
		cmocka_unit_test(checks_what_is_left),
		cmocka_unit_test(a_missing_file_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
