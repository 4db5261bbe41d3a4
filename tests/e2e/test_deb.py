#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: built twice with the same bytes, lintian's verdict, and their life in a
clean chroot: install, start as the unit says, upgrade, remove, install again, purge.

The chroot is made once, below SARSEN_CHROOT (default: the build directory), by mmdebstrap from the
machine's own package sources; each run works on a copy."""
import fcntl
import glob
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import rig
from rig import check, run

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BASE = os.environ.get("SARSEN_CHROOT", os.path.join(rig.BUILD, "chroot"))
BUILD_SECONDS = 300
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def sources():
    """Codename and mirror of the system that this is."""
    lines = run(["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)",
                 "Created-By: Packages"], None).stdout.splitlines()
    for line in lines:
        codename, _, url = line.partition(" ")
        if codename and "-" not in codename and "security" not in url:
            return codename, url
    rig.skip("apt's package sources")
    return None


def require():
    rig.require("mmdebstrap", "dpkg-buildpackage", "lintian", "dh", "tar", "chroot", "unshare",
                "git")
    if os.geteuid() != 0:
        rig.skip("root, to use a chroot")
    if run(["unshare", "--mount", "true"], None).returncode != 0:
        rig.skip("the privilege to make a mount name space")


def build(directory):
    """Path of the package; the bytes of all of them."""
    done = run([os.path.join(ROOT, "tools", "deb"), directory], None, BUILD_SECONDS)
    check(done.returncode == 0, f"tools/deb failed:\n{done.stdout}{done.stderr}")
    sums = {}
    for path in glob.glob(os.path.join(directory, "*.deb")):
        with open(path, "rb") as file:
            sums[os.path.basename(path)] = hashlib.sha256(file.read()).hexdigest()
    packages = glob.glob(os.path.join(directory, "sarsen_*.deb"))
    check(len(packages) == 1, f"packages {sorted(sums)}")
    return packages[0], sums


def dependencies(package):
    """Names in Depends, the first of each choice."""
    text = run(["dpkg", "-f", package, "Depends"]).stdout.strip()
    return [re.split(r"[ (|]", part.strip())[0] for part in text.split(",")]


