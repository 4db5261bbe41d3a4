#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Targets, LUNs, initiators and sessions, as the command line makes them and real initiators see
them: who gets in, what each sees, what a change does to the others."""
import os
import socket
import stat
import struct
import subprocess
import sys
import time

import rig
from rig import check

TARGET = "iqn.2026-11.org.example:Disks"
LOW = TARGET.lower()
GUEST = "iqn.2026-11.org.example:guest"
SECRET = "a secret of the guest"
OWN_SECRET = "what the target knows"


def secret_file(daemon, name, text):
    with open(daemon.path(name), "w", encoding="utf-8") as file:
        file.write(text + "\n")
    return daemon.path(name)


def portal(daemon):
    url = daemon.json("iscsi", "list")[0]["url"]
    return url[:url.index("/iqn")]


def inquire(url, name=GUEST, user=None, arguments=""):
    if user:
        url = url.replace("//", f"//{user}@", 1)
    return subprocess.run(["iscsi-inq", "-i", name, url + arguments], capture_output=True,
                          text=True, check=False, timeout=rig.SECONDS)


def seen_by(daemon, name):
    done = subprocess.run(["iscsi-ls", "-i", name, portal(daemon) + "/"], capture_output=True,
                          text=True, check=False, timeout=rig.SECONDS)
    return sorted(line.split("Target:")[1].split()[0] for line in done.stdout.splitlines()
                  if "Target:" in line)


class Session:
    """As much of an initiator as persistent reservations need: immediate data, one at a time."""

    def __init__(self, url, name):
        address, target, lun = url[len("iscsi://"):].split("/")
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), rig.SECONDS)
        self.socket.settimeout(rig.SECONDS)
        self.lun, self.cmd_sn = int(lun), 1
        text = "".join(f"{pair}\0" for pair in (
            f"InitiatorName={name}", f"TargetName={target}", "SessionType=Normal",
            "ImmediateData=Yes", "InitialR2T=Yes")).encode()
        self.send(struct.pack(">BBBBI6sHIHHII16x", 0x43, 0x87, 0, 0, len(text),
                              b"\x80\0\0\0\0\1", 0, 1, 1, 0, self.cmd_sn, 0), text)
        header, _ = self.receive()
        check(header[36:38] == b"\0\0", f"login: {header[36:38].hex()}")

    def send(self, header, data=b""):
        self.socket.sendall(header + data + bytes(-len(data) % 4))

    def receive(self):
        header = self.exactly(48)
        length = int.from_bytes(header[5:8], "big")
        return header, self.exactly(length + -length % 4)[:length]

    def exactly(self, count):
        parts = b""
        while len(parts) < count:
            part = self.socket.recv(count - len(parts))
            check(part, "the connection was closed")
            parts += part
        return parts

    def command(self, cdb, out=b"", expected=0):
        """Status and data-in; a unit attention is only an occasion to ask again."""
        while True:
            flags = 0x80 | (0x20 if out else 0) | (0x40 if expected else 0)
            self.send(struct.pack(">BB2xI8sIIII", 1, flags, len(out),
                                  bytes([0, self.lun]) + bytes(6), self.cmd_sn,
                                  len(out) or expected, self.cmd_sn, 0) + cdb.ljust(16, b"\0"),
                      out)
            self.cmd_sn += 1
            header, data = self.receive()
            if header[0] & 0x3f == 0x25:  # Data-In, which carries a good status
                return header[3], data
            if not (header[3] == 2 and data[4] & 15 == 6):
                return header[3], data

    def reserve(self, action, kind=0, key=0, new_key=0, aptpl=0):
        out = struct.pack(">QQ4xB3x", key, new_key, aptpl)
        return self.command(bytes([0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0]), out)[0]


def make_luns(daemon, count=3):
    daemon.start()
    daemon.make_pool()
    daemon.cli("iscsi", "target", "create", TARGET)
    urls = []
    for i in range(count):
        daemon.cli("vdisk", "create", f"default/d{i}", "64M")
        urls.append(daemon.cli("iscsi", "lun", "add", LOW, f"default/d{i}").stdout.strip())
    return urls


def luns_of_one_target(daemon):
    urls = make_luns(daemon)
    check([url.rsplit("/", 1)[1] for url in urls] == ["0", "1", "2"], f"{urls}")
    for url in urls:
        check(inquire(url).returncode == 0, url)
    daemon.cli("vdisk", "create", "default/x", "64M")
    daemon.cli("iscsi", "lun", "add", LOW, "default/x", "--lun", "2", expect=5)
    url = daemon.cli("iscsi", "lun", "add", LOW, "default/x", "--lun", "77").stdout.strip()
    check(inquire(url).returncode == 0, url)
    daemon.cli("iscsi", "lun", "remove", LOW, "1")
    check(inquire(urls[1]).returncode != 0, "a removed LUN is served")
    daemon.cli("iscsi", "lun", "remove", LOW, "1", expect=4)
    daemon.cli("iscsi", "target", "delete", LOW, expect=5)
    check(daemon.json("iscsi", "target", "list")[0]["luns"] == 3, "luns")
    daemon.stop()
    daemon.start()  # all of it comes back
    check(inquire(urls[0].replace(urls[0].split("/")[2], portal(daemon)[8:])).returncode == 0,
          "a LUN after a restart")
    for lun in ("0", "2", "77"):
        daemon.cli("iscsi", "lun", "remove", LOW, lun)
    daemon.cli("iscsi", "target", "delete", LOW)
    check(daemon.json("iscsi", "target", "list") == [], "target list")
    daemon.stop()


def await_writes(daemon):
    deadline = time.monotonic() + rig.SECONDS
    while True:
        sessions = daemon.json("iscsi", "sessions")
        if any(session["written_bytes"] for session in sessions):
            return sessions
        check(time.monotonic() < deadline, "nothing is written")
        time.sleep(0.05)


def others_do_not_notice(daemon):
    """Load on one LUN while another one comes and goes."""
    urls = make_luns(daemon, 2)
    load = subprocess.Popen(
        ["qemu-io", "-f", "raw"] + [w for i in range(400) for w in
                                    ("-c", f"write -P {i % 256} {i % 64}M 256k")] + [urls[0]],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # QEMU asks for the mode once, when it opens the disk, and takes the unit attention of a change
    # for an answer: no change before it writes.
    await_writes(daemon)
    for _ in range(10):
        daemon.cli("iscsi", "lun", "remove", LOW, "1")
        daemon.cli("iscsi", "lun", "add", LOW, "default/d1", "--lun", "1")
    # Its remarks on unit attentions come amid the lines of the other stream.
    output, remarks = load.communicate(timeout=rig.SECONDS)
    wrote = output.count("wrote 262144/262144 bytes")
    check(load.returncode == 0 and wrote == 400, f"{load.returncode} {wrote} {remarks[-500:]}")
    daemon.stop()


def initiators_are_kept_out(daemon):
    url = make_luns(daemon, 1)[0]
    daemon.cli("vdisk", "create", "default/open", "64M")
    daemon.cli("iscsi", "export", "default/open")
    check(len(seen_by(daemon, "iqn.2026-11.org.example:other")) == 2, "discovery without rules")
    daemon.cli("iscsi", "initiator", "add", LOW, GUEST.upper().replace("IQN", "iqn"))
    daemon.cli("iscsi", "initiator", "add", LOW, GUEST, expect=5)
    daemon.cli("iscsi", "initiator", "add", LOW, "nonsense", expect=2)
    check(inquire(url).returncode == 0, "the initiator that is named")
    check(inquire(url, "iqn.2026-11.org.example:other").returncode != 0, "another initiator")
    check(LOW in seen_by(daemon, GUEST), "discovery by the initiator that is named")
    check(LOW not in seen_by(daemon, "iqn.2026-11.org.example:other"), "discovery by another")
    daemon.cli("iscsi", "initiator", "remove", LOW, GUEST, expect=5)  # the last one
    daemon.kill()
    daemon.start()
    url = portal(daemon) + url[url.index("/iqn"):]
    check(inquire(url, "iqn.2026-11.org.example:other").returncode != 0, "after a restart")
    daemon.cli("iscsi", "initiator", "add", "discovery", GUEST)
    check(not seen_by(daemon, "iqn.2026-11.org.example:other"), "discovery by an unknown one")
    check(LOW in seen_by(daemon, GUEST), "discovery by one that is named")
    daemon.stop()
    daemon.start()
    url = portal(daemon) + url[url.index("/iqn"):]
    check(not seen_by(daemon, "iqn.2026-11.org.example:other"), "discovery after a restart")
    check(len(daemon.json("iscsi", "target", "list")) == 3, "discovery among the targets")
    daemon.cli("iscsi", "target", "delete", "discovery", expect=5)
    daemon.cli("iscsi", "lun", "add", "discovery", "default/d0", expect=5)
    daemon.cli("iscsi", "initiator", "remove", "discovery", GUEST, "--open")
    daemon.cli("iscsi", "initiator", "remove", LOW, GUEST, "--open")
    check(inquire(url, "iqn.2026-11.org.example:other").returncode == 0, "opened again")
    daemon.stop()


def secrets_are_proved_and_kept(daemon):
    url = make_luns(daemon, 1)[0]
    mine = secret_file(daemon, "mine", SECRET)
    own = secret_file(daemon, "own", OWN_SECRET)
    short = secret_file(daemon, "short", "short")
    daemon.cli("iscsi", "target", "set", LOW, "--chap-user", "guest", "--chap-secret", short,
               expect=2)
    daemon.cli("iscsi", "target", "set", LOW, "--chap-secret", mine, expect=2)  # of whom?
    daemon.cli("iscsi", "target", "set", LOW, "--chap-user", "guest", "--chap-secret", mine,
               "--mutual-user", "t", "--mutual-secret", mine, expect=2)  # the same
    daemon.cli("iscsi", "target", "set", LOW, "--chap-user", "guest", "--chap-secret", mine,
               "--mutual-user", "t", "--mutual-secret", own)
    for _ in range(2):
        check(inquire(url, user=f"guest%{SECRET}").returncode == 0, "CHAP")
        check(inquire(url, user=f"guest%{SECRET}", arguments=f"?target_user=t&target_password="
                      f"{OWN_SECRET}").returncode == 0, "mutual CHAP")
        check(inquire(url, user="guest%not the secret").returncode != 0, "a wrong secret")
        check(inquire(url).returncode != 0, "no secret")
        daemon.kill()
        daemon.start()
        url = portal(daemon) + url[url.index("/iqn"):]
    daemon.cli("iscsi", "initiator", "add", LOW, GUEST, "--chap-user", "own",
               "--chap-secret", own)
    check(inquire(url, user=f"own%{OWN_SECRET}").returncode == 0, "a secret of its own")
    check(inquire(url, user=f"guest%{SECRET}").returncode != 0, "the target's is not for it")
    answers = "".join(daemon.cli("-o", "json", *words).stdout for words in (
        ("iscsi", "target", "list"), ("iscsi", "initiator", "list", LOW), ("iscsi", "list"),
        ("iscsi", "sessions")))
    metrics = daemon.get("/metrics")[1]
    for secret in (SECRET, OWN_SECRET):
        check(secret not in answers and secret not in metrics, "an answer tells a secret")
        check(secret not in daemon.log(), "the log tells a secret")
    for folder, _, names in os.walk(daemon.path("state")):
        for name in set(names) - {"lock"}:
            mode = stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode)
            check(mode & 0o077 == 0, f"{name} is readable for others: {mode:o}")
    daemon.cli("iscsi", "target", "set", LOW, "--no-chap")
    daemon.stop()


def reservations_outlive_the_daemon(daemon):
    url = make_luns(daemon, 1)[0]
    first, second = Session(url, GUEST), Session(url, GUEST + "2")
    write = bytes([0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0])
    check(first.reserve(0, new_key=7, aptpl=1) == 0, "register")
    check(first.reserve(1, 5, key=7) == 0, "reserve: write exclusive, registrants only")
    check(second.command(write, bytes(512))[0] == 0x18, "a reservation keeps others out")
    for end in (daemon.kill, daemon.stop):
        end()
        daemon.start()
        url = portal(daemon) + url[url.index("/iqn"):]
        first, second = Session(url, GUEST), Session(url, GUEST + "2")
        check(second.command(write, bytes(512))[0] == 0x18, "it does so after a restart")
        check(first.command(write, bytes(512))[0] == 0, "its holder writes")
    keys = second.command(bytes([0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0]), expected=64)[1]
    check(keys[8:16] == (7).to_bytes(8, "big"), keys.hex())
    daemon.cli("iscsi", "lun", "remove", LOW, "0")  # which ends it
    daemon.cli("iscsi", "lun", "add", LOW, "default/d0")
    check(Session(url, GUEST + "2").command(write, bytes(512))[0] == 0, "an old reservation")
    daemon.stop()


def sessions_are_dropped(daemon):
    url = make_luns(daemon, 1)[0]
    client = subprocess.Popen(["qemu-io", "-f", "raw", url], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    client.stdin.write("write -P 7 0 64k\n")
    client.stdin.flush()
    sessions = await_writes(daemon)
    check(sessions[0]["target"] == LOW and sessions[0]["connections"] == 1, f"{sessions}")
    daemon.cli("iscsi", "session", "drop", str(sessions[0]["id"]))
    daemon.cli("iscsi", "session", "drop", "65535", expect=4)
    output, _ = client.communicate("read -P 7 0 64k\nq\n", timeout=rig.SECONDS)  # logs in again
    check("64 KiB" in output and "rror" not in output, output)
    daemon.cli("iscsi", "target", "set", LOW, "--redirect", "127.0.0.1:1")
    check(inquire(url).returncode != 0, "a target that moved is served")
    daemon.cli("iscsi", "target", "set", LOW, "--redirect", "")
    check(inquire(url).returncode == 0, "a target that came back")
    daemon.stop()


if __name__ == "__main__":
    rig.require("iscsi-inq", "iscsi-ls")
    rig.require_qemu_iscsi()
    sys.exit(rig.main(luns_of_one_target, others_do_not_notice, initiators_are_kept_out,
                      secrets_are_proved_and_kept, reservations_outlive_the_daemon,
                      sessions_are_dropped))
