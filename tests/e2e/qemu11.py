# SPDX-License-Identifier: Apache-2.0
"""Guests with the stock nvme driver: QEMU 11.1 (older ones have no vfio-user), a Debian kernel,
nvme-cli, ext4 and sfdisk in an initramfs, and a shell in the guest that the test talks to."""
import glob
import os

import debian
import initramfs
import rig
from debian import LIBRARIES, tree, with_loader
from machine import Machine
from rig import run

PROGRAMS = ("usr/sbin/nvme", "usr/sbin/mke2fs", "usr/sbin/sfdisk", "usr/sbin/blockdev",
            "usr/sbin/e2fsck")


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


def archive():
    """The initramfs; made once."""
    return initramfs.make(os.path.join(debian.BASE, "initramfs"),
                          lambda root: initramfs.fill(root, tree("guest"), PROGRAMS), __file__)


def guest_program(name, *arguments):
    """Runs a program of the guest's tree on this machine."""
    return run([*with_loader(tree("guest"), name), *arguments])


def make_boot_disk(path, size):
    """A FAT disk from whose script UEFI's shell starts the kernel with the initramfs."""
    script = path + ".nsh"
    initramfs.write(script, "fs0:\r\n\\vmlinuz.efi initrd=\\initrd console=ttyS0 panic=-1 "
                    "loglevel=6\r\n")
    with open(path, "wb") as file:
        file.truncate(size)
    guest_program("usr/bin/mformat", "-i", path, "-F", "::")
    for source, name in ((kernel(), "vmlinuz.efi"), (archive(), "initrd"),
                         (script, "startup.nsh")):
        guest_program("usr/bin/mcopy", "-i", path, source, "::" + name)


def vfio_user(socket):
    return ["-device", '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"%s"}}' % socket]


class Guest(Machine):
    """One virtual machine; devices are arguments of QEMU. `firmware` boots from disk by UEFI
    instead of the initramfs."""

    def __init__(self, directory, name, devices, memory="256M", firmware=False):
        root = tree("qemu")
        command = [*with_loader(root, "usr/bin/qemu-system-x86_64"),
                   "-L", os.path.join(root, "usr/share/seabios"),
                   "-L", os.path.join(root, "usr/share/qemu"),
                   "-M", "q35,memory-backend=mem", "-accel", "tcg,thread=multi", "-cpu", "max",
                   "-object", f"memory-backend-memfd,id=mem,size={memory},share=on", "-m", memory,
                   "-smp", "2", *devices]
        if firmware:
            command += ["-bios", os.path.join(tree("guest"), "usr/share/ovmf/OVMF.fd")]
        else:
            command += ["-kernel", kernel(), "-initrd", archive(), "-append",
                        "console=ttyS0 panic=-1 loglevel=6"]
        super().__init__(directory, name, command, environment())
