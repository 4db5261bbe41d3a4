#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The command line and the API of a real daemon: every verb in both forms, and bad input."""
import os
import sys

import rig
from rig import check


def every_verb_in_both_forms(daemon):
    daemon.start()
    table = daemon.cli("pool", "create", "local", daemon.path("pool"), "--capacity", "1G").stdout
    check(table.startswith("NAME") and "online" in table, table)
    check(daemon.json("pool", "show", "local")["space"]["capacity_bytes"] == 1 << 30, "capacity")
    check(daemon.cli("-Hp", "pool", "list").stdout.split("\t")[2] == str(1 << 30), "exact")
    daemon.cli("container", "create", "web")
    check(daemon.json("container", "list")[0]["name"] == "web", "container list")
    daemon.cli("container", "show", "web")
    disk = daemon.json("vdisk", "create", "web/Root", "10G", "--block", "4096")
    check(disk["size_bytes"] == 10 << 30 and disk["block_bytes"] == 4096, f"{disk}")
    check(daemon.cli("-H", "vdisk", "list").stdout.startswith("web/Root\t10G\t"), "vdisk list")
    check(len(daemon.json("vdisk", "list", "--container", "web")) == 1, "vdisk list --container")
    daemon.cli("vdisk", "show", "web/Root")
    check(daemon.json("vdisk", "resize", "web/Root", "12G")["size_bytes"] == 12 << 30, "grow")
    daemon.cli("vdisk", "resize", "web/Root", "11G", "--shrink", "--yes")
    daemon.cli("vdisk", "rename", "web/Root", "web/disk_1")
    daemon.cli("vdisk", "flush", "web/disk_1")
    url = daemon.cli("iscsi", "export", "web/disk_1").stdout.strip()
    check(url.startswith("iscsi://127.0.0.1:") and url.endswith(":web.disk-1/0"), url)
    check(daemon.json("iscsi", "list")[0]["url"] == url, "iscsi list")
    check(daemon.json("iscsi", "sessions") == [], "iscsi sessions")
    daemon.cli("stats", "show", "web/disk_1")
    check(daemon.json("stats", "show")[0]["name"] == "web/disk_1", "stats show")
    node = daemon.json("node", "show")
    check(node["vdisks"] == 1 and node["failed_vdisks"] == 0, f"{node}")
    check("reactors" in daemon.cli("node", "show").stdout, "node show")
    daemon.cli("iscsi", "unexport", "web/disk_1")
    check("bad-blocks" in daemon.cli("vdisk", "check", "web/disk_1").stdout, "vdisk check")
    check(daemon.json("vdisk", "delete", "web/disk_1", "--yes")["state"] == "done", "delete")
    jobs = daemon.json("job", "list")
    check([job["kind"] for job in jobs] == ["vdisk.check", "vdisk.delete"], f"{jobs}")
    daemon.cli("job", "show", str(jobs[1]["id"]))
    daemon.cli("job", "wait", str(jobs[1]["id"]))
    daemon.cli("job", "cancel", str(jobs[1]["id"]), expect=5)
    daemon.cli("container", "delete", "web", "--yes")
    daemon.cli("pool", "delete", "local", "--yes")
    daemon.stop()


