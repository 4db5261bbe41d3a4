/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load with a memory, over iSCSI: writes, unmaps, zeroes, flushes and reads of one disk, several in
 * flight; knows what each sector must hold, also after the server was killed in the middle of it.
 *
 *     iscsi_load MIB [SEED]
 *
 * Obeys lines on standard input, and answers each with one line:
 *     fill URL    writes all of the disk, in order
 *     load URL    random requests until the connection is lost or the next line comes
 *     check URL   reads all of the disk, and settles what was unsure
 *     look URL    the same, but settles nothing
 * The answer is "done ..." or, when the server went away meanwhile, "lost ...". What is read but
 * was not written ends the program with status 1 and a message, and so does every failed request,
 * except a change that is refused because of space, a read-only disk, or a write error. The answer
 * has the totals of each.
 *
 * 1. Each sector is stamped with the number of its write and its place; number 0 stands for zeros.
 * 2. At most one request that changes a block is in flight, and none that reads it beside that.
 * 3. A block whose request was lost or refused is UNSURE: it holds all of the old or all of the
 * new. A check settles which; from then on it must stay. A block that is unsure is not changed.
 */
#include <errno.h>
#include <inttypes.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

#define SECTOR_BYTES         512
#define BLOCK_SECTORS        8
#define REQUEST_SECTORS      256
#define REQUESTS             16
#define TIMEOUT_S            120    /* an answer that takes longer is a fault */
#define ASCQ_WRITE_PROTECTED 0x2700 /* SPC-4 Annex D */
#define ASCQ_SPACE_FAILED    0x2707
#define ASCQ_WRITE_ERROR     0x0c00
#define INITIATOR            "iqn.2026-01.org.sarsen:crash"

enum kind { KIND_READ, KIND_WRITE, KIND_ZERO, KIND_UNMAP, KIND_FLUSH };

enum { BLOCK_BUSY = 1, BLOCK_UNSURE = 2 }; /* bits */

struct request {
	struct load *load;
	enum kind kind;
	uint64_t lba;
	uint32_t number; /* what a write writes */
	uint32_t sectors;
	bool in_flight;
	bool marks; /* its blocks are busy */
	uint8_t data[REQUEST_SECTORS * SECTOR_BYTES];
};

struct load {
	struct iscsi_context *iscsi;
	int lun;
	uint64_t sectors;
	uint32_t *now;   /* a number for each sector */
	uint32_t *maybe; /* what it is if the request in flight, or lost, took effect */
	uint8_t *blocks; /* BLOCK_... */
	uint64_t random;
	uint64_t cursor; /* of fill and check */
	uint64_t answered, flushes, settled_new, settled_old;
	uint64_t refused_space, refused_read_only, refused_error;
	uint32_t number;
	unsigned in_flight;
	bool settles, lost, failed;
	struct request requests[REQUESTS];
};

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static uint64_t draw(struct load *load, uint64_t below)
{
	load->random += UINT64_C(0x9e3779b97f4a7c15);
	return mix(load->random) % below;
}

static void sector_fill(uint8_t *data, uint32_t number, uint64_t lba)
{
	uint64_t words[SECTOR_BYTES / 8] = {number, lba};

	for (unsigned i = 2; number && i < SECTOR_BYTES / 8; i++)
		words[i] = mix(((uint64_t)number << 32) + lba * 64 + i);
	if (!number)
		words[1] = 0;
	memcpy(data, words, sizeof(words));
}

/* Whether the block, read to `data`, is what `numbers` says. */
static bool block_matches(const uint8_t *data, const uint32_t *numbers, uint64_t lba)
{
	uint8_t expected[SECTOR_BYTES];

	for (unsigned i = 0; i < BLOCK_SECTORS; i++) {
		sector_fill(expected, numbers[lba + i], lba + i);
		if (memcmp(data + (size_t)i * SECTOR_BYTES, expected, SECTOR_BYTES) != 0)
			return false;
	}
	return true;
}

static void report_block(struct load *load, const uint8_t *data, uint64_t lba, uint8_t state)
{
	for (unsigned i = 0; i < BLOCK_SECTORS; i++) {
		uint64_t words[2];

		memcpy(words, data + (size_t)i * SECTOR_BYTES, sizeof(words));
		fprintf(stderr,
			"iscsi_load: sector %" PRIu64 ": holds write %" PRIu64 " of sector %" PRIu64
			", expected write %" PRIu32 "%s%" PRIu32 "\n",
			lba + i, words[0], words[1], load->now[lba + i],
			state & BLOCK_UNSURE ? " or " : ", not ", load->maybe[lba + i]);
	}
	load->failed = true;
}

