"""Which paths pass: read once and strictly, so that the door and MLflow cannot read them differently."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from tallystick.core.errors import BadInput, Refused

__all__ = ["BODY_BYTES_MAX", "UPLOAD_BYTES_MAX", "Target", "check_open", "check_step", "target_of"]

BODY_BYTES_MAX = 64 * 1024 * 1024
"""Of a call: MLflow keeps a body in memory whole."""
UPLOAD_BYTES_MAX = 64 * 1024**3
"""Of an artifact, which streams."""

_PLAIN = re.compile(rb"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/\[\]]|%[0-9A-Fa-f]{2})*")
_DECODINGS_MAX = 8
_ARTIFACT = re.compile(r"/(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts/.+")

_CLOSED = {
    "assistant": "it runs commands on this machine",
    "gateway": "it calls addresses that a request names",
    "gateway-proxy": "it calls addresses that a request names",
    "webhooks": "it calls addresses that a request names",
    "jobs": "it starts jobs on this machine",
    "prompt-optimization": "it starts jobs on this machine",
    "invoke": "it starts jobs on this machine",
}


@dataclass(frozen=True, slots=True)
class Target:
    """A path as it is sent on (``raw``) and as MLflow reads it (``path``)."""

    raw: bytes
    path: str

    @property
    def is_artifact(self) -> bool:
        """Whether it names one artifact's bytes."""
        return _ARTIFACT.fullmatch(self.path) is not None

    @property
    def body_bytes_max(self) -> int:
        """How long a request's body may be."""
        return UPLOAD_BYTES_MAX if self.is_artifact else BODY_BYTES_MAX


def target_of(raw: bytes, mount: bytes = b"") -> Target:
    """What a request's undecoded path names below ``mount``; BadInput when it can be read in two ways."""
    if not raw.startswith(mount + b"/") or not _PLAIN.fullmatch(raw):
        raise _unclear()
    _check_plain(raw.decode())
    raw = raw[len(mount) :]
    first = text = _decoded(raw)
    for _ in range(_DECODINGS_MAX):
        _check_plain(text)
        if "%" not in text or (further := _decoded(text.encode())) == text:
            return Target(raw, first)
        text = further
    raise _unclear()


def _decoded(raw: bytes) -> str:
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise _unclear() from None


def _check_plain(path: str) -> None:
    """Refuse what some reader of paths takes for a way up, a folder's end or an end of text."""
    odd = any(ord(ch) < 32 or ord(ch) == 127 for ch in path) or "\\" in path or "//" in path
    encoded = "%2f" in path.lower() or "%5c" in path.lower()
    if odd or encoded or any(part in (".", "..") for part in path.split("/")):
        raise _unclear()


def _unclear() -> BadInput:
    return BadInput(
        "this path can be read in more than one way",
        where="MLflow door",
        hint="use plain segments: no '..', '//', backslash, or encoded slash",
    )


def check_open(target: Target) -> None:
    """Refused for the parts of MLflow that run commands or call out from this machine."""
    parts = target.path.lower().strip("/").split("/")
    why = ""
    if parts[0] == "gateway":
        why = _CLOSED["gateway"]
    elif parts[0] in ("api", "ajax-api"):
        why = next((_CLOSED[p] for p in parts[2:4] if p in _CLOSED), "")
        if not why and parts[2:3] == ["mlflow"] and parts[-1] == "invoke":
            why = _CLOSED["invoke"]
    if why:
        raise Refused(
            f"this part of MLflow is closed here: {why}",
            where=target.path[:200],
            hint="run a stock `mlflow server` of your own where you need it",
        )


_API = r"/api/[23]\.0/mlflow/"
_STEP = [
    ("GET", r"/(version|health)"),
    ("GET", _API + r"(server-info|artifacts/list|runs/get)"),
    ("GET", _API + r"metrics/get-history(-bulk-interval)?"),
    ("GET", _API + r"experiments/(get|get-by-name|search)"),
    ("GET", _API + r"logged-models/[^/]+(/artifacts/directories)?"),
    ("GET", _API + r"registered-models/(get|search|alias|get-latest-versions)"),
    ("GET", _API + r"model-versions/(get|search|get-download-uri)"),
    ("POST", _API + r"experiments/(create|search|set-experiment-tag)"),
    ("POST", _API + r"runs/(create|update|search|outputs|set-tag|delete-tag)"),
    ("POST", _API + r"runs/log-(metric|batch|parameter|inputs|model)"),
    ("POST", _API + r"logged-models(/search|/[^/]+/params)?"),
    ("POST", _API + r"registered-models/get-latest-versions"),
    ("PATCH", _API + r"logged-models/[^/]+(/tags)?"),
    ("DELETE", _API + r"logged-models/[^/]+/tags/[^/]+"),
    ("GET", r"/api/2\.0/mlflow-artifacts/artifacts(/.+)?"),
    ("PUT", r"/api/2\.0/mlflow-artifacts/artifacts/.+"),
]
_STEP_PATHS = [(method, re.compile(pattern)) for method, pattern in _STEP]
_MODEL_FILE = re.compile(r"/api/2\.0/mlflow-artifacts/artifacts/[^/]+/models/([^/]+)/.+")
_MODEL_STATE = re.compile(_API + r"logged-models/([^/]+)")


def check_step(method: str, target: Target) -> str:
    """Refused for all but tracking: runs, experiments, metrics, logged models and their files.

    The id of the logged model that is about to be changed, or the empty text: the caller sees that
    it is not finished yet, as whoever loads a finished one relies on its files.
    """
    asked = "GET" if method == "HEAD" else method
    if not any(asked == known and pattern.fullmatch(target.path) for known, pattern in _STEP_PATHS):
        raise Refused(
            f"a pipeline's step may not {method} this",
            where=target.path[:200],
            hint="steps log runs and models; register and delete from outside, with tally or MLflow's client",
        )
    changed = {"PUT": _MODEL_FILE, "PATCH": _MODEL_STATE}.get(method)
    found = changed.fullmatch(target.path) if changed else None
    return found[1] if found else ""
