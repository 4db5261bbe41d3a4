/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/fsck_args.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/macros.h"

const char fsck_help_text[] =
	"Usage: sarsen-fsck [OPTION...]\n\n"
	"Checks what a stopped sarsend has stored, and repairs what can be repaired.\n\n"
	"  -n, --no-changes     only show what is wrong; write nothing\n"
	"  --rebuild-catalog [DIRECTORY...]\n"
	"                       make the catalog again from the disks alone: the last resort\n"
	"  --force              do so although something better is there, or a disk is missing\n"
	"  -o, --output FORMAT  text (default) or json\n"
	"  --state DIR          the daemon's state (default /var/lib/sarsen)\n"
	"  --config FILE        the daemon's configuration (default " CONFIG_DEFAULT_FILE ")\n"
	"  --version            print the version\n"
	"  --help               this text\n\n"
	"Exit status: 0 clean, 1 errors corrected, 4 errors left, 8 could not check,\n"
	"16 wrong usage, 32 canceled. See sarsen-fsck(8).\n";

enum {
	OPTION_STATE = 256,
	OPTION_REBUILD,
	OPTION_FORCE,
	OPTION_CONFIG,
	OPTION_VERSION,
	OPTION_HELP,
};

static const struct option options[] = {
	{"no-changes", no_argument, NULL, 'n'},
	{"output", required_argument, NULL, 'o'},
	{"rebuild-catalog", no_argument, NULL, OPTION_REBUILD},
	{"force", no_argument, NULL, OPTION_FORCE},
	{"state", required_argument, NULL, OPTION_STATE},
	{"config", required_argument, NULL, OPTION_CONFIG},
	{"version", no_argument, NULL, OPTION_VERSION},
	{"help", no_argument, NULL, OPTION_HELP},
	{0},
};

static void print_fault(const char *fault, void *arg)
{
	(void)arg;
	fprintf(stderr, "sarsen-fsck: %s\n", fault);
}

static int set_state(const char *given, char state[CONFIG_PATH_MAX])
{
	char directory[CONFIG_PATH_MAX] = "";

	if (given[0] != '/' && !getcwd(directory, sizeof(directory)))
		return -errno;
	if (*given && snprintf(state, CONFIG_PATH_MAX, "%s%s%s", directory, *directory ? "/" : "",
			       given) < CONFIG_PATH_MAX)
		return 0;
	print_fault("--state: the path is empty or too long", NULL);
	return -EINVAL;
}

/* Without --state the configuration says where it is. */
static int find_state(const char *state, const char *file, struct fsck_args *args)
{
	static struct config config; /* large */
	int r;

	if (state)
		return set_state(state, args->state);
	config_defaults(&config);
	r = config_read_file(&config, file ? file : CONFIG_DEFAULT_FILE, print_fault, NULL);
	if (r < 0 && !(r == -ENOENT && !file)) {
		fprintf(stderr, "sarsen-fsck: %s: %s\n", file ? file : CONFIG_DEFAULT_FILE,
			strerror(-r));
		return -EINVAL;
	}
	return set_state(config.state, args->state);
}

static int set_output(const char *text, struct fsck_args *args)
{
	args->json = strcmp(text, "json") == 0;
	if (args->json || strcmp(text, "text") == 0)
		return 0;
	print_fault("--output: give text or json", NULL);
	return -EINVAL;
}

/* With --rebuild-catalog alone: as they will be in the catalog, absolute and without links. */
static int set_directories(int count, char **texts, struct fsck_args *args)
{
	if (!args->rebuild && (count > 0 || args->force)) {
		print_fault(count > 0 ? "arguments go with --rebuild-catalog only: see "
					"sarsen-fsck --help"
				      : "--force goes with --rebuild-catalog only",
			    NULL);
		return -EINVAL;
	}
	if (count > FSCK_DIRECTORIES_MAX) {
		print_fault("too many directories", NULL);
		return -EINVAL;
	}
	for (int i = 0; i < count; i++) {
		args->directories[i] = realpath(texts[i], NULL);
		if (!args->directories[i]) {
			fprintf(stderr, "sarsen-fsck: %s: %s\n", texts[i], strerror(errno));
			return -EINVAL;
		}
		args->directory_count++;
	}
	return 0;
}

