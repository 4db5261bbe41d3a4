# SPDX-License-Identifier: Apache-2.0
"""Suite `pool`: two copies of everything against two raw files written at once; repair and scrub
against raw sequential I/O; a guest beside a repair against the same guest alone; choosing disks.
The two disks of the pool are directories on one device here, so that a read is compared with one
reader, and a repair, which reads, writes, syncs and reads back, with fio doing these on two files.
Reads of two devices: two_devices.py.
"""
import concurrent.futures
import os
import shutil

import lib
import two_devices

CHOICES_GOAL = 1e5  # per second of processor time: 10 us each
WORK_GOAL = 1.5  # 0.6 here; 3.5 when each request allocated and copied
SIZE_MIB, QUICK_MIB = 4096, 512
TURN_RUNS = 3
PHASES = ("open", "steady", "health", "scrub", "drain", "reap", "close")  # of bench_groups


def placement(bench):
    arguments = [f"--milliseconds={int(bench.seconds * 500)}"]
    ours = [bench.program("bench_pool", *arguments)["per_cpu_second"]
            for _ in range(bench.pair_count)]
    return lib.make_row("pool placement, 10,000 disks", "choices/s", ours, None, CHOICES_GOAL,
                        absolute=True)


def many_groups(bench):
    """Opening catalog, pool and one vDisk with that many extent groups; then how much processor
    time the longest turn of its reactor took, in what a daemon does with them."""
    groups = 10000 if bench.quick else 100000
    command = ("bench_groups", "open", bench.path("groups"), f"--groups={groups}")
    bench.program(*command, timeout=300)  # makes them
    results = [bench.program(*command, timeout=60) for _ in range(bench.pair_count)]
    memory = max(result["bytes_a_group"] for result in results)
    cpu = min(result["cpu_seconds"] for result in results)
    if min(result["groups"] for result in results) < groups * 0.9:
        raise lib.BenchError(f"groups are gone: {results}")
    return [
        lib.make_row(f"pool start, {groups:,} groups", "s",
                     [result["seconds"] for result in results], goal=1, absolute=True,
                     lower_is_better=True,
                     note=f"{cpu:.2f} s of processor time, "
                          f"{memory:.0f} bytes of memory a group"),
        longest_turn(bench, groups)]


def longest_turn(bench, groups):
    """Of each phase the run in which its longest turn took least: what other processes do to the
    caches, and a hypervisor to the processor, is in the others. Each run uses its groups up."""
    runs = []
    for number in range(TURN_RUNS):
        path = bench.path("groups" if number == 0 else f"groups{number}")
        runs.append(bench.program("bench_groups", "turns", path, f"--groups={groups}",
                                  timeout=300))
        shutil.rmtree(path)
    phases = {phase: min(result[phase + "_seconds"] for result in runs) * 1e3 for phase in PHASES}
    blocked = min(result["blocked_turns"] for result in runs)
    wall = max(result["longest_wall_seconds"] for result in runs) * 1e3
    return lib.make_row(
        f"pool longest turn, {groups:,} groups", "ms", [max(phases.values())], goal=1,
        absolute=True, lower_is_better=True, note="milliseconds of processor time: " +
        ", ".join(f"{phase} {longest:.2f}" for phase, longest in phases.items()) +
        f"; {blocked} turns slept; up to {wall:.1f} ms on the clock, with what other processes did")


