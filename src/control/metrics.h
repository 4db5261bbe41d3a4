/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The node's numbers in Prometheus' text format (version 0.0.4). They are gathered on the reactors
 * and printed elsewhere: the text of a thousand vDisks has megabytes.
 */
#include <stddef.h>

#include "base/macros.h"

struct metrics;
struct node;

/* Of a node with nothing in it: each name, type and meaning is printed all the same. NULL without
 * memory. */
struct metrics *metrics_new(void);
/* From a fiber of the node's home. -ENOMEM */
int metrics_gather(struct node *node, struct metrics **ret_metrics);
/* On any thread. The caller frees the text. -ENOMEM */
int metrics_print(const struct metrics *metrics, char **ret_text, size_t *ret_length);
void metrics_free(struct metrics *metrics); /* NULL is fine */

DEFINE_CLEANUP(struct metrics *, metrics_free)
