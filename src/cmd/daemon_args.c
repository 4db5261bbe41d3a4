/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/daemon_args.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/macros.h"

const char daemon_help_text[] =
	"Usage: sarsend [OPTION...]\n\n"
	"The storage daemon: pools, vDisks, iSCSI.\n\n"
	"  --state DIR      where it keeps what it knows (default /var/lib/sarsen)\n"
	"  --config FILE    configuration (default " CONFIG_DEFAULT_FILE ", if it is there)\n"
	"  --socket PATH    socket of the API (default " CONFIG_DEFAULT_SOCKET ")\n"
	"  --reactors N     threads that do the work (default: all CPUs but one)\n"
	"  --restore-catalog DIR\n"
	"                   take the copy of the catalog on this disk of a pool first\n"
	"  --upgrade-check  only say whether this program can read what is on disk, what\n"
	"                   it would convert, and whether there is a way back\n"
	"  -o, --output json|text\n"
	"                   how to print that (default: text)\n"
	"  --check-config   only say what is wrong with the configuration\n"
	"  --version        print the version\n"
	"  --help           this text\n\n"
	"See sarsend(8) and sarsend.conf(5).\n";

enum {
	OPTION_STATE = 256,
	OPTION_CONFIG,
	OPTION_SOCKET,
	OPTION_REACTORS,
	OPTION_RESTORE,
	OPTION_CHECK,
	OPTION_UPGRADE,
	OPTION_VERSION,
	OPTION_HELP
};

static const struct option options[] = {
	{"state", required_argument, NULL, OPTION_STATE},
	{"config", required_argument, NULL, OPTION_CONFIG},
	{"socket", required_argument, NULL, OPTION_SOCKET},
	{"reactors", required_argument, NULL, OPTION_REACTORS},
	{"restore-catalog", required_argument, NULL, OPTION_RESTORE},
	{"check-config", no_argument, NULL, OPTION_CHECK},
	{"upgrade-check", no_argument, NULL, OPTION_UPGRADE},
	{"output", required_argument, NULL, 'o'},
	{"version", no_argument, NULL, OPTION_VERSION},
	{"help", no_argument, NULL, OPTION_HELP},
	{0},
};

struct given {
	const char *state, *config, *socket, *reactors, *restore, *output;
	enum daemon_action action;
};

static int parse_options(int argc, char **argv, struct given *given, config_fault_fn *fault,
			 void *arg)
{
	int option;

	optind = 1;
	opterr = 1; /* getopt names the bad option on stderr itself */
	while ((option = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
		if (option == OPTION_STATE)
			given->state = optarg;
		else if (option == OPTION_CONFIG)
			given->config = optarg;
		else if (option == OPTION_SOCKET)
			given->socket = optarg;
		else if (option == OPTION_REACTORS)
			given->reactors = optarg;
		else if (option == OPTION_RESTORE)
			given->restore = optarg;
		else if (option == OPTION_CHECK)
			given->action = DAEMON_CHECK_CONFIG;
		else if (option == OPTION_UPGRADE)
			given->action = DAEMON_CHECK_UPGRADE;
		else if (option == 'o')
			given->output = optarg;
		else if (option == OPTION_VERSION)
			given->action = DAEMON_VERSION;
		else if (option == OPTION_HELP)
			given->action = DAEMON_HELP;
		else {
			fault("see sarsend --help", arg);
			return -EINVAL;
		}
	}
	if (given->output && strcmp(given->output, "text") != 0 &&
	    strcmp(given->output, "json") != 0) {
		fault("--output: give json or text", arg);
		return -EINVAL;
	}
	if (given->action == DAEMON_CHECK_UPGRADE && given->output &&
	    strcmp(given->output, "json") == 0)
		given->action = DAEMON_CHECK_UPGRADE_JSON;
	if (optind < argc) {
		fault("sarsend takes no arguments, only options: see sarsend --help", arg);
		return -EINVAL;
	}
	return 0;
}

/* An absolute path from one that may be relative to the working directory. */
static int set_path(const char *given, char *path, size_t size, const char *option,
		    config_fault_fn *fault, void *arg)
{
	char directory[CONFIG_PATH_MAX] = "", text[128];

	if (given[0] != '/' && !getcwd(directory, sizeof(directory)))
		return -errno;
	if (*given &&
	    snprintf(path, size, "%s%s%s", directory, *directory ? "/" : "", given) < (int)size)
		return 0;
	snprintf(text, sizeof(text), "%s: the path is empty or longer than %zu characters", option,
		 size - 1);
	fault(text, arg);
	return -EINVAL;
}

static int set_reactors(const char *text, struct config *config, config_fault_fn *fault, void *arg)
{
	char *end;
	unsigned long count;

	errno = 0;
	count = strtoul(text, &end, 10);
	if (errno == 0 && end != text && !*end && text[0] != '-' && count >= 1 &&
	    count <= CONFIG_REACTORS_MAX) {
		config->reactors = count;
		return 0;
	}
	fault("--reactors: give a number from 1 to 64", arg);
	return -EINVAL;
}

static int read_config(const char *path, struct config *config, config_fault_fn *fault, void *arg)
{
	char text[CONFIG_PATH_MAX + 100];
	int r = config_read_file(config, path ? path : CONFIG_DEFAULT_FILE, fault, arg);

	if (r == -ENOENT && !path)
		return 0;
	if (r < 0 && r != -EINVAL) {
		snprintf(text, sizeof(text), "%s: cannot be read: %s",
			 path ? path : CONFIG_DEFAULT_FILE, strerror(-r));
		fault(text, arg);
	}
	return r < 0 ? -EINVAL : 0;
}

int daemon_args_parse(int argc, char **argv, struct config *ret_config,
		      enum daemon_action *ret_action, config_fault_fn *fault, void *arg)
{
	struct given given = {.action = DAEMON_RUN};
	int r = parse_options(argc, argv, &given, fault, arg);

	config_defaults(ret_config);
	*ret_action = given.action;
	if (r < 0 || given.action == DAEMON_HELP || given.action == DAEMON_VERSION)
		return r;
	r = read_config(given.config, ret_config, fault, arg);
	if (given.state)
		r |= set_path(given.state, ret_config->state, sizeof(ret_config->state), "--state",
			      fault, arg);
	if (given.socket)
		r |= set_path(given.socket, ret_config->socket, sizeof(ret_config->socket),
			      "--socket", fault, arg);
	if (given.restore)
		r |= set_path(given.restore, ret_config->restore_catalog,
			      sizeof(ret_config->restore_catalog), "--restore-catalog", fault, arg);
	if (given.reactors)
		r |= set_reactors(given.reactors, ret_config, fault, arg);
	r |= config_check(ret_config, fault, arg);
	return r < 0 ? -EINVAL : 0;
}
