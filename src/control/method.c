/* SPDX-License-Identifier: Apache-2.0 */
#include "control/method.h"

#include <stdio.h>
#include <string.h>

#include "base/macros.h"

#define PARAMS(...) ((const struct method_param[]){__VA_ARGS__, {0}})
#define NO_PARAMS   ((const struct method_param[]){{0}})
#define NO_COLUMNS  ((const struct method_column[]){{0}})

#define PARAM(n, t, f, h, ...)                                             \
	{                                                                  \
		.name = n, .type = t, .flags = f, .help = h, ##__VA_ARGS__ \
	}
#define METHOD(n, v, r, s, p, c, how, ...)                                                \
	{                                                                                 \
		.noun = n, .verb = v, .role = r, .summary = s, .params = p, .columns = c, \
		.print = how, ##__VA_ARGS__                                               \
	}

#define GIVEN (PARAM_REQUIRED | PARAM_POSITIONAL)

#define THE_POOL      PARAM("name", PARAM_NAME, GIVEN, "name of the pool")
#define THE_DISK      PARAM("disk", PARAM_TEXT, GIVEN, "number, directory or UUID", .maximum = 4000)
#define THE_CONTAINER PARAM("name", PARAM_NAME, GIVEN, "name of the container")
#define THE_VDISK     PARAM("name", PARAM_VDISK, GIVEN, "the vDisk, as container/vdisk")
#define THE_PROPERTIES                                          \
	PARAM("properties", PARAM_PROPERTIES, PARAM_POSITIONAL, \
	      "only these properties (default: all)")
#define THE_SETTINGS PARAM("set", PARAM_SETTINGS, GIVEN, "what to set; see: sarsen container get")
#define THE_JOB \
	PARAM("id", PARAM_INTEGER, GIVEN, "number of the job", .minimum = 1, .maximum = INT64_MAX)

#define THE_TARGET \
	PARAM("name", PARAM_TEXT, GIVEN, "the target's iSCSI name (iqn...)", .maximum = 223)
#define THE_INITIATOR \
	PARAM("initiator", PARAM_TEXT, GIVEN, "the initiator's iSCSI name", .maximum = 223)
#define SECRET(n, h) PARAM(n, PARAM_SECRET, 0, h, .minimum = 12, .maximum = 128)
#define CHAP_PARAMS                                                                       \
	PARAM("chap_user", PARAM_TEXT, 0, "name that the initiator gives for CHAP",       \
	      .maximum = 223),                                                            \
		SECRET("chap_secret", "its secret: a file with one line, - is stdin"),    \
		PARAM("mutual_user", PARAM_TEXT, 0, "name that the target gives in turn", \
		      .maximum = 223),                                                    \
		SECRET("mutual_secret", "the target's secret: a file with one line, - is stdin")
#define THE_CONTROLLER PARAM("name", PARAM_NAME, GIVEN, "name of the controller")

static const char *const block_choices[] = {"512", "4096", NULL};
static const char *const doorbell_choices[] = {"trapped", "mapped", NULL};

static const struct method_column pool_columns[] = {
	{"name", "NAME", COLUMN_TEXT},
	{"state", "STATE", COLUMN_TEXT},
	{"space.capacity_bytes", "CAPACITY", COLUMN_SIZE},
	{"space.used_bytes", "USED", COLUMN_SIZE},
	{"space.live_bytes", "LIVE", COLUMN_SIZE},
	{"space.reclaimable_bytes", "RECLAIMABLE", COLUMN_SIZE},
	{"space.reserve_bytes", "RESERVE", COLUMN_SIZE},
	{"directory", "DIRECTORY", COLUMN_TEXT},
	{0},
};

static const struct method_column pool_fields[] = {
	{"name", "name", COLUMN_TEXT},
	{"id", "id", COLUMN_COUNT},
	{"state", "state", COLUMN_TEXT},
	{"error", "error", COLUMN_TEXT},
	{"directory", "directory", COLUMN_TEXT},
	{"space.capacity_bytes", "capacity", COLUMN_SIZE},
	{"space.used_bytes", "used", COLUMN_SIZE},
	{"space.live_bytes", "live", COLUMN_SIZE},
	{"space.reclaimable_bytes", "reclaimable", COLUMN_SIZE},
	{"space.reserve_bytes", "reserve", COLUMN_SIZE},
	{"space.spare_bytes", "spare", COLUMN_SIZE},
	{"space.admitted_bytes", "admitted", COLUMN_SIZE},
	{"space.limit_bytes", "limit", COLUMN_SIZE},
	{"provisioned_bytes", "provisioned", COLUMN_SIZE},
	{"provisioned_factor", "of-limit", COLUMN_RATIO},
	{"copies.whole_bytes", "whole", COLUMN_SIZE},
	{"copies.degraded_bytes", "degraded", COLUMN_SIZE},
	{"copies.single_bytes", "one-copy-left", COLUMN_SIZE},
	{"copies.lost_bytes", "lost", COLUMN_SIZE},
	{"copies.resort_bytes", "on-failed-disks-only", COLUMN_SIZE},
	{"copies.to_copy_bytes", "to-copy", COLUMN_SIZE},
	{"scrub.state", "scrub", COLUMN_TEXT},
	{"scrub.ended", "last-scrub", COLUMN_TEXT},
	{"scrub.put_right_blocks", "put-right-blocks", COLUMN_COUNT},
	{"scrub.left_blocks", "left-blocks", COLUMN_COUNT},
	{"scrub.damaged_blocks", "damaged-blocks", COLUMN_COUNT},
	{"scrub.pending_blocks", "pending-blocks", COLUMN_COUNT},
	{0},
};

static const struct method_column scrub_fields[] = {
	{"state", "state", COLUMN_TEXT},
	{"read_bytes", "read", COLUMN_SIZE},
	{"put_right_blocks", "put-right-blocks", COLUMN_COUNT},
	{"left_blocks", "left-blocks", COLUMN_COUNT},
	{"damaged_blocks", "damaged-blocks", COLUMN_COUNT},
	{"pending_blocks", "pending-blocks", COLUMN_COUNT},
	{0},
};

static const struct method_column finding_columns[] = {
	{"vdisk", "VDISK", COLUMN_TEXT},   {"what", "WHAT", COLUMN_TEXT},
	{"offset", "OFFSET", COLUMN_COUNT}, {"bytes", "BYTES", COLUMN_COUNT},
	{"lba", "LBA", COLUMN_COUNT},       {"use", "USE", COLUMN_TEXT},
	{"disk", "DISK", COLUMN_COUNT},     {"result", "RESULT", COLUMN_TEXT},
	{0},
};

