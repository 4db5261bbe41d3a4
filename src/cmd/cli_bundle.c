/* SPDX-License-Identifier: Apache-2.0 */
/* Everything is gathered first, so that names can be learned from all of it before any is written.
 */
#include "cmd/cli_bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cmd/cli_client.h"
#include "cmd/cli_doctor.h"
#include "cmd/cli_redact.h"
#include "cmd/cli_tar.h"
#include "control/config.h"
#include "control/params.h"
#include "control/version.h"

#define PARTS_MAX  (METHOD_COUNT + 8)
#define TEXT_MAX   (16 * MIB)
#define LOG_LINES  "20000"
#define EVENTS_MAX 1000

struct part {
	char name[CLI_TAR_NAME_MAX + 1];
	json_t *json; /* or */
	char *text;
};

struct bundle {
	struct part parts[PARTS_MAX];
	size_t count;
	bool no_memory;
};

static void bundle_done(struct bundle *bundle)
{
	for (size_t i = 0; i < bundle->count; i++) {
		json_decref(bundle->parts[i].json);
		free(bundle->parts[i].text);
	}
}

/* Takes json and text; one of them is there. */
static void add(struct bundle *bundle, const char *name, json_t *json, char *text)
{
	struct part *part = &bundle->parts[bundle->count];

	ASSERT(bundle->count < PARTS_MAX);
	if (!json && !text) {
		bundle->no_memory = true;
		return;
	}
	snprintf(part->name, sizeof(part->name), "%s%s", name, json ? ".json" : ".txt");
	part->json = json;
	part->text = text;
	bundle->count++;
}

