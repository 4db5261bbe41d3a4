/* SPDX-License-Identifier: Apache-2.0 */
#include "control/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <ini.h>

#include "base/macros.h"
#include "control/size.h"
#include "pool/pool_disk.h"

enum value_type {
	VALUE_TEXT,
	VALUE_NUMBER,
	VALUE_SIZE,
	VALUE_BOOL,
	VALUE_LEVEL,
	VALUE_FORMAT,
	VALUE_KEEPERS
};

struct setting {
	const char *section, *key;
	enum value_type type;
	size_t offset;             /* in struct config */
	uint64_t minimum, maximum; /* of a text: maximum is the size of its buffer */
};

#define AT(field)   offsetof(struct config, field)
#define TEXT(field) VALUE_TEXT, AT(field), 1, sizeof(((struct config *)0)->field)
static const struct setting settings[] = {
	{"node", "state", TEXT(state)},
	{"node", "socket", TEXT(socket)},
	{"node", "reactors", VALUE_NUMBER, AT(reactors), 1, CONFIG_REACTORS_MAX},
	{"node", "workers", VALUE_NUMBER, AT(workers), 1, 64},
	{"node", "pin", VALUE_BOOL, AT(pin), 0, 0},
	{"node", "poll_us", VALUE_NUMBER, AT(poll_us), 0, 1000},
	{"node", "disk_timeout_ms", VALUE_NUMBER, AT(disk_timeout_ms), 1000, 120000},
	{"iscsi", "enabled", VALUE_BOOL, AT(iscsi_enabled), 0, 0},
	{"iscsi", "address", TEXT(iscsi_address)},
	{"iscsi", "announce", TEXT(iscsi_announce)},
	{"iscsi", "port", VALUE_NUMBER, AT(iscsi_port), 0, 65535},
	{"iscsi", "port_fallback", VALUE_BOOL, AT(iscsi_port_fallback), 0, 0},
	{"iscsi", "max_sessions", VALUE_NUMBER, AT(iscsi_max_sessions), 1, 4096},
	{"iscsi", "memory", VALUE_SIZE, AT(iscsi_memory_bytes), 8 * MIB, 64 * GIB},
	{"nvme", "enabled", VALUE_BOOL, AT(nvme_enabled), 0, 0},
	{"nvme", "directory", TEXT(nvme_directory)},
	{"nvme", "keeper", TEXT(nvme_keeper)},
	{"nvme", "keepers", VALUE_KEEPERS, AT(nvme_keepers), 0, 0},
	{"nvme", "group", TEXT(nvme_group)},
	{"nvme", "max_controllers", VALUE_NUMBER, AT(nvme_max_controllers), 1, 256},
	{"nvme", "max_queues", VALUE_NUMBER, AT(nvme_max_queues), 1, 128},
	{"nvme", "max_namespaces", VALUE_NUMBER, AT(nvme_max_namespaces), 1, 256},
	{"nvme", "in_flight", VALUE_SIZE, AT(nvme_in_flight_bytes), 1 * MIB, GIB},
	{"space", "notice", VALUE_NUMBER, AT(space_notice), 1, 100},
	{"space", "low", VALUE_NUMBER, AT(space_low), 1, 100},
	{"space", "critical", VALUE_NUMBER, AT(space_critical), 1, 100},
	{"log", "level", VALUE_LEVEL, AT(log_level), 0, 0},
	{"log", "format", VALUE_FORMAT, AT(log_format), 0, 0},
	{"scrub", "days", VALUE_NUMBER, AT(scrub_days), 0, 365},
	{"scrub", "rate", VALUE_SIZE, AT(scrub_rate_bytes), 0, TIB},
	{"memory", "budget", VALUE_SIZE, AT(memory_budget_bytes), 128 * MIB, TIB},
};

#define SECTION_NAMES_MAX 128

/* State of one reading. inih calls back for keys only, so a line that was none is seen in
 * next_line(). */
struct reading {
	struct config *config;
	FILE *stream;
	const char *name;
	config_fault_fn *fault;
	void *arg;
	unsigned line;
	bool line_needs_key; /* the current line has content and gave no key yet */
	unsigned faults;
	int error; /* of reading the stream */
	bool seen[ARRAY_SIZE(settings)];
};