static const struct method_column repair_fields[] = {
	{"copied_bytes", "copied", COLUMN_SIZE},
	{"dropped_copies", "dropped-copies", COLUMN_COUNT},
	{"damaged_blocks", "damaged-blocks", COLUMN_COUNT},
	{"degraded_bytes", "degraded", COLUMN_SIZE},
	{"leaving_bytes", "leaving", COLUMN_SIZE},
	{"lost_bytes", "lost", COLUMN_SIZE},
	{0},
};

static const char *const tier_choices[] = {"ssd", "hdd", "san", "cloud", NULL};

static const struct method_column disk_columns[] = {
	{"id", "ID", COLUMN_COUNT},
	{"pool", "POOL", COLUMN_TEXT},
	{"tier", "TIER", COLUMN_TEXT},
	{"state", "STATE", COLUMN_TEXT},
	{"capacity_bytes", "CAPACITY", COLUMN_SIZE},
	{"used_bytes", "USED", COLUMN_SIZE},
	{"files", "FILES", COLUMN_COUNT},
	{"catalog_mirror", "CATALOG", COLUMN_TEXT},
	{"directory", "DIRECTORY", COLUMN_TEXT},
	{0},
};

static const struct method_column disk_fields[] = {
	{"id", "id", COLUMN_COUNT},
	{"uuid", "uuid", COLUMN_TEXT},
	{"pool", "pool", COLUMN_TEXT},
	{"directory", "directory", COLUMN_TEXT},
	{"tier", "tier", COLUMN_TEXT},
	{"state", "state", COLUMN_TEXT},
	{"removed_when_empty", "removed-when-empty", COLUMN_BOOL},
	{"catalog_mirror", "catalog-mirror", COLUMN_TEXT},
	{"capacity_bytes", "capacity", COLUMN_SIZE},
	{"used_bytes", "used", COLUMN_SIZE},
	{"reserve_bytes", "reserve", COLUMN_SIZE},
	{"spare_bytes", "spare", COLUMN_SIZE},
	{"files", "files", COLUMN_COUNT},
	{"shares_with", "shares-file-system-with", COLUMN_COUNT},
	{"only_here_groups", "groups-only-here", COLUMN_COUNT},
	{"health.read_ns", "read-latency", COLUMN_DURATION},
	{"health.write_ns", "write-latency", COLUMN_DURATION},
	{"limits.slow_ns", "suspect-from", COLUMN_DURATION},
	{"health.read_errors", "read-errors", COLUMN_COUNT},
	{"health.write_errors", "write-errors", COLUMN_COUNT},
	{"health.sync_errors", "sync-errors", COLUMN_COUNT},
	{"health.checksum_errors", "checksum-errors", COLUMN_COUNT},
	{"limits.errors", "suspect-from-errors", COLUMN_COUNT},
	{"limits.fatal_errors", "failed-from-errors", COLUMN_COUNT},
	{"limits.window_ns", "errors-within", COLUMN_DURATION},
	{"limits.missing_ns", "failed-when-missing", COLUMN_DURATION},
	{"limits.suspect_ns", "suspect-for", COLUMN_DURATION},
	{"limits.timeout_ns", "silent-from", COLUMN_DURATION},
	{"silent_ns", "silent-for", COLUMN_DURATION},
	{"silences", "silences", COLUMN_COUNT},
	{"limits.fatal_silences", "failed-from-silences", COLUMN_COUNT},
	{"limits.silence_window_ns", "silences-within", COLUMN_DURATION},
	{0},
};

static const struct method_column locate_fields[] = {
	{"disk", "disk", COLUMN_COUNT},
	{"pool", "pool", COLUMN_TEXT},
	{"directory", "directory", COLUMN_TEXT},
	{"state", "state", COLUMN_TEXT},
	{"uuid", "uuid", COLUMN_TEXT},
	{"seen", "seen", COLUMN_TEXT},
	{"mount.point", "mount", COLUMN_TEXT},
	{"mount.type", "file-system", COLUMN_TEXT},
	{"mount.source", "mounted-from", COLUMN_TEXT},
	{"devices[].name", "device", COLUMN_TEXT},
	{"devices[].through", "  through", COLUMN_TEXT},
	{"devices[].size_bytes", "  size", COLUMN_SIZE},
	{"devices[].model", "  model", COLUMN_TEXT},
	{"devices[].serial", "  serial", COLUMN_TEXT},
	{"devices[].wwn", "  wwn", COLUMN_TEXT},
	{"devices[].path", "  by-path", COLUMN_TEXT},
	{"devices[].enclosure", "  enclosure", COLUMN_TEXT},
	{"devices[].slot", "  slot", COLUMN_TEXT},
	{"devices[].backing_file", "  file", COLUMN_TEXT},
	{"devices[].light", "  light", COLUMN_TEXT},
	{"note", "note", COLUMN_TEXT},
	{0},
};

static const struct method_column container_columns[] = {
	{"name", "NAME", COLUMN_TEXT},
	{"pool", "POOL", COLUMN_TEXT},
	{"vdisks", "VDISKS", COLUMN_COUNT},
	{"created", "CREATED", COLUMN_TEXT},
	{0},
};

static const struct method_column container_fields[] = {
	{"name", "name", COLUMN_TEXT},
	{"id", "id", COLUMN_COUNT},
	{"pool", "pool", COLUMN_TEXT},
	{"vdisks", "vdisks", COLUMN_COUNT},
	{"created", "created", COLUMN_TEXT},
	{"used_bytes", "used", COLUMN_SIZE},
	{"limit_bytes", "limit", COLUMN_SIZE},
	{"reserved_bytes", "reserved", COLUMN_SIZE},
	{"tiers[].tier", "tier", COLUMN_TEXT},
	{"tiers[].used_bytes", "  used", COLUMN_SIZE},
	{"tiers[].limit_bytes", "  limit", COLUMN_SIZE},
	{"tiers[].reserved_bytes", "  reserved", COLUMN_SIZE},
	{0},
};

static const struct method_column policy_columns[] = {
	{"property", "PROPERTY", COLUMN_TEXT}, {"value", "VALUE", COLUMN_SIZE},
	{"source", "SOURCE", COLUMN_TEXT},     {"default", "DEFAULT", COLUMN_SIZE},
	{"used", "USED", COLUMN_SIZE},         {"help", "MEANING", COLUMN_TEXT},
	{0},
};

static const struct method_column vdisk_columns[] = {
	{"name", "NAME", COLUMN_TEXT},
	{"size_bytes", "SIZE", COLUMN_SIZE},
	{"live_bytes", "LIVE", COLUMN_SIZE},
	{"state", "STATE", COLUMN_TEXT},
	{"pool", "POOL", COLUMN_TEXT},
	{"url", "URL", COLUMN_TEXT},
	{0},
};

