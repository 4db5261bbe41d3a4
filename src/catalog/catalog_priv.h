/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Shared by catalog.c (calls and jobs) and mirror*.c. All of it lives on the catalog's home. */
#include "catalog/mirror.h"
#include "catalog/mirror_disk.h"
#include "catalog/store.h"
#include "reactor/fiber.h"

/* What an operation on a disk may take when nobody says. */
#define MIRROR_TIMEOUT_NS (5 * NSEC_PER_SEC)

#define MIRROR_STANDING_MAX (4u + CATALOG_MIRRORS_MAX * (4u + (size_t)CATALOG_MIRROR_DIRECTORY_MAX))

struct mirror {
	struct list_node link;
	struct catalog *catalog;
	char *directory;
	bool standing; /* has all that is acknowledged, and must get what will be */
	bool joined;   /* gets frames */
	bool removed;  /* by the fiber that has `work`; else it is to be freed */
	bool refused;
	bool was_lost;
	bool building;
	struct mirror_probe *probe; /* its disk is being asked, */
	uint64_t probe_ns;          /* since then */
	bool answers;               /* its disk took a write a moment ago */
	bool late;                  /* a task of it hangs and was left alone (mirror_task.h) */
	int error;
	uint64_t sequence, bytes, made_wall_ns;
	uint64_t number;    /* of its newest log */
	uint64_t log_bytes; /* of the logs since its snapshot */
	uint64_t next_try_ns;
	unsigned tries;
	/* The append that runs. */
	struct world_file *file;
	uint64_t offset;
	struct world_op op;
	struct iovec iov;
	struct mirror_frame *frame;
	bool in_flight, syncing;
	/* A log that the next frame goes to instead; the builder made it and waits. */
	struct world_file *next_file, *old_file;
	struct catalog_position start; /* of the newest log */
	bool abandoned;                /* it took too long: nobody waits for it any more */
	int failed;
};

enum mirrors_stage {
	MIRRORS_IDLE,
	MIRRORS_APPEND, /* a frame goes to those that joined */
	MIRRORS_HINT,   /* the standing is written beside the catalog, */
	MIRRORS_ROW,    /* then into it */
};

struct mirrors {
	struct list list;
	unsigned count;
	struct catalog_position position; /* of what all that joined have */
	struct lineage lineage;           /* of the catalog */
	enum mirrors_stage stage;
	struct mirror_frame *frame;
	unsigned pending;
	struct reactor_timer timer;
	uint64_t timeout_ns; /* of an operation that is only asked for, */
	uint64_t limit_ns;   /* of an append, and of an operation that others wait for */
	/* The standing, when what is in memory is not yet durable everywhere. */
	bool dirty;
	bool telling; /* under way */
	bool wanted;  /* somebody waits for it, not only the next commit */
	int told;     /* how it ended last */
	struct store_request row_request;
	struct catalog_change row_change;
	uint8_t *row_value;
	/* The hint: the same beside the catalog. */
	char *hint_path;
	struct world_file *hint_file;
	uint8_t *hint_data;
	uint64_t hint_number;
	struct world_op hint_op;
	struct iovec hint_iov;
	bool hint_syncing;
	/* The builder. */
	struct fiber_task task;
	bool builder_runs, stopping;
	unsigned asking;            /* fibers of mirror_ask.c and mirror_task.c */
	struct fiber_mutex work;    /* held by whoever builds, adds, removes or verifies */
	struct fiber_queue changed; /* anything of the above */
};

enum job { JOB_READ, JOB_WRITE, JOB_UPKEEP };

struct catalog {
	struct world *world;
	struct reactor *home;
	struct store *store;
	struct list reads, writes; /* of struct call */
	struct list running;       /* of struct store_request, handed to the job */
	struct list held;          /* done by the store; mirrors are not through yet */
	bool busy;
	enum job job;
	bool upkeep;
	bool damaged;    /* when it was opened */
	int write_error; /* of the disk, at the last write */
	struct world_op op;
	struct reactor_hook hook; /* starts a job once all fibers of a turn have queued theirs */
	struct fiber_queue idle;
	struct mirrors mirrors;
};

struct call {
	struct store_request request;
	struct catalog *catalog;
	struct reactor *reactor; /* of the fiber that waits */
	struct fiber *fiber;
	struct world_message message;
	bool finished;
};

/* catalog.c */
int catalog_call_run(struct catalog *catalog, struct call *call);
/* Starts a job when there is something to do. */
void catalog_job_start(struct catalog *catalog);
/* Runs the row's request as a job of its own; mirrors_row_written() follows. */
void catalog_job_row(struct catalog *catalog);
/* The mirrors are through: calls that wait get their results, or `error` in place of success. */
void catalog_write_end(struct catalog *catalog, int error);

/* mirror.c */
void mirrors_init(struct mirrors *mirrors);
/* At open: reads which mirrors there are, and compares. */
int mirrors_open(struct catalog *catalog, const struct catalog_options *options,
		 struct catalog_report *report);
