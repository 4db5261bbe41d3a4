/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The script is a table of what follows each noun and verb, and a fixed part that reads it. A word
 * of the table is one argument: a kind for the positional ones, --name or --name=KIND for others.
 * Kinds are "pool", "container", "vdisk", "job", "nvme" (names that the daemon is asked for),
 * "disk" (numbers and directories of disks, in the same way), "file", "a,b" (choices) and "-"
 * (nothing to offer). "..." after the last one: it may come again.
 */
#include "cmd/cli_completion.h"

#include <string.h>

#include "base/macros.h"
#include "control/method.h"
#include "pool/policy.h"

static const char head[] =
	"# bash completion for sarsen, made by `sarsen completion bash`\n\n"
	"_sarsen_names() {\n"
	"\tcase $1 in\n"
	"\t-) ;;\n"
	"\tfile) compgen -f -- \"$2\" ;;\n"
	"\tdisk)\n"
	"\t\tcompgen -W \"$(sarsen -Hp disk list 2>/dev/null | cut -f1,9)\" -- \"$2\" ;;\n"
	"\tpool | container | vdisk | job | nvme)\n"
	"\t\tcompgen -W \"$(sarsen -Hp \"$1\" list 2>/dev/null | cut -f1)\" -- \"$2\" ;;\n"
	"\t*) compgen -W \"${1//,/ }\" -- \"$2\" ;;\n"
	"\tesac\n"
	"}\n\n"
	"_sarsen() {\n"
	"\tlocal current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}\n"
	"\tlocal word noun= verb= kind= place=0 arguments= verbs= i\n"
	"\tlocal global='--output --no-header --exact --yes --no-wait --wait --socket --help "
	"--version'\n"
	"\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	"\t\tword=${COMP_WORDS[i]}\n"
	"\t\tcase $word in\n"
	"\t\thelp) [ -n \"$noun\" ] || continue ;;\n"
	"\t\t-o | -s | --output | --socket) ((i++)); continue ;;\n"
	"\t\t-*) continue ;;\n"
	"\t\tesac\n"
	"\t\tif [ -z \"$noun\" ]; then noun=$word; elif [ -z \"$verb\" ]; then verb=$word\n"
	"\t\telse ((place++)); fi\n"
	"\tdone\n"
	"\tcase $noun in\n";

static const char middle[] = "\tesac\n\tcase \"$noun $verb\" in\n";

static const char tail[] =
	"\tesac\n"
	"\tCOMPREPLY=()\n"
	"\tcase $previous in\n"
	"\t-o | --output) kind=json,table ;;\n"
	"\t-s | --socket) kind=file ;;\n"
	"\t--*)\n"
	"\t\tfor word in $arguments; do\n"
	"\t\t\t[ \"${word%%=*}\" = \"$previous\" ] && [ \"$word\" != \"$previous\" ] && "
	"kind=${word#*=}\n"
	"\t\tdone ;;\n"
	"\tesac\n"
	"\tif [ -n \"$kind\" ]; then\n"
	"\t\tmapfile -t COMPREPLY < <(_sarsen_names \"$kind\" \"$current\")\n"
	"\telif [[ $current == -* ]]; then\n"
	"\t\tfor word in $arguments; do\n"
	"\t\t\t[[ $word == --* ]] && global+=\" ${word%%=*}\"\n"
	"\t\tdone\n"
	"\t\tmapfile -t COMPREPLY < <(compgen -W \"$global\" -- \"$current\")\n"
	"\telif [ -z \"$verb\" ]; then\n"
	"\t\tmapfile -t COMPREPLY < <(compgen -W \"$verbs\" -- \"$current\")\n"
	"\telse\n"
	"\t\tfor word in $arguments; do\n"
	"\t\t\t[[ $word == --* ]] && continue\n"
	"\t\t\t[[ $word == *... ]] || ! ((place-- > 0)) || continue\n"
	"\t\t\tmapfile -t COMPREPLY < <(_sarsen_names \"${word%...}\" \"$current\")\n"
	"\t\t\t[[ ${COMPREPLY[0]} != *= ]] || compopt -o nospace 2>/dev/null\n"
	"\t\t\tbreak\n"
	"\t\tdone\n"
	"\tfi\n"
	"}\n\n"
	"complete -F _sarsen sarsen\n";