/* The first TEXT_MAX bytes; NULL without memory. */
static char *read_all(FILE *stream)
{
	char *text = NULL, chunk[4096];
	size_t size, got, total = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	while (total < TEXT_MAX && (got = fread(chunk, 1, sizeof(chunk), stream)) > 0) {
		for (size_t i = 0; i < got; i++)
			if (chunk[i] == '\0')
				chunk[i] = '?';
		fwrite(chunk, 1, got, out);
		total += got;
	}
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

static void add_file(struct bundle *bundle, const char *name, const char *path, bool is_config)
{
	FILE *file = fopen(path, "re");
	char *text;

	if (!file) {
		add(bundle, name, json_pack("{s:s}", "missing", strerror(errno)), NULL);
		return;
	}
	text = read_all(file);
	fclose(file);
	if (text && is_config)
		cli_redact_secret_lines(text);
	add(bundle, name, NULL, text);
}

/* journalctl with its output to `fd`, its errors to nobody. 0 or a negative errno. */
static int start_journalctl(int fd, pid_t *ret_child)
{
	static const char *const words[] = {"journalctl", "--unit=sarsend",      "--no-pager",
					    "--quiet",    "--lines=" LOG_LINES, NULL};
	posix_spawn_file_actions_t actions;
	int r;

	posix_spawn_file_actions_init(&actions);
	r = posix_spawn_file_actions_adddup2(&actions, fd, STDOUT_FILENO);
	if (r == 0)
		r = posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY,
						     0);
	if (r == 0)
		r = posix_spawnp(ret_child, words[0], &actions, NULL, (char *const *)words,
				 environ);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

/* What the journal has of the daemon's unit; maybe nothing. */
static int read_journal(char **ret_text)
{
	int ends[2], r;
	FILE *stream;
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	r = start_journalctl(ends[1], &child);
	close(ends[1]);
	stream = fdopen(ends[0], "r");
	if (r == 0 && stream)
		*ret_text = read_all(stream);
	if (stream)
		fclose(stream);
	else
		close(ends[0]);
	if (r < 0)
		return r;
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return stream ? 0 : -ENOMEM;
}

static void add_journal(struct bundle *bundle)
{
	char *text = NULL;
	int r = read_journal(&text);

	if (r < 0)
		add(bundle, "log", json_pack("{s:s}", "missing", strerror(-r)), NULL);
	else
		add(bundle, "log", NULL, text);
}

static bool is_summary(const struct method *method)
{
	for (const struct method_param *param = method->params; param->name; param++)
		if (param->flags & PARAM_REQUIRED)
			return false;
	return method->role == ROLE_READER && !method->local &&
	       method_id(method) != METHOD_EVENT_FOLLOW;
}

/* What the method answers, or its error. */
static void add_method(struct bundle *bundle, const struct method *method, const char *socket)
{
	_cleanup_json_ json_t *params = json_object();
	struct error error = {0};
	char name[METHOD_NAME_MAX];
	json_t *answer = NULL;

	if (method_id(method) == METHOD_EVENT_LIST)
		json_object_set_new(params, "limit", json_integer(EVENTS_MAX));
	if (cli_client_call(socket, method, params, &answer, &error) < 0)
		answer = error_to_json(&error);
	cli_redact_secrets(answer);
	add(bundle, method_name(method, name), answer, NULL);
}

static void gather(struct bundle *bundle, const json_t *params, const char *socket)
{
	const char *config = params_text(params, "config"), *log = params_text(params, "log");
	char *metrics = NULL;
	struct error error = {0};
	bool failed;

	add(bundle, "bundle",
	    json_pack("{s:s, s:I, s:b}", "version", version_text(), "time", (json_int_t)time(NULL),
		      "redacted", params_bool(params, "redact")),
	    NULL);
	add_file(bundle, "sarsend.conf", config ? config : CONFIG_DEFAULT_FILE, true);
	if (log)
		add_file(bundle, "log", log, false);
	else
		add_journal(bundle);
	for (int id = 0; id < METHOD_COUNT; id++)
		if (is_summary(method_get(id)))
			add_method(bundle, method_get(id), socket);
	if (cli_client_get(socket, "/metrics", &metrics, &error) < 0)
		add(bundle, "metrics", error_to_json(&error), NULL);
	else
		add(bundle, "metrics", NULL, metrics);
	add(bundle, "doctor", cli_doctor(config, NULL, &failed), NULL);
}

static void learn(struct cli_redact *redact, const struct bundle *bundle)
{
	char host[256];

	if (gethostname(host, sizeof(host)) == 0) {
		host[sizeof(host) - 1] = '\0';
		cli_redact_learn(redact, host);
	}
	for (size_t i = 0; i < bundle->count; i++) {
		const struct part *part = &bundle->parts[i];

		if (part->json)
			cli_redact_learn_json(redact, part->json);
		else if (strcmp(part->name, "log.txt") == 0)
			cli_redact_learn_log(redact, part->text);
	}
}

static int write_parts(FILE *stream, const struct bundle *bundle, struct cli_redact *redact)
{
	for (size_t i = 0; i < bundle->count; i++) {
		const struct part *part = &bundle->parts[i];
		_cleanup_free_ char *own =
			part->json ? json_dumps(part->json, JSON_INDENT(2)) : NULL;
		const char *text = part->json ? own : part->text;
		_cleanup_free_ char *redacted =
			redact && text ? cli_redact_text(redact, text) : NULL;
		char name[CLI_TAR_NAME_MAX + 1];

		if (!text || (redact && !redacted))
			return -ENOMEM;
		text = redact ? redacted : text;
		snprintf(name, sizeof(name), "sarsen-support/%.80s", part->name);
		cli_tar_add(stream, name, text, strlen(text), (uint64_t)time(NULL));
	}
	cli_tar_end(stream);
	return 0;
}

static int write_file(const char *path, const struct bundle *bundle, struct cli_redact *redact)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), r;
	FILE *stream = fd < 0 ? NULL : fdopen(fd, "w");

	if (!stream) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	r = write_parts(stream, bundle, redact);
	if (r == 0 && ferror(stream))
		r = -EIO;
	if (fclose(stream) != 0 && r == 0)
		r = -errno;
	if (r < 0)
		(void)unlink(path); /* half a bundle helps nobody; the error is told */
	return r;
}

int cli_bundle_write(const struct cli_args *args, const char *socket, struct error *ret_error)
{
	const char *path = params_text(args->params, "file");
	struct bundle *bundle = calloc(1, sizeof(*bundle)); /* large */
	struct cli_redact *redact =
		params_bool(args->params, "redact") ? cli_redact_new() : NULL;
	int r = bundle && (redact || !params_bool(args->params, "redact")) ? 0 : -ENOMEM;

	if (r == 0) {
		gather(bundle, args->params, socket);
		if (redact)
			learn(redact, bundle);
		r = bundle->no_memory ? -ENOMEM : write_file(path, bundle, redact);
	}
	if (bundle)
		bundle_done(bundle);
	free(bundle);
	cli_redact_free(redact);
	if (r < 0)
		error_set(ret_error, error_code_of(r), path, "name a new file on a disk with room",
			  "the bundle cannot be written to %s: %s", path, strerror(-r));
	return r;
}
