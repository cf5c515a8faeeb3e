"""The sizes that the tree keeps, as a ratchet: nothing small may grow past a line, nothing large may grow.

    python tools/ratchet.py                  measure, print the table, exit 1 where a line is crossed
    python tools/ratchet.py --against HEAD   and let no recorded exception be new or larger than it was there
    python tools/ratchet.py --tighten        lower the recorded exceptions to what is measured now

Exceptions live in tools/ratchet.json, each with its value and a reason. They may only shrink.

Lines are physical lines: what a reader scrolls through. A function counts from its `def` to its last line,
docstring included. The same limits hold in src, tests, tools, bench and examples; the table shows src. A file
is any that a person writes (Python, SQL, pages, styles, scripts); floors, doors and tiles count their Python.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

from purity import impurities, last_name

PACKAGE = "src/tallystick"
ROOTS = ("src", "tests", "tools", "bench", "examples")
LISTED_ROOTS = ("src", "tests", "tools", "bench")  # a folder of examples is as long as its story
CODE = {".py", ".sql", ".html", ".css", ".js", ".sh"}
LEFT_BEHIND = {".egg-info", ".pyc"}
FLOORS = ("core", "ports", "hub")
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "misc"}


class Rule(NamedTuple):
    """One line of the table: what is measured, what we aim for at the median, and what is never passed."""

    what: str
    aim: int
    never: int
    next_step: str


RULES = {
    "function": Rule("function, lines", 9, 60, "split it along its steps, each with a name"),
    "file": Rule("file, lines", 150, 400, "split it along its own seams"),
    "port": Rule("port, methods", 3, 7, "make two ports of it, or move what is not essential into the hub"),
    "class": Rule("class, public methods", 8, 20, "give part of its work to a noun of its own"),
    "folder": Rule("folder, files", 12, 15, "group what belongs together into a folder below"),
    "floors": Rule("core + ports + hub, lines", 4_000, 8_000, "move what only one door or tile needs there"),
    "part": Rule("a door or a tile, lines", 500, 2_000, "move its rules into the hub, or make two of it"),
}


class Measure(NamedTuple):
    """One measured thing. ``key`` finds it again after the lines above it have changed."""

    rule: str
    key: str
    line: int
    value: int

    @property
    def place(self) -> str:
        """Where a reader finds it: ``path:line``."""
        return f"{self.key.partition('::')[0]}:{self.line}"

    @property
    def name(self) -> str:
        """What it is called inside its file; the path itself where it is a file or folder."""
        path, _, name = self.key.partition("::")
        return f"`{name}`" if name else path


@dataclass(slots=True)
class Survey:
    """All that a walk through the tree found."""

    measures: list[Measure] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def add(self, rule: str, key: str, line: int, value: int) -> None:
        """Note a measured thing."""
        self.measures.append(Measure(rule, key, line, value))


# ---------------------------------------------------------------------------------------------------- measure


def survey(root: Path) -> Survey:
    """Everything measured under ``root``, which is a checkout."""
    found = Survey()
    files = [path for name in ROOTS for path in walk(root / name)]
    lines = {path: count_lines(path) for path in files if path.suffix in CODE and ".min." not in path.name}
    for path in files:
        where = path.relative_to(root).as_posix()
        check_name(found, where, path.stem)
        if path in lines:
            found.add("file", where, 1, lines[path])
        if path.suffix == ".py":
            measure_python(found, path, where)
    measure_folders(found, root, files)
    measure_parts(found, root, lines)
    return found


def walk(folder: Path) -> Iterator[Path]:
    """The files below a folder, in order, without what Python and editors leave behind."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(".") or path.name == "__pycache__" or path.suffix in LEFT_BEHIND:
            continue
        if path.is_dir():
            yield from walk(path)
        else:
            yield path


def count_lines(path: Path) -> int:
    """Physical lines."""
    return len(path.read_bytes().splitlines())


def check_name(found: Survey, where: str, stem: str) -> None:
    """A file or its folder must be named after what it holds."""
    words = {word for part in (*Path(where).parts[:-1], stem) for word in re.split(r"[_\W]+", part.lower())}
    for word in sorted(words & EMPTY_NAMES):
        found.broken.append(f"{where}:1: a name with `{word}` says nothing: name it after what it holds")


