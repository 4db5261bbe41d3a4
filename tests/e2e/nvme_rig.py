# SPDX-License-Identifier: Apache-2.0
"""Keepers and engines on memory volumes without a daemon, and clients of our own (nvme_client)."""
import json
import os
import select
import signal
import subprocess
import time

import rig
from rig import check, wait_for


def read_line(process, seconds):
    """One line of a process's output, or None when it ended or took too long."""
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    return process.stdout.readline().strip() or None if ready else None


def end(process):
    """For what a failed test left."""
    if process and process.poll() is None:
        process.kill()
        process.wait(rig.SECONDS)


class Keeper:
    def __init__(self, directory, name="vm", doorbells="trapped"):
        self.name = name
        self.link = os.path.join(directory, name + ".link")
        self.socket = os.path.join(directory, name + ".sock")
        self.log = os.path.join(directory, name + ".log")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [os.path.join(rig.BUILD, "sarsen-keeper"), "--name", name, "--link", self.link,
                 "--socket", self.socket, "--doorbells", doorbells],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(self.listens, f"keeper {name}")

    def listens(self):
        if self.process.poll() is not None:
            with open(self.log, encoding="utf-8") as log:
                raise rig.Failure(f"keeper {self.name} ended:\n{log.read()}")
        return os.path.exists(self.link) and os.path.exists(self.socket)

    def kill(self):
        end(self.process)

    def done(self):
        self.kill()
        for path in (self.link, self.socket):
            if os.path.exists(path):
                os.unlink(path)


class MemoryEngine:
    """nvme_memory: its volumes die with it."""

    def __init__(self, *keepers, options=()):
        self.process = subprocess.Popen(
            [os.path.join(rig.BUILD, "tests", "e2e", "nvme_memory"), "--quiet", *options,
             *(keeper.link for keeper in keepers)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = read_line(self.process, rig.SECONDS)
        check(line == "serving", "nvme_memory does not serve")

    def stop(self):
        self.process.stdin.close()
        code = self.process.wait(rig.SECONDS)
        check(code == 0, f"nvme_memory ended with {code}")

    def done(self):
        end(self.process)


class Client:
    """nvme_client: verified load at a keeper's socket."""

    def __init__(self, socket, *options):
        self.process = subprocess.Popen(
            [os.path.join(rig.BUILD, "tests", "crash", "nvme_client"), socket, *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def line(self, seconds):
        line = read_line(self.process, seconds)
        if line is None:
            code = self.process.poll()
            if code is None and not select.select([self.process.stderr], [], [], 1)[0]:
                raise rig.Failure(f"nvme_client says nothing in {seconds} s")
            raise rig.Failure(f"nvme_client ended: {self.process.stderr.read().strip()}")
        return line

    def ready(self, seconds=rig.SECONDS):
        check(self.line(seconds) == "ready", "nvme_client is not ready")
        return self

    def begin(self, word):
        check(self.alive(), "nvme_client has ended")
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def tell(self, word, seconds=rig.SECONDS):
        """Its totals after it did that: show, reset, device-reset, remap."""
        self.check_alive()
        self.begin(word)
        return json.loads(self.line(seconds))

    def line_json(self, seconds):
        return json.loads(self.line(seconds))

    def alive(self):
        return self.process.poll() is None

    def check_alive(self):
        if not self.alive():
            self.line(1)

    def stop(self, seconds=rig.SECONDS):
        totals = self.tell("stop", seconds)
        code = self.process.wait(seconds)
        check(code == 0, f"nvme_client ended with {code}: {self.process.stderr.read()}")
        return totals

    def done(self):
        end(self.process)


class ControllerDaemon:
    """A daemon with one vDisk on one controller; its keeper outlives it."""

    def __init__(self, daemon, size="32M", reactors=1):
        self.daemon = daemon
        self.keepers = []
        daemon.reactors = reactors
        daemon.start()
        daemon.make_pool()
        self.add_disk("disk", size)
        self.socket = self.add_controller("vm", "--manage", "default", "--manage-limit", "1G")
        daemon.cli("nvme", "attach", "vm", "default/disk")

    def add_controller(self, name, *more):
        """Its socket."""
        self.daemon.cli("nvme", "create", name, *more)
        shown = self.daemon.json("nvme", "show", name)
        self.keepers.append(shown["keeper"]["pid"])
        return shown["socket"]

    def add_disk(self, name, size):
        self.daemon.cli("vdisk", "create", f"default/{name}", size)

    @property
    def process(self):
        return self.daemon.process

    def log(self):
        return self.daemon.log()[-4000:]

    def kill(self):
        self.daemon.kill()

    def launch(self, environment=None):
        saved = dict(os.environ)
        os.environ.update(environment or {})
        try:
            self.daemon.launch()
        finally:
            for name in environment or {}:
                del os.environ[name]
            os.environ.update(saved)

    def wait_ready(self):
        wait_for(lambda: self.daemon.cli("node", "show", expect=None).returncode == 0, "the daemon")

    def wait_dead(self, what, client, seconds=rig.SECONDS):
        """It kills itself; the client goes on meanwhile."""
        wait_for(lambda: client.check_alive() or self.process.poll() is not None,
                 f"the engine did not die {what}", seconds)

    def stop(self):
        self.daemon.stop()

    def progress(self, client):
        """The client goes on; what its longest command took meanwhile, in milliseconds."""
        deadline = time.monotonic() + rig.SECONDS
        first, longest = None, 0.0
        while True:
            totals = client.tell("show")
            longest = max(longest, totals["longest_ms"])
            check(totals["longest_message_ms"] < 4000, f"the keeper was slow: {totals}")
            if first is None:
                first = totals["operations"]
            elif totals["operations"] > first + 50:
                return longest
            check(time.monotonic() < deadline, f"no progress: {totals}\n{self.log()}")
            time.sleep(0.01)

    def keeper_alive(self):
        return all(os.path.exists(f"/proc/{pid}") for pid in self.keepers)

    def done(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(rig.SECONDS)
        for pid in self.keepers:
            if os.path.exists(f"/proc/{pid}"):
                os.kill(pid, signal.SIGKILL)
