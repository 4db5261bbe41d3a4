# SPDX-License-Identifier: Apache-2.0
"""Suite `nvme`: controllers driven through a keeper's socket by a client that is no machine.

Client and engine have a processor each. On a memory volume the reference is what no controller can
pass: one cold copy of each block (memcpy of random 4 KiB blocks of 1 GiB), in the same run. For
the first command after idle it is what the machine needs to wake one sleeping process. For a vDisk
it is the same vDisk in the same process, driven without NVMe; the two alternate in short slices,
because the disk's host throttles it.
"""
import json
import os
import select
import statistics
import subprocess
import time

import lib

MIB = 1024
IDLE_CONTROLLERS = 50
ENGINE_CPU = 0  # the client has the other


class Rig:
    """Keepers, and an engine that serves them."""

    def __init__(self, bench, count):
        self.bench = bench
        self.processes = []
        self.engine = None
        bench.make_directory()
        self.sockets = [bench.path(f"vm{i}.sock") for i in range(count)]
        self.links = [bench.path(f"vm{i}.link") for i in range(count)]
        for i in range(count):
            self.start([os.path.join(bench.build, "sarsen-keeper"), "--name", f"vm{i}", "--link",
                        self.links[i], "--socket", self.sockets[i]])
        self.wait_for(self.links)

    def serve_memory(self, size_bytes):
        self.serve([os.path.join(self.bench.build, "tests", "e2e", "nvme_memory"), "--quiet",
                    "--size", str(size_bytes), "--cpu", str(ENGINE_CPU), *self.links], 30)
        return self

    def serve(self, command, seconds):
        self.engine = self.start(command)
        if self.line(self.engine, seconds) != "serving":
            raise lib.BenchError(f"{command[0]} does not serve")

    def start(self, command):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True)
        self.processes.append(process)
        return process

    def line(self, process, seconds):
        if not select.select([process.stdout], [], [], seconds)[0]:
            raise lib.BenchError(f"{process.args[0]} says nothing in {seconds} s")
        return process.stdout.readline().strip()

    def ask(self, word):
        """The engine's answer."""
        self.engine.stdin.write(word + "\n")
        self.engine.stdin.flush()
        return json.loads(self.line(self.engine, 60))

    def wait_for(self, paths):
        deadline = time.monotonic() + 30
        while not all(os.path.exists(path) for path in paths):
            if time.monotonic() > deadline:
                raise lib.BenchError("keepers do not listen")
            time.sleep(0.01)

    def cpu_seconds(self):
        """Of all threads, in the scheduler's nanoseconds."""
        total = 0
        for process in self.processes:
            for thread in os.listdir(f"/proc/{process.pid}/task"):
                with open(f"/proc/{process.pid}/task/{thread}/schedstat",
                          encoding="utf-8") as file:
                    total += int(file.read().split()[0])
        return total / 1e9

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes[::-1]:
            process.kill()
            process.wait(30)


def client(bench, what, *arguments, seconds=None):
    seconds = seconds or bench.seconds
    return bench.program("bench_nvme", what, *arguments, "--cpu=1", f"--mib={MIB}",
                         f"--milliseconds={int(seconds * 1000)}")


def rate(result):
    return result["operations"] / result["seconds"]


def run_load(bench, socket):
    rows, busy = [], 0.0
    client(bench, "fill", socket)
    for what in ("read", "write"):
        latency = [client(bench, what, socket, "--depth=1")["p50_us"]
                   for _ in range(bench.pair_count)]
        busy = busy or statistics.median(latency)
        rows.append(lib.make_row(f"nvme 4 KiB {what} QD1, median latency", "us", latency,
                                 goal=1.3, absolute=True, lower_is_better=True))
        for depth in (32, 128):
            traps = []

            def load(what=what, depth=depth, traps=traps):
                result = client(bench, what, socket, f"--depth={depth}")
                traps.append(result["operations"] / max(result["traps"], 1))
                return rate(result)

            ours, copies = lib.run_pairs(load, lambda: rate(client(bench, "copy")),
                                         bench.pair_count)
            rows.append(lib.make_row(f"nvme 4 KiB random {what} QD{depth}", "commands/s", ours,
                                     copies, 0.45))
            rows.append(lib.make_row(f"nvme the same, commands a trap, {what} QD{depth}",
                                     "commands", traps))
    return rows + run_wake(bench, socket, busy)


