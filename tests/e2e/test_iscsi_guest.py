#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two machines with stock Linux, open-iscsi and multipath-tools: log-in with mutual CHAP, ext4, fio
that verifies, a daemon that ends under load, trim, online resize, multipath that loses paths,
reservations and COMPARE AND WRITE between the two."""
import socket
import sys
import time

import iscsi_guest
import rig
from rig import check, wait_for

MIB = 1 << 20
TARGET = "iqn.2026-11.org.example:disks"
SHARED = "iqn.2026-11.org.example:shared"
SECRET, OWN_SECRET = "a secret of the guest", "what the target knows"
FIO = ("fio --name=v --directory=/mnt --size=24M --rw=randrw --bs=4k-64k --ioengine=libaio "
       "--iodepth=16 --direct=1 --verify=crc32c --verify_fatal=1 --verify_backlog=128 "
       "--time_based --runtime={seconds} --output=/run/fio.log")


def free_port():
    """The daemon must be found again after it was started anew."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Disks:
    """The daemon, and the guests that log in to it."""

    def __init__(self, daemon):
        self.daemon, self.port = daemon, free_port()
        daemon.write_config(f"[iscsi]\nport = {self.port}\n")
        daemon.start()
        daemon.make_pool()
        for target, name, size in ((TARGET, "data", "128M"), (SHARED, "shared", "32M")):
            daemon.cli("iscsi", "target", "create", target)
            daemon.cli("vdisk", "create", f"default/{name}", size)
            daemon.cli("iscsi", "lun", "add", target, f"default/{name}")
        daemon.cli("iscsi", "target", "set", TARGET, "--chap-user", "guest", "--chap-secret",
                   self.secret("in", SECRET), "--mutual-user", "disks", "--mutual-secret",
                   self.secret("out", OWN_SECRET))
        self.guests = [iscsi_guest.Guest(daemon.directory, host) for host in (15, 16)]
        self.one, self.two = self.guests

    def secret(self, name, text):
        with open(self.daemon.path(name), "w", encoding="utf-8") as file:
            file.write(text + "\n")
        return self.daemon.path(name)

    def node(self, target, network=2):
        return f"iscsiadm -m node -T {target} -p 10.0.{network}.2:{self.port}"

    def path(self, target, network=2):
        return f"/dev/disk/by-path/ip-10.0.{network}.2:{self.port}-iscsi-{target}-lun-0"

    def login(self, guest, target, network=2, settings=()):
        node = self.node(target, network)
        guest.sh(f"{node} -o new")
        self.set(guest, node, settings)
        guest.sh(node + " --login")
        guest.until(f"[ -b {self.path(target, network)} ]")

    @staticmethod
    def set(guest, node, settings):
        for name, value in settings:
            guest.sh(f"{node} -o update -n {name} -v '{value}'")

    def done(self):
        for guest in self.guests:
            guest.done()


CHAP = (("node.session.auth.authmethod", "CHAP"), ("node.session.auth.username", "guest"),
        ("node.session.auth.password", SECRET), ("node.session.auth.username_in", "disks"),
        ("node.session.auth.password_in", OWN_SECRET))

SHORT = (("node.session.timeo.replacement_timeout", "5"),)  # the other path takes over

DIGESTS = (("node.conn[0].iscsi.HeaderDigest", "CRC32C"),
           ("node.conn[0].iscsi.DataDigest", "CRC32C"))


def discovers_and_logs_in(disks):
    guest, node = disks.one, disks.node(TARGET)
    found = guest.sh(f"iscsiadm -m discovery -t st -p 10.0.2.2:{disks.port} -o nonpersistent")
    check(TARGET in found and SHARED in found, f"discovery:\n{found}")
    guest.sh(f"{node} -o new")
    guest.sh(f"{node} --login", expect=24)
    for name, code, reason in ((CHAP[2][0], 24, "authorization failure"),
                               (CHAP[4][0], 19, "non-retryable iSCSI login failure")):
        disks.set(guest, node, CHAP + ((name, "not the secret"),))
        said = guest.sh(f"{node} --login", expect=code)
        check(reason in said, f"{name}: {said}")
    disks.login(guest, TARGET, settings=CHAP)
    guest.sh(f"ln -s {disks.path(TARGET)} /run/disk; iscsiadm -m session -P 3")


