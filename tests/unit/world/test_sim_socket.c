/* SPDX-License-Identifier: Apache-2.0 */
#include "sim_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

#define STREAM_BYTES 300000

static struct sockaddr_in loopback(uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return address;
}

static int listen_on(struct fixture *f, uint16_t port, int backlog, struct world_socket **ret)
{
	struct sockaddr_in address = loopback(port);

	return f->world->ops->socket_listen(f->port, (struct sockaddr *)&address, sizeof(address),
					    backlog, ret);
}

static int connect_to(struct fixture *f, uint16_t port, struct world_socket **ret)
{
	struct sockaddr_in address = loopback(port);
	struct fixture_op op;

	f->world->ops->socket_connect(f->port, (struct sockaddr *)&address, sizeof(address), ret,
				      fixture_op(&op));
	return (int)fixture_wait(f, &op);
}

static int accept_one(struct fixture *f, struct world_socket *listener, struct world_socket **ret)
{
	struct fixture_op op;

	f->world->ops->socket_accept(f->port, listener, ret, fixture_op(&op));
	return (int)fixture_wait(f, &op);
}

static int64_t receive(struct fixture *f, struct world_socket *socket, void *data, size_t length)
{
	struct iovec iov = {data, length};
	struct fixture_op op;

	f->world->ops->socket_receive(f->port, socket, &iov, 1, fixture_op(&op));
	return fixture_wait(f, &op);
}

static int64_t send_some(struct fixture *f, struct world_socket *socket, const void *data,
			 size_t length)
{
	struct iovec iov = {(void *)data, length};
	struct fixture_op op;

	f->world->ops->socket_send(f->port, socket, &iov, 1, fixture_op(&op));
	return fixture_wait(f, &op);
}

struct pair {
	struct fixture f;
	struct world_socket *listener, *client, *server;
};

static void pair_start(struct pair *p, uint64_t seed)
{
	fixture_start(&p->f, seed, MIB);
	assert_int_equal(listen_on(&p->f, 3260, 4, &p->listener), 0);
	assert_int_equal(connect_to(&p->f, 3260, &p->client), 0);
	assert_int_equal(accept_one(&p->f, p->listener, &p->server), 0);
}

static void pair_stop(struct pair *p)
{
	if (p->client)
		p->f.world->ops->socket_close(p->client);
	if (p->server)
		p->f.world->ops->socket_close(p->server);
	p->f.world->ops->socket_close(p->listener);
	fixture_stop(&p->f);
}

struct stream { /* moves all of its data through one end, piece by piece */
	struct world_op op;
	struct fixture *f;
	struct world_socket *socket;
	struct iovec iov;
	bool sends;
	unsigned short_pieces;
	int64_t error;
};

static void stream_step(struct stream *s)
{
	if (s->sends)
		s->f->world->ops->socket_send(s->f->port, s->socket, &s->iov, 1, &s->op);
	else
		s->f->world->ops->socket_receive(s->f->port, s->socket, &s->iov, 1, &s->op);
}

static void stream_done(struct world_op *op, int64_t result)
{
	struct stream *s = CONTAINER_OF(op, struct stream, op);

	if (result <= 0) {
		s->error = result;
		return;
	}
	s->short_pieces += (size_t)result < s->iov.iov_len;
	s->iov.iov_base = (uint8_t *)s->iov.iov_base + result;
	s->iov.iov_len -= (size_t)result;
	if (s->iov.iov_len > 0)
		stream_step(s);
}

static void stream_start(struct stream *s, struct fixture *f, struct world_socket *socket,
			 uint8_t *data, bool sends)
{
	*s = (struct stream){.f = f, .socket = socket, .sends = sends};
	s->iov = (struct iovec){data, STREAM_BYTES};
	s->op.done = stream_done;
	stream_step(s);
}

static void bytes_arrive_in_order(void **state)
{
	static uint8_t out[2][STREAM_BYTES], in[2][STREAM_BYTES];

	(void)state;
	for (uint64_t seed = 0; seed < 20; seed++) {
		struct stream streams[4];
		struct pair p;

		pair_start(&p, seed);
		for (size_t i = 0; i < STREAM_BYTES; i++) {
			out[0][i] = (uint8_t)sim_random(p.f.sim);
			out[1][i] = (uint8_t)sim_random(p.f.sim);
		}
		memset(in, 0, sizeof(in));
		stream_start(&streams[0], &p.f, p.client, out[0], true);
		stream_start(&streams[1], &p.f, p.server, in[0], false);
		stream_start(&streams[2], &p.f, p.server, out[1], true);
		stream_start(&streams[3], &p.f, p.client, in[1], false);
		fixture_settle(&p.f);
		assert_memory_equal(out, in, sizeof(in));
		assert_true(streams[0].short_pieces > 0 && streams[1].short_pieces > 0);
		pair_stop(&p);
	}
}

