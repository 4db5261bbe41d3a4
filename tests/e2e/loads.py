# SPDX-License-Identifier: Apache-2.0
"""The load generator of tests/crash (iscsi_load.c says what it does), for tests in Python."""
import os
import selectors
import subprocess

import rig
from rig import check


class Load:
    """A load generator, which remembers its disk over connections and daemons."""

    def __init__(self, mib, seed):
        program = os.path.join(rig.BUILD, "tests", "crash", "iscsi_load")
        self.process = subprocess.Popen([program, str(mib), str(seed)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def begin(self, command, url):
        self.process.stdin.write(f"{command} {url}\n")
        self.process.stdin.flush()

    def end(self, expect="done"):
        """The numbers of the answer; the first word must be the expected one (None: any)."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            check(selector.select(4 * rig.SECONDS), "the load generator does not answer")
        words = self.process.stdout.readline().split()
        check(words, "the load generator ended; what it found is on standard error")
        check(expect in (None, words[0]), f"'{words[0]}' instead of '{expect}'")
        numbers = dict(word.split("=") for word in words[1:])
        return {"lost": words[0] == "lost", **{k: int(v) for k, v in numbers.items()}}

    def run(self, command, url):
        self.begin(command, url)
        return self.end()

    def close(self):
        self.process.kill()
        self.process.communicate()
