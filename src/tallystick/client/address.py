"""The hub's address, as MLflow's URI names it and as HTTP does."""

from __future__ import annotations

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

__all__ = ["http_of", "is_ours"]

_HTTP = {"tally": "http", "tally+http": "http", "tally+https": "https"}


def is_ours(uri: str | None) -> bool:
    """Whether ``uri`` has one of our schemes."""
    return uri is not None and uri.partition("://")[0].lower() in _HTTP


def http_of(uri: str) -> str:
    """``tally://host:5000`` as ``http://host:5000``, ``tally+https`` as ``https``; no slash at the end.

    MlflowException for an address without a host, or with a query.
    """
    scheme, _, rest = uri.partition("://")
    host = rest.partition("/")[0]
    if not host or "?" in rest or "#" in rest:
        raise MlflowException(
            f"'{uri}' is no address of a hub: it has the form tally://HOST:PORT, or tally+https://HOST:PORT",
            INVALID_PARAMETER_VALUE,
        )
    return f"{_HTTP[scheme.lower()]}://{rest.rstrip('/')}"
