# SPDX-License-Identifier: Apache-2.0
"""What benchmark suites share: programs of ours, fio as the reference, pairs, rows.

Absolute timings of one machine drift by a factor of two, so ours and the reference alternate, five
pairs or more, and what counts is the median of the ratios of the pairs. The spread is (largest -
smallest) / median.
"""
import json
import os
import shutil
import statistics
import subprocess
from dataclasses import asdict, dataclass
from typing import Optional


class BenchError(Exception):
    """Something that the person who runs the benchmark has to know."""


@dataclass
class Row:
    """One line of the result. `goal` is for the ratio, or for `ours` when `absolute`."""

    name: str
    ours: float
    reference: Optional[float]
    ratio: Optional[float]
    goal: Optional[float]
    met: Optional[bool]
    unit: str = ""
    absolute: bool = False
    ours_spread: float = 0.0
    reference_spread: float = 0.0
    ratio_spread: float = 0.0
    pairs: int = 0
    note: str = ""


def spread(values):
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def run_pairs(ours, reference, count):
    """Calls both in turn, `count` times each; returns two lists. The order alternates."""
    results = ([], [])
    for index in range(count):
        for side in (0, 1) if index % 2 == 0 else (1, 0):
            results[side].append((ours, reference)[side]())
    return results


def make_row(name, unit, ours, reference=None, goal=None, absolute=False, lower_is_better=False,
             note=""):
    """A row of the measured values (lists; `reference` may be None)."""
    row = Row(name, statistics.median(ours), None, None, goal, None, unit, absolute,
              ours_spread=spread(ours), pairs=len(ours), note=note)
    if reference:
        ratios = [(r / o if lower_is_better else o / r) for o, r in zip(ours, reference)]
        row.reference = statistics.median(reference)
        row.reference_spread = spread(reference)
        row.ratio = statistics.median(ratios)
        row.ratio_spread = spread(ratios)
    if goal is not None:
        value = row.ours if absolute else row.ratio
        if value is None:
            raise BenchError(f"{name}: a goal for a ratio needs a reference")
        row.met = value <= goal if absolute and lower_is_better else value >= goal
    return row


def unmeasured_row(name, unit, goal, why):
    """Of what this machine cannot measure: it is not met, and says so."""
    return Row(name, 0.0, None, None, goal, False, unit, note=f"not measured: {why}")


def human(value):
    if value is None:
        return "-"
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.2f}{suffix}"
    return f"{value:.2f}"


def format_table(rows):
    lines = [("name", "unit", "ours", "+-", "reference", "+-", "ratio", "goal", "met")]
    for row in rows:
        goal = "-" if row.goal is None else human(row.goal) + (" abs" if row.absolute else "")
        lines.append((row.name, row.unit, human(row.ours), f"{row.ours_spread:.0%}",
                      human(row.reference),
                      "-" if row.reference is None else f"{row.reference_spread:.0%}",
                      human(row.ratio), goal,
                      {None: "-", True: "yes", False: "NO"}[row.met]))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = []
    for line in lines:
        cells = [line[i].ljust(widths[i]) if i < 2 else line[i].rjust(widths[i])
                 for i in range(len(line))]
        text.append("  ".join(cells).rstrip())
    text.extend(f"{row.name}: {row.note}" for row in rows if row.note)
    return "\n".join(text)


def write_json(rows, path):
    with open(path, "w", encoding="utf-8") as file:
        json.dump([asdict(row) for row in rows], file, indent=1)
        file.write("\n")


def run_json(command, timeout):
    """Runs a program that prints one JSON document."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=timeout, check=False, text=True)
    except FileNotFoundError as error:
        raise BenchError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{command[0]} took longer than {timeout} s") from error
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
    start = done.stdout.find("{")  # fio may print notes before its JSON
    try:
        return json.loads(done.stdout[start:] if start > 0 else done.stdout)
    except json.JSONDecodeError as error:
        raise BenchError(f"{command[0]}: no JSON: {done.stdout[:200]!r}") from error


def parse_fio(document):
    """The numbers of one fio job that rows are made of."""
    job = document["jobs"][0]
    if job.get("error"):
        raise BenchError(f"fio: error {job['error']}")
    result = {"cpu_percent": job["usr_cpu"] + job["sys_cpu"]}
    for side in ("read", "write"):
        part = job[side]
        if not part["total_ios"]:
            continue
        percentiles = part["clat_ns"].get("percentile", {})
        result[side] = {
            "iops": part["iops"],
            "bytes_per_second": part["bw_bytes"],
            "latency_us": part["clat_ns"]["mean"] / 1000,
            "p99_us": percentiles.get("99.000000", 0) / 1000,
        }
    return result


class Bench:
    """A run: where the programs are, where data may go, how long to measure."""

    def __init__(self, build, directory, quick):
        self.build, self.directory, self.quick = build, directory, quick
        self.pair_count = 3 if quick else 7
        self.seconds = 0.3 if quick else 2.0

    def make_directory(self):
        os.makedirs(self.directory, exist_ok=True)

    def clean(self):
        shutil.rmtree(self.directory, ignore_errors=True)

    def path(self, name):
        self.make_directory()
        return os.path.join(self.directory, name)

    def program(self, name, *arguments, timeout=600, prefix=()):
        """Runs build/bench/NAME; returns its JSON with rates added. `prefix`: by this command."""
        result = run_json([*prefix, os.path.join(self.build, "bench", name), *arguments], timeout)
        for clock in ("seconds", "cpu_seconds"):
            if result.get(clock) and "operations" in result:
                result["per_" + clock.rstrip("s")] = result["operations"] / result[clock]
        return result

    def fio(self, path, rw, block_bytes, depth, size_bytes, prefix=(), **options):
        """Runs fio on a file with io_uring and O_DIRECT for self.seconds; see parse_fio()."""
        command = [*prefix, "fio", "--name=reference", f"--filename={path}", "--ioengine=io_uring",
                   "--direct=1", f"--rw={rw}", f"--bs={block_bytes}", f"--iodepth={depth}",
                   f"--size={size_bytes}", "--norandommap", "--randrepeat=0",
                   "--output-format=json"]
        if "runtime" not in options:
            options = {"runtime": f"{max(self.seconds, 1):g}", "time_based": 1, **options}
        command += [f"--{key}={value}" for key, value in options.items() if value is not None]
        return parse_fio(run_json(command, timeout=600))

    def fio_fill(self, path, size_bytes):
        """Writes all of the file once, so that later writes overwrite."""
        return self.fio(path, "write", 1 << 20, 8, size_bytes, runtime=None, end_fsync=1,
                        refill_buffers=1)
