"""A keeper to log to, and MLflow pointed at it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking._tracking_service.utils import _get_store

from tallystick.client.store import TallyStore
from tests.client.keeper import Keeper, keep


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    keeper = Keeper()
    with keep(keeper):
        yield keeper


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent because time went by, and MLflow's own requests fail at once."""
    monkeypatch.setenv("TALLY_CLIENT_FLUSH_MS", "3600000")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture
def tracked(keeper: Keeper, calm: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    """The keeper, as MLflow's tracking server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # set_tracking_uri writes it: so it is put back
    mlflow.set_tracking_uri(keeper.tally)
    yield keeper
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)


@pytest.fixture
def store(tracked: Keeper) -> TallyStore:
    found = _get_store()
    assert isinstance(found, TallyStore)
    return found


@pytest.fixture
def program(keeper: Keeper) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a user's program, which logs to the keeper; variables of its environment by name."""
    started = []

    def start(source: str | Path, url: str = "", **environment: str) -> subprocess.Popen[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("TALLY_", "MLFLOW_"))}
        process = subprocess.Popen(
            [sys.executable, *(["-c", source] if isinstance(source, str) else [source])],
            env=clean
            | {"MLFLOW_TRACKING_URI": url or keeper.tally, "MLFLOW_DISABLE_TELEMETRY": "true"}
            | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
