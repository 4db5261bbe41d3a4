#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an operator lives with: completion, events, health, doctor, support bundles."""
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
import time

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
    check(complete(daemon, "disk", "drain", "") == ["1", daemon.path("pool")], "a disk")
    check(complete(daemon, "disk", "show", "/") == [daemon.path("pool")], "by its directory")
    check(complete(daemon, "disk", "drain", "1", "--p") == ["--pause"], "option of a disk")
    check(complete(daemon, "nvme", "show", "") == [], "no controller yet")
    check(complete(daemon, "vdisk", "create", "") == [], "nothing for a new name")
    check(complete(daemon, "vdisk", "create", "default/b", "1G", "--bl") == ["--block"], "option")
    check(complete(daemon, "vdisk", "create", "default/b", "1G", "--block", "5") == ["512"],
          "choice")
    check(complete(daemon, "-o", "") == ["json", "table"], "format")
    check(complete(daemon, "help", "iscsi", "ex") == ["export"], "after help")
    check(complete(daemon, "container", "create", "x", "--pool", "l") == ["local"], "pool of")
    check(complete(daemon, "container", "get", "default", "stripe_width", "max_capacity_s") ==
          ["max_capacity_ssd", "max_capacity_san"], "properties")
    check(complete(daemon, "vdisk", "set", "default/a", "str") == ["stripe_width="], "settings")
    check(complete(daemon, "vdisk", "set", "default/a", "max") == [], "not of a vDisk")
    daemon.stop()


def values(daemon, *words):
    return {row["property"]: (row["value"], row["source"]) for row in daemon.json(*words)}


def policies(daemon):
    daemon.start()
    daemon.make_pool("1G")
    daemon.cli("container", "create", "web", "--set", "max_capacity=512M", "--set=space-low=80")
    daemon.cli("vdisk", "create", "web/a", "64M")
    check(values(daemon, "container", "get", "web", "max-capacity", "space_low", "min_reserved") ==
          {"max_capacity": (512 << 20, "container"), "space_low": (80, "container"),
           "min_reserved": (0, "default")}, "of the container")
    told = daemon.cli("-H", "vdisk", "set", "web/a", "stripe-width=7", "tier_order_random=hdd,ssd")
    check([line.split("\t")[:3] for line in told.stdout.splitlines()] ==
          [["stripe_width", "7", "vdisk"], ["tier_order_random", "hdd,ssd", "vdisk"]],
          f"what was set: {told.stdout}")
    daemon.kill()
    daemon.start()
    found = values(daemon, "vdisk", "get", "web/a")
    check(found["stripe_width"] == (7, "vdisk") and
          found["tier_order_random"] == ("hdd,ssd", "vdisk") and "max_capacity" not in found,
          f"of the vDisk: {found}")
    daemon.cli("container", "set", "web", "max_capacity=none", "space_low=default")
    check(values(daemon, "container", "get", "web", "max_capacity", "space_low") ==
          {"max_capacity": (None, "container"), "space_low": (90, "default")}, "taken back")
    error = daemon.json("container", "set", "web", "max_capacity=1G", "min_reserved=2G", expect=2)
    check(error["object"] == "web" and "min_reserved" in error["message"] and error["remedy"],
          f"{error}")
    daemon.json("container", "set", "web", "replication_factor=4", expect=2)
    daemon.json("vdisk", "set", "web/a", "max_capacity=1G", expect=2)
    daemon.cli("container", "set", "nosuch", "stripe_width=1", expect=4)
    check("tier_order_random" in daemon.cli("help", "vdisk", "set").stdout, "help")
    daemon.stop()


# Each property with a value that a pool of one SSD of 2 GiB can have, as it is given and shown.
FINE = {
    "replication_factor": ("1", 1), "max_capacity": ("1G", 1 << 30),
    "max_capacity_ssd": ("1G", 1 << 30), "max_capacity_hdd": ("0", 0),
    "max_capacity_san": ("none", None), "max_capacity_cloud": ("5M", 5 << 20),
    "min_reserved": ("64M", 64 << 20), "min_reserved_ssd": ("32M", 32 << 20),
    "min_reserved_hdd": ("0", 0), "min_reserved_san": ("0", 0), "min_reserved_cloud": ("0", 0),
    "stripe_width": ("64", 64), "tier_order_random": ("ssd", "ssd"),
    "tier_order_sequential": ("cloud,san,hdd,ssd", "cloud,san,hdd,ssd"),
    "space_notice": ("1", 1), "space_low": ("50", 50), "space_critical": ("100", 100),
}

