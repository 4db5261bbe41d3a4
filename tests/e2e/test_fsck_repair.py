#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A pool with two copies of everything is stopped and damaged in all ways that leave one of them:
sarsen-fsck shows it and changes nothing, puts it right, finds nothing then, and the daemon makes
again what was called stale and serves every byte. A state that was set back changes nothing."""
import glob
import hashlib
import json
import os
import random
import shutil
import sys

import rig
from rig import check, run

BLOCK = 4096
FSCK = os.path.join(rig.BUILD, "sarsen-fsck")
SIZE = 64 << 20
ORPHAN = "pool/groups/55/0000000000777755.eg"


def fsck(daemon, *words, expect=0):
    done = run([FSCK, "--state", daemon.path("state"), "-o", "json", *words], expect=expect)
    return json.loads(done.stdout)


def kinds(found):
    return {finding["code"] for finding in found["findings"]}


def tree(*directories):
    """A hash of all bytes of each file."""
    found = {}
    for directory in directories:
        for top, _, names in os.walk(directory):
            for name in names:
                with open(os.path.join(top, name), "rb") as file:
                    found[os.path.join(top, name)] = hashlib.file_digest(file, "sha256").digest()
    return found


def everything(daemon):
    return tree(daemon.path("pool"), daemon.path("second"), daemon.path("state"))


def groups(daemon, disk):
    """Files with something in them, largest first."""
    def is_used(path):
        with open(path, "rb") as file:
            return any(file.read(BLOCK))
    names = glob.glob(daemon.path(f"{disk}/groups/*/*.eg"))
    return sorted(filter(is_used, names), key=lambda name: (-os.path.getsize(name), name))


def begin(daemon):
    daemon.start()
    daemon.cli("pool", "create", "local", daemon.path("pool"), "--capacity", "1G")
    daemon.cli("disk", "add", "local", daemon.path("second"), "--capacity", "1G")
    daemon.cli("container", "create", "default", "--set", "replication_factor=2")
    daemon.cli("vdisk", "create", "default/d", "64M")
    url = daemon.cli("iscsi", "export", "default/d").stdout.strip()
    image = daemon.path("image")
    for seed in (1, 2, 3):
        rig.make_image(image, seed, SIZE, SIZE // 2)
        run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, url])
    return image


def flip(path, drawn, part):
    """A bit in one of so many blocks."""
    with open(path, "r+b") as file:
        for block in range(drawn.randrange(part), os.path.getsize(path) // BLOCK, part):
            at = block * BLOCK + drawn.randrange(BLOCK)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << drawn.randrange(8)]))


def damage(daemon):
    """On each file one copy in one way."""
    drawn = random.Random(5)
    hit = 0
    for number, path in enumerate(groups(daemon, "pool")):
        other = path.replace(daemon.path("pool"), daemon.path("second"))
        check(os.path.exists(other), f"{path} has two copies")
        victim = path if number % 2 else other
        hit += 1
        if number % 5 == 0:
            os.unlink(victim)
        elif number % 5 == 1:
            os.truncate(victim, os.path.getsize(victim) // 2 // BLOCK * BLOCK)
        elif number % 5 == 2:
            with open(victim, "r+b") as file:  # as it was before most of it was written
                file.seek(8 * BLOCK)
                file.write(bytes(os.path.getsize(victim) - 8 * BLOCK))
        else:
            flip(victim, drawn, 9)
    check(hit > 4, f"there are {hit} files to damage")
    with open(daemon.path(ORPHAN), "wb") as file:
        file.write(bytes(64 * BLOCK))


def is_healthy(daemon):
    copies = daemon.json("pool", "show", "local")["copies"]
    return all(copies[key] == 0 for key in ("to_copy_bytes", "to_drop_bytes", "degraded_bytes",
                                            "lost_bytes"))


def damaged_copies_are_put_right(daemon):
    image = begin(daemon)
    check("stop it first" in run([FSCK, "--state", daemon.path("state")], expect=8).stderr,
          "refused while the daemon runs")
    daemon.stop()
    check(fsck(daemon, "-n")["errors"] == 0, "sound")
    damage(daemon)
    before = everything(daemon)
    shown = fsck(daemon, "-n", expect=4)
    check(shown["errors"] > 4 and shown["corrected"] == 0, f"shown: {shown}")
    check(all(finding["done"] is None for finding in shown["findings"]), "nothing is done")
    check(everything(daemon) == before, "-n writes nothing")
    found = fsck(daemon, expect=1)
    check(found["left"] == 0 and found["corrected"] == shown["errors"], f"corrected: {found}")
    check(all(finding["done"] for finding in found["findings"]), f"all is done: {found}")
    check({"copy-damaged", "copy-old", "file-missing", "file-left"} <= kinds(found),
          f"of each kind: {kinds(found)}")
    again = fsck(daemon)
    check(again["findings"] == [], f"nothing is left: {again}")
    check(not os.path.exists(daemon.path(ORPHAN)), "the empty file is gone")
    made_again(daemon, image)


def made_again(daemon, image):
    """What was called stale. The mirrors know it, too: the catalog is made from one."""
    os.unlink(daemon.path("state/catalog.db"))
    os.unlink(daemon.path("state/catalog.db-wal"))
    daemon.start()
    rig.wait_for(lambda: is_healthy(daemon), "healthy", 120)
    url = daemon.json("iscsi", "list")[0]["url"]
    run(["qemu-img", "compare", "-f", "raw", "-F", "raw", image, url])
    daemon.stop()
    found = fsck(daemon, "-n")
    check(found["errors"] == 0, f"sound again: {found}")
    shutil.rmtree(daemon.path("second"))  # each copy alone has all
    daemon.start()
    url = daemon.json("iscsi", "list")[0]["url"]
    run(["qemu-img", "compare", "-f", "raw", "-F", "raw", image, url])
    daemon.kill()


def a_state_that_was_set_back(daemon):
    begin(daemon)
    daemon.stop()
    shutil.copytree(daemon.path("state"), daemon.path("old"))
    daemon.start()
    daemon.cli("vdisk", "create", "default/e", "64M")
    url = daemon.cli("iscsi", "export", "default/e").stdout.strip()
    run(["qemu-img", "bench", "-f", "raw", "-w", "-s", "64k", "-c", "500", url])
    daemon.stop()
    shutil.rmtree(daemon.path("state"))
    shutil.copytree(daemon.path("old"), daemon.path("state"))
    before = tree(daemon.path("pool"), daemon.path("second"))
    found = fsck(daemon, expect=4)
    check("repair" in kinds(found) and found["corrected"] == 0, f"refused: {found}")
    check(any("set back" in finding["cause"] for finding in found["findings"]), f"why: {found}")
    check(tree(daemon.path("pool"), daemon.path("second")) == before, "the disks are untouched")


if __name__ == "__main__":
    rig.require_qemu_iscsi()
    sys.exit(rig.main(damaged_copies_are_put_right, a_state_that_was_set_back))
