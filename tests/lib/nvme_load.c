/* SPDX-License-Identifier: Apache-2.0 */
#include "nvme_load.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/macros.h"

#define CANARY   UINT64_C(0xca4a51e5ca4a51e5)
#define PARKED   UINT64_C(0x9a4ced9a4ced9a4c)
#define SWAPS    (2 * NVME_LOAD_BLOCK) /* bytes of a fused pair */
#define MISMATCH 0x285                 /* Compare Failure: NVMe 1.4, 4.6.1.2.3 */
#define UNFUSED  0x009                 /* Command Aborted due to Failed Fused Command */

enum kind { READ, WRITE, ZERO, DEALLOCATE, FLUSH, COMPARE, SWAP, COPY };

enum { /* NVM commands: NVMe 1.4, 6; Copy: 2.0 */
       OP_FLUSH = 0x00,
       OP_WRITE = 0x01,
       OP_READ = 0x02,
       OP_COMPARE = 0x05,
       OP_WRITE_ZEROES = 0x08,
       OP_DATASET = 0x09,
       OP_COPY = 0x19,
};

struct nvme_load_request {
	enum kind kind;
	uint16_t queue;
	unsigned outstanding;   /* completions to come: two of a fused pair */
	bool wrong;             /* the data to compare are not what is there */
	bool aliased;           /* its data are addressed through the alias */
	bool doomed;            /* the alias was taken away meanwhile: it may fail */
	bool done;              /* of a SWAP: nothing is to be settled */
	uint64_t block, source; /* `source`: of a copy */
	uint32_t count;         /* blocks */
	uint64_t stamp;         /* of the first new block; the others follow */
	uint64_t begin_ns;
	size_t parked_bytes;      /* of `data`, which hold PARKED */
	uint64_t *before, *after; /* canary pages */
	uint8_t *data;
	uint64_t *list;  /* PRP list */
	uint8_t *ranges; /* of Dataset Management and Copy */
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 20 * NSEC_PER_USEC}, NULL);
}

__attribute__((format(printf, 2, 3))) static int fail(struct nvme_load *load, const char *format,
						      ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(load->failure, sizeof(load->failure), format, arguments);
	va_end(arguments);
	return -EIO;
}

static void put_words(void *data, size_t bytes, uint64_t word)
{
	for (size_t i = 0; i < bytes / 8; i++)
		((uint64_t *)data)[i] = word;
}

static bool are_words(const void *data, size_t bytes, uint64_t word)
{
	uint64_t difference = 0;

	for (size_t i = 0; i < bytes / 8; i++)
		difference |= ((const uint64_t *)data)[i] ^ word;
	return difference == 0;
}

static void put_block(void *data, uint64_t stamp)
{
	for (uint64_t i = 0; i < NVME_LOAD_BLOCK / 8; i++)
		((uint64_t *)data)[i] = stamp ? stamp + i * UINT64_C(0x9e3779b97f4a7c15) : 0;
}

static bool is_block(const void *data, uint64_t stamp)
{
	uint64_t difference = 0;

	for (uint64_t i = 0; i < NVME_LOAD_BLOCK / 8; i++)
		difference |= ((const uint64_t *)data)[i] ^
			      (stamp ? stamp + i * UINT64_C(0x9e3779b97f4a7c15) : 0);
	return difference == 0;
}

size_t nvme_load_memory_bytes(const struct nvme_load_options *options)
{
	size_t each = (6 + NVME_LOAD_BLOCKS_MAX) * (size_t)NVME_LOAD_BLOCK;

	return each * options->queues * options->depth +
	       (options->queues + 2) * (size_t)(128 * KIB) + MIB;
}

