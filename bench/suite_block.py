# SPDX-License-Identifier: Apache-2.0
"""Suite `block`: the block layer and a memory volume on one core, 4 KiB, half reads, 32 in flight.

The rate is per second of processor time of the reactor's thread, because the machine may be
shared. The reference is the bare memcpy of random blocks in as much memory: what no memory volume
can beat. 16 MiB stay in the cache, so that the layer's own cost shows; 256 MiB do not.
"""
import lib

GOAL = 2e6  # requests per second and core


def measure(bench, what, mib):
    arguments = [what, f"--mib={mib}", f"--milliseconds={int(bench.seconds * 500)}"]
    return lambda: bench.program("bench_block", *arguments)["per_cpu_second"]


def run(bench):
    rows = []
    for name, mib, goal in (("memory, warm", 16, GOAL), ("memory, cold", 256, None)):
        ours, reference = lib.run_pairs(measure(bench, "memory", mib),
                                        measure(bench, "memcpy", mib), bench.pair_count)
        rows.append(lib.make_row(f"block {name}", "requests/s", ours, reference, goal,
                                 absolute=goal is not None))
    null = [measure(bench, "null", 16)() for _ in range(bench.pair_count)]
    rows.append(lib.make_row("block null", "requests/s", null))
    return rows
