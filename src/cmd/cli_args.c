/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cli_args.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control/params.h"

#define WORDS_MAX       32
#define SECRET_LINE_MAX 512

struct option {
	char letter;
	const char *name;
	bool has_value;
};

static const struct option options[] = {
	{'o', "output", true},   {'H', "no-header", false}, {'p', "exact", false},
	{'y', "yes", false},     {'s', "socket", true},     {'h', "help", false},
	{'V', "version", false}, {'w', "wait", false},      {'n', "no-wait", false},
};

/* Parsing goes left to right; words and parameters are sorted out when all are known. */
struct parse {
	struct cli_args *args;
	struct error *error;
	int argc, next;
	char **argv;
	const char *words[WORDS_MAX];
	size_t word_count;
	const char *named[WORDS_MAX][2]; /* --name, its value or NULL */
	size_t named_count;
	bool help;
};

/* The help that comes nearest to what was said. */
static const char *help_of(const struct parse *parse, char ret_text[static 100])
{
	const struct method *method = parse->args->method;

	if (method)
		snprintf(ret_text, 100, "see: sarsen help %s %s", method->noun, method->verb);
	else if (parse->word_count > 0 && method_noun_summary(parse->words[0]))
		snprintf(ret_text, 100, "see: sarsen help %s", parse->words[0]);
	else
		snprintf(ret_text, 100, "see: sarsen --help");
	return ret_text;
}

__attribute__((format(printf, 3, 4))) static int fail(struct parse *parse, const char *object,
						      const char *format, ...)
{
	char text[ERROR_TEXT_MAX], help[100];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	error_set(parse->error, ERROR_INVALID_REQUEST, object, help_of(parse, help), "%s", text);
	return -EINVAL;
}

static int apply_option(struct parse *parse, const struct option *option, const char *value)
{
	struct cli_args *args = parse->args;

	switch (option->letter) {
	case 'o':
		if (strcmp(value, "json") != 0 && strcmp(value, "table") != 0)
			return fail(parse, value, "unknown output format '%s': use json or table",
				    value);
		args->json = strcmp(value, "json") == 0;
		return 0;
	case 's':
		args->socket = value;
		return 0;
	case 'H':
		args->no_header = true;
		return 0;
	case 'p':
		args->exact = true;
		return 0;
	case 'y':
		args->yes = true;
		return 0;
	case 'h':
		parse->help = true;
		return 0;
	case 'V':
		args->action = CLI_VERSION;
		return 0;
	default: /* --wait, --no-wait: the last one counts */
		args->no_wait = option->letter == 'n';
		return 0;
	}
}

/* "-Hp", "-ojson", "-o json" */
static int parse_letters(struct parse *parse, const char *letters)
{
	for (; *letters; letters++) {
		const struct option *option = NULL;
		const char *value = letters + 1;
		int r;

		for (size_t i = 0; i < ARRAY_SIZE(options); i++)
			if (options[i].letter == *letters && !strchr("wnV", *letters))
				option = &options[i];
		if (!option)
			return fail(parse, NULL, "unknown option -%c", *letters);
		if (option->has_value && !*value) {
			if (parse->next == parse->argc)
				return fail(parse, NULL, "option -%c needs a value", *letters);
			value = parse->argv[parse->next++];
		}
		r = apply_option(parse, option, option->has_value ? value : NULL);
		if (r < 0 || option->has_value)
			return r;
	}
	return 0;
}

/* A parameter of the method, which may not be known yet: remembered with what follows it. */
static int remember_named(struct parse *parse, const char *name, const char *value)
{
	if (parse->named_count == WORDS_MAX)
		return fail(parse, name, "too many arguments");
	parse->named[parse->named_count][0] = name;
	parse->named[parse->named_count++][1] = value;
	return 0;
}

/* NOUN VERB, or NOUN and a verb of two words ("iscsi lun add" is "iscsi lun-add"); how many words
 * that takes. The verb may be left out where the noun implies one. NULL: not enough, or none is
 * called so. */
static const struct method *method_by_words(const struct parse *parse, size_t *ret_count)
{
	const struct method *method = NULL;
	char verb[METHOD_NAME_MAX];

	*ret_count = 2;
	if (parse->word_count > 1)
		method = method_find_words(parse->words[0], parse->words[1]);
	if (!method && parse->word_count > 2) {
		*ret_count = 3;
		snprintf(verb, sizeof(verb), "%s-%s", parse->words[1], parse->words[2]);
		method = method_find_words(parse->words[0], verb);
	}
	if (!method && parse->word_count > 0) {
		*ret_count = 1;
		method = method_find_implied(parse->words[0]);
	}
	return method;
}

