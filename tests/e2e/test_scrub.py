#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Scrub with the daemon: what is planted in the files of a pool is found and told by vDisk and
offset."""
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


if __name__ == "__main__":
    rig.require_qemu_iscsi()
    sys.exit(rig.main(put_right_by_offset, damaged_by_offset))