bool config_key_get(size_t index, struct config_key *ret_key)
{
	const struct setting *setting;

	if (index >= ARRAY_SIZE(settings))
		return false;
	setting = &settings[index];
	*ret_key = (struct config_key){.section = setting->section, .key = setting->key};
	return true;
}

void config_defaults(struct config *config)
{
	static const struct config defaults = {
		.state = "/var/lib/sarsen",
		.socket = CONFIG_DEFAULT_SOCKET,
		.workers = 4,
		.pin = true,
		.poll_us = 50,
		.disk_timeout_ms = POOL_DISK_TIMEOUT_NS / NSEC_PER_MSEC,
		.iscsi_enabled = true,
		.iscsi_address = "127.0.0.1",
		.iscsi_port = 3260,
		.iscsi_max_sessions = 256,
		.iscsi_memory_bytes = 64 * MIB,
		.nvme_enabled = true,
		.nvme_keepers = CONFIG_KEEPERS_AUTO,
		.nvme_max_controllers = 64,
		.nvme_max_queues = 64,
		.nvme_max_namespaces = 64,
		.nvme_in_flight_bytes = 64 * MIB,
		.space_notice = 75,
		.space_low = 90,
		.space_critical = 95,
		.log_level = LOG_LEVEL_INFO,
		.log_format = LOG_FORMAT_TEXT,
		.scrub_days = 14,
		.memory_budget_bytes = 512 * MIB,
	};

	/* With its padding, so that two configurations can be compared as bytes. */
	memcpy(config, &defaults, sizeof(*config));
}

__attribute__((format(printf, 2, 3))) static void fault(struct reading *reading, const char *format,
							...)
{
	char text[512], line[CONFIG_PATH_MAX + 600];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	snprintf(line, sizeof(line), "%s:%u: %s", reading->name, reading->line, text);
	reading->fault(line, reading->arg);
	reading->faults++;
}

/* Is the text one of `names`? Its index, or -1 after reporting. */
static int choose(struct reading *reading, const char *key, const char *value,
		  const char *const *names)
{
	char all[128] = "";

	for (int i = 0; names[i]; i++) {
		if (strcasecmp(value, names[i]) == 0)
			return i;
		snprintf(all + strlen(all), sizeof(all) - strlen(all), " %s", names[i]);
	}
	fault(reading, "%s = '%s': use one of%s", key, value, all);
	return -1;
}

static void set_number(struct reading *reading, const struct setting *setting, const char *value)
{
	uint64_t number;
	char minimum[SIZE_TEXT_MAX], maximum[SIZE_TEXT_MAX];
	bool digits = *value && strspn(value, "0123456789") == strlen(value);

	if ((setting->type == VALUE_NUMBER && !digits) || size_parse(value, &number) < 0) {
		fault(reading, "%s = '%s' is not a %s", setting->key, value,
		      setting->type == VALUE_NUMBER ? "whole number" : "size; write it like 64M");
		return;
	}
	if (number >= setting->minimum && number <= setting->maximum) {
		memcpy((char *)reading->config + setting->offset, &number, sizeof(number));
		return;
	}
	if (setting->type == VALUE_SIZE)
		fault(reading, "%s = '%s' is out of range: give %s to %s", setting->key, value,
		      size_format(setting->minimum, minimum),
		      size_format(setting->maximum, maximum));
	else
		fault(reading, "%s = '%s' is out of range: give %" PRIu64 " to %" PRIu64,
		      setting->key, value, setting->minimum, setting->maximum);
}

static void set_text(struct reading *reading, const struct setting *setting, const char *value)
{
	if (!*value)
		fault(reading, "%s has no value", setting->key);
	else if (strlen(value) >= setting->maximum)
		fault(reading, "%s is longer than %" PRIu64 " characters", setting->key,
		      setting->maximum - 1);
	else
		memcpy((char *)reading->config + setting->offset, value, strlen(value) + 1);
}

