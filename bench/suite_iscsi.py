# SPDX-License-Identifier: Apache-2.0
"""Suite `iscsi`: the target on a memory volume, one session, against tgt on a file in memory.

The client (libiscsi) is the same. The rate is per second of the target's processor time, because
the
machine may be shared and the client takes more of it than the target.
"""
import os
import shutil
import subprocess
import tempfile
import time

import lib

SIZE = 256 << 20
LUNS = 4
TGT_TARGET = "iqn.2026-01.org.sarsen:tgt"

CASES = [  # name, operation, order, bytes, depth, goal of the ratio, goal for ours per core
    ("4k random read QD32", "read", "random", 4096, 32, 4, 130e3),
    ("4k random write QD32", "write", "random", 4096, 32, 4, 90e3),
    ("4k random read QD1", "read", "random", 4096, 1, None, None),
    ("4k random write QD1", "write", "random", 4096, 1, None, None),
    ("128k sequential read QD8", "read", "sequential", 131072, 8, 3, None),
    ("128k sequential write QD8", "write", "sequential", 131072, 8, 3, None),
]


class Ours:
    def __init__(self, bench, *arguments):
        program = os.path.join(bench.build, "tests", "e2e", "iscsi_memory")
        self.process = subprocess.Popen([program, "--quiet", "--fill", "--size", str(SIZE),
                                         "--luns", str(LUNS), *arguments],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.urls = [self.process.stdout.readline().strip() for _ in range(LUNS)]
        self.url = self.urls[0]
        if not all(self.urls):
            raise lib.BenchError("iscsi_memory does not start")
        self.pid = self.process.pid

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Tgt:
    """tgtd on a file in /dev/shm, on control port and TCP port of its own."""

    def __init__(self, _bench):
        self.file = tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="sarsen-bench-")
        self.file.write(bytes(SIZE))
        self.file.flush()
        self.control = str(os.getpid() % 20000 + 100)
        port = 20000 + os.getpid() % 20000
        os.makedirs("/var/run/tgtd", exist_ok=True)
        self.process = subprocess.Popen(
            ["tgtd", "-f", "-C", self.control, "--iscsi", f"portal=127.0.0.1:{port}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = self.process.pid
        for _ in range(100):
            time.sleep(0.05)
            if self.admin("--op", "show", "--mode", "system", check=False):
                break
        self.admin("--op", "new", "--mode", "target", "--tid", "1", "-T", TGT_TARGET)
        self.admin("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b",
                   self.file.name)
        self.admin("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL")
        self.url = f"iscsi://127.0.0.1:{port}/{TGT_TARGET}/1"

    def admin(self, *words, check=True):
        done = subprocess.run(["tgtadm", "-C", self.control, "--lld", "iscsi", *words],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        if check and done.returncode != 0:
            raise lib.BenchError(f"tgtadm: {done.stdout.strip()}")
        return done.returncode == 0

    def stop(self):
        self.process.kill()  # it ignores SIGTERM while it has targets
        self.process.wait()
        self.file.close()


def measure(bench, server, case):
    _, operation, order, length, depth, _, _ = case
    arguments = [server.url, operation, order, str(length), str(depth),
                 str(int(max(bench.seconds, 1) * 1000)), str(server.pid)]

    def once():
        result = bench.program("bench_iscsi", *arguments)
        once.wall.append(result["per_second"])
        return result["per_cpu_second"]

    once.wall = []
    return once


def measure_case(bench, case, ours, tgt):
    name, goal, per_core = case[0], case[5], case[6]
    mine = measure(bench, ours, case)
    if not tgt:
        values = [mine() for _ in range(bench.pair_count)]
        rows = [lib.make_row(f"iscsi {name}", "operations/s", values, goal=per_core,
                             absolute=per_core is not None)]
    else:
        values, reference = lib.run_pairs(mine, measure(bench, tgt, case), bench.pair_count)
        rows = [lib.make_row(f"iscsi {name}", "operations/s", values, reference, goal)]
        if per_core:
            rows.append(lib.make_row(f"iscsi {name} per core", "operations/s", values,
                                     goal=per_core, absolute=True))
    rows[0].note = f"{lib.human(max(mine.wall))} operations a second were the most by the clock"
    return rows


def measure_sharing(bench, ours, how, rate, strict=True):
    """Four sessions on four LUNs: what all get against one alone, and the least share of any."""
    shares = []

    def read(urls):
        result = bench.program("bench_iscsi", ",".join(urls), "read", "random", "4096", "32",
                               str(int(max(bench.seconds, 1) * 1000)), str(ours.pid))
        if len(urls) > 1:
            shares.append(result["least"] * len(urls) / result["operations"])
        return result[rate]

    values, reference = lib.run_pairs(lambda: read(ours.urls), lambda: read(ours.urls[:1]),
                                      bench.pair_count)
    return [lib.make_row(f"iscsi {LUNS} sessions, {how}", "operations/s", values, reference,
                         1 if strict else None),
            lib.make_row(f"iscsi least share of the fair one, {how}", "ratio", shares,
                         goal=0.8 if strict else None,
                         absolute=True)]


def measure_reactors(bench):
    """A target for each LUN, on two reactors. By the clock, because they are for more cores; with
    less than one for each and two for the client it only shows how they are scheduled."""
    ours = Ours(bench, "--targets", "--reactors", "2")
    try:
        return measure_sharing(bench, ours, "2 reactors", "per_second",
                               (os.cpu_count() or 1) >= 4)
    finally:
        ours.stop()


def run(bench):
    servers = []
    rows = []
    try:
        servers.append(Ours(bench))
        if shutil.which("tgtd") and os.geteuid() == 0:
            servers.append(Tgt(bench))
        for case in CASES:
            rows += measure_case(bench, case, servers[0],
                                 servers[1] if len(servers) > 1 else None)
        rows += measure_sharing(bench, servers[0], "1 reactor", "per_cpu_second")
        rows += measure_reactors(bench)
    finally:
        for server in servers:
            server.stop()
    return rows
