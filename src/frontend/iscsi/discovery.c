/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text requests of the full-feature phase (RFC 7143 11.10, 11.11 and appendix C): SendTargets, and
 * the few keys that may be sent again. An answer longer than one PDU goes out in parts that the
 * initiator fetches with empty requests.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/iscsi/server_priv.h"
#include "frontend/iscsi/task.h"

#define ANSWER_BASE  1024 /* for everything but the targets */
#define TARGET_BYTES 128  /* its two keys without the name */
#define PART_BYTES   8192u
#define PORTAL_GROUP ",1"

void iscsi_discovery_done(struct iscsi_discovery *discovery)
{
	free(discovery->request);
	free(discovery->answer);
	*discovery = (struct iscsi_discovery){.ttt = discovery->ttt};
}

static void put_target(const struct iscsi_connection *connection, const char *name,
		       struct iscsi_text_writer *writer)
{
	char address[sizeof(connection->local) + sizeof(PORTAL_GROUP)];

	snprintf(address, sizeof(address), "%s" PORTAL_GROUP, connection->local);
	iscsi_text_put(writer, "TargetName", name);
	iscsi_text_put(writer, "TargetAddress", address);
}

/*
 * Appendix C: nothing, or its name, tells of a normal session's own target. Of others it is told
 * only in discovery sessions, which are where the server's list of targets is, and "All" is for
 * those alone. What is neither that nor a name is refused.
 */
static void send_targets(struct iscsi_connection *connection, const struct iscsi_text_pair *pair,
			 struct iscsi_text_writer *writer)
{
	const struct iscsi_target *own = connection->session->target;
	bool all = strcmp(pair->value, "All") == 0;
	const struct iscsi_place *place;
	char name[ISCSI_NAME_MAX + 1] = "";

	if (!(own ? pair->value_length == 0 : all) && !iscsi_text_take_name(pair, name)) {
		iscsi_text_put(writer, "SendTargets", "Reject");
		return;
	}
	if (own) {
		if (*name == '\0' || strcmp(name, own->scsi.name) == 0)
			put_target(connection, own->scsi.name, writer);
		return;
	}
	LIST_FOR_EACH (&connection->shard->server->places, place, const struct iscsi_place, link) {
		if ((all || strcmp(place->name, name) == 0) && !place->leaving &&
		    iscsi_guard_admits(&place->guard, connection->session->initiator))
			put_target(connection, place->name, writer);
	}
}

static int take_pair(struct iscsi_connection *connection, const struct iscsi_text_pair *pair,
		     struct iscsi_text_writer *writer)
{
	struct iscsi_params *params = &connection->session->params;
	int r;

	if (strcmp(pair->key, "SendTargets") == 0) {
		send_targets(connection, pair, writer);
		return 0;
	}
	params->max_send = connection->max_send;
	r = iscsi_params_negotiate(params, ISCSI_PARAMS_FULL_FEATURE, pair, writer);
	if (r == -ENOENT)
		iscsi_text_put(writer, pair->key, "NotUnderstood");
	connection->max_send = params->max_send;
	return 0;
}

static size_t answer_size(const struct iscsi_connection *connection)
{
	size_t size = ANSWER_BASE + ISCSI_NAME_MAX + TARGET_BYTES;
	const struct iscsi_place *place;

	if (connection->session->target)
		return size;
	LIST_FOR_EACH (&connection->shard->server->places, place, const struct iscsi_place, link)
		size += strlen(place->name) + TARGET_BYTES;
	return size;
}

/* 0, or the reason of a Reject. */
static uint8_t make_answer(struct iscsi_connection *connection)
{
	struct iscsi_discovery *discovery = &connection->discovery;
	struct iscsi_text_reader reader;
	struct iscsi_text_writer writer;
	struct iscsi_text_pair pair;
	size_t size = answer_size(connection);
	int r;

	discovery->answer = malloc(size);
	if (!discovery->answer)
		return ISCSI_REJECT_RESOURCES;
	iscsi_text_writer_init(&writer, discovery->answer, size);
	iscsi_text_reader_init(&reader, discovery->request, discovery->request_length);
	while ((r = iscsi_text_next(&reader, &pair)) > 0)
		(void)take_pair(connection, &pair, &writer);
	if (r < 0 || writer.overflowed)
		return ISCSI_REJECT_PROTOCOL;
	discovery->answer_length = writer.length;
	discovery->answer_at = 0;
	discovery->ttt++;
	return 0;
}

