/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cli_redact.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

struct cli_redact {
	char **names;
	size_t count, room;
	bool failed; /* no memory: what was not learned would be shown */
};

/* Keys whose values are names, of the API and of the log. */
static const char *const name_keys[] = {
	"name",      "vdisk",  "pool", "container", "object",         "directory", "target",
	"initiator", "peer",   "host", "url",       "controller",     "new_name",  "user",
	"socket",    "by",     "path", "file",      "redirect",       "alias",     "announce",
	"hostnqn",   "subnqn", "nqn",  "serial",    "state_directory"};
/* Words that are values of such keys without being anyone's name. */
static const char *const plain_words[] = {"node", "clock", "ok", "api", "kernel", "io_uring"};

static bool contains(const char *const *words, size_t count, const char *text, size_t length)
{
	for (size_t i = 0; i < count; i++)
		if (strlen(words[i]) == length && strncmp(words[i], text, length) == 0)
			return true;
	return false;
}

struct cli_redact *cli_redact_new(void)
{
	return calloc(1, sizeof(struct cli_redact));
}

void cli_redact_free(struct cli_redact *redact)
{
	if (!redact)
		return;
	for (size_t i = 0; i < redact->count; i++)
		free(redact->names[i]);
	free(redact->names);
	free(redact);
}

static void learn(struct cli_redact *redact, const char *text, size_t length)
{
	if (length == 0 || contains(plain_words, ARRAY_SIZE(plain_words), text, length) ||
	    contains((const char *const *)redact->names, redact->count, text, length))
		return;
	if (redact->count == redact->room) {
		size_t room = redact->room ? redact->room * 2 : 64;
		char **names = realloc(redact->names, room * sizeof(*names));

		if (!names) {
			redact->failed = true;
			return;
		}
		redact->names = names;
		redact->room = room;
	}
	redact->names[redact->count] = strndup(text, length);
	if (redact->names[redact->count])
		redact->count++;
	else
		redact->failed = true;
}

/* A vDisk's name also by its two halves. */
static void learn_parts(struct cli_redact *redact, const char *text, size_t length)
{
	const char *slash = memchr(text, '/', length);

	learn(redact, text, length);
	if (!slash || slash == text || memchr(slash + 1, '/', length - (size_t)(slash + 1 - text)))
		return;
	learn(redact, text, (size_t)(slash - text));
	learn(redact, slash + 1, length - (size_t)(slash + 1 - text));
}

static bool is_name_char(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.';
}

/* Those of every host. */
static bool is_common_path(const char *path)
{
	static const char *const places[] = {"/proc/",     "/sys/",           "/dev/",
					     "/usr/",      "/var/lib/sarsen", "/run/sarsen",
					     "/etc/sarsen"};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (strncmp(path, places[i], strlen(places[i])) == 0)
			return true;
	return false;
}

/* Paths from / on, of two parts or more, wherever they stand in a text. */
static void learn_paths(struct cli_redact *redact, const char *text)
{
	size_t length = 0;

	for (const char *at = text; (at = strchr(at, '/')); at += length) {
		bool begins = at == text || (!is_name_char(at[-1]) && !strchr(":/", at[-1]));

		length = strcspn(at, " \t\n\"'(),;:<>[]{}|*");
		while (length > 1 && at[length - 1] == '.')
			length--;
		if (begins && memchr(at + 1, '/', length - 1) && !is_common_path(at))
			learn(redact, at, length);
	}
}

void cli_redact_learn(struct cli_redact *redact, const char *name)
{
	learn_parts(redact, name, strlen(name));
}

void cli_redact_learn_json(struct cli_redact *redact, const json_t *json)
{
	const char *key;
	json_t *value;
	size_t i;

	json_array_foreach(json, i, value) cli_redact_learn_json(redact, value);
	json_object_foreach((json_t *)json, key, value)
	{
		if (json_is_string(value))
			learn_paths(redact, json_string_value(value));
		if (json_is_string(value) &&
		    contains(name_keys, ARRAY_SIZE(name_keys), key, strlen(key)))
			cli_redact_learn(redact, json_string_value(value));
		cli_redact_learn_json(redact, value);
	}
}