def measure_folders(found: Survey, root: Path, files: list[Path]) -> None:
    """How many files stand beside each other."""
    beside: dict[Path, int] = {}
    for path in files:
        beside[path.parent] = beside.get(path.parent, 0) + 1
    for folder, count in beside.items():
        where = folder.relative_to(root)
        if where.parts[0] in LISTED_ROOTS:
            found.add("folder", where.as_posix(), 1, count)


def measure_parts(found: Survey, root: Path, lines: dict[Path, int]) -> None:
    """The lower floors together, and each door and tile alone: their Python, not their pages and styles."""
    package = root / PACKAGE
    lines = {path: count for path, count in lines.items() if path.suffix == ".py"}
    low = [count for path, count in lines.items() if any(path.is_relative_to(package / f) for f in FLOORS)]
    if low:
        found.add("floors", "src/tallystick::" + " + ".join(FLOORS), 1, sum(low))
    for kind in ("doors", "tiles"):
        floor = package / kind
        parts = {path.relative_to(floor).parts[0] for path in lines if floor in path.parents}
        for part in sorted(parts - {"__init__.py"}):
            total = sum(count for path, count in lines.items() if path.is_relative_to(floor / part))
            found.add("part", f"{PACKAGE}/{kind}/{part}", 1, total)


def measure_python(found: Survey, path: Path, where: str) -> None:
    """The functions, classes and ports of one file; and for core and the record, what it reaches for."""
    try:
        tree = ast.parse(path.read_bytes(), filename=where)
    except SyntaxError as error:
        found.broken.append(f"{where}:{error.lineno or 1}: it is not Python: {error.msg}")
        return
    for name, node in definitions(tree, ""):
        if isinstance(node, ast.ClassDef):
            rule = "port" if where.startswith(f"{PACKAGE}/ports/") and is_protocol(node) else "class"
            found.add(rule, f"{where}::{name}", node.lineno, len(public_methods(node)))
        else:
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            found.add("function", f"{where}::{name}", node.lineno, length)
    if where.startswith((f"{PACKAGE}/core/", f"{PACKAGE}/record/")):
        found.broken.extend(impurities(tree, where))


Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Definition]]:
    """Every class and function under a node, with its dotted name, nested ones included."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            name = f"{prefix}{child.name}"
            yield name, child
            yield from definitions(child, f"{name}.")
        else:
            yield from definitions(child, prefix)


def is_protocol(node: ast.ClassDef) -> bool:
    """Is it a typing.Protocol, plain, dotted or generic?"""
    bases = (base.value if isinstance(base, ast.Subscript) else base for base in node.bases)
    return any(last_name(base) == "Protocol" for base in bases)


def public_methods(node: ast.ClassDef) -> set[str]:
    """The names a user of the class must know; an overload or a property with a setter counts once.

    The checks of a proof (``test_...``) do not: only the test runner calls them.
    """
    functions = (child for child in node.body if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions if not function.name.startswith(("_", "test_"))}


# ------------------------------------------------------------------------------------------------------ judge


class Exemption(NamedTuple):
    """A large thing that was there when its line was drawn: how large it may be, and why it is."""

    value: int
    because: str


Exemptions = dict[tuple[str, str], Exemption]


def parse_exemptions(text: str) -> Exemptions:
    """``{rule: {key: {"value": n, "because": "..."}}}``, flattened."""
    return {
        (rule, key): Exemption(int(entry["value"]), str(entry["because"]))
        for rule, entries in json.loads(text).items()
        for key, entry in entries.items()
    }


def render_exemptions(exemptions: Exemptions) -> str:
    """The file's text, in order."""
    nested: dict[str, dict[str, dict[str, int | str]]] = {}
    for (rule, key), entry in sorted(exemptions.items()):
        nested.setdefault(rule, {})[key] = entry._asdict()
    return json.dumps(nested, indent=2) + "\n"