def errors_are_clear(daemon):
    """Exit code, code and object of each refusal, and that nothing was changed."""
    daemon.start()
    daemon.make_pool("1G")
    daemon.cli("vdisk", "create", "default/d", "1G")
    daemon.cli("iscsi", "export", "default/d")
    long_name = "n" * 64
    for words, code, error in (
            (("vdisk", "show", "default/x"), 4, "not-found"),
            (("vdisk", "create", "other/x", "1G"), 4, "not-found"),
            (("pool", "show", "x"), 4, "not-found"),
            (("container", "show", "x"), 4, "not-found"),
            (("container", "create", "x", "--pool", "y"), 4, "not-found"),
            (("iscsi", "unexport", "default/x"), 4, "not-found"),
            (("job", "show", "99"), 4, "not-found"),
            (("stats", "show", "default/x"), 4, "not-found"),
            (("vdisk", "create", "default/d", "1G"), 5, "exists"),
            (("container", "create", "default"), 5, "exists"),
            (("pool", "create", "local", daemon.path("pool2")), 5, "exists"),
            (("iscsi", "export", "default/d"), 5, "exists"),
            (("pool", "create", "p2", daemon.path("pool")), 5, "not-empty"),
            (("pool", "create", "p2", daemon.path("state")), 5, "not-empty"),
            (("pool", "delete", "local", "--yes"), 5, "not-empty"),
            (("container", "delete", "default", "--yes"), 5, "not-empty"),
            (("vdisk", "delete", "default/d", "--yes"), 5, "busy"),
            (("pool", "create", "p2", "relative"), 2, "invalid-request"),
            (("pool", "create", "p2", daemon.path("a/b/c")), 2, "invalid-request"),
            (("pool", "create", "p2", daemon.path("p2"), "--capacity", "1M"), 2, "invalid-size"),
            (("vdisk", "create", "default/x", "0"), 2, "invalid-size"),
            (("vdisk", "create", "default/x", "-5"), 2, "invalid-request"),  # an unknown option
            (("vdisk", "create", "default/x", "--size=-5"), 2, "invalid-size"),
            (("vdisk", "create", "default/x", "1000001"), 2, "invalid-size"),
            (("vdisk", "create", "default/x", "65T"), 2, "invalid-size"),
            (("vdisk", "create", "default/x", "1023K"), 2, "invalid-size"),
            (("vdisk", "resize", "default/d", "512M"), 2, "invalid-size"),
            (("vdisk", "resize", "default/d", "99999999T"), 2, "invalid-size"),
            (("vdisk", "create", f"default/{long_name}", "1G"), 2, "invalid-name"),
            (("vdisk", "create", "default/../x", "1G"), 2, "invalid-name"),
            (("vdisk", "rename", "default/d", "other/d"), 2, "invalid-request"),
            (("container", "create", long_name), 2, "invalid-name")):
        answer = daemon.json(*words, expect=code)
        check(answer["code"] == error, f"{words}: {answer}")
        check(answer["message"] and answer["remedy"], f"{words}: {answer}")
        human = daemon.cli(*words, expect=code)
        check(human.stderr.startswith("sarsen: ") and human.stdout == "", f"{words}: {human}")
    check(len(daemon.json("vdisk", "list")) == 1, "a refusal made a vDisk")
    daemon.cli("vdisk", "check", "default/d", "--data")  # while it is exported
    check(daemon.json("vdisk", "create", "default/Max", "64T")["size_bytes"] == 64 << 40, "64T")
    daemon.cli("vdisk", "create", "default/min", "1M")
    daemon.stop()


def refusals_say_what_and_why(daemon):
    """The message names the object and the cause, the remedy what a person can type or change."""
    daemon.start()
    daemon.make_pool("1G")
    daemon.cli("vdisk", "create", "default/d", "1G")
    target, host = "iqn.2026-11.org.example:disks", "iqn.1993-08.org.debian:01:host"
    daemon.cli("iscsi", "target", "create", target)
    daemon.cli("iscsi", "lun", "add", target, "default/d")
    daemon.cli("iscsi", "initiator", "add", target, host)
    with open(daemon.path("short"), "w", encoding="utf-8") as file:
        file.write("secret\n")
    for words, message, remedy in (
            (("iscsi", "target", "delete", target), f"target '{target}' has LUNs", "lun remove"),
            (("iscsi", "initiator", "remove", target, host),
             f"'{host}' is the last initiator of target '{target}'", "--open"),
            (("iscsi", "initiator", "remove", target, host + "2"),
             f"target '{target}' does not name '{host}2'", "initiator list"),
            (("iscsi", "target", "set", target, "--chap-user", "u", "--chap-secret",
              daemon.path("short")), "must be a secret of 12 to 128 bytes", "a file with one line"),
            (("disk", "add", "local", daemon.path("d2"), "--capacity", "100M"),
             f"'{daemon.path('d2')}': the capacity is at least 512M, not 100M", "--capacity"),
            (("disk", "add", "local"), "disk.add needs the parameter 'directory'",
             "see: sarsen help disk add"),
            (("disk", "remove", "1"), "disk remove 1 has to be confirmed", "--yes"),
            (("disk", "fail", "1"), "disk fail 1 has to be confirmed", "--yes")):
        error = daemon.json(*words, expect=None)
        check(message in error["message"] and remedy in error["remedy"], f"{words}: {error}")
    code, output = daemon.on_terminal("no\n", "disk", "remove", "1")
    check(code == 9 and "disk remove 1: " in output, output)
    daemon.stop()


def health_says_that_nothing_is_wrong(daemon):
    daemon.start()
    daemon.make_pool("1G")
    rig.wait_for(lambda: daemon.cli("-H", "health", expect=None).stdout == "", "health")
    told = daemon.cli("health")
    check(told.stdout.startswith("SEVERITY") and told.stderr == "nothing is wrong\n", f"{told}")
    for options in (("-H",), ("-o", "json")):
        check(daemon.cli(*options, "health").stderr == "", "not for programs")
    daemon.stop()


def codes(result):
    return [warning["code"] for warning in result.get("warnings", [])]


def wait_drained(daemon, number):
    rig.wait_for(lambda: daemon.json("disk", "show", number)["state"] == "drained", "drained")


