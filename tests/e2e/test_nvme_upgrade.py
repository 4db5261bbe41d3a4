#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Upgrades under a verified load: daemon and keeper are restarted and replaced by another build and
back again. The machine sees pauses and no error.

    test_nvme_upgrade.py [--other BUILD] [--restarts N]

The other build has other options; without --other it is `build` beside this one's directory.
"""
import argparse
import os
import shutil
import sys
import time

import rig
from nvme_rig import Client, ControllerDaemon
from rig import check

PROGRAMS = ("sarsend", "sarsen", "sarsen-keeper")
SKIPPED = 77


class Installation:
    """Where the programs are executed from, as on a host: an upgrade puts others in their place."""

    def __init__(self, directory, *builds):
        self.directory, self.builds = os.path.join(directory, "installed"), builds
        os.mkdir(self.directory)
        os.symlink(os.path.join(builds[0], "tests"), os.path.join(self.directory, "tests"))
        self.install(0)
        rig.BUILD = self.directory

    def path(self, name):
        return os.path.join(self.directory, name)

    def install(self, number):
        for name in PROGRAMS:
            shutil.copy(os.path.join(self.builds[number % len(self.builds)], name),
                        self.path(name + ".new"))
            os.rename(self.path(name + ".new"), self.path(name))

    def check_runs(self, name, pid):
        check(os.path.samefile(f"/proc/{pid}/exe", self.path(name)),
              f"{name} is not of the build that was installed")


def replace_keeper(controllers, installation):
    """The engine is still the old one."""
    controllers.daemon.cli("nvme", "keeper-replace", "vm")
    installation.check_runs("sarsen-keeper", controllers.keepers[0])


def upgrade(controllers, installation, client, number):
    """In turn: in order; killed; keeper first, then in order; keeper afterwards."""
    installation.install(number)
    longest = 0.0
    if number % 4 == 3:
        replace_keeper(controllers, installation)
        longest = controllers.progress(client)
    if number % 4 == 2:
        controllers.kill()
    else:
        controllers.stop()
    controllers.launch()
    longest = max(longest, controllers.progress(client))
    installation.check_runs("sarsend", controllers.process.pid)
    if number % 4 == 0:
        controllers.wait_ready()
        replace_keeper(controllers, installation)
        longest = max(longest, controllers.progress(client))
    return longest


def upgrades_are_pauses(daemon, other, restarts):
    installation = Installation(daemon.directory, rig.BUILD, other)
    controllers = ControllerDaemon(daemon)
    client = Client(controllers.socket, "--mib", "32", "--wait-ms", "60000")
    try:
        client.ready()
        stalls = []
        for number in range(1, restarts + 1):
            stalls.append(upgrade(controllers, installation, client, number))
            controllers.wait_ready()
            time.sleep(0.2)
        totals = client.stop(300)
        check(controllers.keeper_alive(), "the keeper ended")
        stalls.sort()
        print(f"  {restarts} restarts with another build, longest stall {stalls[-1]:.0f} ms, "
              f"median {stalls[len(stalls) // 2]:.0f} ms; {totals}")
    finally:
        client.done()
        controllers.done()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--other", default=os.path.join(os.path.dirname(rig.BUILD), "build"))
    parser.add_argument("--restarts", type=int, default=4)
    options = parser.parse_args()
    other = os.path.abspath(options.other)
    if other == rig.BUILD or not all(os.path.exists(os.path.join(other, name))
                                     for name in PROGRAMS):
        print(f"skipped: no other build in {other}")
        return SKIPPED

    def the_machine_sees_pauses(daemon):
        upgrades_are_pauses(daemon, other, options.restarts)

    return rig.main(the_machine_sees_pauses)


if __name__ == "__main__":
    sys.exit(main())