static void make_requests(struct nvme_load *load)
{
	struct nvme_driver *driver = load->driver;
	unsigned count = load->options.queues * load->options.depth;

	for (unsigned i = 0; i < count; i++) {
		struct nvme_load_request *request = &load->requests[i];

		request->queue = (uint16_t)(1 + i / load->options.depth);
		request->before = nvme_driver_alloc(driver, NVME_LOAD_BLOCK);
		request->data = nvme_driver_alloc(driver, NVME_LOAD_BLOCKS_MAX * NVME_LOAD_BLOCK);
		request->after = nvme_driver_alloc(driver, NVME_LOAD_BLOCK);
		request->list = nvme_driver_alloc(driver, NVME_LOAD_BLOCK);
		request->ranges = nvme_driver_alloc(driver, NVME_LOAD_BLOCK);
		put_words(request->before, NVME_LOAD_BLOCK, CANARY);
		put_words(request->after, NVME_LOAD_BLOCK, CANARY);
	}
}

/* --- what is to be done ------------------------------------------------------------------ */

static bool reads_only(enum kind kind)
{
	return kind == READ || kind == COMPARE;
}

static bool range_free(const struct nvme_load *load, uint64_t block, uint32_t count, bool read)
{
	for (uint32_t i = 0; i < count; i++) {
		if (load->users[block + i] < 0 || (!read && load->users[block + i] > 0))
			return false;
	}
	return true;
}

static void use_range(struct nvme_load *load, uint64_t block, uint32_t count, int by)
{
	for (uint32_t i = 0; i < count; i++)
		load->users[block + i] = (int16_t)(load->users[block + i] + by);
}

static void use_blocks(struct nvme_load *load, const struct nvme_load_request *request, int sign)
{
	use_range(load, request->block, request->count, reads_only(request->kind) ? sign : -sign);
	if (request->kind == COPY)
		use_range(load, request->source, request->count, sign);
}

static enum kind choose_kind(struct nvme_load *load)
{
	uint64_t dice = chance_below(&load->chance, 100);

	if (dice < 40)
		return READ;
	if (dice < 80)
		return WRITE;
	if (dice < 84)
		return FLUSH;
	if (load->options.changes_only)
		return READ;
	if (dice < 87)
		return load->can_zero ? ZERO : WRITE;
	if (dice < 90)
		return load->can_deallocate ? DEALLOCATE : WRITE;
	if (dice < 93)
		return load->can_compare ? COMPARE : READ;
	if (dice < 97)
		return load->can_swap ? SWAP : WRITE;
	return load->can_copy ? COPY : WRITE;
}

/* Blocks that nobody uses; false when chance finds none. */
static bool choose_blocks(struct nvme_load *load, struct nvme_load_request *request)
{
	bool read = reads_only(request->kind);

	request->count = chance_below(&load->chance, 4)
				 ? 1 + (uint32_t)chance_below(&load->chance, 4)
				 : 1 + (uint32_t)chance_below(&load->chance, NVME_LOAD_BLOCKS_MAX);
	if (request->kind == SWAP)
		request->count = 1;
	for (int tries = 0; tries < 8; tries++) {
		uint64_t last = load->blocks - request->count + 1;

		request->block = chance_below(&load->chance, last);
		request->source = chance_below(&load->chance, last);
		if (!range_free(load, request->block, request->count, read))
			continue;
		if (request->kind != COPY)
			return true;
		if (range_free(load, request->source, request->count, true) &&
		    (request->source + request->count <= request->block ||
		     request->block + request->count <= request->source))
			return true;
	}
	return false;
}

/* What the command's memory holds before it is sent. */
static void put_data(struct nvme_load *load, struct nvme_load_request *request)
{
	uint32_t count = request->count;

	switch (request->kind) {
	case WRITE:
		for (uint32_t i = 0; i < count; i++)
			put_block(request->data + i * NVME_LOAD_BLOCK, request->stamp + i);
		break;
	case COMPARE:
	case SWAP:
		for (uint32_t i = 0; i < count; i++)
			put_block(request->data + i * NVME_LOAD_BLOCK,
				  load->stamps[request->block + i]);
		if (request->wrong)
			request->data[chance_below(&load->chance, count * NVME_LOAD_BLOCK)] ^= 4;
		if (request->kind == SWAP)
			put_block(request->data + NVME_LOAD_BLOCK, request->stamp);
		break;
	default:
		put_words(request->data, count * NVME_LOAD_BLOCK, PARKED);
		break;
	}
}

