"""Which paths pass: read once and strictly, so that the door and MLflow cannot read them differently."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes, urlsplit

from tallystick.core.errors import BadInput, Refused

__all__ = ["BODY_BYTES_MAX", "UPLOAD_BYTES_MAX", "Target", "check_open", "folder_of", "target_of"]

BODY_BYTES_MAX = 64 * 1024 * 1024
"""Of a call: MLflow keeps a body in memory whole."""
UPLOAD_BYTES_MAX = 64 * 1024**3
"""Of an artifact, which streams."""

_PLAIN = re.compile(rb"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/\[\]]|%[0-9A-Fa-f]{2})*")
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
    """What a request's undecoded path names below ``mount``; BadInput when it can be read in two ways.

    So it is when, once decoded, it could be decoded further: ``%25`` may stand for a plain ``%`` only.
    """
    if not raw.startswith(mount + b"/") or not _PLAIN.fullmatch(raw):
        raise _unclear()
    _check_plain(raw.decode())
    raw = raw[len(mount) :]
    text = _decoded(raw)
    _check_plain(text)
    if _decoded(text.encode()) != text:  # MLflow decodes again and again: it would read another path
        raise _unclear()
    return Target(raw, text)


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
        hint="use plain segments: no '..', '//', backslash, encoded slash, or anything encoded twice",
    )


def folder_of(uri: str) -> str:
    """The folder of an artifact address among the hub's own artifacts; empty for any other."""
    parts = urlsplit(uri)
    folder = parts.path.strip("/")
    plain = parts.scheme == "mlflow-artifacts" and not (parts.netloc or parts.query or parts.fragment)
    odd = any(mark in folder for mark in "%\\") or any(p in ("", ".", "..") for p in folder.split("/"))
    return folder if plain and not odd else ""


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
