/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A keeper's process and a client of our own, for cmocka tests. One at a time.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "base/macros.h"
#include "vfu_client.h"

#define STAGE_ADDRESS (16 * MIB)
#define STAGE_MS      10000
#define STAGE_VECTORS 21 /* of its keeper's 20 queue pairs */

struct stage {
	pid_t keeper;
	char link[64], socket[64];
	struct vfu_client client;
	int memory_fd;
};

/* Once, before and after all tests; `program` is sarsen-keeper. */
int stage_begin(const char *program);
void stage_end(void);
/* Of each test: the keeper serves, and the client is connected. */
int stage_setup(void **state);
int stage_teardown(void **state);
/* Another keeper, in place of one that has ended. */
void stage_start(struct stage *stage);
/* The status of the keeper's exit, which is about to come. */
int stage_keeper_ended(const struct stage *stage);
void stage_map(struct stage *stage);
int stage_unmap(struct stage *stage);
void stage_assert_alive(struct stage *stage);
/* The device has so many vectors, and no more. */
void stage_assert_vectors(struct stage *stage, unsigned vectors);
void stage_write_register(struct stage *stage, uint32_t at, uint32_t value);

static inline uint64_t stage_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NSEC_PER_MSEC;
}

static inline void stage_pause_ms(unsigned ms)
{
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}