# Out of range, or no value at all.
WRONG = {
    "replication_factor": ("0", "4", "-1", "two", "1.5", ""), "max_capacity": ("0", "-1", "much"),
    "max_capacity_ssd": ("-1", "1Q"), "min_reserved": ("none", "-5"),
    "min_reserved_hdd": ("x",), "stripe_width": ("0", "65", "wide"),
    "tier_order_random": ("", "ssd,", "ssd,ssd", "tape", "ssd hdd"),
    "tier_order_sequential": (",", "ssd,hdd,san,cloud,ssd"),
    "space_notice": ("0", "101"), "space_low": ("x",), "space_critical": ("-1",),
    "no_such_property": ("1",),
}

# In range, but not to be had: together, or in that pool; and what the message has to name.
IMPOSSIBLE = (
    (("max_capacity=64M", "min_reserved=128M"), "min_reserved"),
    (("max_capacity_ssd=1M", "min_reserved_ssd=2M"), "min_reserved_ssd"),
    (("min_reserved=64M", "min_reserved_ssd=65M"), "min_reserved_ssd"),
    (("max_capacity=64M", "min_reserved_ssd=65M"), "min_reserved_ssd"),
    (("space_low=99", "space_critical=98"), "space_low"),
    (("replication_factor=2",), "fewer disks"),
    (("min_reserved_hdd=1M",), "no disk"),
    (("min_reserved=100T",), "no room"),
    (("min_reserved_ssd=100T",), "hold less"),
)


def refuse(daemon, settings, *named):
    result = daemon.cli("-o", "json", "container", "set", "web", *settings, expect=None)
    error = json.loads(result.stdout)["error"]
    check(result.returncode != 0 and error["message"] and error["remedy"], f"{settings}: {error}")
    for word in named:
        check(word in error["message"], f"{settings}: '{word}' is not in {error}")
    return error


def every_property_is_set(daemon):
    daemon.start()
    daemon.make_pool("2G")
    daemon.cli("container", "create", "web")
    before = values(daemon, "container", "get", "web")
    check(set(before) == set(FINE), f"a property without a test: {set(before) ^ set(FINE)}")
    for name, wrong in WRONG.items():
        for value in wrong:
            refuse(daemon, (f"{name}={value}",), name)
    for settings, cause in IMPOSSIBLE:
        error = refuse(daemon, settings, "web", cause)
        check(error["object"] == "web", f"{settings}: {error}")
    check(values(daemon, "container", "get", "web") == before, "what is refused changes nothing")
    daemon.cli("container", "set", "web", *(f"{name}={value}" for name, (value, _) in FINE.items()))
    expected = {name: (shown, "container") for name, (_, shown) in FINE.items()}
    check(values(daemon, "container", "get", "web") == expected, "all are set")
    daemon.kill()
    daemon.start()
    check(values(daemon, "container", "get", "web") == expected, "and stay")
    daemon.cli("container", "set", "web", *(f"{name}=default" for name in FINE))
    check(values(daemon, "container", "get", "web") == before, "and are taken back")
    daemon.stop()


def thresholds_are_told(daemon):
    daemon.start()
    daemon.make_pool("1G")
    daemon.cli("container", "set", "default", "max_capacity=100M", "space_notice=1",
               "space_low=2", "space_critical=20")
    daemon.cli("vdisk", "create", "default/a", "64M")
    url = daemon.cli("iscsi", "export", "default/a").stdout.strip()
    rig.require_qemu_iscsi()
    run(["qemu-io", "-f", "raw", "-c", "write -P 7 0 8M", "-c", "flush", url])
    until(lambda: "container-space-low" in reasons(daemon), "8 % is more than 2 %")
    found = json.loads(daemon.cli("-o", "json", "health", expect=None).stdout)["result"]
    check(any(row["object"] == "default" and row["severity"] == "warning" for row in found),
          f"{found}")
    daemon.cli("container", "set", "default", "max_capacity=none")
    until(lambda: "container-space-ok" in reasons(daemon), "no limit, no events")
    daemon.stop()


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def edit_row(daemon, table, change):
    """Replaces the value of the one row of a table of the catalog."""
    database = sqlite3.connect(daemon.path("state/catalog.db"))
    key, version, value = database.execute(
        "SELECT key, version, value FROM facts WHERE substr(key, 1, 1) = ?",
        (bytes([table]),)).fetchone()
    value = change(value)
    database.execute("UPDATE facts SET value = ?, crc = ? WHERE key = ?",
                     (value, crc32c(key + version.to_bytes(8, "little") + value), key))
    database.commit()
    database.close()


def upgrade_check(daemon, expect):
    done = run(daemon.command("--upgrade-check", "-o", "json"), expect)
    return json.loads(done.stdout)["result"]


