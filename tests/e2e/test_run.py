#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/run, which is `make run` without the build: from nothing to a served vDisk, and again, the
keeper of its controller being the same."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import rig
from rig import check, run

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "run")
URL = re.compile(r"iscsi://127\.0\.0\.1:(\d+)/\S+")


class Demo:
    """A copy of the script in a tree of its own, so that its run/ is there."""

    def __init__(self, directory):
        self.directory = directory
        os.mkdir(os.path.join(directory, "tools"))
        shutil.copy(TOOL, os.path.join(directory, "tools", "run"))
        self.output = os.path.join(directory, "output")
        self.process = None

    def start(self):
        with open(self.output, "wb") as output:
            command = [os.path.join(self.directory, "tools", "run"), rig.BUILD]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output,
                                            stderr=output)
        deadline = time.monotonic() + rig.SECONDS
        while "Ctrl-C ends the daemon" not in self.text():
            check(self.process.poll() is None, f"it ended:\n{self.text()}")
            check(time.monotonic() < deadline, f"it does not get ready:\n{self.text()}")
            time.sleep(0.05)
        return URL.search(self.text())

    def text(self):
        with open(self.output, encoding="utf-8") as file:
            return file.read()

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(rig.SECONDS)
        check(code == 0, f"Ctrl-C ended it with {code}:\n{self.text()}")

    def cli(self, *words):
        return run([os.path.join(rig.BUILD, "sarsen"), "-s",
                    os.path.join(self.directory, "run", "sarsend.sock"), *words]).stdout


def serves_a_disk_from_the_first_start_on(daemon):
    demo = Demo(daemon.directory)
    try:
        url = demo.start()
        check(url, f"no URL in:\n{demo.text()}")
        check(f"qemu-img convert -n -f qcow2 -O raw IMAGE.qcow2 {url[0]}" in demo.text(), "convert")
        check(re.search(f"qemu-system-x86_64 .*file={re.escape(url[0])}\\s", demo.text()), "QEMU")
        check("default/disk0\t10G\t" in demo.cli("-H", "vdisk", "list"), "disk0")
        device = json.dumps({"driver": "vfio-user-pci", "socket": {
            "type": "unix", "path": os.path.join(demo.directory, "run/nvme/demo.sock")}},
                            separators=(",", ":"))
        check("-M q35,memory-backend=mem" in demo.text() and f"-device '{device}'" in demo.text(),
              demo.text())
        check("demo\t1\tdefault/disk0\t10G\t" in demo.cli("-H", "nvme", "namespaces"), "demo")
        keepers = rig.keepers_below(demo.directory)
        check(len(keepers) == 1, f"keepers: {keepers}")
        # The port is taken now: a second one beside it takes another, and touches nothing of ours.
        other = rig.Daemon(config="[iscsi]\n")
        try:
            second = Demo(other.directory)
            beside = second.start()
            check(beside[1] != url[1], "two on one port")
            second.interrupt()
        finally:
            if second.process.poll() is None:
                second.process.kill()
            other.done()
        run(["qemu-io", "-f", "raw", "-c", "write -P 42 1G 1M", url[0]])
        demo.interrupt()
        url = demo.start()
        read = run(["qemu-io", "-f", "raw", "-c", "read -P 42 1G 1M", url[0]])
        check("verification failed" not in read.stdout, read.stdout)
        check(len(demo.cli("-H", "vdisk", "list").splitlines()) == 1, "a second disk")
        check(rig.keepers_below(demo.directory) == keepers, "another keeper")
        check(f"-device '{device}'" in demo.text(), demo.text())
        demo.interrupt()
    finally:
        if demo.process and demo.process.poll() is None:
            demo.process.kill()
            demo.process.wait(rig.SECONDS)


def readme_commands(directory):
    """Those of README.md that administer, as a person would complete them."""
    secret = os.path.join(directory, "secret")
    with open(secret, "w", encoding="utf-8") as file:
        file.write("a secret of the host\n")
    for name in ("second", "third"):
        os.mkdir(os.path.join(directory, name))
    with open(os.path.join(os.path.dirname(TOOL), "..", "README.md"), encoding="utf-8") as file:
        text = file.read().replace("\\\n", " ")
    for line in re.findall(r"^    build/sarsen (.*)$", text, re.MULTILINE):
        words = line.split("#")[0].replace("/mnt/", directory + "/").split()
        yield [{"DISK": "1", "FILE": secret}.get(word, word) for word in words]


def readme_can_be_followed(daemon):
    """From top to bottom, after `make run`: each command works."""
    demo = Demo(daemon.directory)
    try:
        demo.start()
        check("next: " not in demo.text(), f"what is done already:\n{demo.text()}")
        commands = list(readme_commands(daemon.directory))
        check(len(commands) >= 15, f"{commands}")
        for words in commands:
            demo.cli(*words)
        check("default/vm1" in demo.cli("nvme", "namespaces"), "the last ones")
        for name in ("demo", "vm1"):
            demo.cli("nvme", "delete", name)
        demo.interrupt()
    finally:
        if demo.process and demo.process.poll() is None:
            demo.process.kill()
            demo.process.wait(rig.SECONDS)


if __name__ == "__main__":
    rig.require_qemu_iscsi()
    rig.require("qemu-io", "bash", "awk")
    sys.exit(rig.main(serves_a_disk_from_the_first_start_on, readme_can_be_followed))