static void set_choice(struct reading *reading, const struct setting *setting, const char *value)
{
	static const char *const bools[] = {"false", "true", "no", "yes", "off", "on", NULL};
	static const char *const levels[] = {"debug", "info", "warning", "error", NULL};
	static const char *const formats[] = {"text", "json", NULL};
	static const char *const keepers[] = {"auto", "process", "systemd", NULL};
	char *field = (char *)reading->config + setting->offset;
	int chosen = choose(reading, setting->key, value,
			    setting->type == VALUE_BOOL     ? bools
			    : setting->type == VALUE_LEVEL  ? levels
			    : setting->type == VALUE_FORMAT ? formats
							    : keepers);

	if (chosen < 0)
		return;
	if (setting->type == VALUE_BOOL)
		*(bool *)field = chosen & 1;
	else if (setting->type == VALUE_LEVEL)
		*(enum log_level *)field = (enum log_level)chosen;
	else if (setting->type == VALUE_FORMAT)
		*(enum log_format *)field = (enum log_format)chosen;
	else
		*(enum config_keepers *)field = (enum config_keepers)chosen;
}

static bool is_section(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		if (strcmp(settings[i].section, name) == 0)
			return true;
	return false;
}

/* "[node], [iscsi], ..." */
static const char *section_names(char ret_names[static SECTION_NAMES_MAX])
{
	size_t length = 0;

	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		if (i > 0 && strcmp(settings[i].section, settings[i - 1].section) == 0)
			continue;
		length += (size_t)snprintf(ret_names + length, SECTION_NAMES_MAX - length, "%s[%s]",
					   i > 0 ? ", " : "", settings[i].section);
		ASSERT(length < SECTION_NAMES_MAX);
	}
	return ret_names;
}

/* inih's callback; always 1, faults are counted here. */
static int set(void *arg, const char *section, const char *key, const char *value)
{
	struct reading *reading = arg;
	char names[SECTION_NAMES_MAX];

	reading->line_needs_key = false;
	if (!is_section(section)) {
		fault(reading, "key '%s' in unknown section [%s]: use %s", key, section,
		      section_names(names));
		return 1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		const struct setting *setting = &settings[i];

		if (strcmp(setting->section, section) != 0 || strcmp(setting->key, key) != 0)
			continue;
		if (reading->seen[i])
			fault(reading, "%s is given twice", key);
		else if (setting->type == VALUE_TEXT)
			set_text(reading, setting, value);
		else if (setting->type == VALUE_NUMBER || setting->type == VALUE_SIZE)
			set_number(reading, setting, value);
		else
			set_choice(reading, setting, value);
		reading->seen[i] = true;
		return 1;
	}
	fault(reading, "unknown key '%s' in [%s]", key, section);
	return 1;
}

static void finish_line(struct reading *reading)
{
	if (reading->line_needs_key)
		fault(reading, "this line is neither a [section] nor key = value");
	reading->line_needs_key = false;
}

static void begin_section(struct reading *reading, const char *start)
{
	char name[64], names[SECTION_NAMES_MAX];

	if (!strchr(start, ']'))
		fault(reading, "section without its ]");
	else if (sscanf(start, "[%63[^]]", name) != 1 || !is_section(name))
		fault(reading, "unknown section %.40s: use %s", start, section_names(names));
}

