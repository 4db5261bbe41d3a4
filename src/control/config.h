/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * sarsend's configuration file (INI, by inih): sections [node], [iscsi], [nvme], [space], [log],
 * [scrub], [memory].
 * Everything wrong in a file is reported, each with file and line: unknown sections and keys, keys
 * given twice, values out of range, lines that are none. sarsend.conf(5) describes the keys.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/log.h"
#include "base/macros.h"

#define CONFIG_PATH_MAX     4096
#define CONFIG_SOCKET_MAX   108 /* sun_path with its NUL, unix(7) */
#define CONFIG_REACTORS_MAX 64

enum config_keepers {                      /* how they are started */
		      CONFIG_KEEPERS_AUTO, /* as units when the daemon is one itself */
		      CONFIG_KEEPERS_PROCESS,
		      CONFIG_KEEPERS_SYSTEMD,
};

struct config {
	/* [node] */
	char state[CONFIG_PATH_MAX];
	char socket[CONFIG_SOCKET_MAX];
	char restore_catalog[CONFIG_PATH_MAX]; /* of the command line only; empty = none */
	uint64_t reactors;                     /* 0 = all CPUs but one, at least one */
	uint64_t workers;
	bool pin;
	uint64_t poll_us;         /* busy polling before a reactor sleeps */
	uint64_t disk_timeout_ms; /* that an operation on a disk may take */
	/* [iscsi] */
	bool iscsi_enabled;
	char iscsi_address[64];
	char iscsi_announce[256]; /* host in URLs; empty = the address */
	uint64_t iscsi_port;
	bool iscsi_port_fallback;
	uint64_t iscsi_max_sessions;
	uint64_t iscsi_memory_bytes;
	/* [nvme] */
	bool nvme_enabled;
	char nvme_directory[CONFIG_SOCKET_MAX]; /* of sockets; empty = nvme/ beside the API's */
	char nvme_keeper[CONFIG_PATH_MAX];      /* program; empty = sarsen-keeper beside sarsend */
	char nvme_group[64];                    /* that QEMU's sockets belong to; empty = ours */
	enum config_keepers nvme_keepers;
	uint64_t nvme_max_controllers;
	uint64_t nvme_max_queues, nvme_max_namespaces; /* of a controller */
	uint64_t nvme_in_flight_bytes;                 /* of a controller */
	/* [space] */
	uint64_t space_notice, space_low, space_critical; /* percent of a pool */
	/* [log] */
	enum log_level log_level;
	enum log_format log_format;
	/* [scrub] */
	uint64_t scrub_days;       /* 0 = only when asked for */
	uint64_t scrub_rate_bytes; /* a second; 0 = no limit */
	/* [memory] */
	uint64_t memory_budget_bytes; /* of the whole process */
};

#define CONFIG_DEFAULT_FILE   "/etc/sarsen/sarsend.conf"
#define CONFIG_DEFAULT_SOCKET "/run/sarsen/sarsend.sock"

/* Of the budget, what everything but maps and iSCSI's data needs: programs, stacks, the catalog,
 * log buffers, the tables of groups; and the least that maps work with. */
#define CONFIG_MEMORY_BASE (64 * MIB)
#define CONFIG_MAPS_MIN    (32 * MIB)

void config_defaults(struct config *config);
/* What is left of the memory budget for maps. */
uint64_t config_map_bytes(const struct config *config);
/* Where the sockets of controllers are. */
void config_nvme_directory(const struct config *config, char ret_path[static CONFIG_SOCKET_MAX]);
/* Called for each fault: "FILE:LINE: what, and what to do". */
typedef void config_fault_fn(const char *fault, void *arg);
/* Changes `config` by the file's keys. -ENOENT and the like from opening it, -EINVAL after faults.
 */
int config_read_file(struct config *config, const char *path, config_fault_fn *fault, void *arg);
int config_read_stream(struct config *config, FILE *stream, const char *name,
		       config_fault_fn *fault, void *arg);
/* The keys, by index; false after the last. */
struct config_key {
	const char *section, *key;
};
bool config_key_get(size_t index, struct config_key *ret_key);
/* What concerns several keys, and lengths. -EINVAL after faults. */
int config_check(const struct config *config, config_fault_fn *fault, void *arg);
