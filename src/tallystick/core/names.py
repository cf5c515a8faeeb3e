"""Names, keys and digests: the only ways in which one noun refers to another."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from tallystick.core.errors import BadInput

__all__ = [
    "DEFAULT_TENANT",
    "NAME_CHARS_MAX",
    "canonical_json",
    "check_digest",
    "check_name",
    "digest_of",
    "split_key",
]

DEFAULT_TENANT = "default"
NAME_CHARS_MAX = 100

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def check_name(what: str, name: str) -> str:
    """Return ``name`` if it can safely be a file name, a URL part and a table name; else BadInput.

    1 to 100 of ``A-Z a-z 0-9 . _ -``, starting with a letter or digit, with no ``..`` in it.
    ``what`` says in the message what was named, for example ``"table"``.
    """
    if not _NAME.fullmatch(name) or ".." in name or len(name) > NAME_CHARS_MAX:
        shown = repr(name) if len(name) <= 60 else repr(name[:60]) + "..."
        raise BadInput(
            f"{shown} is not a valid {what} name",
            where=what,
            hint="use 1 to 100 letters, digits, '.', '_' or '-', starting with a letter or digit",
        )
    return name


def check_digest(digest: str) -> str:
    """Return ``digest`` if it is ``sha256:`` and 64 lower-case hex digits; else BadInput."""
    if not _DIGEST.fullmatch(digest):
        raise BadInput(f"{digest[:80]!r} is not a digest", hint="expected sha256: and 64 hex digits")
    return digest


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN: equal values give equal text (after RFC 8785)."""
    return _CANONICAL.encode(value)


def digest_of(value: bytes | str | Any) -> str:
    """``sha256:...`` of bytes, of text as UTF-8, or of any JSON value in its canonical form."""
    if not isinstance(value, bytes | str):
        value = canonical_json(value)
    raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def split_key(what: str, key: str) -> tuple[str, str]:
    """``"name@version"`` as ``(name, version)``; the version is ``""`` when none is said."""
    name, _, version = key.partition("@")
    check_name(what, name)
    if version:
        check_name(f"{what} version", version)
    return name, version
