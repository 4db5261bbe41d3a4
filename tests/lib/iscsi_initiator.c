/* SPDX-License-Identifier: Apache-2.0 */
#include "iscsi_initiator.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/crc32c.h"
#include "frontend/iscsi/text.h"
#include "reactor/io.h"

#define MUST(condition, ...)                            \
	do {                                            \
		if (!(condition)) {                     \
			fprintf(stderr, "initiator: "); \
			fprintf(stderr, __VA_ARGS__);   \
			fprintf(stderr, "\n");          \
			abort();                        \
		}                                       \
	} while (0)

#define DATA_MAX (1u << 24)

/* --- The wire --- */

/* Sends, but no more than up to the cut. */
static int send_some(struct initiator *initiator, struct iovec *iov, int count)
{
	uint64_t left = initiator->options.cut_after
				? initiator->options.cut_after - initiator->sent_bytes
				: UINT64_MAX;
	bool cut = false;
	int r;

	for (int i = 0; i < count; i++) {
		if (iov[i].iov_len >= left) {
			iov[i].iov_len = (size_t)left;
			cut = true;
		}
		left -= iov[i].iov_len;
		initiator->sent_bytes += iov[i].iov_len;
	}
	r = io_send_all(initiator->socket, iov, count);
	if (r == 0 && cut) {
		initiator_cut(initiator);
		r = -ECONNRESET;
	}
	return r;
}

int initiator_send_raw(struct initiator *initiator, const void *bhs, const void *data,
		       uint32_t length)
{
	uint8_t header[ISCSI_BHS_BYTES + ISCSI_DIGEST_BYTES], trailer[3 + ISCSI_DIGEST_BYTES] = {0};
	uint32_t pad = iscsi_pdu_pad(length);
	struct iovec iov[3] = {{header, ISCSI_BHS_BYTES}, {(void *)data, length}, {trailer, pad}};
	int r = -ECONNRESET;

	memcpy(header, bhs, ISCSI_BHS_BYTES);
	put_be24(((struct iscsi_bhs *)header)->data_length, length);
	if (initiator->header_digest) {
		put_le32(header + ISCSI_BHS_BYTES, crc32c(header, ISCSI_BHS_BYTES));
		iov[0].iov_len += ISCSI_DIGEST_BYTES;
	}
	if (initiator->data_digest && length > 0) {
		put_le32(trailer + pad, crc32c_more(crc32c(data, length), trailer, pad));
		iov[2].iov_len += ISCSI_DIGEST_BYTES;
	}
	fiber_mutex_lock(&initiator->send_lock);
	if (!initiator->broken)
		r = send_some(initiator, iov, 3);
	fiber_mutex_unlock(&initiator->send_lock);
	return r;
}

static int receive_digest(struct initiator *initiator, uint32_t expected)
{
	uint8_t digest[ISCSI_DIGEST_BYTES];
	int r = io_receive_exactly(initiator->socket, digest, sizeof(digest));

	MUST(r < 0 || get_le32(digest) == expected, "wrong digest");
	return r;
}

/* One PDU; the data is the caller's, NULL without any. */
static int receive_pdu(struct initiator *initiator, struct iscsi_response *bhs, uint8_t **ret_data)
{
	uint32_t length, padded;
	uint8_t *data = NULL;
	int r = io_receive_exactly(initiator->socket, bhs, sizeof(*bhs));

	if (r == 0 && initiator->header_digest)
		r = receive_digest(initiator, crc32c(bhs, sizeof(*bhs)));
	if (r < 0)
		return r;
	length = get_be24(bhs->data_length);
	padded = length + iscsi_pdu_pad(length);
	MUST(length <= MAX(initiator->options.max_recv, 8192u), "a data segment of %u bytes",
	     length);
	if (length > 0) {
		data = malloc(padded);
		if (!data)
			return -ENOMEM;
		r = io_receive_exactly(initiator->socket, data, padded);
		if (r == 0 && initiator->data_digest)
			r = receive_digest(initiator, crc32c(data, padded));
	}
	if (r < 0) {
		free(data);
		return r;
	}
	*ret_data = data;
	return 0;
}