/* "name,other": with = after each where a value follows. "..." tells that more may come. */
static void print_properties(FILE *stream, const struct method *method,
			     const struct method_param *param)
{
	bool of_vdisk = strcmp(method->noun, "vdisk") == 0;
	const char *between = "";

	for (unsigned i = 0; i < POLICY_PROPERTY_COUNT; i++) {
		if (of_vdisk && !policy_info(i)->of_vdisk)
			continue;
		fprintf(stream, "%s%s%s", between, policy_info(i)->name,
			param->type == PARAM_SETTINGS ? "=" : "");
		between = ",";
	}
	if (param->flags & PARAM_POSITIONAL)
		fputs("...", stream);
}

static bool is_file(const struct method_param *param)
{
	static const char *const names[] = {"directory", "file", "config", "log"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(param->name, names[i]) == 0)
			return true;
	return param->type == PARAM_SECRET;
}

static void print_kind(FILE *stream, const struct method *method, const struct method_param *param)
{
	bool is_new = strcmp(method->verb, "create") == 0 && strcmp(param->name, "name") == 0;

	if (param->type == PARAM_ENUM) {
		for (const char *const *choice = param->choices; *choice; choice++)
			fprintf(stream, "%s%s", choice == param->choices ? "" : ",", *choice);
	} else if (param_is_many(param)) {
		print_properties(stream, method, param);
	} else if (is_new) {
		fputc('-', stream);
	} else if (param->type == PARAM_VDISK) {
		fputs("vdisk", stream);
	} else if (param->type == PARAM_NAME) {
		fputs(strcmp(param->name, "name") == 0     ? method->noun
		      : strcmp(param->name, "manage") == 0 ? "container"
							   : param->name,
		      stream);
	} else if (strcmp(param->name, "disk") == 0) {
		fputs("disk", stream);
	} else if (strcmp(param->name, "id") == 0 && strcmp(method->noun, "job") == 0) {
		fputs(method->noun, stream);
	} else if (is_file(param)) {
		fputs("file", stream);
	} else {
		fputc('-', stream);
	}
}

static void print_arguments(FILE *stream, const struct method *method)
{
	fprintf(stream, "\t'%s %s') arguments='", method->noun, method->verb);
	for (const struct method_param *param = method->params; param->name; param++) {
		if (param != method->params)
			fputc(' ', stream);
		if (!(param->flags & PARAM_POSITIONAL)) {
			fputs("--", stream);
			for (const char *c = param->name; *c; c++)
				fputc(*c == '_' ? '-' : *c, stream);
			if (param->type == PARAM_BOOL)
				continue;
			fputc('=', stream);
		}
		print_kind(stream, method, param);
	}
	fputs("' ;;\n", stream);
}

static void print_verbs(FILE *stream, const char *noun)
{
	const char *between = "";

	fprintf(stream, "\t%s) verbs='", noun);
	for (int id = 0; id < METHOD_COUNT; id++) {
		const struct method *method = method_get(id);

		if (strcmp(method->noun, noun) != 0)
			continue;
		fprintf(stream, "%s%s", between, method->verb);
		between = " ";
	}
	fputs("' ;;\n", stream);
}

void cli_completion_bash(FILE *stream)
{
	fputs(head, stream);
	for (size_t i = 0; method_noun(i); i++)
		print_verbs(stream, method_noun(i));
	fputs("\t'') verbs='help", stream);
	for (size_t i = 0; method_noun(i); i++)
		fprintf(stream, " %s", method_noun(i));
	fputs("' ;;\n", stream);
	fputs(middle, stream);
	for (int id = 0; id < METHOD_COUNT; id++)
		print_arguments(stream, method_get(id));
	fputs(tail, stream);
}
