# SPDX-License-Identifier: Apache-2.0
"""Suite `world`: random 4 KiB direct I/O on one file of 1 GiB through the real world alone.

The reference is fio with io_uring on the same file at the same depth. It shows what the world adds
to, or saves of, the bare interface; the layers above start from here. Both run on one CPU, the
same: the CPU that takes the device's interrupts was seen to be 1.6 times as fast at depth 1.
"""
import os

import lib

MIB = 1024
CPU = max(os.sched_getaffinity(0))


def ours(bench, what, path, depth):
    arguments = [what, path, f"--mib={MIB}", f"--depth={depth}", f"--cpu={CPU}",
                 f"--milliseconds={int(max(bench.seconds, 1) * 1000)}"]
    return lambda: bench.program("bench_world_io", *arguments)


def reference(bench, what, path, depth):
    return lambda: bench.fio(path, "rand" + what, 4096, depth, MIB << 20, cpus_allowed=CPU)


def run(bench):
    path = bench.path("world-io")
    bench.fio_fill(path, MIB << 20)
    rows = []
    for what in ("read", "write"):
        for depth in (1, 32):
            mine, theirs = lib.run_pairs(ours(bench, what, path, depth),
                                         reference(bench, what, path, depth),
                                         bench.pair_count)
            rate = [result["per_second"] for result in mine]
            iops = [result[what]["iops"] for result in theirs]
            rows.append(lib.make_row(f"world random {what} QD{depth}", "IOPS", rate, iops, 1.0))
            cpu_us = [1e6 / result["per_cpu_second"] for result in mine]
            fio_us = [result["cpu_percent"] * 1e4 / result[what]["iops"] for result in theirs]
            rows.append(lib.make_row(f"world random {what} QD{depth} CPU", "us/request", cpu_us,
                                     fio_us, lower_is_better=True))
    return rows
