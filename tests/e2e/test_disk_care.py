#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an operator does with disks beside adding and removing them: finding one by hand, growing
its file system. Needs root and loop devices."""
import os
import sys

import rig
from file_system import MIB, FileSystem, skip_without_loop
from rig import check, run


def with_systems(*kinds):
    """File systems of 1 GiB, mounted; each is given as the test's argument."""
    def decorate(test):
        def wrapped(daemon):
            systems = []
            try:
                for number, kind in enumerate(kinds):
                    systems.append(FileSystem(daemon.directory, 1024 * MIB, str(number), kind))
                daemon.start()
                test(daemon, *systems)
                daemon.stop()
            finally:
                if daemon.process and daemon.process.poll() is None:
                    daemon.kill()
                for system in systems:
                    system.done()
        wrapped.__name__ = test.__name__
        return wrapped
    return decorate


def pool_on(system):
    return os.path.join(system.mount_point, "pool")


def device_of(place):
    check(len(place["devices"]) == 1, f"one device: {place}")
    return place["devices"][0]


@with_systems("ext4", "xfs")
def a_disk_is_located(daemon, first, second):
    daemon.cli("pool", "create", "local", pool_on(first))
    added = daemon.json("disk", "add", "local", pool_on(second))
    check("warnings" not in added and added["shares_with"] == 0, f"on its own: {added}")
    place = daemon.json("disk", "locate", "2")
    check(place["mount"] == {"point": second.mount_point, "source": f"/dev/{second.device()}",
                             "type": "xfs"}, f"mount: {place}")
    check(not place["remembered"] and device_of(place)["name"] == second.device() and
          device_of(place)["backing_file"] == second.image, f"{place}")
    check(device_of(place)["light_state"] == "none", f"{place}")
    text = daemon.cli("disk", "locate", "2").stdout
    check(second.image in text and "none: this host knows of no light" in text, text)
    # Its own light: reads that the device counts.
    before = reads_of(second)
    daemon.cli("disk", "locate", "2", "--blink", "2")
    check(reads_of(second) >= before + 20, f"reads: {before}, {reads_of(second)}")
    job = daemon.cli("--no-wait", "disk", "locate", "2", "--blink", "3600").stdout.strip()
    daemon.cli("job", "cancel", job)
    daemon.cli("job", "wait", job, expect=9)
    # Gone, it is told where it was, also by the next daemon, although the directory above is there.
    daemon.stop()
    device = second.device()
    second.until_free("umount")
    os.makedirs(pool_on(second))
    daemon.start()
    place = daemon.json("disk", "locate", "2")
    check(place["state"] == "missing" and place["remembered"] and
          device_of(place)["name"] == device, f"{place}")
    check("seen last" in daemon.cli("disk", "locate", "2").stdout, "no word of it being old")
    done = daemon.cli("disk", "locate", "2", "--blink", "1", expect=3)
    check("missing" in done.stderr, done.stderr)


def capacity_of(daemon, number="1"):
    return daemon.json("disk", "show", number)["capacity_bytes"]


def wait_for_capacity(daemon, condition, what):
    rig.wait_for(lambda: condition(capacity_of(daemon)), what, 40)


def grow(system, size):
    os.truncate(system.image, size)
    run(["losetup", "-c", f"/dev/{system.device()}"])
    if system.kind == "xfs":
        run(["xfs_growfs", system.mount_point])
    else:
        done = run(["resize2fs", f"/dev/{system.device()}"], None)
        if "Permission denied to resize" in done.stderr:
            print("       (ext4 may not be resized here while it is mounted: CAP_SYS_RESOURCE)")
            return False
        check(done.returncode == 0, done.stderr)
    return True


def size_is_followed(daemon, system):
    daemon.cli("pool", "create", "local", pool_on(system))
    daemon.cli("container", "create", "default")
    before = capacity_of(daemon)
    limit = daemon.json("pool", "show", "local")["space"]["limit_bytes"]
    if not grow(system, 2048 * MIB):
        return
    wait_for_capacity(daemon, lambda now: now > 1.9 * before, "the grown file system is seen")
    check(daemon.json("pool", "show", "local")["space"]["limit_bytes"] > 1.8 * limit, "the limit")
    rig.wait_for(lambda: any(event["reason"] == "disk-resized" for event in
                             daemon.json("event", "list")), "the event")
    check(f"{capacity_of(daemon) // MIB} MiB instead of {before // MIB}" in
          daemon.cli("event", "list").stdout, daemon.cli("event", "list").stdout)
    check(daemon.cli("health").stdout.count("\n") == 1, daemon.cli("health").stdout)