def makes_a_file_system(disks):
    guest = disks.one
    guest.sh("/sbin/mke2fs -q -t ext4 /run/disk && mount -t ext4 /run/disk /mnt")
    for name in ("a", "b"):
        guest.sh(f"dd if=/dev/urandom of=/mnt/{name} bs=64k count=64 2>/dev/null")
    guest.sh("sha256sum /mnt/a /mnt/b >/mnt/sums")
    remount(guest)
    guest.sh(FIO.format(seconds=4))


def remount(guest, disk="/run/disk"):
    guest.sh(f"umount /mnt && /sbin/e2fsck -fn {disk} && mount -t ext4 {disk} /mnt && "
             "sha256sum -c /mnt/sums")


def another_disk_comes_and_goes(disks):
    guest, daemon = disks.one, disks.daemon
    other = disks.path(TARGET).replace("lun-0", "lun-1")
    daemon.cli("vdisk", "create", "default/other", "16M")
    daemon.cli("iscsi", "lun", "add", TARGET, "default/other")
    guest.until("sync; dmesg | grep 'LUN assignments on this target have changed'")
    guest.sh("iscsiadm -m session --rescan")
    guest.until(f"[ -b {other} ]")
    guest.sh(f"dd if=/run/disk of={other} bs=64k count=4 oflag=direct 2>/dev/null")
    guest.settle()
    guest.sh("d=$(readlink -f %s); echo 1 >/sys/block/${d##*/}/device/delete" % other)
    daemon.cli("iscsi", "lun", "remove", TARGET, "1")
    daemon.cli("vdisk", "delete", "default/other", "--yes")


def live(disks):
    return disks.daemon.json("vdisk", "show", "default/data")["live_bytes"]


def gives_room_back(disks):
    """The daemon counts what is live again when the vDisk has been idle for a while."""
    wait_for(lambda: live(disks) > 24 * MIB, "fio's file is stored")
    disks.one.sh("rm /mnt/v*; sync; /sbin/fstrim /mnt")
    wait_for(lambda: live(disks) < 14 * MIB, f"room comes back, {live(disks)} bytes are live")


def load(guest):
    """Until it is told to end: fio after fio, as it must have an end to verify what it wrote."""
    guest.sh("rm -f /run/end /run/rc; (until [ -e /run/end ] || [ -e /run/rc ]; do "
             f"{FIO.format(seconds=4)} || echo $? >/run/rc; done; echo 0 >>/run/rc) "
             ">/run/fio.err 2>&1 &")
    guest.until("[ -s /mnt/v.0.0 ]")


def load_goes_on(guest):
    guest.sh("[ ! -e /run/rc ] || { cat /run/rc /run/fio.log /run/fio.err; false; }")


def load_ends(guest):
    load_goes_on(guest)
    guest.sh("touch /run/end")
    guest.until("[ -s /run/rc ]", 90)
    guest.sh("[ $(cat /run/rc) = 0 ] || { cat /run/rc /run/fio.log /run/fio.err; false; }")


def restart(disks, end, sessions=1):
    end()
    time.sleep(1)
    disks.daemon.start()
    began = time.monotonic()
    wait_for(lambda: len(disks.daemon.json("iscsi", "sessions")) == sessions, "they come back")
    print(f"    back {time.monotonic() - began:.1f} s after the restart", flush=True)