def what_weakens_copies_is_told(daemon):
    """Disks on one file system, and fewer disks than there should be copies."""
    daemon.start()
    daemon.make_pool("1G")
    added = daemon.json("disk", "add", "local", daemon.path("d2"), "--capacity", "1G")
    check(codes(added) == ["shared-file-system"] and "disk 1" in added["warnings"][0]["message"],
          f"{added}")
    check(daemon.json("disk", "show", "1")["shares_with"] == 2, "each shares with the other")
    check(codes(daemon.json("disk", "drain", "2")) == [], "one copy is enough")
    daemon.cli("disk", "drain", "2", "--stop")
    daemon.cli("container", "set", "default", "replication_factor=2")
    daemon.cli("vdisk", "create", "default/d", "64M")
    told = daemon.cli("disk", "drain", "2").stderr
    check("warning: pool 'local' keeps 1 disk for 2 copies: 1 of its vDisks" in told and
          "sarsen disk add" in told and "--stop" in told, told)
    daemon.cli("disk", "drain", "2", "--stop")
    check(codes(daemon.json("disk", "fail", "2", "--yes")) == ["fewer-copies"], "given up")
    daemon.cli("disk", "restore", "2")
    daemon.cli("disk", "add", "local", daemon.path("d3"), "--capacity", "1G")
    check(codes(daemon.json("disk", "drain", "1")) == [], "two disks stay")
    wait_drained(daemon, "1")
    daemon.cli("disk", "remove", "1", "--yes")
    check(daemon.json("pool", "show", "local")["directory"] == daemon.path("d2"),
          "the directory of a pool whose first disk has gone")
    daemon.stop()


def destruction_is_confirmed(daemon):
    daemon.start()
    daemon.make_pool("1G")
    daemon.cli("vdisk", "create", "default/d", "1G")
    refused = daemon.cli("vdisk", "delete", "default/d", expect=2)
    check("--yes" in refused.stderr, refused.stderr)
    code, output = daemon.on_terminal("no\n", "vdisk", "delete", "default/d")
    check(code == 9 and "Type yes" in output, output)
    code, output = daemon.on_terminal("yes\n", "vdisk", "resize", "default/d", "512M", "--shrink")
    check(code == 0, output)
    code, output = daemon.on_terminal("yes\n", "vdisk", "delete", "default/d")
    check(code == 0, output)
    daemon.cli("vdisk", "show", "default/d", expect=4)
    daemon.stop()


def http_is_robust(daemon):
    daemon.start()
    daemon.make_pool("1G")
    daemon.cli("vdisk", "create", "default/d", "1G")
    check(daemon.get("/v1/health")[0] == 200, "health")
    status, text = daemon.get("/metrics")
    check(status == 200 and 'sarsen_vdisk_operations_total{vdisk="default/d",operation="read"} 0'
          in text and 'sarsen_pool_live_bytes{pool="local"} ' in text and
          'le="+Inf"} 0' in text, text)
    for line in text.splitlines():
        check(line.startswith("#") or len(line.rsplit(" ", 1)) == 2, f"metrics: {line}")
    status, text = daemon.get("/openapi.json")
    check(status == 200 and '"/v1/vdisk.create"' in text, "openapi")
    check(daemon.get("/v1/pool.list")[0] == 400 and daemon.get("/x")[0] == 404, "paths")
    for body, status, code in (
            ("{", 400, "invalid-request"), ("[]", 400, "invalid-request"),
            ('{"name": "default/d"} x', 400, "invalid-request"),
            ('{"name": "default/d", "name": "default/e"}', 400, "invalid-request"),
            ('{"name": 7}', 400, "invalid-request"), (b'{"name": "\xff"}', 400, "invalid-request"),
            ('{"name": "default/d", "colour": 1}', 400, "invalid-request"),
            ("[" * 100000, 400, "invalid-request"), ("{}", 400, "invalid-request"),
            (b"x" * (1 << 20 | 1), 413, "too-large")):
        got, answer = daemon.post("vdisk.show", body)
        check(got == status and answer["error"]["code"] == code, f"{body[:60]}: {answer}")
    check(daemon.post("vdisk.explode", "{}")[0] == 404, "unknown method")
    check(daemon.post("vdisk.list", "")[0] == 200, "no body")
    check(daemon.http(b"DELETE /v1/vdisk.list HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
          .startswith(b"HTTP/1.1 400"), "verb")
    check(oct(os.stat(daemon.socket).st_mode & 0o777) == "0o660", "mode of the socket")
    daemon.stop()


if __name__ == "__main__":
    sys.exit(rig.main(every_verb_in_both_forms, errors_are_clear, refusals_say_what_and_why,
                      health_says_that_nothing_is_wrong,
                      what_weakens_copies_is_told,
                      destruction_is_confirmed,
                      http_is_robust))