def archive(package):
    """The clean system as a tar file, with what the package depends on and nothing else."""
    os.makedirs(BASE, exist_ok=True)
    names = ",".join(["init-system-helpers", *dependencies(package)])
    path = os.path.join(BASE, hashlib.sha256(names.encode()).hexdigest()[:16] + ".tar")
    with open(os.path.join(BASE, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(path):
            return path
        codename, url = sources()
        new = path + ".new"
        done = run(["mmdebstrap", "--variant=essential", "--include=" + names,
                    "--aptopt=APT::Install-Recommends \"false\"",
                    "--aptopt=Acquire::Languages \"none\"", "--format=tar",
                    codename, new, f"deb {url} {codename} main"], None, BUILD_SECONDS)
        if done.returncode != 0:
            rig.skip(f"Debian {codename} from the mirror: mmdebstrap: {done.stderr[-400:]}")
        os.rename(new, path)
    return path


class Chroot:
    def __init__(self, package):
        self.directory = tempfile.mkdtemp(prefix="sarsen-deb-")
        self.daemon = None
        os.chmod(self.directory, 0o755)
        run(["tar", "-xf", archive(package), "-C", self.directory])
        with open(self.path("usr/sbin/policy-rc.d"), "w", encoding="ascii") as file:
            file.write("#!/bin/sh\nexit 101\n")
        os.chmod(self.path("usr/sbin/policy-rc.d"), 0o755)

    def path(self, name):
        return os.path.join(self.directory, name.lstrip("/"))

    def enter(self, *options):
        """Words before a command that runs inside. /proc is mounted for it alone, in a name space
        that ends with it, so nothing has to be unmounted."""
        return ["unshare", "--mount", "--propagation=private", "sh", "-c",
                'mount -t proc proc "$0/proc" && exec chroot "$@"', self.directory, *options,
                self.directory]

    def run(self, *command, expect=0):
        return run([*self.enter(), *command], expect,
                   env={"PATH": PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"})

    def install(self, package):
        shutil.copy(package, self.path("tmp/p.deb"))
        return self.run("dpkg", "-i", "/tmp/p.deb")

    def state(self):
        done = self.run("dpkg-query", "-W", "-f=${db:Status-Status}", "sarsen", expect=None)
        return done.stdout if done.returncode == 0 else "none"

    def unit(self):
        """Settings of the service, by name."""
        with open(self.path("lib/systemd/system/sarsend.service"), encoding="utf-8") as file:
            return dict(re.findall(r"^(\w+)=(.*)$", file.read(), re.M))

    def start(self):
        """As systemd would: the unit's command and user, with its socket for messages."""
        unit = self.unit()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(self.path("run/notify"))
        os.chmod(self.path("run/notify"), 0o777)
        listener.settimeout(rig.SECONDS)
        user = unit["User"]
        with open(self.path("tmp/log"), "ab") as log:
            self.daemon = subprocess.Popen(
                [*self.enter(f"--userspec={user}:{unit['Group']}"), *unit["ExecStart"].split()],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"PATH": PATH, "NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "400000"})
        try:
            for expected in ("READY=1", "WATCHDOG=1", "WATCHDOG=1"):
                got = listener.recv(200).decode()
                check(got == expected, f"{got} instead of {expected}")
        except socket.timeout:
            raise rig.Failure(f"no sign of life:\n{self.log()}") from None
        finally:
            listener.close()
            os.unlink(self.path("run/notify"))
        with open(f"/proc/{self.daemon.pid}/status", encoding="ascii") as file:
            check(re.search(r"^Uid:\s+0\b", file.read(), re.M) is None, "it runs as root")

    def log(self):
        with open(self.path("tmp/log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def stop(self):
        self.daemon.send_signal(signal.SIGTERM)
        code = self.daemon.wait(rig.SECONDS)
        self.daemon = None
        check(code == 0, f"the daemon ended with {code}:\n{self.log()}")

    def done(self):
        if self.daemon:
            self.daemon.kill()
            self.daemon.wait(rig.SECONDS)
        shutil.rmtree(self.directory, ignore_errors=True)


def newer(package, directory):
    """The same package under a later version, as the next release would be."""
    tree = os.path.join(directory, "newer")
    run(["dpkg-deb", "-R", package, tree])
    control = os.path.join(tree, "DEBIAN", "control")
    with open(control, encoding="utf-8") as file:
        text = file.read()
    with open(control, "w", encoding="utf-8") as file:
        file.write(re.sub(r"^Version: (.*)$", r"Version: \1+next1", text, flags=re.M))
    # The administrator's file is not touched although the package's has changed.
    with open(os.path.join(tree, "etc/sarsen/sarsend.conf"), "a", encoding="utf-8") as file:
        file.write("; of the next version\n")
    target = os.path.join(directory, "newer.deb")
    run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, target])
    return target


def check_installed(chroot, version):
    check(chroot.state() == "installed", f"state {chroot.state()}")
    check(chroot.run("sarsend", "--version").stdout == f"sarsend {version}\n", "version")
    check(chroot.run("sarsen", "--version").stdout == f"sarsen {version}\n", "version of sarsen")
    chroot.run("sarsend", "--check-config")
    home = chroot.run("getent", "passwd", "sarsen").stdout.split(":")
    check(home[5] == "/var/lib/sarsen" and home[6].strip().endswith("nologin"), f"user {home}")
    for name in ("usr/share/man/man1/sarsen.1.gz", "usr/share/man/man8/sarsend.8.gz",
                 "usr/share/man/man8/sarsen-fsck.8.gz", "usr/share/man/man8/sarsen-keeper.8.gz",
                 "usr/share/man/man5/sarsend.conf.5.gz",
                 "usr/share/bash-completion/completions/sarsen"):
        check(os.path.exists(chroot.path(name)), name)
    script = chroot.path("usr/share/bash-completion/completions/sarsen")
    with open(script, encoding="utf-8") as file:
        check(file.read() == chroot.run("sarsen", "completion", "bash").stdout, "completion")


def check_unit(chroot):
    verdict = chroot.run("systemd-analyze", "verify", "--man=no", "sarsend.service", expect=None)
    own = [line for line in verdict.stderr.splitlines() if "sarsend" in line]
    check(not own, f"systemd-analyze: {own}")
    score = chroot.run("systemd-analyze", "security", "--offline=true", "--threshold=30",
                       "--no-pager", "/lib/systemd/system/sarsend.service", expect=None)
    check(score.returncode == 0, f"exposed more than 3.0:\n{score.stdout[-600:]}")


def leftovers(chroot):
    """Files of the package, or that it made, which are still there."""
    names = ("etc/sarsen", "run/sarsen", "usr/bin/sarsen", "usr/sbin/sarsend", "var/lib/sarsen",
             "lib/systemd/system/sarsend.service", "usr/share/doc/sarsen",
             "etc/systemd/system/multi-user.target.wants/sarsend.service")
    return [name for name in names if os.path.lexists(chroot.path(name))]


def a_package_lives(chroot, package, directory):
    version = run(["dpkg", "-f", package, "Version"]).stdout.strip()
    chroot.install(package)
    check_installed(chroot, version)
    check_unit(chroot)
    chroot.run("dpkg", "--purge", "sarsen")
    check(leftovers(chroot) == [], f"purge left {leftovers(chroot)}")

    chroot.install(package)
    chroot.start()
    chroot.run("sarsen", "pool", "create", "local", "/var/lib/sarsen/pool", "--capacity", "512M")
    chroot.run("sarsen", "container", "create", "default")
    chroot.run("sarsen", "vdisk", "create", "default/a", "1G")
    with open(chroot.path("etc/sarsen/sarsend.conf"), "a", encoding="utf-8") as file:
        file.write("; the administrator was here\n")
    chroot.run("dpkg", "--force-confold", "-i", "/tmp/p.deb")
    shutil.copy(newer(package, directory), chroot.path("tmp/newer.deb"))
    chroot.run("dpkg", "--force-confold", "-i", "/tmp/newer.deb")
    chroot.stop()  # systemd restarts it; here is none
    chroot.start()
    check("default/a" in chroot.run("sarsen", "vdisk", "list").stdout, "the vDisk after an upgrade")
    with open(chroot.path("etc/sarsen/sarsend.conf"), encoding="utf-8") as file:
        check("the administrator was here" in file.read(), "the configuration after an upgrade")
    chroot.stop()


def data_outlives_a_purge(chroot, package):
    chroot.run("dpkg", "--remove", "sarsen")
    check(os.path.exists(chroot.path("etc/sarsen/sarsend.conf")), "removal keeps the configuration")
    said = chroot.run("dpkg", "--purge", "sarsen")
    check("is kept" in said.stderr, "purge says that data stays")
    check(leftovers(chroot) == ["var/lib/sarsen"], f"purge left {leftovers(chroot)}")
    chroot.install(package)
    chroot.start()
    check("default/a" in chroot.run("sarsen", "vdisk", "list").stdout, "the vDisk after a purge")
    chroot.stop()


def main():
    require()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sarsen-deb-") as directory:
        # The same two places each time: the compiler's cache knows them.
        package, sums = build(os.path.join(BASE, "first"))
        _, again = build(os.path.join(BASE, "second-in-another-place"))
        check(sums == again, f"two builds differ: {sums} {again}")
        print(f"ok     built twice ({time.monotonic() - begin:.1f} s)", flush=True)
        chroot = Chroot(package)
        try:
            a_package_lives(chroot, package, directory)
            data_outlives_a_purge(chroot, package)
        finally:
            chroot.done()
    print(f"ok     installed, upgraded, purged ({time.monotonic() - begin:.1f} s)", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except rig.Failure as error:
        print(f"FAILED {error}")
        sys.exit(1)