def the_daemon_ends_under_load(disks):
    guest, daemon = disks.one, disks.daemon
    load(guest)
    for end in (daemon.stop, daemon.kill):
        restart(disks, end)
        time.sleep(4)  # another fio begins
        load_goes_on(guest)
    load_ends(guest)
    remount(guest)


def grows(disks):
    guest = disks.one
    disks.daemon.cli("vdisk", "resize", "default/data", "192M")
    guest.until("sync; dmesg | grep 'Capacity data has changed'")
    guest.sh("iscsiadm -m session --rescan")
    guest.until(f"[ $(blockdev --getsize64 /run/disk) = {192 * MIB} ]")
    guest.sh("/sbin/resize2fs $(readlink -f /run/disk)")
    guest.sh("[ $(df -mP /mnt | awk 'END {print $2}') -gt 160 ]")


def paths(guest, active, failed):
    guest.until("multipath -ll >/run/paths; cat /run/paths; "
                f"[ $(grep -c 'active ready *running' /run/paths) = {active} ] && "
                f"[ $(grep -c failed /run/paths) = {failed} ]", 40)


def assemble(disks):
    """Logs in through both networks; the multipath device."""
    guest = disks.one
    guest.sh("umount /mnt")
    guest.settle()
    guest.sh(f"{disks.node(TARGET)} --logout")
    disks.login(guest, TARGET, 2, CHAP + SHORT)
    disks.login(guest, TARGET, 3, CHAP + SHORT + DIGESTS)
    negotiated = guest.sh("cat /sys/class/iscsi_connection/*/*_digest").split()
    check(sorted(negotiated) == ["0", "0", "1", "1"], f"digests: {negotiated}")
    paths(guest, 2, 0)
    shown = guest.sh("cat /run/paths")
    wwids = set(guest.sh("cat /sys/block/sd?/device/wwid").split("\n")) - {""}
    serial = wwids.pop().split()[-1]
    check(not wwids and len(serial) == 32, f"different identifiers: {serial} {wwids}")
    device = f"/dev/mapper/1SARSEN_{serial}"
    check(f"1SARSEN_{serial} " in shown and "prio=50" in shown and "1 alua" in shown, shown)
    guest.until(f"[ -b {device} ]")
    return device


def paths_are_lost(disks):
    guest, daemon = disks.one, disks.daemon
    device = assemble(disks)
    guest.sh(f"mount -t ext4 {device} /mnt")
    load(guest)
    sessions = daemon.json("iscsi", "sessions")
    daemon.cli("iscsi", "session", "drop", str(sessions[0]["id"]))
    guest.until("iscsiadm -m session | wc -l | grep 2")
    wait_for(lambda: len(daemon.json("iscsi", "sessions")) == 2, "the session comes back")
    guest.sh("ip link set eth1 down")
    paths(guest, 1, 1)
    load_goes_on(guest)
    guest.sh("ip link set eth1 up")
    paths(guest, 2, 0)
    restart(disks, daemon.kill, 2)
    paths(guest, 2, 0)
    load_ends(guest)
    remount(guest, device)
    daemon.cli("vdisk", "resize", "default/data", "256M")
    guest.until("sync; dmesg | grep 'Capacity data has changed'")
    guest.sh("iscsiadm -m session --rescan")
    guest.until(f"[ $(cat /sys/block/sd[ab]/size | sort -u) = {256 * MIB // 512} ]")
    guest.sh(f"multipathd resize map {device.rsplit('/', 1)[1]}")
    guest.sh(f"/sbin/resize2fs {device} && [ $(df -mP /mnt | awk 'END {{print $2}}') -gt 200 ]")
    guest.sh("umount /mnt")
    guest.settle()
    guest.sh(f"multipath -f {device}; iscsiadm -m node --logout")


def persist(guest, line, expect=0):
    return guest.sh(f"sg_persist {line} /run/shared", expect)


def can_write(guest, can=True):
    guest.sh("dd if=/dev/zero of=/run/shared bs=4k count=1 seek=9 oflag=direct",
             expect=0 if can else 1)


