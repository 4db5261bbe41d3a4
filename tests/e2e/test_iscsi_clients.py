#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Real initiators against the iSCSI target on memory volumes: libiscsi's tools and conformance
tests, and QEMU's. Arguments: the iscsi_memory program, then those of unittest. What is not
installed is skipped."""
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

SERVER = sys.argv.pop(1)
TARGET = 'iqn.2026-01.org.sarsen:default.memory'

# Tests of iscsi-test-cu that skip themselves, and why that is right here.
SKIPS = {
    r'SANITIZE': 'not offered: a disk in a log cannot say when old data is gone',
    r'WRITESAME1[06] does not support 0-blocks': 'WSNZ is set',
}
SKIPS_MAX = 10

# The servers that the tests run against, with the tests: a test needs one that suits it.
CONFIGURATIONS = (
    ((), 'ALL'),
    (('--physical', '4096', '--reactors', '3', '--luns', '2'), 'ALL'),
    (('--removable',), 'ALL.PreventAllow,ALL.NoMedia,ALL.StartStopUnit'),
    (('--read-only',), 'ALL.ReadOnly'),
)

# It asks for the status at one block, and expects a descriptor that begins at the next physical
# one; SBC-3 5.4.2 has it begin where the command says.
WRONG_WITH_LARGE_BLOCKS = {'GetLBAStatus.UnmapSingle'}


def needs(program):
    return unittest.skipUnless(shutil.which(program), f'{program} is not installed')


def boot_disk(text):
    """16 MiB whose first sector loads block 2048 with INT 13h and prints it to the serial port."""
    code = bytes.fromhex('31c0 8ed8 8ec0 8ed0 bc007c'   # segments and stack at 0
                         'be807c b442 cd13 720e'        # read by the packet at 0x7c80, or stop
                         'be0080 ac84c0 7406 baf803 ee ebf5'  # out(0x3f8) up to a NUL
                         'f4 ebfd')                     # halt
    packet = struct.pack('<BBHHHQ', 16, 0, 1, 0x8000, 0, 2048)
    sector = code.ljust(0x80, b'\0') + packet.ljust(510 - 0x80, b'\0') + b'\x55\xaa'
    disk = bytearray(16 << 20)
    disk[:512] = sector
    disk[2048 * 512:2048 * 512 + len(text)] = text
    return disk


class Server:
    def __init__(self, *arguments, environment=None):
        self.process = subprocess.Popen([SERVER, '--quiet', *arguments], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True,
                                        env=dict(os.environ, **(environment or {})))
        self.url = self.process.stdout.readline().strip()
        self.portal = self.url.rsplit('/iqn', 1)[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        status = self.process.wait(timeout=30)
        self.process.stdout.close()
        assert status == 0, f'the server ended with {status}'


def run(*command, timeout=60):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=timeout, errors='replace')
    return done.returncode, done.stdout


def classify(output):
    """(suite and name, verdict, reason) of each test in the output of iscsi-test-cu -V."""
    suite = ''
    pieces = re.split(r'^(Suite: .*|Run Summary.*|  Test: \S+ \.\.\.)', output, flags=re.M)
    for head, body in zip(pieces[1::2], pieces[2::2]):
        if not head.startswith('  Test: '):
            suite = head.split()[-1]
            continue
        name = f"{suite}.{head.split()[1]}"
        # The verdict begins a line; what follows it belongs to the next suite.
        match = re.search(r'^(passed|FAILED)', body, re.M)
        text = body[:match.start()] if match else body
        skipped = re.search(r'\[SKIPPED\](.*)', text)
        if not match or match.group(1) == 'FAILED':
            lines = re.findall(r'.*\[FAILED\].*|.*CU_ASSERT.*|.*CU_FAIL.*', body)
            yield name, 'failed', ' / '.join(line.strip() for line in lines[:4])
        elif skipped:
            yield name, 'skipped', skipped.group(1).strip()
        else:
            yield name, 'passed', ''


class Clients(unittest.TestCase):
    def qemu_io(self, url, *commands):
        arguments = [word for command in commands for word in ('-c', command)]
        status, output = run('qemu-io', '-f', 'raw', url, *arguments)
        self.assertEqual(status, 0, output)
        self.assertNotIn('failed', output)

    @needs('iscsi-ls')
    def test_libiscsi_tools(self):
        with Server('--luns', '3') as server:
            status, output = run('iscsi-ls', '-s', server.portal + '/')
            self.assertEqual(status, 0, output)
            self.assertIn(TARGET, output)
            self.assertEqual(output.count('Type:DIRECT_ACCESS'), 3, output)
            status, output = run('iscsi-inq', server.url)
            self.assertEqual(status, 0, output)
            self.assertIn('Vendor:SARSEN', output)
            status, output = run('iscsi-readcapacity16', server.url)
            self.assertEqual(status, 0, output)
            self.assertIn('Total size:67108864', output)

    @needs('iscsi-inq')
    def test_chap(self):
        """libiscsi's side of CHAP, one-way and mutual."""
        def inquire(url, user, arguments=''):
            return run('iscsi-inq', url.replace('//', f'//{user}@', 1) + arguments)[0]

        with Server('--chap', 'joe:secret of joe') as server:
            self.assertEqual(inquire(server.url, 'joe%secret of joe'), 0)
            self.assertNotEqual(inquire(server.url, 'joe%secret of jim'), 0)
            self.assertNotEqual(inquire(server.url, 'jim%secret of joe'), 0)
            self.assertNotEqual(run('iscsi-inq', server.url)[0], 0)
        with Server('--chap', 'joe:secret of joe:target:secret of target') as server:
            mutual = '?target_user=target&target_password=secret of target'
            self.assertEqual(inquire(server.url, 'joe%secret of joe', mutual), 0)
            self.assertEqual(inquire(server.url, 'joe%secret of joe'), 0)
            # The wrong secret of the target, and the one of the other direction.
            for wrong in ('secret of thief', 'secret of joe'):
                arguments = f'?target_user=target&target_password={wrong}'
                self.assertNotEqual(inquire(server.url, 'joe%secret of joe', arguments), 0)
            self.assertNotEqual(inquire(server.url, 'joe%secret of target', mutual), 0)

    def resident(self, server):
        with open(f'/proc/{server.process.pid}/status', encoding='ascii') as file:
            return int(re.search(r'VmRSS:\s+(\d+) kB', file.read()).group(1))

    @needs('iscsi-inq')
    def test_half_open_logins(self):
        """10,000 connections that begin a login and go no further, byte by byte at most; the
        server's memory stays where it is, and others get in."""
        # What AddressSanitizer keeps of freed memory is not the server's.
        options = os.environ.get('ASAN_OPTIONS', '') + ':quarantine_size_mb=1'
        with Server('--reactors', '2', environment={'ASAN_OPTIONS': options}) as server:
            host, port = server.portal[len('iscsi://'):].rsplit(':', 1)
            text = b'InitiatorName=iqn.2026-01.org.example:slow\0SessionType=Normal\0' + \
                f'TargetName={TARGET}\0'.encode()
            login = struct.pack('>BBBBI6sHIHHII16x', 0x43, 0x87, 0, 0, len(text),
                                b'\x80\0\0\0\0\1', 0, 1, 1, 0, 1, 0) + text
            open_ones, before = [], 0
            for i in range(10000):
                peer = socket.create_connection((host, int(port)))
                open_ones.append(peer)
                # Some say nothing, some all but a byte; some are sent to another reactor.
                peer.send(login[:(0, 1, len(login) - 1)[i % 4]] if i % 4 < 3 else
                          bytes([0x43, 0, 0, 0]) + login[4:])
                if i > 300:
                    open_ones.pop(0).close()
                if i == 1000:
                    before = self.resident(server)
                if i % 2500 == 2499:
                    self.assertEqual(run('iscsi-inq', server.url)[0], 0)
            self.assertLess(self.resident(server), before + 4096)
            for peer in open_ones:
                peer.close()
            self.assertEqual(run('iscsi-inq', server.url)[0], 0)

    @needs('qemu-io')
    def test_qemu_io(self):
        patterns = ['write -P 0x5a 0 64k', 'write -P 0x11 1M 3M', 'read -P 0x5a 0 64k',
                    'read -P 0x11 1M 3M', 'write -z 0 32k', 'read -P 0 0 32k',
                    'read -P 0x5a 32k 32k', 'discard 1M 1M', 'write -P 0x77 -f 5k 1k',
                    'read -P 0x77 5k 1k', 'flush', 'aio_write -P 0x21 8M 4M',
                    'aio_write -P 0x22 12M 4M', 'aio_flush', 'read -P 0x21 8M 4M',
                    'read -P 0x22 12M 4M']
        with Server() as server:
            self.qemu_io(server.url, *patterns)
        # The target moves to its first volume's reactor; the second one's is another.
        with Server('--reactors', '2', '--luns', '2') as server:
            self.qemu_io(server.url, *patterns)
            self.qemu_io(server.url[:-1] + '1', *patterns)
        # QEMU 7.2 aborts on thin units with blocks of 4 KiB: those are thick here.
        with Server('--block', '4096', '--thick') as server:
            self.qemu_io(server.url, *[p for p in patterns if '1k' not in p])

    @needs('qemu-img')
    def test_qemu_img(self):
        with Server() as server, tempfile.TemporaryDirectory() as folder:
            with open(folder + '/in', 'wb') as image:
                for i in range(64):
                    image.write(bytes([i * 3 % 251]) * (1 << 20) if i % 3 else bytes(1 << 20))
            for source, target in ((folder + '/in', server.url), (server.url, folder + '/out')):
                status, output = run('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', '-n' if
                                     target == server.url else '-q', source, target)
                self.assertEqual(status, 0, output)
            status, output = run('cmp', folder + '/in', folder + '/out')
            self.assertEqual(status, 0, output)

    @needs('qemu-system-x86_64')
    def test_ipxe_boots(self):
        """iPXE is a firmware's initiator: small segments, one command at a time. It boots a sector
        that reads another one through the BIOS and prints it."""
        with Server('--size', '16777216', '--thick') as server, \
                tempfile.TemporaryDirectory() as folder:
            with open(folder + '/disk', 'wb') as image:
                image.write(boot_disk(b'SARSEN BOOTED'))
            status, output = run('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw',
                                 folder + '/disk', server.url)
            self.assertEqual(status, 0, output)
            port = server.portal.rsplit(':', 1)[1]
            os.mkdir(folder + '/tftp')
            with open(folder + '/tftp/script', 'w', encoding='ascii') as script:
                script.write('#!ipxe\nset initiator-iqn iqn.2026-01.org.example:ipxe\n'
                             f'sanboot iscsi:10.0.2.2::{port}:0:{TARGET}\n')
            guest = subprocess.Popen(
                ['qemu-system-x86_64', '-accel', 'tcg', '-m', '128', '-display', 'none', '-monitor',
                 'none', '-serial', f'file:{folder}/serial', '-boot', 'n', '-netdev',
                 f'user,id=n,tftp={folder}/tftp,bootfile=script', '-device',
                 'virtio-net-pci,netdev=n'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                self.await_text(folder + '/serial', 'SARSEN BOOTED', 120)
            finally:
                guest.kill()
                guest.wait()

    def await_text(self, path, text, seconds):
        deadline = time.monotonic() + seconds
        seen = ''
        while time.monotonic() < deadline:
            if os.path.exists(path):
                with open(path, encoding='ascii', errors='replace') as file:
                    seen = file.read()
            if text in seen:
                return
            time.sleep(0.2)
        self.fail(f'{text!r} does not come; there is {seen!r}')

    def conformance(self, tests, *arguments):
        """{suite and name: (verdict, reason)}"""
        results = {}
        for test in tests.split(','):
            with Server(*arguments) as server:
                _, output = run('iscsi-test-cu', '--dataloss', '--allow-sanitize', '-V', '-t',
                                test, server.url, server.url, timeout=400)
            results.update({name: (verdict, reason)
                            for name, verdict, reason in classify(output)})
        self.assertTrue(results, output[-2000:])
        return results

    @needs('iscsi-test-cu')
    def test_conformance(self):
        """A test counts as passed when it passed against one server and failed against none, but
        for what is wrong in the test."""
        results = [self.conformance(tests, *arguments) for arguments, tests in CONFIGURATIONS]
        failed, skipped, passed = [], [], 0
        self.assertGreaterEqual(len(results[0]), 225)
        for name in results[0]:
            verdicts = [result[name] for result in results if name in result]
            if verdicts[1][0] == 'failed' and name in WRONG_WITH_LARGE_BLOCKS:
                verdicts.pop(1)
            kinds = {verdict for verdict, _ in verdicts}
            if 'failed' in kinds:
                failed.append(f'{name}: ' + ' '.join(reason for _, reason in verdicts))
            elif 'passed' in kinds:
                passed += 1
            else:
                skipped.append(f'{name}: {verdicts[0][1]}')
        print(f'iscsi-test-cu: {passed} passed, {len(failed)} failed, {len(skipped)} skipped',
              file=sys.stderr)
        for pattern, why in SKIPS.items():
            count = sum(bool(re.search(pattern, reason)) for reason in skipped)
            print(f'  {count:3} skipped: {why} ({pattern})', file=sys.stderr)
        self.assertEqual(failed, [])
        unexplained = [reason for reason in skipped
                       if not any(re.search(pattern, reason) for pattern in SKIPS)]
        self.assertEqual(unexplained, [])
        self.assertLessEqual(len(skipped), SKIPS_MAX)


if __name__ == '__main__':
    unittest.main()
