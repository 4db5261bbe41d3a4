/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/fsck_rebuild_print.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include "base/macros.h"

static const char *const next_steps[] = {
	"sarsen-fsck -n, which checks everything against the new catalog",
	"start sarsend; look at each vDisk before its guests do",
	"export the vDisks again: exports, NVMe controllers and reservations were in the catalog "
	"alone, and so were policies (but for the number of copies), limits of capacity, events "
	"and jobs",
	"give the vDisks the names, sizes and containers that they had, where these are not right",
};

static const char *kind_name(enum fsck_rebuild_kind kind)
{
	return kind == FSCK_REBUILD_NOTE    ? "note"
	       : kind == FSCK_REBUILD_DOUBT ? "doubtful"
					    : "refused";
}

static void clear_progress(struct fsck_print *print)
{
	if (print->progress_shown)
		fputs("\r\033[K", stderr);
	print->progress_shown = false;
}

void fsck_rebuild_print_note(struct fsck_rebuild_print *print, const struct fsck_rebuild_note *note)
{
	clear_progress(print->print);
	if (print->print->findings) {
		json_array_append_new(print->print->findings,
				      json_pack("{s:s, s:s, s:s, s:s?}", "class",
						kind_name(note->kind), "object", note->object,
						"cause", note->text, "advice", note->advice));
		return;
	}
	fprintf(print->print->out, "%s: %s: %s\n", kind_name(note->kind), note->object, note->text);
	if (note->advice)
		fprintf(print->print->out, "    to do: %s\n", note->advice);
}

static void print_time(FILE *out, uint64_t wall_ns)
{
	time_t seconds = (time_t)(wall_ns / NSEC_PER_SEC);
	struct tm broken;
	char text[32];

	if (wall_ns == 0 || !gmtime_r(&seconds, &broken))
		return;
	strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &broken);
	fprintf(out, " of %s UTC", text);
}

void fsck_rebuild_print_vdisk(struct fsck_rebuild_print *print,
			      const struct fsck_rebuild_vdisk *vdisk)
{
	FILE *out = print->print->out;

	clear_progress(print->print);
	if (print->print->findings) {
		json_t *json = json_pack(
			"{s:I, s:s, s:s, s:s, s:I, s:I, s:i}", "id", (json_int_t)vdisk->id, "pool",
			vdisk->pool_name, "container", vdisk->container, "name", vdisk->name,
			"size_bytes", (json_int_t)vdisk->size_bytes, "live_bytes",
			(json_int_t)vdisk->live_bytes, "block_bytes", (int)vdisk->block_bytes);

		json_object_set_new(json, "copies", json_integer((json_int_t)vdisk->copies));
		json_object_set_new(json, "checkpoint",
				    json_integer((json_int_t)vdisk->checkpoint_lsn));
		json_object_set_new(json, "log_end", json_integer((json_int_t)vdisk->log_lsn));
		json_object_set_new(json, "checkpoint_wall_ns",
				    json_integer((json_int_t)vdisk->written_wall_ns));
		json_object_set_new(json, "doubtful", json_boolean(vdisk->is_doubtful));
		if (!print->vdisks)
			print->vdisks = json_array();
		json_array_append_new(print->vdisks, json);
		return;
	}
	fprintf(out,
		"vDisk %" PRIu64 ": %s/%s in pool %s, %" PRIu64 " MiB, blocks of %u: ", vdisk->id,
		vdisk->container, vdisk->name, vdisk->pool_name, vdisk->size_bytes / MIB,
		vdisk->block_bytes);
	if (vdisk->checkpoint_lsn) {
		fprintf(out, "checkpoint at record %" PRIu64, vdisk->checkpoint_lsn);
		print_time(out, vdisk->written_wall_ns);
	} else {
		fputs("no checkpoint", out);
	}
	fprintf(out, ", log to record %" PRIu64 "%s\n", vdisk->log_lsn,
		vdisk->is_doubtful ? "; doubtful, see above" : "");
}

static json_t *steps_to_json(void)
{
	json_t *steps = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(next_steps); i++)
		json_array_append_new(steps, json_string(next_steps[i]));
	return steps;
}

static void print_json(struct fsck_rebuild_print *print, const struct fsck_rebuild_report *report,
		       bool written, bool done)
{
	json_t *json = json_pack(
		"{s:O, s:o, s:b, s:I, s:I, s:I, s:I, s:I}", "findings", print->print->findings,
		"vdisks", print->vdisks ? print->vdisks : json_array(), "written", written, "pools",
		(json_int_t)report->pools, "disks", (json_int_t)report->disks, "files",
		(json_int_t)report->files, "rows", (json_int_t)report->rows, "doubts",
		(json_int_t)report->doubts);

	print->vdisks = NULL;
	if (done)
		json_object_set_new(json, "next", steps_to_json());
	(void)json_dumpf(json, print->print->out, JSON_INDENT(2)); /* the exit tells */
	fputc('\n', print->print->out);
	json_decref(json);
}

void fsck_rebuild_print_end(struct fsck_rebuild_print *print,
			    const struct fsck_rebuild_report *report, int result)
{
	bool done = result == 0, written = done && !print->print->show_only;
	FILE *out = print->print->out;

	clear_progress(print->print);
	if (print->print->findings) {
		print_json(print, report, written, done);
		return;
	}
	if (result == -EEXIST)
		fputs("nothing was done\n", out);
	if (!done)
		return;
	fprintf(out,
		"%s: %" PRIu64 " pools, %" PRIu64 " disks, %" PRIu64 " vDisks, %" PRIu64
		" files; %" PRIu64 " doubts\n",
		written ? "a new catalog is in place" : "nothing was written; it would have",
		report->pools, report->disks, report->vdisks, report->files, report->doubts);
	if (written)
		fputs("what was there before has .replaced-SECONDS in its name\n", out);
	fputs("what to do now:\n", out);
	for (size_t i = 0; i < ARRAY_SIZE(next_steps); i++)
		fprintf(out, "    %s\n", next_steps[i]);
}