static const struct method_column vdisk_fields[] = {
	{"name", "name", COLUMN_TEXT},         {"id", "id", COLUMN_COUNT},
	{"state", "state", COLUMN_TEXT},       {"error", "error", COLUMN_TEXT},
	{"pool", "pool", COLUMN_TEXT},         {"size_bytes", "size", COLUMN_SIZE},
	{"block_bytes", "block", COLUMN_SIZE}, {"live_bytes", "live", COLUMN_SIZE},
	{"epoch", "epoch", COLUMN_COUNT},      {"created", "created", COLUMN_TEXT},
	{"url", "url", COLUMN_TEXT},           {0},
};

static const struct method_column check_fields[] = {
	{"pages", "pages", COLUMN_COUNT},
	{"blocks", "blocks", COLUMN_COUNT},
	{"bad_pages", "bad-pages", COLUMN_COUNT},
	{"bad_blocks", "bad-blocks", COLUMN_COUNT},
	{"leaked_blocks", "leaked-blocks", COLUMN_COUNT},
	{"missing_live_blocks", "missing-live-blocks", COLUMN_COUNT},
	{0},
};

static const struct method_column export_columns[] = {
	{"url", "URL", COLUMN_TEXT},
	{"vdisk", "VDISK", COLUMN_TEXT},
	{"read_only", "READ-ONLY", COLUMN_BOOL},
	{"state", "STATE", COLUMN_TEXT},
	{0},
};

static const struct method_column session_columns[] = {
	{"id", "ID", COLUMN_COUNT},
	{"connections", "CONNECTIONS", COLUMN_COUNT},
	{"initiator", "INITIATOR", COLUMN_TEXT},
	{"peer", "PEER", COLUMN_TEXT},
	{"target", "TARGET", COLUMN_TEXT},
	{"created", "SINCE", COLUMN_TEXT},
	{"commands", "COMMANDS", COLUMN_COUNT},
	{"read_bytes", "READ", COLUMN_SIZE},
	{"written_bytes", "WRITTEN", COLUMN_SIZE},
	{0},
};

static const struct method_column target_columns[] = {
	{"name", "NAME", COLUMN_TEXT},
	{"luns", "LUNS", COLUMN_COUNT},
	{"initiators", "INITIATORS", COLUMN_COUNT},
	{"chap", "CHAP", COLUMN_BOOL},
	{"mutual_chap", "MUTUAL", COLUMN_BOOL},
	{"redirect", "REDIRECT", COLUMN_TEXT},
	{"state", "STATE", COLUMN_TEXT},
	{0},
};

static const struct method_column initiator_columns[] = {
	{"initiator", "INITIATOR", COLUMN_TEXT},
	{"user", "USER", COLUMN_TEXT},
	{"chap", "CHAP", COLUMN_BOOL},
	{"mutual_chap", "MUTUAL", COLUMN_BOOL},
	{0},
};

static const struct method_column controller_columns[] = {
	{"name", "NAME", COLUMN_TEXT},
	{"state", "STATE", COLUMN_TEXT},
	{"guest.connected", "VM", COLUMN_BOOL},
	{"guest.state", "GUEST", COLUMN_TEXT},
	{"commands.in_flight", "IN-FLIGHT", COLUMN_COUNT},
	{"commands.read_bytes", "READ", COLUMN_SIZE},
	{"commands.written_bytes", "WRITTEN", COLUMN_SIZE},
	{"namespace_names", "NAMESPACES", COLUMN_TEXT},
	{0},
};

static const struct method_column controller_fields[] = {
	{"name", "name", COLUMN_TEXT},
	{"state", "state", COLUMN_TEXT},
	{"error", "error", COLUMN_TEXT},
	{"socket", "socket", COLUMN_TEXT},
	{"doorbells", "doorbells", COLUMN_TEXT},
	{"queues", "queues", COLUMN_COUNT},
	{"namespace_names", "namespaces", COLUMN_TEXT},
	{"keeper.state", "keeper", COLUMN_TEXT},
	{"keeper.pid", "keeper-pid", COLUMN_COUNT},
	{"keeper.messages", "messages", COLUMN_COUNT},
	{"keeper.longest_message_ns", "longest-message", COLUMN_DURATION},
	{"keeper.doorbell_traps", "doorbell-traps", COLUMN_COUNT},
	{"keeper.engines", "engines", COLUMN_COUNT},
	{"engine.state", "engine", COLUMN_TEXT},
	{"guest.connected", "vm-connected", COLUMN_BOOL},
	{"guest.state", "guest", COLUMN_TEXT},
	{"guest.submission_queues", "submission-queues", COLUMN_COUNT},
	{"guest.completion_queues", "completion-queues", COLUMN_COUNT},
	{"guest.interrupts", "interrupts", COLUMN_TEXT},
	{"commands.in_flight", "in-flight", COLUMN_COUNT},
	{"commands.in_flight_bytes", "in-flight-data", COLUMN_SIZE},
	{"commands.reads", "reads", COLUMN_COUNT},
	{"commands.read_bytes", "read", COLUMN_SIZE},
	{"commands.writes", "writes", COLUMN_COUNT},
	{"commands.written_bytes", "written", COLUMN_SIZE},
	{"commands.flushes", "flushes", COLUMN_COUNT},
	{"commands.errors", "errors", COLUMN_COUNT},
	{0},
};

static const struct method_column namespace_columns[] = {
	{"controller", "CONTROLLER", COLUMN_TEXT},
	{"nsid", "NSID", COLUMN_COUNT},
	{"vdisk", "VDISK", COLUMN_TEXT},
	{"size_bytes", "SIZE", COLUMN_SIZE},
	{"block_bytes", "BLOCK", COLUMN_COUNT},
	{"read_only", "READ-ONLY", COLUMN_BOOL},
	{"shared", "SHARED", COLUMN_BOOL},
	{"state", "STATE", COLUMN_TEXT},
	{0},
};

static const struct method_column usage_columns[] = {{"usage", "USAGE", COLUMN_TEXT}, {0}};

static const struct method_column job_columns[] = {
	{"id", "ID", COLUMN_COUNT},
	{"kind", "KIND", COLUMN_TEXT},
	{"object", "OBJECT", COLUMN_TEXT},
	{"state", "STATE", COLUMN_TEXT},
	{"done_bytes", "DONE", COLUMN_SIZE},
	{"total_bytes", "TOTAL", COLUMN_SIZE},
	{"rate_bytes", "RATE", COLUMN_RATE},
	{"eta_ns", "ETA", COLUMN_DURATION},
	{"error.message", "ERROR", COLUMN_TEXT},
	{0},
};

