"""The address of MLflow's record, a URL as SQLAlchemy and PostgreSQL have it: what of it may be shown.

A password stands before the host or among the parameters, quoted (``%40``) or, where somebody forgot to, not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

__all__ = ["USER", "apart", "cleaned", "without_password"]

HIDDEN = "***"
SHORT_CHARS = 4
"""A shorter password is replaced in a text only where it stands by itself: a ``p`` is in every sentence."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_SECRET = re.compile(r"pass(?!file)|pwd|secret|token|scram_\w+_key", re.IGNORECASE)
_PARAMETER = re.compile(r"[?&;#]([^=&?]*)=")
USER = re.compile(r"([^:/?#@]*)(?::([^@]*))?@")
"""What stands before the host of a proper URL: a user and, where there is one, a password, quoted or not."""
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]*\]|[^:\[\]]*)(:\d{0,5})?")
_NO_URL = re.compile(r":.*@|(?:pass|pwd|secret|token)[^=]*=", re.IGNORECASE | re.DOTALL)
_QUOTED = re.compile(rb"%([0-9A-Fa-f]{2})")


def without_password(url: str) -> str:
    """``url`` as it may be shown and logged, also one that is no proper URL: rather too little of it.

    A password may hold any character that somebody forgot to quote: so the last ``@`` counts, and nothing is
    shown that comes after a password among the parameters.
    """
    scheme, mark, rest = url.partition("://")
    if not mark or not _SCHEME.fullmatch(scheme):
        return HIDDEN if _NO_URL.search(url) else url
    before, at, after = rest.rpartition("@")
    secret = next((m.end() for m in _PARAMETER.finditer(rest) if _SECRET.search(_plain(m[1]))), None)
    if secret is not None:
        if secret <= len(before):  # it cannot be told where which password ends
            return f"{scheme}://{HIDDEN}"
        after = rest[len(before) + len(at) : secret] + HIDDEN
    user, colon, _ = before.partition(":")
    if not at and not _is_host(after):  # the host was forgotten, or the end of the password
        return f"{scheme}://{after.partition(':')[0]}:{HIDDEN}"
    return f"{scheme}://{user}:{HIDDEN}@{after}" if colon else f"{scheme}://{before}{at}{after}"


def _is_host(rest: str) -> bool:
    """Whether what begins ``rest`` can be hosts and ports."""
    hosts = re.split("[/?#]", rest, maxsplit=1)[0]
    return all(_HOST.fullmatch(host) for host in hosts.split(","))


def apart(url: str) -> tuple[str, list[tuple[str, str]]]:
    """A proper URL without its secrets, and those: PostgreSQL's name for each and its value, unquoted.

    Of several values of one name the last one counts.
    """
    scheme, _, rest = url.partition("://")
    found = USER.match(rest)
    user = f"{found[1]}@" if found and found[1] else ""
    secrets = [("password", _plain(found[2]))] if found and found[2] else []
    place, question, query = rest[found.end() if found else 0 :].partition("?")
    kept = []
    for parameter in query.split("&"):
        name, _, value = parameter.partition("=")
        if _SECRET.search(_plain(name)):
            secrets.append((_plain(name), _plain(value)))
        else:
            kept.append(parameter)
    return f"{scheme}://{user}{place}{question if kept else ''}{'&'.join(kept)}", secrets


def cleaned(text: str, url: str) -> str:
    """``text`` of a database, a driver or a server, without the secrets of ``url``, should they be in it."""
    for value in sorted({value for _, value in apart(url)[1]} - {""}, key=len, reverse=True):
        pattern = "".join(_shapes(value))
        if len(value) < SHORT_CHARS:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        text = re.sub(pattern, HIDDEN, text)
    return text


def _shapes(value: str) -> Iterator[str]:
    """A pattern for each character, as it is, quoted for a URL, or escaped as in a program's text."""
    for char in value:
        quoted = "".join(f"%{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
        shapes = {char, f"\\{char}", *(as_text(char)[1:-1] for as_text in (repr, ascii, json.dumps))}
        shapes |= {"+"} if char == " " else set()
        longest_first = sorted(map(re.escape, shapes), key=len, reverse=True)
        yield f"(?:(?i:{quoted})|{'|'.join(longest_first)})"


def _plain(text: str) -> str:
    """``text`` with what is quoted as ``%XX`` in it unquoted."""
    raw = text.encode("utf-8", "surrogateescape")
    return _QUOTED.sub(lambda m: bytes([int(m[1], 16)]), raw).decode("utf-8", "surrogateescape")