static void check_block(struct load *load, const uint8_t *data, uint64_t lba)
{
	uint8_t *state = &load->blocks[lba / BLOCK_SECTORS];
	bool is_old = block_matches(data, load->now, lba);
	bool is_new = !is_old && *state & BLOCK_UNSURE && block_matches(data, load->maybe, lba);

	if (!is_old && !is_new) {
		report_block(load, data, lba, *state);
	} else if (*state & BLOCK_UNSURE && load->settles) {
		load->settled_old += is_old;
		load->settled_new += is_new;
		if (is_new)
			memcpy(&load->now[lba], &load->maybe[lba],
			       BLOCK_SECTORS * sizeof(*load->now));
		*state = 0;
	}
}

static uint64_t first_block(const struct request *request)
{
	return request->lba / BLOCK_SECTORS;
}

static uint64_t end_block(const struct request *request)
{
	return (request->lba + request->sectors + BLOCK_SECTORS - 1) / BLOCK_SECTORS;
}

static bool is_change(const struct request *request)
{
	return request->kind != KIND_READ && request->kind != KIND_FLUSH;
}

static void mark(struct load *load, struct request *request)
{
	uint64_t first = first_block(request), count = end_block(request) - first;

	request->marks = true;
	for (uint64_t i = 0; i < count; i++)
		load->blocks[first + i] |= BLOCK_BUSY;
	if (!is_change(request))
		return;
	memcpy(&load->maybe[first * BLOCK_SECTORS], &load->now[first * BLOCK_SECTORS],
	       count * BLOCK_SECTORS * sizeof(*load->now));
	for (uint32_t i = 0; i < request->sectors; i++)
		load->maybe[request->lba + i] = request->kind == KIND_WRITE ? request->number : 0;
}

static void unmark(struct load *load, struct request *request, bool answered)
{
	uint64_t first = first_block(request), count = end_block(request) - first;
	bool unsure = is_change(request) && !answered;

	if (!request->marks)
		return;
	for (uint64_t i = 0; i < count; i++) {
		load->blocks[first + i] &= (uint8_t)~BLOCK_BUSY;
		load->blocks[first + i] |= unsure ? BLOCK_UNSURE : 0;
	}
	if (is_change(request) && answered)
		memcpy(&load->now[first * BLOCK_SECTORS], &load->maybe[first * BLOCK_SECTORS],
		       count * BLOCK_SECTORS * sizeof(*load->now));
}

static void check_read(struct load *load, struct request *request, const struct scsi_task *task)
{
	if (task->datain.size != (int)(request->sectors * SECTOR_BYTES)) {
		fprintf(stderr, "iscsi_load: a read of %" PRIu32 " sectors gave %d bytes\n",
			request->sectors, task->datain.size);
		load->failed = true;
		return;
	}
	for (uint32_t i = 0; i < request->sectors && !load->failed; i += BLOCK_SECTORS)
		check_block(load, task->datain.data + (size_t)i * SECTOR_BYTES, request->lba + i);
}

/* Whether the task is a change that was refused as it may be. */
static bool is_refusal(struct load *load, const struct request *request,
		       const struct scsi_task *task)
{
	if (request->kind == KIND_READ || task->status != SCSI_STATUS_CHECK_CONDITION)
		return false;
	load->refused_space += task->sense.ascq == ASCQ_SPACE_FAILED;
	load->refused_read_only += task->sense.ascq == ASCQ_WRITE_PROTECTED;
	load->refused_error += task->sense.ascq == ASCQ_WRITE_ERROR;
	return task->sense.ascq == ASCQ_SPACE_FAILED || task->sense.ascq == ASCQ_WRITE_PROTECTED ||
	       task->sense.ascq == ASCQ_WRITE_ERROR;
}

static struct scsi_task *send_one(struct load *load, struct request *request);

/* The unit had something to tell, and did nothing: as every initiator does, once more. */
static bool again(struct load *load, struct request *request, int status,
		  const struct scsi_task *task)
{
	return status == SCSI_STATUS_CHECK_CONDITION &&
	       task->sense.key == SCSI_SENSE_UNIT_ATTENTION && send_one(load, request);
}

static void on_answer(struct iscsi_context *iscsi, int status, void *command_data, void *private)
{
	struct request *request = private;
	struct load *load = request->load;
	struct scsi_task *task = command_data;

	if (again(load, request, status, task)) {
		scsi_free_scsi_task(task);
		return;
	}
	request->in_flight = false;
	load->in_flight--;
	unmark(load, request, status == SCSI_STATUS_GOOD);
	if (status == SCSI_STATUS_GOOD) {
		load->answered++;
		load->flushes += request->kind == KIND_FLUSH;
		if (request->kind == KIND_READ)
			check_read(load, request, task);
	} else if (status == SCSI_STATUS_CANCELLED || status == SCSI_STATUS_ERROR) {
		load->lost = true;
	} else if (!is_refusal(load, request, task)) {
		fprintf(stderr,
			"iscsi_load: request of kind %d at sector %" PRIu64 ": status %d: %s\n",
			(int)request->kind, request->lba, status, iscsi_get_error(iscsi));
		load->failed = true;
	}
	scsi_free_scsi_task(task);
}

