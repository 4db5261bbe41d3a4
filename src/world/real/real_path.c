/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files and directories by name, and what else of a file may block: all on worker threads, one
 * plain system call or a few. The result and the outputs are written by the worker, before
 * `done`.
 */
#include "world/real/real_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static void closep(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd); /* opened to look at, or a file that is refused */
}
#define _cleanup_close_ _cleanup_(closep)

static void closedirp(DIR **directory)
{
	if (*directory)
		(void)closedir(*directory); /* was only read */
}

static struct real_job *begin(struct world_port *port, struct world_op *op, const char *path,
			      void *ret)
{
	struct real_job *job = real_op_begin(port, op, NULL);

	job->path = path;
	job->arg = ret;
	return job;
}

static struct real_job *begin_file(struct world_port *port, struct world_op *op,
				   struct world_file *file, void *ret)
{
	struct real_job *job = real_op_begin(port, op, NULL);

	job->file = file;
	job->arg = ret;
	return job;
}

static int64_t result_of(int status)
{
	return status < 0 ? -errno : 0;
}

static int open_flags(unsigned flags)
{
	/* O_NONBLOCK: opening a FIFO must not block; it is taken off again. */
	int os_flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;

	os_flags |= flags & WORLD_FILE_READ_ONLY ? O_RDONLY : O_RDWR;
	if (flags & WORLD_FILE_CREATE)
		os_flags |= O_CREAT;
	if (flags & WORLD_FILE_CREATE && flags & WORLD_FILE_EXCLUSIVE)
		os_flags |= O_EXCL;
	if (flags & WORLD_FILE_DIRECT)
		os_flags |= O_DIRECT;
	return os_flags;
}

static int check_is_data(int fd)
{
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return -errno;
	if (S_ISDIR(stat.st_mode))
		return -EISDIR;
	if (!S_ISREG(stat.st_mode) && !S_ISBLK(stat.st_mode))
		return -EINVAL;
	return 0;
}

/* The status flags without O_NONBLOCK, for which the ring would not wait. */
static int clear_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

static int open_file(struct world_real *real, const char *path, unsigned flags,
		     struct world_file **ret_file)
{
	_cleanup_close_ int fd = open(path, open_flags(flags), 0600);
	struct world_file *file;
	int error;

	if (fd < 0)
		return -errno;
	error = check_is_data(fd);
	if (!error)
		error = clear_nonblock(fd);
	if (error)
		return error;
	file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->fd = fd;
	fd = -1;
	file->direct = flags & WORLD_FILE_DIRECT;
	file->slot = real_slots_acquire(real);
	file->real = real;
	*ret_file = file;
	return 0;
}

static void run_open(struct world_op *op)
{
	struct real_job *job = real_op_state(op);

	job->head.result =
		open_file(op->port->real, job->path, (unsigned)job->flags, job->arg);
}

void real_path_open(struct world_port *port, const char *path, unsigned flags,
		    struct world_file **ret_file, struct world_op *op)
{
	begin(port, op, path, ret_file)->flags = flags;
	real_jobs_queue(port, op, run_open);
}

static void run_close(struct world_op *op)
{
	struct real_job *job = real_op_state(op);

	job->head.result = result_of(close(job->file->fd));
	real_slots_release(job->file);
}

void real_path_close(struct world_port *port, struct world_file *file, struct world_op *op)
{
	real_slots_forget(port, file);
	begin_file(port, op, file, NULL);
	real_jobs_queue(port, op, run_close);
}

static int reserve(int fd, uint64_t size_bytes, uint64_t old_size_bytes)
{
	int status, error;

	if (size_bytes == 0)
		return 0;
	do
		status = fallocate(fd, 0, 0, (off_t)size_bytes);
	while (status < 0 && errno == EINTR);
	if (status == 0)
		return 0;
	error = -errno;
	/* Gives back what was allocated before space ran out; if that fails, it stays allocated. */
	if (size_bytes > old_size_bytes)
		(void)!ftruncate(fd, (off_t)old_size_bytes);
	return error;
}

static int64_t resize(int fd, uint64_t size_bytes, enum world_resize how)
{
	struct stat stat;

	if (size_bytes > INT64_MAX)
		return -EFBIG;
	if (fstat(fd, &stat) < 0)
		return -errno;
	if (how == WORLD_RESIZE_TRUNCATE || (uint64_t)stat.st_size > size_bytes)
		if (ftruncate(fd, (off_t)size_bytes) < 0)
			return -errno;
	if (how == WORLD_RESIZE_TRUNCATE)
		return 0;
	return reserve(fd, size_bytes, (uint64_t)stat.st_size);
}

static void run_resize(struct world_op *op)
{
	struct real_job *job = real_op_state(op);

	job->head.result = resize(job->file->fd, job->size_bytes, (enum world_resize)job->flags);
}

void real_path_resize(struct world_port *port, struct world_file *file, uint64_t size_bytes,
		      enum world_resize how, struct world_op *op)
{
	struct real_job *job = begin_file(port, op, file, NULL);

	job->size_bytes = size_bytes;
	job->flags = how;
	real_jobs_queue(port, op, run_resize);
}

