"""The project's own pipelines, compiled by the stock SDK: run by the hub, and beside it by kfp.local."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tallystick.core.errors import TallyError
from tallystick.core.run.options import RunOptions
from tests.corpus.cases import CASES, PIPELINES, Case
from tests.corpus.runs import opened_house, run_spec, shown
from tests.doors.kfp.corpus import KFP_PYTHON, needs_kfp
from tests.fakes.house import add_table

pytestmark = [needs_kfp, pytest.mark.slow]

CASE = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files to import."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "rows.csv").write_text("a,b\n")
    return folder


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Path:
    """Every pipeline compiled, and ``local.json``: what kfp.local makes of each case."""
    out = tmp_path_factory.mktemp("compiled")
    words = [KFP_PYTHON, Path(__file__).with_name("beside.py"), PIPELINES, out, files]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return out


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, compiled: Path, files: Path) -> dict[str, Any]:
    """What the hub makes of each case, all of them at once in one house."""
    return asyncio.run(_run_all(tmp_path_factory.mktemp("house"), compiled, files))


async def _run_all(folder: Path, compiled: Path, files: Path) -> dict[str, Any]:
    async with opened_house(folder) as house:
        await add_table(house)
        made = await run_spec(
            house, (compiled / "imports" / "made_for_others.yaml").read_bytes(), {"text": "kept"}
        )

        async def one(case: Case) -> Mapping[str, Any]:
            spec = (compiled / case.module / f"{case.pipeline}.yaml").read_bytes()
            options = RunOptions(cache=case.cache, commands=case.commands, no_gpus=case.no_gpus)
            try:
                run = await run_spec(house, spec, case.with_files(files, made.key), options)
            except TallyError as wrong:
                return {"state": "refused", "outputs": {}, "said": [], "error": str(wrong)}
            return await shown(house, run)

        found = [await one(case) for case in CASES]
        assert list((folder / "workspaces").iterdir()) == []
        assert list(house.scratch.iterdir()) == []
    return {case.name: one for case, one in zip(CASES, found, strict=True)}


def exact(seen: Mapping[str, Any]) -> str:
    """As JSON, where 1 and 1.0 are not the same."""
    return json.dumps(
        {name: seen.get(name) for name in ("state", "outputs", "said")}, indent=1, sort_keys=True
    )


@CASE
def test_the_hub_gives_what_is_right(case: Case, hub: dict[str, Any]) -> None:
    assert exact(hub[case.name]) == exact(case.right), hub[case.name].get("error")


@CASE
def test_kfp_local_gives_the_same_where_it_is_right(case: Case, compiled: Path) -> None:
    seen = json.loads((compiled / "local.json").read_text())[case.name]
    if case.local:
        assert exact(seen) != exact(case.right), f"it is right now; take out: {case.local}"
    else:
        assert exact(seen) == exact(case.right), seen["error"]
