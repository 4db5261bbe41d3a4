# SPDX-License-Identifier: Apache-2.0
"""Trees of Debian packages, unpacked below SARSEN_QEMU11 (default: the build directory), once;
nothing is installed. Their programs run with their own loader and libraries."""
import fcntl
import os
import re
import shutil

import rig
from rig import run

BASE = os.environ.get("SARSEN_QEMU11", os.path.join(rig.BUILD, "qemu11"))
TREES = {  # suites of Debian, and what is taken from them
    "qemu": (("trixie", "trixie-backports"), "qemu-system-x86"),
    "guest": (("trixie",), "linux-image-cloud-amd64,busybox-static,nvme-cli,ovmf,e2fsprogs,"
              "fdisk,util-linux,mtools"),
    "iscsi": (("trixie",), "linux-image-amd64,busybox-static,open-iscsi,multipath-tools,sg3-utils,"
              "sg3-utils-udev,udev,fio,e2fsprogs,util-linux,dmsetup"),
}
LOADER = "usr/lib64/ld-linux-x86-64.so.2"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
FOLDERS = (LIBRARIES, LIBRARIES + "/ceph", LIBRARIES + "/systemd", "usr/lib")


def mirror():
    """Of the machine's own package sources; None where it has none."""
    if not shutil.which("apt-get"):
        return None
    lines = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN)",
                 "Created-By: Packages"], None).stdout.splitlines()
    debian = [line.split()[0] for line in lines if line.endswith(" Debian") and
              "security" not in line]
    return (debian or [line.split()[0] for line in lines] or [None])[0]


def unpack(name):
    """None, or what is missing."""
    suites, packages = TREES[name]
    url = mirror()
    if not url or not shutil.which("mmdebstrap"):
        return "mmdebstrap and apt's package sources, to unpack Debian packages"
    new = os.path.join(BASE, name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    options = ["APT::Install-Recommends \"false\"", "Acquire::Languages \"none\"",
               f"APT::Default-Release \"{suites[-1]}\""]
    done = run(["mmdebstrap", "--variant=extract", "--include=" + packages,
                *(f"--aptopt={option}" for option in options),
                "--dpkgopt=path-exclude=/usr/share/doc/*", suites[0], new,
                *(f"deb {url} {suite} main" for suite in suites)], None, 600)
    if done.returncode != 0:
        return f"{packages} of Debian {suites[-1]}: mmdebstrap: {done.stderr[-400:]}"
    os.rename(new, os.path.join(BASE, name))
    return None


def tree(name):
    """The tree's path; it is made when it is not there. Skips the test, saying what is missing."""
    os.makedirs(BASE, exist_ok=True)
    path = os.path.join(BASE, name)
    with open(os.path.join(BASE, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        missing = None if os.path.exists(path) else unpack(name)
    if missing:
        rig.skip(missing)
    return path


def with_loader(root, program):
    """The command that runs a program of a tree with the tree's own libraries."""
    return [os.path.join(root, LOADER), "--library-path",
            ":".join(os.path.join(root, folder) for folder in FOLDERS),
            os.path.join(root, program)]


def libraries(root, programs):
    """Paths of the shared libraries of a tree's programs, in an order of their own."""
    found = set()
    for program in programs:
        command = with_loader(root, program)
        text = run([*command[:3], "--list", command[3]]).stdout
        found.update(re.findall(r"=> (\S+) \(", text))
    return sorted(path for path in found if not os.path.basename(path).startswith("ld-linux"))
