"""What a request says of a file beside its bytes (RFC 9110, 9530): a part, a condition, a digest."""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import PurePosixPath
from urllib.parse import quote

from tallystick.core.errors import BadInput
from tallystick.ports.files import FileInfo

__all__ = ["Part", "Rest", "file_headers", "part_asked", "rest_sent", "sha256_said", "state_asked"]

_FILE_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""An artifact is somebody's file: opened as a page it must not act in the hub's name."""
_TEXTS = re.compile(
    "txt|log|err|cfg|conf|cnf|cf|ini|properties|prop|hocon|toml|yaml|yml|xml|json|js|py|py3|csv|tsv|md|rst|ipynb"
    "|MLmodel|mlproject"
)
"""Endings, or whole names without one, that MLflow shows as plain text."""
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))")
_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-([0-9]{1,18})|\*)/([0-9]{1,18})")
_ETAG = re.compile(r'(?:W/)?"[^"]*"')
_SHA256 = re.compile(r"(?:^|,)\s*sha-256=:([^:,]*):")


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes of a file that are answered, from ``start`` to ``end`` (not included)."""

    start: int
    end: int
    status: int

    def headers(self, size: int) -> dict[str, str]:
        """What says so."""
        said = {"content-length": str(self.end - self.start)}
        if self.status == 206:
            said["content-range"] = f"bytes {self.start}-{self.end - 1}/{size}"
        return said


def part_asked(headers: Mapping[str, str], info: FileInfo) -> Part | None:
    """The part that ``Range`` asks for: all when that is several or not understood, None when it is empty."""
    whole = Part(0, info.size, 200)
    found = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if not found or headers.get("if-range", f'"{info.etag}"') != f'"{info.etag}"':
        return whole
    if found[3]:
        start, end = max(0, info.size - int(found[3])), info.size
    else:
        start, end = int(found[1]), min(int(found[2]) + 1 if found[2] else info.size, info.size)
        if found[2] and int(found[2]) < start:
            return whole
    return Part(start, end, 206) if start < end else None


def state_asked(headers: Mapping[str, str], info: FileInfo) -> int:
    """200, or what the request's conditions make of it: 304 (it has it already), 412 (it wants another)."""
    has, wants = headers.get("if-none-match"), headers.get("if-match")
    if wants is not None and not _names(wants, info, weak=False):
        return 412
    return 304 if has is not None and _names(has, info, weak=True) else 200


def _names(said: str, info: FileInfo, weak: bool) -> bool:
    if said.strip() == "*":
        return True
    tags = _ETAG.findall(said)
    return f'"{info.etag}"' in (tag.removeprefix("W/") if weak else tag for tag in tags)


@dataclass(frozen=True, slots=True)
class Rest:
    """The part of an upload that a request brings: ``length`` bytes from ``offset`` up to the end."""

    offset: int
    length: int


def rest_sent(headers: Mapping[str, str]) -> Rest | None:
    """What ``Content-Range`` says of an upload's body, None without; BadInput unless it goes to the end."""
    said = headers.get("content-range")
    if said is None:
        return None
    found = _CONTENT_RANGE.fullmatch(said.strip())
    if not found:
        raise BadInput("this is no range of an upload", where="Content-Range", hint="bytes FIRST-LAST/TOTAL")
    total = int(found[3])
    first, last = (int(found[1]), int(found[2])) if found[1] else (total, total - 1)
    if first > last + 1 or last + 1 != total:
        raise BadInput("an upload is taken to its end", where="Content-Range", hint="let LAST be TOTAL - 1")
    length = headers.get("content-length", str(total - first))
    if length != str(total - first):
        raise BadInput(f"a body of {length} bytes is not that range", where="Content-Range")
    return Rest(first, total - first)


def sha256_said(headers: Mapping[str, str], rest: Rest | None) -> str:
    """The digest of the whole file in hex, ``""`` where none is said; BadInput where it is none.

    ``Repr-Digest`` is always the whole file's; ``Content-Digest`` is the body's, so only where that is all.
    """
    for name in ("repr-digest", "content-digest"):
        found = _SHA256.search(headers.get(name, ""))
        if not found:
            continue
        if name == "content-digest" and rest and rest.offset:
            raise BadInput("it is of a part only", where="Content-Digest", hint="Repr-Digest: of the whole")
        try:
            digest = base64.b64decode(found[1], validate=True)
        except binascii.Error:
            digest = b""
        if len(digest) != 32:
            raise BadInput("this is no SHA-256", where=name, hint="sha-256=:BASE64:")
        return digest.hex()
    return ""


def file_headers(info: FileInfo) -> dict[str, str]:
    """What MLflow's own server says of an artifact; also that parts may be asked for and it must not act."""
    name = info.path.rpartition("/")[2]
    return {
        "content-type": _type_of(name),
        "content-disposition": _attachment(name),
        "x-content-type-options": "nosniff",
        "content-security-policy": _FILE_POLICY,
        "accept-ranges": "bytes",
        "cache-control": "no-cache",
        "etag": f'"{info.etag}"',
        "last-modified": formatdate(info.modified_ms // 1000, usegmt=True),
    }


def _type_of(name: str) -> str:
    if _TEXTS.fullmatch(PurePosixPath(name).suffix[1:] or name):
        return "text/plain"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _attachment(name: str) -> str:
    """As MLflow says it: a token bare, anything else in quotes, and beyond ASCII a second form."""
    if name.isascii():
        return f"attachment; filename={_quoted(name)}"
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode() or "download"
    return f"attachment; filename={_quoted(plain)}; filename*=UTF-8''{quote(name, safe='!#$&+-.^_`|~')}"


def _quoted(name: str) -> str:
    if _TOKEN.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
