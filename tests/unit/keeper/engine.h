/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The engine's end of a keeper's link, played by a test. */
#include "stage.h"
#include "vfu/link.h"
#include "vfu/receive.h"
#include "vfu/shared.h"

struct engine {
	int fd;
	int fence[2]; /* the write end stands for I/O in flight */
	struct vfu_receiver receiver;
	struct vfu_link_message message;
	struct vfu_shared *shared;
	struct vfu_doorbells *doorbells;
	int wake_fd;
};

void engine_fence(struct engine *engine);
void engine_hello(struct engine *engine, const struct stage *stage, uint32_t version, int fd);
/* The same with enum vfu_hello_flags. */
void engine_hello_flags(struct engine *engine, const struct stage *stage, uint32_t flags);
void engine_say(struct engine *engine, uint32_t type, uint32_t id, uint64_t value);
/* 1: there is a message; 0: none within that time; -EPIPE: the link has ended. */
int engine_receive(struct engine *engine, int timeout_ms);
void engine_expect(struct engine *engine, uint32_t type);
void engine_welcomed(struct engine *engine);
/* Up to READY; ranges that there are, are counted. */
unsigned engine_open(struct engine *engine, const struct stage *stage);
void engine_close(struct engine *engine);
void engine_wait_for_link_end(struct engine *engine);
