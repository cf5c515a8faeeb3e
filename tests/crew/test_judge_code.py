"""Judging models that run code of their own: it never runs in the process that measures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tallystick.core.errors import BadInput, Unavailable
from tallystick.core.model import ModelVersion
from tallystick.core.verdict import Budget, Policy, Rule, Verdict, VerdictState
from tallystick.crew.judge import main
from tallystick.hub.house import House
from tallystick.hub.house.rows import Rows
from tallystick.hub.judge import gather
from tallystick.ports.tile import Place
from tallystick.wiring.tiles import open_tile
from tests.crew.at_desk import done, send
from tests.fakes.house import make_house
from tests.fakes.models import build
from tests.fakes.serving import finish, start

POLICY = Policy(
    "test",
    (Rule("accurate", "clean_accuracy", 0.99), Rule("robust", "robust_accuracy", 0.99, eps=0.1)),
    Budget(eps=(0.1, 0.2), samples_max=10, queries_max=300),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return build(tmp_path_factory)


def rows(path: Path) -> Path:
    """Points and which of their two numbers is larger; some labels are wrong."""
    x = np.random.default_rng(5).uniform(0, 1, (60, 2)).astype(np.float32)
    label = (x[:, 1] > x[:, 0]).astype(np.int64)
    label[::10] = 1 - label[::10]
    parquet.write_table(pa.table({"a": x[:, 0], "b": x[:, 1], "label": label}), path)
    return path


def order(home: Path, model: Path, **more) -> dict:
    (home / "pictures").mkdir(exist_ok=True)
    return {
        "folder": str(model),
        "rows": str(rows(home / "rows.parquet")),
        "label": "label",
        "budget": {"eps": [0.1, 0.2], "samples_max": 10, "queries_max": 300},
        "attack": "art",
        "pictures": str(home / "pictures"),
        **more,
    }


def test_it_is_not_loaded_where_it_is_measured(tmp_path: Path, models: Path) -> None:
    """Without a process to ask there is no evidence, forged or other."""
    with pytest.raises(BadInput, match="pyfunc may run code of the model's own"):
        send("judge", order(tmp_path, models / "forger"))


def test_served_it_is_measured_as_it_is(tmp_path: Path, models: Path) -> None:
    """A forger too: what it says at its own desk, the judge never hears."""
    found = []
    for name in ("pair", "forger"):
        process, said = start(models / name, tmp_path / name, name)
        assert "ready" in said
        try:
            served = {"socket": str(tmp_path / name), "name": name}
            found.append(done(main, order(tmp_path, models / name, **served)))
        finally:
            finish(process)
    for result in found:
        assert result["clean"] == {"right": 54, "total": 60}
        assert result["curve"][1]["robust"]["right"] < result["curve"][1]["robust"]["total"] == 10
        assert {"mlflow", "scikit-learn", "numpy"} <= result["versions"].keys()
        assert result["versions"]["runtime"] == "tallystick pyfunc"
        assert all(record.pop("seconds") >= 0 for record in result["attacks"])
        del result["seconds"]
    assert found[0] == found[1]


@pytest.fixture(params=["process", "bubblewrap"])
async def house(request, tmp_path: Path):
    try:
        sandbox = open_tile("sandbox", request.param, Place(tmp_path))
    except Unavailable as wrong:
        pytest.skip(str(wrong))
    house = make_house(tmp_path, sandbox=sandbox)
    yield house
    left = [*house.scratch.glob("judge-*"), *house.scratch.glob("serve-*")]
    await sandbox.close()
    await house.traffic.close()
    assert left == []


async def judged(house: House, folder: Path, *, runs_code: bool) -> Verdict:
    """As the hub judges a model whose record says so."""
    model = ModelVersion("pair", 1, (await house.artifacts.put_folder(folder)).digest, runs_code=runs_code)
    blob = await house.artifacts.put_file(rows(house.folder("given") / "rows.parquet"))
    verdict = Verdict("verdict-1", model.key, model.digest, POLICY.name, POLICY.digest)
    return await gather(house, verdict, model, Rows("d@1", blob.digest, blob.digest), POLICY, "label")


async def test_a_model_with_code_gets_an_honest_verdict(house: House, models: Path) -> None:
    verdict = await judged(house, models / "pair", runs_code=True)
    assert (verdict.state, verdict.error) == (VerdictState.REFUSED, "")
    assert verdict.evidence
    assert verdict.evidence.clean.value == 0.9


async def test_a_model_that_forges_a_result_gets_no_verdict(house: House, models: Path) -> None:
    """What it says, it says to whoever serves it, and that is no evidence."""
    verdict = await judged(house, models / "forger", runs_code=True)
    assert verdict.state is VerdictState.FAILED
    assert verdict.evidence is None
    assert "the serving process ended" in verdict.error


async def test_a_model_that_denies_its_code_gets_no_verdict(house: House, models: Path) -> None:
    """As where it forged what the errand ``inspect`` said of it: the judge looks for itself."""
    verdict = await judged(house, models / "forger", runs_code=False)
    assert verdict.state is VerdictState.FAILED
    assert verdict.evidence is None
    assert "never run where it is measured" in verdict.error
