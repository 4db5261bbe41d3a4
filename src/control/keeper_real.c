/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting keepers blocks, so it runs on a worker thread. Children are made by posix_spawn() only:
 * a fork() would share the daemon's pages copy-on-write while the kernel writes into them.
 *
 * A keeper that was started as a process is our child until we end, then init's. Those that end
 * before are reaped when the next one is started or a link is closed.
 */
#include "control/keeper_real.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "reactor/io.h"

#define CHILDREN_MAX 1024
#define ARGS_MAX     16
/* Search by the group's members only; a user of QEMU belongs to it. */
#define DIRECTORY_MODE 0750
#define FILE_MODE      0600

extern char **environ;

struct keeper_real {
	struct keeper_real_options options;
	gid_t group;
	bool has_group;
	pthread_mutex_t lock; /* of the children; taken by workers and reactors, held shortly */
	pid_t children[CHILDREN_MAX];
	size_t child_count;
};

struct start { /* to a worker and back */
	struct keeper_real *keepers;
	const struct keeper_spec *spec;
	int result;
};

struct arguments {
	const char *words[ARGS_MAX];
	size_t count;
	char queues[16], group[16];
};

bool keeper_real_under_systemd(void)
{
	return getenv("INVOCATION_ID") && access("/run/systemd/system", F_OK) == 0;
}

int keeper_real_new(const struct keeper_real_options *options, struct keeper_real **ret_keepers)
{
	const char *name = options->group;
	struct keeper_real *keepers;
	const struct group *group;

	keepers = calloc(1, sizeof(*keepers));
	if (!keepers)
		return -ENOMEM;
	keepers->options = *options;
	if (name && *name) {
		group = getgrnam(name); /* before there are threads */
		if (!group) {
			free(keepers);
			return -ENOENT;
		}
		keepers->group = group->gr_gid;
		keepers->has_group = true;
	}
	pthread_mutex_init(&keepers->lock, NULL);
	*ret_keepers = keepers;
	return 0;
}

void keeper_real_free(struct keeper_real *keepers)
{
	if (!keepers)
		return;
	pthread_mutex_destroy(&keepers->lock);
	free(keepers);
}

static void reap(struct keeper_real *keepers)
{
	size_t kept = 0;

	pthread_mutex_lock(&keepers->lock);
	for (size_t i = 0; i < keepers->child_count; i++)
		if (waitpid(keepers->children[i], NULL, WNOHANG) == 0)
			keepers->children[kept++] = keepers->children[i];
	keepers->child_count = kept;
	pthread_mutex_unlock(&keepers->lock);
}

static void remember(struct keeper_real *keepers, pid_t child)
{
	pthread_mutex_lock(&keepers->lock);
	if (keepers->child_count < CHILDREN_MAX)
		keepers->children[keepers->child_count++] = child;
	pthread_mutex_unlock(&keepers->lock);
}

/* One that is there already is as its owner wants it. Not subject to our umask. */
static int make_directory(const struct keeper_real *keepers)
{
	const char *path = keepers->options.directory;

	if (mkdir(path, 0700) < 0)
		return errno == EEXIST ? 0 : -errno;
	if (keepers->has_group && chown(path, (uid_t)-1, keepers->group) < 0)
		return -errno;
	return chmod(path, DIRECTORY_MODE) < 0 ? -errno : 0;
}

static void add(struct arguments *arguments, const char *word)
{
	ASSERT(arguments->count < ARGS_MAX - 1);
	arguments->words[arguments->count++] = word;
}

/* frontend/nvme/link.h has the keeper's command line. */
static void fill_arguments(const struct keeper_real *keepers, const struct keeper_spec *spec,
			   struct arguments *arguments)
{
	*arguments = (struct arguments){0};
	snprintf(arguments->queues, sizeof(arguments->queues), "%u", spec->queues);
	snprintf(arguments->group, sizeof(arguments->group), "%u", (unsigned)keepers->group);
	add(arguments, keepers->options.program);
	add(arguments, "--name");
	add(arguments, spec->name);
	add(arguments, "--link");
	add(arguments, spec->link);
	add(arguments, "--socket");
	add(arguments, spec->socket);
	add(arguments, "--doorbells");
	add(arguments, spec->doorbells_mapped ? "mapped" : "trapped");
	add(arguments, "--queues");
	add(arguments, arguments->queues);
	if (keepers->has_group) {
		add(arguments, "--group");
		add(arguments, arguments->group);
	}
}