/* --- Login --- */

static void put_names(const struct initiator_options *options, struct iscsi_text_writer *writer)
{
	iscsi_text_put(writer, "InitiatorName", options->name);
	iscsi_text_put(writer, "SessionType", options->target ? "Normal" : "Discovery");
	if (options->target)
		iscsi_text_put(writer, "TargetName", options->target);
}

static void put_keys(const struct initiator_options *options, struct iscsi_text_writer *writer)
{
	iscsi_text_put(writer, "HeaderDigest", options->header_digest ? "CRC32C,None" : "None");
	iscsi_text_put(writer, "DataDigest", options->data_digest ? "CRC32C,None" : "None");
	iscsi_text_put_number(writer, "MaxRecvDataSegmentLength", options->max_recv);
	if (!options->target)
		return;
	iscsi_text_put(writer, "InitialR2T", options->initial_r2t ? "Yes" : "No");
	iscsi_text_put(writer, "ImmediateData", options->immediate_data ? "Yes" : "No");
	iscsi_text_put_number(writer, "FirstBurstLength", options->first_burst);
	iscsi_text_put_number(writer, "MaxBurstLength", options->max_burst);
	iscsi_text_put_number(writer, "MaxConnections", 4);
	iscsi_text_put_number(writer, "MaxOutstandingR2T", 1);
	iscsi_text_put_number(writer, "ErrorRecoveryLevel", 0);
}

static void take_number(const struct iscsi_text_pair *pair, const char *key, uint32_t *number)
{
	uint64_t value;

	if (strcmp(pair->key, key) != 0)
		return;
	MUST(iscsi_text_parse_number(pair->value, UINT32_MAX, &value) == 0, "bad %s", key);
	*number = (uint32_t)value;
}

static void take_bool(const struct iscsi_text_pair *pair, const char *key, const char *yes,
		      bool *value)
{
	if (strcmp(pair->key, key) == 0)
		*value = strcmp(pair->value, yes) == 0;
}

static void take_keys(struct initiator *initiator, const uint8_t *data, size_t length)
{
	struct iscsi_text_reader reader;
	struct iscsi_text_pair pair;
	int r;

	iscsi_text_reader_init(&reader, data, length);
	while ((r = iscsi_text_next(&reader, &pair)) > 0) {
		take_number(&pair, "FirstBurstLength", &initiator->first_burst);
		take_number(&pair, "MaxBurstLength", &initiator->max_burst);
		take_number(&pair, "MaxRecvDataSegmentLength", &initiator->max_send);
		take_bool(&pair, "InitialR2T", "Yes", &initiator->initial_r2t);
		take_bool(&pair, "ImmediateData", "Yes", &initiator->immediate_data);
	}
	MUST(r == 0, "malformed text in the login");
}

struct exchange { /* a request of the login phase, and its answer */
	uint8_t flags, text[2048], *data;
	struct iscsi_text_writer writer;
	uint32_t length;
};

static void begin_exchange(struct exchange *exchange, uint8_t flags)
{
	exchange->flags = flags;
	exchange->data = NULL;
	exchange->length = 0;
	iscsi_text_writer_init(&exchange->writer, exchange->text, sizeof(exchange->text));
}

