/* SPDX-License-Identifier: Apache-2.0 */
#include "page.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *page_read(const char *directory, const char *name)
{
	char path[4096], *text = NULL;
	size_t size = 0;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "r");
	if (!file)
		return NULL;
	if (getdelim(&text, &size, '\0', file) < 0) {
		free(text);
		text = NULL;
	}
	fclose(file);
	return text;
}

void page_strip_roff(char *text)
{
	char *to = text;

	for (const char *from = text; *from; from++) {
		if (from[0] == '\\' && from[1] == 'f' && from[2])
			from += 2;
		else if (from[0] == '\\' && from[1])
			*to++ = *++from;
		else
			*to++ = *from;
	}
	*to = '\0';
}

void page_join_literals(char *text)
{
	char *to = text;

	for (const char *from = text; *from; from++) {
		size_t space = 1 + strspn(from + 1, " \t\n");

		if (*from == '"' && space > 1 && from[space] == '"')
			from += space;
		else
			*to++ = *from;
	}
	*to = '\0';
}

char *page_section(const char *text, const char *title)
{
	char head[100];
	const char *start, *end;

	snprintf(head, sizeof(head), "\n.SH %s\n", title);
	start = strstr(text, head);
	if (!start)
		return NULL;
	start += strlen(head);
	end = strstr(start, "\n.SH ");
	return end ? strndup(start, (size_t)(end - start + 1)) : strdup(start);
}

static bool is_of_option(char c)
{
	return islower((unsigned char)c) || isdigit((unsigned char)c) || c == '-';
}

size_t page_next_option(const char **at)
{
	const char *start = *at;
	size_t length = 0;

	while ((start = strstr(start, "--"))) {
		start += 2;
		if (islower((unsigned char)*start))
			break;
	}
	if (!start)
		return 0;
	while (is_of_option(start[length]))
		length++;
	*at = start;
	return length;
}

bool page_has_option(const char *text, const char *word, size_t length)
{
	size_t found;

	while ((found = page_next_option(&text))) {
		if (found == length && strncmp(text, word, length) == 0)
			return true;
		text += found;
	}
	return false;
}
