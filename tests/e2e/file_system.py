# SPDX-License-Identifier: Apache-2.0
"""File systems on loop devices, for tests that take them away. Needs root."""
import os
import subprocess
import time

import rig
from rig import check, run

MIB = 1 << 20


class FileSystem:
    """A file system of its own, on a loop device, mounted for a disk of a pool."""

    def __init__(self, directory, size, name="", kind="ext4"):
        self.kind = kind
        self.image, self.mount_point = (os.path.join(directory, n + name)
                                        for n in ("fs.img", "mnt"))
        os.mkdir(self.mount_point)
        with open(self.image, "wb") as file:
            file.truncate(size)
        options = {"ext4": ["-q", "-F", "-m", "0", "-e", "remount-ro"], "xfs": ["-q", "-f"]}
        run([f"mkfs.{kind}", *options[kind], self.image])
        self.mount()

    def mount(self, *options):
        run(["mount", "-o", ",".join(("loop", *options)), self.image, self.mount_point])

    def until_free(self, *command):
        """The kernel may still hold files of a daemon that was killed, for a moment."""
        deadline = time.monotonic() + rig.SECONDS
        while "busy" in (done := run([*command, self.mount_point], None)).stderr:
            check(time.monotonic() < deadline, f"{command}: {done.stderr}")
            time.sleep(0.1)
        check(done.returncode == 0, f"{command}: {done.stderr}")

    def device(self):
        source = run(["findmnt", "-n", "-o", "SOURCE", self.mount_point]).stdout.strip()
        return os.path.basename(source)

    def fail(self):
        """ext4 believes that it found an error, and goes read-only under whoever uses it."""
        with open(f"/sys/fs/ext4/{self.device()}/trigger_fs_error", "w", encoding="utf-8") as file:
            file.write("test")

    def vanish(self):
        """XFS gives up: whatever is asked of it fails with EIO, as with a disk that was pulled."""
        run(["xfs_io", "-x", "-c", "shutdown", self.mount_point])

    def come_back(self):
        """The same, plugged in again: what reached it before is there."""
        self.done()
        self.mount()

    def repair(self):
        code = run(["e2fsck", "-fy", self.image], None).returncode
        check(code in (0, 1), f"e2fsck: {code}")

    def fill(self):
        """Another file takes all that is left."""
        with open(os.path.join(self.mount_point, "other"), "wb", buffering=0) as file:
            step = 64 * MIB
            while step >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step)
                except OSError:
                    step //= 2

    def free(self):
        os.unlink(os.path.join(self.mount_point, "other"))

    def done(self):
        subprocess.run(["umount", "-l", self.mount_point], check=False, capture_output=True)


def skip_without_loop(*kinds):
    if os.geteuid() != 0:
        rig.skip("root (to mount a loop device)")
    rig.require("e2fsck", "mount", "umount", "losetup", "findmnt",
                *(f"mkfs.{kind}" for kind in kinds))
    done = run(["losetup", "-f"], None)
    if done.returncode != 0 or not os.path.exists(done.stdout.strip()):
        rig.skip(f"a free loop device: {done.stderr.strip() or done.stdout.strip()}")
    with open("/proc/filesystems", encoding="utf-8") as file:
        known = file.read()
    for kind in kinds:
        if kind not in known:
            rig.skip(f"{kind} in this kernel")