/* On success the answer's data is the caller's. */
static int perform_exchange(struct initiator *initiator, struct exchange *exchange)
{
	const struct initiator_options *options = &initiator->options;
	struct iscsi_login request = {.opcode = ISCSI_OP_LOGIN | ISCSI_IMMEDIATE_BIT,
				      .flags = exchange->flags};
	struct iscsi_login_response *response;
	struct iscsi_response bhs;
	int r;

	memcpy(request.isid, options->isid, sizeof(request.isid));
	put_be16(request.tsih, options->tsih);
	put_be16(request.cid, options->cid);
	put_be32(request.cmd_sn, initiator->cmd_sn);
	r = initiator_send_raw(initiator, &request, exchange->text,
			       (uint32_t)exchange->writer.length);
	if (r == 0)
		r = receive_pdu(initiator, &bhs, &exchange->data);
	if (r < 0)
		return r;
	response = (struct iscsi_login_response *)&bhs;
	MUST(response->opcode == ISCSI_OP_LOGIN_RESPONSE, "opcode %02x in the login", bhs.opcode);
	initiator->login_status = (uint16_t)(response->status_class << 8 | response->status_detail);
	initiator->tsih = get_be16(response->tsih);
	initiator->exp_stat_sn = get_be32(response->stat_sn) + 1;
	initiator->max_cmd_sn = get_be32(response->max_cmd_sn);
	exchange->length = get_be24(response->data_length);
	if (initiator->login_status != 0) {
		free(exchange->data);
		return -EACCES;
	}
	MUST(response->flags == exchange->flags, "login response with flags %02x", response->flags);
	return 0;
}

static const char *find_value(const struct exchange *exchange, const char *key)
{
	struct iscsi_text_reader reader;
	struct iscsi_text_pair pair;

	iscsi_text_reader_init(&reader, exchange->data, exchange->length);
	while (iscsi_text_next(&reader, &pair) > 0) {
		if (strcmp(pair.key, key) == 0)
			return pair.value;
	}
	MUST(false, "the answer has no %s", key);
	return NULL;
}

static void put_proof(struct exchange *exchange, const struct iscsi_chap *chap, uint8_t identifier,
		      const char *challenge_text)
{
	uint8_t challenge[ISCSI_CHAP_CHALLENGE_MAX], digest[ISCSI_CHAP_DIGEST_MAX];
	char text[ISCSI_CHAP_TEXT_MAX];
	size_t length = 0;

	MUST(iscsi_chap_decode(challenge_text, challenge, sizeof(challenge), &length) == 0,
	     "a challenge that cannot be read");
	length = iscsi_chap_respond(ISCSI_CHAP_MD5, identifier, chap->secret, challenge, length,
				    digest);
	iscsi_chap_encode(digest, length, text);
	iscsi_text_put(&exchange->writer, "CHAP_N", chap->user);
	iscsi_text_put(&exchange->writer, "CHAP_R", text);
}

static void check_proof(const struct exchange *exchange, const struct iscsi_chap *chap,
			uint8_t identifier, const uint8_t challenge[ISCSI_CHAP_CHALLENGE_BYTES])
{
	uint8_t digest[ISCSI_CHAP_DIGEST_MAX];
	char text[ISCSI_CHAP_TEXT_MAX];
	size_t length = iscsi_chap_respond(ISCSI_CHAP_MD5, identifier, chap->own_secret, challenge,
					   ISCSI_CHAP_CHALLENGE_BYTES, digest);

	iscsi_chap_encode(digest, length, text);
	MUST(strcmp(find_value(exchange, "CHAP_N"), chap->own_user) == 0, "another target");
	MUST(strcmp(find_value(exchange, "CHAP_R"), text) == 0, "the target proves nothing");
}

/* The security stage, mutual (RFC 7143 12.1.3). The last part: each proves that it knows. */
static int prove(struct initiator *initiator, struct exchange *offer)
{
	const struct iscsi_chap *chap = initiator->options.chap;
	uint8_t challenge[ISCSI_CHAP_CHALLENGE_BYTES], identifier = 77;
	char text[ISCSI_CHAP_TEXT_MAX];
	struct exchange proof;
	uint64_t number = 0;
	int r;

	MUST(iscsi_text_parse_number(find_value(offer, "CHAP_I"), UINT8_MAX, &number) == 0,
	     "bad CHAP_I");
	for (size_t i = 0; i < sizeof(challenge); i++)
		challenge[i] = (uint8_t)(i * 7 + 1);
	iscsi_chap_encode(challenge, sizeof(challenge), text);
	begin_exchange(&proof, 0x81);
	put_proof(&proof, chap, (uint8_t)number, find_value(offer, "CHAP_C"));
	iscsi_text_put_number(&proof.writer, "CHAP_I", identifier);
	iscsi_text_put(&proof.writer, "CHAP_C", text);
	r = perform_exchange(initiator, &proof);
	if (r < 0)
		return r;
	check_proof(&proof, chap, identifier, challenge);
	free(proof.data);
	return 0;
}

