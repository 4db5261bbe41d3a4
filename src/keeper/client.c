/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtual machine's messages (vfu/message.h). One client at a time; all it sends is checked.
 * What cannot be understood as a message at all ends the connection; what can but is wrong is
 * answered with an error.
 */
#include "keeper/keeper_priv.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/macros.h"

/* Capabilities; with the header at most 214 bytes, or QEMU refuses the answer. */
#define ANSWER                                                                                     \
	"{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":4096,\"max_dma_maps\":1024," \
	"\"pgsizes\":4096"
#define ANSWER_END   "}}"
#define ANSWER_MULTI ",\"write_multiple\":true}}"

/* --- answers --- */

static void client_send(struct keeper *keeper, const struct iovec *iov, int iov_count, int fd)
{
	int r;

	if (keeper->client_fd < 0)
		return;
	r = vfu_send(keeper->client_fd, iov, iov_count, &fd, fd >= 0);
	if (r == -EAGAIN) {
		log_warning("keeper", "the client does not read", "error=%d", r);
		shutdown(keeper->client_fd, SHUT_RDWR); /* seen as a hang-up in the loop */
	}
}

static void client_answer(struct keeper *keeper, const struct vfu_header *header, uint32_t flags,
			  int error, const struct iovec *parts)
{
	struct vfu_header answer = {
		.id = header->id,
		.command = header->command,
		.size = (uint32_t)(sizeof(answer) + parts[0].iov_len + parts[1].iov_len),
		.flags = VFU_TYPE_REPLY | flags,
		.error = (uint32_t)error};
	struct iovec iov[3] = {{&answer, sizeof(answer)}, parts[0], parts[1]};

	if (!(header->flags & VFU_NO_REPLY))
		client_send(keeper, iov, 3, -1);
}

void client_reply(struct keeper *keeper, const struct vfu_header *header, const void *body,
		  size_t body_bytes, const void *data, size_t data_bytes)
{
	struct iovec parts[2] = {{(void *)body, body_bytes}, {(void *)data, data_bytes}};

	client_answer(keeper, header, 0, 0, parts);
}

void client_reply_fd(struct keeper *keeper, const struct vfu_header *header, const void *body,
		     size_t body_bytes, int fd)
{
	struct vfu_header answer = {.id = header->id,
				    .command = header->command,
				    .size = (uint32_t)(sizeof(answer) + body_bytes),
				    .flags = VFU_TYPE_REPLY};
	struct iovec iov[2] = {{&answer, sizeof(answer)}, {(void *)body, body_bytes}};

	client_send(keeper, iov, 2, fd);
}

void client_refuse(struct keeper *keeper, const struct vfu_header *header, int error)
{
	struct iovec none[2] = {{NULL, 0}, {NULL, 0}};

	if (keeper->refusals++ < REFUSALS_LOGGED)
		log_warning("keeper", "a request is refused", "command=%u error=%d",
			    header->command, error);
	client_answer(keeper, header, VFU_ERROR, -error, none);
}

/* --- requests; `body` has `bytes` bytes after the header --- */

/* JSON that is there must at least look like it: an object with an object of capabilities. */
static int check_capabilities(const char *text, size_t bytes)
{
	const char *at;

	if (bytes == 0)
		return 0;
	if (text[bytes - 1] != '\0' || strlen(text) != bytes - 1 || text[0] != '{')
		return -EINVAL;
	at = strstr(text, "\"capabilities\"");
	if (!at)
		return 0;
	at += strlen("\"capabilities\"");
	at += strspn(at, " \t\r\n");
	if (*at++ != ':')
		return -EINVAL;
	return at[strspn(at, " \t\r\n")] == '{' ? 0 : -EINVAL;
}

/* Whether the client may send VFU_REGION_WRITE_MULTI; `text` is checked. */
static bool offers_multi(const char *text, size_t bytes)
{
	const char *at = bytes > 0 ? strstr(text, "\"write_multiple\"") : NULL;

	if (!at)
		return false;
	at += strlen("\"write_multiple\"");
	at += strspn(at, " \t\r\n:");
	return strncmp(at, "true", 4) == 0;
}

