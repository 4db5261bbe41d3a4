#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stock Linux in QEMU 11.1 on a virtual NVMe controller: identify, partition, ext4, two namespaces
that come and go, resize, resets, PCI remove and rescan, an engine that is killed meanwhile,
reboot."""
import sys
import time

import qemu11
import rig
from nvme_rig import ControllerDaemon
from rig import check

MIB = 1 << 20

# What the guest's shell gets first: the block device of a namespace (its name is not its id).
NS = ("ns() { for d in /sys/block/nvme[0-9]n*; do [ \"$(cat $d/nsid 2>/dev/null)\" = $1 ] && "
      "echo /dev/${d##*/} && return; done; return 1; }; ")
WRITE = "dd if=/dev/urandom of=/mnt/$f bs=64k count=64 2>/dev/null && sync"
# Files that are written, dropped from the cache and read again, over and over, until /run/stop.
LOAD = ("rm -f /run/stop /run/ok; (n=0; until [ -e /run/stop ]; do n=$((n+1)); "
        "dd if=/dev/urandom of=/run/part bs=64k count=16 2>/dev/null; cp /run/part /mnt/load$n "
        "&& sync && echo 3 >/proc/sys/vm/drop_caches && cmp /run/part /mnt/load$n || "
        "{ echo bad $n >/run/bad; break; }; rm /mnt/load$n; echo $n >/run/ok; done) "
        ">/run/log 2>&1 &")


def partition(guest):
    disk = guest.sh("ns 1").strip()
    guest.sh(f'printf "label: gpt\\n,\\n" | /sbin/sfdisk -q {disk} && '
             f"/sbin/mke2fs -q -t ext4 {disk}p1")


def write_and_check(guest):
    guest.sh("mount $(ns 1)p1 /mnt")
    for name in ("a", "b"):
        guest.sh(f"f={name}; {WRITE}")
    guest.sh("sha256sum /mnt/a /mnt/b >/mnt/sums; umount /mnt")
    verify(guest)


def verify(guest):
    guest.sh("mount $(ns 1)p1 /mnt && sha256sum -c /mnt/sums && umount /mnt")


def identifies(guest):
    text = guest.sh("nvme id-ctrl /dev/nvme0")
    check("nqn." in text and "Sarsen" in guest.sh("nvme list"), f"id-ctrl said:\n{text}")
    for command in ("nvme id-ns $(ns 1)", "nvme list-ns /dev/nvme0", "nvme smart-log /dev/nvme0",
                    "nvme error-log /dev/nvme0", "nvme fw-log /dev/nvme0",
                    "nvme effects-log --csi=0 /dev/nvme0", "nvme get-feature -f 7 /dev/nvme0",
                    "nvme ns-descs $(ns 1)", "nvme flush -n 1 $(ns 1)"):
        guest.sh(command)


def namespaces_come_and_go(controller, guest):
    controller.add_disk("second", "32M")
    controller.daemon.cli("nvme", "attach", "vm", "default/second", "--nsid", "7")
    guest.until("ns 7")
    guest.sh("/sbin/mke2fs -q -t ext4 $(ns 7) && mount $(ns 7) /mnt && f=x; " + WRITE +
             " && sha256sum /mnt/x >/run/x && umount /mnt")
    controller.daemon.cli("nvme", "detach", "vm", "default/second")
    guest.until("! ns 7")
    controller.daemon.cli("nvme", "attach", "vm", "default/second", "--nsid", "7", "--read-only")
    guest.until("ns 7")
    guest.sh("mount -o ro,noload $(ns 7) /mnt && sha256sum -c /run/x && umount /mnt")
    guest.sh("dd if=/dev/zero of=$(ns 7) bs=4k count=1 oflag=direct", expect=1)
    controller.daemon.cli("vdisk", "resize", "default/disk", "160M")
    guest.until(f"[ $(/sbin/blockdev --getsize64 $(ns 1)) = {160 * MIB} ]")


def a_format_changes_blocks(controller, guest):
    """The guest's own choice, which the next engine knows."""
    controller.add_disk("third", "16M")
    controller.daemon.cli("nvme", "attach", "vm", "default/third", "--nsid", "9")
    guest.until("ns 9")
    guest.sh("echo text >$(ns 9); nvme format /dev/nvme0 --namespace-id=9 --block-size=4096 "
             "--force")
    guest.until("[ $(/sbin/blockdev --getss $(ns 9)) = 4096 ]")
    guest.sh("cmp -n 16777216 /dev/zero $(ns 9)")
    controller.kill()
    controller.launch()
    controller.wait_ready()
    guest.sh("/sbin/mke2fs -q -t ext4 $(ns 9) && nvme id-ns $(ns 9) | grep 'lbads:12.*in use'")
    guest.sh("nvme format $(ns 9) --lbaf=0 --force")
    guest.until("[ $(/sbin/blockdev --getss $(ns 9)) = 512 ]")
    guest.sh("nvme format $(ns 9) --lbaf=2 --force", expect=1)
    controller.daemon.cli("nvme", "detach", "vm", "default/third")
    guest.until("! ns 9")