/* In a fiber: ends the builder. Then, when nothing is under way, frees all. */
void mirrors_stop(struct catalog *catalog);
void mirrors_close(struct catalog *catalog);
/* Before a write: whether the standing must be told first. It then ends in catalog_write_end(). */
bool mirrors_must_tell(const struct catalog *catalog);
void mirrors_tell(struct catalog *catalog);
/* After a write by the store; ends in catalog_write_end(). */
void mirrors_written(struct catalog *catalog);
void mirrors_row_written(struct catalog *catalog);
/* In a fiber: waits until the standing that is in memory now is durable. */
int mirrors_tell_wait(struct catalog *catalog);
void mirror_lose(struct mirror *mirror, int error);
/* Of what lies in a directory, with the catalog's own. 0 equal, -EAGAIN older, -ESTALE newer or of
 * another history (mirror_is_forked()), -EEXIST of another catalog. */
int mirror_compare(const struct mirrors *mirrors, const struct mirror_look *look);
/* Whether a copy that ends there is no older state of the other, though that has come as far: both
 * have changes that the other lacks. Of one catalog; never of two generations, since who made the
 * newer one knew what was given up. */
bool mirror_is_forked(const struct catalog_position *copy, const struct catalog_position *other,
		      const struct lineage *lineage);
void mirror_kick(struct catalog *catalog); /* the builder */
/* In a fiber: from the next frame on, frames go to this empty log, which becomes the mirror's.
 * -ETIMEDOUT: the file stays the caller's, for an append is under way that nobody waits for. */
int mirror_join(struct mirror *mirror, struct world_file *file, uint64_t number);

/* mirror_members.c */
int mirrors_prepare(struct mirrors *mirrors); /* what is needed once there is a mirror */
struct mirror *mirror_new(struct catalog *catalog, const char *directory); /* in the list */
void mirror_free(struct mirror *mirror); /* its files are closed */
struct mirror *mirror_find(struct mirrors *mirrors, const char *directory); /* not removed */

/* mirror_adopt.c, in the fiber that has `work`: those that are equal to the catalog take their
 * standing again. Those whose disks hang are lost. -ESTALE: one is newer. */
int mirrors_adopt(struct catalog *catalog, bool renew, struct catalog_report *report);

/* mirror_ask.c, in a fiber */
/* mirror_look() and mirror_load(); -ETIMEDOUT when the disk does not answer an operation within
 * timeout_ns, -ENAMETOOLONG when no mirror can be there. Beside a catalog that is open `mirrors`
 * counts it, else it is NULL. */
int mirror_look_within(struct mirrors *mirrors, const char *directory, uint64_t timeout_ns,
		       struct mirror_look *ret_look);
int mirror_load_within(const char *directory, uint64_t timeout_ns, struct mirror_look *ret_look,
		       struct mirror_rows *ret_rows);
/* Finds out whether the disk takes writes, and makes the directory of the mirror's files: sets
 * `answers`, or the mirror is lost. */
void mirror_probe_start(struct mirror *mirror);
void mirror_probe_forget(struct mirror *mirror);

/* mirror_build.c */
void mirror_builder_start(struct catalog *catalog);
/* In a fiber; waits for an append. -ETIMEDOUT: one is under way that nobody waits for. */
int mirror_close_files(struct mirror *mirror);

/* mirror_hint.c */
struct mirror_standing {
	char *directory;
	bool standing;
};

struct mirror_standings {
	unsigned count;
	struct mirror_standing mirrors[CATALOG_MIRRORS_MAX];
	uint8_t uuid[MIRROR_UUID_BYTES]; /* of a hint */
	uint64_t generation;
	uint64_t number; /* of the hint, and of the next one's slot */
};

void mirror_standings_done(struct mirror_standings *standings);
size_t mirror_standings_encode(const struct mirror_standings *standings,
			       uint8_t value[static MIRROR_STANDING_MAX]);
/* -EUCLEAN, -ENOMEM. */
int mirror_standings_decode(const uint8_t *value, size_t length,
			    struct mirror_standings *ret_standings);

#define MIRROR_HINT_SLOT (64u << 10)
_Static_assert(MIRROR_STANDING_MAX + 64 <= MIRROR_HINT_SLOT, "a hint fits");

/* Of the catalog at `path`. -ENOENT there is none that is good. */
int mirror_hint_read(const char *path, struct mirror_standings *ret_standings);
/* A slot's content. */
void mirror_hint_fill(uint8_t slot[static MIRROR_HINT_SLOT],
		      const struct mirror_standings *standings);
/* Opens or makes the file, durable and with all its space. */
int mirror_hint_open(const char *path, struct world_file **ret_file);
/* Whether it names any mirror. */
int mirror_hint_find(const char *path, bool *ret_found);
int mirror_hint_write(const char *path, const struct mirror_standings *standings);

/* mirror_restore.c */
/* Makes the catalog again at options->path. `from`: the mirror in that directory or a better one
 * that it knows; NULL: one in good standing by the hint. */
int mirror_restore(struct world *world, const struct catalog_options *options, const char *from,
		   struct catalog_report *report);
/* catalog_make.c: the new database at options->path takes the place of what is there, which stays
 * under the same names and `suffix`. */
int catalog_replace(const struct catalog_options *options, const char *suffix);
/* A new database with these rows and no WAL, named as options->path with "-new" behind it. */
int mirror_restore_fill(const struct catalog_options *options, const struct mirror_rows *rows,
			const struct catalog_position *position);
