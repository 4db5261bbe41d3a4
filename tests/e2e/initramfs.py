# SPDX-License-Identifier: Apache-2.0
"""What a guest starts from: modules of a kernel, programs with their libraries, and an init,
packed as an initramfs."""
import glob
import lzma
import os
import re
import shutil
import subprocess

import debian
import rig
from rig import check

# Busybox's shell prefers its own programs: /sbin/mke2fs and others have to be called by their path.
# The shell: "ID ID+LENGTH words" on the second serial port runs the words and answers what they
# print, and then a line "\001 ID exit-code". A line of which the port has lost something, as it
# does now and then when the host is busy, is not run: the answer is "\001 again 0".
SHELL = """#!/bin/busybox sh
export PATH=/bin:/sbin LD_LIBRARY_PATH=/lib
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for m in {modules}; do insmod /modules/$m || echo "guest: insmod $m failed"; done
stty -F /dev/ttyS1 raw -echo
exec 3</dev/ttyS1 4>/dev/ttyS1
printf '\\001 ready 0\\n' >&4
while read -r id check line <&3; do
	if [ "$check" != "$id+${{#line}}" ]; then
		printf '\\n\\001 again 0\\n' >&4
		continue
	fi
	eval "$line" </dev/null >&4 2>&1
	printf '\\n\\001 %s %s\\n' "$id" $? >&4
done
poweroff -f
"""


def write(path, data, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode())
    os.chmod(path, mode)


def copy(source, path, mode=0o755):
    with open(source, "rb") as file:
        write(path, file.read(), mode)


def module(root, name):
    """The module's bytes, or None when it is built in."""
    pattern = re.sub("[_-]", "[_-]", name) + ".ko*"
    pattern = os.path.join(root, "{}", "modules", "**", pattern)
    for path in (glob.glob(pattern.format("lib"), recursive=True) or
                 glob.glob(pattern.format("usr/lib"), recursive=True)):
        with (lzma.open if path.endswith(".xz") else open)(path, "rb") as file:
            return file.read()
    return None


def modules(root, names):
    """Name and bytes of all that must be loaded, in an order that satisfies each."""
    loaded = {}

    def add(name):
        name = name.replace("-", "_")
        data = None if name in loaded else module(root, name)
        if data is None:
            return
        depends = re.search(rb"\0depends=([^\0]*)\0", data)
        for other in depends[1].decode().split(",") if depends else ():
            if other:
                add(other)
        loaded[name] = data

    for name in names:
        add(name)
    return loaded


def pack(root, path):
    """The folder as an archive that the kernel unpacks; everything belongs to root."""
    names = "\n".join(sorted(os.path.relpath(os.path.join(top, name), root)
                             for top, folders, files in os.walk(root) for name in folders + files))
    with open(path, "wb") as file:
        done = subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], cwd=root,
                              input=names.encode(), stdout=file, timeout=rig.SECONDS, check=False)
    check(done.returncode == 0, "cpio failed")


def fill(root, source, programs, module_names=()):
    """Busybox, programs of a tree of Debian packages with their libraries, and the shell."""
    for name in ("proc", "dev", "sys", "mnt", "run", "etc", "tmp"):
        os.makedirs(os.path.join(root, name))
    for name in ("usr/bin/busybox", *programs):
        copy(os.path.join(source, name), os.path.join(root, name.removeprefix("usr/")))
    for path in debian.libraries(source, programs):
        copy(path, os.path.join(root, "lib", os.path.basename(path)))
    copy(os.path.join(source, debian.LOADER),
         os.path.join(root, "lib64", os.path.basename(debian.LOADER)))
    loaded = modules(source, module_names)
    for name, data in loaded.items():
        write(os.path.join(root, "modules", name), data)
    write(os.path.join(root, "init"), SHELL.format(modules=" ".join(loaded)), 0o755)


def make(path, recipe, *sources):
    """`recipe` fills a folder, which becomes the archive; again only when a source is newer."""
    newest = max(os.path.getmtime(source) for source in (__file__, *sources))
    if os.path.exists(path) and os.path.getmtime(path) > newest:
        return path
    new = f"{path}.{os.getpid()}"
    os.makedirs(new + ".root")
    try:
        recipe(new + ".root")
        pack(new + ".root", new)
    finally:
        shutil.rmtree(new + ".root")
    os.rename(new, path)
    return path
