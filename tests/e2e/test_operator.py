#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an operator lives with: completion, events, health, doctor, support bundles."""
import os
import sys

import rig
from rig import check, run


def complete(daemon, *words):
    """What bash offers for the last word."""
    script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _sarsen; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    text = run([os.path.join(rig.BUILD, "sarsen"), "completion", "bash"]).stdout
    with open(daemon.path("completion"), "w", encoding="utf-8") as file:
        file.write(text)
    env = os.environ | {"PATH": rig.BUILD + ":" + os.environ["PATH"],
                        "SARSEN_SOCKET": daemon.socket}
    done = run(["bash", "-c", script, "bash", daemon.path("completion"), "sarsen", *words],
               env=env)
    check(done.stderr == "", done.stderr)
    return done.stdout.split()


def bash_completes(daemon):
    rig.require("bash", "cut")
    daemon.start()
    daemon.make_pool("1G")
    daemon.cli("vdisk", "create", "default/a", "1G")
    check(complete(daemon, "vd") == ["vdisk"], "noun")
    check(complete(daemon, "vdisk", "re") == ["resize", "rename"], "verb")
    check(complete(daemon, "vdisk", "show", "def") == ["default/a"], "name of a vDisk")
    check(complete(daemon, "-o", "json", "pool", "show", "") == ["local"], "name of a pool")
    check(complete(daemon, "vdisk", "create", "") == [], "nothing for a new name")
    check(complete(daemon, "vdisk", "create", "default/b", "1G", "--bl") == ["--block"], "option")
    check(complete(daemon, "vdisk", "create", "default/b", "1G", "--block", "5") == ["512"],
          "choice")
    check(complete(daemon, "-o", "") == ["json", "table"], "format")
    check(complete(daemon, "help", "iscsi", "ex") == ["export"], "after help")
    check(complete(daemon, "container", "create", "x", "--pool", "l") == ["local"], "pool of")
    daemon.stop()


if __name__ == "__main__":
    sys.exit(rig.main(bash_completes))