static int pass_security(struct initiator *initiator)
{
	struct exchange exchange;
	int r;

	begin_exchange(&exchange, 0);
	put_names(&initiator->options, &exchange.writer);
	iscsi_text_put(&exchange.writer, "AuthMethod", "CHAP");
	r = perform_exchange(initiator, &exchange);
	if (r < 0)
		return r;
	free(exchange.data);
	begin_exchange(&exchange, 0);
	iscsi_text_put(&exchange.writer, "CHAP_A", "5");
	r = perform_exchange(initiator, &exchange);
	if (r < 0)
		return r;
	r = prove(initiator, &exchange);
	free(exchange.data);
	return r;
}

static int log_in(struct initiator *initiator)
{
	const struct initiator_options *options = &initiator->options;
	struct exchange exchange;
	int r = options->chap ? pass_security(initiator) : 0;

	if (r < 0)
		return r;
	begin_exchange(&exchange, 0x87);
	if (!options->chap)
		put_names(options, &exchange.writer);
	put_keys(options, &exchange.writer);
	r = perform_exchange(initiator, &exchange);
	if (r < 0)
		return r;
	take_keys(initiator, exchange.data, exchange.length);
	free(exchange.data);
	initiator->header_digest = options->header_digest;
	initiator->data_digest = options->data_digest;
	return 0;
}

/* --- What the target sends --- */

static struct initiator_command *find_command(struct initiator *initiator, uint32_t itt)
{
	struct initiator_command *command;

	LIST_FOR_EACH (&initiator->commands, command, struct initiator_command, link) {
		if (command->itt == itt)
			return command;
	}
	return NULL;
}

static void finish_command(struct initiator_command *command, int result)
{
	command->result = result;
	command->finished = true;
	list_remove(&command->link);
	fiber_queue_wake_all(&command->done);
}

void initiator_forget(struct initiator_command *command)
{
	if (!command->finished)
		finish_command(command, -ECANCELED);
}

static void take_status(struct initiator_command *command, uint8_t status, uint8_t flags,
			const uint8_t *residual)
{
	command->status = status;
	command->flags = flags & (ISCSI_RESIDUAL_OVERFLOW | ISCSI_RESIDUAL_UNDERFLOW);
	command->residual = get_be32(residual);
	finish_command(command, 0);
}

static void on_data_in(struct initiator *initiator, const struct iscsi_response *bhs,
		       const uint8_t *data)
{
	const struct iscsi_data_in *pdu = (const void *)bhs;
	struct initiator_command *command = find_command(initiator, get_be32(pdu->itt));
	uint32_t length = get_be24(pdu->data_length), offset = get_be32(pdu->buffer_offset);

	MUST(command, "data for no command");
	MUST(get_be32(pdu->data_sn) == command->data_sn, "DataSN %u, not %u",
	     get_be32(pdu->data_sn), command->data_sn);
	MUST(offset == command->in_received && length <= command->in_length - offset,
	     "data at %u of %u bytes, %u received", offset, length, command->in_received);
	if (length > 0)
		memcpy(command->in + offset, data, length);
	command->in_received += length;
	command->data_sn++;
	if (pdu->flags & ISCSI_DATA_IN_STATUS)
		take_status(command, pdu->status, pdu->flags, pdu->residual);
}

static void on_response(struct initiator *initiator, const struct iscsi_response *bhs,
			const uint8_t *data)
{
	const struct iscsi_scsi_response *pdu = (const void *)bhs;
	struct initiator_command *command = find_command(initiator, get_be32(pdu->itt));
	uint32_t length = get_be24(pdu->data_length);

	MUST(command, "a response for no command");
	MUST(get_be32(pdu->exp_data_sn) == command->data_sn + command->r2t_sn, "ExpDataSN");
	if (length >= 2) {
		command->sense_length = get_be16(data);
		MUST(command->sense_length + 2 <= length &&
			     command->sense_length <= INITIATOR_SENSE_MAX,
		     "%u bytes of sense in %u", command->sense_length, length);
		memcpy(command->sense, data + 2, command->sense_length);
	}
	take_status(command, pdu->status, pdu->flags, pdu->residual);
}

