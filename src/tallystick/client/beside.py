"""MLflow's other stores at a ``tally`` address: they are its own, over HTTP to the same hub.

MLflow finds these builders by entry points, and hands each the URI that the user set.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from mlflow.utils.credentials import get_default_host_creds

from tallystick.client.address import http_of, is_ours

__all__ = ["open_artifacts", "open_registry", "open_scorers", "open_workspaces"]


def open_registry(store_uri: str, **_: Any) -> Any:
    """The registry of models and prompts (group ``mlflow.model_registry_store``)."""
    from mlflow.store.model_registry.rest_store import RestStore

    return RestStore(partial(get_default_host_creds, http_of(store_uri)))


def open_workspaces(workspace_uri: str) -> Any:
    """The workspaces (group ``mlflow.workspace_provider``)."""
    from mlflow.store.workspace.rest_store import RestWorkspaceStore

    return RestWorkspaceStore(partial(get_default_host_creds, http_of(workspace_uri)))


def open_scorers(tracking_uri: str) -> Any:
    """The scorers of generative models (group ``mlflow.scorer_store``): kept by the tracking store."""
    from mlflow.genai.scorers.registry import MlflowTrackingStore

    return MlflowTrackingStore(tracking_uri)


def open_artifacts(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    """What an ``mlflow-artifacts:`` address means (group ``mlflow.artifact_repository``).

    MLflow's own class makes such an address absolute by the tracking URI, and wants that to be HTTP: so it is
    told the hub's HTTP address. Whoever tracks elsewhere gets exactly what they would without us.
    """
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
    from mlflow.tracking._tracking_service.utils import get_tracking_uri

    tracking = tracking_uri or get_tracking_uri()
    return MlflowArtifactsRepository(
        artifact_uri,
        tracking_uri=http_of(tracking) if is_ours(tracking) else tracking_uri,
        registry_uri=http_of(registry_uri) if registry_uri and is_ours(registry_uri) else registry_uri,
    )
