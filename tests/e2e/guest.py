# SPDX-License-Identifier: Apache-2.0
"""What a guest needs: a Debian kernel, an initramfs, a disk image, and QEMU to run it."""
import glob
import os
import re
import shutil
import struct
import subprocess

import initramfs
import rig
from initramfs import write
from rig import run

MIB = 1 << 20
META_PACKAGE = "linux-image-cloud-amd64"
MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic")  # those that are not built in
BUSYBOX = "/bin/busybox"
GUEST_SECONDS = 90


def cache():
    return os.path.join(rig.BUILD, "guest-kernel")


def apt_options():
    """The system's package lists, or, where it has none, lists of our own: no root needed."""
    known = run(["apt-cache", "depends", META_PACKAGE], None).stdout
    if "Depends: linux-image" in known:
        return []
    lists = os.path.join(cache(), "lists")
    os.makedirs(os.path.join(lists, "partial"), exist_ok=True)
    options = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache()}/apt"]
    run(["apt-get", *options, "-q", "update"], None, 300)
    return options


def download():
    """Unpacks Debian's kernel for clouds below the cache; None, or why there is none."""
    for program in ("apt-get", "apt-cache", "dpkg"):
        if not shutil.which(program):
            return f"{program} (to get the package {META_PACKAGE})"
    os.makedirs(cache(), exist_ok=True)
    options = apt_options()
    known = run(["apt-cache", *options, "depends", META_PACKAGE], None).stdout
    found = re.search(r"Depends: (linux-image-\S+)", known)
    if not found:
        return f"the package {META_PACKAGE}: apt knows no such package (apt-get update?)"
    done = run(["apt-get", *options, "-q", "download", found[1]], None, 300, cwd=cache())
    packages = glob.glob(os.path.join(cache(), found[1] + "_*.deb"))
    if done.returncode != 0 or not packages:
        return f"the package {found[1]}: apt-get download: {done.stderr.strip()}"
    temporary = os.path.join(cache(), "new")
    shutil.rmtree(temporary, ignore_errors=True)
    run(["dpkg", "-x", packages[0], temporary])
    os.rename(temporary, os.path.join(cache(), "root"))
    os.unlink(packages[0])
    return None


def kernel():
    """The kernel's file; skips the test, saying what is missing."""
    pattern = os.path.join(cache(), "root", "boot", "vmlinuz-*")
    missing = None if glob.glob(pattern) else download()
    if missing:
        rig.skip(missing)
    return glob.glob(pattern)[0]


INITRAMFS_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for m in {modules}; do insmod /modules/$m || echo "guest: insmod $m failed"; done
n=0
until [ -b /dev/vda1 ] || [ $n = 100 ]; do n=$((n + 1)); sleep 0.1; done
if mount -t ext4 -o rw /dev/vda1 /root; then
	umount /proc
	exec switch_root /root /sbin/init
fi
echo "guest: exit no-root"
poweroff -f
"""


def make_initramfs(path, work):
    """Loads what the kernel does not have, and goes on with the init of the disk."""
    root = os.path.join(work, "initramfs")
    loaded = initramfs.modules(os.path.join(cache(), "root"), MODULES)
    for name in ("proc", "dev", "root"):
        os.makedirs(os.path.join(root, name))
    initramfs.copy(BUSYBOX, os.path.join(root, "bin/busybox"))
    for name, data in loaded.items():
        write(os.path.join(root, "modules", name), data)
    write(os.path.join(root, "init"), INITRAMFS_INIT.format(modules=" ".join(loaded)), 0o755)
    initramfs.pack(root, path)


def make_disk(path, file_system):
    """A disk with a partition table, whose one partition, at 1 MiB, has that file system."""
    size = os.path.getsize(file_system)
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", MIB // 512,
                        size // 512)
    with open(path, "wb") as disk, open(file_system, "rb") as source:
        disk.write(bytes(446) + entry + bytes(48) + b"\x55\xaa")
        disk.seek(MIB)
        while part := source.read(MIB):
            if part.count(0) == len(part):
                disk.seek(len(part), os.SEEK_CUR)
            else:
                disk.write(part)
        disk.truncate(MIB + size)


def take_partition(disk, path):
    with open(disk, "rb") as source, open(path, "wb") as file:
        source.seek(MIB)
        shutil.copyfileobj(source, file, MIB)


def run_guest(url, initramfs, log):
    """Runs until it powers off; what it said on its serial console."""
    command = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max",
               "-m", "384M", "-smp", "2", "-display", "none", "-monitor", "none", "-nodefaults",
               "-no-reboot", "-serial", f"file:{log}", "-kernel", kernel(), "-initrd", initramfs,
               "-append", "console=ttyS0 panic=-1 loglevel=4",
               "-drive", f"file={url},format=raw,if=virtio,cache=none,discard=unmap"]
    try:
        run(command, 0, GUEST_SECONDS * max(1, rig.SECONDS / 60))
    except subprocess.TimeoutExpired:
        with open(log, encoding="utf-8", errors="replace") as file:
            raise rig.Failure(f"the guest did not end in time:\n{file.read()[-3000:]}") from None
    with open(log, encoding="utf-8", errors="replace") as file:
        return file.read()
