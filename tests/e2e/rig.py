# SPDX-License-Identifier: Apache-2.0
"""A daemon in a temporary directory, its command line, and stock clients, for end-to-end tests."""
import json
import os
import pty
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

BUILD = os.path.abspath(os.environ.get("SARSEN_BUILD", "build"))
SKIP = 77
REACTORS = int(os.environ.get("SARSEN_E2E_REACTORS", "1"))
os.environ["PATH"] += ":/usr/sbin:/sbin"  # where mke2fs and others are, not only for root
SECONDS = float(os.environ.get("SARSEN_E2E_SECONDS", "60"))  # for one command; sanitizers are slow


class Failure(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Failure(text)


def skip(missing):
    """Ends the test as skipped; says what is missing."""
    print(f"skipped: missing {missing}")
    sys.exit(SKIP)


def require(*programs):
    """Skips the test when a program is missing."""
    missing = [p for p in programs if not shutil.which(p)]
    if missing:
        skip(', '.join(missing))


def require_qemu_iscsi():
    require("qemu-img")
    formats = subprocess.run(["qemu-img", "--help"], capture_output=True, text=True,
                             check=False).stdout
    probe = subprocess.run(["qemu-img", "info", "iscsi://127.0.0.1:1/x/0"], capture_output=True,
                           text=True, check=False, timeout=SECONDS)
    if "Unknown protocol" in probe.stderr or not formats:
        print("skipped: missing QEMU's iSCSI driver (package qemu-block-extra)")
        sys.exit(SKIP)


def run(command, expect=0, seconds=SECONDS, **options):
    """Runs to the end; the exit code must be `expect` (None: any)."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds,
                          stdin=subprocess.DEVNULL, check=False, **options)
    if expect is not None and done.returncode != expect:
        raise Failure(f"{' '.join(command)}: exit code {done.returncode}, expected {expect}\n"
                      f"{done.stdout}{done.stderr}")
    return done


def wait_for(condition, what, seconds=SECONDS):
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, f"{what}: not in {seconds} s")
        time.sleep(0.005)


def keepers_below(directory):
    """Process ids of the keepers whose sockets are there: they outlive the daemon."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
        except OSError:  # it has ended
            continue
        if os.path.basename(words[0]) == "sarsen-keeper" and "--link" in words[:-1]:
            link = words[words.index("--link") + 1]
            if link.startswith(os.path.join(directory, "")):
                found.append(int(name))
    return found


def end_keepers(directory):
    """For what a test leaves."""
    deadline = time.monotonic() + SECONDS
    while pids := keepers_below(directory):
        check(time.monotonic() < deadline, f"keepers do not end: {pids}")
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)


class Daemon:
    def __init__(self, directory=None, config="[iscsi]\nport = 0\n", reactors=REACTORS):
        self.directory = directory or tempfile.mkdtemp(prefix="sarsen-e2e-")
        self.reactors = reactors
        self.process = None
        self.write_config(config)

    def path(self, name):
        return os.path.join(self.directory, name)

    def write_config(self, text):
        with open(self.path("conf"), "w", encoding="utf-8") as file:
            file.write(text)

    @property
    def socket(self):
        return self.path("sock")

    def command(self, *more):
        return [os.path.join(BUILD, "sarsend"), "--state", self.path("state"), "--config",
                self.path("conf"), "--socket", self.socket, "--reactors", str(self.reactors), *more]

    def launch(self):
        with open(self.path("log"), "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log)

    def start(self):
        self.launch()
        deadline = time.monotonic() + SECONDS
        while self.cli("node", "show", expect=None).returncode != 0:
            check(self.process.poll() is None, f"the daemon ended:\n{self.log()}")
            check(time.monotonic() < deadline, f"the daemon does not answer:\n{self.log()}")
            time.sleep(0.02)

    def kill(self):
        self.process.kill()
        self.process.wait(SECONDS)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        code = self.process.wait(SECONDS)
        check(code == 0, f"a clean stop ended with {code}:\n{self.log()}")
        check(not os.path.exists(self.socket), "a clean stop left the socket")

    def log(self):
        with open(self.path("log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def cli(self, *words, expect=0):
        return run([os.path.join(BUILD, "sarsen"), "--socket", self.socket, *words], expect)

    def json(self, *words, expect=0):
        """The result, or the error, of the JSON form."""
        answer = json.loads(self.cli("-o", "json", *words, expect=expect).stdout)
        check(answer["schema"] == 1, f"schema of {words}")
        return answer["result"] if expect == 0 else answer["error"]

    def on_terminal(self, reply, *words):
        """Exit code and output of the command line on a terminal of its own."""
        pid, fd = pty.fork()
        if pid == 0:
            os.execv(os.path.join(BUILD, "sarsen"), ["sarsen", "--socket", self.socket, *words])
        os.write(fd, reply.encode())
        output = b""
        while True:
            try:
                part = os.read(fd, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            output += part
        _, status = os.waitpid(pid, 0)
        os.close(fd)
        return os.waitstatus_to_exitcode(status), output.decode()

    def http(self, request):
        """The whole answer to raw bytes."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SECONDS)
            connection.connect(self.socket)
            connection.sendall(request)
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)

    def get(self, path):
        answer = self.http(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    def post(self, method, body):
        data = body if isinstance(body, bytes) else body.encode()
        head = (f"POST /v1/{method} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                f"Content-Length: {len(data)}\r\n\r\n").encode()
        head, _, answer = self.http(head + data).partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(answer)

    def make_pool(self, capacity="4G"):
        self.cli("pool", "create", "local", self.path("pool"), "--capacity", capacity)
        self.cli("container", "create", "default")

    def done(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(SECONDS)
        end_keepers(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)


def make_image(path, seed, size, filled):
    """A sparse raw image with `filled` bytes of random data, the same for the same seed."""
    chunk = 256 * 1024
    chance = random.Random(seed)
    base = chance.randbytes(2 * chunk)  # a window of it for each place: quick, and all differ
    with open(path, "wb") as file:
        for place in sorted(chance.sample(range(size // chunk), filled // chunk)):
            start = chance.randrange(chunk)
            file.seek(place * chunk)
            file.write(base[start:start + chunk])
        file.truncate(size)


def main(*tests):
    """Runs each test with a daemon of its own, which is not started yet; the exit code."""
    failed = 0
    for test in tests:
        daemon = Daemon()
        begin = time.monotonic()
        try:
            test(daemon)
            print(f"ok     {test.__name__} ({time.monotonic() - begin:.1f} s)", flush=True)
        except (Failure, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f"FAILED {test.__name__}: {error}", flush=True)
            print(daemon.log()[-4000:] if os.path.exists(daemon.path("log")) else "", flush=True)
        finally:
            daemon.done()
    return 1 if failed else 0
