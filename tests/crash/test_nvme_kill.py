#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A virtual machine's verified load on an NVMe controller while the engine is killed: at random
instants, at each commit point, again and again before it serves, stopped while memory is taken away
or the device is reset, and away for a long time. It must see a pause, never an error.

    test_nvme_kill.py BUILD [--kills N] [--seed S] [--away SECONDS]
"""
import argparse
import os
import random
import signal
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "e2e"))
import rig  # pylint: disable=wrong-import-position
from nvme_rig import Client, ControllerDaemon  # pylint: disable=wrong-import-position
from rig import check  # pylint: disable=wrong-import-position

DISK_MIB = 32
POINTS = ("fetched", "taken", "compared", "written", "completing", "posting", "posted", "tail",
          "recovered", "reset")  # enum nvme_point
STALL_MS = 1000


class Kills:
    def __init__(self, daemon, options):
        self.options, self.chance = options, random.Random(options.seed)
        self.daemon = ControllerDaemon(daemon)
        self.clients = []
        self.stalls = []

    def client(self, *more):
        client = Client(self.daemon.socket, "--mib", str(DISK_MIB), "--seed",
                        str(self.options.seed), "--wait-ms", "120000", *more)
        self.clients.append(client)
        return client.ready()

    def progress(self, client):
        return self.daemon.progress(client)

    def restart(self, client, environment=None):
        self.daemon.kill()
        self.daemon.launch(environment)
        return self.progress(client)

    def random_instants(self, client):
        for _ in range(self.options.kills):
            time.sleep(self.chance.uniform(0, 0.1))
            self.stalls.append(self.restart(client))

    def commit_points(self, client):
        for number, _ in enumerate(POINTS[:-1]):
            for count in (1, 7) if POINTS[number] != "recovered" else (1,):
                self.daemon.kill()
                self.daemon.launch({"SARSEN_NVME_DIE": f"{number}:{count}"})
                self.daemon.wait_dead(f"at {POINTS[number]}:{count}", client)
                self.daemon.launch()
                self.progress(client)

    def while_it_resets(self, client):
        """The queues are forgotten, and nobody has been told so."""
        for word in ("reset", "device-reset"):
            self.daemon.kill()
            self.daemon.launch({"SARSEN_NVME_DIE": f"{POINTS.index('reset')}:1"})
            self.progress(client)
            client.begin(word)
            self.daemon.wait_dead(f"at reset by {word}", client)
            self.daemon.launch()
            client.line_json(rig.SECONDS)
            self.progress(client)

    def while_it_starts(self, client):
        for _ in range(max(3, self.options.kills // 20)):
            for _ in range(2):
                self.daemon.kill()
                self.daemon.launch()
                time.sleep(self.chance.uniform(0, 0.15))
            self.restart(client)

    def stopped(self, client):
        """A stopped engine answers nothing: past 2 s it is killed, and what the client asked for
        is answered within QEMU's 5 s."""
        for word in ("remap", "reset", "device-reset"):
            for _ in range(2):  # a live engine first
                client.tell(word)
            self.daemon.process.send_signal(signal.SIGSTOP)
            client.begin(word)
            time.sleep(0.3 if word == "reset" else 2.5)
            self.daemon.kill()
            self.daemon.launch()
            totals = client.line_json(rig.SECONDS)
            check(totals["longest_message_ms"] < 4500, f"{word} took too long: {totals}")
            self.progress(client)

    def dead_meanwhile(self, client):
        """Asked for while there is no engine."""
        for word in ("remap", "device-reset"):
            self.daemon.kill()
            client.begin(word)
            time.sleep(0.2)
            self.daemon.launch()
            client.line_json(rig.SECONDS)
            self.progress(client)

    def away(self, client):
        self.daemon.kill()
        end = time.monotonic() + self.options.away
        while time.monotonic() < end:
            client.check_alive()
            time.sleep(0.2)
        self.daemon.launch()
        self.progress(client)

    def finish(self, client):
        """All is read back, also by a daemon that was stopped cleanly meanwhile."""
        self.daemon.wait_ready()
        self.daemon.stop()
        self.daemon.launch()
        self.progress(client)
        totals = client.stop(300)
        self.daemon.wait_ready()
        check(self.daemon.keeper_alive(), "the keeper ended")
        return totals

    def run(self):
        client = self.client()
        for step in (self.random_instants, self.commit_points, self.while_it_resets,
                     self.while_it_starts, self.stopped,
                     self.dead_meanwhile, self.away):
            began = time.monotonic()
            step(client)
            print(f"  {step.__name__}: {time.monotonic() - began:.1f} s", flush=True)
        totals = self.finish(client)
        stalls = sorted(self.stalls)
        print(f"  {self.options.kills} kills at random instants, longest stall "
              f"{stalls[-1]:.0f} ms, median {stalls[len(stalls) // 2]:.0f} ms; {totals}")
        check(stalls[len(stalls) // 2] < STALL_MS, f"stalls in ms: {stalls}")

    def done(self):
        for client in self.clients:
            client.done()
        self.daemon.done()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--away", type=float, default=8)
    options = parser.parse_args()
    rig.BUILD = os.path.abspath(options.build)
    print(f"seed {options.seed}", flush=True)

    def an_engine_that_dies_is_a_pause(daemon):
        kills = Kills(daemon, options)
        try:
            kills.run()
        finally:
            kills.done()

    return rig.main(an_engine_that_dies_is_a_pause)


if __name__ == "__main__":
    sys.exit(main())
