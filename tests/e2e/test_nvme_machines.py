#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Firmware (OVMF) that boots from a virtual NVMe disk, and two machines with a shared namespace,
each with a controller of its own, that reserve it."""
import sys

import qemu11
import rig
from nvme_rig import ControllerDaemon
from rig import check, run

BOOT_MIB = 96


def firmware_boots_from_the_disk(daemon):
    image = daemon.path("boot")
    qemu11.make_boot_disk(image, BOOT_MIB << 20)
    controller = ControllerDaemon(daemon, "32M")
    guest = None
    try:
        controller.add_disk("boot", f"{BOOT_MIB}M")
        daemon.cli("iscsi", "export", "default/boot")
        url = daemon.json("vdisk", "show", "default/boot")["url"]
        run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, url])
        daemon.cli("iscsi", "unexport", "default/boot")
        daemon.cli("nvme", "attach", "vm", "default/boot")
        guest = qemu11.Guest(daemon.directory, "uefi", qemu11.vfio_user(controller.socket),
                             memory="512M", firmware=True)
        guest.ready()
        check("/sys/firmware/efi" in guest.sh("ls -d /sys/firmware/efi"), "no UEFI")
        guest.sh("[ $(ls -d /sys/block/nvme0n* | wc -l) = 2 ]")
        guest.power_off()
    finally:
        if guest:
            guest.done()
        controller.done()


def key(guest, line, expect=0):
    return guest.sh(f"nvme {line} /dev/nvme0n1", expect=expect)


def two_machines_reserve_a_namespace(daemon):
    controller = ControllerDaemon(daemon, "32M")
    other, guests = None, []
    try:
        controller.add_disk("shared", "32M")
        daemon.cli("nvme", "detach", "vm", "default/disk")
        daemon.cli("nvme", "attach", "vm", "default/shared", "--shared")
        other = controller.add_controller("other")
        daemon.cli("nvme", "attach", "other", "default/shared", "--shared")
        for name, socket in (("vm", controller.socket), ("other", other)):
            guests.append(qemu11.Guest(daemon.directory, name, qemu11.vfio_user(socket)))
        one, two = (guest.ready() for guest in guests)
        one.sh("echo one | dd of=/dev/nvme0n1 bs=4k conv=sync oflag=direct 2>/dev/null")
        there = two.sh("dd if=/dev/nvme0n1 bs=4k count=1 iflag=direct 2>/dev/null | head -n1")
        check("one" in there, f"the other machine reads something else: {there}")
        key(one, "resv-register --nrkey=1 --rrega=0 --cptpl=0")
        key(two, "resv-register --nrkey=2 --rrega=0 --cptpl=0")
        key(one, "resv-acquire --crkey=1 --rtype=1 --racqa=0")  # write exclusive
        two.sh("dd if=/dev/zero of=/dev/nvme0n1 bs=4k count=1 oflag=direct", expect=1)
        two.sh("dd if=/dev/nvme0n1 of=/dev/null bs=4k count=1 iflag=direct")
        controller.kill()  # reservations outlive the engine
        controller.launch()
        controller.wait_ready()
        two.sh("dd if=/dev/zero of=/dev/nvme0n1 bs=4k count=1 oflag=direct", expect=1)
        one.sh("dd if=/dev/zero of=/dev/nvme0n1 bs=4k count=1 oflag=direct")
        report = key(two, "resv-report --eds")
        check("regctl" in report, f"report:\n{report}")
        key(one, "resv-release --crkey=1 --rtype=1 --rrela=0")
        two.sh("dd if=/dev/zero of=/dev/nvme0n1 bs=4k count=1 oflag=direct")
        for guest in (one, two):
            guest.power_off()
    finally:
        for guest in guests:
            guest.done()
        controller.done()


if __name__ == "__main__":
    rig.require_qemu_iscsi()
    qemu11.require()
    sys.exit(rig.main(firmware_boots_from_the_disk, two_machines_reserve_a_namespace))
