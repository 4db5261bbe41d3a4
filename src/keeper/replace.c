/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A newer build takes the keeper's place: the process executes its program anew with all
 * descriptors kept, and with a memory file that says what they are. The virtual machine notices
 * nothing; the engine's link ends, and it connects again.
 *
 * The file has a version. Fields are only appended, so that a build reads the versions before its
 * own: what a later one added has the value of a keeper without it. There is no way back once the
 * program is executed, so each build carries a mark with the versions that it reads, and the
 * running keeper looks for it in the program first: one that does not know this version, an older
 * build or none of ours, is not executed.
 */
#include "keeper/keeper_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/macros.h"

#define SAVED_MAGIC   UINT64_C(0x7265706c61636531)
#define SAVED_OLDEST  2u /* that can be read */
#define SAVED_VERSION 3u
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
	/* since version 3 */
	int32_t early_fd;
	uint32_t reserved;
};
#define SAVED_BYTES_2 offsetof(struct saved, early_fd)
static_assert(SAVED_BYTES_2 == 21080 && sizeof(struct saved) == 21088, "never changed");

static const struct mark {
	char words[24];
	uint32_t oldest, newest;               /* of struct saved */
	uint32_t shared_oldest, shared_newest; /* of struct vfu_shared, which goes on being used */
} mark = {"sarsen-keeper knows of:", SAVED_OLDEST, SAVED_VERSION, VFU_SHARED_VERSION,
	  VFU_SHARED_VERSION};

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
	saved->early_fd = keeper->early_fd;
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
			       saved->engine_pidfd,     saved->early_fd};

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

static int check_mark(const void *program, size_t bytes)
{
	const char *at = memmem(program, bytes, mark.words, sizeof(mark.words));
	struct mark found;

	if (!at || bytes - (size_t)(at - (const char *)program) < sizeof(found))
		return -ENOEXEC;
	memcpy(&found, at, sizeof(found));
	return found.oldest <= SAVED_VERSION && SAVED_VERSION <= found.newest &&
			       found.shared_oldest <= VFU_SHARED_VERSION &&
			       VFU_SHARED_VERSION <= found.shared_newest
		       ? 0
		       : -EPROTONOSUPPORT;
}

/* Whether the program reads what this build saves. */
static int check_program(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;
	void *program;
	int r;

	if (fd < 0)
		return -errno;
	r = fstat(fd, &status) < 0 ? -errno : 0;
	program = r < 0 ? MAP_FAILED
			: mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (r == 0 && program == MAP_FAILED)
		r = -errno;
	close(fd);
	if (r < 0)
		return r;
	r = check_mark(program, (size_t)status.st_size);
	munmap(program, (size_t)status.st_size);
	return r;
}

/* The file of what there is, for the next program; its descriptor. */
static int write_state(const struct saved *saved)
{
	int fd = memfd_create("sarsen-keeper", MFD_CLOEXEC);
	int r = fd < 0 ? -errno : 0;

	if (r == 0 && write(fd, saved, sizeof(*saved)) != sizeof(*saved))
		r = -EIO; /* there is no memory */
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

/* Returns only when it cannot. */
static int execute(const struct keeper *keeper)
{
	char resume[16], *arguments[ARGUMENTS_MAX + 3];
	struct saved saved;
	int fd, r = make_arguments(keeper, resume, arguments);

	if (r == 0)
		r = check_program(arguments[0]);
	if (r < 0)
		return r;
	save(keeper, &saved);
	fd = write_state(&saved);
	if (fd < 0)
		return fd;
	keep_all(&saved, true);
	keep(fd, true);
	snprintf(resume, sizeof(resume), "%d", fd);
	execv(arguments[0], arguments);
	r = -errno;
	keep_all(&saved, false);
	close(fd);
	return r;
}

void replace_run(struct keeper *keeper)
{
	int r = execute(keeper);

	keeper->replacing = false;
	log_error("keeper", "cannot be replaced, and goes on", "program=%s why=\"%s\" state=%u",
		  keeper->options.arguments[0],
		  r == -EPROTONOSUPPORT ? "it does not know the version of this one's state"
		  : r == -ENOEXEC       ? "it is no keeper that says which states it knows"
					: strerror(-r),
		  SAVED_VERSION);
	engine_refuse_replace(keeper, r);
}

/* `saved` is zeroed beyond what the file has. */
static int read_state(int fd, struct saved *saved)
{
	ssize_t got;

	*saved = (struct saved){.early_fd = -1};
	got = pread(fd, saved, sizeof(*saved), 0);
	if (got < 0)
		return -errno;
	if ((size_t)got < SAVED_BYTES_2 || saved->magic != SAVED_MAGIC)
		return -EPROTO;
	if (saved->version < SAVED_OLDEST || saved->version > SAVED_VERSION) {
		log_error("keeper", "the state of the keeper before has an unknown version",
			  "version=%u known=%u..%u", saved->version, SAVED_OLDEST, SAVED_VERSION);
		return -EPROTONOSUPPORT;
	}
	if (saved->bytes != (saved->version == 2 ? SAVED_BYTES_2 : sizeof(*saved)) ||
	    saved->bytes != (size_t)got)
		return -EPROTO;
	return 0;
}

static void take(struct keeper *keeper, const struct saved *saved)
{
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
	keeper->early_fd = saved->early_fd;
	keep_all(saved, false);
}

int replace_resume(struct keeper *keeper, int fd)
{
	struct saved saved;
	int r = read_state(fd, &saved);

	close(fd);
	if (r == 0)
		take(keeper, &saved);
	return r;
}