/* inih's reader: hands out one line and judges what inih itself would skip in silence. */
static char *next_line(char *buffer, int size, void *arg)
{
	struct reading *reading = arg;
	size_t length, start;

	finish_line(reading);
	errno = 0;
	if (!fgets(buffer, size, reading->stream)) {
		reading->error = ferror(reading->stream) ? -errno : 0;
		return NULL;
	}
	reading->line++;
	length = strlen(buffer);
	if (length == (size_t)size - 1 && buffer[length - 1] != '\n' && !feof(reading->stream)) {
		int c;

		fault(reading, "line is longer than %d characters", size - 2);
		while ((c = fgetc(reading->stream)) != EOF && c != '\n')
			;
		buffer[0] = '\0';
		return buffer;
	}
	buffer[strcspn(buffer, "\r\n")] = '\0';
	start = reading->line == 1 && strncmp(buffer, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
	start += strspn(buffer + start, " \t\f\v");
	/* inih takes an indented line for the continuation of the value before; we have none. */
	memmove(buffer, buffer + start, strlen(buffer + start) + 1);
	if (buffer[0] == '[')
		begin_section(reading, buffer);
	else
		reading->line_needs_key = buffer[0] && !strchr(";#", buffer[0]);
	return buffer;
}

int config_read_stream(struct config *config, FILE *stream, const char *name,
		       config_fault_fn *fault_fn, void *arg)
{
	struct reading reading = {
		.config = config, .stream = stream, .name = name, .fault = fault_fn, .arg = arg};

	/* Its result tells of the first bad line only; all of them were reported above. */
	(void)ini_parse_stream(next_line, &reading, set, &reading);
	finish_line(&reading);
	if (reading.error)
		return reading.error;
	return reading.faults ? -EINVAL : 0;
}

int config_read_file(struct config *config, const char *path, config_fault_fn *fault_fn, void *arg)
{
	FILE *stream = fopen(path, "re");
	int r;

	if (!stream)
		return -errno;
	r = config_read_stream(config, stream, path, fault_fn, arg);
	fclose(stream);
	return r;
}

uint64_t config_map_bytes(const struct config *config)
{
	uint64_t others = CONFIG_MEMORY_BASE;

	if (config->iscsi_enabled)
		others += config->iscsi_memory_bytes;
	return config->memory_budget_bytes > others ? config->memory_budget_bytes - others : 0;
}

void config_nvme_directory(const struct config *config, char ret_path[static CONFIG_SOCKET_MAX])
{
	const char *slash = strrchr(config->socket, '/');

	if (config->nvme_directory[0])
		snprintf(ret_path, CONFIG_SOCKET_MAX, "%s", config->nvme_directory);
	else
		snprintf(ret_path, CONFIG_SOCKET_MAX, "%.*s/nvme",
			 (int)MIN(slash ? slash - config->socket : 0, CONFIG_SOCKET_MAX - 6),
			 config->socket);
}

static int check_nvme(const struct config *config, config_fault_fn *fault_fn, void *arg)
{
	char directory[CONFIG_SOCKET_MAX];
	int r = 0;

	if (!config->nvme_enabled)
		return 0;
	config_nvme_directory(config, directory);
	if (directory[0] != '/') {
		fault_fn("[nvme] directory is not an absolute path", arg);
		r = -EINVAL;
	}
	if (config->nvme_keeper[0] && config->nvme_keeper[0] != '/') {
		fault_fn("[nvme] keeper is not an absolute path", arg);
		r = -EINVAL;
	}
	return r;
}

int config_check(const struct config *config, config_fault_fn *fault_fn, void *arg)
{
	unsigned char address[sizeof(struct in6_addr)];
	int r = 0;

	if (inet_pton(AF_INET, config->iscsi_address, address) != 1 &&
	    inet_pton(AF_INET6, config->iscsi_address, address) != 1) {
		fault_fn("[iscsi] address is not a numeric IPv4 or IPv6 address", arg);
		r = -EINVAL;
	}
	if (config->iscsi_announce[strcspn(config->iscsi_announce, "/ \t@?#")]) {
		fault_fn("[iscsi] announce is not a host name or address", arg);
		r = -EINVAL;
	}
	if (config->space_notice > config->space_low ||
	    config->space_low > config->space_critical) {
		fault_fn("[space] notice is greater than low, or low than critical", arg);
		r = -EINVAL;
	}
	if (check_nvme(config, fault_fn, arg) < 0)
		r = -EINVAL;
	if (config_map_bytes(config) < CONFIG_MAPS_MIN) {
		fault_fn("[memory] budget is not enough: give 96M more than [iscsi] memory", arg);
		r = -EINVAL;
	}
	if (config->state[0] != '/') {
		fault_fn("[node] state (--state) is not an absolute path", arg);
		r = -EINVAL;
	}
	if (config->socket[0] != '/') {
		fault_fn("[node] socket (--socket) is not an absolute path", arg);
		r = -EINVAL;
	}
	return r;
}