/* A burst of Data-Out from offset up to end. */
static int send_data(struct initiator_command *command, uint32_t ttt, uint32_t offset, uint32_t end)
{
	struct initiator *initiator = command->initiator;
	uint32_t data_sn = 0;
	int r = 0;

	while (offset < end && r == 0) {
		uint32_t n = MIN(end - offset, initiator->max_send), skew;
		struct iscsi_data_out pdu = {.opcode = ISCSI_OP_DATA_OUT};

		pdu.flags = offset + n == end ? ISCSI_FINAL_BIT : 0;
		iscsi_pdu_put_lun(pdu.lun, command->lun);
		put_be32(pdu.itt, command->itt);
		put_be32(pdu.ttt, ttt);
		skew = data_sn == 1 ? (uint32_t)initiator->skew : 0;
		put_be32(pdu.data_sn, data_sn++ + (initiator->skew_offset ? 0 : skew));
		put_be32(pdu.buffer_offset, offset + (initiator->skew_offset ? skew : 0));
		put_be32(pdu.exp_stat_sn, initiator->exp_stat_sn);
		r = initiator_send_raw(initiator, &pdu, command->out + offset, n);
		offset += n;
	}
	return r;
}

static int on_r2t(struct initiator *initiator, const struct iscsi_response *bhs)
{
	const struct iscsi_r2t *pdu = (const void *)bhs;
	struct initiator_command *command = find_command(initiator, get_be32(pdu->itt));
	uint32_t offset = get_be32(pdu->buffer_offset), length = get_be32(pdu->desired_length);

	MUST(command, "an R2T for no command");
	MUST(get_be32(pdu->r2t_sn) == command->r2t_sn, "R2TSN");
	MUST(length > 0 && length <= initiator->max_burst && offset < command->out_length &&
		     length <= command->out_length - offset,
	     "an R2T for %u bytes at %u", length, offset);
	command->r2t_sn++;
	return send_data(command, get_be32(pdu->ttt), offset, offset + length);
}

static void on_answer(struct initiator *initiator, const struct iscsi_response *bhs, uint8_t **data)
{
	if (get_be32(bhs->itt) != initiator->waiting_itt && bhs->opcode != ISCSI_OP_REJECT)
		return;
	initiator->answer = *bhs;
	free(initiator->answer_data);
	initiator->answer_data = TAKE_PTR(*data);
	initiator->answer_length = get_be24(bhs->data_length);
	initiator->has_answer = true;
	fiber_queue_wake_all(&initiator->answered);
}

/* An answer to the target's ping. */
static int on_ping(struct initiator *initiator, const struct iscsi_response *bhs)
{
	struct iscsi_request pdu = {.opcode = ISCSI_OP_NOP_OUT | ISCSI_IMMEDIATE_BIT,
				    .flags = ISCSI_FINAL_BIT};

	put_be32(pdu.itt, ISCSI_RESERVED_TAG);
	memcpy(pdu.word20, bhs->ttt, sizeof(bhs->ttt));
	put_be32(pdu.cmd_sn, initiator->cmd_sn);
	return initiator_send_raw(initiator, &pdu, NULL, 0);
}

static void take_numbers(struct initiator *initiator, const struct iscsi_response *bhs)
{
	uint32_t max = get_be32(bhs->max_cmd_sn);
	bool has_status =
		bhs->opcode != ISCSI_OP_R2T &&
		!(bhs->opcode == ISCSI_OP_DATA_IN && !(bhs->flags & ISCSI_DATA_IN_STATUS)) &&
		!(bhs->opcode == ISCSI_OP_NOP_IN && get_be32(bhs->itt) == ISCSI_RESERVED_TAG);

	if (has_status) {
		MUST(get_be32(bhs->stat_sn) == initiator->exp_stat_sn, "StatSN %u, not %u",
		     get_be32(bhs->stat_sn), initiator->exp_stat_sn);
		initiator->exp_stat_sn++;
	}
	MUST(!iscsi_sn_before(max, initiator->max_cmd_sn), "the window was closed again");
	initiator->max_cmd_sn = max;
	fiber_queue_wake_all(&initiator->window);
}