static void addresses(void **state)
{
	struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/run/s"};
	struct sockaddr_in6 any = {.sin6_family = AF_INET6};
	struct world_socket *six = NULL, *unix_socket = NULL, *other = NULL;
	struct sockaddr_storage address, peer;
	struct fixture_op op;
	socklen_t length;
	struct pair p;

	(void)state;
	pair_start(&p, 1);
	assert_int_equal(listen_on(&p.f, 3260, 4, &other), -EADDRINUSE);
	assert_int_equal(connect_to(&p.f, 3261, &other), -ECONNREFUSED);
	assert_int_equal(p.f.world->ops->socket_address(p.server, true, &peer, &length), 0);
	assert_int_equal(p.f.world->ops->socket_address(p.client, false, &address, &length), 0);
	assert_memory_equal(&peer, &address, length);
	assert_int_equal(p.f.world->ops->socket_address(p.listener, true, &peer, &length),
			 -ENOTCONN);
	assert_int_equal(p.f.world->ops->socket_listen(p.f.port, (struct sockaddr *)&any,
						       sizeof(any), 1, &six),
			 0);
	assert_int_equal(p.f.world->ops->socket_address(six, false, &address, &length), 0);
	assert_int_not_equal(((struct sockaddr_in6 *)&address)->sin6_port, 0);
	p.f.world->ops->socket_connect(p.f.port, (struct sockaddr *)&address, length, &other,
				       fixture_op(&op));
	assert_int_equal(fixture_wait(&p.f, &op), 0);
	p.f.world->ops->socket_close(other);
	p.f.world->ops->socket_close(six);
	assert_int_equal(p.f.world->ops->socket_listen(p.f.port, (struct sockaddr *)&local,
						       sizeof(local), 1, &unix_socket),
			 0);
	p.f.world->ops->socket_connect(p.f.port, (struct sockaddr *)&local, sizeof(local), &other,
				       fixture_op(&op));
	assert_int_equal(fixture_wait(&p.f, &op), 0);
	/* A listener that closes ends the connections that nobody accepted. */
	p.f.world->ops->socket_close(unix_socket);
	assert_int_equal(receive(&p.f, other, &address, sizeof(address)), 0);
	p.f.world->ops->socket_close(other);
	local.sun_family = AF_NETLINK;
	assert_int_equal(p.f.world->ops->socket_listen(p.f.port, (struct sockaddr *)&local,
						       sizeof(local), 1, &unix_socket),
			 -EAFNOSUPPORT);
	assert_int_equal(p.f.world->ops->socket_listen(p.f.port, (struct sockaddr *)&any, 4, 1,
						       &unix_socket),
			 -EINVAL);
	pair_stop(&p);
}

static void ends_of_connections(void **state)
{
	char text[10];
	struct pair p;

	(void)state;
	pair_start(&p, 3);
	while (send_some(&p.f, p.client, "hello", 5) != 5)
		;
	p.f.world->ops->socket_shutdown(p.client);
	p.f.world->ops->socket_shutdown(p.client);
	assert_int_equal(send_some(&p.f, p.client, "x", 1), -EPIPE);
	while (receive(&p.f, p.server, text, sizeof(text)) > 0)
		;
	assert_int_equal(receive(&p.f, p.server, text, sizeof(text)), 0);
	assert_int_equal(send_some(&p.f, p.server, "x", 1), -EPIPE);
	assert_int_equal(receive(&p.f, p.client, text, sizeof(text)), 0);
	pair_stop(&p);

	/* Closing without having read everything resets. */
	pair_start(&p, 4);
	assert_int_equal(send_some(&p.f, p.client, "x", 1), 1);
	p.f.world->ops->socket_close(TAKE_PTR(p.server));
	assert_int_equal(receive(&p.f, p.client, text, sizeof(text)), -ECONNRESET);
	assert_int_equal(send_some(&p.f, p.client, "x", 1), -ECONNRESET);
	pair_stop(&p);
}

static void pending_operations_end(void **state)
{
	struct world_socket *other = NULL;
	struct fixture_op accept, receive_op;
	char text[10];
	struct iovec iov = {text, sizeof(text)};
	struct pair p;

	(void)state;
	pair_start(&p, 5);
	p.f.world->ops->socket_accept(p.f.port, p.listener, &other, fixture_op(&accept));
	p.f.world->ops->socket_receive(p.f.port, p.client, &iov, 1, fixture_op(&receive_op));
	fixture_settle(&p.f);
	assert_false(accept.done || receive_op.done);
	p.f.world->ops->cancel(p.f.port, &accept.op);
	p.f.world->ops->cancel(p.f.port, &receive_op.op);
	assert_int_equal(fixture_wait(&p.f, &accept), -ECANCELED);
	assert_int_equal(fixture_wait(&p.f, &receive_op), -ECANCELED);
	p.f.world->ops->cancel(p.f.port, &receive_op.op);

	p.f.world->ops->socket_accept(p.f.port, p.listener, &other, fixture_op(&accept));
	p.f.world->ops->socket_receive(p.f.port, p.client, &iov, 1, fixture_op(&receive_op));
	fixture_settle(&p.f);
	p.f.world->ops->socket_shutdown(p.listener);
	p.f.world->ops->socket_shutdown(p.client);
	assert_int_equal(fixture_wait(&p.f, &accept), -EINVAL);
	assert_int_equal(fixture_wait(&p.f, &receive_op), 0);
	pair_stop(&p);
}