static uint8_t collect(struct iscsi_discovery *discovery, const void *data, size_t length)
{
	char *request;

	if (length > ISCSI_TEXT_MAX - discovery->request_length)
		return ISCSI_REJECT_PROTOCOL;
	if (length == 0)
		return 0;
	request = realloc(discovery->request, discovery->request_length + length);
	if (!request)
		return ISCSI_REJECT_RESOURCES;
	memcpy(request + discovery->request_length, data, length);
	discovery->request = request;
	discovery->request_length += length;
	return 0;
}

/* Takes the request into the connection's negotiation. 0, or the reason of a Reject. */
static uint8_t take_request(struct iscsi_task *task)
{
	const struct iscsi_text *text = (const void *)&task->bhs;
	struct iscsi_connection *connection = task->connection;
	struct iscsi_discovery *discovery = &connection->discovery;
	uint32_t ttt = get_be32(text->ttt);
	uint8_t reason;

	if (ttt == ISCSI_RESERVED_TAG)
		iscsi_discovery_done(discovery); /* a new one ends what went before */
	else if (ttt != discovery->ttt)
		return ISCSI_REJECT_INVALID_FIELD;
	if (discovery->answer) /* fetches another part */
		return iscsi_pdu_data_length(&task->bhs) == 0 ? 0 : ISCSI_REJECT_PROTOCOL;
	reason = collect(discovery, task->buffer, iscsi_pdu_data_length(&task->bhs));
	if (reason || (text->flags & ISCSI_TEXT_CONTINUE))
		return reason;
	return make_answer(connection);
}

/* The part stands in the task's buffer. */
static enum iscsi_out_fill fill_text(struct iscsi_out *out, struct iscsi_pdu_out *pdu)
{
	struct iscsi_task *task = CONTAINER_OF(out, struct iscsi_task, out);
	struct iscsi_response *response = (void *)pdu->header;

	if (task->aborted)
		return ISCSI_OUT_NONE;
	iscsi_task_mark_answered(task);
	response->opcode = ISCSI_OP_TEXT_RESPONSE;
	response->flags = task->response;
	put_be32(response->itt, task->itt);
	put_be32(response->ttt, task->response & ISCSI_FINAL_BIT ? ISCSI_RESERVED_TAG
								 : task->connection->discovery.ttt);
	iscsi_connection_stamp(task->connection, pdu->header, true);
	pdu->data = task->buffer;
	pdu->length = task->step_length;
	return ISCSI_OUT_LAST;
}

/* Copies the next part, so that the negotiation may end before it was sent. */
static bool take_part(struct iscsi_task *task)
{
	struct iscsi_discovery *discovery = &task->connection->discovery;
	size_t left = discovery->answer_length - discovery->answer_at;
	uint32_t n = MIN(PART_BYTES, task->connection->max_send);

	n = (uint32_t)MIN((size_t)n, left);
	if (task->buffer)
		iscsi_session_free(task->session, task->buffer, task->buffer_size);
	task->buffer = NULL;
	if (n > 0) {
		task->buffer = iscsi_session_alloc(task->session, n, n, &task->buffer_size);
		if (!task->buffer)
			return false;
		memcpy(task->buffer, discovery->answer + discovery->answer_at, n);
	}
	discovery->answer_at += n;
	task->step_length = n;
	return true;
}

void iscsi_discovery_deliver(struct iscsi_task *task)
{
	struct iscsi_discovery *discovery = &task->connection->discovery;
	uint8_t flags = ((const struct iscsi_text *)&task->bhs)->flags;

	task->reject = take_request(task);
	if (!task->reject && !take_part(task))
		task->reject = ISCSI_REJECT_RESOURCES;
	if (task->reject) {
		iscsi_discovery_done(discovery);
		iscsi_request_deliver(task);
		return;
	}
	/* 11.11.1: final when all was said and the initiator has nothing more to say. */
	task->response = 0;
	if (discovery->answer && discovery->answer_at < discovery->answer_length) {
		task->response = ISCSI_TEXT_CONTINUE;
	} else if (discovery->answer) {
		task->response = flags & ISCSI_FINAL_BIT;
		iscsi_discovery_done(discovery);
	}
	iscsi_request_answer(task, fill_text);
}