static int dispatch(struct initiator *initiator, const struct iscsi_response *bhs, uint8_t **data)
{
	take_numbers(initiator, bhs);
	switch (bhs->opcode) {
	case ISCSI_OP_DATA_IN:
		on_data_in(initiator, bhs, *data);
		return 0;
	case ISCSI_OP_SCSI_RESPONSE:
		on_response(initiator, bhs, *data);
		return 0;
	case ISCSI_OP_R2T:
		return on_r2t(initiator, bhs);
	case ISCSI_OP_NOP_IN:
		if (get_be32(bhs->itt) == ISCSI_RESERVED_TAG)
			return on_ping(initiator, bhs);
		on_answer(initiator, bhs, data);
		return 0;
	default:
		on_answer(initiator, bhs, data);
		return 0;
	}
}

static void fail_all(struct initiator *initiator)
{
	struct initiator_command *command;

	initiator_cut(initiator);
	LIST_FOR_EACH (&initiator->commands, command, struct initiator_command, link)
		finish_command(command, -ECONNRESET);
	fiber_queue_wake_all(&initiator->answered);
	fiber_queue_wake_all(&initiator->window);
}

static void read_all(struct fiber_task *task)
{
	struct initiator *initiator = CONTAINER_OF(task, struct initiator, reader);
	struct iscsi_response bhs;
	int r = 0;

	while (r == 0) {
		uint8_t *data = NULL;

		r = receive_pdu(initiator, &bhs, &data);
		if (r == 0)
			r = dispatch(initiator, &bhs, &data);
		free(data);
	}
	fail_all(initiator);
	initiator->reader_running = false;
	fiber_queue_wake_all(&initiator->reader_gone);
}

/* --- Life --- */

static void set_defaults(struct initiator *initiator)
{
	struct initiator_options *options = &initiator->options;

	options->first_burst = options->first_burst ? options->first_burst : 65536;
	options->max_burst = options->max_burst ? options->max_burst : 262144;
	options->max_recv = options->max_recv ? options->max_recv : 65536;
	options->first_burst = MIN(options->first_burst, options->max_burst); /* 13.14 */
	initiator->first_burst = 65536;
	initiator->max_burst = 262144;
	initiator->max_send = 8192;
	initiator->initial_r2t = true;
	initiator->immediate_data = true;
	initiator->cmd_sn = 1;
}

int initiator_open(struct initiator *initiator, const struct sockaddr *address, socklen_t length,
		   const struct initiator_options *options)
{
	int r;

	*initiator = (struct initiator){.reactor = reactor_current(), .options = *options};
	set_defaults(initiator);
	list_init(&initiator->commands);
	fiber_queue_init(&initiator->window);
	fiber_queue_init(&initiator->reader_gone);
	fiber_queue_init(&initiator->answered);
	fiber_mutex_init(&initiator->send_lock);
	r = io_connect(address, length, &initiator->socket);
	if (r < 0)
		return r;
	r = log_in(initiator);
	if (r < 0) {
		initiator_close(initiator);
		return r;
	}
	if (options->without_reader)
		return 0;
	initiator->reader_running = true;
	initiator->reader.run = read_all;
	fiber_spawn(initiator->reactor, FIBER_CONTROL, &initiator->reader);
	return 0;
}

void initiator_cut(struct initiator *initiator)
{
	if (initiator->broken)
		return;
	initiator->broken = true;
	reactor_world(initiator->reactor)->ops->socket_shutdown(initiator->socket);
}

void initiator_close(struct initiator *initiator)
{
	if (!initiator->socket)
		return;
	initiator_cut(initiator);
	while (initiator->reader_running || initiator->users > 0)
		fiber_queue_wait(&initiator->reader_gone);
	reactor_world(initiator->reactor)->ops->socket_close(initiator->socket);
	free(initiator->answer_data);
	initiator->answer_data = NULL;
	initiator->socket = NULL;
}

