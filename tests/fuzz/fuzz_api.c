/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: calls of the API on a node in the simulated world. Each line of the input is one:
 * METHOD, a space, parameters as JSON; or "!crash" or "!restart". The node must answer each with a
 * result or an error of the table, and must start again with what it has then.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "fuzz.h"
#include "node_rig.h"

#define CALLS_MAX 64

static void start(struct node_rig *rig)
{
	int r = node_rig_start(rig);

	ASSERT(r == 0);
}

static void call(struct node_rig *rig, const char *line)
{
	char method[METHOD_NAME_MAX + 16];
	size_t length = strcspn(line, " ");
	json_t *answer;

	if (strcmp(line, "!crash") == 0) {
		node_rig_crash(rig, SIM_CRASH_POWER);
		start(rig);
		return;
	}
	if (strcmp(line, "!restart") == 0) {
		node_rig_stop(rig);
		start(rig);
		return;
	}
	snprintf(method, sizeof(method), "%.*s", (int)MIN(length, sizeof(method)), line);
	answer = node_rig_call(rig, method, line[length] ? line + length + 1 : "{}");
	ASSERT(json_is_integer(json_object_get(answer, "schema")));
	ASSERT((rig->code == ERROR_NONE) == (json_object_get(answer, "result") != NULL));
	ASSERT((rig->code != ERROR_NONE) == json_is_object(json_object_get(answer, "error")));
	json_decref(answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size), *rest = text, *line;
	struct node_rig rig;

	ASSERT(text);
	log_set_level(LOG_LEVEL_ERROR + 1);
	node_rig_init(&rig, 1, 2);
	start(&rig);
	for (unsigned calls = 0; calls < CALLS_MAX && (line = strsep(&rest, "\n")); calls++)
		if (*line)
			call(&rig, line);
	node_rig_done(&rig);
	free(text);
	return 0;
}
