/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over files, and over all files of directories, in order of their names. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static unsigned count;

static int replay_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = malloc(1 << 20);
	size_t size;

	if (!file || !data) {
		fprintf(stderr, "replay: cannot read %s\n", path);
		if (file)
			fclose(file);
		free(data);
		return 1;
	}
	size = fread(data, 1, 1 << 20, file);
	fclose(file);
	/* Exactly as long as the input, so that the sanitizer sees what is read beyond. */
	data = realloc(data, size ? size : 1);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	count++;
	return 0;
}

static int replay(const char *path)
{
	struct dirent **entries;
	int entry_count = scandir(path, &entries, NULL, alphasort), failed = 0;

	if (entry_count < 0)
		return replay_file(path);
	for (int i = 0; i < entry_count; i++) {
		char *name = NULL;

		if (entries[i]->d_name[0] != '.' &&
		    asprintf(&name, "%s/%s", path, entries[i]->d_name) >= 0)
			failed |= replay_file(name);
		free(name);
		free(entries[i]);
	}
	free(entries);
	return failed;
}

int main(int argc, char **argv)
{
	int failed = argc < 2;

	for (int i = 1; i < argc; i++)
		failed |= replay(argv[i]);
	printf("%u inputs\n", count);
	return failed || count == 0;
}
