#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/tidy against small trees, each with one thing wrong."""
import contextlib
import importlib.machinery
import importlib.util
import io
import os
import subprocess
import sys
import tempfile
import unittest

TIDY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/tidy")
sys.dont_write_bytecode = True
LOADER = importlib.machinery.SourceFileLoader("tidy", TIDY)
tidy = importlib.util.module_from_spec(importlib.util.spec_from_loader("tidy", LOADER))
LOADER.exec_module(tidy)

C_FIRST = "/* SPDX-License-Identifier: Apache-2.0 */\n"
LAYERS = "# comment\nbase:\nblock: base\nvdisk: base block\nworld: base\ncmd: base block vdisk\n"


class TidyTest(unittest.TestCase):
    def run_tidy(self, files, *arguments):
        """The lines that tidy prints about a tree of `files` (path to content), and its status."""
        with tempfile.TemporaryDirectory() as root:
            for path, content in {"src/layers": LAYERS, **files}.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)) or root, exist_ok=True)
                with open(os.path.join(root, path), "wb") as file:
                    file.write(content if isinstance(content, bytes) else content.encode())
            with contextlib.redirect_stdout(io.StringIO()) as output:
                status = tidy.main(["--root", root, *arguments])
        return output.getvalue().splitlines()[:-1], status

    def refused(self, files, *expected):
        lines, status = self.run_tidy(files, "--no-compile")
        self.assertEqual(lines, list(expected))
        self.assertEqual(status, 1)

    def accepted(self, files, *arguments):
        lines, status = self.run_tidy(files, *(arguments or ("--no-compile",)))
        self.assertEqual(lines, [])
        self.assertEqual(status, 0)

    def body(self, text, path="src/base/a.c"):
        return {path: C_FIRST + "static void f(int a)\n{\n" + text + "}\n"}

    def test_clean_tree(self):
        self.accepted({
            "src/base/a.h": C_FIRST + "#pragma once\nint a(void);\n",
            "src/base/a.c": C_FIRST + '#include "base/a.h"\n\nint a(void)\n{\n\treturn 0;\n}\n',
            "src/vdisk/v.c": C_FIRST + '#include "base/a.h"\n', "README.md": "x" * 200 + "\n",
            "tests/unit/base/helper.h": C_FIRST + "#pragma once\n",
            "tests/unit/base/t.c": C_FIRST + '#include "helper.h"\n#include "base/a.h"\n',
        })

    def test_layers(self):
        header = C_FIRST + "#pragma once\n"
        self.refused({"src/vdisk/v.h": header, "src/block/b.c": C_FIRST + '#include "vdisk/v.h"\n'},
                     "src/block/b.c:2: block may not include vdisk (src/layers)")
        self.refused({"src/block/b.c": C_FIRST + '\n#include "base/gone.h"\n'},
                     'src/block/b.c:3: #include "base/gone.h": no such file below src/')
        self.refused({"src/block/c.h": header, "src/block/b.c": C_FIRST + '#include "c.h"\n'},
                     'src/block/b.c:2: #include "c.h": no such file below src/',
                     "src/block/b.c:2: block may not include c.h (src/layers)")
        self.refused({"src/other/b.c": C_FIRST}, "src/layers:1: src/other has no line here")
        self.refused({"src/layers": "base: block\nblock: base\n"},
                     "src/layers:1: base names block, not a line above it")
        self.refused({"src/block/meson.build": "a = x(\n  dependencies: [base, vdisk, isal])\n"},
                     "src/block/meson.build:2: block may not depend on vdisk (src/layers)")
        self.refused({"src/block/meson.build": "b = x(link_with: vdisk_lib)\n"},
                     "src/block/meson.build:1: block may not depend on vdisk (src/layers)")

    def test_includes(self):
        self.refused({"src/base/b.c": C_FIRST, "tests/t.c": C_FIRST + '#include "base/b.c"\n'},
                     'tests/t.c:2: #include "base/b.c": tests and code go through headers')
        self.refused({"src/base/a.h": C_FIRST + "#pragma once\n",
                      "src/base/a.c": C_FIRST + '#include <errno.h>\n#include "base/a.h"\n'},
                     'src/base/a.c:2: "base/a.h" must come first')
        self.accepted({"src/base/a.h": C_FIRST + "#pragma once\n",
                       "src/base/a_priv.h": C_FIRST + "#pragma once\n",
                       "src/base/a.c": C_FIRST + '#include "base/a_priv.h"\n'})

    def test_calls(self):
        for name in ("strcpy", "sprintf", "alloca", "system", "rand", "strtok"):
            self.refused(self.body(f"\t{name} (a);\n"), f"src/base/a.c:4: {name}() is not safe")
        self.accepted(self.body("\tstrcpy(a);\n", "tests/a.c"))
        for name in ("read", "clock_gettime", "fsync", "socket", "time"):
            self.refused(self.body(f"\t{name}(a);\n"),
                         f"src/base/a.c:4: {name}() belongs to the world (src/world/real)")
        for path in ("src/world/real/a.c", "src/world/real.c", "src/cmd/a.c", "tests/a.c"):
            self.accepted(self.body("\tread(a);\n", path))
        self.refused({"src/base/a.c": C_FIRST + "#define X(a) time(a)\n"},
                     "src/base/a.c:2: time() belongs to the world (src/world/real)")

    def test_calls_that_are_none(self):
        self.accepted(self.body("\ta.read(1);\n\tx->open (1);\n\tio_read(1);\n\t/* read(1) */\n"
                                '\tputs("strcpy(a) \\" gets(b)");\n\tsnprintf(a);\n\tc = \'"\';\n'
                                "\t// system(x)\n"))

    def test_function_lines(self):
        for count, status in ((97, 0), (98, 1)):
            lines, got = self.run_tidy(self.body("\ta();\n" * count), "--no-compile", "--notes")
            self.assertEqual(got, status)
            text = "f() has 101 lines, more than 100" if status else "note: f() has 100 lines"
            self.assertEqual(lines, [f"src/base/a.c:2: {text}"])
        self.accepted({**self.body("\ta();\n" * 98),
                       "tools/tidy.allow": "function-lines src/base/a.c:f flat dispatch\n"})
        self.accepted({**self.body("\tread(a);\n\topen(a);\n"),
                       "tools/tidy.allow": "call src/base/a.c:* before any world\n"})

    def test_allow_list(self):
        self.refused({"tools/tidy.allow": "# why\n\nfunction-lines src/base/a.c:f flat\n"},
                     "tools/tidy.allow:3: no longer needed: function-lines src/base/a.c:f")
        self.refused({"tools/tidy.allow": "call src/base/a.c:time\n"},
                     "tools/tidy.allow:1: no reason given")

    def test_functions_are_found(self):
        long = "\ta();\n" * 98
        heads = ("int f(struct x *x)\n{\n", "static __attribute__((noreturn)) void f(void)\n{\n",
                 "void f(int (*g)(int a), int b)\n{\n", "struct x *f(int a,\n\t int b)\n{\n",
                 "struct s {\n\tint a;\n};\nint f(void)\n{\n",
                 "static const int t[] = {1, 2};\nint f(void)\n{\n",
                 "static struct s x = {.a = {1}}, *y;\nint g(void);\nint f(void)\n{\n",
                 "#define M(a) do { a(); } while (0)\nint f(void)\n{\n",
                 "#define M(a) \\\n\t{ \\\n\ta(\nint f(void)\n{\n",
                 "enum { A, B };\nint f(void)\n{\n", "struct s { int a; } s;\nint f(void)\n{\n",
                 "int g(void)\n{\n}\n\nint f(void)\n{\n")
        for head in heads:
            lines, _ = self.run_tidy({"src/base/a.c": C_FIRST + head + long + "}\n"},
                                     "--no-compile")
            self.assertEqual(len(lines), 1, head)
            self.assertIn("f() has 10", lines[0])
        table = "\t{1, 2},\n" * 120
        self.accepted({"src/base/a.c": C_FIRST + "static const int t[] = {\n" + table + "};\n"
                       "struct s {\n" + "\tint a;\n" * 120 + "};\n"})

    def test_parameters(self):
        six = "int a, char *b, int c[], void (*d)(int, int), int e, int f"
        self.accepted({"src/base/a.c": C_FIRST + f"void f({six}, ...)\n{{\n}}\n"})
        self.refused({"src/base/a.c": C_FIRST + f"void f({six}, int g)\n{{\n}}\n"},
                     "src/base/a.c:2: f() has 7 parameters, more than 6")

    def test_nesting(self):
        deep = "\tif (a)\n\t\tfor (;;)\n\t\t\twhile (b) {\n\t\t\t\tx();\n%s\t\t\t}\n"
        self.accepted(self.body(deep % ""))
        self.refused(self.body(deep % "\t\t\t\tif (c)\n\t\t\t\t\ty();\n"),
                     "src/base/a.c:9: f() nests 4 levels, more than 3")
        self.refused(self.body("\tdo {\n\t\tswitch (a) {\n\t\tcase 1:\n"
                               "\t\t\tLIST_FOR_EACH (a, b) {\n\t\t\t\tif (c)\n\t\t\t\t\ty();\n"
                               "\t\t\t}\n\t\t}\n\t} while (0);\n"),
                     "src/base/a.c:9: f() nests 4 levels, more than 3")

    def test_nesting_that_is_none(self):
        chain = "\telse if (b) {\n\t\ty();\n\t}\n" * 6
        self.accepted(self.body("\tif (a)\n\t\tx();\n" + chain + "\telse\n\t\tz();\n"))
        self.accepted(self.body("\tstruct s s = {{{{{1}}}}};\n\tx((struct s){.a = {{{{2}}}}});\n"
                                "again:\n\tif (a) {\n\t\ts = (struct s){{{{1}}}};\n\t}\n"))
        self.accepted(self.body("\tswitch (a) {\n\tcase 'x':\n\tdefault:\n\t\tif (b) {\n"
                                "\t\t\tif (c)\n\t\t\t\tx();\n\t\t}\n\t\tbreak;\n\t}\n"))

    def test_goto_and_cleanup(self):
        self.refused(self.body("\t_cleanup_free_ char *p = NULL;\n\tgoto out;\nout:\n\treturn;\n"),
                     "src/base/a.c:5: f() mixes goto and _cleanup_")

    def test_lines(self):
        self.refused({"src/base/a.c": C_FIRST + "int a; \n"}, "src/base/a.c:2: trailing blanks")
        self.refused({"a.md": "text\t\n"}, "a.md:1: trailing blanks")
        self.refused({"a.md": "text"}, "a.md:1: no newline at the end")
        self.refused({"src/base/a.c": C_FIRST + "/*\t" + "x" * 93 + "*/\n"},
                     "src/base/a.c:2: 103 columns, more than 100")
        self.refused({"a.md": b"\xff\n"}, "a.md:1: not UTF-8")
        word = "TO" + "DO"
        self.refused({"src/base/a.c": C_FIRST + f"/* {word}: later */\n"},
                     f"src/base/a.c:2: {word}: finish it")

    def test_file_lines(self):
        for count, status in ((1499, 0), (1500, 1)):
            lines, got = self.run_tidy({"src/base/a.c": C_FIRST + "\n" * count}, "--no-compile",
                                       "--notes")
            self.assertEqual((len(lines), got), (1, status))

    def test_head_of_files(self):
        first = "the first line must be /* SPDX-License-Identifier: Apache-2.0 */"
        self.refused({"src/base/a.c": "\n" + C_FIRST}, f"src/base/a.c:1: {first}")
        self.refused({"src/base/a.h": C_FIRST}, "src/base/a.h:1: no #pragma once")
        self.refused({"a.sh": "#!/bin/sh\n"}, "a.sh:1: one of the first two lines must be "
                     "# SPDX-License-Identifier: Apache-2.0")
        self.refused({"src/base/a.c": C_FIRST + "typedef struct x {\n\tint a;\n} x_t;\n"},
                     "src/base/a.c:2: typedef of a struct")

    def test_python(self):
        head = "# SPDX-License-Identifier: Apache-2.0\n"
        self.refused({"a.py": head + "def f():\n" + "    g()\n" * 100},
                     "a.py:2: f() has 101 lines, more than 100")
        lines, _ = self.run_tidy({"a.py": head + "def f(:\n"}, "--no-compile")
        self.assertIn("a.py:2: not Python: ", lines[0])

    def test_headers_compile_alone(self):
        compiler = ("--cc", os.environ.get("CC", "cc"))
        good = {"src/base/a.h": C_FIRST + "#pragma once\n#include <stdint.h>\nuint8_t a(void);\n"}
        self.accepted(good, *compiler)
        bad = {"src/base/a.h": C_FIRST + "#pragma once\nuint8_t a(void);\n"}
        lines, status = self.run_tidy(bad, *compiler)
        self.assertEqual((len(lines), status), (1, 1))
        self.assertIn("src/base/a.h:1: does not compile alone: ", lines[0])

    def test_git_ignores_are_not_read(self):
        with tempfile.TemporaryDirectory() as root:
            subprocess.run(["git", "init", "-q", root], check=True)
            for path, content in (("a.md", "x \n"), (".gitignore", "b.md\n"), ("b.md", "y \n")):
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(content)
            done = subprocess.run([sys.executable, TIDY, "--root", root], capture_output=True,
                                  text=True, check=False, timeout=60)
        self.assertEqual(done.stdout.splitlines()[0], "a.md:1: trailing blanks")
        self.assertEqual(len(done.stdout.splitlines()), 2)


if __name__ == "__main__":
    unittest.main()