static const struct method_column stats_columns[] = {
	{"name", "NAME", COLUMN_TEXT},
	{"read.operations", "READS", COLUMN_COUNT},
	{"read.bytes", "READ", COLUMN_SIZE},
	{"read.latency.p50_ns", "R-P50", COLUMN_DURATION},
	{"read.latency.p99_ns", "R-P99", COLUMN_DURATION},
	{"write.operations", "WRITES", COLUMN_COUNT},
	{"write.bytes", "WRITTEN", COLUMN_SIZE},
	{"write.latency.p50_ns", "W-P50", COLUMN_DURATION},
	{"write.latency.p99_ns", "W-P99", COLUMN_DURATION},
	{"in_flight", "IN-FLIGHT", COLUMN_COUNT},
	{"live_bytes", "LIVE", COLUMN_SIZE},
	{"write_amplification", "AMP", COLUMN_RATIO},
	{0},
};

static const struct method_column node_fields[] = {
	{"version", "version", COLUMN_TEXT},
	{"pid", "pid", COLUMN_COUNT},
	{"uptime_ns", "uptime", COLUMN_DURATION},
	{"state_directory", "state-directory", COLUMN_TEXT},
	{"reactor_count", "reactors", COLUMN_COUNT},
	{"map_budget_bytes", "map-budget", COLUMN_SIZE},
	{"iscsi.address", "iscsi-address", COLUMN_TEXT},
	{"nvme.directory", "nvme-directory", COLUMN_TEXT},
	{"nvme.controllers", "controllers", COLUMN_COUNT},
	{"pools", "pools", COLUMN_COUNT},
	{"vdisks", "vdisks", COLUMN_COUNT},
	{"failed_vdisks", "failed-vdisks", COLUMN_COUNT},
	{"jobs_running", "jobs-running", COLUMN_COUNT},
	{0},
};

static const struct method_column event_columns[] = {
	{"id", "ID", COLUMN_COUNT},
	{"time", "TIME", COLUMN_TEXT},
	{"severity", "SEVERITY", COLUMN_TEXT},
	{"reason", "REASON", COLUMN_TEXT},
	{"object", "OBJECT", COLUMN_TEXT},
	{"text", "TEXT", COLUMN_TEXT},
	{0},
};

static const struct method_column health_columns[] = {
	{"severity", "SEVERITY", COLUMN_TEXT},
	{"object", "OBJECT", COLUMN_TEXT},
	{"cause", "CAUSE", COLUMN_TEXT},
	{"remedy", "REMEDY", COLUMN_TEXT},
	{0},
};

static const struct method_column catalog_columns[] = {
	{"path", "PATH", COLUMN_TEXT},   {"kind", "KIND", COLUMN_TEXT},
	{"state", "STATE", COLUMN_TEXT}, {"sequence", "SEQUENCE", COLUMN_COUNT},
	{"size", "SIZE", COLUMN_SIZE},   {"made", "MADE", COLUMN_TEXT},
	{"error", "ERROR", COLUMN_TEXT}, {0},
};

static const struct method_column catalog_verify_columns[] = {
	{"rows", "ROWS", COLUMN_COUNT},
	{"mirrors", "MIRRORS", COLUMN_COUNT},
	{"differences", "DIFFERENCES", COLUMN_COUNT},
	{0},
};

static const struct method_column doctor_columns[] = {
	{"verdict", "VERDICT", COLUMN_TEXT},
	{"check", "CHECK", COLUMN_TEXT},
	{"found", "FOUND", COLUMN_TEXT},
	{"remedy", "REMEDY", COLUMN_TEXT},
	{0},
};

#define EVENT_AFTER                                                                        \
	PARAM("after", PARAM_INTEGER, 0, "only events with greater numbers", .minimum = 0, \
	      .maximum = INT64_MAX)
#define EVENT_LIMIT                                                                     \
	PARAM("limit", PARAM_INTEGER, 0, "so many at most (default 100)", .minimum = 1, \
	      .maximum = 1000)

#define NEW_DIRECTORY                                             \
	PARAM("directory", PARAM_TEXT, GIVEN,                     \
	      "absolute path of an empty directory on a disk of " \
	      "its own",                                          \
	      .maximum = 4000)
#define NEW_DISK                                                                           \
	PARAM("tier", PARAM_ENUM, 0, "what kind of disk it is (default ssd)",              \
	      .choices = tier_choices),                                                    \
		PARAM("capacity", PARAM_SIZE, 0,                                           \
		      "room it may take (default: the file system's size less a margin)"), \
		PARAM("force", PARAM_BOOL, 0, "take a directory of a pool that is no more")

