# SPDX-License-Identifier: Apache-2.0
"""Guests with stock open-iscsi and multipath-tools: Debian's kernel, udev, and two network cards,
each in a network of its own in which this machine's 127.0.0.1 is 10.0.N.2."""
import glob
import os
import re

import debian
import initramfs
import rig
from machine import Machine

MODULES = ("crc32c_intel", "crc32c_generic", "virtio_net", "iscsi_tcp", "sd_mod", "sg",
           "dm_multipath", "dm_service_time", "scsi_dh_alua", "ext4")
PROGRAMS = ("usr/sbin/iscsid", "usr/sbin/iscsiadm", "usr/sbin/multipathd", "usr/sbin/multipath",
            "usr/sbin/multipathc", "usr/sbin/dmsetup", "usr/bin/udevadm", "usr/lib/udev/scsi_id",
            "usr/bin/sg_persist", "usr/bin/sg_compare_and_write", "usr/bin/sg_inq",
            "usr/bin/sg_vpd", "usr/bin/sg_opcodes", "usr/bin/sg_rtpg", "usr/bin/fio",
            "usr/sbin/mke2fs", "usr/sbin/e2fsck", "usr/sbin/resize2fs", "usr/sbin/fstrim")
RULES = ("50-udev-default", "55-dm", "55-scsi-sg3_id", "56-dm-mpath", "58-scsi-sg3_symlink",
         "60-block", "60-multipath", "60-persistent-storage", "60-persistent-storage-dm",
         "95-dm-notify", "99-z-dm-mpath-late")
NETWORKS = (2, 3)

# What docs/iscsi.md recommends; the comments there say why.
ISCSID_CONF = """
node.startup = manual
node.session.timeo.replacement_timeout = 120
node.conn[0].timeo.login_timeout = 15
node.conn[0].timeo.noop_out_interval = 2
node.conn[0].timeo.noop_out_timeout = 3
node.session.cmds_max = 128
node.session.queue_depth = 64
node.conn[0].iscsi.HeaderDigest = None
"""
MULTIPATH_CONF = """
defaults {
	find_multipaths yes
	user_friendly_names no
	polling_interval 2
	max_polling_interval 4
}
devices {
	device {
		vendor "SARSEN"
		product ".*"
		path_grouping_policy group_by_prio
		prio alua
		hardware_handler "1 alua"
		path_checker tur
		path_selector "service-time 0"
		failback immediate
		no_path_retry 30
		fast_io_fail_tmo 5
	}
}
"""
UNEXPECTED = re.compile(r"Sense Key|Add\\. Sense|I/O error|Call Trace|blocked for more than|BUG|"
                        r"WARNING|Unhandled|[Ii]nvalid|corrupt|EXT4-fs error|EXT4-fs warning|"
                        r"abort|reset failed|reservation conflict")
NETWORK = """
ip link set lo up
for n in 2 3; do
	ip link set eth$((n - 2)) up
	ip addr add 10.0.$n.{host}/24 dev eth$((n - 2))
done
"""
START = """
mkdir -p /run/lock/iscsi /run/udev /dev/shm
/sbin/udevd --daemon 2>/run/udev.log
udevadm trigger --action=add; udevadm settle
(iscsid -f -d 1 >/run/iscsid.log 2>&1 &)
(multipathd -d >/run/multipathd.log 2>&1 &)
"""


def fill(root):
    source = debian.tree("iscsi")
    initramfs.fill(root, source, PROGRAMS, MODULES)
    for name in RULES:
        rule = f"usr/lib/udev/rules.d/{name}.rules"
        initramfs.copy(os.path.join(source, rule), os.path.join(root, rule), 0o644)
    for path in glob.glob(os.path.join(source, "usr/lib/multipath/*.so")):
        initramfs.copy(path, os.path.join(root, os.path.relpath(path, source)))
    initramfs.write(os.path.join(root, "etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")
    initramfs.write(os.path.join(root, "etc/group"), "".join(
        f"{name}:x:{i}:\n" for i, name in enumerate(
            ("root", "tty", "disk", "kmem", "input", "dialout", "lp", "audio", "video", "cdrom",
             "tape", "sgx", "render", "kvm"))))
    os.makedirs(os.path.join(root, "var/lib/iscsi"))
    os.makedirs(os.path.join(root, "var/lib/multipath"))
    initramfs.write(os.path.join(root, "etc/iscsi/iscsid.conf"), ISCSID_CONF)
    initramfs.write(os.path.join(root, "etc/multipath.conf"), MULTIPATH_CONF)
    os.makedirs(os.path.join(root, "usr/sbin"))
    os.makedirs(os.path.join(root, "usr/bin"))
    for name in PROGRAMS:
        if name.startswith(("usr/sbin/", "usr/bin/")):
            os.symlink("/" + name.removeprefix("usr/"), os.path.join(root, name))
    os.symlink("/bin/udevadm", os.path.join(root, "sbin/udevd"))


def require():
    """Skips the test when guests cannot be run."""
    rig.require("cpio", "qemu-system-x86_64")
    debian.tree("iscsi")


class Guest(Machine):
    """`host` is its address in both networks, and its initiator's name ends with it."""

    def __init__(self, directory, host, memory="512M"):
        self.host = host
        self.initiator = f"iqn.2026-11.org.example:guest{host}"
        command = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max",
                   "-m", memory, "-smp", "1", "-no-reboot",
                   "-kernel", glob.glob(os.path.join(debian.tree("iscsi"), "boot/vmlinuz-*"))[0],
                   "-initrd", initramfs.make(os.path.join(debian.BASE, "initramfs-iscsi"), fill,
                                             __file__),
                   "-append", "console=ttyS0 panic=-1 loglevel=6 net.ifnames=0"]
        for n in NETWORKS:
            command += ["-netdev", f"user,id=n{n},net=10.0.{n}.0/24,restrict=off",
                        "-device", f"virtio-net-pci,netdev=n{n},romfile="]
        super().__init__(directory, f"guest{host}", command)

    def start(self):
        """Waits until it has booted, and starts its daemons."""
        self.ready_without_disks()
        self.script(NETWORK.format(host=self.host))
        self.sh(f"echo InitiatorName={self.initiator} >/etc/iscsi/initiatorname.iscsi")
        self.script(START)
        self.until("iscsiadm -m session; [ $? = 21 ]")  # no session: iscsid answers
        self.sh("dmesg -c >/dev/null")
        return self

    def settle(self):
        """Udev looks again at a disk that was written, soon after it was closed."""
        self.sh("sleep 0.3; udevadm settle")

    def script(self, text):
        return self.sh("; ".join(text.strip().split("\n")).replace("do; ", "do "))

    def daemons_said(self):
        """Of a failed test; the guest may hang."""
        try:
            return self.sh("tail -n 30 /run/iscsid.log /run/multipathd.log; dmesg | tail -n 40",
                           None, 5)
        except rig.Failure:
            return ""

    def check_kernel(self, allowed=None):
        """Nothing that a good target gives no reason for is in its log since the last time."""
        bad = [line for line in self.sh("dmesg -c").splitlines() if UNEXPECTED.search(line)]
        bad = [line for line in bad if not (allowed and re.search(allowed, line))]
        if bad:
            self.fail("the guest's kernel said:\n" + "\n".join(bad))
