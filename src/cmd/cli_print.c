/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cli_print.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "control/size.h"

#define COLUMNS_MAX 32

/* "space.used_bytes" in nested objects; NULL when a part is absent. */
static const json_t *find(const json_t *object, const char *path)
{
	char part[64];
	size_t length;

	for (; object; path += length + 1) {
		length = strcspn(path, ".");
		ASSERT(length < sizeof(part));
		memcpy(part, path, length);
		part[length] = '\0';
		object = json_object_get(object, part);
		if (!path[length])
			return object;
	}
	return NULL;
}

static void format_duration(uint64_t ns, char *ret_text, size_t size)
{
	double value = (double)ns;
	uint64_t seconds = ns / NSEC_PER_SEC;

	if (ns < NSEC_PER_USEC)
		snprintf(ret_text, size, "%" PRIu64 "ns", ns);
	else if (ns < NSEC_PER_MSEC)
		snprintf(ret_text, size, "%.3gus", value / 1e3);
	else if (ns < NSEC_PER_SEC)
		snprintf(ret_text, size, "%.3gms", value / 1e6);
	else if (seconds < 60)
		snprintf(ret_text, size, "%.3gs", value / 1e9);
	else if (seconds < 3600)
		snprintf(ret_text, size, "%" PRIu64 "m%02" PRIu64 "s", seconds / 60, seconds % 60);
	else if (seconds < 86400)
		snprintf(ret_text, size, "%" PRIu64 "h%02" PRIu64 "m", seconds / 3600,
			 seconds / 60 % 60);
	else
		snprintf(ret_text, size, "%" PRIu64 "d%02" PRIu64 "h", seconds / 86400,
			 seconds / 3600 % 24);
}

static void format_number(uint64_t number, enum column_type type, char *ret_text, size_t size)
{
	char text[SIZE_TEXT_MAX];

	if (type == COLUMN_SIZE)
		snprintf(ret_text, size, "%s", size_format(number, text));
	else if (type == COLUMN_RATE)
		snprintf(ret_text, size, "%s/s", size_format(number, text));
	else if (type == COLUMN_DURATION)
		format_duration(number, ret_text, size);
	else
		snprintf(ret_text, size, "%" PRIu64, number);
}

void cli_print_cell(const json_t *value, enum column_type type, bool exact,
		    char ret_text[static CLI_CELL_MAX])
{
	if (json_is_string(value) && json_string_length(value) > 0) {
		snprintf(ret_text, CLI_CELL_MAX, "%s", json_string_value(value));
		/* Some texts come from a network; none may steer the terminal. */
		for (char *c = ret_text; *c; c++)
			if ((unsigned char)*c < ' ' || *c == 127)
				*c = '?';
	} else if (json_is_boolean(value)) {
		snprintf(ret_text, CLI_CELL_MAX, "%s", json_is_true(value) ? "yes" : "no");
	} else if (json_is_real(value)) {
		snprintf(ret_text, CLI_CELL_MAX, exact ? "%.17g" : "%.2f", json_real_value(value));
	} else if (json_is_integer(value) && (exact || json_integer_value(value) < 0)) {
		snprintf(ret_text, CLI_CELL_MAX, "%" JSON_INTEGER_FORMAT,
			 json_integer_value(value));
	} else if (json_is_integer(value)) {
		format_number((uint64_t)json_integer_value(value), type, ret_text, CLI_CELL_MAX);
	} else {
		snprintf(ret_text, CLI_CELL_MAX, "-");
	}
}

struct grid {
	size_t row_count, column_count;
	char (*cells)[CLI_CELL_MAX]; /* row by row */
	const struct method_column *columns;
};

static int grid_fill(struct grid *grid, const struct method_column *columns, const json_t *result,
		     bool exact)
{
	size_t rows = json_is_array(result) ? json_array_size(result) : 1;

	*grid = (struct grid){.row_count = rows, .columns = columns};
	while (columns[grid->column_count].key)
		grid->column_count++;
	ASSERT(grid->column_count <= COLUMNS_MAX);
	grid->cells = calloc(rows * grid->column_count + 1, CLI_CELL_MAX);
	if (!grid->cells)
		return -ENOMEM;
	for (size_t row = 0; row < rows; row++)
		for (size_t i = 0; i < grid->column_count; i++)
			cli_print_cell(
				find(json_is_array(result) ? json_array_get(result, row) : result,
				     columns[i].key),
				columns[i].type, exact, grid->cells[row * grid->column_count + i]);
	return 0;
}

