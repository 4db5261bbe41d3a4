#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of tests/mutants/run: lists that are wrong, and what counts as killed."""
import glob
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
LOADER = importlib.machinery.SourceFileLoader("mutants_run", os.path.join(HERE, "run"))
mutants = importlib.util.module_from_spec(importlib.util.spec_from_loader(LOADER.name, LOADER))
sys.modules[LOADER.name] = mutants
LOADER.exec_module(mutants)

GOOD = """# comment
=== first quick
file: a.c
test: tests/t --seeds 5
why: because
---
old
  text
+++
new

=== second
file: a.c
test: t
---
gone
+++
"""


class FakeTree:
    """Builds and tests nothing; remembers what the file held when it was to be tested."""

    def __init__(self, directory, result, broken=None):
        self.directory, self.result, self.broken, self.tested = directory, result, broken, None

    def path(self, name):
        return os.path.join(self.directory, name)

    def make(self, _targets):
        return self.broken

    def test(self, _command, _timeout):
        with open(self.path("a.c"), encoding="utf-8") as file:
            self.tested = file.read()
        return self.result


class RunTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def write(self, name, text):
        path = os.path.join(self.directory.name, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def parse(self, text):
        return mutants.parse_list(self.write("list", text))

    def test_list(self):
        first, second = self.parse(GOOD)
        self.assertEqual((first.name, first.quick, first.file), ("first", True, "a.c"))
        self.assertEqual((first.old, first.new), ("old\n  text\n", "new\n"))
        self.assertEqual((second.quick, second.old, second.new), (False, "gone\n", ""))
        self.assertEqual(mutants.target_of(first.command), "tests/t")

    def test_bad_lists(self):
        for text in ("file: a\n", "=== x slow\n", "=== x\nfile: a\n---\na\n+++\nb\n",
                     "=== x\nfile: a\ntest: t\ncolour: red\n---\na\n+++\nb\n",
                     "=== x\nfile: a\ntest: t\n---\na\n+++\na\n", "=== x\nfile: a\ntest: t\n",
                     "=== x\nfile a\n"):
            with self.assertRaises(mutants.MutantError, msg=text):
                self.parse(text)

    def test_results(self):
        mutant = self.parse(GOOD)[0]
        path = self.write("a.c", "int;\nold\n  text\nend\n")
        for result, told in (("passed", "SURVIVED"), ("failed", "killed"),
                             ("hung", "killed (hung)")):
            tree = FakeTree(self.directory.name, result)
            self.assertEqual(mutants.run_mutant(tree, mutant, 1), told)
            self.assertEqual(tree.tested, "int;\nnew\nend\n")
            with open(path, encoding="utf-8") as file:
                self.assertEqual(file.read(), "int;\nold\n  text\nend\n")

    def test_mutants_that_do_not_apply(self):
        mutant = self.parse(GOOD)[0]
        tree = FakeTree(self.directory.name, "failed")
        with self.assertRaises(mutants.MutantError):
            mutants.run_mutant(tree, mutant, 1)
        for text in ("nothing\n", mutant.old * 2):
            self.write("a.c", text)
            with self.assertRaises(mutants.MutantError):
                mutants.run_mutant(tree, mutant, 1)
        self.write("a.c", mutant.old)
        with self.assertRaises(mutants.MutantError):
            mutants.run_mutant(FakeTree(self.directory.name, "failed", "error"), mutant, 1)

    def test_ours_apply(self):
        """Whoever changes a line that a mutant names finds out here, not in the long run."""
        names, tree = [], FakeTree(mutants.ROOT, "failed")
        for path in sorted(glob.glob(os.path.join(HERE, "*.list"))):
            for mutant in mutants.parse_list(path):
                mutants.read_original(tree, mutant)
                names.append(mutant.name)
        self.assertEqual(sorted(set(names)), sorted(names))


if __name__ == "__main__":
    unittest.main()
