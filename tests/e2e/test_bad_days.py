#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts under bad conditions: each ends in a clear error, or goes on without what is broken."""
import fcntl
import os
import shutil
import signal
import socket
import sys
import time

import rig
from rig import check, run


def fails_to_start(daemon, *texts):
    done = run(daemon.command(), expect=1)
    for text in texts:
        check(text in done.stderr, f"'{text}' is not in:\n{done.stderr}")


def configuration_faults_are_all_named(daemon):
    daemon.write_config("[node]\nreactors = x\n[iscsi]\nport = 99999\n[what]\na = b\nrubbish\n")
    for words in ((), ("--check-config",)):
        done = run(daemon.command(*words), expect=2)
        for line in (2, 4, 5, 7):
            check(f"conf:{line}: " in done.stderr, f"line {line} is not named:\n{done.stderr}")
    daemon.write_config("[log]\nlevel = debug\n")
    run(daemon.command("--check-config"))


def one_daemon_a_state(daemon):
    daemon.start()
    first = daemon.process.pid
    fails_to_start(daemon, "another sarsend uses this state directory", f"pid={first}")
    daemon.cli("node", "show")
    daemon.kill()
    daemon.start()
    daemon.stop(signal.SIGINT)


def sockets_and_ports(daemon):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        daemon.write_config(f"[iscsi]\nport = {port}\n")
        fails_to_start(daemon, f"127.0.0.1 port {port}", "in use", "port_fallback")
        daemon.write_config(f"[iscsi]\nport = {port}\nport_fallback = yes\n")
        daemon.start()
        check(daemon.json("node", "show")["iscsi"]["port"] not in (0, port), "fallback")
        daemon.stop()
    with open(daemon.socket, "w", encoding="utf-8"):
        fails_to_start(daemon, "cannot open the socket", daemon.socket)
    os.unlink(daemon.socket)
    daemon.write_config("[iscsi]\nenabled = false\n")
    daemon.start()
    daemon.make_pool("1G")
    daemon.cli("vdisk", "create", "default/d", "1G")
    refused = daemon.json("iscsi", "export", "default/d", expect=3)
    check("disabled" in refused["message"], f"{refused}")
    daemon.stop()


def a_missing_pool_stops_nobody_else(daemon):
    daemon.start()
    daemon.make_pool("1G")
    daemon.cli("pool", "create", "other", daemon.path("other"), "--capacity", "1G")
    daemon.cli("container", "create", "second", "--pool", "other")
    for name in ("default/a", "second/b"):
        daemon.cli("vdisk", "create", name, "1G")
        daemon.cli("iscsi", "export", name)
    daemon.stop()
    os.rename(daemon.path("other"), daemon.path("away"))
    daemon.start()
    states = {disk["name"]: disk["state"] for disk in daemon.json("vdisk", "list")}
    check(states == {"default/a": "online", "second/b": "failed"}, f"{states}")
    check(daemon.json("pool", "show", "other")["state"] == "failed", "pool state")
    check(daemon.json("vdisk", "flush", "second/b", expect=1)["code"] == "io-error", "flush")
    states = {e["vdisk"]: e["state"] for e in daemon.json("iscsi", "list")}
    check(states == {"default/a": "online", "second/b": "failed"}, f"{states}")
    os.rename(daemon.path("away"), daemon.path("other"))
    for noun in ("vdisk", "iscsi"):  # without a restart
        rig.wait_for(lambda noun=noun: all(one["state"] == "online"
                                           for one in daemon.json(noun, "list")),
                     f"{noun} is served again", 40)
    daemon.cli("vdisk", "flush", "second/b")
    daemon.stop()
    daemon.start()
    check(all(disk["state"] == "online" for disk in daemon.json("vdisk", "list")), "back again")
    daemon.stop()


def a_damaged_catalog_is_named(daemon):
    daemon.start()
    daemon.make_pool("1G")
    daemon.stop()
    catalog = daemon.path("state/catalog.db")
    shutil.copy(catalog, daemon.path("kept"))
    with open(catalog, "r+b") as file:
        file.write(b"rubbish" * 1000)
    os.rename(daemon.path("pool/catalog"), daemon.path("mirror"))
    fails_to_start(daemon, "catalog", catalog, "damaged")
    os.rename(daemon.path("mirror"), daemon.path("pool/catalog"))
    shutil.copy(daemon.path("kept"), catalog)
    daemon.start()
    check(len(daemon.json("pool", "list")) == 1, "restored")
    daemon.stop()


def a_state_that_cannot_be(daemon):
    with open(daemon.path("state"), "w", encoding="utf-8"):
        fails_to_start(daemon, "cannot lock the state directory")


def stops_while_it_waits_for_the_lock(daemon):
    os.mkdir(daemon.path("state"))
    with open(daemon.path("state/lock"), "w", encoding="utf-8") as lock:
        lock.write("999999999 5\n")  # of a daemon that is dead, and the kernel has not let go
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        for times, number in enumerate((signal.SIGTERM, signal.SIGINT), 1):
            daemon.launch()
            begin = time.monotonic()
            while daemon.log().count("waiting until the kernel") < times:
                check(time.monotonic() - begin < rig.SECONDS, "it does not wait")
                time.sleep(0.05)
            daemon.stop(number)
            check(time.monotonic() - begin < 30, "it took long to stop")


def many_vdisks_start_quickly(daemon):
    daemon.start()
    daemon.make_pool()
    for i in range(100):
        status, answer = daemon.post("vdisk.create", f'{{"name": "default/d{i}", "size": "1G"}}')
        check(status == 200, f"{answer}")
    daemon.kill()
    begin = time.monotonic()
    daemon.start()
    spent = time.monotonic() - begin
    check(len(daemon.json("vdisk", "list")) == 100, "all are there")
    check(spent < rig.SECONDS / 12, f"the start took {spent:.1f} s")
    daemon.stop()


if __name__ == "__main__":
    sys.exit(rig.main(configuration_faults_are_all_named, one_daemon_a_state, sockets_and_ports,
                      a_missing_pool_stops_nobody_else, a_damaged_catalog_is_named,
                      a_state_that_cannot_be,
                      stops_while_it_waits_for_the_lock, many_vdisks_start_quickly))