static void print_padded(FILE *stream, const char *text, int width, bool right, bool last)
{
	if (right)
		fprintf(stream, "%*s", width, text);
	else
		fprintf(stream, "%-*s", last ? 0 : width, text);
	fputs(last ? "\n" : "  ", stream);
}

static void print_rows(FILE *stream, const struct grid *grid, bool no_header)
{
	size_t count = grid->column_count;
	int widths[COLUMNS_MAX];

	for (size_t i = 0; i < count; i++) {
		widths[i] = (int)strlen(grid->columns[i].title);
		for (size_t row = 0; row < grid->row_count; row++)
			widths[i] = MAX(widths[i], (int)strlen(grid->cells[row * count + i]));
	}
	for (size_t i = 0; i < count && !no_header; i++)
		print_padded(stream, grid->columns[i].title, widths[i],
			     grid->columns[i].type != COLUMN_TEXT, i + 1 == count);
	for (size_t at = 0; at < grid->row_count * count; at++) {
		size_t i = at % count;

		if (no_header)
			fprintf(stream, "%s%c", grid->cells[at], i + 1 == count ? '\n' : '\t');
		else
			print_padded(stream, grid->cells[at], widths[i],
				     grid->columns[i].type != COLUMN_TEXT, i + 1 == count);
	}
}

/* "devices" of "devices[].model"; 0 = it is of no array. */
static size_t array_length(const char *key)
{
	const char *end = strstr(key, "[].");

	return end ? (size_t)(end - key) : 0;
}

struct fields {
	FILE *stream;
	int width;
	const struct cli_print_options *options;
};

static void print_field(const struct fields *fields, const struct method_column *column,
			const json_t *value)
{
	char cell[CLI_CELL_MAX];

	cli_print_cell(value, column->type, fields->options->exact, cell);
	if (fields->options->no_header)
		fprintf(fields->stream, "%s\t%s\n", column->title + strspn(column->title, " "),
			cell);
	else
		fprintf(fields->stream, "%-*s  %s\n", fields->width, column->title, cell);
}

/* Prints all columns of one array; returns how many they are. What an element does not have is
 * left out. */
static size_t print_elements(const struct fields *fields, const struct method_column *columns,
			     const json_t *result)
{
	size_t length = array_length(columns[0].key), count = 0, i;
	char name[64];
	const json_t *element, *value;

	ASSERT(length < sizeof(name));
	snprintf(name, sizeof(name), "%.*s", (int)length, columns[0].key);
	while (columns[count].key && array_length(columns[count].key) == length &&
	       strncmp(columns[count].key, name, length) == 0)
		count++;
	json_array_foreach(json_object_get(result, name), i, element)
	{
		for (size_t at = 0; at < count; at++)
			if ((value = find(element, columns[at].key + length + 3)))
				print_field(fields, &columns[at], value);
	}
	return count;
}

static void print_fields(FILE *stream, const struct method_column *columns, const json_t *result,
			 const struct cli_print_options *options)
{
	struct fields fields = {.stream = stream, .options = options};

	for (size_t i = 0; columns[i].key; i++)
		fields.width = MAX(fields.width, (int)strlen(columns[i].title));
	while (columns->key) {
		if (array_length(columns->key)) {
			columns += print_elements(&fields, columns, result);
		} else {
			print_field(&fields, columns, find(result, columns->key));
			columns++;
		}
	}
}

int cli_print(FILE *stream, const struct method *method, const json_t *result,
	      const struct cli_print_options *options)
{
	struct grid grid;
	int r;

	if (method->print == METHOD_PRINT_NONE)
		return 0;
	if (method->print == METHOD_PRINT_TEXT) {
		const char *text = json_string_value(find(result, method->columns[0].key));

		fputs(text ? text : "", stream);
		return 0;
	}
	if (method->print == METHOD_PRINT_FIELDS) {
		print_fields(stream, method->columns,
			     json_is_array(result) ? json_array_get(result, 0) : result, options);
		return 0;
	}
	r = grid_fill(&grid, method->columns, result, options->exact);
	if (r < 0)
		return r;
	if (method->print == METHOD_PRINT_ROWS)
		print_rows(stream, &grid, options->no_header);
	else
		fprintf(stream, "%s\n", grid.cells[0]);
	free(grid.cells);
	return 0;
}