static void make_range(struct nvme_load *load, struct nvme_load_request *request)
{
	uint64_t lba = (request->kind == COPY ? request->source : request->block) * load->lbas;
	uint32_t lbas = request->count * load->lbas;

	memset(request->ranges, 0, 32);
	if (request->kind == DEALLOCATE) { /* NVMe 1.4, 6.7.1 */
		memcpy(request->ranges + 4, &lbas, 4);
		memcpy(request->ranges + 8, &lba, 8);
	} else { /* a source range of format 0: NVM command set, 3.2.2 */
		uint16_t less_one = (uint16_t)(lbas - 1);

		memcpy(request->ranges + 8, &lba, 8);
		memcpy(request->ranges + 16, &less_one, 2);
	}
}

static struct nvme_driver_sqe make_command(struct nvme_load *load,
					   struct nvme_load_request *request)
{
	static const uint8_t opcodes[] = {OP_READ,  OP_WRITE,   OP_WRITE_ZEROES, OP_DATASET,
					  OP_FLUSH, OP_COMPARE, OP_COMPARE,      OP_COPY};
	uint64_t lba = request->block * load->lbas;
	struct nvme_driver_sqe sqe = {.opcode = opcodes[request->kind],
				      .nsid = load->options.nsid,
				      .cdw10 = (uint32_t)lba,
				      .cdw11 = (uint32_t)(lba >> 32),
				      .cdw12 = request->count * load->lbas - 1};

	if (request->kind == DEALLOCATE || request->kind == COPY) {
		make_range(load, request);
		nvme_driver_set_data(load->driver, &sqe, request->ranges, 32, NULL);
		if (request->kind == DEALLOCATE) {
			sqe.cdw10 = 0;
			sqe.cdw11 = 4;
		}
		sqe.cdw12 = 0;
	} else if (request->kind == FLUSH) {
		sqe.cdw10 = sqe.cdw11 = sqe.cdw12 = 0;
	} else if (request->kind != ZERO) {
		nvme_driver_set_data(load->driver, &sqe, request->data,
				     request->count * NVME_LOAD_BLOCK, request->list);
	}
	if (request->aliased) {
		sqe.prp1 += NVME_LOAD_ALIAS;
		if (request->count == 2)
			sqe.prp2 += NVME_LOAD_ALIAS;
	}
	if (request->kind == WRITE && chance_below(&load->chance, 16) == 0)
		sqe.cdw12 |= 1u << 30; /* FUA */
	return sqe;
}

static int put_command(struct nvme_load *load, struct nvme_load_request *request,
		       const struct nvme_driver_sqe *sqe)
{
	struct nvme_driver_queue *queue = &load->driver->queues[request->queue];
	int cid = nvme_driver_queue_command(load->driver, queue, sqe);

	if (cid < 0)
		return fail(load, "queue %u takes no command: %s", request->queue, strerror(-cid));
	load->by_cid[request->queue][cid] = request;
	request->outstanding++;
	return 0;
}

static bool room_for_two(const struct nvme_load *load, uint16_t queue_id)
{
	const struct nvme_driver_queue *queue = &load->driver->queues[queue_id];
	unsigned used = (unsigned)(queue->sq_tail + queue->depth - queue->sq_head) % queue->depth;

	return used + 2 < queue->depth && queue->free_count >= 2;
}