def judge(found: Survey, exemptions: Exemptions) -> list[str]:
    """Every line that is crossed, and every exemption that is looser than it need be."""
    over = {(m.rule, m.key): m for m in found.measures if m.value > RULES[m.rule].never}
    complaints = list(found.broken)
    for place, measure in over.items():
        rule, recorded = RULES[measure.rule], exemptions.get(place)
        says = f"{measure.place}: {measure.name} is {measure.value} ({rule.what}), never over {rule.never}"
        if recorded is None:
            complaints.append(f"{says}: {rule.next_step}")
        elif measure.value > recorded.value:
            complaints.append(f"{says}, and it grew from the recorded {recorded.value}: {rule.next_step}")
    for place, recorded in exemptions.items():
        measured = over.get(place)
        if measured is None or measured.value < recorded.value:
            now = f"is {measured.value} now" if measured else "is within its limit now, or gone"
            complaints.append(
                f"tools/ratchet.json:1: {place[1]} {now}, recorded {recorded.value}: "
                "well done; run python tools/ratchet.py --tighten"
            )
        if not recorded.because.strip():
            complaints.append(f"tools/ratchet.json:1: {place[1]} gives no reason: write one under `because`")
    return complaints


def loosened(now: Exemptions, before: Exemptions) -> list[str]:
    """The exemptions that are new, or larger than they were."""
    return [
        f"tools/ratchet.json:1: {key} may be {entry.value} ({RULES[rule].what}), before: "
        f"{before[rule, key].value if (rule, key) in before else 'none'}: exceptions may only shrink"
        for (rule, key), entry in now.items()
        if (rule, key) not in before or entry.value > before[rule, key].value
    ]


def tighten(found: Survey, exemptions: Exemptions) -> Exemptions:
    """The exemptions lowered to what is measured; what is within its limit needs none."""
    over = {(m.rule, m.key): m.value for m in found.measures if m.value > RULES[m.rule].never}
    return {
        place: entry._replace(value=min(entry.value, over[place]))
        for place, entry in exemptions.items()
        if place in over
    }


# ------------------------------------------------------------------------------------------------------- tell


def table(found: Survey) -> str:
    """Medians and maxima of src/tallystick, against aim and never."""
    rows = [("", "aim", "never", "median", "max", "the largest")]
    for key, rule in RULES.items():
        measures = [m for m in found.measures if m.rule == key and m.key.startswith(PACKAGE)]
        if measures:
            largest = max(measures, key=lambda m: m.value)
            measured = f"{median(m.value for m in measures):g}", str(largest.value), largest.key
            rows.append((rule.what, str(rule.aim), str(rule.never), *measured))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  " + "  ".join(f"{row[c]:>{widths[c]}}" for c in range(1, 5)) + f"  {row[5]}"
        for row in rows
    )


def recorded_at(root: Path, revision: str) -> Exemptions | None:
    """The exceptions as they were at a revision; None where git, or the file in it, is not there."""
    if not (git := shutil.which("git")):
        return None
    command = [git, "-C", str(root), "show", f"{revision}:tools/ratchet.json"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    return parse_exemptions(shown.stdout) if shown.returncode == 0 else None


def main(arguments: list[str] | None = None) -> int:
    """Measure, judge, tell."""
    parser = argparse.ArgumentParser(description="The sizes that the tree keeps, as a ratchet.")
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--against", metavar="REV", help="no exception new or larger than then")
    parser.add_argument("--tighten", action="store_true", help="lower the exceptions to what is measured")
    options = parser.parse_args(arguments)
    record: Path = options.root / "tools" / "ratchet.json"
    exemptions = parse_exemptions(record.read_text()) if record.is_file() else {}
    found = survey(options.root)
    if options.tighten:
        exemptions = tighten(found, exemptions)
        record.write_text(render_exemptions(exemptions))
    complaints = judge(found, exemptions)
    before = recorded_at(options.root, options.against) if options.against else None
    if before is not None:
        complaints += loosened(exemptions, before)
    print(table(found))
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    print(f"{len(found.measures)} measured, {len(complaints)} complaints, {len(exemptions)} exceptions")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
