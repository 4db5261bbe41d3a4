#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The main job: a stock qemu-img copies an image into a vDisk, the daemon is killed in the middle
of the next copy, and every acknowledged byte is there afterwards."""
import os
import subprocess
import sys
import time

import rig
from rig import check, run

MIB = 1 << 20
SIZE = 1024 * MIB


def copy_in(image, url):
    run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "-t", "none", image, url])


def compare(image, url):
    run(["qemu-img", "compare", "-f", "raw", "-F", "raw", image, url])


def url_of(daemon, name):
    return daemon.json("vdisk", "show", name)["url"]


def written(daemon, name):
    return daemon.json("stats", "show", name)[0]["write"]["bytes"]


def start_copy_and_kill(daemon, image, name, after_bytes):
    """SIGKILL to the daemon once the copy has written that much."""
    client = subprocess.Popen(["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "-t", "none",
                               image, url_of(daemon, name)], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + rig.SECONDS
    while written(daemon, name) < after_bytes:
        check(client.poll() is None, "the copy ended before it could be interrupted")
        check(time.monotonic() < deadline, "the copy does not get on")
        time.sleep(0.005)
    daemon.kill()
    client.kill()
    client.wait()


def copies_survive_a_kill(daemon):
    first, second = daemon.path("first"), daemon.path("second")
    rig.make_image(first, 1, SIZE, 64 * MIB)
    rig.make_image(second, 2, SIZE, 160 * MIB)
    daemon.start()
    daemon.make_pool()
    for name in ("default/first", "default/second"):
        daemon.cli("vdisk", "create", name, "1G")
        daemon.cli("iscsi", "export", name)
    copy_in(first, url_of(daemon, "default/first"))
    # An image over the acknowledged one as well: what both agree on must be there in any case.
    start_copy_and_kill(daemon, second, "default/second", 64 * MIB)
    daemon.start()
    compare(first, url_of(daemon, "default/first"))
    # Both are as good as ever: the interrupted copy is made again, and read back in another form.
    copy_in(second, url_of(daemon, "default/second"))
    compare(second, url_of(daemon, "default/second"))
    copy = daemon.path("copy.qcow2")
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", url_of(daemon, "default/second"), copy])
    run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", second, copy])
    daemon.stop()
    daemon.start()
    compare(first, url_of(daemon, "default/first"))
    for name in ("default/first", "default/second"):
        daemon.cli("iscsi", "unexport", name)
        report = daemon.json("vdisk", "check", name, "--data")["result"]
        job = daemon.cli("vdisk", "check", name, "--data", "--no-wait").stdout.strip()
        daemon.cli("job", "cancel", job, expect=None)  # it may have ended already
        daemon.cli("job", "wait", job, expect=None)
        check(daemon.json("job", "show", job)["state"] in ("cancelled", "done"), "cancel")
        check(report["bad_pages"] == report["bad_blocks"] == report["missing_live_blocks"] == 0,
              f"vdisk check {name}: {report}")
        daemon.cli("vdisk", "delete", name, "--yes")
    daemon.stop()


def interrupted_copies_keep_what_was_acknowledged(daemon):
    """Writes of known patterns; killed after the fortieth answer; each of the forty is there."""
    daemon.start()
    daemon.make_pool()
    daemon.cli("vdisk", "create", "default/d", "256M")
    daemon.cli("iscsi", "export", "default/d")
    url = url_of(daemon, "default/d")
    commands = []
    for i in range(64):
        commands += ["-c", f"write -P {i + 1} {i * 4}M 1M"]
        commands += ["-c", f"write -P {200 - i} {i * 4 + 1}M 37k"]
    writer = subprocess.Popen(["qemu-io", "-f", "raw", "-t", "none", *commands, url],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    acknowledged = 0
    for line in writer.stdout:
        acknowledged += line.startswith("wrote ")
        if acknowledged == 40:
            daemon.kill()
            break
    writer.kill()
    writer.communicate()
    check(acknowledged == 40, f"only {acknowledged} writes were acknowledged")
    daemon.start()
    commands = []
    for i in range(20):
        commands += ["-c", f"read -P {i + 1} {i * 4}M 1M"]
        commands += ["-c", f"read -P {200 - i} {i * 4 + 1}M 37k"]
    done = run(["qemu-io", "-f", "raw", *commands, url_of(daemon, "default/d")])
    check("verification failed" not in done.stdout, done.stdout)
    daemon.stop()


def a_kill_while_deleting_is_no_way_out(daemon):
    """A deletion that was answered ends, however often the daemon is killed meanwhile."""
    image = daemon.path("image")
    rig.make_image(image, 3, SIZE, 128 * MIB)
    daemon.start()
    daemon.make_pool()
    daemon.cli("vdisk", "create", "default/d", "1G")
    daemon.cli("iscsi", "export", "default/d")
    copy_in(image, url_of(daemon, "default/d"))
    daemon.cli("iscsi", "unexport", "default/d")
    job = daemon.cli("vdisk", "delete", "default/d", "--yes", "--no-wait").stdout.strip()
    daemon.kill()
    daemon.start()
    daemon.cli("job", "wait", job)
    check(daemon.json("job", "show", job)["state"] == "done", "the job did not end well")
    daemon.cli("vdisk", "show", "default/d", expect=4)
    daemon.cli("container", "delete", "default", "--yes")
    check(daemon.json("pool", "show", "local")["space"]["used_bytes"] == 0, "space is missing")
    daemon.cli("pool", "delete", "local", "--yes")
    daemon.stop()


if __name__ == "__main__":
    rig.require_qemu_iscsi()
    rig.require("qemu-io")
    os.environ.setdefault("LC_ALL", "C")
    sys.exit(rig.main(copies_survive_a_kill, interrupted_copies_keep_what_was_acknowledged,
                      a_kill_while_deleting_is_no_way_out))
