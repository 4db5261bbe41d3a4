/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "base/log.h"
#include "base/macros.h"

#define STAMP "2026-11-21T14:03:07.000042Z "

static char last_line[32 * 1024];
static enum log_level last_level;
static unsigned line_count;

static void keep(enum log_level level, const char *text, void *arg)
{
	(void)arg;
	last_level = level;
	line_count++;
	snprintf(last_line, sizeof(last_line), "%s", text);
}

static uint64_t fixed_clock(void *arg)
{
	(void)arg;
	return UINT64_C(1795269787) * NSEC_PER_SEC + 42999;
}

static int use_sink(void **state)
{
	(void)state;
	log_set_level(LOG_LEVEL_INFO);
	log_set_format(LOG_FORMAT_TEXT);
	log_set_sink(keep, NULL);
	log_set_clock(fixed_clock, NULL);
	line_count = 0;
	last_line[0] = '\0';
	return 0;
}

static int restore(void **state)
{
	(void)state;
	log_set_sink(NULL, NULL);
	log_set_clock(NULL, NULL);
	log_set_format(LOG_FORMAT_TEXT);
	log_set_level(LOG_LEVEL_INFO);
	return 0;
}

static void text_lines(void **state)
{
	(void)state;
	log_warning("egroup", "sync failed", "group=%d error=%d", 7, -5);
	assert_string_equal(last_line, STAMP "WARNING egroup: sync failed group=7 error=-5");
	assert_int_equal(last_level, LOG_LEVEL_WARNING);
	log_info("pool", "opened");
	assert_string_equal(last_line, STAMP "INFO pool: opened");
	log_error("pool", "name", "name=%s", "a\nb\x7f\xff\xc3\xa9");
	assert_string_equal(last_line, STAMP "ERROR pool: name name=a\\x0ab\\x7f\\xff\xc3\xa9");
}

static void levels(void **state)
{
	(void)state;
	log_debug("x", "hidden", "a=%d", 1);
	assert_int_equal(line_count, 0);
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("x", "shown");
	assert_int_equal(line_count, 1);
	log_set_level(LOG_LEVEL_ERROR);
	log_warning("x", "hidden");
	assert_int_equal(line_count, 1);
	assert_true(log_is_enabled(LOG_LEVEL_ERROR));
	assert_false(log_is_enabled(LOG_LEVEL_WARNING));
}

#define JSON(level, area, message, pairs)                                                   \
	"{\"time\":\"2026-11-21T14:03:07.000042Z\",\"level\":\"" level "\",\"area\":\"" area \
	"\",\"message\":\"" message "\",\"pairs\":{" pairs "}}"

static void json_lines(void **state)
{
	(void)state;
	log_set_format(LOG_FORMAT_JSON);
	log_info("pool", "opened");
	assert_string_equal(last_line, JSON("info", "pool", "opened", ""));
	log_warning("a", "b", "n=%d text=no such file name=\"x y\" last=", -12);
	assert_string_equal(last_line, JSON("warning", "a", "b",
		"\"n\":-12,\"text\":\"no such file\",\"name\":\"x y\",\"last\":\"\""));
	log_error("a", "say \"no\"", "p=%s", "C:\\x\n\xff");
	assert_string_equal(last_line, JSON("error", "a", "say \\\"no\\\"",
					    "\"p\":\"C:\\\\x\\u000a\\ufffd\""));
	log_info("a", "b", "no pairs here n=007 m=1234567890123456789");
	assert_string_equal(last_line, JSON("info", "a", "b",
		"\"text\":\"no pairs here\",\"n\":\"007\",\"m\":\"1234567890123456789\""));
	log_info("a", "b", "open=\"never closed x=1");
	assert_string_equal(last_line, JSON("info", "a", "b", "\"open\":\"never closed x=1\""));
	log_info("a", "b", "_k.a-b=0  x=- y=%s", "\x01");
	assert_string_equal(last_line, JSON("info", "a", "b",
		"\"_k.a-b\":0,\"x\":\"-\",\"y\":\"\\u0001\""));
}

