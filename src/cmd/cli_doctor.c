/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cli_doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/macros.h"
#include "control/config.h"

#define KERNEL_MAJOR 6
#define KERNEL_MINOR 1
#define FILES_MIN    4096
#define SPACE_MIN    GIB
#define PROBE_BYTES  4096
#define CLOCK_MIN    1704067200 /* 2024 */
#define TMPFS_MAGIC_ 0x01021994 /* statfs(2) */
#define FUSE_MAGIC_  0x65735546
#define NFS_MAGIC_   0x6969

enum verdict {
	OK,
	WARN,
	FAIL,
};

struct doctor {
	json_t *rows;
	bool failed;
};

__attribute__((format(printf, 5, 6))) static void tell(struct doctor *doctor, enum verdict verdict,
						       const char *check, const char *remedy,
						       const char *format, ...)
{
	static const char *const names[] = {"ok", "warn", "fail"};
	char found[CONFIG_PATH_MAX + 200];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(found, sizeof(found), format, arguments);
	va_end(arguments);
	doctor->failed |= verdict == FAIL;
	json_array_append_new(doctor->rows,
			      json_pack("{s:s, s:s, s:s, s:s}", "verdict", names[verdict], "check",
					check, "found", found, "remedy",
					verdict == OK ? "" : remedy));
}

static void check_kernel(struct doctor *doctor)
{
	struct utsname name;
	unsigned major = 0, minor = 0;
	bool good;

	if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2) {
		tell(doctor, WARN, "kernel", "see that it is Linux 6.1 or newer", "not known");
		return;
	}
	good = major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR);
	tell(doctor, good ? OK : FAIL, "kernel", "boot Linux 6.1 or newer", "Linux %s",
	     name.release);
}

static void check_io_uring(struct doctor *doctor)
{
	struct io_uring_params params = {0};
	long fd = syscall(SYS_io_uring_setup, 8, &params);

	if (fd >= 0) {
		close((int)fd);
		tell(doctor, OK, "io_uring", "", "a ring can be made");
		return;
	}
	tell(doctor, FAIL, "io_uring",
	     errno == EPERM ? "set kernel.io_uring_disabled = 0 (sysctl), or allow io_uring in the "
			      "container's seccomp profile"
			    : "use a kernel with io_uring; raise the limits on memory and files",
	     "a ring cannot be made: %s", strerror(errno));
}

static void check_limits(struct doctor *doctor)
{
	struct rlimit files, memory;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
		tell(doctor, files.rlim_max >= FILES_MIN ? OK : WARN, "open-files",
		     "raise it: LimitNOFILE= in the unit, ulimit -Hn", "at most %llu",
		     (unsigned long long)files.rlim_max);
	if (getrlimit(RLIMIT_MEMLOCK, &memory) == 0)
		tell(doctor, memory.rlim_cur >= 8 * MIB ? OK : WARN, "locked-memory",
		     "raise it: LimitMEMLOCK= in the unit, ulimit -l", "at most %llu KiB",
		     (unsigned long long)memory.rlim_cur / 1024);
}

static void check_clock(struct doctor *doctor)
{
	struct timex state = {0};
	int r = adjtimex(&state);

	if (time(NULL) < CLOCK_MIN)
		tell(doctor, FAIL, "clock", "set the clock", "it is before 2024");
	else if (r == TIME_ERROR || (state.status & STA_UNSYNC))
		tell(doctor, WARN, "clock", "run an NTP client: times of events may be wrong",
		     "not synchronised");
	else
		tell(doctor, OK, "clock", "", "synchronised");
}

static void report_fault(const char *fault, void *arg)
{
	tell(arg, FAIL, "configuration", "correct it; see sarsend.conf(5)", "%s", fault);
}