static void handle_version(struct keeper *keeper, const struct vfu_header *header, const void *body,
			   size_t bytes)
{
	struct vfu_version version;
	int r = bytes < sizeof(version) || keeper->negotiated ? -EINVAL : 0;

	if (r == 0) {
		memcpy(&version, body, sizeof(version));
		if (version.major != 0)
			r = -EPROTONOSUPPORT;
		else
			r = check_capabilities((const char *)body + sizeof(version),
					       bytes - sizeof(version));
	}
	if (r < 0) {
		client_refuse(keeper, header, r);
		return;
	}
	keeper->negotiated = true;
	version.minor = 0;
	if (offers_multi((const char *)body + sizeof(version), bytes - sizeof(version)))
		client_reply(keeper, header, &version, sizeof(version), ANSWER ANSWER_MULTI,
			     sizeof(ANSWER ANSWER_MULTI));
	else
		client_reply(keeper, header, &version, sizeof(version), ANSWER ANSWER_END,
			     sizeof(ANSWER ANSWER_END));
}

static void handle_map(struct keeper *keeper, const struct vfu_header *header, const void *body,
		       size_t bytes)
{
	struct vfu_receiver *receiver = &keeper->client_receiver;
	struct vfu_dma_map map;
	int r = bytes != sizeof(map) || receiver->fd_count > 1 ? -EINVAL : 0;

	if (r == 0) {
		memcpy(&map, body, sizeof(map));
		r = memory_map(keeper, &map, receiver->fd_count ? receiver->fds[0] : -1);
	}
	if (r < 0) {
		client_refuse(keeper, header, r);
		/* The guest's memory is not shared. QEMU only prints the error of a map and would
		 * start a guest with a disk that cannot work; without a server it does not start.
		 */
		if (r == -EOPNOTSUPP)
			(void)shutdown(keeper->client_fd, SHUT_RDWR);
		return;
	}
	if (receiver->fd_count)
		(void)vfu_receiver_take_fd(receiver, 0); /* the map has it */
	keeper->shared->counters.maps++;
	engine_send_map(keeper, (unsigned)r);
	client_reply(keeper, header, NULL, 0, NULL, 0);
}

static void handle_unmap(struct keeper *keeper, const struct vfu_header *header, const void *body,
			 size_t bytes)
{
	struct vfu_dma_unmap unmap;
	int r = bytes < sizeof(unmap) ? -EINVAL : 0;

	if (r == 0) {
		memcpy(&unmap, body, sizeof(unmap));
		r = unmap.flags != 0 ? -EOPNOTSUPP : memory_find(keeper, unmap.address, unmap.size);
	}
	if (r < 0) {
		client_refuse(keeper, header, r);
		return;
	}
	keeper->shared->counters.unmaps++;
	engine_wait(keeper, KEEPER_WAIT_UNMAP, header, (unsigned)r);
}

static void handle_info(struct keeper *keeper, const struct vfu_header *header, const void *body,
			size_t bytes)
{
	struct vfu_device_info info = {.argsz = sizeof(info),
				       .flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
				       .regions = KEEPER_REGIONS,
				       .irqs = KEEPER_IRQS};

	(void)body;
	if (bytes < sizeof(info))
		client_refuse(keeper, header, -EINVAL);
	else
		client_reply(keeper, header, &info, sizeof(info), NULL, 0);
}

/* BAR0 with the page of doorbells that may be mapped. */
static void reply_mappable(struct keeper *keeper, const struct vfu_header *header,
			   struct vfu_region_info *info, uint32_t room)
{
	struct {
		struct vfu_region_info info;
		struct vfu_region_sparse sparse;
	} answer = {.sparse = {.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP,
			       .version = 1,
			       .area_count = 1,
			       .offset = VFU_PAGE_BYTES,
			       .size = VFU_PAGE_BYTES}};

	info->flags |= VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS;
	info->argsz = sizeof(answer);
	if (room < sizeof(answer)) { /* the client asks again with that much */
		client_reply(keeper, header, info, sizeof(*info), NULL, 0);
		return;
	}
	info->capability_offset = sizeof(*info);
	answer.info = *info;
	client_reply_fd(keeper, header, &answer, sizeof(answer), keeper->doorbells_fd);
}

