"""Loading MLflow in the crew: it is told to tell nobody, and its absence is an answer."""

from __future__ import annotations

import os
import warnings

import pytest

from tallystick.core.errors import MissingTile
from tallystick.crew.mlflow.loading import TELLS_NOBODY, loading_mlflow


@pytest.fixture(autouse=True)
def own_process(monkeypatch):
    """What a process of the crew keeps to its end is put back here."""
    for name in TELLS_NOBODY:
        monkeypatch.setenv(name, "false")
    with warnings.catch_warnings():
        yield


def test_nobody_is_told_and_no_warning_is_heard():
    with loading_mlflow("mlflow"):
        assert {name: os.environ[name] for name in TELLS_NOBODY} == TELLS_NOBODY
        warnings.warn("of what MLflow imports", DeprecationWarning, stacklevel=1)


def test_a_package_that_is_not_there_is_named_with_what_brings_it():
    with pytest.raises(MissingTile, match="Python package no_such_mlflow") as missing, loading_mlflow("a,b"):
        import no_such_mlflow.store  # noqa: F401  # it is the absence that is wanted
    assert missing.value.hint == "pip install 'tallystick[a,b]'"


def test_another_error_goes_on_as_it_is():
    with pytest.raises(ZeroDivisionError), loading_mlflow("mlflow"):
        raise ZeroDivisionError