def upgrades_are_checked(daemon):
    done = run(daemon.command("--upgrade-check"), 3)
    check("catalog" in done.stderr, done.stderr)
    daemon.start()
    daemon.make_pool("1G")
    daemon.cli("vdisk", "create", "default/a", "64M")
    daemon.cli("pool", "scrub", "local")
    daemon.cli("disk", "locate", "1")
    check(upgrade_check(daemon, 0)["readable"], "beside a running daemon")
    daemon.stop()
    found = upgrade_check(daemon, 0)
    # What this program writes is the newest that it knows of: the check's table is up to date.
    check(found["readable"] and not found["converts"] and found["damaged"] == 0 and
          found["problem"] == "", f"{found}")
    formats = {row["format"]: row for row in found["formats"]}
    for name in ("catalog", "pool row", "disk row", "vDisk row", "disk label", "event row",
                 "scrub row", "place row"):
        check(list(formats[name]["found"]) == [str(formats[name]["newest"])], f"{name}: {formats}")
    check(formats["container row"]["found"] == {"1": 1}, f"{formats}")
    check("as it is" in run(daemon.command("--upgrade-check")).stdout, "text")

    def older(value):
        length = int.from_bytes(value[6:8], "little")
        return b"\1" + bytes(5) + value[6:32] + value[-length:]
    edit_row(daemon, 3, older)
    found = upgrade_check(daemon, 0)
    check(found["readable"] and found["converts"], f"{found}")
    check({row["format"]: row["verdict"] for row in found["formats"]}["disk row"] ==
          "to be converted", f"{found}")
    check("1 of version 1" in run(daemon.command("--upgrade-check")).stdout, "text")
    daemon.start()
    check(daemon.json("pool", "show", "local")["state"] == "online", "version 1 is served")
    notes = [row["cause"] for row in daemon.json("health") if row["object"] == "format"]
    check(notes == ["1 of 'disk row' are older than version 2, which this program writes"],
          f"{notes}")
    daemon.stop()
    edit_row(daemon, 4, lambda value: b"\3" + value[1:])
    found = upgrade_check(daemon, 1)
    check(not found["readable"] and
          {row["format"]: row["verdict"] for row in found["formats"]}["container row"] ==
          "too new", f"{found}")
    check("cannot read" in run(daemon.command("--upgrade-check"), 1).stdout, "text")
    run(daemon.command("--upgrade-check", "-o", "xml"), 2)


def reasons(daemon, *words):
    return [event["reason"] for event in daemon.json("event", "list", *words)]


def until(condition, text):
    deadline = time.monotonic() + rig.SECONDS
    while not condition():
        check(time.monotonic() < deadline, text)
        time.sleep(0.05)