/* --- Requests --- */

static int await_window(struct initiator *initiator)
{
	while (!initiator->broken && iscsi_sn_before(initiator->max_cmd_sn, initiator->cmd_sn))
		fiber_queue_wait(&initiator->window);
	return initiator->broken ? -ECONNRESET : 0;
}

static int send_command(struct initiator *initiator, struct initiator_command *command)
{
	struct iscsi_scsi_command pdu = {.opcode = ISCSI_OP_SCSI_COMMAND};
	uint32_t first = MIN(command->out_length, initiator->first_burst), immediate = 0;
	bool more;
	int r;

	if (command->immediate)
		pdu.opcode |= ISCSI_IMMEDIATE_BIT;
	if (initiator->immediate_data)
		immediate = MIN(first, initiator->max_send);
	more = !initiator->initial_r2t && immediate < first;
	pdu.flags = (command->out_length ? ISCSI_COMMAND_WRITE : 0) |
		    (command->in_length ? ISCSI_COMMAND_READ : 0) | (more ? 0 : ISCSI_FINAL_BIT);
	iscsi_pdu_put_lun(pdu.lun, command->lun);
	put_be32(pdu.itt, command->itt);
	put_be32(pdu.expected_length, MAX(command->out_length, command->in_length));
	put_be32(pdu.cmd_sn, command->immediate ? initiator->cmd_sn : initiator->cmd_sn++);
	put_be32(pdu.exp_stat_sn, initiator->exp_stat_sn);
	memcpy(pdu.cdb, command->cdb, sizeof(pdu.cdb));
	r = initiator_send_raw(initiator, &pdu, command->out, immediate);
	if (r == 0 && more)
		r = send_data(command, ISCSI_RESERVED_TAG, immediate, first);
	return r;
}

static int run(struct initiator *initiator, struct initiator_command *command)
{
	int r = command->immediate ? 0 : await_window(initiator);

	if (r < 0 || initiator->broken)
		return -ECONNRESET;
	command->initiator = initiator;
	command->itt = initiator->next_itt++;
	command->data_sn = command->r2t_sn = command->in_received = command->sense_length = 0;
	command->finished = false;
	fiber_queue_init(&command->done);
	list_push_back(&initiator->commands, &command->link);
	if (send_command(initiator, command) < 0)
		initiator_cut(initiator); /* the reader ends the command */
	while (!command->finished && initiator->reader_running)
		fiber_queue_wait(&command->done);
	return command->finished ? command->result : -ECONNRESET;
}

static void leave(struct initiator *initiator)
{
	initiator->users--;
	fiber_queue_wake_all(&initiator->reader_gone);
}

int initiator_run(struct initiator *initiator, struct initiator_command *command)
{
	int r;

	if (initiator->broken || !initiator->reader_running)
		return -ECONNRESET;
	initiator->users++;
	r = run(initiator, command);
	leave(initiator);
	return r;
}

static int ask_and_wait(struct initiator *initiator, struct iscsi_request *pdu, const void *data,
			uint32_t length)
{
	int r = await_window(initiator);

	if (r < 0)
		return r;
	initiator->waiting_itt = initiator->next_itt++;
	initiator->has_answer = false;
	put_be32(pdu->itt, initiator->waiting_itt);
	put_be32(pdu->cmd_sn,
		 pdu->opcode & ISCSI_IMMEDIATE_BIT ? initiator->cmd_sn : initiator->cmd_sn++);
	put_be32(pdu->exp_stat_sn, initiator->exp_stat_sn);
	r = initiator_send_raw(initiator, pdu, data, length);
	while (r == 0 && !initiator->has_answer) {
		if (initiator->broken || !initiator->reader_running)
			return -ECONNRESET;
		fiber_queue_wait(&initiator->answered);
	}
	return r;
}

