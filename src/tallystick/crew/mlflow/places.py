"""Which places MLflow's own server opens on request, and that no request moves what it opens.

Anybody may create an experiment whose artifacts are at ``file:///etc``: a client then reads there with its
own rights, which is its affair, but the server must not read or write there. With workspaces on, it also
opens for each of them only its own.
"""

from __future__ import annotations

import functools
import inspect
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

__all__ = ["Roots", "guarded", "keep_places", "keep_within"]

PLACE = "mlflow.artifactLocation"
"""The tag that says where a trace's artifacts are: MLflow sets it as it makes the trace."""
_SETS_TAGS = ("set_trace_tag", "delete_trace_tag", "deprecated_end_trace_v2", "log_spans")
_FOLDER, _DEFAULT = "workspaces", "default"
"""MLflow's names: ``<root>/workspaces/<name>`` is a workspace's; the default one's may lie beside those."""


@dataclass(frozen=True, slots=True)
class Roots:
    """The places that may be opened: URIs, first that of the hub's own artifacts.

    ``own_root`` gives the place that a workspace has chosen for its artifacts, empty where it has not; it is
    None where there are no workspaces.
    """

    roots: tuple[str, ...]
    own_root: Callable[[str], str] | None = None

    def has(self, uri: str, workspace: str | None) -> bool:
        """Whether a request in ``workspace`` may have ``uri`` opened."""
        for n, root in enumerate(self.roots):
            below = _below(uri, root)
            if below is not None:
                return self.own_root is None or self._belongs(uri, below, workspace, n > 0)
        return False

    def _belongs(self, uri: str, below: tuple[str, ...], workspace: str | None, outside: bool) -> bool:
        if not below or not workspace:
            return False  # a root itself holds every workspace's
        if below[0] == _FOLDER:
            return below[1:2] == (workspace,)
        if workspace == _DEFAULT:
            return True
        own = self.own_root(workspace) if outside and self.own_root else ""
        return bool(own) and _below(uri, own) is not None


def _below(uri: str, root: str) -> tuple[str, ...] | None:
    """The folders that lead from ``root`` to ``uri``; None where they do not."""
    from mlflow.utils import file_utils
    from mlflow.utils import uri as uris

    # MLflow's own reading counts, as it is MLflow that opens; it has no types here.
    is_local, path_of = cast(Any, uris.is_local_uri), cast(Any, file_utils.local_file_uri_to_path)
    if is_local(uri) and is_local(root):
        path, above = Path(path_of(uri)).resolve(), Path(path_of(root)).resolve()
        return path.relative_to(above).parts if path.is_relative_to(above) else None
    plain = not any(part in uri for part in ("..", "%", "\\", "?", "#"))
    start = root.rstrip("/") + "/"
    if not plain or not f"{uri}/".startswith(start):
        return None
    return tuple(part for part in uri[len(start) :].split("/") if part not in ("", "."))


def keep_within(roots: tuple[str, ...], workspaces: bool) -> None:
    """Let the server open artifacts in ``roots`` only, wherever an experiment or model says they are."""
    from mlflow.server import handlers
    from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories

    if workspaces:  # opened once, and kept: MLflow keeps its paths apart, and nothing else may be so wide
        own = cast(Any, handlers)
        own._get_artifact_repo_mlflow_artifacts()
        own._get_workspace_scoped_repo_path_if_enabled = _plainly(
            own._get_workspace_scoped_repo_path_if_enabled
        )
    allowed = Roots(roots, _own_root if workspaces else None)
    makers = cast(dict[str, Callable[..., Any]], get_registered_artifact_repositories())
    for scheme, maker in list(makers.items()):
        if scheme not in ("runs", "models"):  # these lead to one of the others
            makers[scheme] = guarded(maker, allowed)


def _plainly(scoped: Callable[[str | None], str | None]) -> Callable[[str | None], str | None]:
    """``scoped``, which tells paths of workspaces by how they begin, for ``./workspaces/...`` as well."""

    def call(artifact_path: str | None) -> str | None:
        return scoped(posixpath.normpath(artifact_path) if artifact_path else artifact_path)

    return call


def _own_root(workspace: str) -> str:
    from mlflow.server import workspace_helpers

    store = cast(Any, workspace_helpers._get_workspace_store)()
    root, is_shared = store.resolve_artifact_root("", workspace)
    return "" if is_shared else str(root or "")


def guarded(maker: Callable[..., Any], allowed: Roots) -> Callable[..., Any]:
    """``maker`` of what opens an artifact's URI, for what is ``allowed`` in the workspace of the request."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
    from mlflow.utils.workspace_context import get_request_workspace

    def make(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
        address = urlsplit(artifact_uri)
        # With no host it means this server itself, which cannot ask itself: it opens what is meant instead.
        own = address.scheme == "mlflow-artifacts" and not address.netloc
        if not own and not allowed.has(artifact_uri, get_request_workspace()):
            raise MlflowException(
                f"The hub does not open artifacts at {artifact_uri}: it is outside its own artifacts",
                error_code=PERMISSION_DENIED,
            )
        return maker(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)

    return make


def keep_places(store: Any) -> None:
    """Have ``store``, MLflow's record, take no tag from a client that says where a trace's artifacts are."""
    for name in _SETS_TAGS:
        if hasattr(store, name):
            setattr(store, name, _not_moving(getattr(store, name)))


def _not_moving(method: Callable[..., Any]) -> Callable[..., Any]:
    """``method`` as it is but for that tag: refused where it is set alone, left out among others."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracing.constant import SpanAttributeKey

    signature, attribute = inspect.signature(method), f"{SpanAttributeKey.TRACE_TAG_PREFIX}{PLACE}"

    @functools.wraps(method)
    def call(*given: Any, **named: Any) -> Any:
        told = signature.bind(*given, **named)
        spans = told.arguments.get("spans", ())
        if told.arguments.get("key") == PLACE or any(span.get_attribute(attribute) for span in spans):
            raise cast(Any, MlflowException).invalid_parameter_value(
                f"Tag '{PLACE}' is immutable: it says where MLflow itself has put the trace's artifacts"
            )
        if "tags" in told.arguments:
            told.arguments["tags"] = {k: v for k, v in told.arguments["tags"].items() if k != PLACE}
        return method(*told.args, **told.kwargs)

    return call
