#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A pool of two disks with two copies of everything, under a verified load; one of the two is a
file system that is frozen: what is asked of it neither fails nor ends, as with a dead controller.
The load must not notice more than a pause; it is told; the disk comes back by itself; and the
daemon can be stopped and started meanwhile. Needs root and loop devices."""
import atexit
import os
import re
import signal
import socket
import subprocess
import sys
import time

import rig
from file_system import MIB, FileSystem, skip_without_loop
from loads import Load
from rig import check, run
from test_disks import disks, not_noticed, reasons, url, wait_for_disk, wait_healthy

DISK_MIB = 48
TIMEOUT_S = 2
CONFIG = f"[iscsi]\nport = 0\n[node]\ndisk_timeout_ms = {TIMEOUT_S * 1000}\n"


class Hanging(FileSystem):
    """One that hangs when told, and is let go in any case."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        atexit.register(self.thaw)

    def freeze(self):
        run(["fsfreeze", "-f", self.mount_point])

    def thaw(self):
        subprocess.run(["fsfreeze", "-u", self.mount_point], check=False, capture_output=True,
                       timeout=rig.SECONDS)


def silent(daemon, name):
    return disks(daemon)[name]["silent_ns"] > 0


def with_disks(test):
    def wrapped(daemon):
        systems = []
        load = Load(DISK_MIB, 11)
        daemon.write_config(CONFIG)
        try:
            for number, kind in enumerate(("ext4", "xfs")):
                systems.append(Hanging(daemon.directory, 1024 * MIB, str(number), kind))
            paths = [os.path.join(system.mount_point, "pool") for system in systems]
            daemon.start()
            daemon.cli("pool", "create", "local", paths[0], "--capacity", "700M")
            daemon.cli("disk", "add", "local", paths[1], "--capacity", "700M")
            daemon.cli("container", "create", "default", "--set", "replication_factor=2")
            daemon.cli("vdisk", "create", "default/d", f"{DISK_MIB}M")
            daemon.cli("iscsi", "export", "default/d")
            wait_healthy(daemon)
            test(daemon, systems, load, load.run("fill", url(daemon)))
            daemon.stop()
        finally:
            load.close()
            for system in systems:
                system.thaw()
            if daemon.process.poll() is None:
                daemon.kill()
            for system in systems:
                system.done()
    wrapped.__name__ = test.__name__
    return wrapped


def told(daemon, name):
    """Whoever asks learns that it does not answer, and since when."""
    rig.wait_for(lambda: silent(daemon, name), f"{name} is silent", 20)
    rig.wait_for(lambda: disks(daemon)[name]["state"] == "missing", f"{name} is missing", 20)
    directory = disks(daemon)[name]["directory"]
    health = daemon.cli("health", expect=None)
    found = re.search(rf"{directory}.*does not answer since \d+ s", health.stdout)
    check(health.returncode != 0 and found, f"health: {health.stdout}")
    shown = daemon.cli("disk", "show", directory).stdout
    check("silent-for" in shown, f"disk show: {shown}")
    limits = daemon.json("disk", "show", directory)["limits"]
    check(limits["timeout_ns"] == TIMEOUT_S * 10 ** 9, f"{limits}")


def hang(daemon, system, load):
    """In the middle of load, which goes on. `check` reads all of it, without the disk."""
    name = os.path.basename(system.mount_point)
    load.begin("load", url(daemon))
    time.sleep(0.7)
    system.freeze()
    told(daemon, name)
    time.sleep(1)
    load.begin("check", url(daemon))
    load.end()
    load.end()


@with_disks
def a_disk_hangs_and_comes_back(daemon, systems, load, before):
    for system in systems:
        hang(daemon, system, load)
        before = not_noticed(daemon, load, before)
        load.begin("load", url(daemon))
        time.sleep(0.5)
        system.thaw()
        wait_for_disk(daemon, os.path.basename(system.mount_point), ("online",), 90)
        load.begin("check", url(daemon))
        load.end()
        load.end()
        wait_healthy(daemon)
        before = not_noticed(daemon, load, before)
        check(not silent(daemon, os.path.basename(system.mount_point)), "it is silent")
    whole(daemon)


def whole(daemon):
    daemon.cli("iscsi", "unexport", "default/d")
    report = daemon.json("vdisk", "check", "default/d", "--data")["result"]
    bad = report["bad_pages"] + report["bad_blocks"] + report["missing_live_blocks"]
    check(bad == 0, f"vdisk check: {report}")


def portal(daemon):
    host, _, port = url(daemon).split("/")[2].split("@")[-1].rpartition(":")
    return host, int(port)


def refuses(place):
    with socket.socket() as connection:
        connection.settimeout(rig.SECONDS)
        return connection.connect_ex(place) != 0


@with_disks
def the_daemon_is_stopped_and_started_meanwhile(daemon, systems, load, before):
    """A stop ends in time for guests and operators. What the disk holds up keeps the process in the
    kernel and the next daemon waiting, for it could still write; when the disk answers, that one
    serves."""
    hang(daemon, systems[0], load)
    place = portal(daemon)
    load.begin("load", url(daemon))
    time.sleep(0.5)
    first = daemon.process
    first.send_signal(signal.SIGTERM)
    rig.wait_for(lambda: not os.path.exists(daemon.socket) and refuses(place), "it lets go",
                 TIMEOUT_S + 5 + 10)
    load.end("lost")
    rig.wait_for(lambda: "disks do not answer" in daemon.log(), "it left", 10)
    check(first.poll() is None, "nothing hung")
    daemon.launch()
    rig.wait_for(lambda: "finished the I/O of the last daemon" in daemon.log(), "it waits", 20)
    time.sleep(2)
    check(daemon.process.poll() is None and not os.path.exists(daemon.socket), "it does not wait")
    systems[0].thaw()
    check(first.wait(20) == 0, f"the end of a stop: {first.returncode}")
    rig.wait_for(lambda: daemon.cli("node", "show", expect=None).returncode == 0, "it serves", 60)
    load.run("check", url(daemon))
    wait_for_disk(daemon, "mnt0", ("online",), 90)
    wait_healthy(daemon)
    load.run("check", url(daemon))
    whole(daemon)


@with_disks
def the_daemon_is_stopped_when_no_disk_answers(daemon, systems, load, before):
    """There is no other copy to go on with: it leaves without an order, and hangs up."""
    place = portal(daemon)
    load.begin("load", url(daemon))
    time.sleep(0.7)
    for system in systems:
        system.freeze()
    rig.wait_for(lambda: daemon.log().count("a disk does not answer") >= 2, "both are silent", 20)
    daemon.process.send_signal(signal.SIGTERM)
    rig.wait_for(lambda: "not stopped in order" in daemon.log(), "it leaves", TIMEOUT_S + 5 + 10)
    load.end("lost")
    rig.wait_for(lambda: refuses(place), "it refuses connections", 10)
    check(daemon.process.poll() is None, "nothing hung")
    for system in systems:
        system.thaw()
    check(daemon.process.wait(20) == 0, f"the end of a stop: {daemon.process.returncode}")
    daemon.start()
    load.run("check", url(daemon))
    for name in ("mnt0", "mnt1"):
        wait_for_disk(daemon, name, ("online",), 90)
    wait_healthy(daemon)
    load.run("check", url(daemon))
    whole(daemon)


if __name__ == "__main__":
    skip_without_loop("ext4", "xfs")
    rig.require("fsfreeze")
    sys.exit(rig.main(a_disk_hangs_and_comes_back, the_daemon_is_stopped_and_started_meanwhile,
                      the_daemon_is_stopped_when_no_disk_answers))