static const struct method methods[METHOD_COUNT] = {
	[METHOD_POOL_CREATE] =
		METHOD("pool", "create", ROLE_ADMINISTRATOR, "make a pool in a directory",
		       PARAMS(THE_POOL,
			      PARAM("directory", PARAM_TEXT, GIVEN,
				    "absolute path; it or its parent exists, it is empty",
				    .maximum = 4000),
			      PARAM("capacity", PARAM_SIZE, 0,
				    "room the pool may take (default: the file system's size less "
				    "a margin)"),
			      PARAM("tier", PARAM_ENUM, 0,
				    "what kind of disk the directory is on (default ssd)",
				    .choices = tier_choices)),
		       pool_columns, METHOD_PRINT_ROWS, .changes = true),
	[METHOD_POOL_LIST] = METHOD("pool", "list", ROLE_READER, "list the pools and their space",
				    NO_PARAMS, pool_columns, METHOD_PRINT_ROWS),
	[METHOD_POOL_SHOW] = METHOD("pool", "show", ROLE_READER, "show one pool", PARAMS(THE_POOL),
				    pool_fields, METHOD_PRINT_FIELDS),
	[METHOD_POOL_DELETE] =
		METHOD("pool", "delete", ROLE_ADMINISTRATOR,
		       "forget a pool without containers and remove its files", PARAMS(THE_POOL),
		       NO_COLUMNS, METHOD_PRINT_NONE, .changes = true, .destructive = true),
	[METHOD_POOL_REPAIR] = METHOD("pool", "repair", ROLE_OPERATOR,
				      "make missing copies and empty disks that are draining, now",
				      PARAMS(THE_POOL), repair_fields, METHOD_PRINT_FIELDS,
				      .changes = true, .job = true),
	[METHOD_POOL_SCRUB] = METHOD(
		"pool", "scrub", ROLE_OPERATOR,
		"read every copy of all that is stored and hold it against its checksums",
		PARAMS(THE_POOL, PARAM("pause", PARAM_BOOL, 0, "pause the one that is under way"),
		       PARAM("resume", PARAM_BOOL, 0, "go on with the one that is paused"),
		       PARAM("cancel", PARAM_BOOL, 0, "give up the one under way")),
		scrub_fields, METHOD_PRINT_FIELDS, .changes = true, .job = true),
	[METHOD_POOL_FINDINGS] =
		METHOD("pool", "findings", ROLE_READER,
		       "show what the last scrub, or the one under way, has found",
		       PARAMS(THE_POOL), finding_columns, METHOD_PRINT_ROWS),
	[METHOD_DISK_ADD] = METHOD("disk", "add", ROLE_ADMINISTRATOR, "add a disk to a pool",
				   PARAMS(PARAM("pool", PARAM_NAME, GIVEN, "name of the pool"),
					  NEW_DIRECTORY, NEW_DISK),
				   disk_columns, METHOD_PRINT_ROWS, .changes = true),
	[METHOD_DISK_LIST] = METHOD("disk", "list", ROLE_READER, "list the disks of the pools",
				    PARAMS(PARAM("pool", PARAM_NAME, 0, "only those of this pool")),
				    disk_columns, METHOD_PRINT_ROWS),
	[METHOD_DISK_SHOW] =
		METHOD("disk", "show", ROLE_READER, "show one disk, what was measured, and limits",
		       PARAMS(THE_DISK), disk_fields, METHOD_PRINT_FIELDS),
	[METHOD_DISK_LOCATE] =
		METHOD("disk", "locate", ROLE_OPERATOR,
		       "tell where a disk is, and switch on the light of its slot",
		       PARAMS(THE_DISK, PARAM("off", PARAM_BOOL, 0, "switch the light off"),
			      PARAM("blink", PARAM_INTEGER, 0,
				    "instead, read from the disk each second for so many seconds, "
				    "so that its own light blinks",
				    .minimum = 1, .maximum = 3600)),
		       locate_fields, METHOD_PRINT_FIELDS, .changes = true, .job = true),
	[METHOD_DISK_DRAIN] =
		METHOD("disk", "drain", ROLE_ADMINISTRATOR,
		       "move what is on a disk to others, so that it can be removed",
		       PARAMS(THE_DISK, PARAM("stop", PARAM_BOOL, 0, "keep it after all"),
			      PARAM("pause", PARAM_BOOL, 0,
				    "move nothing until it is said again without; survives a "
				    "restart")),
		       disk_columns, METHOD_PRINT_ROWS, .changes = true),
	[METHOD_DISK_FAIL] =
		METHOD("disk", "fail", ROLE_ADMINISTRATOR,
		       "give a disk up: its copies are made elsewhere", PARAMS(THE_DISK),
		       disk_columns, METHOD_PRINT_ROWS, .changes = true, .destructive = true),
	[METHOD_DISK_RESTORE] =
		METHOD("disk", "restore", ROLE_ADMINISTRATOR,
		       "take back a disk that was missing or given up", PARAMS(THE_DISK),
		       disk_columns, METHOD_PRINT_ROWS, .changes = true),
	[METHOD_DISK_REPLACE] =
		METHOD("disk", "replace", ROLE_ADMINISTRATOR,
		       "add a disk and move what is on another one to it and to the rest",
		       PARAMS(THE_DISK, NEW_DIRECTORY, NEW_DISK,
			      PARAM("keep", PARAM_BOOL, 0,
				    "do not remove the other one when it is empty")),
		       disk_columns, METHOD_PRINT_ROWS, .changes = true),
	[METHOD_DISK_REMOVE] =
		METHOD("disk", "remove", ROLE_ADMINISTRATOR,
		       "forget a disk that holds nothing any more", PARAMS(THE_DISK), NO_COLUMNS,
		       METHOD_PRINT_NONE, .changes = true, .destructive = true),
	[METHOD_CONTAINER_CREATE] = METHOD(
		"container", "create", ROLE_ADMINISTRATOR, "make a container for vDisks",
		PARAMS(THE_CONTAINER,
		       PARAM("pool", PARAM_NAME, 0, "pool that holds it (default: the only one)"),
		       PARAM("set", PARAM_SETTINGS, 0,
			     "its policy, as with container set; may be given repeatedly")),
		container_columns, METHOD_PRINT_ROWS, .changes = true),
	[METHOD_CONTAINER_LIST] = METHOD("container", "list", ROLE_READER, "list the containers",
					 NO_PARAMS, container_columns, METHOD_PRINT_ROWS),
	[METHOD_CONTAINER_SHOW] =
		METHOD("container", "show", ROLE_READER,
		       "show one container, what it has and may have, also on each tier",
		       PARAMS(THE_CONTAINER), container_fields, METHOD_PRINT_FIELDS),
	[METHOD_CONTAINER_DELETE] =
		METHOD("container", "delete", ROLE_ADMINISTRATOR,
		       "remove a container without vDisks", PARAMS(THE_CONTAINER), NO_COLUMNS,
		       METHOD_PRINT_NONE, .changes = true, .destructive = true),
	[METHOD_CONTAINER_GET] =
		METHOD("container", "get", ROLE_READER,
		       "show the policy of a container, and where each value comes from",
		       PARAMS(THE_CONTAINER, THE_PROPERTIES), policy_columns, METHOD_PRINT_ROWS),
	[METHOD_CONTAINER_SET] =
		METHOD("container", "set", ROLE_ADMINISTRATOR,
		       "change the policy of a container; VALUE \"default\" takes a setting back",
		       PARAMS(THE_CONTAINER, THE_SETTINGS), policy_columns, METHOD_PRINT_ROWS,
		       .changes = true),
	[METHOD_VDISK_CREATE] = METHOD(
		"vdisk", "create", ROLE_OPERATOR,
		"make a vDisk, which takes space as it is written",
		PARAMS(THE_VDISK, PARAM("size", PARAM_SIZE, GIVEN, "1M to 64T, a multiple of 4K"),
		       PARAM("block", PARAM_ENUM, 0, "logical block in bytes (default 512)",
			     .choices = block_choices)),
		vdisk_columns, METHOD_PRINT_ROWS, .changes = true),
	[METHOD_VDISK_LIST] =
		METHOD("vdisk", "list", ROLE_READER, "list the vDisks",
		       PARAMS(PARAM("container", PARAM_NAME, 0, "only those in this container")),
		       vdisk_columns, METHOD_PRINT_ROWS),
	[METHOD_VDISK_SHOW] = METHOD("vdisk", "show", ROLE_READER, "show one vDisk",
				     PARAMS(THE_VDISK), vdisk_fields, METHOD_PRINT_FIELDS),
	[METHOD_VDISK_RESIZE] = METHOD(
		"vdisk", "resize", ROLE_OPERATOR, "grow a vDisk, or shrink it with --shrink",
		PARAMS(THE_VDISK,
		       PARAM("size", PARAM_SIZE, GIVEN, "the new size, a multiple of 4K"),
		       PARAM("shrink", PARAM_BOOL, 0,
			     "allow a smaller size: what lies beyond it is lost")),
		vdisk_columns, METHOD_PRINT_ROWS, .changes = true, .destructive_if = "shrink"),
	[METHOD_VDISK_RENAME] = METHOD(
		"vdisk", "rename", ROLE_OPERATOR, "give a vDisk another name in its container",
		PARAMS(THE_VDISK, PARAM("new_name", PARAM_VDISK, GIVEN,
					"the new name, as container/vdisk, in the same container")),
		vdisk_columns, METHOD_PRINT_ROWS, .changes = true),
	[METHOD_VDISK_DELETE] =
		METHOD("vdisk", "delete", ROLE_OPERATOR,
		       "delete a vDisk that is neither exported nor attached, and all its data",
		       PARAMS(THE_VDISK), NO_COLUMNS, METHOD_PRINT_NONE, .changes = true,
		       .job = true, .destructive = true),
	[METHOD_VDISK_CHECK] = METHOD(
		"vdisk", "check", ROLE_OPERATOR, "verify the structure of a vDisk, in use or not",
		PARAMS(THE_VDISK,
		       PARAM("data", PARAM_BOOL, 0, "read and verify all stored data as well")),
		check_fields, METHOD_PRINT_FIELDS, .changes = true, .job = true),
	[METHOD_VDISK_FLUSH] =
		METHOD("vdisk", "flush", ROLE_OPERATOR,
		       "make all written data durable and write a checkpoint", PARAMS(THE_VDISK),
		       NO_COLUMNS, METHOD_PRINT_NONE, .changes = true),
	[METHOD_VDISK_GET] =
		METHOD("vdisk", "get", ROLE_READER,
		       "show what holds for a vDisk, and where each value comes from",
		       PARAMS(THE_VDISK, THE_PROPERTIES), policy_columns, METHOD_PRINT_ROWS),
	[METHOD_VDISK_SET] =
		METHOD("vdisk", "set", ROLE_OPERATOR,
		       "give a vDisk what its container has otherwise; VALUE \"default\" takes a "
		       "setting back",
		       PARAMS(THE_VDISK, THE_SETTINGS), policy_columns, METHOD_PRINT_ROWS,
		       .changes = true),
	[METHOD_ISCSI_EXPORT] = METHOD(
		"iscsi", "export", ROLE_OPERATOR, "serve a vDisk over iSCSI and print its URL",
		PARAMS(THE_VDISK, PARAM("read_only", PARAM_BOOL, 0, "refuse writes")),
		export_columns, METHOD_PRINT_VALUE, .changes = true),
	[METHOD_ISCSI_UNEXPORT] =
		METHOD("iscsi", "unexport", ROLE_OPERATOR,
		       "end the sessions on a vDisk and serve it no more", PARAMS(THE_VDISK),
		       NO_COLUMNS, METHOD_PRINT_NONE, .changes = true),
	[METHOD_ISCSI_LIST] = METHOD("iscsi", "list", ROLE_READER, "list what is served over iSCSI",
				     NO_PARAMS, export_columns, METHOD_PRINT_ROWS),
	[METHOD_ISCSI_SESSIONS] =
		METHOD("iscsi", "sessions", ROLE_READER, "list the initiators logged in", NO_PARAMS,
		       session_columns, METHOD_PRINT_ROWS),
	[METHOD_ISCSI_TARGET_CREATE] =
		METHOD("iscsi", "target-create", ROLE_ADMINISTRATOR,
		       "make a target that vDisks can be added to as LUNs", PARAMS(THE_TARGET),
		       target_columns, METHOD_PRINT_NONE, .changes = true),
	[METHOD_ISCSI_TARGET_SET] = METHOD(
		"iscsi", "target-set", ROLE_ADMINISTRATOR, "change who may log in to a target",
		PARAMS(THE_TARGET, CHAP_PARAMS,
		       PARAM("no_chap", PARAM_BOOL, 0, "forget names and secrets"),
		       PARAM("max_sessions", PARAM_INTEGER, 0, "sessions at once, 0: any number",
			     .minimum = 0, .maximum = 4096),
		       PARAM("max_initiator_sessions", PARAM_INTEGER, 0,
			     "sessions of one initiator, 0: any number", .minimum = 0,
			     .maximum = 4096),
		       PARAM("redirect", PARAM_TEXT, 0,
			     "send initiators to HOST:PORT for now; empty: serve them here",
			     .maximum = 255)),
		target_columns, METHOD_PRINT_NONE, .changes = true),
	[METHOD_ISCSI_TARGET_DELETE] =
		METHOD("iscsi", "target-delete", ROLE_ADMINISTRATOR,
		       "delete a target without LUNs, with its rules", PARAMS(THE_TARGET),
		       NO_COLUMNS, METHOD_PRINT_NONE, .changes = true),
	[METHOD_ISCSI_TARGET_LIST] = METHOD("iscsi", "target-list", ROLE_READER, "list targets",
					    NO_PARAMS, target_columns, METHOD_PRINT_ROWS),
	[METHOD_ISCSI_LUN_ADD] = METHOD(
		"iscsi", "lun-add", ROLE_OPERATOR, "serve a vDisk as a LUN of a target",
		PARAMS(THE_TARGET,
		       PARAM("vdisk", PARAM_VDISK, GIVEN, "the vDisk, as container/vdisk"),
		       PARAM("lun", PARAM_INTEGER, 0, "its number (default: the first free one)",
			     .minimum = 0, .maximum = 255),
		       PARAM("read_only", PARAM_BOOL, 0, "refuse writes"),
		       PARAM("removable", PARAM_BOOL, 0, "a medium that can be ejected")),
		export_columns, METHOD_PRINT_VALUE, .changes = true),
	[METHOD_ISCSI_LUN_REMOVE] =
		METHOD("iscsi", "lun-remove", ROLE_OPERATOR,
		       "serve a LUN no more; the target's others go on",
		       PARAMS(THE_TARGET, PARAM("lun", PARAM_INTEGER, GIVEN, "its number",
						.minimum = 0, .maximum = 255)),
		       NO_COLUMNS, METHOD_PRINT_NONE, .changes = true),
	[METHOD_ISCSI_INITIATOR_ADD] =
		METHOD("iscsi", "initiator-add", ROLE_ADMINISTRATOR,
		       "allow an initiator; once one is named, no other may log in",
		       PARAMS(THE_TARGET, THE_INITIATOR, CHAP_PARAMS), target_columns,
		       METHOD_PRINT_NONE, .changes = true),
	[METHOD_ISCSI_INITIATOR_REMOVE] =
		METHOD("iscsi", "initiator-remove", ROLE_ADMINISTRATOR,
		       "allow an initiator no more and end its sessions",
		       PARAMS(THE_TARGET, THE_INITIATOR,
			      PARAM("open", PARAM_BOOL, 0,
				    "also the last one: every initiator may log in then")),
		       target_columns, METHOD_PRINT_NONE, .changes = true),
	[METHOD_ISCSI_INITIATOR_LIST] =
		METHOD("iscsi", "initiator-list", ROLE_READER, "list who may log in to a target",
		       PARAMS(THE_TARGET), initiator_columns, METHOD_PRINT_ROWS),
	[METHOD_ISCSI_SESSION_DROP] =
		METHOD("iscsi", "session-drop", ROLE_OPERATOR,
		       "end a session; its initiator may log in again",
		       PARAMS(PARAM("id", PARAM_INTEGER, GIVEN, "number of the session",
				    .minimum = 1, .maximum = 65535)),
		       NO_COLUMNS, METHOD_PRINT_NONE, .changes = true),
	[METHOD_NVME_CREATE] = METHOD(
		"nvme", "create", ROLE_OPERATOR,
		"make a controller for one virtual machine; print what to give to QEMU",
		PARAMS(THE_CONTROLLER,
		       PARAM("doorbells", PARAM_ENUM, 0,
			     "trapped (the default; Linux makes few traps), or mapped into the "
			     "guest",
			     .choices = doorbell_choices),
		       PARAM("queues", PARAM_INTEGER, 0,
			     "most pairs of I/O queues (default: what [nvme] max_queues allows)",
			     .minimum = 1, .maximum = 128),
		       PARAM("manage", PARAM_NAME, 0,
			     "container in which its guest may make and delete vDisks, by NVMe "
			     "Namespace Management"),
		       PARAM("manage_limit", PARAM_SIZE, 0, "most bytes of those (default: 1T)")),
		usage_columns, METHOD_PRINT_TEXT, .changes = true),
	[METHOD_NVME_LIST] = METHOD("nvme", "list", ROLE_READER, "list the controllers", NO_PARAMS,
				    controller_columns, METHOD_PRINT_ROWS),
	[METHOD_NVME_SHOW] =
		METHOD("nvme", "show", ROLE_READER, "show one controller with its counters",
		       PARAMS(THE_CONTROLLER), controller_fields, METHOD_PRINT_FIELDS),
	[METHOD_NVME_USAGE] =
		METHOD("nvme", "usage", ROLE_READER, "print again what to give to QEMU",
		       PARAMS(THE_CONTROLLER), usage_columns, METHOD_PRINT_TEXT),
	[METHOD_NVME_ATTACH] = METHOD(
		"nvme", "attach", ROLE_OPERATOR,
		"give a controller a vDisk; a running guest sees it appear",
		PARAMS(THE_CONTROLLER,
		       PARAM("vdisk", PARAM_VDISK, GIVEN, "the vDisk, as container/vdisk"),
		       PARAM("nsid", PARAM_INTEGER, 0, "namespace id (default: the lowest free)",
			     .minimum = 1, .maximum = 256),
		       PARAM("read_only", PARAM_BOOL, 0, "refuse writes"),
		       PARAM("shared", PARAM_BOOL, 0,
			     "others may have it as well: all of them with this option"),
		       PARAM("block_size", PARAM_ENUM, 0,
			     "logical block for the guest (default: the vDisk's own)",
			     .choices = block_choices)),
		namespace_columns, METHOD_PRINT_ROWS, .changes = true),
	[METHOD_NVME_DETACH] =
		METHOD("nvme", "detach", ROLE_OPERATOR,
		       "take a vDisk away from a controller; a running guest sees it disappear",
		       PARAMS(THE_CONTROLLER,
			      PARAM("vdisk", PARAM_VDISK, GIVEN, "the vDisk, as container/vdisk")),
		       NO_COLUMNS, METHOD_PRINT_NONE, .changes = true),
	[METHOD_NVME_NAMESPACES] =
		METHOD("nvme", "namespaces", ROLE_READER, "list the vDisks that controllers have",
		       PARAMS(PARAM("name", PARAM_NAME, PARAM_POSITIONAL,
				    "only of this controller (default: all)")),
		       namespace_columns, METHOD_PRINT_ROWS),
	[METHOD_NVME_KEEPER_REPLACE] =
		METHOD("nvme", "keeper-replace", ROLE_OPERATOR,
		       "let the keeper go on as the program that is installed now",
		       PARAMS(THE_CONTROLLER), NO_COLUMNS, METHOD_PRINT_NONE, .changes = true),
	[METHOD_NVME_DELETE] =
		METHOD("nvme", "delete", ROLE_OPERATOR,
		       "end a controller that no virtual machine uses; its vDisks stay",
		       PARAMS(THE_CONTROLLER,
			      PARAM("force", PARAM_BOOL, 0,
				    "even while a machine runs on it, which loses its disks")),
		       NO_COLUMNS, METHOD_PRINT_NONE, .changes = true, .destructive_if = "force"),
	[METHOD_JOB_LIST] = METHOD("job", "list", ROLE_READER, "list running and recent jobs",
				   NO_PARAMS, job_columns, METHOD_PRINT_ROWS),
	[METHOD_JOB_SHOW] = METHOD("job", "show", ROLE_READER, "show one job", PARAMS(THE_JOB),
				   job_columns, METHOD_PRINT_FIELDS),
	[METHOD_JOB_CANCEL] =
		METHOD("job", "cancel", ROLE_OPERATOR, "end a job that can be ended",
		       PARAMS(THE_JOB), job_columns, METHOD_PRINT_NONE, .changes = true),
	[METHOD_JOB_WAIT] = METHOD(
		"job", "wait", ROLE_READER, "wait until a job has ended; fail when it failed",
		PARAMS(THE_JOB, PARAM("timeout_ms", PARAM_INTEGER, 0,
				      "answer with the job as it is after this time (default 1000)",
				      .minimum = 0, .maximum = 30000)),
		job_columns, METHOD_PRINT_FIELDS),
	[METHOD_STATS_SHOW] =
		METHOD("stats", "show", ROLE_READER, "show what vDisks did since they were opened",
		       PARAMS(PARAM("name", PARAM_VDISK, PARAM_POSITIONAL,
				    "only this vDisk (default: all)")),
		       stats_columns, METHOD_PRINT_ROWS),
	[METHOD_CATALOG_SHOW] = METHOD("catalog", "show", ROLE_READER,
				       "show the catalog and its mirrors on the disks of pools",
				       NO_PARAMS, catalog_columns, METHOD_PRINT_ROWS),
	[METHOD_CATALOG_VERIFY] =
		METHOD("catalog", "verify", ROLE_OPERATOR,
		       "read the catalog and its mirrors and compare all rows; a mirror that "
		       "differs is built again",
		       NO_PARAMS, catalog_verify_columns, METHOD_PRINT_ROWS, .changes = true),
	[METHOD_NODE_SHOW] = METHOD("node", "show", ROLE_READER, "show the daemon itself",
				    NO_PARAMS, node_fields, METHOD_PRINT_FIELDS),
	[METHOD_EVENT_LIST] = METHOD(
		"event", "list", ROLE_READER, "list events: the newest, or those after a number",
		PARAMS(EVENT_AFTER, EVENT_LIMIT), event_columns, METHOD_PRINT_ROWS),
	[METHOD_EVENT_FOLLOW] = METHOD(
		"event", "follow", ROLE_READER,
		"wait for events and print them, from now or after a number on",
		PARAMS(EVENT_AFTER, EVENT_LIMIT,
		       PARAM("timeout_ms", PARAM_INTEGER, 0,
			     "end when there was none for so long (default: go on; API: 10000)",
			     .minimum = 0, .maximum = 30000)),
		event_columns, METHOD_PRINT_ROWS),
	[METHOD_HEALTH_SHOW] =
		METHOD("health", "show", ROLE_READER,
		       "say what is wrong, why, and what to do; exit code 0 when nothing is, or "
		       "notes only",
		       NO_PARAMS, health_columns, METHOD_PRINT_ROWS, .implied = true),
	[METHOD_DOCTOR_RUN] = METHOD(
		"doctor", "run", ROLE_READER,
		"check kernel, limits, file systems, clock, space and configuration of this host",
		PARAMS(PARAM("config", PARAM_TEXT, 0, "configuration file of the daemon",
			     .maximum = 4000),
		       PARAM("directory", PARAM_TEXT, 0,
			     "also check this directory, for a pool to come", .maximum = 4000)),
		doctor_columns, METHOD_PRINT_ROWS, .local = true, .implied = true),
	[METHOD_SUPPORT_BUNDLE_WRITE] = METHOD(
		"support-bundle", "write", ROLE_READER,
		"write configuration, states, events, log and metrics to a tar file",
		PARAMS(PARAM("file", PARAM_TEXT, GIVEN, "the file to make", .maximum = 4000),
		       PARAM("redact", PARAM_BOOL, 0,
			     "replace names and addresses; secrets are left out in any case"),
		       PARAM("config", PARAM_TEXT, 0, "configuration file of the daemon",
			     .maximum = 4000),
		       PARAM("log", PARAM_TEXT, 0,
			     "its log (default: what the journal has of its unit)",
			     .maximum = 4000)),
		NO_COLUMNS, METHOD_PRINT_NONE, .local = true, .implied = true),
	[METHOD_COMPLETION_BASH] =
		METHOD("completion", "bash", ROLE_READER, "print the completion script for bash",
		       NO_PARAMS, NO_COLUMNS, METHOD_PRINT_NONE, .local = true),
};