static int submit(struct nvme_load *load, struct nvme_load_request *request)
{
	struct nvme_driver_sqe sqe;
	int r;

	request->stamp = load->next_stamp;
	load->next_stamp += NVME_LOAD_BLOCKS_MAX;
	request->wrong = chance_below(&load->chance, 4) == 0;
	request->aliased = load->alias && request->kind == READ && request->count <= 2 &&
			   chance_below(&load->chance, 2) == 0;
	request->doomed = request->done = false;
	put_data(load, request);
	request->parked_bytes = 0;
	request->begin_ns = now_ns();
	sqe = make_command(load, request);
	if (request->kind == SWAP)
		sqe.flags |= 1;
	r = put_command(load, request, &sqe);
	if (r == 0 && request->kind == SWAP) {
		sqe.opcode = OP_WRITE;
		sqe.flags = 2;
		nvme_driver_set_data(load->driver, &sqe, request->data + NVME_LOAD_BLOCK,
				     NVME_LOAD_BLOCK, NULL);
		r = put_command(load, request, &sqe);
	}
	use_blocks(load, request, 1);
	load->in_flight++;
	return r;
}

/* --- what came back ---------------------------------------------------------------------- */

static int check_memory(struct nvme_load *load, const struct nvme_load_request *request)
{
	if (!are_words(request->before, NVME_LOAD_BLOCK, CANARY) ||
	    !are_words(request->after, NVME_LOAD_BLOCK, CANARY))
		return fail(load, "guest memory beside a buffer was written");
	if (!are_words(request->data, request->parked_bytes, PARKED))
		return fail(load, "guest memory was written after its command had completed");
	return 0;
}

static void set_stamps(struct nvme_load *load, const struct nvme_load_request *request)
{
	for (uint32_t i = 0; i < request->count; i++) {
		uint64_t *stamp = &load->stamps[request->block + i];

		if (request->kind == WRITE || request->kind == SWAP)
			*stamp = request->stamp + i;
		else if (request->kind == COPY)
			*stamp = load->stamps[request->source + i];
		else if (request->kind == ZERO || request->kind == DEALLOCATE)
			*stamp = 0;
	}
}

static int check_data(struct nvme_load *load, const struct nvme_load_request *request)
{
	for (uint32_t i = 0; i < request->count; i++) {
		const uint8_t *data = request->data + i * NVME_LOAD_BLOCK;
		uint64_t there;

		memcpy(&there, data, 8);
		if (!is_block(data, load->stamps[request->block + i]))
			return fail(load, "miscompare: block %llu should be %llu, begins with %llu",
				    (unsigned long long)(request->block + i),
				    (unsigned long long)load->stamps[request->block + i],
				    (unsigned long long)there);
	}
	load->totals.checked_blocks += request->count;
	return 0;
}

/* The status that the command must end with. */
static int expected_status(const struct nvme_load_request *request)
{
	if (!request->wrong || (request->kind != COMPARE && request->kind != SWAP))
		return 0;
	return request->kind == SWAP && request->outstanding == 1 ? UNFUSED : MISMATCH;
}

static int finish(struct nvme_load *load, struct nvme_load_request *request)
{
	static const size_t totals[] = {
		offsetof(struct nvme_load_totals, reads),
		offsetof(struct nvme_load_totals, writes),
		offsetof(struct nvme_load_totals, zeroes),
		offsetof(struct nvme_load_totals, deallocations),
		offsetof(struct nvme_load_totals, flushes),
		offsetof(struct nvme_load_totals, compares),
		offsetof(struct nvme_load_totals, swaps),
		offsetof(struct nvme_load_totals, copies),
	};
	uint64_t spent = now_ns() - request->begin_ns;
	int r = 0;

	load->totals.longest_ns = MAX(load->totals.longest_ns, spent);
	++*(uint64_t *)((char *)&load->totals + totals[request->kind]);
	use_blocks(load, request, -1);
	load->in_flight--;
	if (request->kind == READ && !request->done)
		r = check_data(load, request);
	else if (!request->wrong || request->kind != SWAP)
		set_stamps(load, request);
	if (request->kind == READ) {
		request->parked_bytes = request->count * NVME_LOAD_BLOCK;
		put_words(request->data, request->parked_bytes, PARKED);
	}
	return r == 0 ? check_memory(load, request) : r;
}