def reserve(disks):
    one, two = disks.one, disks.two
    for guest in (one, two):
        disks.login(guest, SHARED)
        guest.sh(f"ln -s {disks.path(SHARED)} /run/shared")
        guest.sh("sg_inq /run/shared; sg_vpd -p di /run/shared; sg_opcodes /run/shared")
    persist(one, "--out --register --param-sark=0xa")
    persist(two, "--out --register --param-sark=0xb")
    persist(one, "--out --reserve --param-rk=0xa --prout-type=1")
    persist(two, "--out --reserve --param-rk=0xb --prout-type=1", 24)  # reservation conflict
    keys = persist(two, "--in --read-keys")
    check("0xa\n" in keys and "0xb\n" in keys, keys)
    check("Key=0xa" in persist(two, "--in --read-reservation"), "the holder")
    can_write(one)
    can_write(two, False)
    two.sh("dd if=/run/shared of=/dev/null bs=4k count=1 iflag=direct")
    persist(two, "--out --preempt --param-rk=0xb --param-sark=0xa --prout-type=1")
    can_write(two)
    can_write(one, False)
    persist(one, "--out --release --param-rk=0xa --prout-type=1", 24)  # not registered any more
    persist(two, "--out --clear --param-rk=0xb")
    can_write(one)
    check("there are NO registered" in persist(one, "--in --read-keys"), "keys after CLEAR")


def begins_with(guest, letter):
    """Busybox's dd is direct only when its blocks have 4 KiB."""
    guest.sh(f"dd if=/run/shared bs=4k count=1 iflag=direct 2>/dev/null | cmp - /run/{letter}")


def compare_and_write(disks):
    one, two = disks.one, disks.two
    for guest in (one, two):
        for letter in "abc":
            guest.sh(f"yes {letter} | head -c 4096 >/run/{letter}")
        guest.sh("cat /run/a /run/b >/run/ab; cat /run/a /run/c >/run/ac")
    one.sh("dd if=/run/a of=/run/shared bs=4k oflag=direct")
    begins_with(two, "a")
    two.sh("sg_compare_and_write --in=/run/ab --lba=0 --num=8 /run/shared")
    begins_with(one, "b")
    said = one.sh("sg_compare_and_write --in=/run/ac --lba=0 --num=8 /run/shared", 14)
    check("iscompare" in said, f"a miscompare: {said}")
    for guest in (one, two):
        begins_with(guest, "b")
        guest.settle()
        guest.sh("iscsiadm -m node --logout")


STEPS = (discovers_and_logs_in, makes_a_file_system, another_disk_comes_and_goes,
         the_daemon_ends_under_load, gives_room_back, grows, paths_are_lost, reserve,
         compare_and_write)

# What their kernels say of a disk that udev still looks at while it goes, of a path that was lost,
# and of a write that a reservation forbids.
ALLOWED = {another_disk_comes_and_goes: "I/O error on dev sdb",
           paths_are_lost: "I/O error.* dev sd",
           reserve: "reservation conflict|critical nexus error"}


def two_machines_use_their_disks(daemon):
    disks = Disks(daemon)
    try:
        for guest in disks.guests:
            guest.start()
        for step in STEPS:
            began = time.monotonic()
            step(disks)
            for guest in disks.guests:
                guest.check_kernel(ALLOWED.get(step))
            print(f"  {step.__name__}: {time.monotonic() - began:.1f} s", flush=True)
        for guest in disks.guests:
            guest.power_off()
        daemon.stop()
    except rig.Failure as error:
        raise rig.Failure("\n".join((str(error), *(guest.daemons_said()
                                                  for guest in disks.guests)))) from error
    finally:
        disks.done()


if __name__ == "__main__":
    iscsi_guest.require()
    sys.exit(rig.main(two_machines_use_their_disks))
