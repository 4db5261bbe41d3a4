/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The node's numbers in Prometheus' text format (version 0.0.4). */
#include <stddef.h>

struct node;

/* From a fiber of the node's home. The caller frees the text. -ENOMEM */
int metrics_text(struct node *node, char **ret_text, size_t *ret_length);
