#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an operator does with disks beside adding and removing them: finding one by hand. Needs root
and loop devices."""
import os
import sys

import rig
from file_system import MIB, FileSystem, skip_without_loop
from rig import check


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
    daemon.cli("disk", "add", "local", pool_on(second))
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


def reads_of(system):
    with open(f"/sys/class/block/{system.device()}/stat", encoding="utf-8") as file:
        return int(file.read().split()[0])


if __name__ == "__main__":
    skip_without_loop("ext4", "xfs")
    sys.exit(rig.main(a_disk_is_located))