static void handle_region_info(struct keeper *keeper, const struct vfu_header *header,
			       const void *body, size_t bytes)
{
	struct vfu_region_info info;
	uint32_t room;

	if (bytes < sizeof(info)) {
		client_refuse(keeper, header, -EINVAL);
		return;
	}
	memcpy(&info, body, sizeof(info));
	room = info.argsz;
	if (info.index >= KEEPER_REGIONS || room < sizeof(info)) {
		client_refuse(keeper, header, -EINVAL);
		return;
	}
	info = (struct vfu_region_info){.argsz = sizeof(info), .index = info.index};
	if (info.index == 0 || info.index == KEEPER_CONFIG) {
		info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
		info.size = info.index == 0 ? VFU_BAR0_BYTES : VFU_PAGE_BYTES;
	}
	if (info.index == 0 && keeper->options.doorbells_mapped)
		reply_mappable(keeper, header, &info, room);
	else
		client_reply(keeper, header, &info, sizeof(info), NULL, 0);
}

static void handle_irq_info(struct keeper *keeper, const struct vfu_header *header,
			    const void *body, size_t bytes)
{
	struct vfu_irq_info info;

	if (bytes < sizeof(info)) {
		client_refuse(keeper, header, -EINVAL);
		return;
	}
	memcpy(&info, body, sizeof(info));
	if (info.index >= KEEPER_IRQS) {
		client_refuse(keeper, header, -EINVAL);
		return;
	}
	info.argsz = sizeof(info);
	info.count = info.index == VFU_IRQ_INTX   ? 1
		     : info.index == VFU_IRQ_MSIX ? keeper->vectors
						  : 0;
	info.flags = info.count == 0 ? 0 : VFIO_IRQ_INFO_EVENTFD;
	if (info.index == VFU_IRQ_INTX)
		info.flags |= VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
	if (info.index == VFU_IRQ_MSIX)
		info.flags |= VFIO_IRQ_INFO_NORESIZE;
	client_reply(keeper, header, &info, sizeof(info), NULL, 0);
}

static void handle_set_irqs(struct keeper *keeper, const struct vfu_header *header,
			    const void *body, size_t bytes)
{
	struct vfu_irq_set set;

	if (bytes < sizeof(set)) {
		client_refuse(keeper, header, -EINVAL);
		return;
	}
	memcpy(&set, body, sizeof(set));
	device_set_irqs(keeper, header, &set);
}

static void handle_read(struct keeper *keeper, const struct vfu_header *header, const void *body,
			size_t bytes)
{
	unsigned char data[VFU_MESSAGE_DATA_MAX];
	struct vfu_region_access access;
	int r = bytes != sizeof(access) ? -EINVAL : 0;

	if (r == 0) {
		memcpy(&access, body, sizeof(access));
		r = device_read(keeper, &access, data);
	}
	if (r < 0)
		client_refuse(keeper, header, r);
	else
		client_reply(keeper, header, &access, sizeof(access), data, access.count);
}

static void handle_write(struct keeper *keeper, const struct vfu_header *header, const void *body,
			 size_t bytes)
{
	struct vfu_region_access access;
	int r = bytes < sizeof(access) ? -EINVAL : 0;

	if (r == 0) {
		memcpy(&access, body, sizeof(access));
		r = bytes - sizeof(access) != access.count ? -EINVAL : 0;
	}
	if (r == 0)
		r = device_write(keeper, &access, (const char *)body + sizeof(access));
	if (r < 0) {
		client_refuse(keeper, header, r);
	} else if (r > 0) {
		keeper->wait_access = access;
		engine_wait(keeper, KEEPER_WAIT_FLR, header, 0);
	} else {
		client_reply(keeper, header, &access, sizeof(access), NULL, 0);
	}
}

static int write_entry(struct keeper *keeper, const struct vfu_multi_entry *entry)
{
	struct vfu_region_access access = {
		.offset = entry->offset, .region = entry->region, .count = entry->count};

	if (entry->count > sizeof(entry->data) || entry->region != 0)
		return -EINVAL;
	return device_write(keeper, &access, entry->data);
}

