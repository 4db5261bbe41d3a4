# SPDX-License-Identifier: Apache-2.0
"""A virtual machine whose initramfs ends in a shell (initramfs.py) that the test talks to."""
import os
import re
import subprocess
import time

import rig

SECONDS = 90 * max(1, rig.SECONDS / 60)
# Where a kernel says why it ends; what follows may be longer than what a failure shows.
PANIC = re.compile(r"BUG:|Oops|general protection|divide error|Kernel panic|watchdog:|rcu:.*stall")


class Machine:
    """`command` begins with QEMU; this adds the consoles."""

    def __init__(self, directory, name, command, environment=None):
        self.log_path = os.path.join(directory, name + ".console")
        self.errors_path = os.path.join(directory, name + ".errors")
        self.command = [*command, "-display", "none", "-monitor", "none", "-nodefaults",
                        "-serial", f"file:{self.log_path}", "-chardev", "stdio,id=shell,signal=off",
                        "-serial", "chardev:shell"]
        self.environment = environment
        self.boot()

    def boot(self):
        self.count = 0
        with open(self.errors_path, "wb") as errors:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stderr=errors,
                                            stdout=subprocess.PIPE, env=self.environment)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.pending = self.line = b""

    def fail(self, text):
        console = self.console()
        cause = PANIC.search(console)
        if cause and cause.start() < len(console) - 3000:
            text += "\n" + console[cause.start():cause.start() + 3000] + "\n..."
        raise rig.Failure(f"{text}\n{console[-3000:]}")

    def console(self):
        texts = []
        for path in (self.log_path, self.errors_path):
            if not os.path.exists(path):
                continue
            with open(path, encoding="utf-8", errors="replace") as file:
                texts.append(file.read())
        return "\n".join(texts)

    def wait(self, name, seconds=SECONDS):
        """What the shell said until it was done with `name`, and the exit code."""
        mark = re.compile(rb"\n?\001 (%s|again) (\d+)\r?\n" % name.encode())
        deadline = time.monotonic() + seconds
        while not (found := mark.search(self.pending)) or found[1] == b"again":
            if found:
                self.pending = self.pending[found.end():]
                self.send()
            part = self.process.stdout.read()
            if part:
                self.pending += part
                continue
            if self.process.poll() is not None:
                self.fail("QEMU ended")
            if time.monotonic() > deadline:
                self.fail(f"no answer to {name} in time; so far {self.pending[-1000:]}")
            time.sleep(0.01)
        output, self.pending = self.pending[:found.start()], self.pending[found.end():]
        return output.decode(errors="replace").replace("\r", ""), int(found[2])

    def ready(self):
        self.wait("ready")
        return self

    def ready_without_disks(self):
        """As ready(), for a machine that gets its disks later. A kernel that panics before that,
        on a processor that is emulated, says nothing about us: it may boot once more."""
        try:
            return self.ready()
        except rig.Failure as failure:
            if self.process.poll() is None or not PANIC.search(self.console()):
                raise
            print(f"booting once more: {failure}", flush=True)
        self.done()
        self.boot()
        return self.ready()

    def begin(self, line):
        self.count += 1
        line = line.strip().encode()
        self.line = b"%d %d+%d %s\n" % (self.count, self.count, len(line), line)
        self.send()
        return str(self.count)

    def send(self):
        self.process.stdin.write(self.line)
        self.process.stdin.flush()

    def end(self, name, expect=0, seconds=SECONDS):
        output, code = self.wait(name, seconds)
        if expect is not None and code != expect:
            self.fail(f"in the guest, command {name} ended with {code}:\n{output}")
        return output

    def sh(self, line, expect=0, seconds=SECONDS):
        """Runs one line in the guest; what it printed."""
        return self.end(self.begin(line), expect, seconds)

    def until(self, line, seconds=20):
        """Runs it until it succeeds."""
        deadline = time.monotonic() + seconds
        while True:
            output, code = self.wait(self.begin(line))
            if code == 0:
                return output
            if time.monotonic() > deadline:
                self.fail(f"never true in the guest: {line}\n{output}")
            time.sleep(0.1)

    def reboot(self):
        self.begin("sync; reboot -f")
        return self.ready()

    def power_off(self):
        self.begin("sync; poweroff -f")
        code = self.process.wait(SECONDS)
        if code != 0:
            self.fail(f"QEMU ended with {code}")

    def done(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(SECONDS)
        self.process.stdin.close()
        self.process.stdout.close()
