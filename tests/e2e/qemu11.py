# SPDX-License-Identifier: Apache-2.0
"""Guests with the stock nvme driver: QEMU 11.1 (older ones have no vfio-user), a Debian kernel,
nvme-cli, ext4 and sfdisk in an initramfs, and a shell in the guest that the test talks to.

Two trees of Debian packages are unpacked below SARSEN_QEMU11 (default: the build directory), once;
nothing is installed. They run with their own loader and libraries."""
import fcntl
import glob
import os
import re
import shutil
import subprocess
import time

import rig
from guest import write
from rig import check, run

BASE = os.environ.get("SARSEN_QEMU11", os.path.join(rig.BUILD, "qemu11"))
TREES = {  # suites of Debian, and what is taken from them
    "qemu": (("trixie", "trixie-backports"), "qemu-system-x86"),
    "guest": (("trixie",), "linux-image-cloud-amd64,busybox-static,nvme-cli,ovmf,e2fsprogs,"
              "fdisk,util-linux,mtools"),
}
PROGRAMS = ("usr/sbin/nvme", "usr/sbin/mke2fs", "usr/sbin/sfdisk", "usr/sbin/blockdev",
            "usr/sbin/e2fsck")
LOADER = "usr/lib64/ld-linux-x86-64.so.2"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
SECONDS = 90 * max(1, rig.SECONDS / 60)


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
    return [os.path.join(root, LOADER), "--library-path", os.path.join(root, LIBRARIES),
            os.path.join(root, program)]


def environment():
    """QEMU takes modules of its own tree, not of the system's QEMU."""
    return os.environ | {"QEMU_MODULE_DIR": os.path.join(tree("qemu"), LIBRARIES, "qemu")}


def require():
    """Skips the test when guests cannot be run."""
    rig.require("cpio")
    root = tree("qemu")
    tree("guest")
    known = run([*with_loader(root, "usr/bin/qemu-system-x86_64"), "-device",
                 "vfio-user-pci,help"], None, env=environment())
    if known.returncode != 0:
        rig.skip("vfio-user-pci in QEMU: its package is older than 11.1")


def kernel():
    return glob.glob(os.path.join(tree("guest"), "boot", "vmlinuz-*"))[0]


def libraries(root):
    """Shared libraries of PROGRAMS, by their names."""
    found = set()
    for program in PROGRAMS:
        command = with_loader(root, program)
        text = run([*command[:3], "--list", command[3]]).stdout
        found.update(re.findall(r"=> \S+/([^/\s]+) \(", text))
    return sorted(name for name in found if not name.startswith("ld-linux"))


# Busybox's shell prefers its own programs: /sbin/mke2fs and others have to be called by their path.
# The shell: "ID words" on the second serial port runs the words and answers what they print, and
# then a line "\001 ID exit-code".
INIT = """#!/bin/busybox sh
export PATH=/bin:/sbin LD_LIBRARY_PATH=/lib
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
stty -F /dev/ttyS1 raw -echo
exec 3</dev/ttyS1 4>/dev/ttyS1
printf '\\001 ready 0\\n' >&4
while read -r id line <&3; do
	eval "$line" </dev/null >&4 2>&1
	printf '\\n\\001 %s %s\\n' "$id" $? >&4
done
poweroff -f
"""


def initramfs():
    """Busybox, PROGRAMS and their libraries; made once."""
    path = os.path.join(BASE, "initramfs")
    if os.path.exists(path) and os.path.getmtime(path) > os.path.getmtime(__file__):
        return path
    source = tree("guest")
    root = f"{path}.{os.getpid()}.root"
    for name in ("proc", "dev", "sys", "mnt", "run", "etc"):
        os.makedirs(os.path.join(root, name))
    for name in ("usr/bin/busybox", *PROGRAMS):
        with open(os.path.join(source, name), "rb") as file:
            write(os.path.join(root, name.removeprefix("usr/")), file.read(), 0o755)
    for name in libraries(source):
        with open(os.path.join(source, LIBRARIES, name), "rb") as file:
            write(os.path.join(root, "lib", name), file.read(), 0o755)
    with open(os.path.join(source, LOADER), "rb") as file:
        write(os.path.join(root, "lib64", os.path.basename(LOADER)), file.read(), 0o755)
    write(os.path.join(root, "init"), INIT, 0o755)
    names = "\n".join(sorted(os.path.relpath(os.path.join(top, name), root)
                             for top, folders, files in os.walk(root) for name in folders + files))
    with open(f"{path}.{os.getpid()}", "wb") as file:
        done = subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], cwd=root,
                              input=names.encode(), stdout=file, timeout=rig.SECONDS, check=False)
    check(done.returncode == 0, "cpio failed")
    shutil.rmtree(root)
    os.rename(f"{path}.{os.getpid()}", path)
    return path


