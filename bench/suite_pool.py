# SPDX-License-Identifier: Apache-2.0
"""Suite `pool`: choosing two of 10,000 disks for a file's copies, per second of processor time."""
import lib

GOAL = 1e5  # choices per second: 10 us each


def run(bench):
    arguments = [f"--milliseconds={int(bench.seconds * 500)}"]
    ours = [bench.program("bench_pool", *arguments)["per_cpu_second"]
            for _ in range(bench.pair_count)]
    return [lib.make_row("pool placement, 10,000 disks", "choices/s", ours, None, GOAL,
                         absolute=True)]