static const struct {
	const char *noun, *summary;
} nouns[] = {
	{"pool", "room on disks"},
	{"disk", "disks of the pools"},
	{"container", "groups of vDisks in a pool"},
	{"vdisk", "virtual disks"},
	{"iscsi", "vDisks served over iSCSI"},
	{"nvme", "NVMe disks of virtual machines"},
	{"job", "work that goes on in the background"},
	{"stats", "operations, bytes and latencies"},
	{"catalog", "what the daemon knows, and its copies"},
	{"node", "the daemon"},
	{"event", "what has happened, with reason codes"},
	{"health", "what is wrong now"},
	{"doctor", "is this host fit for the daemon"},
	{"support-bundle", "what others need to help"},
	{"completion", "completion of this command line in shells"},
};

const struct method *method_get(enum method_id id)
{
	ASSERT(id < METHOD_COUNT);
	return &methods[id];
}

enum method_id method_id(const struct method *method)
{
	ASSERT(method >= methods && method < methods + METHOD_COUNT);
	return (enum method_id)(method - methods);
}

const struct method *method_find_words(const char *noun, const char *verb)
{
	for (size_t i = 0; i < METHOD_COUNT; i++)
		if (strcmp(methods[i].noun, noun) == 0 && strcmp(methods[i].verb, verb) == 0)
			return &methods[i];
	return NULL;
}