def run_wake(bench, socket, busy_us):
    """Both are woken from the same processor, after the same pauses."""
    seconds = max(bench.seconds, 1)
    ours, bare = lib.run_pairs(lambda: client(bench, "wake", socket, seconds=seconds),
                               lambda: client(bench, "sleeper", seconds=seconds),
                               max(bench.pair_count, 5))
    return [lib.make_row(f"nvme first read after idle, more than busy, {name}", "us",
                         [result[key] - busy_us for result in ours],
                         [result[key] for result in bare], goal, absolute=True,
                         lower_is_better=True,
                         note="reference: one event to one sleeping process, and back by memory")
            for name, key, goal in (("median", "p50_us", 100), ("99th perc.", "p99_us", 250))]


def run_vdisk(bench):
    """A vDisk by NVMe, and without."""
    mib = 256 if bench.quick else MIB
    seconds = max(bench.seconds / 4, 0.3)
    state = bench.path("nvme-vdisk")
    bench.program("bench_engine", "fill", f"--directory={state}", f"--mib={mib}", timeout=1200)
    rows = []
    with Rig(bench, 1) as rig:
        rig.serve([os.path.join(bench.build, "bench", "bench_engine"), "serve",
                   f"--directory={state}", f"--link={rig.links[0]}", f"--mib={mib}", "--depth=32",
                   f"--milliseconds={int(seconds * 1000)}"], 120)

        def by_nvme(what):
            before = rig.ask("cpu")["cpu_seconds"]
            result = bench.program("bench_nvme", what, rig.sockets[0], "--cpu=1", "--depth=32",
                                   "--wait=1", f"--milliseconds={int(seconds * 1000)}")
            result["cpu_seconds"] = rig.ask("cpu")["cpu_seconds"] - before
            return result

        for what in ("read", "write"):
            by_nvme(what)
            ours, bare = lib.run_pairs(lambda w=what: by_nvme(w),
                                       lambda w=what: rig.ask("rand" + w),
                                       max(bench.pair_count, 5) * 2)
            rows.append(lib.make_row(f"nvme vDisk 4 KiB random {what} QD32", "requests/s",
                                     [rate(r) for r in ours], [rate(r) for r in bare], 0.95,
                                     note="reference: the same vDisk without NVMe"))
            rows.append(lib.make_row(
                f"nvme the same, engine's processor time, {what}", "us/request",
                [r["cpu_seconds"] / r["operations"] * 1e6 for r in ours],
                [r["cpu_seconds"] / r["operations"] * 1e6 for r in bare], lower_is_better=True))
    return rows


def measure_idle(bench, rig):
    time.sleep(1)
    before, began = rig.cpu_seconds(), time.monotonic()
    time.sleep(max(bench.seconds * 5, 5))
    return (rig.cpu_seconds() - before) / (time.monotonic() - began)


def run_idle(bench):
    with Rig(bench, IDLE_CONTROLLERS).serve_memory(1 << 20) as rig:
        alone = measure_idle(bench, rig)
        machines = rig.start([os.path.join(bench.build, "bench", "bench_nvme"), "idle",
                              *rig.sockets])
        if not rig.line(machines, 60):
            raise lib.BenchError("machines cannot connect")
        rig.processes.remove(machines)
        connected = measure_idle(bench, rig)
        rig.processes.append(machines)
    return [lib.make_row(f"nvme {IDLE_CONTROLLERS} idle controllers, {what}", "cores", [cores],
                         goal=0.01, absolute=True, lower_is_better=True,
                         note=f"engine and keepers together, {100 * cores:.3f} % of a core")
            for what, cores in (("no machines", alone), ("machines connected", connected))]


def run(bench):
    with Rig(bench, 1).serve_memory(MIB << 20) as rig:
        rows = run_load(bench, rig.sockets[0])
    return rows + run_vdisk(bench) + run_idle(bench)
