#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The catalog is lost or damaged: the daemon makes it again from its mirror on a pool's disk, or
says what to do, and that works."""
import glob
import os
import random
import shutil
import sys

import rig
from rig import check, run, wait_for

VDISKS = 5
FLIPS = 25


def mirrors(daemon):
    return [row for row in daemon.json("catalog", "show") if row["kind"] == "mirror"]


def all_good(daemon):
    rows = mirrors(daemon)
    return rows and all(row["state"] == "good" for row in rows)


def begin(daemon):
    daemon.start()
    daemon.make_pool("1G")
    for i in range(VDISKS):
        daemon.cli("vdisk", "create", f"default/d{i}", "16M")
    wait_for(lambda: all_good(daemon), "mirrors are good")


def all_served(daemon):
    rows = daemon.json("vdisk", "list")
    check(len(rows) == VDISKS and all(row["state"] == "online" for row in rows), f"{rows}")
    wait_for(lambda: all_good(daemon), "mirrors are good")
    daemon.cli("catalog", "verify")
    check(daemon.json("health") == [], "healthy")


def restored(daemon):
    return any(event["reason"] == "catalog-restored" for event in daemon.json("event", "list"))


def remove_catalog(daemon):
    for path in (daemon.path("state/catalog.db"), daemon.path("state/catalog.db-wal")):
        if os.path.exists(path):
            os.unlink(path)


def fails_to_start(daemon, *texts):
    done = run(daemon.command(), expect=1)
    for text in texts:
        check(text in done.stderr, f"'{text}' is not in:\n{done.stderr}")


def start_with_mirror(daemon):
    """With --restore-catalog, for this one time."""
    command = daemon.command
    daemon.command = lambda *more: command("--restore-catalog", daemon.path("pool"), *more)
    try:
        daemon.start()
    finally:
        daemon.command = command


def a_catalog_that_is_gone_is_made_again(daemon):
    begin(daemon)
    daemon.stop()
    remove_catalog(daemon)
    daemon.start()
    rig.wait_for(lambda: restored(daemon), "an event that says so")
    all_served(daemon)
    daemon.kill()
    remove_catalog(daemon)
    daemon.start()
    all_served(daemon)
    daemon.stop()


def damage_of_the_file_loses_nothing(daemon):
    begin(daemon)
    daemon.stop()
    path = daemon.path("state/catalog.db")
    with open(path, "r+b") as file:
        file.write(b"rubbish" * 1000)
    daemon.start()
    rig.wait_for(lambda: restored(daemon), "the event of a catalog that was restored")
    all_served(daemon)
    daemon.stop()
    os.truncate(path, os.path.getsize(path) // 4096 // 2 * 4096)
    daemon.start()
    all_served(daemon)
    daemon.stop()
    os.truncate(path, 0)
    daemon.start()
    all_served(daemon)
    check(len(glob.glob(path + ".replaced-*")) >= 1, "what was there is kept")
    daemon.stop()


def flips_in_the_file_lose_nothing(daemon):
    begin(daemon)
    daemon.stop()
    chance = random.Random(7)
    path = daemon.path("state/catalog.db")
    for _ in range(FLIPS):
        offset = chance.randrange(min(os.path.getsize(path), 16 * 4096))
        with open(path, "r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0] ^ 1 << chance.randrange(8)
            file.seek(offset)
            file.write(bytes([byte]))
        daemon.start()
        all_served(daemon)
        daemon.stop()
    for kept in glob.glob(path + ".replaced-*"):
        os.unlink(kept)


def nothing_is_made_up(daemon):
    begin(daemon)
    daemon.stop()
    shutil.copytree(daemon.path("state"), daemon.path("kept"))
    remove_catalog(daemon)
    os.rename(daemon.path("pool/catalog"), daemon.path("hidden"))
    fails_to_start(daemon, "no mirror in good standing", "--restore-catalog", daemon.path("pool"))
    check(not os.path.exists(daemon.path("state/catalog.db")), "no empty catalog")
    os.rename(daemon.path("hidden"), daemon.path("pool/catalog"))
    daemon.start()
    all_served(daemon)
    daemon.stop()


def a_lost_state_directory_comes_back(daemon):
    begin(daemon)
    daemon.kill()
    shutil.rmtree(daemon.path("state"))
    start_with_mirror(daemon)
    all_served(daemon)
    daemon.stop()
    done = run(daemon.command("--restore-catalog", daemon.path("pool")), expect=1)
    check("is good and not older" in done.stderr, done.stderr)
    daemon.start()
    daemon.stop()


def a_state_that_was_set_back_is_refused(daemon):
    begin(daemon)
    daemon.stop()
    shutil.copytree(daemon.path("state"), daemon.path("backup"))
    daemon.start()
    daemon.cli("vdisk", "create", "default/later", "1G")
    daemon.stop()
    shutil.rmtree(daemon.path("state"))
    shutil.copytree(daemon.path("backup"), daemon.path("state"))
    fails_to_start(daemon, "older", "set back", daemon.path("pool"), "--restore-catalog")
    start_with_mirror(daemon)
    check(len(daemon.json("vdisk", "list")) == VDISKS + 1, "the later one is there")
    daemon.stop()


def sequence(daemon):
    return next(row["sequence"] for row in daemon.json("catalog", "show")
                if row["kind"] == "catalog")


def overtake(daemon, until):
    """With changes that need no pool, for its disk is away."""
    daemon.start()
    count = 0
    while sequence(daemon) <= until:
        daemon.cli("iscsi", "target-create", f"iqn.2026-11.org.example:t{count}")
        count += 1
    return count


def a_state_that_was_set_back_and_went_on_is_refused(daemon):
    """It has more changes than it had lost; only the epochs tell."""
    begin(daemon)
    daemon.stop()
    shutil.copytree(daemon.path("state"), daemon.path("backup"))
    daemon.start()
    daemon.cli("vdisk", "create", "default/later", "1G")
    lost = sequence(daemon) + 20 # the end of the daemon changes some rows, too
    daemon.stop()
    shutil.rmtree(daemon.path("state"))
    shutil.copytree(daemon.path("backup"), daemon.path("state"))
    groups = sorted(glob.glob(daemon.path("pool/groups/*/*.eg")))
    os.rename(daemon.path("pool"), daemon.path("away"))
    count = overtake(daemon, lost)
    # The disk comes back under the running daemon, which leaves it alone.
    os.rename(daemon.path("away"), daemon.path("pool"))
    wait_for(lambda: any(event["reason"] == "catalog-mirror-refused"
                         for event in daemon.json("event", "list")), "it is refused", 60)
    daemon.stop()
    fails_to_start(daemon, "went on", "set back", daemon.path("pool"), "--restore-catalog",
                   "catalog.replaced-1")
    check(sorted(glob.glob(daemon.path("pool/groups/*/*.eg"))) == groups, "no group is touched")
    shutil.copytree(daemon.path("state"), daemon.path("overtaken"))
    shutil.copytree(daemon.path("pool"), daemon.path("kept"))
    start_with_mirror(daemon)
    check(len(daemon.json("vdisk", "list")) == VDISKS + 1, "the later one is there")
    daemon.stop()
    for name, saved in (("state", "overtaken"), ("pool", "kept")):
        shutil.rmtree(daemon.path(name))
        os.rename(daemon.path(saved), daemon.path(name))
    os.rename(daemon.path("pool/catalog"), daemon.path("pool/catalog.replaced-1"))
    daemon.start()
    check(len(daemon.json("iscsi", "target-list")) >= count, "the later targets are there")
    all_served(daemon)
    daemon.stop()


def a_damaged_mirror_is_found_and_made_again(daemon):
    begin(daemon)
    name = sorted(glob.glob(daemon.path("pool/catalog/snapshot-*")))[-1]
    with open(name, "r+b") as file:
        file.seek(4096 + 200)
        file.write(b"x")
    done = daemon.cli("catalog", "verify", expect=8)
    check("differences" in done.stderr, done.stderr)
    all_served(daemon)
    shutil.rmtree(daemon.path("pool/catalog"))
    daemon.cli("catalog", "verify", expect=8)
    all_served(daemon)
    daemon.stop()


def each_disk_has_one(daemon):
    begin(daemon)
    daemon.cli("disk", "add", "local", daemon.path("second"))
    check(len(mirrors(daemon)) == 2, "two at once")
    all_served(daemon)
    daemon.kill()
    remove_catalog(daemon)
    os.rename(daemon.path("pool/catalog"), daemon.path("hidden"))
    daemon.start()
    rig.wait_for(lambda: restored(daemon), "an event: from the other disk")
    all_served(daemon)
    daemon.stop()


def a_pool_that_was_deleted_leaves_nothing(daemon):
    begin(daemon)
    for i in range(VDISKS):
        daemon.cli("vdisk", "delete", f"default/d{i}", "--yes")
    wait_for(lambda: not daemon.json("vdisk", "list"), "vDisks are deleted")
    daemon.cli("container", "delete", "default", "--yes")
    daemon.cli("pool", "delete", "local", "--yes")
    check(mirrors(daemon) == [] and not os.listdir(daemon.path("pool/catalog")), "it is gone")
    daemon.make_pool("1G")
    daemon.stop()


def sixteen_of_more_disks_have_one(daemon):
    daemon.start()
    daemon.make_pool("1G")
    for i in range(19):
        tier = "hdd" if i > 16 else "ssd"
        daemon.cli("disk", "add", "local", daemon.path(f"more{i}"), "--capacity", "512M",
                   "--tier", tier)

    def mirrors():
        return {row["directory"]: row["tier"] for row in daemon.json("disk", "list")
                if row["catalog_mirror"] == "good"}
    wait_for(lambda: len(mirrors()) == 16 and list(mirrors().values()).count("hdd") == 2,
             "sixteen mirrors, also on disks of the other tier")
    first = mirrors()
    leaves = next(path for path in first if first[path] == "ssd" and "more" in path)
    daemon.cli("disk", "drain", leaves)
    wait_for(lambda: len(mirrors()) == 16 and leaves not in mirrors(), "another has it", 60)
    second = mirrors()
    daemon.stop()
    daemon.start()
    wait_for(lambda: mirrors() == second, "the same after a restart")
    gone = next(path for path in second if second[path] == "hdd")
    daemon.cli("disk", "fail", gone, "--yes")
    wait_for(lambda: len(mirrors()) == 16 and gone not in mirrors(), "another has it", 60)
    daemon.cli("catalog", "verify")
    daemon.stop()


if __name__ == "__main__":
    sys.exit(rig.main(a_catalog_that_is_gone_is_made_again, damage_of_the_file_loses_nothing,
                      flips_in_the_file_lose_nothing, nothing_is_made_up,
                      a_lost_state_directory_comes_back, a_state_that_was_set_back_is_refused,
                      a_state_that_was_set_back_and_went_on_is_refused,
                      a_damaged_mirror_is_found_and_made_again,
                      each_disk_has_one, sixteen_of_more_disks_have_one,
                      a_pool_that_was_deleted_leaves_nothing))
