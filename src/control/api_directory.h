/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include "control/api_priv.h"

/* Of a directory that is to be a disk. Each is 0, or what api_fail() returned; from fibers. */
/* An absolute path, and not on a file system that keeps nothing. */
int api_directory_check(struct api_request *request, const char *directory);
/* The call's capacity, where it was given. */
int api_directory_check_capacity(struct api_request *request, const char *object);
/* The pool has refused it with -ENOTEMPTY: says why. Under the node's lock. Negative. */
int api_directory_refuse(struct api_request *request, const char *directory);