static struct scsi_task *send_write(struct load *load, struct request *request)
{
	for (uint32_t i = 0; i < request->sectors; i++)
		sector_fill(request->data + (size_t)i * SECTOR_BYTES, request->number,
			    request->lba + i);
	return iscsi_write16_task(load->iscsi, load->lun, request->lba, request->data,
				  request->sectors * SECTOR_BYTES, SECTOR_BYTES, 0, 0,
				  draw(load, 16) == 0 /* FUA */, 0, 0, on_answer, request);
}

static struct scsi_task *send_one(struct load *load, struct request *request)
{
	struct unmap_list range = {.lba = request->lba, .num = request->sectors};

	switch (request->kind) {
	case KIND_READ:
		return iscsi_read16_task(load->iscsi, load->lun, request->lba,
					 request->sectors * SECTOR_BYTES, SECTOR_BYTES, 0, 0, 0, 0,
					 0, on_answer, request);
	case KIND_WRITE:
		return send_write(load, request);
	case KIND_ZERO:
		memset(request->data, 0, SECTOR_BYTES);
		return iscsi_writesame16_task(load->iscsi, load->lun, request->lba, request->data,
					      SECTOR_BYTES, request->sectors, 0, (int)draw(load, 2),
					      0, 0, on_answer, request);
	case KIND_UNMAP:
		return iscsi_unmap_task(load->iscsi, load->lun, 0, 0, &range, 1, on_answer,
					request);
	case KIND_FLUSH:
		return iscsi_synchronizecache16_task(load->iscsi, load->lun, 0, 0, 0, 0, on_answer,
						     request);
	}
	return NULL;
}

static void submit(struct load *load, struct request *request, bool marks)
{
	request->load = load;
	request->marks = false;
	request->number = ++load->number;
	if (marks)
		mark(load, request);
	request->in_flight = true;
	load->in_flight++;
	if (!send_one(load, request)) {
		request->in_flight = false;
		load->in_flight--;
		unmark(load, request, false);
		load->lost = true;
	}
}

static bool range_is_free(const struct load *load, const struct request *request)
{
	uint8_t unwanted = is_change(request) ? BLOCK_BUSY | BLOCK_UNSURE : BLOCK_BUSY;

	for (uint64_t block = first_block(request); block < end_block(request); block++) {
		if (load->blocks[block] & unwanted)
			return false;
	}
	return true;
}

static enum kind draw_kind(struct load *load)
{
	uint64_t chance = draw(load, 100);

	return chance < 65   ? KIND_WRITE
	       : chance < 80 ? KIND_READ
	       : chance < 87 ? KIND_UNMAP
	       : chance < 94 ? KIND_ZERO
			     : KIND_FLUSH;
}

/* Half of the writes are of sectors, the rest of whole blocks; most are small. */
static void draw_range(struct load *load, struct request *request)
{
	uint64_t unit = request->kind == KIND_WRITE && draw(load, 2) ? 1 : BLOCK_SECTORS;
	uint64_t most = draw(load, 4) ? BLOCK_SECTORS * 2 : REQUEST_SECTORS;

	request->sectors = (uint32_t)((1 + draw(load, most / unit)) * unit);
	request->lba = draw(load, (load->sectors - request->sectors) / unit + 1) * unit;
}

static void submit_random(struct load *load, struct request *request)
{
	request->kind = draw_kind(load);
	if (request->kind == KIND_FLUSH) {
		request->lba = request->sectors = 0;
		submit(load, request, false);
		return;
	}
	for (unsigned tries = 0; tries < 100; tries++) {
		draw_range(load, request);
		if (range_is_free(load, request)) {
			submit(load, request, true);
			return;
		}
	}
}

static void submit_next(struct load *load, struct request *request, enum kind kind)
{
	request->kind = kind;
	request->lba = load->cursor;
	request->sectors = (uint32_t)MIN(load->sectors - load->cursor, (uint64_t)REQUEST_SECTORS);
	load->cursor += request->sectors;
	submit(load, request, kind != KIND_READ);
}

static void submit_all(struct load *load, char command)
{
	for (unsigned i = 0; i < REQUESTS && !load->lost; i++) {
		struct request *request = &load->requests[i];

		if (request->in_flight)
			continue;
		if (command == 'l')
			submit_random(load, request);
		else if (load->cursor < load->sectors)
			submit_next(load, request, command == 'f' ? KIND_WRITE : KIND_READ);
	}
}