static int completed(struct nvme_load *load, const struct nvme_driver_cqe *cqe)
{
	struct nvme_load_request *request = load->by_cid[cqe->sqid][cqe->cid];
	int status = nvme_driver_status(cqe);

	if (request->doomed && status != 0)
		request->done = true; /* its memory was taken away: nothing is known of it */
	else if (status != expected_status(request))
		return fail(load, "kind %d, %u blocks at %llu: status %#x instead of %#x",
			    request->kind, request->count, (unsigned long long)request->block,
			    (unsigned)status, (unsigned)expected_status(request));
	return --request->outstanding == 0 ? finish(load, request) : 0;
}

static int poll_queue(struct nvme_load *load, uint16_t queue)
{
	struct nvme_driver_cqe cqe;
	int count = 0, r;

	while ((r = nvme_driver_poll(load->driver, &load->driver->queues[queue], &cqe)) == 1) {
		r = completed(load, &cqe);
		if (r < 0)
			return r;
		count++;
	}
	if (r < 0 && load->failure[0] == '\0')
		fail(load, "queue %u: %s", queue, strerror(-r));
	return r < 0 ? r : count;
}

static int check_lost(struct nvme_load *load)
{
	unsigned count = load->options.queues * load->options.depth;
	uint64_t now = now_ns();

	for (unsigned i = 0; i < count; i++) {
		struct nvme_load_request *request = &load->requests[i];

		if (request->outstanding > 0 &&
		    now - request->begin_ns > load->options.wait_ms * NSEC_PER_MSEC)
			return fail(load, "no completion in %u ms: kind %d, %u blocks at %llu",
				    load->options.wait_ms, request->kind, request->count,
				    (unsigned long long)request->block);
	}
	return 0;
}

static int top_up(struct nvme_load *load, uint16_t queue)
{
	struct nvme_load_request *first = load->requests + (queue - 1u) * load->options.depth;
	bool any = false;
	int r;

	for (unsigned i = 0; i < load->options.depth && room_for_two(load, queue); i++) {
		struct nvme_load_request *request = first + i;

		if (request->outstanding > 0)
			continue;
		request->kind = choose_kind(load);
		if (!choose_blocks(load, request))
			continue;
		r = check_memory(load, request);
		if (r == 0)
			r = submit(load, request);
		if (r < 0)
			return r;
		any = true;
	}
	if (!any)
		return 0;
	r = nvme_driver_ring(load->driver, &load->driver->queues[queue]);
	return r < 0 ? fail(load, "doorbell: %s", strerror(-r)) : 0;
}

int nvme_load_step(struct nvme_load *load)
{
	int count = 0;

	for (uint16_t queue = 1; queue <= load->options.queues; queue++) {
		int r = poll_queue(load, queue);

		if (r < 0)
			return r;
		count += r;
		r = top_up(load, queue);
		if (r < 0)
			return r;
	}
	if (count == 0) {
		nap();
		return check_lost(load);
	}
	return count;
}

int nvme_load_drain(struct nvme_load *load)
{
	while (load->in_flight > 0) {
		int count = 0, r;

		for (uint16_t queue = 1; queue <= load->options.queues; queue++) {
			r = poll_queue(load, queue);
			if (r < 0)
				return r;
			count += r;
		}
		r = count == 0 ? check_lost(load) : 0;
		if (r < 0)
			return r;
		if (count == 0)
			nap();
	}
	return 0;
}

/* --- all of it --------------------------------------------------------------------------- */

/* One plain command after the other with the first request's memory. */
static int transfer(struct nvme_load *load, enum kind kind, uint64_t block, uint32_t count)
{
	struct nvme_load_request *request = load->requests;
	struct nvme_driver_sqe sqe;
	int r;

	request->kind = kind;
	request->block = block;
	request->count = count;
	request->aliased = request->wrong = false;
	request->parked_bytes = 0;
	request->stamp = load->next_stamp;
	load->next_stamp += NVME_LOAD_BLOCKS_MAX;
	put_data(load, request);
	sqe = make_command(load, request);
	r = nvme_driver_command(load->driver, 1, &sqe, NULL);
	if (r != 0)
		return fail(load, "%s of %u blocks at %llu: %s %#x",
			    kind == READ ? "read" : "write", count, (unsigned long long)block,
			    r < 0 ? strerror(-r) : "status", (unsigned)MAX(r, 0));
	if (kind == WRITE)
		set_stamps(load, request);
	return 0;
}

