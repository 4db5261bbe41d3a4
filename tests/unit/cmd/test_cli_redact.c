/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cli_redact.h"
#include "cmd/cli_tar.h"

static struct cli_redact *redact;

static void expect(const char *text, const char *expected)
{
	char *got = cli_redact_text(redact, text);

	assert_string_equal(got, expected);
	free(got);
}

static void replaces_whole_names(void **state)
{
	json_t *json = json_loads("{\"name\": \"web/a\", \"list\": [{\"pool\": \"ssd\"}], "
				  "\"state\": \"online\", \"object\": \"node\"}",
				  0, NULL);

	redact = cli_redact_new();
	cli_redact_learn_json(redact, json);
	cli_redact_learn_log(redact, "INFO x: y vdisk=gone error=3 object=\"two words\"\n=\nby=me");
	expect("web/a web a ssd online node",
	       "redacted-1 redacted-2 redacted-3 redacted-4 online node");
	expect("webs aa a-b xssd ssd. ssd.eu (a)",
	       "webs aa a-b xssd redacted-4. ssd.eu (redacted-3)");
	expect("gone; two words by me", "redacted-5; redacted-6 by redacted-7");
	expect("10.1.2.3:80 127.0.0.1 1.2.3 v10.1.2.3", "ip:80 127.0.0.1 1.2.3 v10.1.2.3");
	expect("", "");
	json_decref(json);
	cli_redact_free(redact);
	cli_redact_free(NULL);
}

/* Of a disk that was removed only the text of an event still knows. */
static void replaces_paths(void **state)
{
	json_t *json = json_loads("[{\"text\": \"disk 3 (/srv/acme/pool) is empty: see "
				  "/proc/mounts, /dev/sda, /var/lib/sarsen/catalog.db.\"}]",
				  0, NULL);

	redact = cli_redact_new();
	cli_redact_learn_json(redact, json);
	cli_redact_learn_log(redact, "ERROR x: cannot open /mnt/acme2/x/label. error=5");
	expect("(/srv/acme/pool): /srv/acme/pool, '/mnt/acme2/x/label'. /mnt/acme2/x/label.",
	       "(redacted-1): redacted-1, 'redacted-2'. redacted-2.");
	expect("/proc/mounts /dev/sda /var/lib/sarsen/catalog.db iscsi://h/iqn.x/0 a/b 1/2/3",
	       "/proc/mounts /dev/sda /var/lib/sarsen/catalog.db iscsi://h/iqn.x/0 a/b 1/2/3");
	json_decref(json);
	cli_redact_free(redact);
}

static void takes_secrets_out(void **state)
{
	json_t *json =
		json_loads("[{\"chap_secret\": \"x\", \"user\": \"u\", \"secrets\": 3}]", 0, NULL);
	char lines[] = "a = b\nchap_secret = xyz\nsecret\n=\npassword=1";

	cli_redact_secrets(json);
	assert_string_equal(
		json_string_value(json_object_get(json_array_get(json, 0), "chap_secret")), "***");
	assert_string_equal(json_string_value(json_object_get(json_array_get(json, 0), "user")),
			    "u");
	json_decref(json);
	cli_redact_secret_lines(lines);
	assert_string_equal(lines, "a = b\nchap_secret =****\nsecret\n=\npassword=*");
}

static void tar_has_whole_blocks(void **state)
{
	char *bytes = NULL;
	size_t size;
	FILE *stream = open_memstream(&bytes, &size);

	cli_tar_add(stream, "a/b", "hello", 5, 1);
	cli_tar_add(stream, "empty", "", 0, 1);
	cli_tar_end(stream);
	fclose(stream);
	assert_int_equal(size, 512 * 5);
	assert_string_equal(bytes, "a/b");
	assert_string_equal(bytes + 124, "00000000005");
	assert_memory_equal(bytes + 257,
			    "ustar\0"
			    "00",
			    8);
	assert_memory_equal(bytes + 512, "hello\0", 6);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replaces_whole_names),
		cmocka_unit_test(replaces_paths),
		cmocka_unit_test(takes_secrets_out),
		cmocka_unit_test(tar_has_whole_blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