/* A request with one answer; only one at a time. */
static int ask(struct initiator *initiator, struct iscsi_request *pdu, const void *data,
	       uint32_t length)
{
	int r;

	if (initiator->broken || !initiator->reader_running)
		return -ECONNRESET;
	initiator->users++;
	r = ask_and_wait(initiator, pdu, data, length);
	leave(initiator);
	return r;
}

int initiator_nop(struct initiator *initiator, const void *data, uint32_t length)
{
	struct iscsi_request pdu = {.opcode = ISCSI_OP_NOP_OUT, .flags = ISCSI_FINAL_BIT};
	uint32_t echoed = MIN(length, initiator->options.max_recv);
	int r;

	put_be32(pdu.word20, ISCSI_RESERVED_TAG);
	r = ask(initiator, &pdu, data, length);
	if (r < 0)
		return r;
	MUST(initiator->answer.opcode == ISCSI_OP_NOP_IN && initiator->answer_length == echoed,
	     "answer %02x of %u bytes to a ping", initiator->answer.opcode,
	     initiator->answer_length);
	MUST(echoed == 0 || memcmp(initiator->answer_data, data, echoed) == 0, "another echo");
	return 0;
}

int initiator_tmf(struct initiator *initiator, enum iscsi_tmf function, uint16_t lun,
		  uint32_t referenced_itt, uint8_t *ret_response)
{
	struct iscsi_request pdu = {.opcode = ISCSI_OP_TASK_MANAGEMENT | ISCSI_IMMEDIATE_BIT,
				    .flags = (uint8_t)(ISCSI_FINAL_BIT | function)};
	int r;

	iscsi_pdu_put_lun(pdu.lun, lun);
	put_be32(pdu.word20, referenced_itt);
	r = ask(initiator, &pdu, NULL, 0);
	if (r == 0)
		*ret_response = initiator->answer.specific[0];
	return r;
}

static int append(char **text, size_t length, const struct initiator *initiator)
{
	char *longer = realloc(*text, length + initiator->answer_length + 1);

	if (!longer)
		return -ENOMEM;
	if (initiator->answer_length > 0)
		memcpy(longer + length, initiator->answer_data, initiator->answer_length);
	*text = longer;
	return 0;
}

int initiator_discover(struct initiator *initiator, const char *value, char **ret_text,
		       size_t *ret_length)
{
	uint32_t ttt = ISCSI_RESERVED_TAG, length;
	char request[256], *text = NULL;
	size_t total = 0;
	int r;

	snprintf(request, sizeof(request), "SendTargets=%s", value);
	length = (uint32_t)strlen(request) + 1;
	do {
		struct iscsi_request pdu = {.opcode = ISCSI_OP_TEXT, .flags = ISCSI_FINAL_BIT};

		put_be32(pdu.word20, ttt);
		r = ask(initiator, &pdu, request, length);
		if (r < 0)
			break;
		if (initiator->answer.opcode == ISCSI_OP_REJECT)
			r = -EPROTO;
		else
			MUST(initiator->answer.opcode == ISCSI_OP_TEXT_RESPONSE, "no text");
		if (r < 0)
			break;
		r = append(&text, total, initiator);
		if (r < 0)
			break;
		total += initiator->answer_length;
		ttt = get_be32(initiator->answer.ttt);
		length = 0;
	} while (!(initiator->answer.flags & ISCSI_FINAL_BIT));
	if (r < 0) {
		free(text);
		return r;
	}
	*ret_text = text;
	*ret_length = total;
	return 0;
}

int initiator_logout(struct initiator *initiator)
{
	struct iscsi_request pdu = {.opcode = ISCSI_OP_LOGOUT | ISCSI_IMMEDIATE_BIT,
				    .flags = ISCSI_FINAL_BIT | ISCSI_LOGOUT_SESSION};
	int r = ask(initiator, &pdu, NULL, 0);

	if (r < 0)
		return r;
	MUST(initiator->answer.opcode == ISCSI_OP_LOGOUT_RESPONSE &&
		     initiator->answer.specific[0] == ISCSI_LOGOUT_CLOSED,
	     "the logout was not taken");
	return 0;
}
