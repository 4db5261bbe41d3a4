#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sarsen-fsck over what a real daemon has stored: stopped, killed, damaged, in use."""
import fcntl
import json
import os
import subprocess
import sys
import time

import rig
from rig import check, run

BLOCK, PATTERN = 4096, 0x5a
LOAD = ["qemu-img", "bench", "-f", "raw", "-w", f"--pattern={PATTERN}", "-s", "16k", "-S", "48k"]
FSCK = os.path.join(rig.BUILD, "sarsen-fsck")


def fsck(daemon, *words, expect=0):
    done = run([FSCK, "--state", daemon.path("state"), *words], expect=expect)
    return done.stdout, done.stderr


def report(daemon, *words, expect=0):
    return json.loads(fsck(daemon, "-o", "json", *words, expect=expect)[0])


def tree(directory):
    """All files with size and time of change."""
    return sorted((os.path.join(top, name), os.stat(os.path.join(top, name)).st_size,
                   os.stat(os.path.join(top, name)).st_mtime_ns)
                  for top, _, names in os.walk(directory) for name in names)


def usage(daemon):
    fsck(daemon, "--no-such", expect=16)
    fsck(daemon, "-o", "xml", expect=16)
    fsck(daemon, "something", expect=16)
    check("Exit status" in fsck(daemon, "--help")[0], "help")
    check("sarsen-fsck" in fsck(daemon, "--version")[0], "version")
    fsck(daemon, "-n", expect=8)  # there is no state


def stopped_and_killed(daemon):
    daemon.start()
    daemon.make_pool("1G")
    daemon.cli("vdisk", "create", "default/a", "256M")
    for words in (["-n"], []):
        text = fsck(daemon, *words, expect=8)[1]
        check("stop it first" in text, f"refused while it runs: {text}")
    uri = daemon.cli("iscsi", "export", "default/a").stdout.strip()
    run([*LOAD, "-c", "4000", uri])
    daemon.stop()
    before = tree(daemon.directory)
    found = report(daemon, "-n")
    check(found["errors"] == 0 and found["left"] == 0, f"clean: {found}")
    check(found["vdisks"] == 1 and found["bytes"] > 60 << 20, f"looked at: {found}")
    check(tree(daemon.directory) == before, "-n writes nothing")
    for _ in range(3):
        daemon.start()
        uri = daemon.json("iscsi", "list")[0]["url"]
        load = subprocess.Popen([*LOAD, "-c", "400000", uri], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
        try:
            load.wait(timeout=1.5)
        except subprocess.TimeoutExpired:
            pass
        daemon.kill()
        load.kill()  # it would go on trying
        load.wait(timeout=60)
        found = report(daemon)
        check(found["errors"] == 0, f"killed: {found}")
    daemon.start()  # a damaged block is to be found by who looks, not by the next opening
    daemon.stop()
    damaged(daemon)


def flip_a_data_block(name):
    """A bit of the first block that holds what the guest wrote: not in files kept in reserve."""
    with open(name, "r+b") as file:
        for offset in range(0, 64 * BLOCK, BLOCK):
            file.seek(offset)
            if file.read(BLOCK) == bytes([PATTERN]) * BLOCK:
                file.seek(offset + 77)
                file.write(bytes([PATTERN ^ 4]))
                return 1
    return 0


def damaged(daemon):
    flips = sum(flip_a_data_block(name) for name, _, _ in tree(daemon.path("pool"))
                if name.endswith(".eg"))
    check(flips > 0, "a group holds data")
    found = report(daemon, "-n", expect=4)
    check(found["left"] >= 1, f"damaged: {found}")
    check(all(f["code"] and f["object"] and f["cause"] and f["advice"]
              for f in found["findings"]), "each finding says all")
    text = fsck(daemon, "-n", expect=4)[0]
    check("damaged: " in text and "to do: " in text, text)
    scrubbed(daemon)


def scrubbed(daemon):
    """The same damage, found by the daemon."""
    daemon.start()
    daemon.cli("pool", "scrub", "local", "--pause", expect=4)
    daemon.cli("pool", "scrub", "local", "--pause", "--cancel", expect=None)
    daemon.cli("pool", "scrub", "local")
    pool = daemon.json("pool", "show", "local")["scrub"]
    check(pool["state"] == "idle" and pool["ended"], f"ended: {pool}")
    check(pool["read_bytes"] > 30 << 20 and pool["damaged_blocks"] >= 1, f"found: {pool}")
    events = [event["reason"] for event in daemon.json("event", "list")]
    check("scrub-damage" in events, f"told: {events}")
    health = daemon.cli("-o", "json", "health", expect=None).stdout
    check("damaged on every copy" in health, health)
    daemon.stop()


def hold(path, pid):
    """A lock file that is held exclusively, as of the process `pid`."""
    file = open(path, "w+", encoding="utf-8")
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(f"{pid} 5\n")
    file.flush()
    return file


def locks(daemon):
    """-n beside what is left of a dead daemon, and while another one takes over."""
    daemon.start()
    daemon.stop()
    state, gone = daemon.path("state"), 999999999
    dead = hold(os.path.join(state, f"lock.dead-{gone}-5"), gone)
    before = tree(state)
    text = fsck(daemon, "-n")[1]
    check(f"note: what is left of a dead sarsend (process {gone})" in text, f"told: {text}")
    check(tree(state) == before, "-n writes nothing")
    dead.close()
    check("note" not in fsck(daemon, "-n")[1], "it has ended")

    old = hold(os.path.join(state, "lock"), gone)
    looking = subprocess.Popen([FSCK, "--state", state, "-n"], stderr=subprocess.PIPE, text=True)
    time.sleep(1)  # it waits for the old file
    with hold(os.path.join(state, "lock.new"), os.getpid()):
        os.rename(os.path.join(state, "lock.new"), os.path.join(state, "lock"))
        old.close()
        text = looking.communicate(timeout=60)[1]
        check(looking.returncode == 8 and "stop it first" in text, f"took over: {text}")


if __name__ == "__main__":
    rig.require_qemu_iscsi()
    sys.exit(rig.main(usage, stopped_and_killed, locks))
