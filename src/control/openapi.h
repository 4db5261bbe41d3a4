/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The OpenAPI 3.0 document of the API, made from the table of methods. */
#include <jansson.h>

/* NULL without memory. */
json_t *openapi_document(const char *version);