@with_systems("xfs")
def a_grown_xfs_is_seen(daemon, system):
    size_is_followed(daemon, system)


@with_systems("ext4")
def a_grown_ext4_is_seen(daemon, system):
    size_is_followed(daemon, system)


def tiers_change_while_it_is_in_use(daemon):
    """What is written after a change of the order goes to the other tier, with the vDisk open."""
    daemon.start()
    daemon.make_pool("1G")
    daemon.cli("disk", "add", "local", daemon.path("hdd"), "--tier", "hdd", "--capacity", "1G")
    daemon.cli("vdisk", "create", "default/a", "256M")
    url = daemon.cli("iscsi", "export", "default/a").stdout.strip()

    def set_orders(random, sequential):
        daemon.cli("container", "set", "default", f"tier_order_random={random}",
                   f"tier_order_sequential={sequential}")

    def write(offset):
        run(["qemu-io", "-f", "raw", "-c", f"write -P 8 {offset}M 48M", "-c", "flush", url])
        return {row["tier"]: row["used_bytes"] for row in daemon.json("disk", "list")}
    set_orders("ssd,hdd", "ssd,hdd")
    before = write(0)
    check(before["hdd"] == 0 and before["ssd"] >= 48 * MIB, f"{before}")
    set_orders("hdd,ssd", "hdd,ssd")
    after = write(64)
    check(after["hdd"] >= 32 * MIB and after["ssd"] < before["ssd"] + 32 * MIB, f"{before} {after}")
    set_orders("hdd,ssd", "ssd,hdd")  # all this was written in sequence, and that is known by now
    last = write(128)
    check(last["ssd"] >= after["ssd"] + 16 * MIB, f"{after} {last}")
    daemon.stop()


def a_failed_disk_is_the_last_resort(daemon):
    """Its daemon is new and the other copies' disk is away: all is read from it, then copied."""
    daemon.start()
    daemon.make_pool("1G")
    away = daemon.json("disk", "list")[0]["directory"]
    for name in ("second", "third"):
        daemon.cli("disk", "add", "local", daemon.path(name), "--capacity", "1G")
    daemon.cli("disk", "drain", "3")  # takes nothing for now
    daemon.cli("container", "set", "default", "replication_factor=2")
    daemon.cli("vdisk", "create", "default/a", "64M")

    def on_guest(*commands):
        url = daemon.json("vdisk", "show", "default/a")["url"]
        words = [word for command in commands for word in ("-c", command)]
        check("failed" not in run(["qemu-io", "-f", "raw", *words, url]).stdout, "what was read")
    daemon.cli("iscsi", "export", "default/a")
    on_guest("write -P 8 0 48M", "flush")
    daemon.stop()
    daemon.start()
    daemon.cli("disk", "fail", "2", "--yes")
    check(daemon.json("disk", "show", "2")["only_here_groups"] == 0, "it is not missed yet")
    daemon.stop()
    os.rename(away, away + ".away")
    daemon.start()
    on_guest("read -P 8 0 48M")
    shown = daemon.json("disk", "show", "2")
    check(shown["state"] == "failed" and shown["only_here_groups"] > 0, f"{shown}")
    check(daemon.json("pool", "show", "local")["copies"]["resort_bytes"] >= 48 * MIB, "pool show")
    done = daemon.cli("health", expect=None)
    check(done.returncode != 0 and "are on disks that have failed" in done.stdout and
          "leave that disk where it is" in done.stdout, done.stdout)
    check(daemon.cli("disk", "remove", "2", "--yes", expect=None).returncode != 0, "removed")
    daemon.cli("disk", "drain", "3", "--stop")
    rig.wait_for(lambda: daemon.json("disk", "show", "2")["only_here_groups"] == 0,
                 "copies of what only it had", 60)
    check("are on disks that have failed" not in daemon.cli("health", expect=None).stdout, "health")
    on_guest("read -P 8 0 48M")
    os.rename(away + ".away", away)
    rig.wait_for(lambda: daemon.json("disk", "show", "2")["files"] == 0, "it is empty", 90)
    daemon.cli("disk", "remove", "2", "--yes")
    on_guest("read -P 8 0 48M")
    daemon.stop()


