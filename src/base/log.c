/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/macros.h"

/*
 * Purpose: one finished line an event, as text or as a JSON object, to one sink.
 *
 * 1. Lines leave in the order in which log_write() took the lock, each whole: the sink runs under
 *    it and must not log.
 * 2. Area, message and pairs are cut at fixed lengths before they are escaped, so the line always
 *    fits and a JSON line is always complete.
 * 3. Whatever bytes a guest or a network put into a pair, a line holds no control character and is
 *    valid UTF-8.
 *
 * Home: any thread. The level is read without the lock, so that a disabled line costs one load.
 */

#define AREA_BYTES 64
#define MESSAGE_BYTES 256
#define PAIRS_BYTES 2048
/* A byte becomes six at most (\u00XX); the rest is punctuation and the time. */
#define LINE_BYTES (6 * (AREA_BYTES + MESSAGE_BYTES + PAIRS_BYTES) + 256)

struct line {
	size_t length;
	char bytes[LINE_BYTES];
};

struct span {
	const char *start;
	size_t length;
};

static atomic_int minimum_level = LOG_LEVEL_INFO;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* All below are guarded by `lock`. */
static enum log_format current_format = LOG_FORMAT_TEXT;
static log_sink_fn *current_sink;
static void *current_sink_arg;
static log_clock_fn *current_clock;
static void *current_clock_arg;
static char pairs_text[PAIRS_BYTES];
static struct line line;

static const char *const level_upper[] = {"DEBUG", "INFO", "WARNING", "ERROR"};
static const char *const level_lower[] = {"debug", "info", "warning", "error"};

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&minimum_level, (int)level, memory_order_relaxed);
}

bool log_is_enabled(enum log_level level)
{
	return (int)level >= atomic_load_explicit(&minimum_level, memory_order_relaxed);
}

void log_set_format(enum log_format format)
{
	pthread_mutex_lock(&lock);
	current_format = format;
	pthread_mutex_unlock(&lock);
}

void log_set_sink(log_sink_fn *sink, void *arg)
{
	pthread_mutex_lock(&lock);
	current_sink = sink;
	current_sink_arg = arg;
	pthread_mutex_unlock(&lock);
}

void log_set_clock(log_clock_fn *clock, void *arg)
{
	pthread_mutex_lock(&lock);
	current_clock = clock;
	current_clock_arg = arg;
	pthread_mutex_unlock(&lock);
}

static void put_bytes(const char *bytes, size_t length)
{
	ASSERT(line.length + length < LINE_BYTES);
	memcpy(line.bytes + line.length, bytes, length);
	line.length += length;
}

static void put_text(const char *text)
{
	put_bytes(text, strlen(text));
}

/* The length of the UTF-8 sequence at `at` that encodes a code point beyond ASCII, or 0. */
static size_t utf8_sequence(const unsigned char *at, size_t left)
{
	size_t length = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
	uint32_t code = at[0] & (0x7fu >> length);

	if (at[0] < 0xc2 || at[0] > 0xf4 || length > left)
		return 0;
	for (size_t i = 1; i < length; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (at[i] & 0x3fu);
	}
	if ((length == 3 && code < 0x800) || (length == 4 && code < 0x10000))
		return 0;
	return (code >= 0xd800 && code < 0xe000) || code > 0x10ffff ? 0 : length;
}

static void put_escape(unsigned char byte, bool json)
{
	char escape[8];
	int length;

	if (json && (byte == '"' || byte == '\\'))
		length = snprintf(escape, sizeof(escape), "\\%c", byte);
	else if (json)
		length = snprintf(escape, sizeof(escape), byte < 0x80 ? "\\u%04x" : "\\ufffd",
				  byte);
	else
		length = snprintf(escape, sizeof(escape), "\\x%02x", byte);
	put_bytes(escape, (size_t)length);
}

static void put_escaped(struct span text, bool json)
{
	for (size_t i = 0; i < text.length;) {
		const unsigned char *at = (const unsigned char *)text.start + i;
		size_t length = at[0] < 0x80 ? 1 : utf8_sequence(at, text.length - i);
		bool control = at[0] < 0x20 || at[0] == 0x7f;
		bool special = control || (json && (at[0] == '"' || at[0] == '\\'));

		if (length == 0 || special)
			put_escape(at[0], json);
		else
			put_bytes((const char *)at, length);
		i += MAX(length, (size_t)1);
	}
}

static struct span span_of(const char *text, size_t limit)
{
	return (struct span){text, strnlen(text, limit)};
}

/* The length of `key` when text starts with `key=`, else 0. */
static size_t key_length(const char *text)
{
	size_t length = 0;

	if (!isalpha((unsigned char)text[0]) && text[0] != '_')
		return 0;
	while (isalnum((unsigned char)text[length]) || strchr("_.-", text[length])) {
		if (text[length] == '\0')
			return 0;
		length++;
	}
	return text[length] == '=' ? length : 0;
}

