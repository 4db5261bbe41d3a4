/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every allocation of the real world fails once: the operation says -ENOMEM, leaves its outputs
 * alone, and no descriptor stays open (what stays allocated, the leak checker finds).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "fail_alloc.h"
#include "real_fixture.h"

static unsigned open_descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* Calls attempt() with the first, second, ... allocation failing, until it succeeds. Returns how
 * many allocations there were. */
static unsigned sweep(struct real_fixture *f, int64_t (*attempt)(struct real_fixture *f))
{
	unsigned descriptors = open_descriptors();

	for (unsigned n = 1;; n++) {
		int64_t result;

		fail_alloc_nth(n);
		result = attempt(f);
		if (!fail_alloc_disarm()) {
			assert_int_equal(result, 0);
			return n - 1;
		}
		assert_int_equal(result, -ENOMEM);
		assert_int_equal(open_descriptors(), descriptors);
	}
}

static int64_t start_and_stop(struct real_fixture *f)
{
	const struct world_real_options options = {.workers = 2, .fence_fd = -1};
	struct world *world = NULL;
	struct world_port *port = NULL;
	int error = world_real_new(&options, &world);

	if (error) {
		assert_null(world);
		return error;
	}
	error = world->ops->port_open(world, 0, NULL, NULL, &port);
	if (error)
		assert_null(port);
	else
		world->ops->port_close(port);
	world_real_free(world);
	return error;
}

static void starting(void **state)
{
	assert_int_equal(sweep(NULL, start_and_stop), 4);
}

static int64_t open_and_close(struct real_fixture *f)
{
	struct world_file *file = NULL;
	int64_t error = real_open(f, "a", WORLD_FILE_CREATE, &file);

	if (error) {
		assert_null(file);
		return error;
	}
	return real_close(f, file);
}

static void opening(void **state)
{
	assert_int_equal(sweep(*state, open_and_close), 1);
}

static int64_t list(struct real_fixture *f)
{
	struct world_names names = {.count = 77};
	struct waited_op op;
	int64_t error;

	f->ops->directory_list(f->port, f->directory, &names, waited_init(&op));
	error = waited_finish(f->port, f->world, &op);
	assert_int_equal(names.count, error ? 77 : 20);
	if (!error)
		world_names_free(&names);
	return error;
}

static void listing(void **state)
{
	struct real_fixture *f = *state;
	struct world_file *file;
	char name[8];

	for (unsigned i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(real_open(f, name, WORLD_FILE_CREATE, &file), 0);
		assert_int_equal(real_close(f, file), 0);
	}
	assert_int_equal(sweep(f, list), 22); /* the names, and the array of 16 and of 32 */
}

static struct sockaddr_un socket_address(struct real_fixture *f)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", f->directory);
	return address;
}

static struct world_socket *listener;

static int64_t listen_once(struct real_fixture *f)
{
	struct sockaddr_un address = socket_address(f);

	return f->ops->socket_listen(f->port, (struct sockaddr *)&address, sizeof(address), 16,
				     &listener);
}

static int64_t connect_and_accept(struct real_fixture *f)
{
	struct sockaddr_un address = socket_address(f);
	struct world_socket *client = NULL, *server = NULL;
	struct waited_op connecting, accepting;
	int64_t error;

	f->ops->socket_accept(f->port, listener, &server, waited_init(&accepting));
	f->ops->socket_connect(f->port, (struct sockaddr *)&address, sizeof(address), &client,
			       waited_init(&connecting));
	error = waited_finish(f->port, f->world, &connecting);
	if (error) {
		assert_null(client);
		f->ops->cancel(f->port, &accepting.op);
		assert_int_equal(waited_finish(f->port, f->world, &accepting), -ECANCELED);
		return error;
	}
	error = waited_finish(f->port, f->world, &accepting);
	f->ops->socket_close(client);
	if (error) { /* the connection is left in the backlog */
		assert_null(server);
		f->ops->socket_accept(f->port, listener, &server, waited_init(&accepting));
		assert_int_equal(waited_finish(f->port, f->world, &accepting), 0);
	}
	f->ops->socket_close(server);
	return error;
}

static void connecting(void **state)
{
	struct real_fixture *f = *state;

	assert_int_equal(sweep(f, listen_once), 1);
	assert_int_equal(sweep(f, connect_and_accept), 2);
	f->ops->socket_close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starting),
		cmocka_unit_test_setup_teardown(opening, real_setup, real_teardown),
		cmocka_unit_test_setup_teardown(listing, real_setup, real_teardown),
		cmocka_unit_test_setup_teardown(connecting, real_setup, real_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
