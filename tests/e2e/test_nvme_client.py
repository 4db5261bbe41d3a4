#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A keeper and an engine on memory volumes against clients of our own: the protocol, commands,
verified load with each kind of doorbell, and clients that must not harm each other."""
import os
import random
import socket
import struct
import sys
import time

import rig
from nvme_rig import Client, Keeper, MemoryEngine
from rig import check, run

SECONDS = 10 if os.environ.get("SARSEN_SLOW") else 1.5


class Stage:
    """Keepers, an engine for them, and clients; all end with it."""

    def __init__(self, directory, count=1, doorbells="trapped", options=()):
        self.all = []
        try:
            self.keepers = [self.add(Keeper(directory, f"vm{i}", doorbells)) for i in range(count)]
            self.engine = self.add(MemoryEngine(*self.keepers, options=options))
        except rig.Failure:
            self.__exit__()
            raise

    def add(self, what):
        self.all.append(what)
        return what

    def client(self, index, *options):
        return self.add(Client(self.keepers[index].socket, *options))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for what in reversed(self.all):
            what.done()


def program(name, *arguments):
    done = run([os.path.join(rig.BUILD, "tests", "e2e", name), *arguments], None)
    check(done.returncode == 0, f"{name}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")


def speaks_the_protocol(daemon):
    for doorbells in ("trapped", "mapped"):
        with Stage(daemon.directory, 1, doorbells) as stage:
            program("nvme_wire", stage.keepers[0].socket)
            stage.engine.stop()


def executes_commands(daemon):
    with Stage(daemon.directory) as stage:
        program("nvme_commands", stage.keepers[0].socket)
        stage.engine.stop()


def keeps_what_a_load_writes(daemon):
    for doorbells, kind in (("trapped", "shadow"), ("trapped", "trapped"), ("mapped", "mapped")):
        for block in ("512", "4096"):
            with Stage(daemon.directory, 1, doorbells, ("--block", block)) as stage:
                client = stage.client(0, "--doorbells", kind, "--seed", block).ready()
                time.sleep(SECONDS)
                for word in ("remap", "reset", "device-reset", "remap", "show"):
                    client.tell(word)
                totals = client.stop()
                stage.engine.stop()
            check(totals["operations"] > 1000, f"few operations: {totals}")
            print(f"  {kind}, blocks of {block}: {totals['operations']} commands, "
                  f"{totals['traps']} traps, {totals['swaps']} fused, {totals['copies']} copies")


def message(command, body, flags=0, identifier=1):
    return struct.pack("<HHIII", identifier, command, 16 + len(body), flags, 0) + body


def scribble(path, chance):
    """A client that sends nonsense, some of it nearly valid; and hangs up."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(0.2)
        connection.connect(path)
        try:
            if chance.random() < 0.8:
                connection.sendall(message(1, struct.pack("<HH", 0, 0) + b'{"capabilities":{}}\0'))
            for _ in range(chance.randrange(1, 60)):
                kind = chance.random()
                if kind < 0.5:  # a register, doorbell, or the MSI-X table
                    data = chance.randbytes(chance.choice((1, 2, 4, 8, 16)))
                    body = struct.pack("<QII", chance.randrange(4 * 4096) & ~3,
                                       chance.choice((0, 0, 0, 7)), len(data)) + data
                    connection.sendall(message(10, body, chance.choice((0, 16))))
                elif kind < 0.9:
                    connection.sendall(message(chance.randrange(20),
                                               chance.randbytes(chance.randrange(64))))
                else:
                    connection.sendall(chance.randbytes(chance.randrange(1, 200)))
            connection.recv(65536)
        except OSError:
            pass  # it hung up on us, which is its right


def one_scribbles_and_another_is_untouched(daemon):
    chance = random.Random(5)
    with Stage(daemon.directory, 3) as stage:
        quiet = stage.client(1, "--seed", "7", "--plain").ready()
        deadline = time.monotonic() + 2 * SECONDS
        count = 0
        while time.monotonic() < deadline:
            scribble(stage.keepers[0].socket, chance)
            count += 1
            check(quiet.alive(), "the other client ended")
        check(stage.keepers[0].process.poll() is None, "the keeper ended")
        # After all that it serves whoever behaves, from scratch.
        time.sleep(0.2)
        again = stage.client(0, "--plain").ready()
        again.stop()
        # A keeper that is killed hurts its own virtual machine only.
        hurt = stage.client(2, "--plain").ready()
        stage.keepers[2].kill()
        totals = quiet.tell("show")
        check(totals["operations"] > 100, f"few operations: {totals}")
        quiet.stop()
        hurt.process.wait(rig.SECONDS)
        stage.engine.stop()
        print(f"  {count} clients scribbled, beside {totals['operations']} commands of another")


if __name__ == "__main__":
    sys.exit(rig.main(speaks_the_protocol, executes_commands, keeps_what_a_load_writes,
                      one_scribbles_and_another_is_untouched))
