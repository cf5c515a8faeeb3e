"""The ratchet measures what it says, complains in clear lines, and lets exceptions only shrink."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import ratchet


def write(root: Path, where: str, text: str = "") -> Path:
    path = root / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def function_of(lines: int, name: str = "long") -> str:
    return f"def {name}():\n" + "    x = 1\n" * (lines - 1)


def complaints(root: Path, exemptions: ratchet.Exemptions | None = None) -> list[str]:
    return ratchet.judge(ratchet.survey(root), exemptions or {})


def values(root: Path, rule: str) -> dict[str, int]:
    return {m.key: m.value for m in ratchet.survey(root).measures if m.rule == rule}


def test_an_empty_checkout_has_nothing_to_say(tmp_path: Path) -> None:
    assert complaints(tmp_path) == []


def test_the_complaint_says_where_what_the_limit_and_the_next_step(tmp_path: Path) -> None:
    write(tmp_path, "src/tallystick/hub/plan.py", "\n\n" + function_of(61))
    assert complaints(tmp_path) == [
        "src/tallystick/hub/plan.py:3: `long` is 61 (function, lines), never over 60: "
        "split it along its steps, each with a name"
    ]


METHODS_8 = "".join(f"    def m{n}(self): ...\n" for n in range(8))
METHODS_21 = "".join(f"    def m{n}(self): ...\n" for n in range(21))


@pytest.mark.parametrize(
    ("where", "over", "at_most"),
    [
        ("src/tallystick/hub/a.py", function_of(61), function_of(60)),
        ("src/tallystick/hub/a.py", "x = 1\n" * 401, "x = 1\n" * 400),
        ("tests/test_a.py", "x = 1\n" * 401, "x = 1\n" * 400),
        ("src/tallystick/doors/console/style.css", "a{}\n" * 401, "a{}\n" * 400),
        (
            "src/tallystick/ports/a.py",
            "class Port(Protocol):\n" + METHODS_8,
            "class Port(Protocol):\n" + METHODS_8.replace("m0", "_m0"),
        ),
        ("src/tallystick/hub/a.py", "class A:\n" + METHODS_21, "class A:\n" + METHODS_21.replace("m0", "_m")),
    ],
    ids=["function", "file", "test file", "stylesheet", "port", "class"],
)
def test_one_over_the_line_is_too_many(tmp_path: Path, where: str, over: str, at_most: str) -> None:
    write(tmp_path, where, over)
    assert len(complaints(tmp_path)) == 1
    write(tmp_path, where, at_most)
    assert complaints(tmp_path) == []


def test_a_folder_holds_fifteen_files(tmp_path: Path) -> None:
    for n in range(15):
        write(tmp_path, f"src/tallystick/hub/f{n}.py")
    assert complaints(tmp_path) == []
    write(tmp_path, "src/tallystick/hub/one_more.py")
    assert complaints(tmp_path)[0].startswith(
        "src/tallystick/hub:1: src/tallystick/hub is 16 (folder, files)"
    )


@pytest.mark.parametrize(
    ("folders", "files_each", "rule"),
    [
        (("core", "ports", "hub"), 7, "floors"),
        (("doors/kfp",), 6, "part"),
        (("tiles/attack/art",), 6, "part"),
    ],
)
def test_floors_doors_and_tiles_have_a_whole_to_keep(
    tmp_path: Path, folders: tuple[str, ...], files_each: int, rule: str
) -> None:
    for folder in folders:
        write(tmp_path, f"src/tallystick/{folder}/page.html", "<p>\n" * 400)
        for n in range(files_each):
            write(tmp_path, f"src/tallystick/{folder}/f{n}.py", "x = 1\n" * 400)
    assert len(complaints(tmp_path)) == 1
    assert list(values(tmp_path, rule).values()) == [len(folders) * files_each * 400]


@pytest.mark.parametrize(
    "name", ["utils.py", "http_utils.py", "_helpers.py", "misc/a.py", "common/__init__.py"]
)
def test_a_name_that_says_nothing_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"src/tallystick/{name}")
    assert "says nothing" in complaints(tmp_path)[0]


def test_a_name_that_only_sounds_like_one_is_fine(tmp_path: Path) -> None:
    write(tmp_path, "src/tallystick/hub/commonality.py")
    assert complaints(tmp_path) == []


def test_what_python_and_minifiers_leave_behind_is_not_counted(tmp_path: Path) -> None:
    write(tmp_path, "src/tallystick/__pycache__/a.py", "x = 1\n" * 500)
    write(tmp_path, "src/tallystick/doors/console/htmx.min.js", "x\n" * 500)
    assert complaints(tmp_path) == []


def test_nested_functions_async_ones_and_methods_are_measured_each(tmp_path: Path) -> None:
    source = "class A:\n    async def b(self):\n        def c():\n            pass\n        return c\n"
    write(tmp_path, "src/tallystick/hub/a.py", source)
    found = values(tmp_path, "function")
    assert {key.partition("::")[2]: value for key, value in found.items()} == {"A.b": 4, "A.b.c": 2}


def test_a_property_with_a_setter_counts_once(tmp_path: Path) -> None:
    source = "class A:\n    @property\n    def b(self): ...\n    @b.setter\n    def b(self, to): ...\n"
    write(tmp_path, "src/tallystick/hub/a.py", source)
    assert list(values(tmp_path, "class").values()) == [1]


def test_the_checks_of_a_proof_are_not_methods_that_anyone_must_know(tmp_path: Path) -> None:
    write(tmp_path, "src/tallystick/proofs/a.py", "class Proof:\n" + METHODS_21.replace("m", "test_m"))
    assert list(values(tmp_path, "class").values()) == [0]


@pytest.mark.parametrize("base", ["Protocol", "typing.Protocol", "Protocol[T]", "typing.Protocol[T]"])
def test_a_port_is_known_however_protocol_is_written(tmp_path: Path, base: str) -> None:
    write(tmp_path, "src/tallystick/ports/a.py", f"class Port({base}):\n    def a(self): ...\n")
    assert list(values(tmp_path, "port").values()) == [1]


def test_a_file_that_is_not_python_is_said_to_be(tmp_path: Path) -> None:
    write(tmp_path, "src/tallystick/hub/a.py", "def (:\n")
    assert complaints(tmp_path)[0].startswith("src/tallystick/hub/a.py:1: it is not Python")


@pytest.mark.parametrize(
    "source",
    [
        "import sqlite3",
        "import numpy as np",
        "from time import time",
        "def late():\n    import random",
        "from tallystick.ports import ledger",
        "from tallystick.corepulse import x",
        "from . import names",
        "open('x')",
        "print('x')",
        "import datetime\ndatetime.datetime.now(datetime.UTC)",
        "from datetime import date\ndate.today()",
    ],
)
def test_core_reaches_for_nothing_impure(tmp_path: Path, source: str) -> None:
    write(tmp_path, "src/tallystick/core/run.py", source)
    assert [line for line in complaints(tmp_path) if ": core " in line]
    write(tmp_path, "src/tallystick/core/run.py")
    write(tmp_path, "src/tallystick/hub/run.py", source)
    assert complaints(tmp_path) == []


def test_core_may_use_the_pure_part_of_the_library(tmp_path: Path) -> None:
    source = (
        "from __future__ import annotations\nimport hashlib\nfrom collections.abc import Iterable\n"
        "from tallystick.core.names import Key\nimport tallystick.core\nfrom datetime import datetime, UTC\n"
        "datetime.fromtimestamp(0, UTC)\n"
    )
    write(tmp_path, "src/tallystick/core/run.py", source)
    assert complaints(tmp_path) == []


LONG = ("function", "src/tallystick/hub/plan.py::long")


def recorded(value: int, because: str = "it was so before the line was drawn") -> ratchet.Exemptions:
    return {LONG: ratchet.Exemption(value, because)}


def test_a_recorded_exception_holds_where_it_is_exact(tmp_path: Path) -> None:
    write(tmp_path, "src/tallystick/hub/plan.py", function_of(70))
    assert complaints(tmp_path, recorded(70)) == []


def test_a_recorded_exception_may_not_grow(tmp_path: Path) -> None:
    write(tmp_path, "src/tallystick/hub/plan.py", function_of(71))
    assert "it grew from the recorded 70" in complaints(tmp_path, recorded(70))[0]


@pytest.mark.parametrize("now", [69, 60, 2])
def test_a_recorded_exception_that_shrank_must_be_lowered(tmp_path: Path, now: int) -> None:
    write(tmp_path, "src/tallystick/hub/plan.py", function_of(now))
    assert "--tighten" in complaints(tmp_path, recorded(70))[0]
    tightened = ratchet.tighten(ratchet.survey(tmp_path), recorded(70))
    assert tightened == (recorded(now) if now > 60 else {})
    assert complaints(tmp_path, tightened) == []


def test_tightening_never_loosens_nor_adds(tmp_path: Path) -> None:
    write(tmp_path, "src/tallystick/hub/plan.py", function_of(80) + function_of(90, "longer"))
    assert ratchet.tighten(ratchet.survey(tmp_path), recorded(70)) == recorded(70)


def test_a_recorded_exception_says_why(tmp_path: Path) -> None:
    write(tmp_path, "src/tallystick/hub/plan.py", function_of(70))
    assert "gives no reason" in complaints(tmp_path, recorded(70, " "))[0]


def test_exceptions_are_read_as_they_are_written() -> None:
    assert ratchet.parse_exemptions(ratchet.render_exemptions(recorded(70))) == recorded(70)
    assert json.loads(ratchet.render_exemptions({})) == {}


def test_against_a_revision_exceptions_may_only_shrink() -> None:
    assert ratchet.loosened(recorded(69), recorded(70)) == []
    assert ratchet.loosened({}, recorded(70)) == []
    assert "may only shrink" in ratchet.loosened(recorded(71), recorded(70))[0]
    assert "before: none" in ratchet.loosened(recorded(70), {})[0]


def git(root: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(root), *who, *words], check=True, capture_output=True)


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_the_command_judges_tightens_and_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "src/tallystick/hub/plan.py", function_of(70))
    record = write(tmp_path, "tools/ratchet.json", "{}")
    assert ratchet.main([str(tmp_path)]) == 1
    assert "never over 60" in capsys.readouterr().err

    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "before")
    record.write_text(ratchet.render_exemptions(recorded(75)))
    assert ratchet.main([str(tmp_path), "--tighten"]) == 0
    assert ratchet.parse_exemptions(record.read_text()) == recorded(70)
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "1 exceptions" in shown.out

    assert ratchet.main([str(tmp_path), "--against", "HEAD"]) == 1
    assert "may only shrink" in capsys.readouterr().err
    assert ratchet.main([str(tmp_path), "--against", "no-such-revision"]) == 0


def test_the_table_shows_median_and_maximum(tmp_path: Path) -> None:
    source = function_of(2, "a") + function_of(4, "b") + function_of(50, "c")
    write(tmp_path, "src/tallystick/hub/plan.py", source)
    rows = ratchet.table(ratchet.survey(tmp_path)).splitlines()
    assert rows[1].split() == ["function,", "lines", "9", "60", "4", "50", "src/tallystick/hub/plan.py::c"]