static void service(struct load *load)
{
	struct pollfd fd = {.fd = iscsi_get_fd(load->iscsi),
			    .events = (short)iscsi_which_events(load->iscsi)};
	int r = fd.fd < 0 ? -1 : poll(&fd, 1, 1000);

	if (r < 0 && errno == EINTR)
		return;
	if (r < 0 || iscsi_service(load->iscsi, fd.revents) < 0 || iscsi_get_fd(load->iscsi) < 0)
		load->lost = true;
}

static bool next_line_is_there(void)
{
	struct pollfd fd = {.fd = 0, .events = POLLIN};

	return poll(&fd, 1, 0) > 0;
}

static void obey_connected(struct load *load, char command)
{
	load->cursor = 0;
	load->settles = command == 'c';
	while (!load->lost && !load->failed) {
		if (command != 'l' || !next_line_is_there())
			submit_all(load, command);
		if (load->in_flight == 0)
			break;
		service(load);
	}
}

static bool connect_to(struct load *load, const char *text)
{
	struct iscsi_url *url = iscsi_parse_full_url(load->iscsi, text);
	bool connected;

	if (!url) {
		fprintf(stderr, "iscsi_load: not a URL: %s\n", text);
		load->failed = true;
		return false;
	}
	load->lun = url->lun;
	iscsi_set_noautoreconnect(load->iscsi, 1);
	iscsi_set_timeout(load->iscsi, TIMEOUT_S);
	connected = iscsi_set_targetname(load->iscsi, url->target) == 0 &&
		    iscsi_set_session_type(load->iscsi, ISCSI_SESSION_NORMAL) == 0 &&
		    iscsi_full_connect_sync(load->iscsi, url->portal, url->lun) == 0;
	iscsi_destroy_url(url);
	return connected;
}

/* What is in flight when the context goes is lost. */
static void obey(struct load *load, char command, const char *url)
{
	load->lost = false;
	load->iscsi = iscsi_create_context(INITIATOR);
	if (!load->iscsi) {
		load->failed = true;
		return;
	}
	if (connect_to(load, url))
		obey_connected(load, command);
	else
		load->lost = true;
	if (!load->lost)
		(void)iscsi_logout_sync(load->iscsi); /* all that matters was answered */
	(void)iscsi_destroy_context(load->iscsi);
	load->iscsi = NULL;
	if (!load->failed)
		printf("%s answered=%" PRIu64 " flushes=%" PRIu64 " new=%" PRIu64 " old=%" PRIu64
		       " refused_space=%" PRIu64 " refused_read_only=%" PRIu64
		       " refused_error=%" PRIu64 "\n",
		       load->lost ? "lost" : "done", load->answered, load->flushes,
		       load->settled_new, load->settled_old, load->refused_space,
		       load->refused_read_only, load->refused_error);
	(void)fflush(stdout);
}

/* 'f', 'l', 'c', 'k' (look), or 0. */
static char command_of(const char *word)
{
	static const char *const words[] = {"fill", "load", "check", "look"};
	static const char letters[] = "flck";

	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(word, words[i]) == 0)
			return letters[i];
	}
	return '\0';
}

static bool load_init(struct load *load, uint64_t size_bytes, uint64_t seed)
{
	load->sectors = size_bytes / SECTOR_BYTES;
	load->random = mix(seed + 1);
	load->now = calloc(load->sectors, sizeof(*load->now));
	load->maybe = calloc(load->sectors, sizeof(*load->maybe));
	load->blocks = calloc(load->sectors / BLOCK_SECTORS, sizeof(*load->blocks));
	return load->now && load->maybe && load->blocks;
}

int main(int argc, char **argv)
{
	static struct load load;
	char line[1024], command[16], url[sizeof(line)];
	uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;

	if (argc > 3 || mib == 0 || mib > 4096) {
		fprintf(stderr, "usage: iscsi_load MIB [SEED]\n");
		return 2;
	}
	if (!load_init(&load, mib * MIB, argc > 2 ? strtoull(argv[2], NULL, 10) : 1))
		load.failed = true;
	while (!load.failed && fgets(line, sizeof(line), stdin)) {
		char what = '\0';

		if (sscanf(line, "%15s %1023s", command, url) == 2)
			what = command_of(command);
		if (!what) {
			fprintf(stderr, "iscsi_load: unknown command: %s", line);
			load.failed = true;
		} else {
			obey(&load, what, url);
		}
	}
	free(load.now);
	free(load.maybe);
	free(load.blocks);
	return load.failed;
}
