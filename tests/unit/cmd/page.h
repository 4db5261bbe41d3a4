/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Pages for people, as text that a test can look through. */
#include <stdbool.h>
#include <stddef.h>

/* The whole file; the caller frees it. NULL when it cannot be read. */
char *page_read(const char *directory, const char *name);
/* In place: roff without its fonts and escapes, so that \fB\-\-wait\fR reads --wait. */
void page_strip_roff(char *text);
/* In place: literals of C that follow each other become one. */
void page_join_literals(char *text);
/* From the line ".SH TITLE" to the next one; the caller frees it. NULL: there is none. */
char *page_section(const char *text, const char *title);
/* The next --word from `at` on, without its dashes: its length, 0 at the end. */
size_t page_next_option(const char **at);
/* Does it name the option --word, and no longer one? */
bool page_has_option(const char *text, const char *word, size_t length);