/*
 * A value in quotes ends at a quote that a blank or the end follows; any other one where the next
 * pair begins, so that error texts with blanks need no quotes. Returns where to go on.
 */
static const char *take_value(const char *at, struct span *ret_value)
{
	bool quoted = at[0] == '"';
	const char *start = at + quoted, *end = start;

	while (*end) {
		if (quoted && end[0] == '"' && (end[1] == ' ' || end[1] == '\0'))
			break;
		if (!quoted && end[0] == ' ' && key_length(end + 1) > 0)
			break;
		end++;
	}
	*ret_value = (struct span){start, (size_t)(end - start)};
	if (quoted && *end)
		return end + 1;
	for (size_t *length = &ret_value->length; *length > 0 && start[*length - 1] == ' ';)
		--*length;
	return end;
}

/* Whole numbers that every JSON reader holds in 64 bits. */
static bool is_number(struct span value)
{
	size_t first = value.length > 0 && value.start[0] == '-';
	size_t digits = value.length - first;

	if (digits == 0 || digits > 18 || (digits > 1 && value.start[first] == '0'))
		return false;
	for (size_t i = first; i < value.length; i++) {
		if (!isdigit((unsigned char)value.start[i]))
			return false;
	}
	return true;
}

static void put_json_string(struct span value)
{
	put_text("\"");
	put_escaped(value, true);
	put_text("\"");
}

static void put_json_pairs(const char *at)
{
	while (*at == ' ')
		at++;
	for (const char *separator = ""; *at; separator = ",") {
		size_t length = key_length(at);
		/* Text without a key is kept, under a name of its own. */
		struct span key = length ? (struct span){at, length} : span_of("text", 4);
		struct span value;

		at = take_value(length ? at + length + 1 : at, &value);
		put_text(separator);
		put_json_string(key);
		put_text(":");
		if (is_number(value))
			put_bytes(value.start, value.length);
		else
			put_json_string(value);
		while (*at == ' ')
			at++;
	}
}

static void put_time(void)
{
	char text[64];
	struct timespec now;
	struct tm parts;

	if (current_clock) {
		uint64_t wall_ns = current_clock(current_clock_arg);

		now.tv_sec = (time_t)(wall_ns / NSEC_PER_SEC);
		now.tv_nsec = (long)(wall_ns % NSEC_PER_SEC);
	} else {
		clock_gettime(CLOCK_REALTIME, &now);
	}
	gmtime_r(&now.tv_sec, &parts);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
	put_text(text);
	snprintf(text, sizeof(text), ".%06ldZ", now.tv_nsec / 1000);
	put_text(text);
}

static void put_text_line(enum log_level level, struct span area, struct span message)
{
	put_time();
	put_text(" ");
	put_text(level_upper[level]);
	put_text(" ");
	put_escaped(area, false);
	put_text(": ");
	put_escaped(message, false);
	if (pairs_text[0])
		put_text(" ");
	put_escaped(span_of(pairs_text, PAIRS_BYTES), false);
}

static void put_json_line(enum log_level level, struct span area, struct span message)
{
	put_text("{\"time\":\"");
	put_time();
	put_text("\",\"level\":");
	put_json_string(span_of(level_lower[level], 16));
	put_text(",\"area\":");
	put_json_string(area);
	put_text(",\"message\":");
	put_json_string(message);
	put_text(",\"pairs\":{");
	put_json_pairs(pairs_text);
	put_text("}}");
}

static void emit(enum log_level level)
{
	line.bytes[line.length] = '\0';
	if (current_sink) {
		current_sink(level, line.bytes, current_sink_arg);
		return;
	}
	/* With its newline in one write, so that lines of several processes do not mix. */
	line.bytes[line.length] = '\n';
	(void)fwrite(line.bytes, 1, line.length + 1, stderr); /* nowhere to tell that it failed */
}

void log_write(enum log_level level, const char *area, const char *message, const char *pairs, ...)
{
	int saved_errno = errno, length;
	va_list arguments;

	if (!log_is_enabled(level))
		return;
	pthread_mutex_lock(&lock);
	va_start(arguments, pairs);
	length = vsnprintf(pairs_text, sizeof(pairs_text), pairs, arguments);
	va_end(arguments);
	if (length < 0)
		pairs_text[0] = '\0';
	else if ((size_t)length >= sizeof(pairs_text))
		memcpy(pairs_text + sizeof(pairs_text) - 4, "...", 4);
	line.length = 0;
	if (current_format == LOG_FORMAT_JSON)
		put_json_line(level, span_of(area, AREA_BYTES), span_of(message, MESSAGE_BYTES));
	else
		put_text_line(level, span_of(area, AREA_BYTES), span_of(message, MESSAGE_BYTES));
	emit(level);
	pthread_mutex_unlock(&lock);
	errno = saved_errno;
}
