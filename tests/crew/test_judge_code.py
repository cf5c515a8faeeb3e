"""Judging models that run code of their own: it never runs in the process that measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.core.errors import BadInput
from tests.crew.at_desk import send
from tests.crew.judging.orders import order, points, told, trouble
from tests.fakes.models import build
from tests.fakes.serving import finish, start


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return build(tmp_path_factory)


def test_it_is_not_loaded_where_it_is_measured(tmp_path: Path, models: Path) -> None:
    """Without a process to ask there is no evidence, forged or other."""
    with pytest.raises(BadInput, match="pyfunc may run code of the model's own"):
        send("judge", order(tmp_path, models / "forger", points(), []))


def test_served_it_is_measured_as_it_is(tmp_path: Path, models: Path, monkeypatch) -> None:
    """A forger too: what it says at its own desk, the judge never hears."""
    probes = trouble(monkeypatch)
    found = []
    for name in ("pair", "forger"):
        process, said = start(models / name, tmp_path / name, name)
        assert "ready" in said
        try:
            served = {"socket": str(tmp_path / name), "name": name, "out": f"out-{name}"}
            found.append(told(order(tmp_path, models / name, points(), probes, **served)))
        finally:
            finish(process)
    for result in found:
        assert (result.base.clean.right, result.base.clean.total) == (54, 60)
        assert result.parts[1]["robust"][-1] < result.base.right.right
        assert {"mlflow", "scikit-learn"} <= result.base.versions.keys()
        assert result.base.versions["runtime"] == "tallystick pyfunc"
        for part in result.parts:
            assert part["probe"].pop("seconds") >= 0
    assert found[0].parts == found[1].parts
