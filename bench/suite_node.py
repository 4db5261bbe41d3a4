# SPDX-License-Identifier: Apache-2.0
"""Suite `node`: the daemon as an operator meets it.

Clean start with many vDisks, restart after SIGKILL with a long log, processor time while idle, and
commits of the catalog with mirrors.
All are absolute; for the log the time that opening the vDisk takes is measured in process.
"""
import os
import re
import signal
import subprocess
import time

import lib

VDISKS, IDLE_VDISKS = 1000, 50


class Daemon:
    """sarsend on a state of its own below the bench's directory."""

    def __init__(self, bench, name):
        self.bench, self.directory = bench, bench.path(name)
        os.makedirs(self.directory, exist_ok=True)
        self.socket = os.path.join(self.directory, "sock")
        self.log = os.path.join(self.directory, "log")
        self.config = os.path.join(self.directory, "conf")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write("[iscsi]\nport = 0\n")

    def start(self):
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [os.path.join(self.bench.build, "sarsend"), "--state",
                 os.path.join(self.directory, "state"), "--socket", self.socket,
                 "--config", self.config], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with open(self.log, encoding="utf-8") as log:
                found = re.search(r"started vdisks=(\d+) failed=\d+ milliseconds=(\d+)", log.read())
            if found and self.cli("node", "show", check=False) == 0:
                return int(found.group(1)), int(found.group(2)) / 1000
            time.sleep(0.05)
        raise lib.BenchError(f"sarsend does not start: see {self.log}")

    def cli(self, *words, check=True):
        done = subprocess.run([os.path.join(self.bench.build, "sarsen"), "--socket", self.socket,
                               *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False)
        if check and done.returncode != 0:
            raise lib.BenchError(f"sarsen {' '.join(words)}: {done.stdout}")
        return done.returncode

    def prepare(self, count):
        self.start()
        self.cli("pool", "create", "p", os.path.join(self.directory, "pool"),
                 "--capacity", "4G")
        self.cli("container", "create", "c")
        for number in range(count):
            self.cli("vdisk", "create", f"c/d{number}", "1G")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def clean_start(bench):
    daemon = Daemon(bench, "start")
    daemon.prepare(50 if bench.quick else VDISKS)
    daemon.stop()
    seconds = []
    for _ in range(bench.pair_count):
        count, took = daemon.start()
        seconds.append(took)
        daemon.stop()
    return lib.make_row(f"node clean start, {count} vDisks", "s", seconds, goal=0.5, absolute=True,
                        lower_is_better=True)


def idle(bench):
    daemon = Daemon(bench, "idle")
    daemon.prepare(IDLE_VDISKS)
    time.sleep(10)
    before, seconds = daemon.cpu_seconds(), 10 if bench.quick else 60
    time.sleep(seconds)
    used = (daemon.cpu_seconds() - before) / seconds
    daemon.stop()
    return lib.make_row(f"node idle with {IDLE_VDISKS} vDisks", "cores", [used], goal=0.01,
                        absolute=True, lower_is_better=True)


def restart(bench):
    """Kills the engine under load; the log that is then replayed is as long as it may be."""
    directory = bench.path("killed")
    mib = 512 if bench.quick else 8192
    command = [os.path.join(bench.build, "bench", "bench_engine"), "seqwrite", f"--mib={mib}",
               f"--directory={directory}", "--depth=32", "--milliseconds=600000"]
    seconds = []
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(8)
        process.kill()
        process.wait()
        time.sleep(1)
        opened = bench.program("bench_engine", "open", f"--directory={directory}", f"--mib={mib}")
        seconds.append(opened["open_seconds"])
    return lib.make_row("node open after SIGKILL under load", "s", seconds, goal=2, absolute=True,
                        lower_is_better=True)


def commit(bench, mirrors):
    """Of two small rows; the state and all mirrors on one disk."""
    commits = 100 if bench.quick else 500
    seconds = []
    for number in range(bench.pair_count):
        result = bench.program("bench_catalog", bench.path(f"catalog-{mirrors}-{number}"),
                               f"--mirrors={mirrors}", f"--commits={commits}")
        seconds.append(result["seconds"] / commits * 1000)
    return lib.make_row(f"node commit with {mirrors} mirrors of the catalog", "ms", seconds,
                        absolute=True, lower_is_better=True)


def run(bench):
    return [clean_start(bench), restart(bench), idle(bench),
            *(commit(bench, mirrors) for mirrors in (0, 1, 3))]
