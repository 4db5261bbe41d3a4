/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Takes names out of what is given to others. First all of it is learned: values that are names,
 * found by their keys in JSON and in the log's pairs. Then each text is rewritten: a name becomes
 * "redacted-N", the same N everywhere, so that what belongs together still does; addresses become
 * "ip". Secrets are taken out in any case: cli_redact_secrets().
 */
#include <jansson.h>

struct cli_redact;

struct cli_redact *cli_redact_new(void); /* NULL without memory */
void cli_redact_free(struct cli_redact *redact);
void cli_redact_learn(struct cli_redact *redact, const char *name);
void cli_redact_learn_json(struct cli_redact *redact, const json_t *json);
void cli_redact_learn_log(struct cli_redact *redact, const char *text);
/* New text, or NULL without memory (then also of an earlier call). The caller frees. */
char *cli_redact_text(struct cli_redact *redact, const char *text);

/* Values of keys such as "secret" or "password": "***". */
void cli_redact_secrets(json_t *json);
/* The same in lines "key = value", in place: the value's characters become '*'. */
void cli_redact_secret_lines(char *text);
