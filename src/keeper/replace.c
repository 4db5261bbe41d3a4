/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A newer build takes the keeper's place: the process executes its program anew with all
 * descriptors kept, and with a memory file that says what they are. The virtual machine notices
 * nothing; the engine's link ends, and it connects again.
 */
#include "keeper/keeper_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "base/macros.h"

#define SAVED_MAGIC   UINT64_C(0x7265706c61636531)
#define SAVED_VERSION 2u
#define ARGUMENTS_MAX 32

struct saved {
	uint64_t magic;
	uint32_t version, bytes;
	int32_t shared_fd, doorbells_fd, wake_fd, nobody_fd, link_listen_fd, socket_listen_fd;
	int32_t client_fd, intx_fd, fence_fd, engine_pidfd;
	uint32_t negotiated, retiring, next_map_id;
	int64_t engine_pid;
	int32_t msix_fds[VFU_VECTOR_COUNT];
	struct keeper_map maps[VFU_MAP_COUNT];
	unsigned char writable[VFU_PAGE_BYTES];
};

static void save(const struct keeper *keeper, struct saved *saved)
{
	*saved = (struct saved){.magic = SAVED_MAGIC,
				.version = SAVED_VERSION,
				.bytes = sizeof(*saved),
				.shared_fd = keeper->shared_fd,
				.doorbells_fd = keeper->doorbells_fd,
				.wake_fd = keeper->wake_fd,
				.nobody_fd = keeper->nobody_fd,
				.link_listen_fd = keeper->link_listen_fd,
				.socket_listen_fd = keeper->socket_listen_fd,
				.client_fd = keeper->client_fd,
				.intx_fd = keeper->intx_fd,
				.fence_fd = keeper->fence_fd,
				.engine_pidfd = keeper->engine_pidfd,
				.negotiated = keeper->negotiated,
				.retiring = keeper->retiring,
				.next_map_id = keeper->next_map_id,
				.engine_pid = keeper->engine_pid};
	for (unsigned i = 0; i < VFU_VECTOR_COUNT; i++)
		saved->msix_fds[i] = keeper->msix_fds[i];
	memcpy(saved->maps, keeper->maps, sizeof(saved->maps));
	memcpy(saved->writable, keeper->writable, sizeof(saved->writable));
}

/* The new program may, or may not, close it when it executes another. */
static void keep(int fd, bool over_exec)
{
	if (fd >= 0)
		(void)fcntl(fd, F_SETFD,
			    over_exec ? 0 : FD_CLOEXEC); /* cannot fail on an open one */
}

static void keep_all(const struct saved *saved, bool over_exec)
{
	const int32_t fds[] = {saved->shared_fd,        saved->doorbells_fd,   saved->wake_fd,
			       saved->nobody_fd,        saved->link_listen_fd, saved->client_fd,
			       saved->socket_listen_fd, saved->intx_fd,        saved->fence_fd,
			       saved->engine_pidfd};

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		keep(fds[i], over_exec);
	for (unsigned i = 0; i < VFU_VECTOR_COUNT; i++)
		keep(saved->msix_fds[i], over_exec);
	for (unsigned i = 0; i < VFU_MAP_COUNT; i++)
		keep(saved->maps[i].fd, over_exec);
}

/* The arguments of this process, with --resume FD in place of one that may be there. */
static int make_arguments(const struct keeper *keeper, char *resume, char **arguments)
{
	char *const *old = keeper->options.arguments;
	int count = 0;

	for (int i = 0; old[i]; i++) {
		if (strcmp(old[i], "--resume") == 0 && old[i + 1]) {
			i++;
			continue;
		}
		if (count >= ARGUMENTS_MAX)
			return -E2BIG;
		arguments[count++] = old[i];
	}
	arguments[count++] = (char *)"--resume";
	arguments[count++] = resume;
	arguments[count] = NULL;
	return 0;
}

void replace_run(struct keeper *keeper)
{
	char resume[16], *arguments[ARGUMENTS_MAX + 3];
	int fd = memfd_create("sarsen-keeper", 0);
	struct saved *saved = MAP_FAILED;

	keeper->replacing = false;
	if (fd >= 0 && ftruncate(fd, sizeof(*saved)) == 0)
		saved = mmap(NULL, sizeof(*saved), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (saved != MAP_FAILED) {
		save(keeper, saved);
		keep_all(saved, true);
		snprintf(resume, sizeof(resume), "%d", fd);
		if (make_arguments(keeper, resume, arguments) == 0)
			execv(arguments[0], arguments);
		log_error("keeper", "cannot be replaced", "program=%s error=%d", arguments[0],
			  errno);
		keep_all(saved, false);
		munmap(saved, sizeof(*saved));
	}
	if (fd >= 0)
		close(fd);
}

int replace_resume(struct keeper *keeper, int fd)
{
	const struct saved *saved = mmap(NULL, sizeof(*saved), PROT_READ, MAP_SHARED, fd, 0);

	close(fd);
	if (saved == MAP_FAILED)
		return -errno;
	if (saved->magic != SAVED_MAGIC || saved->version != SAVED_VERSION ||
	    saved->bytes != sizeof(*saved)) {
		munmap((void *)saved, sizeof(*saved));
		return -EPROTO;
	}
	keeper->shared_fd = saved->shared_fd;
	keeper->doorbells_fd = saved->doorbells_fd;
	keeper->wake_fd = saved->wake_fd;
	keeper->nobody_fd = saved->nobody_fd;
	keeper->link_listen_fd = saved->link_listen_fd;
	keeper->socket_listen_fd = saved->socket_listen_fd;
	keeper->client_fd = saved->client_fd;
	keeper->intx_fd = saved->intx_fd;
	keeper->fence_fd = saved->fence_fd;
	keeper->engine_pidfd = saved->engine_pidfd;
	keeper->negotiated = saved->negotiated;
	keeper->retiring = saved->retiring;
	keeper->next_map_id = saved->next_map_id;
	keeper->engine_pid = (pid_t)saved->engine_pid;
	for (unsigned i = 0; i < VFU_VECTOR_COUNT; i++)
		keeper->msix_fds[i] = saved->msix_fds[i];
	memcpy(keeper->maps, saved->maps, sizeof(keeper->maps));
	memcpy(keeper->writable, saved->writable, sizeof(keeper->writable));
	keep_all(saved, false);
	munmap((void *)saved, sizeof(*saved));
	return 0;
}
