#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A pool of two disks with two copies of everything, under a verified load; one of the two is a
file system that is frozen: what is asked of it neither fails nor ends, as with a dead controller.
The load must not notice more than a pause; it is told; the disk comes back by itself; and the
daemon can be stopped, killed and started meanwhile. Needs root and loop devices."""
import atexit
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import rig
from file_system import MIB, FileSystem, skip_without_loop
from loads import Load
from rig import check, run
from test_disks import disks, not_noticed, reasons, url, wait_for_disk, wait_healthy

DISK_MIB = 48
TIMEOUT_S = 2
CONFIG = f"[iscsi]\nport = 0\n[node]\ndisk_timeout_ms = {TIMEOUT_S * 1000}\n"


class Proxy:
    """What is left of a dead daemon keeps its connections open. An initiator gives up after some
    time; this one is told to."""

    def __init__(self, place):
        self.place = place
        self.connections = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()

    def url(self, url):
        host, port = self.listener.getsockname()
        return url.replace("%s:%d" % self.place, f"{host}:{port}")

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.place, rig.SECONDS)
            except OSError:  # closed, or nobody is there
                return
            server.settimeout(None)
            self.connections += [client, server]
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self.forward, args=ends, daemon=True).start()

    @staticmethod
    def forward(source, target):
        try:
            while data := source.recv(1 << 18):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:  # it was cut
            pass

    def cut(self):
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # the other end was faster
                pass
        self.connections.clear()

    def close(self):
        self.cut()
        self.listener.close()


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
    # What was under way at the second one may be a mirror of the catalog only, which comes after
    # that of the first; each is waited for 10 s.
    rig.wait_for(lambda: daemon.log().count("a disk does not answer") >= 2, "both are silent", 60)
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


def start_beside_the_dead(daemon, place):
    """The next daemon, on the same port. In a bounded time: it waits as long as a disk may take,
    looks at the disks as long, and may wait for a mirror of the catalog."""
    begun = daemon.log().count(" ready ")
    dead = daemon.process
    with open(daemon.path("conf"), encoding="utf-8") as file:
        config = re.sub(r"^port = .*$", f"port = {place[1]}", file.read(), flags=re.M)
    daemon.write_config(config)
    daemon.launch()
    rig.wait_for(lambda: daemon.log().count(" ready ") > begun or daemon.process.poll() is not None,
                 "it serves", 30)
    check(daemon.process.poll() is None, f"it ended:\n{daemon.log()[-2000:]}")
    check(dead.poll() is None, "nothing of the dead one is left")
    check(portal(daemon) == place, f"it listens elsewhere: {portal(daemon)}")
    health = daemon.cli("health", expect=None).stdout
    check(f"process id {dead.pid}) cannot end" in health, f"health: {health}")
    check("node-took-over" in reasons(daemon), "no event")
    return dead


def times_alone(daemon):
    return sum(event["reason"] == "node-alone" for event in daemon.json("event", "list"))


def alone_again(daemon, dead, events):
    check(dead.wait(20) == -signal.SIGKILL, f"the end of the dead: {dead.returncode}")
    rig.wait_for(lambda: times_alone(daemon) == events, "it is alone", 20)
    left = [name for name in os.listdir(daemon.path("state")) if name.startswith("lock.dead")]
    check(not left, f"locks of the dead: {left}")


def reads_all(load, url_of):
    """While it writes on."""
    load.begin("load", url_of)
    time.sleep(0.7)
    load.begin("check", url_of)
    load.end()
    load.end()


@with_disks
def a_daemon_is_killed_while_a_disk_hangs(daemon, systems, load, before):
    """Nothing can end it. The next one serves what has another copy, and takes the disk back when
    that has let go of the dead one."""
    place = portal(daemon)
    for number, system in enumerate(systems):
        name = os.path.basename(system.mount_point)
        proxy = Proxy(place)
        hang(daemon, system, load)
        load.begin("load", proxy.url(url(daemon)))
        time.sleep(0.7)
        daemon.process.kill()
        dead = start_beside_the_dead(daemon, place)
        proxy.cut()
        load.end("lost")
        load.run("check", url(daemon))
        reads_all(load, url(daemon))
        check(disks(daemon)[name]["state"] == "missing", f"{disks(daemon)[name]}")
        fsck = rig.run([os.path.join(rig.BUILD, "sarsen-fsck"), "--state", daemon.path("state")],
                       expect=None)
        check(fsck.returncode != 0 and "stop it first" in fsck.stderr, f"fsck: {fsck.stderr}")
        system.thaw()
        alone_again(daemon, dead, number + 1)
        wait_for_disk(daemon, name, ("online",), 90)
        wait_healthy(daemon)
        load.run("check", url(daemon))
        proxy.close()
    whole(daemon)


@with_disks
def daemons_are_killed_one_after_the_other(daemon, systems, load, before):
    """Each waits for nothing but what the one before has left on a disk that hangs."""
    place = portal(daemon)
    load.begin("load", url(daemon))
    time.sleep(0.7)
    systems[0].freeze()
    told(daemon, "mnt0")
    load.begin("check", url(daemon))
    load.end()
    load.end()
    first = daemon.process
    first.kill()
    start_beside_the_dead(daemon, place)
    load.run("check", url(daemon))
    reads_all(load, url(daemon))
    second = daemon.process
    second.kill()
    begun = daemon.log().count(" ready ")
    daemon.launch()
    rig.wait_for(lambda: daemon.log().count(" ready ") > begun, "the third serves", 30)
    check(portal(daemon) == place, "it listens elsewhere")
    load.run("check", url(daemon))
    reads_all(load, url(daemon))
    check(first.poll() is None, "nothing of the first is left")
    systems[0].thaw()
    check(first.wait(20) == -signal.SIGKILL and second.wait(20) == -signal.SIGKILL, "they end")
    rig.wait_for(lambda: times_alone(daemon) == 1, "it is alone", 20)
    wait_for_disk(daemon, "mnt0", ("online",), 90)
    wait_healthy(daemon)
    load.run("check", url(daemon))
    whole(daemon)


if __name__ == "__main__":
    skip_without_loop("ext4", "xfs")
    rig.require("fsfreeze")
    sys.exit(rig.main(a_disk_hangs_and_comes_back, the_daemon_is_stopped_and_started_meanwhile,
                      the_daemon_is_stopped_when_no_disk_answers,
                      a_daemon_is_killed_while_a_disk_hangs,
                      daemons_are_killed_one_after_the_other))
