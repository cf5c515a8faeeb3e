"""Nothing hostile gets past the inspection; and such files do run something where they are not stopped."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tallystick.evidence.supply import Inspected, Standing
from tallystick.tiles.inspection.advisors import FILES_MAX, advise
from tallystick.tiles.inspection.strict import Strict
from tests.corpus.hostile.case import CASES, MARK
from tests.fakes.models import REPOSITORY

for part in ("pickles", "archives", "formats"):
    importlib.import_module(f"tests.corpus.hostile.{part}")

CODE = {"loader-of-its-own", "class-that-xgboost-is-to-call"}
"""What is code by intent: never loaded unless a trusted key vouches for it, and behind a wall then."""

MISSED_AT_LEAST = 20
"""Of these files, those that neither advisor says anything about: why a list of the bad is no gate."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every hostile model in a folder of its own, after a careless reader loaded those that can be."""
    folder = tmp_path_factory.mktemp("hostile")
    for case in CASES.values():
        (folder / case.name).mkdir()
        case.make(folder / case.name)
    wanted = {case.name: [case.load, case.file] for case in CASES.values() if case.load}
    argv = [sys.executable, "-B", "-W", "ignore", "-m", "tests.corpus.hostile.naive", str(folder)]
    subprocess.run(
        argv,
        input=json.dumps(wanted),
        text=True,
        cwd=REPOSITORY,
        check=True,
        timeout=120,
        capture_output=True,
    )
    return folder


def inspect(folder: Path, advisors: bool = False) -> Inspected:
    return Strict(advisors).inspect(folder, lambda share, text: None)


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 100
    assert sum(bool(case.load) for case in CASES.values()) >= 60


@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if case.load))
def test_a_careless_reader_runs_it(corpus: Path, name: str) -> None:
    assert (corpus / f"{name}.at" / MARK).exists()


@pytest.mark.parametrize("name", sorted(CASES))
def test_it_is_refused(corpus: Path, name: str) -> None:
    found = inspect(corpus / name)
    assert found.standing is (Standing.CODE if name in CODE else Standing.REFUSED)
    assert all(looked.why for looked in found.worst)
    assert not (corpus / name / MARK).exists()
    assert not (Path.cwd() / MARK).exists()


def test_advisors_say_something_of_some_and_decide_nothing(corpus: Path) -> None:
    """What they say is kept, and they miss many; one that is not installed says nothing at all."""
    assert len(CASES) < FILES_MAX
    files = sorted(str(path.relative_to(corpus)) for name in CASES for path in (corpus / name).rglob("*"))
    advice, asked = advise(corpus, [file for file in files if (corpus / file).is_file()])
    spoken = {said.path.partition("/")[0] for said in advice if "failed" not in said.text}
    assert len(set(CASES) - spoken) >= MISSED_AT_LEAST
    found = inspect(corpus / "calls-os-system", advisors=True)
    assert found.standing is Standing.REFUSED
    assert found.advisors == asked
    if asked:
        assert any("system" in said.text for said in found.advice)