static const struct method *method_so_far(const struct parse *parse)
{
	size_t count;

	return method_by_words(parse, &count);
}

static const struct method_param *find_param(const struct method *method, const char *name,
					     size_t length)
{
	for (const struct method_param *param = method->params; param->name; param++) {
		size_t i = 0;

		while (i < length && param->name[i] &&
		       (name[i] == param->name[i] || (name[i] == '-' && param->name[i] == '_')))
			i++;
		if (i == length && !param->name[i])
			return param;
	}
	return NULL;
}

static int parse_param_option(struct parse *parse, const char *name, size_t length,
			      const char *value)
{
	const struct method *method = method_so_far(parse);
	const struct method_param *param = method ? find_param(method, name, length) : NULL;

	if (!method)
		return fail(parse, name, "unknown option --%s (parameters come after NOUN VERB)",
			    name);
	if (!param)
		return fail(parse, name, "%s %s has no option --%.*s", method->noun, method->verb,
			    (int)length, name);
	if (!value && param->type == PARAM_BOOL)
		value = "true";
	if (!value && parse->next == parse->argc)
		return fail(parse, name, "option --%s needs a value", name);
	if (!value)
		value = parse->argv[parse->next++];
	return remember_named(parse, param->name, value);
}

/* "--name", "--name=value", "--name value" */
static int parse_long(struct parse *parse, const char *name)
{
	const char *value = strchr(name, '=');
	size_t length = value ? (size_t)(value - name) : strlen(name);

	value = value ? value + 1 : NULL;
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option *option = &options[i];

		if (strlen(option->name) != length || strncmp(option->name, name, length) != 0)
			continue;
		if (!option->has_value && value)
			return fail(parse, name, "option --%s takes no value", option->name);
		if (option->has_value && !value && parse->next == parse->argc)
			return fail(parse, name, "option --%s needs a value", option->name);
		if (option->has_value && !value)
			value = parse->argv[parse->next++];
		return apply_option(parse, option, value);
	}
	return parse_param_option(parse, name, length, value);
}

static int parse_all(struct parse *parse)
{
	bool options_ended = false;

	while (parse->next < parse->argc) {
		const char *word = parse->argv[parse->next++];
		int r = 0;

		if (!options_ended && strcmp(word, "--") == 0)
			options_ended = true;
		else if (!options_ended && word[0] == '-' && word[1] == '-')
			r = parse_long(parse, word + 2);
		else if (!options_ended && word[0] == '-' && word[1])
			r = parse_letters(parse, word + 1);
		else if (parse->word_count < WORDS_MAX)
			parse->words[parse->word_count++] = word;
		else
			r = fail(parse, word, "too many arguments");
		if (r < 0)
			return r;
	}
	return 0;
}

/* The first line of a file, so that no secret stands in the list of processes. */
static int read_secret(struct parse *parse, const char *path, char *ret_text, size_t size)
{
	bool is_stdin = strcmp(path, "-") == 0;
	FILE *file = is_stdin ? stdin : fopen(path, "re");
	bool good;

	if (!file)
		return fail(parse, path, "cannot read '%s': %s", path, strerror(errno));
	good = fgets(ret_text, (int)size, file) != NULL;
	if (!is_stdin)
		fclose(file);
	if (!good)
		return fail(parse, path, "'%s' has no line", path);
	ret_text[strcspn(ret_text, "\r\n")] = '\0';
	return 0;
}

/* Another word of a parameter that takes several. */
static int add_to(struct parse *parse, const struct method_param *param, json_t *before,
		  const json_t *value)
{
	const char *key;
	json_t *one;

	if (param->type == PARAM_PROPERTIES)
		return json_array_extend(before, (json_t *)value) < 0 ? -ENOMEM : 0;
	json_object_foreach((json_t *)value, key, one)
	{
		if (json_object_get(before, key))
			return fail(parse, key, "property '%s' is given twice", key);
	}
	return json_object_update(before, (json_t *)value) < 0 ? -ENOMEM : 0;
}

