# SPDX-License-Identifier: Apache-2.0
"""Suite `engine`: a vDisk driven in process against fio on a raw file.

Both use io_uring and O_DIRECT on the same file system, the same size, block size and depth. The
vDisk verifies checksums. It is first filled at random; sequential reads are measured on a vDisk
that was written sequentially, and printed for the other, before and after reclaim has tidied it.
"""
import lib

SIZE_MIB, QUICK_MIB = 8192, 512

# name, what, depth, fio's rw, block bytes, goal
RANDOM = [
    ("4 KiB random read QD1", "randread", 1, "randread", 4096, 1.0),
    ("4 KiB random read QD32", "randread", 32, "randread", 4096, 1.2),
    ("4 KiB random write QD1", "randwrite", 1, "randwrite", 4096, 0.95),
    ("4 KiB random write QD32", "randwrite", 32, "randwrite", 4096, 2.0),
]
SEQUENTIAL = [
    ("128 KiB sequential write QD8", "seqwrite", 8, "write", 131072, 1.0),
    ("128 KiB sequential read QD8", "seqread", 8, "read", 131072, 0.8),
]


class Engine:
    def __init__(self, bench):
        self.bench = bench
        self.mib = QUICK_MIB if bench.quick else SIZE_MIB
        self.raw = bench.path("raw")
        self.last = {}

    def ours(self, what, depth, directory="vdisk", **options):
        arguments = [what, f"--directory={self.bench.path(directory)}", f"--depth={depth}",
                     f"--mib={self.mib}", f"--milliseconds={int(self.bench.seconds * 1000)}"]
        arguments += [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
        self.last = self.bench.program("bench_engine", *arguments, timeout=1200)
        return self.last

    def reference(self, rw, block, depth, **options):
        result = self.bench.fio(self.raw, rw, block, depth, self.mib << 20, **options)
        return result["read" if "read" in rw else "write"]["iops"]

    def compare(self, case, directory="vdisk"):
        name, what, depth, rw, block, goal = case
        ours, reference = lib.run_pairs(
            lambda: self.ours(what, depth, directory)["per_second"],
            lambda: self.reference(rw, block, depth), self.bench.pair_count)
        cpu = self.last["cpu_seconds"] / max(self.last["operations"], 1) * 1e6
        return lib.make_row(f"engine {name}", "requests/s", ours, reference, goal,
                            note=f"{cpu:.1f} us of processor time a request")


def run(bench):
    engine = Engine(bench)
    rows = []
    bench.fio_fill(engine.raw, engine.mib << 20)
    filled = engine.ours("fill", 32)
    rows.append(lib.make_row("engine map memory a GiB written at random", "bytes",
                             [filled["map_memory"] / (engine.mib / 1024)]))
    rows += [engine.compare(case) for case in RANDOM]
    flushed = lib.run_pairs(
        lambda: engine.ours("randwrite-flush", 1)["per_second"],
        lambda: engine.reference("randwrite", 4096, 1, fdatasync=1), bench.pair_count)
    rows.append(lib.make_row("engine 4 KiB random write, flush after each", "requests/s",
                             *flushed))
    before = [engine.ours("seqread", 8)["per_second"] for _ in range(3)]
    engine.ours("compact", 1)
    after = [engine.ours("seqread", 8)["per_second"] for _ in range(3)]
    rows.append(lib.make_row("engine 128 KiB seq. read after random writes", "requests/s", before))
    rows.append(lib.make_row("engine the same, tidied", "requests/s", after))
    engine.ours("fill-sequential", 8, "sequential")
    rows += [engine.compare(case, "sequential") for case in SEQUENTIAL[::-1]]
    rows += amplification(engine)
    return rows


def amplification(engine):
    """Random overwriting for a while of a vDisk that takes 80 % of its pool."""
    pool = engine.mib * 100 // 80
    engine.ours("fill", 32, "full", pool_mib=pool)
    written = engine.ours("randwrite", 32, "full", pool_mib=pool, milliseconds=(
        2000 if engine.bench.quick else 60000))
    factor = written["device_written"] / max(written["bytes"], 1)
    return [lib.make_row("engine write amplification at 80 % full", "bytes/byte", [factor],
                         note=f"{written['per_second']:.0f} writes/s while reclaim worked")]
