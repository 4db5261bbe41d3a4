#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""File systems through vDisks: a tree copied in and out, a disk that a guest can boot from, and a
guest with a Debian kernel whose root is on a vDisk, over QEMU's own iSCSI client."""
import filecmp
import hashlib
import os
import random
import sys

import guest
import rig
from rig import check, run

MIB = 1 << 20


def make_tree(root, seed):
    """Files of many sizes, deep folders, links, odd names, and holes."""
    chance = random.Random(seed)
    for i in range(120):
        folder = os.path.join(root, *(f"d{chance.randrange(4)}" for _ in range(i % 5)))
        size = chance.choice((0, 1, 4095, 4096, 4097, chance.randrange(300000)))
        guest.write(os.path.join(folder, f"file {i}"), chance.randbytes(size))
    os.symlink("d0/nowhere", os.path.join(root, "link"))
    os.link(os.path.join(root, "file 0"), os.path.join(root, "again"))
    guest.write(os.path.join(root, "\u00fcml\u00e4ut"), "x" * 60)
    with open(os.path.join(root, "hole"), "wb") as file:
        file.seek(5 * MIB)
        file.write(b"end")


def make_file_system(path, tree, size):
    run(["mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", tree, path, f"{size // MIB}M"])


def listing(root):
    """What each name below the folder is, with its content."""
    found = {}
    for top, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(top, name)
            key = os.path.relpath(path, root)
            if os.path.islink(path):
                found[key] = "link to " + os.readlink(path)
            elif os.path.isdir(path):
                found[key] = "folder"
            else:
                with open(path, "rb") as file:
                    found[key] = hashlib.sha256(file.read()).hexdigest()
    found.pop("lost+found", None)
    return found


def new_disk(daemon, name, size):
    daemon.cli("vdisk", "create", name, f"{size // MIB}M")
    daemon.cli("iscsi", "export", name)


def url_of(daemon, name):
    return daemon.json("vdisk", "show", name)["url"]


def copy_in(image, url):
    run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "-t", "none", image, url])


def copy_out(url, image):
    run(["qemu-img", "convert", "-f", "raw", "-O", "raw", url, image])


def dump(file_system, folder):
    """The whole tree of an ext4 file system, which must be clean."""
    run(["e2fsck", "-fn", file_system])
    os.makedirs(folder)
    run(["debugfs", "-R", f"rdump / {folder}", file_system])
    return listing(folder)


def a_tree_goes_in_and_out(daemon):
    tree, image, back = (daemon.path(name) for name in ("tree", "image", "back"))
    make_tree(tree, 11)
    make_file_system(image, tree, 64 * MIB)
    daemon.start()
    daemon.make_pool()
    new_disk(daemon, "default/tree", 64 * MIB)
    copy_in(image, url_of(daemon, "default/tree"))
    daemon.kill()
    daemon.start()
    copy_out(url_of(daemon, "default/tree"), back)
    check(filecmp.cmp(image, back, shallow=False), "the image came back with other bytes")
    there, here = dump(back, daemon.path("dumped")), listing(tree)
    check(there == here, f"the tree differs: {sorted(set(there.items()) ^ set(here.items()))}")
    daemon.stop()


GUEST_INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
say() { echo "guest: $*"; }
finish() {
	say "exit $1"
	sync
	mount -o remount,ro /
	poweroff -f
}
cd /
sha256sum -c /etc/sums >/dev/null || finish "files of the image are not what they were"
mkdir -p /made/deep/er /gone
i=0
while [ $i -lt 24 ]; do
	i=$((i + 1))
	dd if=/dev/urandom of=/made/deep/er/f$i bs=3000 count=$((i * 8)) 2>/dev/null ||
		finish "write failed"
	cp /made/deep/er/f$i /gone/ || finish "copy failed"
	[ $((i % 6)) != 0 ] || sync
done
sha256sum /made/deep/er/f* >/made/sums
sync
rm -r /gone
fstrim / || finish "fstrim failed"
echo 3 >/proc/sys/vm/drop_caches
sha256sum -c /made/sums >/dev/null || finish "files that were made are not what they were"
sha256sum -c /etc/sums >/dev/null || finish "files of the image are not what they were now"
say "root on $(grep ' / ' /proc/mounts | tail -n1)"
say "kernel $(uname -r)"
finish 0
"""


def make_guest_root(root):
    with open(guest.BUSYBOX, "rb") as file:
        guest.write(os.path.join(root, "bin/busybox"), file.read(), 0o755)
    guest.write(os.path.join(root, "sbin/init"), GUEST_INIT, 0o755)
    for name in ("proc", "dev", "etc"):
        os.makedirs(os.path.join(root, name))
    with open(guest.kernel(), "rb") as file:
        guest.write(os.path.join(root, "boot/vmlinuz"), file.read())
    make_tree(os.path.join(root, "data"), 12)
    sums = [f"{value}  {name}\n" for name, value in sorted(listing(root).items())
            if len(value) == 64]
    guest.write(os.path.join(root, "etc/sums"), "".join(sums))


def check_what_the_guest_made(daemon, disk):
    """The daemon was restarted: the file system is clean and has every file, old and new."""
    part = daemon.path("partition")
    guest.take_partition(disk, part)
    there = dump(part, daemon.path("made"))
    with open(daemon.path("made/made/sums"), encoding="utf-8") as file:
        sums = dict(reversed(line.split()) for line in file)
    check(len(sums) == 24, f"the guest made {len(sums)} files")
    for path, value in sums.items():
        check(there.get(path.lstrip("/")) == value, f"{path} is not what the guest made")
    for path, value in listing(daemon.path("root")).items():
        check(there.get(path) == value, f"{path} is not what the image had")
    check("gone" not in there, "what the guest removed is there")


def a_guest_boots_from_a_vdisk(daemon):
    root, part, disk, back = (daemon.path(name) for name in ("root", "part", "disk", "back"))
    make_guest_root(root)
    make_file_system(part, root, 127 * MIB)
    guest.make_disk(disk, part)
    guest.make_initramfs(daemon.path("initrd"), daemon.directory)
    daemon.start()
    daemon.make_pool()
    new_disk(daemon, "default/boot", 128 * MIB)
    url = url_of(daemon, "default/boot")
    copy_in(disk, url)
    copy_out(url, back)
    check(filecmp.cmp(disk, back, shallow=False), "the disk came back with other bytes")
    console = guest.run_guest(url, daemon.path("initrd"), daemon.path("console"))
    check("guest: exit 0\n" in console.replace("\r", ""), f"the guest said:\n{console[-3000:]}")
    print("\n".join(line for line in console.split("\n") if line.startswith("guest: ")))
    daemon.stop()
    daemon.start()
    copy_out(url_of(daemon, "default/boot"), back)
    check_what_the_guest_made(daemon, back)
    daemon.stop()


if __name__ == "__main__":
    rig.require_qemu_iscsi()
    rig.require("mke2fs", "e2fsck", "debugfs", "cpio", "qemu-system-x86_64", guest.BUSYBOX)
    guest.kernel()
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    sys.exit(rig.main(a_tree_goes_in_and_out, a_guest_boots_from_a_vdisk))
