# SPDX-License-Identifier: Apache-2.0
"""Suite `nvme`: a controller on a memory volume, driven through a keeper's socket.

Client and engine have a processor each. The reference is what no controller can pass: one cold
copy of each block (memcpy of random 4 KiB blocks of 1 GiB), measured in the same run.
"""
import os
import select
import subprocess
import time

import lib

MIB = 1024
IDLE_CONTROLLERS = 50
TICKS = os.sysconf("SC_CLK_TCK")


class Rig:
    """Keepers, and an engine with a memory volume behind each."""

    def __init__(self, bench, count, size_bytes):
        self.processes = []
        bench.make_directory()
        self.sockets = [bench.path(f"vm{i}.sock") for i in range(count)]
        links = [bench.path(f"vm{i}.link") for i in range(count)]
        for i in range(count):
            self.start([os.path.join(bench.build, "sarsen-keeper"), "--name", f"vm{i}", "--link",
                        links[i], "--socket", self.sockets[i]])
        self.wait_for(links)
        engine = self.start([os.path.join(bench.build, "tests", "e2e", "nvme_memory"), "--quiet",
                             "--size", str(size_bytes), "--cpu", "0", *links])
        if not select.select([engine.stdout], [], [], 30)[0] or \
           engine.stdout.readline().strip() != "serving":
            self.stop()
            raise lib.BenchError("nvme_memory does not serve")

    def start(self, command):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True)
        self.processes.append(process)
        return process

    def wait_for(self, paths):
        deadline = time.monotonic() + 30
        while not all(os.path.exists(path) for path in paths):
            if time.monotonic() > deadline:
                self.stop()
                raise lib.BenchError("keepers do not listen")
            time.sleep(0.01)

    def cpu_seconds(self):
        total = 0
        for process in self.processes:
            with open(f"/proc/{process.pid}/stat", encoding="utf-8") as file:
                fields = file.read().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait(30)


def client(bench, what, *arguments):
    return bench.program("bench_nvme", what, *arguments, "--cpu=1", f"--mib={MIB}",
                         f"--milliseconds={int(bench.seconds * 1000)}")


def run_load(bench, socket):
    rows = []
    client(bench, "fill", socket)
    for what in ("read", "write"):
        latency = [client(bench, what, socket, "--depth=1")["p50_us"]
                   for _ in range(bench.pair_count)]
        rows.append(lib.make_row(f"nvme 4 KiB {what} QD1, median latency", "us", latency,
                                 goal=1.3, absolute=True, lower_is_better=True))
        for depth in (32, 128):
            ours, copies = lib.run_pairs(
                lambda w=what, d=depth: rate(client(bench, w, socket, f"--depth={d}")),
                lambda: rate(client(bench, "copy")), bench.pair_count)
            rows.append(lib.make_row(f"nvme 4 KiB random {what} QD{depth}", "commands/s", ours,
                                     copies, 0.45))
    wake = client(bench, "wake", socket)
    rows.append(lib.make_row("nvme first read after idle, median", "us", [wake["p50_us"]],
                             note=f"99th percentile {wake['p99_us']:.0f} us"))
    return rows


def rate(result):
    return result["operations"] / result["seconds"]


def run_idle(bench):
    rig = Rig(bench, IDLE_CONTROLLERS, 1 << 20)
    try:
        time.sleep(1)
        before, began = rig.cpu_seconds(), time.monotonic()
        time.sleep(max(bench.seconds, 5))
        cores = (rig.cpu_seconds() - before) / (time.monotonic() - began)
    finally:
        rig.stop()
    return [lib.make_row(f"nvme {IDLE_CONTROLLERS} idle controllers", "cores", [cores], goal=0.01,
                         absolute=True, lower_is_better=True,
                         note="engine and keepers together; no machine is connected")]


def run(bench):
    rig = Rig(bench, 1, MIB << 20)
    try:
        rows = run_load(bench, rig.sockets[0])
    finally:
        rig.stop()
    return rows + run_idle(bench)