static void handle_write_multi(struct keeper *keeper, const struct vfu_header *header,
			       const void *body, size_t bytes)
{
	struct vfu_write_multi multi;
	struct vfu_multi_entry entry;
	int r = 0;

	if (bytes < sizeof(multi)) {
		client_refuse(keeper, header, -EINVAL);
		return;
	}
	memcpy(&multi, body, sizeof(multi));
	if (multi.count != (bytes - sizeof(multi)) / sizeof(entry))
		r = -EINVAL;
	for (uint64_t i = 0; r == 0 && i < multi.count; i++) {
		memcpy(&entry, (const char *)body + sizeof(multi) + i * sizeof(entry),
		       sizeof(entry));
		r = write_entry(keeper, &entry);
	}
	if (r < 0)
		client_refuse(keeper, header, r);
	else
		client_reply(keeper, header, &multi, sizeof(multi), NULL, 0);
}

static void handle_reset(struct keeper *keeper, const struct vfu_header *header, const void *body,
			 size_t bytes)
{
	(void)body;
	(void)bytes;
	device_reset(keeper);
	engine_wait(keeper, KEEPER_WAIT_RESET, header, 0);
}

typedef void handler(struct keeper *keeper, const struct vfu_header *header, const void *body,
		     size_t bytes);

static handler *find_handler(uint16_t command)
{
	static handler *const handlers[] = {
		[VFU_VERSION] = handle_version,
		[VFU_DMA_MAP] = handle_map,
		[VFU_DMA_UNMAP] = handle_unmap,
		[VFU_DEVICE_GET_INFO] = handle_info,
		[VFU_DEVICE_GET_REGION_INFO] = handle_region_info,
		[VFU_DEVICE_GET_IRQ_INFO] = handle_irq_info,
		[VFU_DEVICE_SET_IRQS] = handle_set_irqs,
		[VFU_REGION_READ] = handle_read,
		[VFU_REGION_WRITE] = handle_write,
		[VFU_DEVICE_RESET] = handle_reset,
		[VFU_REGION_WRITE_MULTI] = handle_write_multi,
	};

	return command < ARRAY_SIZE(handlers) ? handlers[command] : NULL;
}

/* --- the connection --- */

/* Without it the engine is woken by this process alone, as after a keeper of an older build, whose
 * filter of system calls does not allow it. The kernel forgets a socket that is closed. */
void client_watch_early(struct keeper *keeper)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};

	if (keeper->early_fd < 0)
		keeper->early_fd = epoll_create1(EPOLL_CLOEXEC);
	if (keeper->client_fd < 0)
		return;
	if (epoll_ctl(keeper->early_fd, EPOLL_CTL_ADD, keeper->client_fd, &event) < 0 &&
	    errno != EEXIST) /* kept by the one before */
		log_info("keeper", "the engine gets no early word", "errno=%d", errno);
}