int nvme_load_check(struct nvme_load *load)
{
	for (uint64_t block = 0; block < load->blocks; block += NVME_LOAD_BLOCKS_MAX) {
		uint32_t count =
			(uint32_t)MIN(load->blocks - block, (uint64_t)NVME_LOAD_BLOCKS_MAX);
		int r = transfer(load, READ, block, count);

		if (r == 0)
			r = check_data(load, load->requests);
		if (r < 0)
			return r;
	}
	return 0;
}

static int write_all(struct nvme_load *load)
{
	for (uint64_t block = 0; block < load->blocks; block += NVME_LOAD_BLOCKS_MAX) {
		uint32_t count =
			(uint32_t)MIN(load->blocks - block, (uint64_t)NVME_LOAD_BLOCKS_MAX);
		int r = transfer(load, WRITE, block, count);

		if (r < 0)
			return r;
	}
	return 0;
}

static int identify(struct nvme_load *load)
{
	uint8_t *data = nvme_driver_alloc(load->driver, NVME_DRIVER_PAGE);
	uint64_t size;
	uint16_t oncs, fuses;
	uint8_t shift;
	int r = nvme_driver_identify(load->driver, 1, 0, data);

	if (r != 0)
		return fail(load, "Identify Controller: %d", r);
	memcpy(&oncs, data + 520, 2);
	memcpy(&fuses, data + 522, 2);
	load->can_compare = oncs & 1;
	load->can_deallocate = oncs & 4;
	load->can_zero = oncs & 8;
	load->can_copy = oncs & 0x100;
	load->can_swap = fuses & 1;
	r = nvme_driver_identify(load->driver, 0, load->options.nsid, data);
	if (r != 0)
		return fail(load, "Identify Namespace: %d", r);
	memcpy(&size, data, 8);
	shift = data[128 + 4 * (data[26] & 15) + 2];
	if (shift < 9 || shift > 12 || size == 0)
		return fail(load, "namespace %u: %llu blocks of 2^%u", load->options.nsid,
			    (unsigned long long)size, shift);
	load->lbas = NVME_LOAD_BLOCK >> shift;
	size = (size << shift) / NVME_LOAD_BLOCK;
	load->blocks =
		load->options.bytes ? MIN(size, load->options.bytes / NVME_LOAD_BLOCK) : size;
	return load->blocks >= 2 * NVME_LOAD_BLOCKS_MAX ? 0 : fail(load, "it is too small");
}

static int enable(struct nvme_load *load)
{
	uint16_t depth = (uint16_t)MIN(3 * load->options.depth + 2, NVME_DRIVER_DEPTH_MAX);
	int r = nvme_driver_enable(load->driver);

	for (uint16_t queue = 1; queue <= load->options.queues && r == 0; queue++)
		r = nvme_driver_create_queue(load->driver, queue, depth, 1);
	return r == 0 ? 0 : fail(load, "the controller cannot be enabled: %d", r);
}

int nvme_load_start(struct nvme_load *load, struct nvme_driver *driver,
		    const struct nvme_load_options *options)
{
	int r;

	*load = (struct nvme_load){.driver = driver, .options = *options, .next_stamp = 1};
	chance_init(&load->chance, options->seed);
	load->requests = calloc((size_t)options->queues * options->depth, sizeof(*load->requests));
	if (!load->requests)
		return -ENOMEM;
	r = enable(load);
	if (r == 0)
		r = identify(load);
	if (r < 0)
		return r;
	load->stamps = calloc(load->blocks, sizeof(*load->stamps));
	load->users = calloc(load->blocks, sizeof(*load->users));
	if (!load->stamps || !load->users)
		return -ENOMEM;
	make_requests(load);
	r = vfu_client_map(&driver->client, NVME_DRIVER_ADDRESS + NVME_LOAD_ALIAS,
			   driver->memory_bytes, driver->memory_fd, 0);
	if (r < 0)
		return fail(load, "guest memory a second time: %s", strerror(-r));
	load->alias = true;
	return write_all(load);
}

