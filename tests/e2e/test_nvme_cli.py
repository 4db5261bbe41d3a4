#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""NVMe controllers of a real daemon: every verb in both forms, refusals, limits, and the life of
keepers: they outlive the daemon, are found again, replaced, and end when they are told to."""
import grp
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time

import nvme_rig
import rig
from rig import check

CLIENT = os.path.join(rig.BUILD, "tests", "crash", "nvme_client")


class Client:
    """nvme_client: a virtual machine's place, with verified load."""

    def __init__(self, path, *options):
        self.process = subprocess.Popen([CLIENT, path, *options], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = nvme_rig.read_line(self.process, rig.SECONDS)
        check(line == "ready", f"client: {line}\n{self.failure()}")

    def failure(self):
        return self.process.stderr.read() if self.process.poll() is not None else ""

    def ask(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        line = nvme_rig.read_line(self.process, rig.SECONDS)
        check(line, f"client does not answer '{word}': {self.failure()}")
        return json.loads(line)

    def stop(self):
        totals = self.ask("stop")
        check(self.process.wait(rig.SECONDS) == 0, self.failure())
        return totals


def connect(path):
    machine = socket.socket(socket.AF_UNIX)
    machine.settimeout(rig.SECONDS)
    machine.connect(path)
    return machine


def wait_for_state(daemon, name, state):
    nvme_rig.wait_for(lambda: daemon.json("nvme", "show", name)["state"] == state,
                      f"{name} is {state}")


def begin(daemon, *disks):
    daemon.start()
    daemon.make_pool("2G")
    for disk in disks:
        daemon.cli("vdisk", "create", f"default/{disk}", "64M")


def every_verb_in_both_forms(daemon):
    begin(daemon, "d", "e")
    text = daemon.cli("nvme", "create", "vm1").stdout
    path = daemon.path("nvme/vm1.sock")
    device = '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"' + path + '"}}'
    check("-M q35,memory-backend=mem" in text and "share=on" in text, text)
    check(f"-device '{device}'" in text and f"<qemu:arg value='{device}'/>" in text, text)
    check("<access mode='shared'/>" in text, text)
    check(daemon.cli("nvme", "usage", "vm1").stdout == text, "usage")
    usage = daemon.json("nvme", "usage", "vm1")
    check(usage["socket"] == path and usage["device"] == device and usage["usage"] == text, usage)
    check(stat.S_IMODE(os.stat(path).st_mode) == 0o660, "mode of QEMU's socket")
    check(stat.S_IMODE(os.stat(daemon.path("nvme/vm1.link")).st_mode) & 0o077 == 0, "link's mode")
    check(stat.S_IMODE(os.stat(daemon.path("nvme")).st_mode) == 0o750, "mode of the directory")
    mapped = daemon.json("nvme", "create", "vm2", "--doorbells", "mapped", "--queues", "2")
    check(mapped["name"] == "vm2", mapped)
    row = daemon.cli("-H", "nvme", "attach", "vm1", "default/d").stdout
    check(row == "vm1\t1\tdefault/d\t64M\t512\tno\tno\tonline\n", row)
    space = daemon.json("nvme", "attach", "vm1", "default/e", "--nsid", "9", "--read-only",
                        "--shared", "--block-size", "4096")
    check(space["nsid"] == 9 and space["read_only"] and space["shared"] and
          space["block_bytes"] == 4096, space)
    daemon.cli("nvme", "attach", "vm2", "default/e", "--shared")
    check(len(daemon.json("nvme", "namespaces")) == 3, "namespaces")
    check(daemon.json("vdisk", "show", "default/e")["controllers"] == ["vm1", "vm2"], "vdisk show")
    check(daemon.json("node", "show")["nvme"] == {"directory": daemon.path("nvme"),
                                                  "controllers": 2}, "node show")
    check(daemon.cli("-Hp", "nvme", "namespaces", "vm1").stdout.count("\n") == 2, "namespaces vm1")
    check("NAMESPACES" in daemon.cli("nvme", "list").stdout, "list")
    names = [controller["name"] for controller in daemon.json("nvme", "list")]
    check(names == ["vm1", "vm2"], names)
    shown = daemon.json("nvme", "show", "vm2")
    check(shown["doorbells"] == "mapped" and shown["queues"] == 2, shown)
    check(shown["keeper"]["state"] == "running" and shown["keeper"]["engines"] == 1, shown)
    check(shown["guest"] == {**shown["guest"], "connected": False, "state": "disabled"}, shown)
    check("keeper-pid" in daemon.cli("nvme", "show", "vm1").stdout, "show")
    metrics = daemon.get("/metrics")[1]
    check('sarsen_nvme_online{controller="vm1"} 1' in metrics, "metrics")
    check('"/v1/nvme.keeper-replace"' in daemon.get("/openapi.json")[1], "openapi")
    daemon.cli("nvme", "keeper-replace", "vm1")
    check(daemon.json("nvme", "show", "vm1")["state"] == "online", "replaced")
    daemon.cli("nvme", "detach", "vm1", "default/d")
    daemon.cli("vdisk", "delete", "default/d", "--yes")
    daemon.cli("nvme", "delete", "vm1")
    daemon.cli("nvme", "delete", "vm2")
    check(daemon.json("nvme", "list") == [], "list after delete")
    nvme_rig.wait_for(lambda: rig.keepers_below(daemon.directory) == [], "the keepers' end")
    check(os.listdir(daemon.path("nvme")) == [], os.listdir(daemon.path("nvme")))
    check(not os.path.exists(path), "a socket is left")
    daemon.stop()


def errors_are_clear(daemon):
    daemon.write_config("[iscsi]\nport = 0\n[nvme]\nmax_controllers = 2\nmax_queues = 8\n"
                        "max_namespaces = 2\n")
    begin(daemon, "d", "e", "f", "g")
    daemon.cli("vdisk", "create", "default/big", "64M", "--block", "4096")
    daemon.cli("nvme", "create", "a")
    daemon.cli("nvme", "attach", "a", "default/d", "--nsid", "5")
    daemon.cli("iscsi", "export", "default/e")
    for words, code, error in (
            (("nvme", "show", "x"), 4, "not-found"),
            (("nvme", "usage", "x"), 4, "not-found"),
            (("nvme", "delete", "x"), 4, "not-found"),
            (("nvme", "namespaces", "x"), 4, "not-found"),
            (("nvme", "keeper-replace", "x"), 4, "not-found"),
            (("nvme", "attach", "x", "default/f"), 4, "not-found"),
            (("nvme", "attach", "a", "default/x"), 4, "not-found"),
            (("nvme", "detach", "a", "default/f"), 4, "not-found"),
            (("nvme", "create", "a"), 5, "exists"),
            (("nvme", "attach", "a", "default/d"), 5, "exists"),
            (("nvme", "attach", "a", "default/f", "--nsid", "5"), 5, "exists"),
            (("nvme", "attach", "a", "default/e"), 5, "busy"),
            (("vdisk", "delete", "default/d", "--yes"), 5, "busy"),
            (("iscsi", "export", "default/d"), 5, "busy"),
            (("nvme", "create", "Big"), 2, "invalid-name"),
            (("nvme", "create", "../x"), 2, "invalid-name"),
            (("nvme", "create", "n" * 64), 2, "invalid-name"),
            (("nvme", "create", "b", "--queues", "9"), 2, "invalid-request"),
            (("nvme", "create", "b", "--queues", "0"), 2, "invalid-request"),
            (("nvme", "create", "b", "--doorbells", "loud"), 2, "invalid-request"),
            (("nvme", "attach", "a", "default/f", "--nsid", "257"), 2, "invalid-request"),
            (("nvme", "attach", "a", "default/f", "--block-size", "520"), 2, "invalid-request"),
            (("nvme", "attach", "a", "default/big", "--block-size", "512"), 2, "invalid-request"),
            (("nvme", "delete", "a", "--force"), 2, "invalid-request")):  # without --yes
        answer = daemon.json(*words, expect=code)
        check(answer["code"] == error, f"{words}: {answer}")
        check(answer["message"] and answer["remedy"], f"{words}: {answer}")
        human = daemon.cli(*words, expect=code)
        check(human.stderr.startswith("sarsen: ") and human.stdout == "", f"{words}: {human}")
    daemon.cli("vdisk", "check", "default/d", "--data")  # while it is attached
    daemon.cli("nvme", "attach", "a", "default/f")
    answer = daemon.json("nvme", "attach", "a", "default/g", expect=5)
    check("max_namespaces" in answer["remedy"], answer)
    daemon.cli("nvme", "create", "b")
    answer = daemon.json("nvme", "create", "c", expect=5)
    check("max_controllers" in answer["remedy"], answer)
    daemon.stop()


def a_machine_is_not_robbed(daemon):
    """delete is refused while one is connected, and says why; --force ends the keeper."""
    begin(daemon, "d")
    daemon.cli("nvme", "create", "vm")
    daemon.cli("nvme", "attach", "vm", "default/d")
    with connect(daemon.path("nvme/vm.sock")) as machine:
        nvme_rig.wait_for(lambda: daemon.json("nvme", "show", "vm")["guest"]["connected"],
                          "the machine is seen")
        answer = daemon.json("nvme", "delete", "vm", expect=5)
        check(answer["code"] == "busy" and "QEMU" in answer["remedy"], answer)
        check(daemon.json("nvme", "show", "vm")["state"] == "online", "after a refusal")
        daemon.cli("nvme", "delete", "vm", "--force", "--yes")
        check(machine.recv(1) == b"", "the machine is still connected")
    nvme_rig.wait_for(lambda: rig.keepers_below(daemon.directory) == [], "the keepers' end")
    daemon.cli("vdisk", "delete", "default/d", "--yes")
    daemon.stop()


def keepers_outlive_the_daemon(daemon):
    begin(daemon, "d", "e")
    for name, disk in (("a", "d"), ("b", "e")):
        daemon.cli("nvme", "create", name)
        daemon.cli("nvme", "attach", name, f"default/{disk}")
    pids = {name: daemon.json("nvme", "show", name)["keeper"]["pid"] for name in "ab"}
    for pid in pids.values():
        check(os.getsid(pid) == pid, "a keeper is in the daemon's session")
    for end in (daemon.kill, daemon.stop):
        end()
        check(sorted(rig.keepers_below(daemon.directory)) == sorted(pids.values()), "keepers ended")
        daemon.start()
        for name in "ab":
            wait_for_state(daemon, name, "online")
            shown = daemon.json("nvme", "show", name)
            check(shown["keeper"]["pid"] == pids[name], f"another keeper: {shown}")
            check(shown["namespaces"][0]["state"] == "online", shown)
    # One that dies is started again, and only that one; also when nobody looks.
    os.kill(pids["a"], signal.SIGKILL)
    nvme_rig.wait_for(lambda: daemon.json("nvme", "show", "a")["keeper"].get("pid") not in
                      (None, pids["a"]), "a new keeper")
    check(daemon.json("nvme", "show", "b")["keeper"]["pid"] == pids["b"], "b's keeper")
    daemon.stop()
    os.kill(pids["b"], signal.SIGKILL)
    daemon.start()
    nvme_rig.wait_for(lambda: daemon.json("nvme", "show", "b")["keeper"].get("pid") not in
                      (None, pids["b"]), "a new keeper of b")
    daemon.stop()


def a_machine_does_not_notice(daemon):
    """Verified load while the daemon is killed and started, the keeper replaced, disks come and go,
    and a vDisk grows."""
    begin(daemon, "d", "e")
    daemon.cli("nvme", "create", "vm")
    daemon.cli("nvme", "attach", "vm", "default/d")
    client = Client(daemon.path("nvme/vm.sock"), "--mib", "16", "--queues", "2", "--depth", "8")
    try:
        pid = daemon.json("nvme", "show", "vm")["keeper"]["pid"]
        for end in (daemon.kill, daemon.stop, daemon.kill, daemon.stop):
            time.sleep(0.3)
            end()
            daemon.start()
            wait_for_state(daemon, "vm", "online")
            daemon.cli("nvme", "keeper-replace", "vm")
            daemon.cli("nvme", "attach", "vm", "default/e")
            daemon.cli("nvme", "detach", "vm", "default/e")
        daemon.cli("vdisk", "resize", "default/d", "128M")
        shown = daemon.json("nvme", "show", "vm")
        check(shown["keeper"]["pid"] == pid, "a replaced keeper is the same process")
        check(shown["guest"]["state"] == "ready" and shown["guest"]["connected"], shown)
        check(shown["guest"]["submission_queues"] == 3, shown)  # the admin queue too
        check(shown["commands"]["reads"] > 0, shown)  # the client judges errors
        totals = client.stop()
        check(totals["operations"] > 100 and totals["checked_blocks"] > 0, totals)
    finally:
        nvme_rig.end(client.process)
    nvme_rig.wait_for(lambda: not daemon.json("nvme", "show", "vm")["guest"]["connected"], "gone")
    daemon.cli("nvme", "delete", "vm")
    daemon.stop()


def reserve(daemon, name, *words):
    """The status of each of nvme_reserve's words."""
    program = os.path.join(rig.BUILD, "tests", "e2e", "nvme_reserve")
    done = rig.run([program, daemon.path(f"nvme/{name}.sock"), *words])
    return [int(line) for line in done.stdout.split()]


def reservations_persist(daemon):
    """What one machine reserves binds the other, over kills and stops of the daemon."""
    conflict = 131
    begin(daemon, "d")
    for name in "ab":
        daemon.cli("nvme", "create", name)
        daemon.cli("nvme", "attach", name, "default/d", "--shared")
    check(reserve(daemon, "b", "write") == [0], "before")
    check(reserve(daemon, "a", "register=7", "acquire=7", "write") == [0, 0, 0], "acquire")
    for end in (daemon.kill, daemon.stop):
        check(reserve(daemon, "b", "write", "read") == [conflict, 0], "the other")
        end()
        daemon.start()
        for name in "ab":
            wait_for_state(daemon, name, "online")
        check(reserve(daemon, "a", "write") == [0], "the holder")
    check(reserve(daemon, "b", "write", "register=9", "acquire=9") == [conflict, 0, conflict], "b")
    check(reserve(daemon, "a", "release=7") == [0], "release")
    check(reserve(daemon, "b", "acquire=9", "write") == [0, 0], "b's turn")
    check(reserve(daemon, "a", "write") == [conflict], "a is kept out")
    # They end with the last attachment.
    for name in "ab":
        daemon.cli("nvme", "detach", name, "default/d")
    daemon.cli("nvme", "attach", "a", "default/d", "--shared")
    check(reserve(daemon, "a", "write") == [0], "afresh")
    daemon.stop()


SYSTEMCTL = """#!/bin/sh
# What systemd makes of sarsen-keeper@vm-1.service.
[ "$*" = "--no-ask-password restart sarsen-keeper@vm-1.service" ] || exit 5
[ ! -e {directory}/refuse ] || exit 1
{build}/sarsen-keeper $(sed s/^KEEPER_ARGUMENTS=// {directory}/nvme/vm-1.env) >/dev/null 2>&1 &
"""


def units_where_systemd_starts_it(daemon):
    daemon.write_config("[iscsi]\nport = 0\n[nvme]\nkeepers = systemd\n")
    os.mkdir(daemon.path("bin"))
    with open(daemon.path("bin/systemctl"), "w", encoding="utf-8") as file:
        file.write(SYSTEMCTL.format(directory=daemon.directory, build=rig.BUILD))
    os.chmod(daemon.path("bin/systemctl"), 0o755)
    path = os.environ["PATH"]
    os.environ["PATH"] = daemon.path("bin") + ":" + path
    try:
        daemon.start()
        daemon.cli("nvme", "create", "vm-1", "--queues", "3")
        with open(daemon.path("nvme/vm-1.env"), encoding="utf-8") as file:
            words = file.read().strip().split("=", 1)[1].split()
        check(words == ["--name", "vm-1", "--link", daemon.path("nvme/vm-1.link"), "--socket",
                        daemon.path("nvme/vm-1.sock"), "--doorbells", "trapped", "--queues", "3"],
              words)
        check(daemon.json("nvme", "show", "vm-1")["state"] == "online", "online")
        daemon.cli("nvme", "delete", "vm-1")
        check(not os.path.exists(daemon.path("nvme/vm-1.env")), "its environment stays")
        with open(daemon.path("refuse"), "w", encoding="utf-8"):
            pass
        answer = daemon.json("nvme", "create", "vm-1", expect=3)
        check("program" in answer["message"], answer)
        check("could not start a keeper's unit" in daemon.log(), "log")
        daemon.stop()
    finally:
        os.environ["PATH"] = path


def a_missing_keeper_is_said(daemon):
    """The program, the group or the directory is not there."""
    daemon.write_config("[iscsi]\nport = 0\n[nvme]\nkeeper = /nonexistent/sarsen-keeper\n")
    begin(daemon)
    answer = daemon.json("nvme", "create", "vm", expect=3)
    check("program" in answer["message"], answer)
    check(daemon.json("nvme", "list") == [], "a controller is left")
    daemon.stop()
    daemon.write_config(f"[iscsi]\nport = 0\n[nvme]\ndirectory = {daemon.path('a/b')}\n")
    daemon.start()
    daemon.json("nvme", "create", "vm", expect=3)
    daemon.stop()
    daemon.write_config("[iscsi]\nport = 0\n[nvme]\ngroup = no-such-group-here\n")
    daemon.launch()
    check(daemon.process.wait(rig.SECONDS) == 1, "it started with a group that does not exist")
    check("no-such-group-here" in daemon.log(), daemon.log())
    daemon.write_config("[iscsi]\nport = 0\n[nvme]\nenabled = false\n")
    daemon.start()
    check(daemon.json("nvme", "create", "vm", expect=3)["code"] == "unavailable", "disabled")
    daemon.stop()
    group = grp.getgrgid(os.getgroups()[-1] if os.getgroups() else os.getgid())
    daemon.write_config(f"[iscsi]\nport = 0\n[nvme]\ngroup = {group.gr_name}\n")
    daemon.start()
    daemon.cli("nvme", "create", "vm")
    check(os.stat(daemon.path("nvme/vm.sock")).st_gid == group.gr_gid, "group of the socket")
    check(os.stat(daemon.path("nvme")).st_gid == group.gr_gid, "group of the directory")
    daemon.stop()


if __name__ == "__main__":
    sys.exit(rig.main(every_verb_in_both_forms, errors_are_clear, a_machine_is_not_robbed,
                      keepers_outlive_the_daemon, a_machine_does_not_notice,
                      reservations_persist, units_where_systemd_starts_it,
                      a_missing_keeper_is_said))