void client_accept(struct keeper *keeper)
{
	int fd;

	if (keeper->client_fd < 0 && keeper->wait != KEEPER_WAIT_NOTHING)
		return; /* it waits in the backlog until nothing of the last one is left */
	fd = accept4(keeper->socket_listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return; /* it went away */
	if (keeper->client_fd >= 0) {
		close(fd); /* one at a time */
		return;
	}
	keeper->client_fd = fd;
	client_watch_early(keeper);
	keeper->negotiated = false;
	keeper->refusals = 0;
	keeper->batch_since_ns = 0;
	vfu_store(&keeper->shared->client_connected, 1);
}

static int check_header(const struct keeper *keeper, const struct vfu_header *header)
{
	if (header->size < sizeof(*header) || header->size > VFU_MESSAGE_BYTES_MAX)
		return -EPROTO;
	if ((header->flags & VFU_TYPE_MASK) != VFU_TYPE_COMMAND)
		return -EPROTO;
	return !keeper->negotiated && header->command != VFU_VERSION ? -EPROTO : 0;
}

/* A message that came at `began_ns` is answered. */
static void note_time(struct keeper *keeper, uint64_t began_ns)
{
	uint64_t took_ns = keeper_now_ns() - began_ns;

	if (took_ns > keeper->shared->counters.longest_message_ns)
		vfu_store(&keeper->shared->counters.longest_message_ns, took_ns);
}

static void dispatch(struct keeper *keeper, const struct vfu_header *header)
{
	handler *handle = find_handler(header->command);
	uint64_t began_ns = keeper_now_ns();

	keeper->shared->counters.messages++;
	if (handle)
		handle(keeper, header, keeper->client_message + sizeof(*header),
		       header->size - sizeof(*header));
	else
		client_refuse(keeper, header, -EOPNOTSUPP);
	if (keeper->wait == KEEPER_WAIT_NOTHING)
		note_time(keeper, began_ns);
}

static int read_message(struct keeper *keeper, struct vfu_header *header)
{
	struct vfu_receiver *receiver = &keeper->client_receiver;
	int r = vfu_receive(receiver, keeper->client_fd, keeper->client_message, sizeof(*header));

	if (r <= 0)
		return r;
	memcpy(header, keeper->client_message, sizeof(*header));
	r = check_header(keeper, header);
	return r < 0 ? r
		     : vfu_receive(receiver, keeper->client_fd, keeper->client_message,
				   header->size);
}

void client_readable(struct keeper *keeper)
{
	struct vfu_header header;
	int r = 0;

	/* A few at a time: the engine is heard too. */
	for (int i = 0; i < 16 && keeper->client_fd >= 0 && keeper->wait == KEEPER_WAIT_NOTHING;
	     i++) {
		if (!engine_has_room(keeper)) {
			if (keeper->full_since_ns == 0)
				keeper->full_since_ns = keeper_now_ns();
			return;
		}
		keeper->full_since_ns = 0;
		r = read_message(keeper, &header);
		if (r == 0)
			keeper->batch_since_ns = 0;
		if (r <= 0)
			break;
		dispatch(keeper, &header);
		vfu_receiver_reset(&keeper->client_receiver);
	}
	if (r < 0)
		client_close(keeper);
}

/* What the virtual machine gave goes with it, range by range, once nothing touches it. */
void client_tidy(struct keeper *keeper)
{
	const struct vfu_header nobody = {.flags = VFU_NO_REPLY};

	if (keeper->client_fd >= 0)
		return;
	for (unsigned i = 0; i < VFU_MAP_COUNT && keeper->wait == KEEPER_WAIT_NOTHING; i++)
		if (keeper->shared->maps[i].length > 0)
			engine_wait(keeper, KEEPER_WAIT_UNMAP, &nobody, i);
}

void client_close(struct keeper *keeper)
{
	const struct vfu_header nobody = {.flags = VFU_NO_REPLY};

	close(keeper->client_fd);
	keeper->client_fd = -1;
	keeper->negotiated = false;
	vfu_receiver_reset(&keeper->client_receiver);
	vfu_store(&keeper->shared->client_connected, 0);
	if (keeper->retiring) {
		keeper->finished = true;
		return;
	}
	device_reset(keeper);
	device_drop_irqs(keeper);
	engine_wait(keeper, KEEPER_WAIT_RESET, &nobody, 0);
}

void client_finish_wait(struct keeper *keeper, int error)
{
	struct vfu_header header = keeper->wait_header;
	enum keeper_wait wait = keeper->wait;
	struct vfu_dma_unmap unmap = {.argsz = sizeof(unmap)};

	keeper->wait = KEEPER_WAIT_NOTHING;
	if (!(header.flags & VFU_NO_REPLY))
		note_time(keeper, keeper->wait_since_ns);
	if (wait == KEEPER_WAIT_UNMAP) {
		unmap.address = keeper->shared->maps[keeper->wait_map].address;
		unmap.size = keeper->shared->maps[keeper->wait_map].length;
		memory_forget(keeper, keeper->wait_map);
	}
	if (error < 0)
		client_refuse(keeper, &header, error);
	else if (wait == KEEPER_WAIT_UNMAP)
		client_reply(keeper, &header, &unmap, sizeof(unmap), NULL, 0);
	else if (wait == KEEPER_WAIT_FLR)
		client_reply(keeper, &header, &keeper->wait_access, sizeof(keeper->wait_access),
			     NULL, 0);
	else
		client_reply(keeper, &header, NULL, 0, NULL, 0);
}
