"""One request to the hub, sent as MLflow's client sends: with its credentials, certificates and headers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request
from mlflow.utils.workspace_context import get_request_workspace
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME, WORKSPACE_HEADER_NAME

__all__ = ["PATH", "NotNow", "Post", "Refused", "TooLong"]

PATH = "/api/tally/metrics/columns"
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
"""Statuses after which the same request may succeed later."""
_NEVER_SECONDS = 60.0
_SHOWN = 300


class NotNow(Exception):
    """It was not taken, or nobody knows whether it was; the same batch may be sent again.

    ``after_s``: not before so many seconds. ``plain``: waiting alone will hardly help, so say so at once.
    """

    def __init__(self, why: str, *, after_s: float = 0.0, plain: bool = False) -> None:
        super().__init__(why)
        self.after_s = after_s
        self.plain = plain


class Refused(Exception):
    """The hub will never take this batch as it is; ``code`` is MLflow's error code."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class TooLong(Exception):
    """More than the hub takes at once."""


class Post:
    """Sends bodies to one hub; one thread at a time."""

    def __init__(self, creds: Callable[[], MlflowHostCreds]) -> None:
        self._creds = creds

    def __call__(self, body: bytes, workspace: str | None) -> None:
        """Return when the hub has made ``body`` durable; NotNow, Refused or TooLong otherwise."""
        headers = {"Content-Type": "application/json"}
        if name := _workspace_header(workspace):
            headers[WORKSPACE_HEADER_NAME] = name
        try:
            # No repeats down there: the courier counts them, and keeps the batch's id.
            answer = http_request(
                self._creds(),
                PATH,
                "POST",
                max_retries=0,
                retry_codes=frozenset(),
                raise_on_status=False,
                extra_headers=headers,
                data=body,
            )
        except MlflowException as error:
            raise NotNow(error.message) from error
        _judge(answer.status_code, answer.headers, answer.text)


def _workspace_header(workspace: str | None) -> str | None:
    """MLflow adds the workspace of this moment by itself; the points keep that of theirs."""
    if workspace is None and get_request_workspace():
        return DEFAULT_WORKSPACE_NAME
    return workspace


def _judge(status: int, headers: Any, text: str) -> None:
    said = _object(text)
    if status == 200 and "points" in said:
        return
    why = str(said.get("message") or text[:_SHOWN] or "no reason was given")
    if status in _AGAIN:
        raise NotNow(f"HTTP {status}: {why}", after_s=_seconds(headers.get("retry-after")))
    if status == 413:
        raise TooLong(why)
    if status in (401, 403):
        raise NotNow(f"HTTP {status}: {why}", plain=True)
    code = said.get("error_code")
    if not 400 <= status < 500 or not code or code == "ENDPOINT_NOT_FOUND":
        raise NotNow(
            f"HTTP {status} to POST {PATH}: {why} (is a tallystick hub at this address? For any other MLflow "
            "server, begin the tracking URI with http:// or https://)",
            plain=True,
        )
    raise Refused(str(code), why)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(word: str | None) -> float:
    """Retry-After in seconds; its other form, a date, counts as none."""
    try:
        return min(max(float(word or 0), 0.0), _NEVER_SECONDS)
    except ValueError:
        return 0.0
