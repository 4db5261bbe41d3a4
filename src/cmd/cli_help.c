/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cli_help.h"

#include <ctype.h>
#include <string.h>

#include "base/macros.h"
#include "control/config.h"
#include "control/policy_text.h"

#define NAME_MAX_SHOWN 64

static const char options_text[] =
	"Options:\n"
	"  -o, --output json|table  how to print (default: table)\n"
	"  -H, --no-header          no header; columns separated by one tab\n"
	"  -p, --exact              exact numbers instead of 10G or 1.5ms\n"
	"  -y, --yes                do not ask before destroying something\n"
	"      --no-wait            print a job's number instead of waiting for its end\n"
	"      --wait               wait for a job's end (default)\n"
	"  -s, --socket PATH        socket of the daemon (default: $SARSEN_SOCKET, or\n"
	"                           " CONFIG_DEFAULT_SOCKET ")\n"
	"  -h, --help               this text, or that of a noun or verb\n"
	"      --version            print the version\n";

/* "NEW-NAME" of a positional parameter, "--read-only" of another. */
static const char *show_name(const struct method_param *param, char ret_text[static NAME_MAX_SHOWN])
{
	bool positional = param->flags & PARAM_POSITIONAL;

	if (positional && param_is_many(param)) {
		snprintf(ret_text, NAME_MAX_SHOWN, "%s", param_type_name(param->type));
		return ret_text;
	}
	snprintf(ret_text, NAME_MAX_SHOWN, "%s%s", positional ? "" : "--", param->name);
	for (char *c = ret_text; *c; c++)
		*c = *c == '_' ? '-' : positional ? (char)toupper((unsigned char)*c) : *c;
	return ret_text;
}

static void print_usage(FILE *stream, const struct method *method)
{
	char name[NAME_MAX_SHOWN];

	fprintf(stream, "sarsen %s %s", method->noun, method->verb);
	for (const struct method_param *param = method->params; param->name; param++) {
		bool required = param->flags & PARAM_REQUIRED;
		bool has_value = !(param->flags & PARAM_POSITIONAL) && param->type != PARAM_BOOL;

		fprintf(stream, "%s%s%s%s%s%s", required ? " " : " [", show_name(param, name),
			has_value ? " " : "", has_value ? param_type_name(param->type) : "",
			required ? "" : "]", param_is_many(param) ? "..." : "");
	}
	fputc('\n', stream);
}

static void print_param(FILE *stream, const struct method_param *param)
{
	char name[NAME_MAX_SHOWN];

	fprintf(stream, "  %-16s %s", show_name(param, name), param->help);
	for (const char *const *choice = param->choices; choice && *choice; choice++)
		fprintf(stream, "%s%s", choice == param->choices ? "; one of " : ", ", *choice);
	fputc('\n', stream);
}

/* Those that the method knows, with their ranges. */
static void print_properties(FILE *stream, const struct method *method)
{
	bool of_vdisk = strcmp(method->noun, "vdisk") == 0;
	char range[POLICY_TEXT_MAX];

	fputs("\nProperties:\n", stream);
	for (unsigned i = 0; i < POLICY_PROPERTY_COUNT; i++)
		if (!of_vdisk || policy_info(i)->of_vdisk)
			fprintf(stream, "  %-22s %s: %s\n", policy_info(i)->name,
				policy_info(i)->help, policy_text_range(i, range));
}

static void help_method(FILE *stream, const struct method *method)
{
	bool has_properties = false;

	fputs("Usage: ", stream);
	print_usage(stream, method);
	fprintf(stream, "\n%c%s.\n", toupper((unsigned char)method->summary[0]),
		method->summary + 1);
	if (method->params->name)
		fputc('\n', stream);
	for (const struct method_param *param = method->params; param->name; param++) {
		print_param(stream, param);
		has_properties |= param_is_many(param);
	}
	if (has_properties)
		print_properties(stream, method);
	fprintf(stream, "\n%s%s.%s%s%s\n",
		method->local ? "Works without the daemon" : "Role needed: ",
		method->local ? "" : role_name(method->role),
		method->implied ? " The verb may be left out." : "",
		method->job ? " Runs as a job (--wait, --no-wait)." : "",
		method->destructive || method->destructive_if ? " Asks before it destroys (--yes)."
							      : "");
}

static void help_noun(FILE *stream, const char *noun)
{
	fprintf(stream, "%s: %s\n", noun, method_noun_summary(noun));
	for (int id = 0; id < METHOD_COUNT; id++) {
		const struct method *method = method_get(id);

		if (strcmp(method->noun, noun) != 0)
			continue;
		fputs("  ", stream);
		print_usage(stream, method);
		fprintf(stream, "      %s\n", method->summary);
	}
}

void cli_help(FILE *stream, const char *noun, const struct method *method)
{
	if (method) {
		help_method(stream, method);
		return;
	}
	if (noun) {
		help_noun(stream, noun);
		return;
	}
	fputs("Usage: sarsen [OPTION...] NOUN VERB [ARGUMENT...]\n\n"
	      "Administers the storage daemon sarsend.\n\n",
	      stream);
	for (size_t i = 0; method_noun(i); i++) {
		help_noun(stream, method_noun(i));
		fputc('\n', stream);
	}
	fputs(options_text, stream);
	fputs("\nExit codes: 0 done, 1 failed, 2 wrong command line or value, 3 no answer from "
	      "the\n"
	      "daemon, 4 not found, 5 exists or in use, 6 no space, 7 not allowed, 8 damaged,\n"
	      "9 cancelled, 10 timed out, 11 health found something. See sarsen(1).\n",
	      stream);
}