static void check_config_file(struct doctor *doctor, const char *path, struct config *config)
{
	const char *name = path ? path : CONFIG_DEFAULT_FILE;
	int r;

	config_defaults(config);
	r = config_read_file(config, name, report_fault, doctor);
	if (r == -ENOENT && !path) {
		tell(doctor, OK, "configuration", "", "none at %s: defaults", name);
		return;
	}
	if (r < 0 && r != -EINVAL)
		tell(doctor, FAIL, "configuration", "name a file that can be read",
		     "%s cannot be read: %s", name, strerror(-r));
	if (r == 0 && config_check(config, report_fault, doctor) == 0)
		tell(doctor, OK, "configuration", "", "%s", name);
}

static void free_memory(void *pointer)
{
	free(*(void **)pointer);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/* A block written past the page cache, made durable and read again. */
static int probe(const char *directory)
{
	_cleanup_(free_memory) void *block = NULL;
	_cleanup_(close_fd) int fd = open(directory, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC,
					  0600);

	if (fd < 0)
		return -errno;
	if (posix_memalign(&block, PROBE_BYTES, PROBE_BYTES) != 0)
		return -ENOMEM;
	memset(block, 0x5a, PROBE_BYTES);
	if (pwrite(fd, block, PROBE_BYTES, 0) != PROBE_BYTES || fdatasync(fd) < 0)
		return -errno;
	memset(block, 0, PROBE_BYTES);
	if (pread(fd, block, PROBE_BYTES, 0) != PROBE_BYTES)
		return -errno;
	return ((char *)block)[PROBE_BYTES - 1] == 0x5a ? 0 : -EBADMSG;
}

/* What has no disk below it, or one that is not ours to sync, only says that data is durable. */
static const char *volatile_name(long type)
{
	return type == TMPFS_MAGIC_  ? "tmpfs, which is lost with the power"
	       : type == FUSE_MAGIC_ ? "a FUSE file system, whose sync may mean nothing"
	       : type == NFS_MAGIC_  ? "NFS, whose server decides what a sync means"
				     : NULL;
}

static void check_directory(struct doctor *doctor, const char *what, const char *path)
{
	struct statfs info;
	unsigned long long free_bytes;
	const char *doubt;
	int r;

	if (statfs(path, &info) < 0) {
		tell(doctor, errno == ENOENT ? WARN : FAIL, what,
		     "make it, for the daemon's user", "%s: %s", path, strerror(errno));
		return;
	}
	doubt = volatile_name((long)info.f_type);
	r = probe(path);
	if (r < 0)
		tell(doctor, FAIL, what,
		     r == -EACCES || r == -EPERM ? "run doctor as the daemon's user, or give the "
						   "directory to it"
						 : "use a file system with O_DIRECT, such as ext4 "
						   "or xfs",
		     "%s: direct I/O does not work: %s", path, strerror(-r));
	else
		tell(doctor, doubt ? WARN : OK, what, "use a file system on a local disk",
		     "%s: direct I/O and sync work%s%s", path, doubt ? "; it is " : "",
		     doubt ? doubt : "");
	free_bytes = (unsigned long long)info.f_bavail * (unsigned long long)info.f_bsize;
	tell(doctor, free_bytes >= SPACE_MIN ? OK : WARN, "space", "free some",
	     "%s: %llu MiB free", path, free_bytes / MIB);
}

json_t *cli_doctor(const char *config_path, const char *directory, bool *ret_failed)
{
	struct doctor doctor = {.rows = json_array()};
	struct config *config = calloc(1, sizeof(*config)); /* large */

	if (!doctor.rows || !config) {
		json_decref(doctor.rows);
		free(config);
		return NULL;
	}
	check_kernel(&doctor);
	check_io_uring(&doctor);
	check_limits(&doctor);
	check_clock(&doctor);
	check_config_file(&doctor, config_path, config);
	check_directory(&doctor, "state-directory", config->state);
	if (directory)
		check_directory(&doctor, "directory", directory);
	free(config);
	*ret_failed = doctor.failed;
	return doctor.rows;
}