def events_are_durable_and_followed(daemon):
    daemon.start()
    daemon.make_pool("1G")
    daemon.cli("vdisk", "create", "default/a", "1G")
    until(lambda: "node-started" in reasons(daemon), "start")
    with open(daemon.path("followed"), "wb") as output:
        follower = subprocess.Popen(
            [os.path.join(rig.BUILD, "sarsen"), "-s", daemon.socket, "-o", "json", "event",
             "follow", "--after", "0"], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        daemon.cli("vdisk", "check", "default/a")

        def followed():
            with open(daemon.path("followed"), encoding="utf-8") as file:
                return [json.loads(line)["reason"] for line in file if line.endswith("}\n")]
        until(lambda: "job-done" in followed(), "the follower sees the job's end")
    finally:
        follower.kill()
        follower.wait(rig.SECONDS)
    last = daemon.json("event", "list", "--limit", "1")[0]["id"]
    daemon.kill()
    daemon.start()
    until(lambda: "node-recovered" in reasons(daemon, "--after", str(last)), "told after a kill")
    check("vdisk-recovered" in reasons(daemon), "vDisk told after a kill")
    check("REASON" in daemon.cli("event", "list").stdout, "as a table")
    daemon.cli("event", "follow", "--timeout-ms", "1")
    check(len(daemon.cli("-H", "event", "follow", "--after", "0", "--limit", "2")
              .stdout.splitlines()) == 2, "so many at most, then it ends")
    daemon.stop()
    daemon.start()
    until(lambda: reasons(daemon)[-2:] == ["node-stopped", "node-started"], "a clean stop")
    daemon.stop()


def health_tells_what_is_wrong(daemon):
    daemon.start()
    daemon.make_pool("1G")
    daemon.cli("vdisk", "create", "default/a", "512M")
    daemon.cli("iscsi", "export", "default/a")
    check(daemon.json("health") == [], "healthy")
    check(daemon.cli("health", "show").stdout.startswith("SEVERITY"), "as a table")
    daemon.stop()
    os.rename(daemon.path("pool"), daemon.path("gone"))
    daemon.start()
    done = daemon.cli("-o", "json", "health", expect=11)
    found = json.loads(done.stdout)["result"]
    check({row["object"] for row in found} == {"local", "default/a"}, f"{found}")
    check(all(row["cause"] and row["remedy"] and row["severity"] == "error" for row in found),
          f"{found}")
    until(lambda: {"pool-failed", "vdisk-failed", "export-failed"} <= set(reasons(daemon)),
          "events of the failed ones")
    daemon.stop()


def doctor_works_without_the_daemon(daemon):
    rows = run_doctor(daemon, 0, "--directory", daemon.directory)
    verdicts = {row["check"]: row["verdict"] for row in rows}
    check(verdicts["kernel"] == "ok" and verdicts["io_uring"] == "ok", f"{rows}")
    check(verdicts["configuration"] == "ok" and verdicts["directory"] in ("ok", "warn"),
          f"{rows}")
    daemon.write_config("[iscsi]\nport = many\n")
    rows = run_doctor(daemon, 1)
    check(any(row["check"] == "configuration" and row["verdict"] == "fail" and row["remedy"]
              for row in rows), f"{rows}")
    daemon.write_config("[node]\n")
    rows = run_doctor(daemon, 1, "--directory", "/proc")
    check(rows[-2]["verdict"] == "fail", f"{rows}")


def run_doctor(daemon, expect, *words):
    done = daemon.cli("-o", "json", "doctor", "--config", daemon.path("conf"), *words,
                      expect=expect)
    return json.loads(done.stdout)["result"]


def support_bundle_hides_names(daemon):
    daemon.write_config("[iscsi]\nport = 0\n[log]\nlevel = info\n")
    daemon.start()
    daemon.cli("pool", "create", "poolofacme", daemon.path("acmepool"), "--capacity", "1G")
    daemon.cli("container", "create", "acmeweb")
    daemon.cli("vdisk", "create", "acmeweb/payroll", "1G")
    daemon.cli("iscsi", "export", "acmeweb/payroll")
    daemon.cli("vdisk", "create", "acmeweb/shortlived", "1G")
    daemon.cli("vdisk", "delete", "acmeweb/shortlived", "--yes")
    # Of what is no more, only the text of an event tells.
    daemon.cli("disk", "add", "poolofacme", daemon.path("acmegone"), "--capacity", "600M")
    daemon.cli("disk", "drain", daemon.path("acmegone"))
    until(lambda: "disk-drained" in reasons(daemon), "it is seen to be empty")
    daemon.cli("disk", "remove", daemon.path("acmegone"), "--yes")
    with open(daemon.path("conf"), "a", encoding="utf-8") as file:
        file.write("; 10.20.30.40 is the host\n; secret = tellnobody\n")
    words = ("--config", daemon.path("conf"), "--log", daemon.path("log"))
    daemon.cli("support-bundle", daemon.path("plain.tar"), *words)
    daemon.cli("support-bundle", "--redact", daemon.path("redacted.tar"), *words)
    daemon.cli("support-bundle", "--redact", daemon.path("redacted.tar"), *words, expect=5)
    check(os.stat(daemon.path("plain.tar")).st_mode & 0o777 == 0o600, "mode")
    plain, redacted = members(daemon.path("plain.tar")), members(daemon.path("redacted.tar"))
    check(set(plain) == set(redacted), "the same files")
    for name in ("sarsend.conf.txt", "log.txt", "metrics.txt", "doctor.json", "vdisk.list.json",
                 "event.list.json", "health.show.json", "pool.list.json", "stats.show.json"):
        check(len(plain[name]) > 2, f"{name} in {sorted(plain)}")
    check("payroll" in plain["vdisk.list.json"] and "tellnobody" not in "".join(plain.values()),
          "names stay, secrets do not")
    for name, text in redacted.items():
        for word in ("poolofacme", "acme", "payroll", "shortlived", "tellnobody", "10.20.30.40"):
            check(word not in text, f"{word} in {name}:\n{text}")
    disk = json.loads(redacted["vdisk.list.json"])["result"][0]["name"]
    check(disk.startswith("redacted-") and disk in redacted["metrics.txt"], "the same everywhere")
    daemon.stop()
    daemon.cli("support-bundle", "--redact", daemon.path("down.tar"), *words)
    check("unavailable" in members(daemon.path("down.tar"))["vdisk.list.json"], "without a daemon")
    daemon.cli("support-bundle", daemon.path("journal.tar"))
    names = members(daemon.path("journal.tar"))
    check("log.txt" in names or "log.json" in names, "the journal, or why there is none")


def members(path):
    with tarfile.open(path) as archive:
        return {os.path.basename(member.name): archive.extractfile(member).read().decode()
                for member in archive}


if __name__ == "__main__":
    sys.exit(rig.main(bash_completes, policies, every_property_is_set, thresholds_are_told,
                      upgrades_are_checked, events_are_durable_and_followed,
                      health_tells_what_is_wrong, doctor_works_without_the_daemon,
                      support_bundle_hides_names))