def guest_program(name, *arguments):
    """Runs a program of the guest's tree on this machine."""
    return run([*with_loader(tree("guest"), name), *arguments])


def make_boot_disk(path, size):
    """A FAT disk from whose script UEFI's shell starts the kernel with the initramfs."""
    script = path + ".nsh"
    write(script, "fs0:\r\n\\vmlinuz.efi initrd=\\initrd console=ttyS0 panic=-1 loglevel=6\r\n")
    with open(path, "wb") as file:
        file.truncate(size)
    guest_program("usr/bin/mformat", "-i", path, "-F", "::")
    for source, name in ((kernel(), "vmlinuz.efi"), (initramfs(), "initrd"),
                         (script, "startup.nsh")):
        guest_program("usr/bin/mcopy", "-i", path, source, "::" + name)


def vfio_user(socket):
    return ["-device", '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"%s"}}' % socket]


class Guest:
    """One virtual machine; devices are arguments of QEMU. `firmware` boots from disk by UEFI
    instead of the initramfs."""

    def __init__(self, directory, name, devices, memory="256M", firmware=False):
        self.log_path = os.path.join(directory, name + ".console")
        self.errors_path = os.path.join(directory, name + ".errors")
        self.count = 0
        root, debian = tree("qemu"), tree("guest")
        command = [*with_loader(root, "usr/bin/qemu-system-x86_64"),
                   "-L", os.path.join(root, "usr/share/seabios"),
                   "-L", os.path.join(root, "usr/share/qemu"),
                   "-M", "q35,memory-backend=mem", "-accel", "tcg,thread=multi", "-cpu", "max",
                   "-object", f"memory-backend-memfd,id=mem,size={memory},share=on", "-m", memory,
                   "-smp", "2", "-display", "none", "-monitor", "none", "-nodefaults",
                   "-serial", f"file:{self.log_path}", "-chardev", "stdio,id=shell,signal=off",
                   "-serial", "chardev:shell", *devices]
        if firmware:
            command += ["-bios", os.path.join(debian, "usr/share/ovmf/OVMF.fd")]
        else:
            command += ["-kernel", kernel(), "-initrd", initramfs(), "-append",
                        "console=ttyS0 panic=-1 loglevel=6"]
        with open(self.errors_path, "wb") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment(),
                                            stdout=subprocess.PIPE, stderr=errors)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.pending = b""

    def fail(self, text):
        raise rig.Failure(f"{text}\n{self.console()[-3000:]}")

    def console(self):
        texts = []
        for path in (self.log_path, self.errors_path):
            if not os.path.exists(path):
                continue
            with open(path, encoding="utf-8", errors="replace") as file:
                texts.append(file.read())
        return "\n".join(texts)

    def wait(self, name, seconds=SECONDS):
        """What the shell said until it was done with `name`, and the exit code."""
        mark = re.compile(rb"\n?\001 %s (\d+)\r?\n" % name.encode())
        deadline = time.monotonic() + seconds
        while not (found := mark.search(self.pending)):
            part = self.process.stdout.read()
            if part:
                self.pending += part
                continue
            if self.process.poll() is not None:
                self.fail("QEMU ended")
            if time.monotonic() > deadline:
                self.fail(f"no answer to {name} in time; so far {self.pending[-1000:]}")
            time.sleep(0.01)
        output, self.pending = self.pending[:found.start()], self.pending[found.end():]
        return output.decode(errors="replace").replace("\r", ""), int(found[1])

    def ready(self):
        self.wait("ready")
        return self

    def begin(self, line):
        self.count += 1
        self.process.stdin.write(f"{self.count} {line}\n".encode())
        self.process.stdin.flush()
        return str(self.count)

    def end(self, name, expect=0, seconds=SECONDS):
        output, code = self.wait(name, seconds)
        if expect is not None and code != expect:
            self.fail(f"in the guest, command {name} ended with {code}:\n{output}")
        return output

    def sh(self, line, expect=0, seconds=SECONDS):
        """Runs one line in the guest; what it printed."""
        return self.end(self.begin(line), expect, seconds)

    def until(self, line, seconds=20):
        """Runs it until it succeeds."""
        deadline = time.monotonic() + seconds
        while True:
            output, code = self.wait(self.begin(line))
            if code == 0:
                return output
            if time.monotonic() > deadline:
                self.fail(f"never true in the guest: {line}\n{output}")
            time.sleep(0.1)

    def reboot(self):
        self.begin("sync; reboot -f")
        return self.ready()

    def power_off(self):
        self.begin("sync; poweroff -f")
        code = self.process.wait(SECONDS)
        if code != 0:
            self.fail(f"QEMU ended with {code}")

    def done(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(SECONDS)
        self.process.stdin.close()
        self.process.stdout.close()
