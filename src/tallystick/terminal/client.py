"""The hub, seen from the command line: where it is, and how it is asked."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tallystick.core.errors import BadInput, Failed, TallyError, Unavailable, error_from_dict
from tallystick.settings import Settings

__all__ = ["Hub", "find_hub", "given_url", "hub_of", "path_part"]

POLL_S = 0.15
CHUNK_BYTES = 1 << 20


class Hub:
    """A running hub. Every method raises the hub's own error, or Unavailable when none answers."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url
        timeout = httpx.Timeout(120, connect=5)
        tls = url.lower().startswith("https:")  # else nobody need read all authorities that there are: 15 ms
        self._client = httpx.Client(
            base_url=url, timeout=timeout, trust_env=False, transport=transport, verify=tls
        )

    def get(self, path: str, /, **params: Any) -> Any:
        """GET ``/api/tally{path}``."""
        return self._ask("GET", path, params=params)

    def post(self, path: str, **body: Any) -> Any:
        """POST a JSON object to ``/api/tally{path}``."""
        return self._ask("POST", path, json=body)

    def noun(self, noun: str, key: str) -> Any:
        """The present state of one noun; NotFound when there is none of that key."""
        return self.get(f"/nouns/{path_part(noun)}/{path_part(key)}")

    def upload(self, table: str, file: Path, *, allow_nan: bool, progress: Callable[[int], None]) -> Any:
        """Send ``file`` as rows of ``table``; ``progress`` is told each number of bytes sent."""
        params = {"table": table, "filename": file.name, "allow_nan": str(allow_nan).lower()}
        return self._ask("POST", "/ingest", params=params, content=_chunks(file, progress))

    def keep(self, file: Path, progress: Callable[[int], None], *, is_folder: bool = False) -> Any:
        """Have the content of ``file`` kept as an artifact, or the folder that it holds as a tar."""
        kind = "application/x-tar" if is_folder else "application/octet-stream"
        content = _chunks(file, progress)
        return self._ask("POST", "/artifacts", content=content, headers={"content-type": kind})

    def fetch(self, digest: str, file: Path, progress: Callable[[int], None]) -> None:
        """Write an artifact to ``file``, which must not exist, as a tar of one entry ``it``."""
        path = f"/api/tally/artifacts/{path_part(digest)}"
        with self._broken_off(), self._client.stream("GET", path) as answer:
            if answer.is_error:
                answer.read()
                raise _error(_value(answer), answer.status_code)
            with file.open("xb") as out:
                for chunk in answer.iter_bytes(CHUNK_BYTES):
                    out.write(chunk)
                    progress(len(chunk))

    def wait(self, noun: str, key: str, ended: Callable[[Any], bool], watch: Callable[[Any], None]) -> Any:
        """The noun once it has ended; ``watch`` sees each state on the way, of a run what changed."""
        mark = 0
        while True:
            state = self.get(f"/nouns/{path_part(noun)}/{path_part(key)}", since=mark)
            mark = state.get("mark", 0)
            watch(state)
            if ended(state):
                return state
            time.sleep(POLL_S)

    def raw(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """A request to any path of the hub, for what is not its own API."""
        with self._broken_off():
            return self._client.request(method, path, **kwargs)

    @contextlib.contextmanager
    def _broken_off(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as wrong:
            if isinstance(wrong, httpx.ConnectError | httpx.ConnectTimeout):
                raise Unavailable(f"no hub answers at {self.url}", hint="start one: tally up") from wrong
            raise Failed(f"the hub at {self.url} broke off: {wrong}", hint="see its output") from wrong

    def _ask(self, method: str, path: str, **kwargs: Any) -> Any:
        answer = self.raw(method, f"/api/tally{path}", **kwargs)
        try:
            value = answer.json()
        except ValueError:
            raise Failed(f"what answers at {self.url} is not a tallystick hub", hint="check --url") from None
        if answer.is_error:
            raise _error(value, answer.status_code)
        return value


def find_hub(url: str | None, home: Path, home_said: bool, settings: Settings) -> Hub:
    """The hub to ask: at ``url`` (or TALLY_URL), else the one that runs on ``home``.

    Where none does and nobody ``said`` that home, the one at the address of the settings, whatever its
    home; else Unavailable, so that a command never asks another home's hub than the one meant.
    """
    given = given_url(url)
    if given:
        return Hub(given)
    found = hub_of(home)
    if found:
        return found
    if home_said or not settings.port:
        hint = f"start one: tally --home {shlex.quote(str(home))} up"
        raise Unavailable(f"no hub runs on {home}", hint=hint)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return Hub(f"http://{host}:{settings.port}")


def given_url(url: str | None) -> str:
    """The URL of ``--url``, else of TALLY_URL, else an empty text; BadInput for what is no URL."""
    given, where = (os.environ.get("TALLY_URL", ""), "TALLY_URL") if url is None else (url, "--url")
    if url is None and not given:
        return ""
    try:
        parts = urlsplit(given)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        httpx.URL(given)
    except (ValueError, httpx.InvalidURL):
        right = False
    if not right:
        raise BadInput(f"{given[:200]!r} is not a URL", where=where, hint="for example http://127.0.0.1:5000")
    return given.rstrip("/")


def hub_of(home: Path) -> Hub | None:
    """The hub that runs on ``home``; None where none does, or only the word of one that died is left."""
    try:
        announced = json.loads((home / "hub.json").read_text("utf-8"))
        url, pid = str(announced["url"]), int(announced["pid"])
        if pid < 1:
            return None
        with contextlib.suppress(PermissionError):  # it lives, as another user's
            os.kill(pid, 0)
        hub = Hub(url)
        now = hub.get("/status")
        # Its number, and its port, may be another's since: only what it says of itself is sure.
        is_it = now["pid"] == pid and Path(now["home"]).resolve() == home.resolve()
    except (OSError, ValueError, OverflowError, LookupError, TypeError, httpx.InvalidURL, TallyError):
        return None
    return hub if is_it else None


def path_part(key: str) -> str:
    """``key`` as one part of a path; BadInput for what never is a key, and could be read as several parts."""
    if not re.fullmatch(r"[\w.@:-]+", key, re.ASCII) or ".." in key:
        raise BadInput(f"{key[:100]!r} cannot be a key", hint="`tally log` shows keys")
    return key


def _value(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return answer.text


def _error(value: Any, status: int) -> TallyError:
    if isinstance(value, Mapping) and "what" in value:
        return error_from_dict(dict(value))
    return Failed(f"the hub answered {status}: {str(value)[:200]}")


def _chunks(file: Path, progress: Callable[[int], None]) -> Iterator[bytes]:
    with file.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk
            progress(len(chunk))
