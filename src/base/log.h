/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Structured log. One line per event: time, level, area, message, then key=value pairs.
 *
 *     log_warning("egroup", "sync failed", "group=%" PRIu64 " error=%d", id, error);
 *
 * The sink is process-wide and thread-safe; the default writes text to stderr. The simulator
 * replaces the sink. Nothing here is called per I/O on the good path.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/*
 * A line is `2026-11-21T14:03:07.123456Z WARNING egroup: sync failed group=7 error=-5`, or a JSON
 * object {time, level, area, message, pairs: {...}}. A pair's value goes to the start of the next
 * pair, or stands in double quotes; JSON gives whole numbers as numbers. Control characters and
 * bytes that are not UTF-8 are escaped. Area, message and pairs are cut at 64, 256 and 2047 bytes.
 */

/* Receives one finished line without its newline. Must not log. */
typedef void log_sink_fn(enum log_level level, const char *line, void *arg);
/* Nanoseconds since 1970. */
typedef uint64_t log_clock_fn(void *arg);

void log_set_level(enum log_level level);
void log_set_format(enum log_format format);
/* NULL restores the default sink (stderr). */
void log_set_sink(log_sink_fn *sink, void *arg);
/* Where lines get their time from, e.g. a simulated world. NULL restores the system's clock. */
void log_set_clock(log_clock_fn *clock, void *arg);
bool log_is_enabled(enum log_level level);

void log_write(enum log_level level, const char *area, const char *message, const char *pairs, ...)
	__attribute__((format(printf, 4, 5)));

#define log_debug(area, message, ...)                                                  \
	do {                                                                           \
		if (log_is_enabled(LOG_LEVEL_DEBUG))                                   \
			log_write(LOG_LEVEL_DEBUG, area, message, "" __VA_ARGS__);     \
	} while (0)
#define log_info(area, message, ...)    log_write(LOG_LEVEL_INFO, area, message, "" __VA_ARGS__)
#define log_warning(area, message, ...) log_write(LOG_LEVEL_WARNING, area, message, "" __VA_ARGS__)
#define log_error(area, message, ...)   log_write(LOG_LEVEL_ERROR, area, message, "" __VA_ARGS__)