def without_a_disk_to_write_to(daemon):
    """One disk has failed, the other is away: all is read, nothing written, until one is back."""
    daemon.start()
    daemon.make_pool("1G")
    away = daemon.json("disk", "list")[0]["directory"]
    second = daemon.path("second")
    daemon.cli("disk", "add", "local", second, "--capacity", "1G")
    daemon.cli("container", "set", "default", "replication_factor=2")
    daemon.cli("vdisk", "create", "default/a", "64M")
    daemon.cli("iscsi", "export", "default/a")

    def on_guest(*commands):
        url = daemon.json("vdisk", "show", "default/a")["url"]
        words = [word for command in commands for word in ("-c", command)]
        return run(["qemu-io", "-f", "raw", *words, url], None)

    def went_well(done):
        return done.returncode == 0 and "failed" not in done.stdout + done.stderr

    def state():
        return daemon.json("vdisk", "show", "default/a")["state"]

    def reasons():
        return {event["reason"] for event in daemon.json("event", "list")}

    def files_of(directory):
        paths = [os.path.join(folder, name) for folder, _, names in os.walk(directory)
                 for name in names]
        return {path: (os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in paths}
    check(went_well(on_guest("write -P 7 0 16M", "flush")), "write")
    daemon.stop()
    daemon.start()
    check(went_well(on_guest("write -P 8 0 16M", "flush")), "write")  # its log has to be replayed
    daemon.cli("disk", "fail", "2", "--yes")
    daemon.kill()
    os.rename(away, away + ".away")
    before = files_of(second)
    daemon.start()
    check(daemon.json("pool", "show", "local")["state"] == "read-only" and state() == "read-only",
          "states")
    check(went_well(on_guest("read -P 8 0 16M")), "read")
    check(not went_well(on_guest("write -P 9 0 1M", "flush")), "written")
    done = daemon.cli("vdisk", "resize", "default/a", "128M", expect=None)
    check(done.returncode != 0 and "default/a" in done.stderr and
          "no disk of its pool can be written" in done.stderr and
          "sarsen disk restore" in done.stderr, done.stderr)
    done = daemon.cli("vdisk", "flush", "default/a", expect=None)
    check(done.returncode != 0 and "sarsen disk restore" in done.stderr, done.stderr)
    done = daemon.cli("health", expect=None)
    check("no disk of it can be written" in done.stdout and "sarsen disk restore" in done.stdout and
          "it takes no writes" in done.stdout, done.stdout)
    check(daemon.json("disk", "show", "2")["only_here_groups"] > 0, "disk show")
    rig.wait_for(lambda: {"pool-read-only", "vdisk-read-only"} <= reasons(), "events", 20)
    check("pool-space-critical" not in reasons(), f"{reasons()}")
    check(files_of(second) == before, "something was written to the failed disk")
    daemon.cli("disk", "restore", "2")
    rig.wait_for(lambda: state() == "online", "it takes writes", 20)
    check(went_well(on_guest("write -P 9 0 1M", "flush", "read -P 9 0 1M", "read -P 8 1M 15M")),
          "written and read")
    rig.wait_for(lambda: {"pool-online", "vdisk-online"} <= reasons(), "events", 20)
    os.rename(away + ".away", away)
    daemon.stop()
    daemon.start()
    check(went_well(on_guest("read -P 9 0 1M", "read -P 8 1M 15M")), "read again")
    daemon.stop()


def overcommit_is_told(daemon):
    daemon.start()
    daemon.make_pool("1G")
    done = daemon.cli("vdisk", "create", "default/a", "512M")
    check(done.stderr == "", done.stderr)
    done = daemon.cli("vdisk", "create", "default/b", "2G")
    check("warning: pool 'local' is overcommitted 2." in done.stderr and "2.50G" in done.stderr and
          "default/b" in done.stdout, f"{done}")
    warning = daemon.json("vdisk", "resize", "default/b", "3G")["warnings"][0]
    check(warning["provisioned_bytes"] == 3584 * MIB and 3 < warning["factor"] < 5, f"{warning}")
    done = daemon.cli("health")  # a note, so the exit code is 0
    check("info" in done.stdout and "overcommitted 3." in done.stdout, done.stdout)
    check(daemon.json("pool", "show", "local")["provisioned_bytes"] == 3584 * MIB, "pool show")
    daemon.stop()


def reads_of(system):
    with open(f"/sys/class/block/{system.device()}/stat", encoding="utf-8") as file:
        return int(file.read().split()[0])


if __name__ == "__main__":
    skip_without_loop("ext4", "xfs")
    rig.require("resize2fs", "xfs_growfs")
    rig.require_qemu_iscsi()
    sys.exit(rig.main(tiers_change_while_it_is_in_use, overcommit_is_told,
                      a_failed_disk_is_the_last_resort, without_a_disk_to_write_to,
                      a_disk_is_located, a_grown_xfs_is_seen, a_grown_ext4_is_seen))
