#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Scrub with the daemon: what is planted in the files of a pool is found and told by vDisk and
offset."""
import json
import os
import sys

import rig
from rig import check, run

BLOCK = 4096
MIB = 1 << 20
SIZE_MIB = 64
PATTERNS = {"first": 0x41, "second": 0x42}


def group_files(daemon, disk):
    for directory, _, names in os.walk(daemon.path(disk)):
        for name in names:
            if name.endswith(".eg"):
                yield os.path.join(directory, name)


def write(daemon, name, pattern, offset, length):
    url = daemon.json("vdisk", "show", name)["url"]
    run(["qemu-io", "-f", "raw", "-c", f"write -P {pattern} {offset} {length}", "-c", "flush", url])


def flip(daemon, disk, pattern, step=1):
    """Flips a bit in each `step`-th block that holds nothing but the pattern; how many."""
    seen = flips = 0
    for path in group_files(daemon, disk):
        with open(path, "r+b") as file:
            for offset in range(0, os.path.getsize(path), BLOCK):
                file.seek(offset)
                if file.read(BLOCK) != bytes([pattern]) * BLOCK:
                    continue
                seen += 1
                if seen % step == 0:
                    file.seek(offset + 77)
                    file.write(bytes([pattern ^ 4]))
                    flips += 1
    return flips


def make(daemon, factor, disks):
    daemon.start()
    daemon.cli("pool", "create", "local", daemon.path("disk0"), "--capacity", "2G")
    for disk in range(1, disks):
        daemon.cli("disk", "add", "local", daemon.path(f"disk{disk}"), "--capacity", "2G")
    daemon.cli("container", "create", "default", "--set", f"replication_factor={factor}")
    for name, block in (("first", "512"), ("second", "4096")):
        daemon.cli("vdisk", "create", f"default/{name}", f"{SIZE_MIB}M", "--block", block)
        daemon.cli("iscsi", "export", f"default/{name}")


def findings(daemon):
    return daemon.json("pool", "findings", "local")


def check_findings(found, length, result):
    """Each is told with its place, in bytes and in the vDisk's own blocks."""
    for finding in found:
        name = finding["vdisk"].split("/")[1]
        unit = {"first": 512, "second": 4096}[name]
        check(finding["what"] == "data" and finding["result"] == result, f"{finding}")
        check(finding["block_bytes"] == unit and finding["bytes"] == BLOCK, f"{finding}")
        check(finding["offset"] % BLOCK == 0 and finding["offset"] < length, f"{finding}")
        check(finding["lba"] * unit == finding["offset"], f"{finding}")
        check(finding["blocks"] * unit == finding["bytes"], f"{finding}")


def events(daemon, reason):
    return [event["text"] for event in daemon.json("event", "list", "--limit", "200")
            if event["reason"] == reason]