void cli_redact_learn_log(struct cli_redact *redact, const char *text)
{
	for (const char *equal = text; (equal = strchr(equal, '=')); equal++) {
		const char *key = equal, *value = equal + 1;
		bool quoted = *value == '"';

		while (key > text && (isalnum((unsigned char)key[-1]) || key[-1] == '_'))
			key--;
		if (contains(name_keys, ARRAY_SIZE(name_keys), key, (size_t)(equal - key)))
			learn_parts(redact, value + quoted,
				    strcspn(value + quoted, quoted ? "\"\n" : " \n"));
	}
	learn_paths(redact, text);
}

/* The longest name that `at` begins with and that ends there; SIZE_MAX: none. */
static size_t match(const struct cli_redact *redact, const char *at)
{
	size_t best = SIZE_MAX, best_length = 0;

	for (size_t i = 0; i < redact->count; i++) {
		const char *name = redact->names[i];
		size_t length;

		if (name[0] != at[0])
			continue;
		length = strlen(name);
		/* A full stop may end a sentence. */
		if (length > best_length && strncmp(name, at, length) == 0 &&
		    (!is_name_char(at[length]) ||
		     (at[length] == '.' && !is_name_char(at[length + 1])))) {
			best = i;
			best_length = length;
		}
	}
	return best;
}

/* Length of an IPv4 address there, or 0. */
static size_t match_address(const char *at)
{
	unsigned part;
	int length = 0;

	if (sscanf(at, "%3u.%3u.%3u.%3u%n", &part, &part, &part, &part, &length) != 4 ||
	    strncmp(at, "127.0.0.1", 9) == 0 || strncmp(at, "0.0.0.0", 7) == 0)
		return 0;
	return (size_t)length;
}

char *cli_redact_text(struct cli_redact *redact, const char *text)
{
	char *result = NULL;
	size_t size;
	FILE *stream = redact->failed ? NULL : open_memstream(&result, &size);

	if (!stream)
		return NULL;
	for (const char *at = text; *at;) {
		bool begins = at == text || !is_name_char(at[-1]);
		size_t name = begins ? match(redact, at) : SIZE_MAX;
		size_t address = begins && isdigit((unsigned char)*at) ? match_address(at) : 0;

		if (name != SIZE_MAX) {
			fprintf(stream, "redacted-%zu", name + 1);
			at += strlen(redact->names[name]);
		} else if (address > 0) {
			fputs("ip", stream);
			at += address;
		} else {
			fputc(*at++, stream);
		}
	}
	if (fclose(stream) == 0)
		return result;
	free(result);
	return NULL;
}

static bool is_secret(const char *key, size_t length)
{
	static const char *const parts[] = {"secret", "password", "passphrase", "token"};

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (memmem(key, length, parts[i], strlen(parts[i])))
			return true;
	return false;
}

void cli_redact_secrets(json_t *json)
{
	const char *key;
	json_t *value;
	size_t i;

	json_array_foreach(json, i, value) cli_redact_secrets(value);
	json_object_foreach(json, key, value)
	{
		if (json_is_string(value) && is_secret(key, strlen(key)))
			(void)json_string_set(value, "***"); /* does not grow: cannot fail */
		cli_redact_secrets(value);
	}
}

void cli_redact_secret_lines(char *text)
{
	for (char *line = text; *line; line += *line == '\n') {
		size_t length = strcspn(line, "\n");
		char *equal = memchr(line, '=', length);

		if (equal && is_secret(line, (size_t)(equal - line)))
			memset(equal + 1, '*', length - (size_t)(equal + 1 - line));
		line += length;
	}
}