class Pool:
    def __init__(self, bench):
        self.bench = bench
        self.mib = QUICK_MIB if bench.quick else SIZE_MIB
        self.raw = [bench.path("raw"), bench.path("raw2")]
        for path in self.raw:
            bench.fio_fill(path, self.mib << 20)

    def ours(self, what, directory, depth=8, factor=1):
        return self.bench.program(
            "bench_engine", what, f"--directory={self.bench.path(directory)}", f"--mib={self.mib}",
            f"--pool-mib={self.mib * 3}", "--disks=2", f"--factor={factor}", f"--depth={depth}",
            f"--milliseconds={int(self.bench.seconds * 1000)}", timeout=1200)

    def two_writers(self, block, depth):
        """The slower of two that write at once."""
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            return min(threads.map(lambda path: self.writer(path, block, depth), self.raw))

    def writer(self, path, block, depth):
        result = self.bench.fio(path, "randwrite" if block == 4096 else "write", block, depth,
                                self.mib << 20)
        return result["write"]["iops"]

    def reader(self, block, depth):
        result = self.bench.fio(self.raw[0], "randread" if block == 4096 else "read", block, depth,
                                self.mib << 20)
        return result["read"]["iops"]

    def sequential(self, rw):
        result = self.bench.fio(self.raw[0], rw, 1 << 20, 1, self.mib << 20)
        return result[rw]["iops"] * (1 << 20)

    def copier(self):
        """Bytes per second of reading one file while another is made of as many, then reading
        that: from the start of one fio to its end, without starting it."""
        whole = self.mib << 20
        copy = self.bench.path("raw-copy")
        if os.path.exists(copy):
            os.unlink(copy)
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            reading = threads.submit(self.whole_file, self.raw[0], "read", whole)
            writing = threads.submit(self.whole_file, copy, "write", whole, end_fsync=1)
            seconds = max(reading.result(), writing.result())
        return whole / (seconds + self.whole_file(copy, "read", whole))

    def whole_file(self, path, rw, whole, **options):
        result = self.bench.fio(path, rw, 1 << 20, 8, whole, runtime=None, **options)
        return whole / result[rw]["bytes_per_second"]

    def beside_repair(self, what, depth):
        """The 99th percentile of a guest's requests, beside a repair and alone: many pairs in one
        process, in turn."""
        results = [self.ours(what, "one", depth) for _ in range(self.bench.pair_count)]
        copied = sum(result["copied_bytes"] for result in results)
        seconds = sum(result["copied_seconds"] for result in results)
        return lib.make_row(
            f"pool p99 beside repair, {what.split('-')[0]} QD{depth}", "ns",
            [result["p99_beside_ns"] for result in results],
            [result["p99_alone_ns"] for result in results], 0.5, lower_is_better=True,
            note=f"{copied / seconds / 1e6:.0f} MB/s were copied")

    def row(self, name, unit, ours, reference, goal):
        return lib.make_row(f"pool {name}", unit,
                            *lib.run_pairs(ours, reference, self.bench.pair_count), goal)


def bytes_per_second(result):
    return result["bytes"] / result["seconds"]


def repair_work(pool):
    """Processor time, which tells of a repair that copies or allocates even where the device holds
    it up, or others have the processors."""
    results = [pool.ours("repair", "one") for _ in range(pool.bench.pair_count)]
    return lib.make_row("pool repair, processor time", "s/GiB",
                        [result["cpu_seconds"] * 2**30 / result["bytes"] for result in results],
                        goal=WORK_GOAL, absolute=True, lower_is_better=True)


def run(bench):
    pool = Pool(bench)
    pool.ours("fill-sequential", "two", factor=2)
    pool.ours("fill-sequential", "one")
    rows = [
        pool.row("two copies, 128 KiB sequential write QD8", "requests/s",
                 lambda: pool.ours("seqwrite", "two")["per_second"],
                 lambda: pool.two_writers(131072, 8), 0.8),
        pool.row("two copies, 4 KiB random write QD32", "requests/s",
                 lambda: pool.ours("randwrite", "two", 32)["per_second"],
                 lambda: pool.two_writers(4096, 32), 0.8),
        pool.row("two copies, 4 KiB random read QD32", "requests/s",
                 lambda: pool.ours("randread", "two", 32)["per_second"],
                 lambda: pool.reader(4096, 32), 0.95),
        pool.row("repair, against reading, writing, reading back", "bytes/s",
                 lambda: bytes_per_second(pool.ours("repair", "one")), pool.copier, 0.8),
        pool.row("repair, against writing alone", "bytes/s",
                 lambda: bytes_per_second(pool.ours("repair", "one")),
                 lambda: pool.sequential("write"), None),
        repair_work(pool),
        pool.row("scrub", "bytes/s", lambda: bytes_per_second(pool.ours("scrub", "one")),
                 lambda: pool.sequential("read"), 0.8),
    ]
    rows += [pool.beside_repair(what, depth)
             for what in ("randread-repair", "randwrite-repair") for depth in (1, 8)]
    return rows + two_devices.rows(bench) + many_groups(bench) + [placement(bench)]
