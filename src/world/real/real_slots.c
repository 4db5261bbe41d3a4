/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registered files. A file has one slot number, the same in every ring; a port registers the file
 * there when it first uses it. When a file is closed its entry must leave every table, because a
 * registered file stays open (and an unlinked one keeps its space); only a ring's own thread can do
 * that, so the file travels as a message from port to port and the last one frees it. The close
 * does not wait for this.
 *
 * Invariants
 *  1. Bit i of file->registered is set exactly while ports[i]->slots[file->slot] == file.
 *  2. A slot is reused only after no port has it registered.
 *  3. ports_lock is held while a port is chosen and posted to, so that it cannot be closed
 *     meanwhile.
 *
 * A file without a slot (table full, port index too high, registration failed) is used by its
 * descriptor, which is only slower.
 */
#include "world/real/real_priv.h"

int real_slots_acquire(struct world_real *real)
{
	for (unsigned word = 0; word < DIV_ROUND_UP(real->slot_count, 64u); word++) {
		uint64_t used = atomic_load(&real->slots[word]);

		while (used != UINT64_MAX) {
			unsigned bit = (unsigned)__builtin_ctzll(~used);

			if (word * 64 + bit >= real->slot_count)
				return -1;
			if (atomic_compare_exchange_weak(&real->slots[word], &used,
							 used | UINT64_C(1) << bit))
				return (int)(word * 64 + bit);
		}
	}
	return -1;
}

static void free_file(struct world_file *file)
{
	struct world_real *real = file->real;

	if (file->slot >= 0)
		atomic_fetch_and(&real->slots[file->slot / 64],
				 ~(UINT64_C(1) << (file->slot % 64)));
	free(file);
}

static bool register_file(struct world_port *port, struct world_file *file)
{
	int fd = file->fd;

	if (!port->enabled || !port->slots)
		return false;
	if (io_uring_register_files_update(&port->ring, (unsigned)file->slot, &fd, 1) != 1)
		return false;
	port->slots[file->slot] = file;
	atomic_fetch_or(&file->registered, UINT64_C(1) << port->index);
	return true;
}

bool real_slots_use(struct world_port *port, struct world_file *file)
{
	uint64_t bit = UINT64_C(1) << port->index;

	if (LIKELY(atomic_load_explicit(&file->registered, memory_order_relaxed) & bit))
		return true;
	return file->slot >= 0 && register_file(port, file);
}

void real_slots_forget(struct world_port *port, struct world_file *file)
{
	uint64_t bit = UINT64_C(1) << port->index;
	int none = -1, count;

	if (!(atomic_load(&file->registered) & bit))
		return;
	ASSERT(port->slots[file->slot] == file);
	/* The errors left are those of a wrong call; small kernel allocations do not fail. */
	count = io_uring_register_files_update(&port->ring, (unsigned)file->slot, &none, 1);
	ASSERT(count == 1);
	port->slots[file->slot] = NULL;
	atomic_fetch_and(&file->registered, ~bit);
}

/* Posts the file to the next port that knows it; false when there is none. */
static bool send_on(struct world_file *file)
{
	struct world_real *real = file->real;
	uint64_t registered;
	bool sent = false;

	pthread_mutex_lock(&real->ports_lock);
	registered = atomic_load(&file->registered);
	if (registered) {
		real_mail_post(NULL, real->ports[__builtin_ctzll(registered)], &file->forget);
		sent = true;
	}
	pthread_mutex_unlock(&real->ports_lock);
	return sent;
}

static void forget_here(struct world_message *message)
{
	struct world_file *file = CONTAINER_OF(message, struct world_file, forget);
	uint64_t registered = atomic_load(&file->registered);

	/* The lowest bit is this port's, unless the port was closed with the message in its box. */
	real_slots_forget(file->real->ports[__builtin_ctzll(registered)], file);
	real_slots_release(file);
}

void real_slots_release(struct world_file *file)
{
	file->forget.run = forget_here;
	if (!send_on(file))
		free_file(file);
}

void real_slots_port_gone(struct world_port *port)
{
	struct world_real *real = port->real;
	struct world_message *message, *next;

	pthread_mutex_lock(&real->ports_lock);
	real->ports[port->index] = NULL;
	for (unsigned slot = 0; port->slots && slot < real->slot_count; slot++)
		if (port->slots[slot])
			atomic_fetch_and(&port->slots[slot]->registered,
					 ~(UINT64_C(1) << port->index));
	pthread_mutex_unlock(&real->ports_lock);
	for (message = real_mail_take(port); message; message = next) {
		next = message->next;
		if (message->run == forget_here)
			real_slots_release(CONTAINER_OF(message, struct world_file, forget));
	}
}