def a_guest_makes_a_namespace(controller, guest):
    """Namespace Management, as nvme-cli does it, with an engine that dies meanwhile."""
    guest.sh("nvme create-ns /dev/nvme0 --nsze=65536 --ncap=65536 --flbas=0 | grep 'nsid:2'")
    guest.sh("nvme list-ns /dev/nvme0 --all | grep 0x2")
    guest.sh("nvme list-ns /dev/nvme0 | grep 0x2", expect=1)
    controller.kill()
    controller.launch()
    controller.wait_ready()
    guest.sh("c=$(nvme id-ctrl /dev/nvme0 | sed -n 's/^cntlid *: *//p'); "
             "nvme attach-ns /dev/nvme0 --namespace-id=2 --controllers=$c && "
             "nvme list-ctrl /dev/nvme0 --namespace-id=2")
    guest.until("ns 2")
    guest.sh("/sbin/mke2fs -q -t ext4 $(ns 2) && mount $(ns 2) /mnt && f=x; " + WRITE +
             " && umount /mnt")
    check("detached" not in controller.daemon.cli("nvme", "namespaces", "vm").stdout, "state")
    guest.sh("nvme detach-ns /dev/nvme0 --namespace-id=2 --controllers=$(nvme id-ctrl /dev/nvme0 "
             "| sed -n 's/^cntlid *: *//p')")
    guest.until("! ns 2")
    check("detached" in controller.daemon.cli("nvme", "namespaces", "vm").stdout, "state")
    guest.sh("nvme delete-ns /dev/nvme0 --namespace-id=2")
    guest.sh("nvme delete-ns /dev/nvme0 --namespace-id=1", expect=1)
    guest.sh("nvme create-ns /dev/nvme0 --nsze=1000000000 --ncap=1000000000 --flbas=0", expect=1)
    names = [vdisk["name"] for vdisk in controller.daemon.json("vdisk", "list")]
    check(not any("nvme" in name for name in names), names)


def resets(guest):
    guest.sh("nvme reset /dev/nvme0")
    verify(guest)
    guest.sh("p=$(readlink -f /sys/class/nvme/nvme0/device); echo 1 >$p/remove; "
             "[ ! -e /dev/nvme0 ] && echo 1 >/sys/bus/pci/rescan")
    guest.until("ns 1 && ls $(ns 1)p1")
    verify(guest)


def the_engine_dies(controller, guest):
    """Under a load of the guest, whose errors would be seen by cmp and in its kernel's log."""
    guest.sh("mount $(ns 1)p1 /mnt; dmesg -c >/dev/null; " + LOAD)
    guest.until("[ -s /run/ok ]")
    for _ in range(8):
        controller.kill()
        controller.launch()
        controller.wait_ready()
        guest.sh("echo >/run/ok")
        guest.until("[ ! -e /run/bad ] && [ $(cat /run/ok) ]", 60)
    guest.sh("touch /run/stop; wait; cat /run/log; [ ! -e /run/bad ]; umount /mnt")
    log = guest.sh("dmesg")
    check("error" not in log.lower() and "timeout" not in log.lower(), f"the guest logged:\n{log}")


def a_guest_uses_its_disks(daemon):
    controller = ControllerDaemon(daemon, "128M")
    guest = qemu11.Guest(daemon.directory, "guest", qemu11.vfio_user(controller.socket))
    try:
        guest.ready()
        guest.sh(NS + "true")
        for step in (identifies, partition, write_and_check, namespaces_come_and_go,
                     a_format_changes_blocks, a_guest_makes_a_namespace, resets, the_engine_dies):
            began = time.monotonic()
            step(*((controller, guest) if step in (namespaces_come_and_go, the_engine_dies,
                                                   a_format_changes_blocks,
                                                   a_guest_makes_a_namespace) else (guest,)))
            print(f"  {step.__name__}: {time.monotonic() - began:.1f} s", flush=True)
        engine = controller.process.pid
        guest.reboot()
        guest.sh(NS + "true")
        verify(guest)
        guest.power_off()
        check(controller.process.poll() is None and controller.process.pid == engine, "restarted")
        check(controller.keeper_alive(), "the keeper ended")
        shown = daemon.json("nvme", "show", "vm")
        print(f"  {shown['commands']['reads'] + shown['commands']['writes']} commands, "
              f"{shown['keeper']['doorbell_traps']} traps since the last engine began")
    finally:
        guest.done()
        controller.done()


if __name__ == "__main__":
    rig.require("qemu-img")
    qemu11.require()
    sys.exit(rig.main(a_guest_uses_its_disks))
