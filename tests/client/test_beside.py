"""MLflow's other stores, by the one line that sets the tracking URI."""

from __future__ import annotations

import mlflow
import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
from mlflow.store.model_registry.rest_store import RestStore
from mlflow.store.workspace.rest_store import RestWorkspaceStore
from mlflow.tracking._model_registry.utils import _get_store as registry_of
from mlflow.tracking._workspace.registry import get_workspace_store

from tests.client.keeper import Keeper

ROOT = "/api/2.0/mlflow-artifacts/artifacts"


def test_the_registry_follows_the_tracking_uri(tracked: Keeper) -> None:
    assert mlflow.get_registry_uri() == tracked.tally
    found = registry_of()
    assert isinstance(found, RestStore)
    assert found.get_host_creds().host == tracked.url
    mlflow.MlflowClient().search_registered_models()
    assert tracked.calls("/api/2.0/mlflow/registered-models/search")


def test_a_registry_uri_of_its_own(tracked: Keeper) -> None:
    assert registry_of("tally+https://hub").get_host_creds().host == "https://hub"


def test_workspaces(tracked: Keeper) -> None:
    found = get_workspace_store(tracked.tally)
    assert isinstance(found, RestWorkspaceStore)


def test_scorers(tracked: Keeper) -> None:
    from mlflow.genai.scorers.registry import _get_scorer_store

    assert _get_scorer_store().list_scorers("0") == []
    assert tracked.calls("/api/3.0/mlflow/scorers/list")


@pytest.mark.parametrize("given", [True, False])
def test_artifacts_lie_at_the_hub(tracked: Keeper, given: bool) -> None:
    found = get_artifact_repository("mlflow-artifacts:/0/abc", tracked.tally if given else None)
    assert isinstance(found, MlflowArtifactsRepository)
    assert found.artifact_uri == f"{tracked.url}{ROOT}/0/abc"


def test_an_artifact_server_elsewhere_stays_where_it_is(tracked: Keeper) -> None:
    found = get_artifact_repository("mlflow-artifacts://other:1/0/abc", tracked.tally)
    assert found.artifact_uri == f"http://other:1{ROOT}/0/abc"


def test_whoever_tracks_elsewhere_notices_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = get_artifact_repository("mlflow-artifacts:/0/abc", "http://mlflow:5000")
    assert found.artifact_uri == f"http://mlflow:5000{ROOT}/0/abc"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://other")
    assert get_artifact_repository("mlflow-artifacts:/x").artifact_uri == f"https://other{ROOT}/x"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///x.db")
    with pytest.raises(mlflow.MlflowException, match="must be a valid http or https URI"):
        get_artifact_repository("mlflow-artifacts:/x")
