# SPDX-License-Identifier: Apache-2.0
"""Reads of two copies on two devices, against one device, on a machine that has only one.

Two files become loop devices with a file system each, and a control group gives each of them a
limit of its own for reads (the kernel's block throttle), far below what the disk underneath can do.
So two of them can do twice as much as one, as two disks can. Whether that is so is measured, too,
before anything is said of us. Needs root; what is missing is told in the rows, as a goal that is
not met.
"""
import concurrent.futures
import contextlib
import os
import subprocess

import lib

MIB = 1 << 20
READS, BYTES = 2000, 40 * MIB  # a second, of each device
SIZE_MIB, QUICK_MIB = 512, 128
DISK_MIB = 2048  # sparse
GOAL = 1.5
CASES = (("4 KiB random read QD32", "randread", 4096, 32, READS),
         ("128 KiB sequential read QD8", "seqread", 131072, 8, BYTES / 131072))


class Unavailable(Exception):
    """This machine cannot do it, and why."""


def run(*command):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              check=False)
    except FileNotFoundError as error:
        raise Unavailable(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


def write(path, text):
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from error


def find_hierarchy(mounts):
    """Of the text of /proc/mounts: (where block I/O can be limited, version of control groups)."""
    found = None
    for line in mounts.splitlines():
        _, path, kind, options = line.split()[:4]
        if kind == "cgroup" and "blkio" in options.split(","):
            return path, 1
        if kind == "cgroup2":
            found = path, 2
    return found


class Throttle:
    """A control group; what runs in it reads each of the devices no faster than it may."""

    def __init__(self):
        with open("/proc/mounts", encoding="utf-8") as file:
            hierarchy = find_hierarchy(file.read())
        if not hierarchy:
            raise Unavailable("no control groups are mounted")
        path, self.version = hierarchy
        if self.version == 2:
            write(os.path.join(path, "cgroup.subtree_control"), "+io")
        self.path = os.path.join(path, f"sarsen-bench-{os.getpid()}")
        try:
            os.mkdir(self.path)
        except OSError as error:
            raise Unavailable(f"{self.path}: {error.strerror}") from error

    def limit(self, device):
        with open(f"/sys/block/{os.path.basename(device)}/dev", encoding="utf-8") as file:
            number = file.read().strip()
        if self.version == 1:
            for what, most in (("iops", READS), ("bps", BYTES)):
                write(os.path.join(self.path, f"blkio.throttle.read_{what}_device"),
                      f"{number} {most}")
        else:
            write(os.path.join(self.path, "io.max"), f"{number} riops={READS} rbps={BYTES}")

    def name(self):
        return "blkio.throttle" if self.version == 1 else "io.max"

    def prefix(self):
        """Of a command that shall run in it."""
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', os.path.join(self.path, "cgroup.procs")]

    def done(self):
        os.rmdir(self.path)


def mount(stack, throttle, image, mount_point):
    with open(image, "wb") as file:
        file.truncate(DISK_MIB * MIB)
    os.makedirs(mount_point)
    run("mkfs.ext4", "-q", "-F", "-m", "0", image)
    device = run("losetup", "--find", "--show", "--direct-io=on", image)
    stack.callback(run, "losetup", "--detach", device)
    throttle.limit(device)
    run("mount", device, mount_point)
    stack.callback(run, "umount", "--lazy", mount_point)  # rings of what ended may hold it a moment


class TwoDevices:
    """They last as long as the stack."""

    def __init__(self, bench, stack):
        if os.geteuid() != 0:
            raise Unavailable("it needs root")
        self.bench = bench
        self.mib = QUICK_MIB if bench.quick else SIZE_MIB
        self.state = bench.path("two-devices")
        os.makedirs(self.state)
        throttle = Throttle()
        stack.callback(throttle.done)
        self.method = throttle.name()
        self.prefix = throttle.prefix()
        self.raw = [self.make_disk(stack, throttle, name) for name in ("pool", "pool1")]
        self.ours("fill-sequential", 8)

    def make_disk(self, stack, throttle, name):
        """`name` is what bench_engine calls it. A raw file beside the pool's."""
        mount_point = self.bench.path(f"mount-{name}")
        mount(stack, throttle, self.bench.path(f"{name}.img"), mount_point)
        os.mkdir(os.path.join(mount_point, "pool"))
        os.symlink(os.path.join(mount_point, "pool"), os.path.join(self.state, name))
        raw = os.path.join(mount_point, "raw")
        self.bench.fio_fill(raw, self.mib * MIB)
        return raw

    def ours(self, what, depth):
        return self.bench.program(
            "bench_engine", what, f"--directory={self.state}", f"--mib={self.mib}",
            f"--pool-mib={DISK_MIB // 2}", "--disks=2", "--factor=2", f"--depth={depth}",
            f"--milliseconds={int(self.bench.seconds * 1000)}", prefix=self.prefix)

    def reader(self, path, block, depth):
        rw = "randread" if block == 4096 else "read"
        result = self.bench.fio(path, rw, block, depth, self.mib * MIB, prefix=self.prefix)
        return result["read"]["iops"]

    def check_limits(self):
        """Each is as slow as it was made, and two at once are twice as fast."""
        for _, _, block, depth, most in CASES:
            with concurrent.futures.ThreadPoolExecutor(2) as threads:
                both = list(threads.map(lambda path: self.reader(path, block, depth), self.raw))
            if min(both) < 0.9 * most or max(both) > 1.1 * most:
                raise Unavailable(f"devices that should do {most:.0f} reads a second did {both}")


def measure(bench, stack):
    devices = TwoDevices(bench, stack)
    devices.check_limits()
    note = (f"two loop devices limited by {devices.method} to {READS} reads and "
            f"{BYTES // MIB} MiB a second each; the reference is one of them, raw")
    return [lib.make_row(f"pool two copies, two devices, {name}", "requests/s",
                         *lib.run_pairs(lambda: devices.ours(what, depth)["per_second"],
                                        lambda: devices.reader(devices.raw[0], block, depth),
                                        bench.pair_count), GOAL, note=note)
            for name, what, block, depth, _ in CASES]


def rows(bench):
    try:
        with contextlib.ExitStack() as stack:
            return measure(bench, stack)
    except Unavailable as error:
        return [lib.unmeasured_row(f"pool two copies, two devices, {name}", "requests/s", GOAL,
                                   str(error)) for name, *_ in CASES]
