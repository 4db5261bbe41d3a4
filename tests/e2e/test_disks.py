#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A pool of three disks, each a file system of its own, with two copies of everything, under a
verified load that must not notice what happens to one of them: ext4 that finds an error and goes
read-only, XFS that gives up (every request fails), a file system that is filled by others; then the
disk is drained, replaced, or comes back. Needs root and loop devices."""
import os
import sys
import time

import rig
from file_system import MIB, FileSystem, skip_without_loop
from loads import Load
from rig import check, run

DISK_MIB = 96
REFUSED = ("refused_space", "refused_read_only", "refused_error")


def disks(daemon):
    return {os.path.basename(os.path.dirname(row["directory"])): row
            for row in daemon.json("disk", "list")}


def copies(daemon):
    return daemon.json("pool", "show", "local")["copies"]


def url(daemon):
    return daemon.json("vdisk", "show", "default/d")["url"]


def wait_healthy(daemon, seconds=120):
    """Until nothing lacks a copy and nothing is to be moved."""
    deadline = time.monotonic() + seconds
    while True:
        now = copies(daemon)
        if all(now[key] == 0 for key in ("to_copy_bytes", "to_drop_bytes", "degraded_bytes",
                                         "lost_bytes", "leaving_bytes")):
            return now
        check(time.monotonic() < deadline, f"not healthy: {now} {daemon.json('job', 'list')}")
        time.sleep(0.5)


def wait_for_disk(daemon, name, states, seconds=60):
    rig.wait_for(lambda: disks(daemon)[name]["state"] in states, f"{name} in {states}", seconds)


def reasons(daemon):
    return {event["reason"] for event in daemon.json("event", "list")}


def not_noticed(daemon, load, before):
    """All that was written is there, and no request was ever refused."""
    after = load.run("check", url(daemon))
    for key in REFUSED:
        check(before[key] == after[key], f"{key}: {before} {after}")
    check(after["answered"] > before["answered"], f"no progress: {before} {after}")
    return after


def with_disks(test):
    def wrapped(daemon):
        systems = []
        load = Load(DISK_MIB, 7)
        try:
            for number, kind in enumerate(("ext4", "xfs", "ext4")):
                systems.append(FileSystem(daemon.directory, 1024 * MIB, str(number), kind))
            paths = [os.path.join(system.mount_point, "pool") for system in systems]
            daemon.start()
            daemon.cli("pool", "create", "local", paths[0], "--capacity", "700M")
            for path in paths[1:]:
                daemon.cli("disk", "add", "local", path, "--capacity", "700M")
            daemon.cli("container", "create", "default", "--set", "replication_factor=2")
            daemon.cli("vdisk", "create", "default/d", f"{DISK_MIB}M")
            daemon.cli("iscsi", "export", "default/d")
            test(daemon, systems, load, load.run("fill", url(daemon)))
            daemon.stop()
        finally:
            load.close()
            if daemon.process.poll() is None:
                daemon.kill()
            for system in systems:
                system.done()
    wrapped.__name__ = test.__name__
    return wrapped


def under_load(daemon, load, before, *steps):
    """Each step in the middle of load, which goes on for a while."""
    for step in steps:
        load.begin("load", url(daemon))
        time.sleep(0.7)
        step()
        time.sleep(2)
        load.begin("check", url(daemon))
        load.end()
        load.end()
    return not_noticed(daemon, load, before)


@with_disks
def a_disk_is_drained_and_removed(daemon, systems, load, before):
    check(all(row["files"] > 0 for row in disks(daemon).values()), f"spread: {disks(daemon)}")
    # The first disk of the pool may go as any other.
    under_load(daemon, load, before,
               lambda: daemon.cli("disk", "drain", disks(daemon)["mnt0"]["directory"]))
    wait_healthy(daemon)
    check(disks(daemon)["mnt0"]["state"] == "drained", f"{disks(daemon)['mnt0']}")
    directory = disks(daemon)["mnt0"]["directory"]
    daemon.cli("disk", "remove", directory, "--yes")
    check("mnt0" not in disks(daemon), "the disk is still listed")
    systems[0].until_free("umount")
    daemon.kill()
    daemon.start()
    not_noticed(daemon, load, under_load(daemon, load, before))


@with_disks
def a_disk_becomes_read_only_and_is_replaced(daemon, systems, load, before):
    under_load(daemon, load, before, systems[2].fail)
    wait_for_disk(daemon, "mnt2", ("read-only", "failed"))
    check(daemon.cli("health", expect=11).stdout.find("mnt2") >= 0, "health says nothing")
    systems.append(FileSystem(daemon.directory, 1024 * MIB, "3", "ext4"))
    old = disks(daemon)["mnt2"]["directory"]
    daemon.cli("disk", "replace", old, os.path.join(systems[3].mount_point, "pool"),
               "--capacity", "700M")
    wait_healthy(daemon)
    check(disks(daemon)["mnt3"]["files"] > 0, "nothing is on the new disk")
    rig.wait_for(lambda: "mnt2" not in disks(daemon), "the old disk is removed by itself")
    check("disk-removed" in reasons(daemon), f"{reasons(daemon)}")
    under_load(daemon, load, before)
    rig.wait_for(lambda: {"disk-trouble", "pool-healthy"} <= reasons(daemon), "both events")


@with_disks
def a_disk_is_replaced_and_leaves(daemon, systems, load, before):
    """The daemon is killed meanwhile; the old one is removed, and the next is kept as asked."""
    systems.append(FileSystem(daemon.directory, 1024 * MIB, "3", "ext4"))
    old = disks(daemon)["mnt0"]["directory"]
    daemon.cli("disk", "replace", old, os.path.join(systems[3].mount_point, "pool"),
               "--capacity", "700M")
    load.begin("load", url(daemon))
    time.sleep(0.3)
    daemon.kill()
    load.end("lost")
    daemon.start()
    load.run("check", url(daemon))
    rig.wait_for(lambda: "mnt0" not in disks(daemon), "the old disk is removed by itself", 120)
    systems.append(FileSystem(daemon.directory, 1024 * MIB, "4", "ext4"))
    kept = disks(daemon)["mnt1"]["directory"]
    daemon.cli("disk", "replace", kept, os.path.join(systems[4].mount_point, "pool"),
               "--capacity", "700M", "--keep")
    rig.wait_for(lambda: disks(daemon)["mnt1"]["state"] == "drained", "it is empty", 120)
    wait_healthy(daemon)
    time.sleep(3)
    check(disks(daemon)["mnt1"]["state"] == "drained", "it was not kept")
    daemon.cli("disk", "remove", kept, "--yes")


@with_disks
def a_disk_vanishes_and_comes_back(daemon, systems, load, before):
    under_load(daemon, load, before, systems[1].vanish)
    wait_for_disk(daemon, "mnt1", ("missing", "suspect", "failed", "read-only"))
    # The daemon dies and starts while it is away.
    load.begin("load", url(daemon))
    time.sleep(0.7)
    daemon.kill()
    load.end("lost")
    daemon.start()
    # The new daemon has no files open there, so nothing keeps it mounted.
    systems[1].until_free("umount")
    load.run("check", url(daemon))
    systems[1].mount()
    daemon.cli("disk", "restore", disks(daemon)["mnt1"]["directory"])
    wait_for_disk(daemon, "mnt1", ("online",), 120)
    wait_healthy(daemon)
    daemon.cli("iscsi", "unexport", "default/d")
    report = daemon.json("vdisk", "check", "default/d", "--data")["result"]
    bad = report["bad_pages"] + report["bad_blocks"] + report["missing_live_blocks"]
    check(bad == 0, f"vdisk check: {report}")


@with_disks
def a_disk_is_given_up_and_taken_back(daemon, systems, load, before):
    """Meanwhile its file system is unmounted, which the daemon does not keep from it."""
    directory = disks(daemon)["mnt1"]["directory"]
    before = under_load(daemon, load, before,
                        lambda: daemon.cli("disk", "fail", directory, "--yes"))
    check(disks(daemon)["mnt1"]["state"] == "failed", f"{disks(daemon)['mnt1']}")
    wait_healthy(daemon)
    systems[1].until_free("umount")
    before = under_load(daemon, load, before, systems[1].mount)
    under_load(daemon, load, before, lambda: daemon.cli("disk", "restore", directory))
    wait_for_disk(daemon, "mnt1", ("online",))
    wait_healthy(daemon)
    result = daemon.json("pool", "scrub", "local")["result"]
    check(result["put_right_blocks"] == 0 and result["damaged_blocks"] == 0, f"{result}")


def copied(daemon):
    """Bytes that repair has copied so far."""
    return sum(job["result"]["copied_bytes"] for job in daemon.json("job", "list")
               if job["kind"] == "pool.repair" and job.get("result"))


class Pulled:
    """The directory of a disk is not where it was, with all that is in it."""

    def __init__(self, system):
        self.directory = os.path.join(system.mount_point, "pool")
        self.away = self.directory + ".away"

    def pull(self):
        os.rename(self.directory, self.away)

    def put_back(self):
        os.rename(self.away, self.directory)


@with_disks
def a_disk_is_pulled_and_put_back(daemon, systems, load, before):
    """It counts again at once, without a restart, and what is on it is not copied again."""
    wait_healthy(daemon)
    used, already = disks(daemon)["mnt1"]["used_bytes"], copied(daemon)
    for name in ("mnt1", "mnt0", "mnt2"):
        # The second and third time the copies that just came back are the only ones for many.
        disk = Pulled(systems[int(name[-1])])
        before = under_load(daemon, load, before, disk.pull)
        wait_for_disk(daemon, name, ("missing",))
        before = not_noticed(daemon, load, under_load(daemon, load, before))
        check(copies(daemon)["degraded_bytes"] > 0, f"nothing is missing: {copies(daemon)}")
        disk.put_back()
        wait_for_disk(daemon, name, ("online",))
        wait_healthy(daemon)
    more = copied(daemon) - already
    check(used > DISK_MIB * MIB // 4, f"too little is on it: {used}")
    check(more < used // 2, f"{more} bytes were copied, {used} are on a disk")
    daemon.cli("iscsi", "unexport", "default/d")
    report = daemon.json("vdisk", "check", "default/d", "--data")["result"]
    bad = report["bad_pages"] + report["bad_blocks"] + report["missing_live_blocks"]
    check(bad == 0, f"vdisk check: {report}")


@with_disks
def others_fill_a_disk(daemon, systems, load, before):
    under_load(daemon, load, before, systems[0].fill)
    systems[0].free()
    under_load(daemon, load, before)
    wait_healthy(daemon)


def refuse(daemon, directory, *words, code=5):
    error = daemon.json("disk", "add", "local", directory, *words[1:], expect=code)
    check(words[0] in error["message"] and error["object"] == directory and error["remedy"],
          f"{directory}: {error}")


def refuse_directories(daemon):
    run(["touch", daemon.path("file")])
    refuse(daemon, daemon.path("file"), "is not a directory", code=2)
    refuse(daemon, daemon.path("file") + "/below", "is not a directory", code=2)
    refuse(daemon, daemon.path("nosuch") + "/below", "not in a directory", code=2)
    refuse(daemon, "relative", "not an absolute path", code=2)
    refuse(daemon, daemon.path("small"), "at least 512M", "--capacity", "10M", code=2)
    daemon.cli("pool", "create", "other", daemon.path("other"), "--capacity", "600M")
    refuse(daemon, daemon.path("other"), "belongs to pool 'other'")
    refuse(daemon, daemon.path("other"), "belongs to pool 'other'", "--force")
    run(["cp", "-a", daemon.path("pool"), daemon.path("copy")])
    refuse(daemon, daemon.path("copy"), "it is its disk 1")
    with open(daemon.path("copy") + "/label", "r+b") as label:
        label.seek(20)
        label.write(b"x")
    refuse(daemon, daemon.path("copy"), "damaged")
    os.mkdir(daemon.path("memory"))
    run(["mount", "-t", "tmpfs", "tmpfs", daemon.path("memory")])
    try:
        refuse(daemon, daemon.path("memory") + "/pool", "tmpfs", code=2)
        daemon.json("pool", "create", "q", daemon.path("memory") + "/q", expect=2)
    finally:
        run(["umount", daemon.path("memory")])
    # What was known before is taken with force only; it says what it did and what comes next.
    run(["rm", "-r", daemon.path("copy")])
    done = daemon.cli("disk", "add", "local", daemon.path("copy"), "--capacity", "600M")
    check("was added" in done.stderr and "replication_factor" in done.stderr, done.stderr)
    check("sarsen disk remove" in daemon.json("disk", "drain", daemon.path("copy"))["next"], "next")
    check("paused" not in daemon.cli("-H", "disk", "list").stdout, "not paused")
    daemon.cli("disk", "drain", daemon.path("copy"), "--pause")
    shown = daemon.json("disk", "show", daemon.path("copy"))
    check(shown["paused"], "paused")
    for limit in ("slow_ns", "errors", "fatal_errors", "window_ns", "suspect_ns", "missing_ns",
                  "timeout_ns"):
        check(shown["limits"][limit] > 0, f"{limit}: {shown}")
    text = daemon.cli("disk", "show", daemon.path("copy")).stdout
    for word in ("suspect-from", "failed-from-errors", "failed-when-missing", "silent-from"):
        check(word in text, f"{word}: {text}")
    done = daemon.cli("disk", "remove", daemon.path("copy"), "--yes")
    check("was removed" in done.stderr, done.stderr)


def refusals(daemon):
    """What cannot be done is refused, with a reason and a remedy."""
    daemon.start()
    daemon.make_pool("1G")
    done = daemon.cli("container", "set", "default", "replication_factor=2", expect=2)
    check("add disks" in done.stderr, done.stderr)
    done = daemon.cli("disk", "add", "local", daemon.path("pool"), expect=None)
    check(done.returncode != 0 and done.stderr, "the same directory twice")
    done = daemon.cli("disk", "drain", daemon.path("pool"), expect=None)
    check(done.returncode != 0 and "disk add" in done.stderr, done.stderr)
    done = daemon.cli("disk", "remove", daemon.path("pool"), "--yes", expect=None)
    check(done.returncode != 0 and done.stderr, "the last disk")
    os.mkdir(daemon.path("full"))
    run(["touch", daemon.path("full") + "/x"])
    done = daemon.cli("disk", "add", "local", daemon.path("full"), expect=None)
    check(done.returncode != 0 and "other content: x" in done.stderr, done.stderr)
    refuse_directories(daemon)
    daemon.stop()


if __name__ == "__main__":
    skip_without_loop("ext4", "xfs")
    sys.exit(rig.main(refusals, a_disk_is_drained_and_removed,
                      a_disk_becomes_read_only_and_is_replaced,
                      a_disk_is_replaced_and_leaves, a_disk_vanishes_and_comes_back,
                      a_disk_is_given_up_and_taken_back, a_disk_is_pulled_and_put_back,
                      others_fill_a_disk))
