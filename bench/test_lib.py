#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of bench/lib.py that measure nothing."""
import os
import sys
import tempfile
import unittest
import unittest.mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib  # noqa: E402
import two_devices  # noqa: E402

FIO = {"jobs": [{"error": 0, "usr_cpu": 5.0, "sys_cpu": 10.0,
                 "read": {"total_ios": 0},
                 "write": {"total_ios": 9, "iops": 1000.5, "bw_bytes": 4096000,
                           "clat_ns": {"mean": 2500.0, "percentile": {"99.000000": 9000}}}}]}


class LibTest(unittest.TestCase):
    def test_pairs_alternate(self):
        calls = []
        ours, reference = lib.run_pairs(lambda: calls.append("o") or 1,
                                        lambda: calls.append("r") or 2, 3)
        self.assertEqual("".join(calls), "orroor")
        self.assertEqual((ours, reference), ([1] * 3, [2] * 3))

    def test_ratio_is_median_of_pairs(self):
        row = lib.make_row("x", "u", [10, 20, 60], [10, 10, 20], goal=2.0)
        self.assertEqual((row.ours, row.reference, row.ratio), (20, 10, 2.0))
        self.assertTrue(row.met)
        self.assertEqual(row.ours_spread, 2.5)
        self.assertFalse(lib.make_row("x", "u", [19], [10], goal=2.0).met)

    def test_lower_is_better(self):
        row = lib.make_row("x", "us", [5], [10], goal=1.0, lower_is_better=True)
        self.assertEqual((row.ratio, row.met), (2.0, True))
        row = lib.make_row("x", "s", [3], goal=2, absolute=True, lower_is_better=True)
        self.assertFalse(row.met)

    def test_goal_needs_something_to_compare(self):
        with self.assertRaises(lib.BenchError):
            lib.make_row("x", "u", [1], goal=1.0)
        self.assertIsNone(lib.make_row("x", "u", [1]).met)

    def test_table_and_json(self):
        rows = [lib.make_row("a", "u", [2e6], [1e6], 1.5, note="why"),
                lib.make_row("b", "u", [3e3], goal=4e3, absolute=True)]
        table = lib.format_table(rows)
        self.assertIn("2.00M", table)
        self.assertIn("4.00k abs", table)
        self.assertIn("a: why", table)
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "rows.json")
            lib.write_json(rows, path)
            with open(path, encoding="utf-8") as file:
                stored = file.read()
        for field in ("name", "ours", "reference", "ratio", "goal", "met"):
            self.assertIn(f'"{field}"', stored)

    def test_fio_parsed(self):
        result = lib.parse_fio(FIO)
        self.assertNotIn("read", result)
        self.assertEqual(result["write"]["iops"], 1000.5)
        self.assertEqual(result["write"]["latency_us"], 2.5)
        self.assertEqual(result["write"]["p99_us"], 9.0)
        with self.assertRaises(lib.BenchError):
            lib.parse_fio({"jobs": [{"error": 5}]})

    def test_what_is_not_measured_is_told(self):
        row = lib.unmeasured_row("x", "u", 1.5, "no root")
        self.assertIs(row.met, False)
        self.assertIn("x: not measured: no root", lib.format_table([row]))

    def test_two_devices_need_root(self):
        with unittest.mock.patch("os.geteuid", return_value=1):
            rows = two_devices.rows(None)
        self.assertEqual([(row.met, row.goal) for row in rows], [(False, 1.5)] * 2)
        self.assertIn("it needs root", rows[0].note)

    def test_control_groups_are_found(self):
        for mounts, found in (
                ("tmpfs /c tmpfs rw 0 0\n", None),
                ("cgroup2 /c cgroup2 rw,relatime 0 0\n", ("/c", 2)),
                ("cgroup /c/cpu cgroup rw,cpu 0 0\ncgroup2 /c/unified cgroup2 rw 0 0\n"
                 "cgroup /c/blkio cgroup rw,blkio 0 0\n", ("/c/blkio", 1))):
            self.assertEqual(two_devices.find_hierarchy(mounts), found)

    def test_programs_that_fail(self):
        for command in (["/nonexistent"], ["false"], ["echo", "no json"], ["sleep", "9"]):
            with self.assertRaises(lib.BenchError):
                lib.run_json(command, 0.2)
        self.assertEqual(lib.run_json(["echo", 'note: {"a": 1}'], 5), {"a": 1})


if __name__ == "__main__":
    unittest.main()