/* Overlong forms, surrogates and cut sequences would make a JSON line unreadable. */
static void only_real_utf8_passes(void **state)
{
	static const char *const good[] = {"\xc2\x80", "\xe0\xa0\x80", "\xf0\x9f\x98\x80",
					   "\xf4\x8f\xbf\xbf", "\xef\xbf\xbd"};
	static const char *const bad[] = {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf",
					  "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
					  "\xf5\x80\x80\x80", "\xc2", "\xe2\x82", "\xf0\x9f\x98"};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		log_info("a", "b", "v=%s", good[i]);
		assert_non_null(strstr(last_line, good[i]));
		assert_null(strstr(last_line, "\\x"));
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		log_info("a", "b", "v=%s", bad[i]);
		assert_null(strstr(last_line, bad[i]));
		assert_non_null(strstr(last_line, "v=\\x"));
	}
}

static void long_lines_are_cut(void **state)
{
	static char bytes[20000];

	(void)state;
	memset(bytes, '\x01', sizeof(bytes) - 1);
	for (int format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JSON; format++) {
		log_set_format(format);
		log_write(LOG_LEVEL_INFO, bytes, bytes, "%s", bytes);
		assert_in_range(strlen(last_line), 64 + 256 + 2047, sizeof(last_line) - 2);
		assert_non_null(strstr(last_line, format ? "...\"}}" : "..."));
	}
}

static void keeps_errno(void **state)
{
	(void)state;
	errno = ENOSPC;
	log_info("a", "b");
	assert_int_equal(errno, ENOSPC);
}

static void *log_many(void *arg)
{
	for (unsigned i = 0; i < 500; i++)
		log_info("thread", "line", "id=%u i=%u end=1", *(unsigned *)arg, i);
	return NULL;
}

static unsigned whole_lines;

static void check_whole(enum log_level level, const char *text, void *arg)
{
	(void)level;
	(void)arg;
	whole_lines += strncmp(text, STAMP, strlen(STAMP)) == 0 &&
		       strcmp(text + strlen(text) - 6, " end=1") == 0;
}

static void threads_do_not_mix(void **state)
{
	pthread_t threads[4];
	unsigned ids[4];

	(void)state;
	whole_lines = 0;
	log_set_sink(check_whole, NULL);
	for (unsigned i = 0; i < 4; i++) {
		ids[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, log_many, &ids[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(whole_lines, 2000);
}

/* The default sink and clock: a line on the standard error, with a newline and a plausible time. */
static void default_goes_to_stderr(void **state)
{
	char text[256] = "";
	int ends[2], saved = dup(STDERR_FILENO);
	ssize_t length;

	(void)state;
	log_set_sink(NULL, NULL);
	log_set_clock(NULL, NULL);
	assert_int_equal(pipe(ends), 0);
	assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
	log_error("area", "message", "key=%s", "value");
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	length = read(ends[0], text, sizeof(text) - 1);
	close(saved);
	close(ends[0]);
	close(ends[1]);
	assert_true(length > 30);
	assert_string_equal(strchr(text, ' '), " ERROR area: message key=value\n");
	assert_memory_equal(text, "20", 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(text_lines, use_sink, restore),
		cmocka_unit_test_setup_teardown(levels, use_sink, restore),
		cmocka_unit_test_setup_teardown(json_lines, use_sink, restore),
		cmocka_unit_test_setup_teardown(only_real_utf8_passes, use_sink, restore),
		cmocka_unit_test_setup_teardown(long_lines_are_cut, use_sink, restore),
		cmocka_unit_test_setup_teardown(keeps_errno, use_sink, restore),
		cmocka_unit_test_setup_teardown(threads_do_not_mix, use_sink, restore),
		cmocka_unit_test_setup_teardown(default_goes_to_stderr, use_sink, restore),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
