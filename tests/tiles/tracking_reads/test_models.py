"""Logged models, registered models and versions are told as MLflow tells them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from tallystick.record.asks import NotPlain
from tallystick.record.model_asks import (
    GetLoggedModel,
    GetModelVersion,
    GetRegisteredModel,
    HeldVersions,
    SearchLoggedModels,
)
from tests.tiles.tracking_reads.both import Both, same_pages
from tests.tiles.tracking_reads.parts import told_model


def test_logged_models(both: Both) -> None:
    for ids, size in itertools.product([(1,), (1, 2, 3), (9,)], [1, 4, 100]):
        _search_models(both, ids, size)
    names = {one.name for one in both.store.search_logged_models(["1", "2", "3"])}
    assert len(names) > 1
    for name in [*sorted(names), "none", min(names).upper()]:
        _search_models(both, (1, 2, 3), 2, name)


def _search_models(both: Both, ids: tuple[int, ...], size: int, name: str = "") -> None:
    words = f"name = '{name}'" if name else None

    def theirs(token: str | None) -> tuple[list[Any], str | None]:
        named = [str(number) for number in ids]
        found = both.store.search_logged_models(named, words, max_results=size, page_token=token)
        return list(found), found.token

    same_pages(theirs, lambda offset: both.ask(SearchLoggedModels(ids, size, offset, name)), told_model)


def test_a_logged_model(both: Both) -> None:
    for number in range(13):
        model_id = f"m-{number:032x}"
        try:
            theirs = both.store.get_logged_model(model_id)
        except MlflowException:
            with pytest.raises(NotPlain):
                both.ask(GetLoggedModel(model_id))
        else:
            assert told_model(both.ask(GetLoggedModel(model_id))) == told_model(theirs)


def _told_version(one: Any) -> tuple[Any, ...]:
    """A version of MLflow's, in our order; where it is stored is not told."""
    about = (
        one.name,
        one.version,
        one.creation_timestamp,
        one.last_updated_timestamp,
        one.description,
        one.user_id,
    )
    about += (one.current_stage, one.source, one.run_id, one.run_link, one.status, one.status_message, None)
    return (*about, sorted(one.tags.items()), sorted(one.aliases))


def test_registered_models(both: Both) -> None:
    for name in ("forecaster", "empty"):
        theirs = both.registry.get_registered_model(name)
        ours = both.ask(GetRegisteredModel(name))
        assert ours[:4] == (
            theirs.name,
            theirs.creation_timestamp,
            theirs.last_updated_timestamp,
            theirs.description,
        )
        assert dict(ours.tags) == theirs.tags
        assert dict(ours.aliases) == {alias: str(version) for alias, version in theirs.aliases.items()}
        assert sorted(ours.latest) == sorted(map(_told_version, theirs.latest_versions))
    with pytest.raises(NotPlain):
        both.ask(GetRegisteredModel("Forecaster"))


def test_versions_of_models(both: Both) -> None:
    told: dict[Callable[[], Any], GetModelVersion] = {
        lambda: both.registry.get_model_version("forecaster", "1"): GetModelVersion("forecaster", 1),
        lambda: both.registry.get_model_version("forecaster", "2"): GetModelVersion("forecaster", 2),
        lambda: both.registry.get_model_version_by_alias("forecaster", "champion"): GetModelVersion(
            "forecaster", alias="champion"
        ),
    }
    for theirs, ask in told.items():
        ours = both.ask(ask)
        assert (*ours[:-1], sorted(ours.aliases)) == _told_version(theirs())
    for number, alias in ((5, ""), (6, ""), (0, "lost"), (0, "none"), (0, "latest")):
        with pytest.raises(NotPlain):
            both.ask(GetModelVersion("forecaster", number, alias))


def test_versions_that_hold_something(both: Both) -> None:
    """Each with all its aliases and its stage, as MLflow tells them one by one; and none that was deleted."""
    theirs = set()
    for model in both.registry.search_registered_models():
        for one in both.registry.search_model_versions(f"name = '{model.name}'"):
            told = both.registry.get_model_version(one.name, str(one.version))
            if told.aliases or told.current_stage != "None":
                kept = both.registry.get_model_version_download_uri(one.name, str(one.version))
                theirs |= {
                    (one.name, int(one.version), alias, told.current_stage, told.source, kept)
                    for alias in told.aliases or [None]
                }
    ours = both.ask(HeldVersions())
    assert {(*one[:5], one.storage_location or one.source) for one in ours} == theirs
    assert len(ours) == len(theirs) == 4
