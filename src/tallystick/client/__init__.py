"""In the user's own process: what MLflow's client finds when its tracking URI begins with ``tally``.

::

    mlflow.set_tracking_uri("tally://127.0.0.1:5000")

is all that a program needs. Everything goes to the hub as MLflow sends it, over HTTP; metrics alone are
gathered and sent in the background, many at once. docs/client.md says what that promises. A loop that logs
often may call :func:`log_metrics` in the place of ``mlflow.log_metrics``.

    store.py      the tracking store: MLflow's own over HTTP, with metrics through the buffer
    metrics.py    log_metrics: MLflow's, for loops
    beside.py     MLflow's other stores (models, artifacts, workspaces, scorers), at the same address
    buffer.py     the points that wait, the thread that sends them, flush
    courier.py    one chunk of points to the hub: tried again, split, refused
    post.py       one request
    wire.py       rows as blocks and columns
    settings.py   environment variables

Nothing here imports the rest of tallystick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# First of all: MLflow imports our store as it is imported itself. Begun from one of our modules instead, that
# would find half a module.
import mlflow  # noqa: F401 - for what it does, as said above

if TYPE_CHECKING:
    from tallystick.client.metrics import log_metrics

__all__ = ["flush", "log_metrics"]


def __getattr__(name: str) -> Any:
    """``log_metrics``, once it is asked for: it needs all of MLflow, which may be half imported by now."""
    if name != "log_metrics":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tallystick.client.metrics import log_metrics

    globals()[name] = log_metrics
    return log_metrics


def flush(timeout_s: float | None = None) -> None:
    """Return when every metric that this process has logged is durable on its hub.

    MlflowException where that did not come to pass: a run that refused its points, a hub that was away for
    longer than is tried again, or ``timeout_s`` seconds gone by.
    """
    from tallystick.client.buffer import flush_all

    flush_all(timeout_s)