const struct method *method_find_implied(const char *noun)
{
	for (size_t i = 0; i < METHOD_COUNT; i++)
		if (methods[i].implied && strcmp(methods[i].noun, noun) == 0)
			return &methods[i];
	return NULL;
}

const struct method *method_find(const char *name)
{
	char own[METHOD_NAME_MAX];

	for (size_t i = 0; i < METHOD_COUNT; i++)
		if (strcmp(method_name(&methods[i], own), name) == 0)
			return &methods[i];
	return NULL;
}

const char *method_name(const struct method *method, char ret_name[static METHOD_NAME_MAX])
{
	snprintf(ret_name, METHOD_NAME_MAX, "%s.%s", method->noun, method->verb);
	return ret_name;
}

const char *method_noun(size_t index)
{
	return index < ARRAY_SIZE(nouns) ? nouns[index].noun : NULL;
}

const char *method_noun_summary(const char *noun)
{
	for (size_t i = 0; i < ARRAY_SIZE(nouns); i++)
		if (strcmp(nouns[i].noun, noun) == 0)
			return nouns[i].summary;
	return NULL;
}

const struct method_param *method_param_find(const struct method *method, const char *name)
{
	for (const struct method_param *param = method->params; param->name; param++)
		if (strcmp(param->name, name) == 0)
			return param;
	return NULL;
}

const char *role_name(enum role role)
{
	static const char *const names[] = {"reader", "operator", "administrator"};

	ASSERT(role < ARRAY_SIZE(names));
	return names[role];
}

const char *param_type_name(enum param_type type)
{
	static const char *const names[] = {
		"NAME", "CONTAINER/VDISK", "TEXT",   "FILE",     "SIZE",
		"BOOL", "NUMBER",          "CHOICE", "PROPERTY", "PROPERTY=VALUE"};

	ASSERT(type < ARRAY_SIZE(names));
	return names[type];
}

bool param_is_many(const struct method_param *param)
{
	return param->type == PARAM_PROPERTIES || param->type == PARAM_SETTINGS;
}