static void full_backlog_delays_connections(void **state)
{
	struct sockaddr_in address = loopback(3260);
	struct world_socket *listener = NULL, *first = NULL, *second = NULL, *accepted[2];
	struct fixture_op op;
	struct fixture f;

	(void)state;
	fixture_start(&f, 1, MIB);
	assert_int_equal(listen_on(&f, 3260, 1, &listener), 0);
	assert_int_equal(connect_to(&f, 3260, &first), 0);
	f.world->ops->socket_connect(f.port, (struct sockaddr *)&address, sizeof(address), &second,
				     fixture_op(&op));
	fixture_settle(&f);
	assert_false(op.done);
	assert_int_equal(accept_one(&f, listener, &accepted[0]), 0);
	assert_int_equal(fixture_wait(&f, &op), 0);
	assert_int_equal(accept_one(&f, listener, &accepted[1]), 0);
	/* One more that waits when the listener goes away. */
	f.world->ops->socket_close(accepted[1]);
	f.world->ops->socket_close(second);
	assert_int_equal(connect_to(&f, 3260, &second), 0);
	f.world->ops->socket_connect(f.port, (struct sockaddr *)&address, sizeof(address),
				     &accepted[1], fixture_op(&op));
	fixture_settle(&f);
	f.world->ops->socket_close(listener);
	assert_int_equal(fixture_wait(&f, &op), -ECONNREFUSED);
	f.world->ops->socket_close(accepted[0]);
	f.world->ops->socket_close(first);
	f.world->ops->socket_close(second);
	fixture_stop(&f);
}

static void network_faults(void **state)
{
	const struct sim_network_faults faults = {
		.drop_ppm = 200000, .slow_ppm = 100000, .slow_ns = NSEC_PER_SEC};
	unsigned resets = 0, refused = 0;

	(void)state;
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct world_socket *other = NULL;
		struct pair p;
		int64_t r;

		pair_start(&p, seed);
		sim_network_set_faults(p.f.sim, &faults);
		if (connect_to(&p.f, 3260, &other) < 0)
			refused++;
		else
			p.f.world->ops->socket_close(other);
		for (unsigned i = 0; i < 5; i++) {
			r = send_some(&p.f, p.client, "x", 1);
			assert_true(r == 1 || r == -ECONNRESET);
			if (r < 0)
				break;
		}
		resets += r < 0;
		pair_stop(&p);
	}
	assert_true(resets > 10 && refused > 2);
}

static void crash_ends_everything(void **state)
{
	struct world_socket *other = NULL;
	struct fixture_op accept, receive_op;
	char text[10];
	struct iovec iov = {text, sizeof(text)};
	struct pair p;

	(void)state;
	pair_start(&p, 6);
	p.f.world->ops->socket_accept(p.f.port, p.listener, &other, fixture_op(&accept));
	p.f.world->ops->socket_receive(p.f.port, p.client, &iov, 1, fixture_op(&receive_op));
	fixture_settle(&p.f);
	sim_crash(p.f.sim, SIM_CRASH_PROCESS);
	assert_int_equal(fixture_wait(&p.f, &accept), -ESHUTDOWN);
	assert_int_equal(fixture_wait(&p.f, &receive_op), -ESHUTDOWN);
	assert_int_equal(listen_on(&p.f, 1, 1, &other), -ESHUTDOWN);
	assert_int_equal(send_some(&p.f, p.client, "x", 1), -ESHUTDOWN);
	p.f.world->ops->socket_shutdown(p.server);
	p.f.world->ops->socket_close(p.server);
	/* The others are closed by the restart. */
	fixture_crash(&p.f, SIM_CRASH_PROCESS);
	assert_int_equal(connect_to(&p.f, 3260, &other), -ECONNREFUSED);
	fixture_stop(&p.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_arrive_in_order),
		cmocka_unit_test(addresses),
		cmocka_unit_test(ends_of_connections),
		cmocka_unit_test(pending_operations_end),
		cmocka_unit_test(full_backlog_delays_connections),
		cmocka_unit_test(network_faults),
		cmocka_unit_test(crash_ends_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