static int set_param(struct parse *parse, const struct method_param *param, const char *text)
{
	char secret[SECRET_LINE_MAX] = "";
	json_t *before = json_object_get(parse->args->params, param->name), *value;
	int r = 0;

	if (before && !param_is_many(param))
		return fail(parse, param->name, "'%s' is given twice", param->name);
	if (param->type == PARAM_SECRET)
		r = read_secret(parse, text, secret, sizeof(secret));
	if (r == 0)
		r = params_from_text(param, param->type == PARAM_SECRET ? secret : text, &value,
				     parse->error);
	explicit_bzero(secret, sizeof(secret));
	if (r < 0)
		return r;
	if (before) {
		r = add_to(parse, param, before, value);
		json_decref(value);
		return r;
	}
	return json_object_set_new(parse->args->params, param->name, value) < 0 ? -ENOMEM : 0;
}

static int set_positional(struct parse *parse, const struct method *method)
{
	const struct method_param *param = method->params;
	size_t first = 0;

	(void)method_by_words(parse, &first); /* is `method` */
	for (size_t i = first; i < parse->word_count; i++) {
		int r;

		while (param->name && (!(param->flags & PARAM_POSITIONAL) ||
				       (json_object_get(parse->args->params, param->name) &&
					!param_is_many(param))))
			param++;
		if (!param->name)
			return fail(parse, parse->words[i], "%s %s: unexpected argument '%s'",
				    method->noun, method->verb, parse->words[i]);
		r = set_param(parse, param, parse->words[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int set_params(struct parse *parse, const struct method *method)
{
	_cleanup_json_ json_t *checked = NULL;
	int r;

	parse->args->params = json_object();
	for (size_t i = 0; i < parse->named_count; i++) {
		r = set_param(parse, method_param_find(method, parse->named[i][0]),
			      parse->named[i][1]);
		if (r < 0)
			return r;
	}
	r = set_positional(parse, method);
	/* Only to find what is missing now and not at the daemon. */
	return r < 0 ? r : params_check(method, parse->args->params, &checked, parse->error);
}

/* What is left after options: [help] [NOUN [VERB [ARGUMENT...]]] */
static int parse_words(struct parse *parse)
{
	struct cli_args *args = parse->args;

	if (parse->word_count > 0 && strcmp(parse->words[0], "help") == 0) {
		parse->help = true;
		memmove(parse->words, parse->words + 1,
			--parse->word_count * sizeof(parse->words[0]));
	}
	if (parse->word_count > 0 && !method_noun_summary(parse->words[0]))
		return fail(parse, parse->words[0], "unknown noun '%s'", parse->words[0]);
	args->method = method_so_far(parse);
	if (parse->word_count > 1 && !args->method)
		return fail(parse, parse->words[1], "%s has no verb '%s'", parse->words[0],
			    parse->words[1]);
	if (parse->help) {
		args->action = CLI_HELP;
		args->noun = parse->word_count ? parse->words[0] : NULL;
		return 0;
	}
	if (parse->word_count == 0)
		return fail(parse, NULL, "nothing to do: name a noun and a verb");
	if (!args->method)
		return fail(parse, parse->words[0], "%s: name a verb", parse->words[0]);
	return set_params(parse, args->method);
}

/* The format must be known even when the parsing stops before its option. */
static bool wants_json(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *value = NULL;

		if (strcmp(argv[i], "--") == 0)
			return false;
		if (strcmp(argv[i], "-o") == 0 || strcmp(argv[i], "--output") == 0)
			value = argv[i + 1];
		else if (strncmp(argv[i], "-o", 2) == 0)
			value = argv[i] + 2;
		else if (strncmp(argv[i], "--output=", 9) == 0)
			value = argv[i] + 9;
		if (value && strcmp(value, "json") == 0)
			return true;
	}
	return false;
}

int cli_args_parse(int argc, char **argv, struct cli_args *ret_args, struct error *ret_error)
{
	struct parse parse = {
		.args = ret_args, .error = ret_error, .argc = argc, .argv = argv, .next = 1};
	int r;

	*ret_args = (struct cli_args){.action = CLI_CALL, .json = wants_json(argc, argv)};
	r = parse_all(&parse);
	if (r == 0 && ret_args->action != CLI_VERSION)
		r = parse_words(&parse);
	if (r < 0 && ret_error->code == ERROR_NONE)
		error_set(ret_error, ERROR_INTERNAL, NULL, "try again", "out of memory");
	return r;
}

void cli_args_done(struct cli_args *args)
{
	json_decref(TAKE_PTR(args->params));
}

bool cli_args_destroys(const struct cli_args *args)
{
	const struct method *method = args->method;

	return method->destructive ||
	       (method->destructive_if && params_bool(args->params, method->destructive_if));
}