/* `path` gets what the child writes; NULL: it writes where we do. */
static int spawn(const struct arguments *arguments, const char *path, pid_t *ret_child)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
						      POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	r = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (r == 0 && path)
		r = posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, path,
						     O_WRONLY | O_CREAT | O_TRUNC | O_APPEND,
						     FILE_MODE);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	if (r == 0)
		r = posix_spawnp(ret_child, arguments->words[0], &actions, &attributes,
				 (char *const *)arguments->words, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

static int fail(const char *what, const char *object, int error)
{
	log_error("nvme", what, "object=%s error=\"%s\"", object, strerror(-error));
	return error == -ENOMEM ? error : -ENOPKG;
}

#define BESIDE_MAX (KEEPER_PATH_MAX + 1)

/* NAME.log for NAME.link: no longer than that. */
static void beside(const struct keeper_spec *spec, const char *suffix, char path[BESIDE_MAX])
{
	snprintf(path, BESIDE_MAX, "%.*s%s", (int)(strlen(spec->link) - strlen("link")), spec->link,
		 suffix);
}

static int start_process(struct keeper_real *keepers, const struct keeper_spec *spec)
{
	char path[BESIDE_MAX];
	struct arguments arguments;
	pid_t child;
	int r;

	fill_arguments(keepers, spec, &arguments);
	/* Not our output: a keeper lives longer than what is at its other end. */
	beside(spec, "log", path);
	r = spawn(&arguments, path, &child);
	if (r < 0)
		return fail("a keeper's program cannot be started", keepers->options.program, r);
	remember(keepers, child);
	return 0;
}

/* What the unit gives to the program: one line, words without blanks. */
static int write_environment(const struct keeper_real *keepers, const struct keeper_spec *spec)
{
	char path[BESIDE_MAX];
	struct arguments arguments;
	FILE *file;

	fill_arguments(keepers, spec, &arguments);
	beside(spec, "env", path);
	for (size_t i = 1; i < arguments.count; i++)
		if (strpbrk(arguments.words[i], " \t\n\"'\\$"))
			return -EINVAL;
	file = fopen(path, "we");
	if (!file)
		return -errno;
	fputs("KEEPER_ARGUMENTS=", file);
	for (size_t i = 1; i < arguments.count; i++)
		fprintf(file, "%s ", arguments.words[i]);
	fputc('\n', file);
	return fclose(file) == 0 ? 0 : -errno;
}

static int start_unit(struct keeper_real *keepers, const struct keeper_spec *spec)
{
	char unit[KEEPER_NAME_MAX + 32];
	const struct arguments arguments = {
		.words = {"systemctl", "--no-ask-password", "restart", unit}, .count = 4};
	int r = write_environment(keepers, spec), status;
	pid_t child;

	if (r < 0)
		return fail("a keeper's unit cannot be prepared", spec->link, r);
	snprintf(unit, sizeof(unit), "sarsen-keeper@%s.service", spec->name);
	r = spawn(&arguments, NULL, &child);
	if (r < 0)
		return fail("systemctl cannot be started", unit, r);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return fail("systemctl is lost", unit, -errno);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return fail("systemctl could not start a keeper's unit", unit, -ENOPKG);
}

static void start(void *arg)
{
	struct start *call = arg;
	struct keeper_real *keepers = call->keepers;

	reap(keepers);
	call->result = make_directory(keepers);
	if (call->result < 0)
		call->result = fail("the directory for keepers' sockets cannot be used",
				    keepers->options.directory, call->result);
	else if (keepers->options.systemd)
		call->result = start_unit(keepers, call->spec);
	else
		call->result = start_process(keepers, call->spec);
}

static int spawn_keeper(void *context, const struct keeper_spec *spec)
{
	struct start call = {.keepers = context, .spec = spec};
	int r = io_job(start, &call);

	return r < 0 ? r : call.result;
}

static void remove_files(void *arg)
{
	const struct start *call = arg;
	char path[BESIDE_MAX];

	reap(call->keepers);
	for (size_t i = 0; i < 2; i++) {
		beside(call->spec, i == 0 ? "log" : "env", path);
		if (unlink(path) < 0 && errno != ENOENT)
			log_warning("nvme", "a file of a keeper stays", "path=%s error=\"%s\"",
				    path, strerror(errno));
	}
}

static void forget(void *context, const struct keeper_spec *spec)
{
	struct start call = {.keepers = context, .spec = spec};

	(void)io_job(remove_files, &call); /* at the end of the world they stay */
}

static int open_link(void *context, const struct nvme_link_options *options,
		     struct nvme_link **ret_link)
{
	reap(context);
	return nvme_link_open(options, ret_link);
}

static int attach(struct nvme_link *link, const struct nvme_namespace_options *options)
{
	return nvme_namespace_attach(nvme_link_controller(link), options);
}

static int detach(struct nvme_link *link, uint32_t nsid)
{
	return nvme_namespace_detach(nvme_link_controller(link), nsid);
}

static int set_active(struct nvme_link *link, uint32_t nsid, bool active)
{
	return nvme_namespace_set_active(nvme_link_controller(link), nsid, active);
}

static void resized(struct nvme_link *link, uint32_t nsid)
{
	nvme_namespace_resized(nvme_link_controller(link), nsid);
}

static unsigned redone(struct nvme_link *link)
{
	return nvme_controller_redone(nvme_link_controller(link));
}

static void go_on(struct nvme_link *link, unsigned step)
{
	nvme_controller_go_on(nvme_link_controller(link), step);
}

static void get_stats(struct nvme_link *link, struct nvme_stats *ret_stats)
{
	nvme_controller_get_stats(nvme_link_controller(link), ret_stats);
}

const struct keeper_ops keeper_real_ops = {
	.spawn = spawn_keeper,
	.forget = forget,
	.open = open_link,
	.start = nvme_link_start,
	.close = nvme_link_close,
	.retire = nvme_link_retire,
	.replace = nvme_link_replace,
	.shared = nvme_link_shared,
	.attach = attach,
	.detach = detach,
	.set_active = set_active,
	.resized = resized,
	.redone = redone,
	.go_on = go_on,
	.get_stats = get_stats,
};
