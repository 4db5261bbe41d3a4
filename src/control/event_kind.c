/* SPDX-License-Identifier: Apache-2.0 */
#include "control/event.h"

#include <string.h>

#include "base/macros.h"

static const struct event_kind kinds[EVENT_REASON_COUNT] = {
	[EVENT_NODE_STARTED] = {"node-started", EVENT_INFO, "The daemon serves."},
	[EVENT_NODE_RECOVERED] = {"node-recovered", EVENT_WARNING,
				  "The last run ended without a clean stop: find out why it was "
				  "killed. Logs were replayed, nothing acknowledged is lost."},
	[EVENT_NODE_STOPPED] = {"node-stopped", EVENT_INFO, "The daemon was stopped cleanly."},
	[EVENT_NODE_TOOK_OVER] =
		{"node-took-over", EVENT_WARNING,
		 "What is left of the last daemon cannot end, because a disk does not answer. This "
		 "one "
		 "serves the others: let that disk answer, or take its device from the kernel."},
	[EVENT_NODE_ALONE] = {"node-alone", EVENT_INFO,
			      "Nothing is left of the daemon before: disks that were left out come "
			      "back by themselves."},
	[EVENT_POOL_ONLINE] = {"pool-online", EVENT_INFO, "The pool takes writes again."},
	[EVENT_POOL_FAILED] = {"pool-failed", EVENT_ERROR,
			       "The pool cannot be opened and its vDisks are not served: mount its "
			       "disk; then it is opened by itself."},
	[EVENT_POOL_IN_DOUBT] = {"pool-in-doubt", EVENT_ERROR,
				 "Rows of the catalog about its files are damaged or missing: "
				 "vDisks that they may be of are not opened, and files without a "
				 "row are kept. Stop the daemon and run sarsen-fsck."},
	[EVENT_POOL_FULL] = {"pool-full", EVENT_ERROR,
			     "Its file system has no room: free some. Writes fail until then."},
	[EVENT_POOL_READ_ONLY] = {"pool-read-only", EVENT_ERROR,
				  "No disk of it can be written: check them. vDisks that "
				  "failed to write need a restart of the daemon afterwards; those "
				  "opened meanwhile take writes by themselves."},
	[EVENT_POOL_SPACE_OK] = {"pool-space-ok", EVENT_INFO,
				 "Clearly less than 75 % of what may be live is live "
				 "again."},
	[EVENT_POOL_SPACE_NOTICE] = {"pool-space-notice", EVENT_INFO,
				     "75 % of what may be live is live ([space] notice): a "
				     "good time to plan."},
	[EVENT_POOL_SPACE_LOW] = {"pool-space-low", EVENT_WARNING,
				  "90 % of what may be live is live ([space] low): add "
				  "disks, or delete what is not needed."},
	[EVENT_POOL_SPACE_CRITICAL] = {"pool-space-critical", EVENT_ERROR,
				       "95 % of what may be live is live ([space] critical): "
				       "writes fail soon. Delete vDisks, or unmap what guests "
				       "do not need."},
	[EVENT_CONTAINER_SPACE_OK] = {"container-space-ok", EVENT_INFO,
				      "Clearly less of its max_capacity than its space_notice "
				      "is live again."},
	[EVENT_CONTAINER_SPACE_NOTICE] = {"container-space-notice", EVENT_INFO,
					  "As much of its max_capacity is live as its "
					  "space_notice says."},
	[EVENT_CONTAINER_SPACE_LOW] = {"container-space-low", EVENT_WARNING,
				       "As much of its max_capacity is live as its space_low "
				       "says: raise it, or delete what is not needed."},
	[EVENT_CONTAINER_SPACE_CRITICAL] = {"container-space-critical", EVENT_ERROR,
					    "As much of its max_capacity is live as its "
					    "space_critical says: writes of its vDisks fail soon."},
	[EVENT_CONTAINER_TIER_FULL] = {"container-tier-full", EVENT_ERROR,
				       "Data of its vDisks finds no place: on a tier it has as "
				       "much as its max_capacity there allows, or what is free is "
				       "reserved for others, and no other tier has room. Writes "
				       "fail."},
	[EVENT_POOL_DEGRADED] = {"pool-degraded", EVENT_WARNING,
				 "Some data have fewer copies than they should: they are made by "
				 "themselves where disks can take them; see sarsen disk list."},
	[EVENT_POOL_HEALTHY] = {"pool-healthy", EVENT_INFO,
				"All data have the copies that they should; each was looked up."},
	[EVENT_SCRUB_REPAIRED] = {"scrub-repaired", EVENT_WARNING,
				  "A copy of a block, of the catalog or of a label was damaged and "
				  "was put right from another: check the disk if more come."},
	[EVENT_SCRUB_LEFT] = {"scrub-left", EVENT_WARNING,
			      "A copy holds a damaged block that could not be written again, while "
			      "another has it right: check the disk."},
	[EVENT_SCRUB_DAMAGE] = {"scrub-damage", EVENT_ERROR,
				"A block is damaged on every copy, or a label. Where the block is "
				"live, reading it fails: restore what is there."},
	[EVENT_SCRUB_PENDING] = {"scrub-pending", EVENT_WARNING,
				 "A block is damaged on every copy that can be reached; one that "
				 "may have it right is on a disk that has gone: bring that back. "
				 "It is looked at again then, by itself."},
	[EVENT_REPAIR_MISMATCH] =
		{"repair-mismatch", EVENT_ERROR,
		 "A disk did not give back what repair had written to it: the new "
		 "copy does not count, and is made on another disk where there is "
		 "one. Replace the disk."},
	[EVENT_DISK_ONLINE] = {"disk-online", EVENT_INFO,
			       "A disk is in use again; what is on it counts."},
	[EVENT_DISK_TROUBLE] =
		{"disk-trouble", EVENT_WARNING,
		 "A disk is slow, errs, does not answer, is full, read-only or cannot be found: "
		 "others are used where there are some; check it."},
	[EVENT_DISK_FAILED] = {"disk-failed", EVENT_ERROR,
			       "A disk was given up and its copies are made elsewhere: replace "
			       "it with sarsen disk replace, or take it back with sarsen disk "
			       "restore."},
	[EVENT_DISK_RESIZED] = {"disk-resized", EVENT_INFO,
				"The file system of a disk was grown or shrunk; what the pool can "
				"hold has followed."},
	[EVENT_DISK_DRAINING] = {"disk-draining", EVENT_INFO,
				 "What is on a disk is moved to others; see sarsen job list."},
	[EVENT_DISK_DRAINED] = {"disk-drained", EVENT_INFO,
				"Nothing is left on a disk that was drained: remove it with sarsen "
				"disk remove, unless it was replaced."},
	[EVENT_DISK_KEPT] = {"disk-kept", EVENT_INFO,
			     "A disk that was being drained stays; what was moved stays where it "
			     "is."},
	[EVENT_DISK_REMOVED] = {"disk-removed", EVENT_INFO,
				"A disk that was replaced held nothing any more and was removed by "
				"itself: it can be pulled."},
	[EVENT_VDISK_RECOVERED] = {"vdisk-recovered", EVENT_INFO,
				   "Opened after a run without a clean stop; its log was "
				   "replayed."},
	[EVENT_VDISK_FAILED] = {"vdisk-failed", EVENT_ERROR,
				"The vDisk cannot be opened and is not served; see the text."},
	[EVENT_VDISK_OPENED] = {"vdisk-opened", EVENT_INFO,
				"A vDisk that could not be opened at the start is open now, and "
				"served."},
	[EVENT_VDISK_READ_ONLY] = {"vdisk-read-only", EVENT_ERROR,
				   "A write or sync failed, so the vDisk takes no more: check the "
				   "disk, then restart the daemon. Or it was opened while no disk "
				   "could be written: see the text."},
	[EVENT_VDISK_ONLINE] = {"vdisk-online", EVENT_INFO,
				"A disk can be written again, and so can the vDisk that was only "
				"read without one."},
	[EVENT_VDISK_DAMAGED] = {"vdisk-damaged", EVENT_ERROR,
				 "Stored data did not match its checksum and was not returned: run "
				 "sarsen vdisk check --data, restore what is bad from a copy, "
				 "check the disk."},
	[EVENT_EXPORT_FAILED] = {"export-failed", EVENT_ERROR,
				 "An exported vDisk is not served; see the text."},
	[EVENT_KEEPER_LOST] = {"keeper-lost", EVENT_ERROR,
			       "The keeper of a controller ended, and its virtual machine lost its "
			       "disks: see the keeper's log; start the machine again."},
	[EVENT_CONTROLLER_FAILED] = {"controller-failed", EVENT_ERROR,
				     "An NVMe controller is not served; see the text. It is tried "
				     "again now and then."},
	[EVENT_CATALOG_RESTORED] = {"catalog-restored", EVENT_WARNING,
				    "The catalog was missing or damaged and was made again from a "
				    "mirror; the old file lies beside it. Check the disk of the "
				    "state directory."},
	[EVENT_CATALOG_DAMAGED] = {"catalog-damaged", EVENT_ERROR,
				   "The catalog's database is damaged on the disk of the state "
				   "directory: restart the daemon, which makes it again from a "
				   "mirror; check that disk."},
	[EVENT_CATALOG_MIRROR_LOST] = {"catalog-mirror-lost", EVENT_WARNING,
				       "The disk of a pool has no good copy of the catalog: check "
				       "the disk and its mount. It is tried again now and then."},
	[EVENT_CATALOG_MIRROR_GOOD] = {"catalog-mirror-good", EVENT_INFO,
				       "The disk has a good copy of the catalog again."},
	[EVENT_CATALOG_MIRROR_REFUSED] =
		{"catalog-mirror-refused", EVENT_ERROR,
		 "The copy of the catalog on a disk has changes that "
		 "the catalog lacks, or is of another: is it the right disk? Was the "
		 "state directory set back? It is not written over."},
	[EVENT_JOB_DONE] = {"job-done", EVENT_INFO, "A job ended well."},
	[EVENT_JOB_FAILED] = {"job-failed", EVENT_ERROR, "A job ended early; see the text."},
	[EVENT_JOB_CANCELLED] = {"job-cancelled", EVENT_INFO, "A job was cancelled."},
};

const struct event_kind *event_kind(enum event_reason reason)
{
	ASSERT(reason < EVENT_REASON_COUNT);
	return &kinds[reason];
}

enum event_severity event_severity_by_name(const char *reason)
{
	for (size_t i = 0; i < EVENT_REASON_COUNT; i++)
		if (strcmp(kinds[i].name, reason) == 0)
			return kinds[i].severity;
	return EVENT_INFO;
}

const char *event_severity_name(enum event_severity severity)
{
	static const char *const names[] = {"info", "warning", "error"};

	ASSERT(severity < ARRAY_SIZE(names));
	return names[severity];
}
