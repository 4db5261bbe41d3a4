#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real file system below the pool that fills up, or becomes read-only, under load. Needs root and
a loop device. Another program's file takes the space; an error that ext4 is told to find makes it
read-only, as a damaged disk would; a mount that is read-only at the start, and is made writable
while the daemon runs, is the gentle case."""
import os
import sys
import time

import rig
from file_system import MIB, FileSystem, skip_without_loop
from loads import Load
from rig import check, run

DISK_MIB = 96


def with_file_system(test):
    """The test with a pool on a file system of its own, one disk, and a load for it."""
    def wrapped(daemon):
        system = FileSystem(daemon.directory, 1024 * MIB)
        load = Load(DISK_MIB, 5)
        try:
            daemon.start()
            daemon.cli("pool", "create", "local", os.path.join(system.mount_point, "pool"),
                       "--capacity", "800M")
            daemon.cli("container", "create", "default")
            make_disk(daemon, "default/d")
            load.run("fill", url(daemon))
            test(daemon, system, load)
        finally:
            load.close()
            if daemon.process.poll() is None:
                daemon.kill()
            system.done()
    wrapped.__name__ = test.__name__
    return wrapped


def make_disk(daemon, name):
    daemon.cli("vdisk", "create", name, f"{DISK_MIB}M")
    daemon.cli("iscsi", "export", name)


def url(daemon, name="default/d"):
    return daemon.json("vdisk", "show", name)["url"]


def pool_state(daemon):
    return daemon.json("pool", "show", "local")["state"]


def load_until(daemon, load, *keys):
    """Load until requests are refused for that reason; the daemon lives, and says what is wrong."""
    deadline = time.monotonic() + 2 * rig.SECONDS
    while True:
        load.begin("load", url(daemon))
        time.sleep(1)
        load.begin("look", url(daemon))
        load.end()
        numbers = load.end()
        if any(numbers[key] > 0 for key in keys):
            return numbers
        check(time.monotonic() < deadline, f"nothing is {keys[0]}: {numbers}")


def wait_for_state(daemon, state):
    deadline = time.monotonic() + rig.SECONDS
    while pool_state(daemon) != state:
        check(time.monotonic() < deadline, f"the pool is {pool_state(daemon)}, not {state}")
        time.sleep(0.1)


def loads_well(daemon, load):
    """Nothing is refused any more, and all is there."""
    before = load.run("check", url(daemon))
    load.begin("load", url(daemon))
    time.sleep(2)
    load.begin("check", url(daemon))
    load.end()
    after = load.end()
    for key in ("refused_space", "refused_read_only", "refused_error"):
        check(before[key] == after[key], f"still {key}: {before} {after}")
    check(after["answered"] > before["answered"] + 100, f"no progress: {before} {after}")


@with_file_system
def a_full_file_system(daemon, system, load):
    load.begin("load", url(daemon))
    time.sleep(0.3)
    system.fill()
    time.sleep(0.3)
    load.begin("look", url(daemon))
    load.end()
    load.end()
    print(load_until(daemon, load, "refused_space"), flush=True)
    check(pool_state(daemon) == "full", f"the pool is {pool_state(daemon)}")
    daemon.cli("vdisk", "list")
    # A restart works when it is full.
    daemon.kill()
    daemon.start()
    load.run("check", url(daemon))
    system.free()
    wait_for_state(daemon, "online")
    loads_well(daemon, load)
    daemon.stop()


def fail_under_load(daemon, system, load):
    """The load is on another disk; what it wrote last is lost with the file system's journal."""
    make_disk(daemon, "default/e")
    other = Load(DISK_MIB, 6)
    try:
        other.begin("load", url(daemon, "default/e"))
        time.sleep(0.7)
        daemon.cli("vdisk", "flush", "default/d")
        system.fail()
        # Newer kernels may answer with EIO instead.
        print(load_until(daemon, load, "refused_read_only", "refused_error"), flush=True)
        other.begin("look", url(daemon, "default/e"))
        other.end()
        other.end()
    finally:
        other.close()


@with_file_system
def a_file_system_that_found_an_error(daemon, system, load):
    load.begin("load", url(daemon))
    time.sleep(0.5)
    load.begin("check", url(daemon))
    load.end()
    load.end()
    fail_under_load(daemon, system, load)
    check("the log has failed" in daemon.log(), "the log does not say so")
    check(pool_state(daemon) == "read-only", f"the pool is {pool_state(daemon)}")
    load.run("look", url(daemon))
    daemon.kill()
    system.until_free("umount")
    system.repair()
    system.mount()
    daemon.start()
    loads_well(daemon, load)
    for name in ("default/d", "default/e"):
        daemon.cli("iscsi", "unexport", name)
        report = daemon.json("vdisk", "check", name, "--data")["result"]
        bad = report["bad_pages"] + report["bad_blocks"] + report["missing_live_blocks"]
        check(bad == 0, f"vdisk check {name}: {report}")
    daemon.stop()


@with_file_system
def a_file_system_mounted_read_only(daemon, system, load):
    load.begin("load", url(daemon))
    time.sleep(0.5)
    daemon.kill()
    load.end("lost")
    system.until_free("mount", "-o", "remount,ro")
    daemon.start()
    check(pool_state(daemon) == "read-only", f"the pool is {pool_state(daemon)}")
    load.run("look", url(daemon))
    print(load_until(daemon, load, "refused_read_only"), flush=True)
    run(["mount", "-o", "remount,rw", system.mount_point])
    wait_for_state(daemon, "online")
    loads_well(daemon, load)
    daemon.stop()


if __name__ == "__main__":
    skip_without_loop("ext4")
    sys.exit(rig.main(a_full_file_system, a_file_system_that_found_an_error,
                      a_file_system_mounted_read_only))
