#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Limits and reservations of containers on two tiers, with a real daemon: what is refused and why,
what is shown, where data go, and that a full container does not touch another."""
import json
import sys
import time

import rig
from rig import check, run

MIB = 1 << 20


def url(daemon, name):
    return daemon.json("vdisk", "show", name)["url"]


def io(daemon, name, command):
    """Exit code of one command of qemu-io."""
    return run(["qemu-io", "-f", "raw", "-c", command, url(daemon, name)], None).returncode


def two_tiers(daemon):
    daemon.start()
    daemon.cli("pool", "create", "local", daemon.path("hdd"), "--capacity", "1G", "--tier", "hdd")
    daemon.cli("disk", "add", "local", daemon.path("ssd"), "--capacity", "1G", "--tier", "ssd")
    check([row["tier"] for row in daemon.json("disk", "list")] == ["hdd", "ssd"], "tiers")


def make_vdisks(daemon, *names):
    for name in names:
        daemon.cli("vdisk", "create", name, "512M")
        daemon.cli("iscsi", "export", name)


def used(daemon, name):
    tiers = daemon.json("container", "show", name)["tiers"]
    return {row["tier"]: row["used_bytes"] for row in tiers}


def show_tells_of_tiers(daemon):
    daemon.cli("container", "set", "a", "max_capacity=512M", "min_reserved_hdd=20M",
               "min_reserved=30M")
    shown = daemon.json("container", "show", "a")
    check((shown["used_bytes"], shown["limit_bytes"], shown["reserved_bytes"]) ==
          (0, 512 * MIB, 30 * MIB), f"in total: {shown}")
    check(shown["tiers"] == [
        {"tier": "ssd", "used_bytes": 0, "limit_bytes": 64 * MIB, "reserved_bytes": 0},
        {"tier": "hdd", "used_bytes": 0, "limit_bytes": None, "reserved_bytes": 20 * MIB}],
          f"on each tier: {shown}")
    lines = [line.split() for line in daemon.cli("container", "show", "a").stdout.splitlines()]
    check(lines[5:] == [["used", "0"], ["limit", "512M"], ["reserved", "30M"],
                        ["tier", "ssd"], ["used", "0"], ["limit", "64M"], ["reserved", "0"],
                        ["tier", "hdd"], ["used", "0"], ["limit", "-"], ["reserved", "20M"]],
          f"as a table: {lines}")
    # The tiers hold less than that.
    daemon.cli("container", "set", "a", "max_capacity=4G")
    check(900 * MIB < daemon.json("container", "show", "a")["limit_bytes"] < 1024 * MIB, "less")
    daemon.cli("container", "set", "a", "max_capacity=default", "min_reserved_hdd=default",
               "min_reserved=default")


def policies_are_refused_with_a_reason(daemon):
    two_tiers(daemon)
    daemon.cli("container", "create", "a", "--set", "max_capacity_ssd=64M")
    for code, words, text in (
            (2, ("min_reserved_ssd=100M",),
             "min_reserved_ssd would be greater than max_capacity_ssd"),
            (2, ("min_reserved=10M", "min_reserved_hdd=20M"),
             "reserved on all tiers (min_reserved_ssd, _hdd, _san and _cloud) would be greater "
             "than min_reserved"),
            (2, ("max_capacity=10M", "min_reserved=20M"),
             "min_reserved would be greater than max_capacity"),
            (2, ("max_capacity=10M", "min_reserved_hdd=20M"),
             "would be greater than max_capacity"),
            (2, ("max_capacity_ssd=-5",), "'-5' is not a valid value"),
            (2, ("max_capacity_tape=5M",), "there is no property 'max_capacity_tape'"),
            (2, ("min_reserved_san=1M",), "a tier of which the pool has no disk"),
            (6, ("min_reserved_hdd=2G",), "the disks of a tier hold less than is reserved"),
            (6, ("min_reserved=20G",), "the pool has no room for that")):
        answer = daemon.cli("container", "set", "a", *words, expect=None)
        check(answer.returncode == code and text in answer.stderr, f"{words}: {answer}")
        error = daemon.json("container", "set", "a", *words, expect=code)
        check(error["message"] and error["remedy"], f"{error}")
    rows = {row["property"]: row for row in daemon.json("container", "get", "a")}
    check(rows["max_capacity_ssd"]["value"] == 64 * MIB, "what was refused changed nothing")
    check(rows["max_capacity_ssd"]["source"] == "container", "the source")
    check(rows["max_capacity_ssd"]["used"] == 0, "nothing is used")
    for name in ("max_capacity", "max_capacity_hdd", "min_reserved", "min_reserved_hdd"):
        check(rows[name]["source"] == "default", f"{rows[name]}")
    check(rows["max_capacity_hdd"]["value"] is None, "no limit")
    lines = daemon.cli("container", "get", "a", "max_capacity_ssd").stdout.splitlines()
    check(lines[0].split()[:5] == ["PROPERTY", "VALUE", "SOURCE", "DEFAULT", "USED"], f"{lines}")
    check(lines[1].split()[:5] == ["max_capacity_ssd", "64M", "container", "-", "0"], f"{lines}")
    show_tells_of_tiers(daemon)
    daemon.cli("container", "set", "a", "max_capacity_ssd=default")
    row = daemon.json("container", "get", "a", "max_capacity_ssd")[0]
    check(row["value"] is None and row["source"] == "default", f"{row}")
    daemon.stop()


def data_keep_to_their_limits(daemon):
    two_tiers(daemon)
    daemon.cli("container", "create", "a", "--set", "max_capacity_ssd=64M", "--set",
               "max_capacity_hdd=64M")
    daemon.cli("container", "create", "b", "--set", "min_reserved_ssd=200M")
    make_vdisks(daemon, "a/d", "b/d")
    written = 0
    while written < 160 and io(daemon, "a/d", f"write -P 7 {written}M 8M") == 0:
        written += 8
    # Two tiers of 64 MiB, of each some 54 live.
    check(88 <= written <= 112, f"{written} MiB were written")
    before = used(daemon, "a")
    check(56 * MIB <= before["ssd"] <= 72 * MIB and 32 * MIB <= before["hdd"] <= 72 * MIB,
          f"{before}")
    check(io(daemon, "b/d", "write -P 5 0 64M") == 0, "another container writes")
    check(io(daemon, "a/d", "read -P 7 0 80M") == 0, "what it has can be read")
    check(io(daemon, "a/d", "write -P 8 0 8M") == 0, "and overwritten")
    found = [row["cause"] for row in
             json.loads(daemon.cli("-o", "json", "health", "show", expect=11).stdout)["result"]
             if row["object"] == "a"]
    check(found and ("max_capacity" in found[0] or "may be in the container" in found[0]),
          f"{found}")
    daemon.stop()
    daemon.start()
    after = used(daemon, "a")
    check(after["ssd"] <= 72 * MIB and after["hdd"] <= 72 * MIB and
          sum(after.values()) > (written - 8) * MIB, f"after a restart: {after}, was {before}")
    check(io(daemon, "a/d", f"write -P 8 8M {written - 8}M") == 0, "overwriting after a restart")
    check(io(daemon, "a/d", f"read -P 8 0 {written}M") == 0, "all of it is there")
    check(io(daemon, "a/d", "discard 0 32M") == 0, "discard")
    daemon.cli("vdisk", "flush", "a/d")
    deadline = time.monotonic() + rig.SECONDS
    while io(daemon, "a/d", "write -P 9 200M 16M") != 0:
        check(time.monotonic() < deadline, "no room after a discard")
    daemon.stop()


if __name__ == "__main__":
    rig.require_qemu_iscsi()
    sys.exit(rig.main(policies_are_refused_with_a_reason, data_keep_to_their_limits))