int fsck_args_parse(int argc, char **argv, struct fsck_args *ret_args)
{
	struct fsck_args args = {0};
	const char *state = NULL, *config = NULL;
	int option, r = 0;

	optind = 1;
	while (r == 0 && (option = getopt_long(argc, argv, "no:", options, NULL)) != -1) {
		if (option == 'n')
			args.show_only = true;
		else if (option == 'o')
			r = set_output(optarg, &args);
		else if (option == OPTION_STATE)
			state = optarg;
		else if (option == OPTION_CONFIG)
			config = optarg;
		else if (option == OPTION_REBUILD)
			args.rebuild = true;
		else if (option == OPTION_FORCE)
			args.force = true;
		else if (option == OPTION_VERSION)
			args.version = true;
		else if (option == OPTION_HELP)
			args.help = true;
		else
			r = -EINVAL; /* getopt told which */
	}
	if (r < 0)
		print_fault("see sarsen-fsck --help", NULL);
	if (r == 0)
		r = set_directories(argc - optind, argv + optind, &args);
	if (r == 0 && !args.help && !args.version)
		r = find_state(state, config, &args);
	if (r == 0)
		*ret_args = args;
	return r;
}

static const char *class_name(enum fsck_class class)
{
	return class == FSCK_NOTE ? "note" : class == FSCK_MINOR ? "wrong" : "damaged";
}

static void clear_progress(struct fsck_print *print)
{
	if (print->progress_shown)
		fputs("\r\033[K", stderr);
	print->progress_shown = false;
}

void fsck_print_finding(struct fsck_print *print, const struct fsck_finding *finding)
{
	clear_progress(print);
	if (print->findings) {
		json_array_append_new(print->findings,
				      json_pack("{s:s, s:s, s:s, s:s, s:s, s:s?}", "code",
						finding->code, "class", class_name(finding->class),
						"object", finding->object, "cause", finding->cause,
						"advice", finding->advice, "done", finding->done));
		return;
	}
	fprintf(print->out, "%s: %s: %s\n", class_name(finding->class), finding->object,
		finding->cause);
	if (finding->done)
		fprintf(print->out, "    done: %s\n", finding->done);
	else
		fprintf(print->out, "    to do: %s\n", finding->advice);
}

void fsck_print_progress(struct fsck_print *print, uint64_t bytes_done, uint64_t bytes_total)
{
	if (!print->terminal)
		return;
	fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " MiB (%u %%)\033[K", bytes_done / MIB,
		bytes_total / MIB, bytes_total ? (unsigned)(bytes_done * 100 / bytes_total) : 100);
	print->progress_shown = true;
}

void fsck_print_report(struct fsck_print *print, const struct fsck_report *report)
{
	uint64_t left = report->errors + report->minors - report->corrected;

	clear_progress(print);
	if (print->findings) {
		json_t *json = json_pack(
			"{s:O, s:I, s:I, s:I, s:I, s:I}", "findings", print->findings, "pools",
			(json_int_t)report->pools, "vdisks", (json_int_t)report->vdisks, "files",
			(json_int_t)report->files, "bytes", (json_int_t)report->bytes, "errors",
			(json_int_t)(report->errors + report->minors));

		json_object_set_new(json, "corrected", json_integer((json_int_t)report->corrected));
		json_object_set_new(json, "left", json_integer((json_int_t)left));
		json_object_set_new(json, "notes", json_integer((json_int_t)report->notes));
		(void)json_dumpf(json, print->out, JSON_INDENT(2)); /* the exit tells */
		fputc('\n', print->out);
		json_decref(json);
		return;
	}
	fprintf(print->out,
		"checked %" PRIu64 " pools, %" PRIu64 " vDisks, %" PRIu64 " files, %" PRIu64
		" MiB: %" PRIu64 " map pages, %" PRIu64 " blocks in use\n",
		report->pools, report->vdisks, report->files, report->bytes / MIB, report->pages,
		report->blocks);
	fprintf(print->out,
		"%" PRIu64 " errors, %" PRIu64 " corrected, %" PRIu64 " left; %" PRIu64 " notes\n",
		report->errors + report->minors, report->corrected, left, report->notes);
}

int fsck_exit_of(const struct fsck_report *report)
{
	uint64_t found = report->errors + report->minors;

	if (found > report->corrected)
		return FSCK_EXIT_LEFT;
	return found > 0 ? FSCK_EXIT_CORRECTED : FSCK_EXIT_CLEAN;
}
