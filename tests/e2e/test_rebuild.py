#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The catalog and all its mirrors are gone: sarsen-fsck --rebuild-catalog makes it again from the
disks, and the daemon serves every byte."""
import glob
import json
import os
import shutil
import subprocess
import sys

import rig
from rig import check, run

FSCK = os.path.join(rig.BUILD, "sarsen-fsck")
LOAD = ["qemu-img", "bench", "-f", "raw", "-w", "-s", "16k", "-S", "80k"]
SIZE = 64 << 20


def rebuild(daemon, *words, expect=0):
    return run([FSCK, "--state", daemon.path("state"), "--rebuild-catalog", *words], expect=expect)


def fsck(daemon):
    done = run([FSCK, "--state", daemon.path("state"), "-n", "-o", "json"])
    return json.loads(done.stdout)


def begin(daemon):
    daemon.start()
    daemon.make_pool("1G")
    daemon.cli("disk", "add", "local", daemon.path("second"), "--capacity", "1G")
    daemon.cli("container", "create", "two", "--set", "replication_factor=2")
    daemon.cli("vdisk", "create", "default/one", "64M")
    daemon.cli("vdisk", "create", "two/both", "64M")
    daemon.cli("vdisk", "create", "two/gone", "64M")
    return {name: daemon.cli("iscsi", "export", name).stdout.strip()
            for name in ("default/one", "two/both", "two/gone")}


def write_image(daemon, seed, url):
    path = daemon.path(f"image-{seed}")
    rig.make_image(path, seed, SIZE, SIZE // 2)
    run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", path, url])
    return path


def lose_everything(daemon):
    for path in glob.glob(daemon.path("state/catalog.db*")):
        os.unlink(path)
    for disk in ("pool", "second"):
        shutil.rmtree(daemon.path(f"{disk}/catalog"))


def serves(daemon, images):
    """All bytes; exports are to be made again."""
    check(daemon.json("iscsi", "list") == [], "exports are gone")
    for name, path in images.items():
        url = daemon.cli("iscsi", "export", name).stdout.strip()
        run(["qemu-img", "compare", "-f", "raw", "-F", "raw", path, url])


def everything_comes_back(daemon):
    directories = [daemon.path("pool"), daemon.path("second")]
    urls = begin(daemon)
    images = {"default/one": write_image(daemon, 1, urls["default/one"]),
              "two/both": write_image(daemon, 2, urls["two/both"])}
    write_image(daemon, 3, urls["two/gone"])
    daemon.cli("iscsi", "unexport", "two/gone")
    daemon.cli("vdisk", "delete", "two/gone", "--yes")
    daemon.cli("vdisk", "resize", "default/one", "96M")
    with open(images["default/one"], "r+b") as file:
        file.truncate(96 << 20)
    text = rebuild(daemon, *directories, expect=8).stderr
    check("stop it first" in text, text)
    daemon.kill()
    text = rebuild(daemon, *directories, expect=8).stdout
    check("refused: " in text and "nothing was done" in text, text)
    os.rename(daemon.path("state/catalog.db"), daemon.path("state/kept"))
    text = rebuild(daemon, *directories, expect=8).stdout
    check("--restore-catalog" in text, text)
    lose_everything(daemon)
    text = rebuild(daemon, directories[0], expect=8).stdout
    check("disk 2 of pool" in text, text)
    seen = json.loads(rebuild(daemon, "-n", "-o", "json", *directories).stdout)
    check(not seen["written"] and seen["doubts"] == 0, f"{seen}")
    check(sorted(v["name"] for v in seen["vdisks"]) == ["both", "one"], f"{seen}")
    check(not os.path.exists(daemon.path("state/catalog.db")), "-n writes nothing")
    text = rebuild(daemon, *directories).stdout
    check("a new catalog is in place" in text and "export the vDisks again" in text, text)
    found = fsck(daemon)
    check(found["errors"] == 0 and found["vdisks"] == 2, f"clean: {found}")
    daemon.start()
    sizes = {v["name"]: v["size_bytes"] for v in daemon.json("vdisk", "list")}
    check(sizes == {"default/one": 96 << 20, "two/both": SIZE}, f"{sizes}")
    serves(daemon, images)
    factor = daemon.cli("container", "get", "two").stdout
    check("2" in factor, factor)
    daemon.stop()
    check(fsck(daemon)["errors"] == 0, "clean after that")


def after_a_kill_under_load(daemon):
    """Flushed data are there; a second loss, from --state's own hint of where disks are."""
    urls = begin(daemon)
    image = write_image(daemon, 4, urls["two/both"])
    load = subprocess.Popen([*LOAD, "-c", "400000", urls["default/one"]],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        load.wait(timeout=2)
    except subprocess.TimeoutExpired:
        pass
    daemon.kill()
    load.kill()
    load.wait(timeout=60)
    os.truncate(daemon.path("state/catalog.db"), 4096)
    for disk in ("pool", "second"):
        for name in glob.glob(daemon.path(f"{disk}/catalog/*")):
            os.truncate(name, 100)
    rebuild(daemon)
    check(glob.glob(daemon.path("state/catalog.db.replaced-*")), "what was there is kept")
    check(fsck(daemon)["errors"] == 0, "clean")
    daemon.start()
    serves(daemon, {"two/both": image})
    names = sorted(v["name"] for v in daemon.json("vdisk", "list"))
    check("default/one" in names and "two/both" in names, f"{names}")
    rig.wait_for(lambda: all(row["state"] == "good" for row in daemon.json("catalog", "show")
                             if row["kind"] == "mirror"), "new mirrors")
    daemon.stop()


if __name__ == "__main__":
    rig.require_qemu_iscsi()
    sys.exit(rig.main(everything_comes_back, after_a_kill_under_load))
