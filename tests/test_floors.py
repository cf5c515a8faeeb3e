"""`make check` holds the floors: each forbidden import, planted in a copy of the tree, is caught by name."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import ratchet

ROOT = Path(__file__).resolve().parent.parent

DOWN = "An import goes only down"
LOW = "Tiles import core and ports only"
UNNAMED = "Nobody imports a tile: it is found by its entry point"
TILES_APART = "Tiles do not know each other"
DOORS_APART = "Doors do not know each other"
VERBS_APART = "Verbs do not know each other"
NOUNS = "A noun imports only the nouns before it"
PURE = "Core and record do no I/O, read no clock and draw no lots"
DRAWN = "Drawing imports core only, and does no I/O"
CYCLES = "No import cycles, lazy and typing ones included"


FORBIDDEN = [
    ("core/names.py", "sqlite3", PURE),
    ("core/run/events.py", "time", PURE),
    ("core/run/events.py", "random", PURE),
    ("core/data.py", "tallystick.core.wall", NOUNS),
    ("core/names.py", "tallystick.ports.ledger", DOWN),
    ("ports/ledger.py", "tallystick.hub.ingest", DOWN),
    ("hub/ingest.py", "tallystick.doors.api", DOWN),
    ("hub/ingest.py", "tallystick.settings", DOWN),
    ("hub/ingest.py", "tallystick.hub.register", VERBS_APART),
    ("hub/ingest.py", "tallystick.tiles.catalogue", UNNAMED),
    ("doors/api/__init__.py", "tallystick.tiles.ledger", UNNAMED),
    ("doors/api/__init__.py", "tallystick.doors.mlflow", DOORS_APART),
    ("doors/api/__init__.py", "tallystick.crew", DOWN),
    ("proofs/__init__.py", "tallystick.tiles.ledger", UNNAMED),
    ("tiles/ledger/__init__.py", "tallystick.hub.ingest", LOW),
    ("tiles/ledger/__init__.py", "tallystick.settings", LOW),
    ("tiles/ledger/__init__.py", "tallystick.tiles.clock", TILES_APART),
    ("wiring/__init__.py", "tallystick.tiles.ledger", UNNAMED),
    ("tour/__init__.py", "tallystick.tiles.ledger", UNNAMED),
    ("tour/__init__.py", "tallystick.wiring.home", DOWN),
    ("doors/cli/__init__.py", "tallystick.tour", DOWN),
    ("tiles/ledger/__init__.py", "tallystick.tour", LOW),
    ("client/__init__.py", "tallystick.core.errors", DOWN),
    ("client/__init__.py", "tallystick.tiles.ledger", UNNAMED),
    ("core/names.py", "tallystick.client", DOWN),
    ("settings.py", "tallystick.drawing", DOWN),
    ("drawing/svg.py", "tallystick.doors.console", DOWN),
    ("drawing/svg.py", "tallystick.hub.house", DRAWN),
    ("drawing/svg.py", "starlette", DRAWN),
    ("tiles/ledger/__init__.py", "tallystick.drawing", LOW),
    ("drawing/svg.py", "tallystick.tiles.ledger", UNNAMED),
    ("core/names.py", "tallystick.record", DOWN),
    ("record/rules.py", "tallystick.ports.tracking", DOWN),
    ("record/rules.py", "time", PURE),
]
"""A file, what it must not import, and the contract that says so."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the checks read: src and pyproject.toml."""
    root = tmp_path_factory.mktemp("floors")
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def broken_contracts(root: Path) -> tuple[set[str], str]:
    """The contracts that lint-imports names as broken in a tree, and all that it said."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    broken = set(re.findall(r"^(.+) BROKEN\b", said, re.MULTILINE))
    assert done.returncode == bool(broken), said  # it fails for a broken contract and for nothing else
    assert f"{len(broken)} broken" in said, said
    return broken, said


@contextmanager
def planted(root: Path, where: str, text: str) -> Iterator[None]:
    """The tree with ``text`` at the end of the file ``where`` (of src/tallystick), for as long as needed."""
    file = root / "src/tallystick" / where
    before = file.read_bytes() if file.exists() else None
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as end:
        end.write(f"\n{text}\n".encode())
    try:
        yield
    finally:
        if before is None:
            file.unlink()
        else:
            file.write_bytes(before)


def test_the_tree_as_it_is_passes(copy: Path) -> None:
    assert broken_contracts(copy)[0] == set()
    assert ratchet.survey(copy).broken == []


@pytest.fixture(scope="module")
def caught(copy: Path) -> dict[str, str]:
    """What lint-imports says of each contract, by its name, while all of FORBIDDEN is planted at once."""
    with ExitStack() as stack:
        for where, imports, _ in FORBIDDEN:
            stack.enter_context(planted(copy, where, f"import {imports}"))
        _, said = broken_contracts(copy)
    parts = re.split(r"^(.+)\n-+\n", said.partition("Broken contracts")[2], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(("where", "imports", "contract"), FORBIDDEN)
def test_a_forbidden_import_is_caught_by_its_contract(
    caught: dict[str, str], where: str, imports: str, contract: str
) -> None:
    importer = "tallystick." + where.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert f"{importer} -> {imports} " in caught[contract]


@pytest.mark.parametrize(
    "text",
    [
        "def late():\n    import tallystick.tiles.ledger",
        "if TYPE_CHECKING:\n    import tallystick.tiles.ledger",
    ],
    ids=["lazy", "typing"],
)
def test_a_lazy_or_typing_import_counts_like_any_other(copy: Path, text: str) -> None:
    with planted(copy, "doors/api/__init__.py", text):
        assert broken_contracts(copy)[0] == {UNNAMED}


def test_a_cycle_is_caught_even_where_every_floor_allows_it(copy: Path) -> None:
    with (
        planted(copy, "hub/house.py", "import tallystick.hub._one"),
        planted(copy, "hub/_one.py", "import tallystick.hub.house"),
    ):
        broken, _ = broken_contracts(copy)
    assert CYCLES in broken


@pytest.mark.parametrize("where", ["core/fate.py", "attic/__init__.py"])
def test_what_no_contract_lists_is_no_part_of_the_house(copy: Path, where: str) -> None:
    with planted(copy, where, '"""Unlisted."""'):
        broken, said = broken_contracts(copy)
    assert broken & {NOUNS, DOWN}
    assert "not listed as layers" in said


@pytest.mark.parametrize("text", ["import numpy", "import getpass", "open('x')"])
def test_core_reaches_for_nothing_that_is_not_on_its_list(copy: Path, text: str) -> None:
    with planted(copy, "core/names.py", text):
        complaints = ratchet.survey(copy).broken
    assert len(complaints) == 1
    assert complaints[0].startswith("src/tallystick/core/names.py:")