def put_right_by_offset(daemon):
    make(daemon, 2, 2)
    for name, pattern in PATTERNS.items():
        write(daemon, f"default/{name}", pattern, 0, 4 * MIB)
    daemon.stop()
    flips = sum(flip(daemon, "disk1", pattern, 100) for pattern in PATTERNS.values())
    check(flips == 2 * (4 * MIB // BLOCK // 100), f"planted: {flips}")
    daemon.start()
    result = daemon.json("pool", "scrub", "local")["result"]
    check(result["put_right_blocks"] == flips and result["damaged_blocks"] == 0, f"{result}")
    found = findings(daemon)
    check(result["findings"] == found and len(found) == flips, f"{result} {found}")
    check_findings(found, 4 * MIB, "put-right")
    check({f["vdisk"] for f in found} == {"default/first", "default/second"}, f"{found}")
    check(all(f["use"] == "live" and f["disk"] == 2 for f in found), f"{found}")
    check(len({(f["vdisk"], f["offset"]) for f in found}) == flips, f"each once: {found}")
    texts = events(daemon, "scrub-repaired")
    check(len(texts) == flips and all(
        any(f"offset {f['offset']}, 4096 bytes (LBA {f['lba']}," in text for text in texts)
        for f in found), f"{texts}")
    table = daemon.cli("pool", "findings", "local").stdout
    check("VDISK" in table and table.count("put-right") == flips, table)
    result = daemon.json("pool", "scrub", "local")["result"]
    check(result["put_right_blocks"] == 0 and findings(daemon) == [], f"right now: {result}")
    daemon.stop()


def damaged_by_offset(daemon):
    """The only copy: live and overwritten blocks are told apart, and reading agrees."""
    make(daemon, 1, 1)
    for name, pattern in PATTERNS.items():
        write(daemon, f"default/{name}", pattern, 0, 2 * MIB)
    daemon.stop()
    daemon.start()
    write(daemon, "default/first", 0x43, 0, MIB // 4)
    daemon.stop()
    flips = flip(daemon, "disk0", PATTERNS["first"], 20)
    check(flips > 4, f"planted: {flips}")
    daemon.start()
    result = daemon.json("pool", "scrub", "local")["result"]
    found = findings(daemon)
    check(result["damaged_blocks"] == flips == len(found), f"{result}")
    check_findings([f for f in found if "offset" in f], 2 * MIB, "damaged")
    check(all("disk" not in f and f["error"] == "EBADMSG" for f in found), f"{found}")
    check({f["use"] for f in found} == {"live", "dead"}, f"{found}")
    live = {f["offset"] for f in found if f["use"] == "live"}
    check(all(offset >= MIB // 4 for offset in live), f"what was overwritten is dead: {found}")
    url = daemon.json("vdisk", "show", "default/first")["url"]
    for finding in found:
        if "offset" in finding:
            run(["qemu-io", "-f", "raw", "-c", f"read {finding['offset']} 4096", url],
                expect=1 if finding["offset"] in live else 0)
    # Known by name as long as there is one; kept over a restart.
    daemon.cli("iscsi", "unexport", "default/first")
    daemon.kill()
    daemon.start()
    check(findings(daemon) == found, "kept")
    health = daemon.cli("-o", "json", "health", expect=None).stdout
    check("pool findings" in health, health)
    daemon.stop()


def pending_until_the_disk_is_back(daemon):
    """A copy that cannot be reached may be right: what the other has wrong is looked at again."""
    make(daemon, 2, 2)
    write(daemon, "default/first", PATTERNS["first"], 0, 4 * MIB)
    daemon.stop()
    flips = flip(daemon, "disk0", PATTERNS["first"], 100)
    check(flips == 4 * MIB // BLOCK // 100, f"planted: {flips}")
    os.rename(daemon.path("disk1"), daemon.path("away"))
    daemon.start()
    result = daemon.json("pool", "scrub", "local")["result"]
    found = findings(daemon)
    check(result["pending_blocks"] == flips == len(found), f"{result}")
    check(result["damaged_blocks"] + result["put_right_blocks"] == 0, f"{result}")
    check_findings(found, 4 * MIB, "pending")
    check(all(f["disk"] == 1 for f in found), f"the one that has it wrong: {found}")
    check(len(events(daemon, "scrub-pending")) == flips and not events(daemon, "scrub-damage"),
          "told")
    health = daemon.cli("-o", "json", "health", expect=None).stdout
    check("could be reached" in health and "damaged on every copy\"" not in health, health)
    os.rename(daemon.path("away"), daemon.path("disk1"))

    def settled():
        return daemon.json("pool", "show", "local")["scrub"]["pending_blocks"] == 0
    rig.wait_for(settled, "it is looked at again", 60)
    scrub = daemon.json("pool", "show", "local")["scrub"]
    check(scrub["put_right_blocks"] == flips and scrub["damaged_blocks"] == 0, f"{scrub}")
    found = findings(daemon)
    check_findings(found, 4 * MIB, "put-right")
    check(len(found) == flips == len(events(daemon, "scrub-repaired")), f"{found}")
    check("could be reached" not in daemon.cli("-o", "json", "health", expect=None).stdout, "ok")
    daemon.stop()


def repair_waits_for_the_disk(daemon):
    """What the copy that is left has wrong, one on a disk that was given up may have right: repair
    makes another copy, and its job ends by saying what it waits for."""
    make(daemon, 2, 2)
    write(daemon, "default/first", PATTERNS["first"], 0, 4 * MIB)
    daemon.stop()
    flips = flip(daemon, "disk0", PATTERNS["first"], 500)
    check(flips == 2, f"planted: {flips}")
    os.rename(daemon.path("disk1"), daemon.path("away"))
    daemon.start()
    daemon.cli("disk", "add", "local", daemon.path("disk2"), "--capacity", "2G")
    disk = next(row["id"] for row in daemon.json("disk", "list")
                if row["directory"] == daemon.path("disk1"))
    daemon.cli("disk", "fail", str(disk), "--yes")

    def ended():
        return [job for job in daemon.json("job", "list")
                if job["kind"] == "pool.repair" and job["state"] == "failed"]
    rig.wait_for(ended, "the repair ends", 60)
    job = ended()[0]
    check(job["result"]["waiting_blocks"] == flips, f"{job}")
    check("are waited for" in json.dumps(job) and f"{flips} blocks" in json.dumps(job), f"{job}")
    os.rename(daemon.path("away"), daemon.path("disk1"))
    daemon.cli("disk", "restore", str(disk))

    def settled():
        copies = daemon.json("pool", "show", "local")["copies"]
        return copies["to_drop_bytes"] + copies["to_copy_bytes"] + copies["degraded_bytes"] == 0
    rig.wait_for(settled, "nothing is waited for", 120)
    result = daemon.json("pool", "scrub", "local")["result"]
    check(result["damaged_blocks"] == 0, f"{result}")
    daemon.stop()


VDISKS = 6
RATE = 4 * MIB  # a vDisk takes two seconds or more, however fast the machine is


class Progress:
    """What a scrub says of itself must only grow until the next one."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.last = {"read_bytes": 0, "put_right_blocks": 0}
        self.places = set()
        self.jobs = {}

    def look(self):
        now = self.daemon.json("pool", "show", "local")["scrub"]
        for key, before in self.last.items():
            check(now[key] >= before, f"{key} fell: {self.last} {now}")
            self.last[key] = now[key]
        places = {(f["vdisk"], f["offset"], f["disk"]) for f in findings(self.daemon)}
        check(places >= self.places, f"findings are gone: {self.places - places}")
        self.places = places
        for job in self.daemon.json("job", "list"):
            if job["kind"] == "pool.scrub":
                check(job["done_bytes"] >= self.jobs.get(job["id"], 0), f"job: {job}")
                self.jobs[job["id"]] = job["done_bytes"]
        return now

    def until(self, condition, what):
        rig.wait_for(lambda: condition(self.look()), what)

    def until_it_moves(self):
        before = self.look()["read_bytes"]
        self.until(lambda now: now["read_bytes"] > before and now["state"] == "running",
                   "it goes on")


def running_jobs(daemon):
    return [job for job in daemon.json("job", "list")
            if job["kind"] == "pool.scrub" and job["state"] == "running"]


def make_several(daemon):
    """vDisks with a planted flip or two each, and a scrub that takes its time."""
    daemon.start()
    for disk in range(2):
        words = ("disk", "add") if disk else ("pool", "create")
        daemon.cli(*words, "local", daemon.path(f"disk{disk}"), "--capacity", "2G")
    daemon.cli("container", "create", "default", "--set", "replication_factor=2")
    for number in range(VDISKS):
        daemon.cli("vdisk", "create", f"default/v{number}", "16M")
        daemon.cli("iscsi", "export", f"default/v{number}")
        write(daemon, f"default/v{number}", 0x61 + number, 0, 4 * MIB)
    daemon.stop()
    flips = [flip(daemon, "disk1", 0x61 + number, 500) for number in range(VDISKS)]
    check(flips == [2] * VDISKS, f"planted: {flips}")
    daemon.write_config(f"[iscsi]\nport = 0\n[scrub]\nrate = {RATE}\n")
    daemon.start()


def begin(daemon):
    status, answer = daemon.post("pool.scrub", '{"name": "local"}')
    check(status == 200, f"{answer}")


def stands_still(daemon, progress):
    """It has stopped: no job, and nothing changes any more."""
    rig.wait_for(lambda: not running_jobs(daemon), "the job ends")
    before = progress.look()
    check(before["state"] == "paused", f"{before}")
    daemon.cli("pool", "scrub", "local", "--pause")  # twice is once
    daemon.cli("pool", "scrub", "local", expect=5)
    check(progress.look() == before and not running_jobs(daemon), "it goes on while paused")
    return before


def paused_and_resumed(daemon):
    make_several(daemon)
    progress = Progress(daemon)
    begin(daemon)
    progress.until(lambda now: now["put_right_blocks"] > 0, "a finding")
    daemon.cli("pool", "scrub", "local", "--pause")
    before = stands_still(daemon, progress)
    check(before["put_right_blocks"] < 2 * VDISKS, f"it was in the middle: {before}")
    # A restart changes nothing of a paused one.
    daemon.stop()
    daemon.start()
    check(stands_still(daemon, progress) == before, "as before the restart")
    daemon.cli("pool", "scrub", "local", "--resume")
    progress.until_it_moves()
    # Resumed before it has stopped.
    daemon.cli("pool", "scrub", "local", "--pause")
    daemon.cli("pool", "scrub", "local", "--resume")
    progress.until_it_moves()
    daemon.stop()
    daemon.start()
    progress.until(lambda now: now["state"] == "idle", "the end")
    ended = progress.look()
    check(ended["put_right_blocks"] == 2 * VDISKS == len(findings(daemon)), f"all: {ended}")
    check(len(progress.places) == 2 * VDISKS and ended["damaged_blocks"] == 0, f"once: {ended}")
    check(ended["read_bytes"] > 2 * VDISKS * 4 * MIB, f"every copy was read: {ended}")
    daemon.stop()


def killed_and_cancelled(daemon):
    """Nothing that was told is forgotten; what was in hand is looked at again."""
    make_several(daemon)
    progress = Progress(daemon)
    begin(daemon)
    for _ in range(2):
        progress.until(lambda now: now["state"] == "running", "it runs again")
        progress.until_it_moves()
        daemon.kill()
        daemon.start()
        progress.look()
    progress.until(lambda now: now["state"] == "running", "it goes on by itself")
    daemon.cli("pool", "scrub", "local", "--cancel")
    rig.wait_for(lambda: not running_jobs(daemon), "the job ends")
    check(daemon.json("pool", "show", "local")["scrub"]["state"] == "idle", "given up")
    for word in ("--cancel", "--pause", "--resume"):
        daemon.cli("pool", "scrub", "local", word, expect=4)
    check(progress.places <= {(f["vdisk"], f["offset"], f["disk"]) for f in findings(daemon)},
          "what the cancelled one found is kept")
    # A cancelled job is the same.
    begin(daemon)
    check(findings(daemon) == [], "the next one begins anew")
    daemon.cli("job", "cancel", str(running_jobs(daemon)[0]["id"]))
    rig.wait_for(lambda: not running_jobs(daemon), "the job ends")
    check(daemon.json("pool", "show", "local")["scrub"]["state"] == "idle", "given up")
    daemon.write_config("[iscsi]\nport = 0\n")
    daemon.stop()
    daemon.start()
    daemon.cli("pool", "scrub", "local")
    again = daemon.json("pool", "scrub", "local")["result"]
    check(again["put_right_blocks"] + again["damaged_blocks"] == 0, f"all is right: {again}")
    daemon.stop()


if __name__ == "__main__":
    rig.require_qemu_iscsi()
    sys.exit(rig.main(put_right_by_offset, damaged_by_offset,
                      pending_until_the_disk_is_back, repair_waits_for_the_disk,
                      paused_and_resumed,
                      killed_and_cancelled))
