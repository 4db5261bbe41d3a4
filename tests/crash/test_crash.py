#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SIGKILLs the daemon at random instants under a load that knows what must be there: in the middle
of requests, of recovery, of reading back, and of deletions that were answered.

    test_crash.py BUILD [--kills N] [--seed S]

The instants come from the seed; what the daemon does at an instant does not, so a failure says the
seed and the round but need not come again.
"""
import argparse
import os
import random
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "e2e"))
import rig  # pylint: disable=wrong-import-position
from loads import Load  # pylint: disable=wrong-import-position
from rig import check  # pylint: disable=wrong-import-position

MIB = 1 << 20
# The pool is the smallest and the disks fill more than half of it: reclaim and compaction run.
POOL, BALLAST_MIB, DISK_MIB, DELETED_MIB = "512M", 160, 64, 48
DELETE_EVERY = 5
DISK, BALLAST, DELETED = "default/disk", "default/ballast", "default/deleted"


class Crash:
    def __init__(self, daemon, seed):
        self.daemon = daemon
        self.chance = random.Random(seed)
        self.disk, self.ballast = Load(DISK_MIB, seed), Load(BALLAST_MIB, seed + 1)
        self.kills = {"load": 0, "start": 0, "check": 0, "delete": 0}

    def url(self, name):
        return self.daemon.json("vdisk", "show", name)["url"]

    def make_disk(self, name, mib):
        self.daemon.cli("vdisk", "create", name, f"{mib}M")
        self.daemon.cli("iscsi", "export", name)
        return self.url(name)

    def kill(self, kind, least, most):
        time.sleep(self.chance.uniform(least, most))
        self.daemon.kill()
        self.kills[kind] += 1

    def start(self):
        """With another number of reactors each time; sometimes killed before it serves."""
        self.daemon.reactors = self.chance.choice((1, 2, 3))
        if self.chance.random() < 0.2:
            self.daemon.launch()
            self.kill("start", 0, 0.15)
        self.daemon.start()

    def under_load(self):
        self.disk.begin("load", self.url(DISK))
        self.kill("load", 0.02, self.chance.choice((0.1, 0.5, 1.5)))
        self.disk.end("lost")

    def check_all(self):
        """Reads the whole disk; sometimes killed in the middle, then again."""
        if self.chance.random() < 0.1:
            self.disk.begin("check", self.url(DISK))
            self.kill("check", 0, 0.1)
            self.disk.end(None)
            self.start()
        return self.disk.run("check", self.url(DISK))

    def delete(self):
        """An answered deletion ends, although the daemon is killed and others are busy."""
        gone = Load(DELETED_MIB, 0)
        gone.run("fill", self.make_disk(DELETED, DELETED_MIB))
        gone.close()
        self.daemon.cli("iscsi", "unexport", DELETED)
        self.disk.begin("load", self.url(DISK))
        job = self.daemon.cli("vdisk", "delete", DELETED, "--yes", "--no-wait").stdout.strip()
        self.kill("delete", 0, 0.05)
        self.disk.end("lost")
        self.start()
        self.daemon.cli("job", "wait", job)
        state = self.daemon.json("job", "show", job)["state"]
        check(state == "done", f"the deletion is {state}")
        self.daemon.cli("vdisk", "show", DELETED, expect=4)

    def finish(self):
        """A clean restart, the disk that nobody wrote to, the map's own check, and the space."""
        self.daemon.stop()
        self.daemon.start()
        numbers = self.disk.run("check", self.url(DISK))
        for key, count in numbers.items():
            check(count == 0 or not key.startswith("refused_"), f"requests failed: {numbers}")
        self.ballast.run("check", self.url(BALLAST))
        for name in (DISK, BALLAST):
            self.daemon.cli("iscsi", "unexport", name)
            report = self.daemon.json("vdisk", "check", name, "--data")["result"]
            bad = report["bad_pages"] + report["bad_blocks"] + report["missing_live_blocks"]
            check(bad == 0, f"vdisk check {name}: {report}")
            self.daemon.cli("vdisk", "delete", name, "--yes")
        self.daemon.cli("container", "delete", "default", "--yes")
        space = self.daemon.json("pool", "show", "local")["space"]
        check(space["used_bytes"] == 0, f"space is missing: {space}")
        self.daemon.stop()
        return numbers

    def close(self):
        self.disk.close()
        self.ballast.close()

    def run(self, kills):
        self.daemon.start()
        self.daemon.make_pool(POOL)
        self.ballast.run("fill", self.make_disk(BALLAST, BALLAST_MIB))
        self.disk.run("check", self.make_disk(DISK, DISK_MIB))
        rounds = 0
        while sum(self.kills.values()) < kills:
            rounds += 1
            try:
                if rounds % DELETE_EVERY == 0:
                    self.delete()
                else:
                    self.under_load()
                    self.start()
                self.check_all()
            except rig.Failure as error:
                raise rig.Failure(f"round {rounds}: {error}") from error
        return self.finish()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("build")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rig.BUILD = os.path.abspath(arguments.build)

    def kills(daemon):
        crash = Crash(daemon, arguments.seed)
        begin = time.monotonic()
        try:
            numbers = crash.run(arguments.kills)
        finally:
            crash.close()
        print(f"{sum(crash.kills.values())} kills in {time.monotonic() - begin:.0f} s: "
              f"{crash.kills}, {numbers}", flush=True)

    print(f"seed {arguments.seed}", flush=True)
    return rig.main(kills)


if __name__ == "__main__":
    sys.exit(main())