void nvme_load_free(struct nvme_load *load)
{
	free(load->requests);
	free(load->stamps);
	free(load->users);
}

/* --- resets and memory that goes away ---------------------------------------------------- */

/* A change that a reset met may be done, or not, or in part. */
static int settle(struct nvme_load *load, const struct nvme_load_request *cut)
{
	struct nvme_load_request copy = *cut;
	uint64_t old[NVME_LOAD_BLOCKS_MAX];
	int r;

	memcpy(old, load->stamps + cut->block, cut->count * sizeof(*old));
	r = transfer(load, READ, copy.block, copy.count);
	if (r < 0)
		return r;
	set_stamps(load, &copy);
	for (uint32_t i = 0; i < copy.count; i++) {
		uint64_t *stamp = &load->stamps[copy.block + i];

		if (!is_block(load->requests->data + i * NVME_LOAD_BLOCK, *stamp))
			*stamp = old[i];
	}
	load->requests->block = copy.block;
	load->requests->count = copy.count;
	return check_data(load, load->requests);
}

static int settle_all(struct nvme_load *load)
{
	unsigned count = load->options.queues * load->options.depth;
	struct nvme_load_request *cut = calloc(count, sizeof(*cut));
	unsigned cut_count = 0;
	int r = cut ? 0 : -ENOMEM;

	for (unsigned i = 0; i < count && r == 0; i++) {
		struct nvme_load_request *request = &load->requests[i];

		if (request->outstanding == 0)
			continue;
		request->outstanding = 0;
		use_blocks(load, request, -1);
		load->in_flight--;
		if (!reads_only(request->kind) && request->kind != FLUSH)
			cut[cut_count++] = *request;
		request->parked_bytes = request->count * NVME_LOAD_BLOCK;
		if (request->kind == SWAP)
			request->parked_bytes = SWAPS;
		put_words(request->data, request->parked_bytes, PARKED);
	}
	for (unsigned i = 0; i < cut_count && r == 0; i++)
		r = settle(load, &cut[i]);
	free(cut);
	return r;
}

int nvme_load_reset(struct nvme_load *load, bool device)
{
	int r = device ? vfu_client_reset(&load->driver->client)
		       : nvme_driver_disable(load->driver);

	if (r < 0)
		return fail(load, "reset: %s", strerror(-r));
	load->totals.resets++;
	/* From here on nothing may land: settle_all() parks the memory of what was in flight. */
	for (uint16_t queue = 1; queue <= load->options.queues; queue++)
		memset(load->by_cid[queue], 0, sizeof(load->by_cid[queue]));
	r = enable(load);
	return r == 0 ? settle_all(load) : r;
}

int nvme_load_remap(struct nvme_load *load)
{
	struct nvme_driver *driver = load->driver;
	uint64_t address = NVME_DRIVER_ADDRESS + NVME_LOAD_ALIAS;
	unsigned count = load->options.queues * load->options.depth;
	int r;

	for (unsigned i = 0; i < count; i++)
		load->requests[i].doomed =
			load->requests[i].aliased && load->requests[i].outstanding > 0;
	r = vfu_client_unmap(&driver->client, address, driver->memory_bytes);
	if (r == 0)
		r = vfu_client_map(&driver->client, address, driver->memory_bytes,
				   driver->memory_fd, 0);
	load->totals.remaps++;
	return r < 0 ? fail(load, "memory taken away and given back: %s", strerror(-r)) : 0;
}