static void fill_stat(const struct stat *stat, struct world_stat *ret_stat)
{
	*ret_stat = (struct world_stat){
		.size_bytes = (uint64_t)stat->st_size,
		.allocated_bytes = (uint64_t)stat->st_blocks * 512, /* POSIX: units of 512 */
		.is_directory = S_ISDIR(stat->st_mode),
	};
}

static int64_t stat_file(int fd, struct world_stat *ret_stat)
{
	struct stat stat;
	off_t end;

	if (fstat(fd, &stat) < 0)
		return -errno;
	if (S_ISBLK(stat.st_mode)) { /* its size is not in the inode */
		end = lseek(fd, 0, SEEK_END);
		if (end < 0)
			return -errno;
		stat.st_size = end;
	}
	fill_stat(&stat, ret_stat);
	return 0;
}

static void run_file_stat(struct world_op *op)
{
	struct real_job *job = real_op_state(op);

	job->head.result = stat_file(job->file->fd, job->arg);
}

void real_path_file_stat(struct world_port *port, struct world_file *file,
			 struct world_stat *ret_stat, struct world_op *op)
{
	begin_file(port, op, file, ret_stat);
	real_jobs_queue(port, op, run_file_stat);
}

static void run_stat(struct world_op *op)
{
	struct real_job *job = real_op_state(op);
	struct stat result;

	job->head.result = result_of(stat(job->path, &result));
	if (job->head.result == 0)
		fill_stat(&result, job->arg);
}

void real_path_stat(struct world_port *port, const char *path, struct world_stat *ret_stat,
		    struct world_op *op)
{
	begin(port, op, path, ret_stat);
	real_jobs_queue(port, op, run_stat);
}

static void run_rename(struct world_op *op)
{
	struct real_job *job = real_op_state(op);

	job->head.result = result_of(rename(job->path, job->to));
}

void real_path_rename(struct world_port *port, const char *from, const char *to,
		      struct world_op *op)
{
	begin(port, op, from, NULL)->to = to;
	real_jobs_queue(port, op, run_rename);
}

static void run_unlink(struct world_op *op)
{
	struct real_job *job = real_op_state(op);

	job->head.result = result_of(unlink(job->path));
}

void real_path_unlink(struct world_port *port, const char *path, struct world_op *op)
{
	begin(port, op, path, NULL);
	real_jobs_queue(port, op, run_unlink);
}

static void run_directory_make(struct world_op *op)
{
	struct real_job *job = real_op_state(op);

	job->head.result = result_of(mkdir(job->path, 0700));
}

void real_path_directory_make(struct world_port *port, const char *path, struct world_op *op)
{
	begin(port, op, path, NULL);
	real_jobs_queue(port, op, run_directory_make);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int append_name(struct world_names *names, size_t *capacity, const char *name)
{
	char *copy;

	if (names->count == *capacity) {
		size_t larger = MAX(*capacity * 2, (size_t)16);
		char **grown = realloc(names->names, larger * sizeof(char *));

		if (!grown)
			return -ENOMEM;
		names->names = grown;
		*capacity = larger;
	}
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	names->names[names->count++] = copy;
	return 0;
}

static int read_names(DIR *directory, struct world_names *names)
{
	size_t capacity = 0;
	struct dirent *entry;
	int error;

	for (;;) {
		errno = 0;
		entry = readdir(directory);
		if (!entry)
			return -errno;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		error = append_name(names, &capacity, entry->d_name);
		if (error)
			return error;
	}
}

static void run_directory_list(struct world_op *op)
{
	struct real_job *job = real_op_state(op);
	_cleanup_(closedirp) DIR *directory = opendir(job->path); /* O_CLOEXEC */
	struct world_names names = {0};

	if (!directory) {
		job->head.result = -errno;
		return;
	}
	job->head.result = read_names(directory, &names);
	if (job->head.result) {
		world_names_free(&names);
		return;
	}
	if (names.count > 0)
		qsort(names.names, names.count, sizeof(char *), compare_names);
	*(struct world_names *)job->arg = names;
}

void real_path_directory_list(struct world_port *port, const char *path,
			      struct world_names *ret_names, struct world_op *op)
{
	begin(port, op, path, ret_names);
	real_jobs_queue(port, op, run_directory_list);
}

static void run_directory_sync(struct world_op *op)
{
	struct real_job *job = real_op_state(op);
	_cleanup_close_ int fd = open(job->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	job->head.result = fd < 0 ? -errno : result_of(fsync(fd));
}

void real_path_directory_sync(struct world_port *port, const char *path, struct world_op *op)
{
	begin(port, op, path, NULL);
	real_jobs_queue(port, op, run_directory_sync);
}

static void run_fs_stat(struct world_op *op)
{
	struct real_job *job = real_op_state(op);
	struct statvfs stat;

	job->head.result = result_of(statvfs(job->path, &stat));
	if (job->head.result)
		return;
	*(struct world_fs_stat *)job->arg = (struct world_fs_stat){
		.total_bytes = (uint64_t)stat.f_blocks * stat.f_frsize,
		.free_bytes = (uint64_t)stat.f_bavail * stat.f_frsize,
		.id = stat.f_fsid,
		.read_only = stat.f_flag & ST_RDONLY,
	};
}

void real_path_fs_stat(struct world_port *port, const char *path, struct world_fs_stat *ret_stat,
		       struct world_op *op)
{
	begin(port, op, path, ret_stat);
	real_jobs_queue(port, op, run_fs_stat);
}
