"""The hub, seen from the command line."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from tallystick.core.errors import BadInput, Failed, TallyError, Unavailable, error_from_dict

__all__ = ["Hub", "find_url"]

POLL_S = 0.15
CHUNK_BYTES = 1 << 20


def find_url(url: str | None, home: str) -> str:
    """Where the hub answers: as said, as ``TALLY_URL`` says, as the home's hub announced, or the default."""
    if url or (url := os.environ.get("TALLY_URL")):
        return url.rstrip("/")
    try:
        announced = json.loads((Path(home) / "hub.json").read_text("utf-8"))
        return str(announced["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return "http://127.0.0.1:5000"


class Hub:
    """A running hub. Every method raises the hub's own error, or Unavailable when none answers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=httpx.Timeout(120, connect=5), trust_env=False)

    def get(self, path: str, **params: Any) -> Any:
        """GET ``/api/tally{path}``."""
        return self._ask("GET", path, params=params)

    def post(self, path: str, **body: Any) -> Any:
        """POST a JSON object to ``/api/tally{path}``."""
        return self._ask("POST", path, json=body)

    def upload(self, table: str, file: Path, *, allow_nan: bool, progress: Callable[[int], None]) -> Any:
        """Send ``file`` as rows of ``table``; ``progress`` is told each number of bytes sent."""
        params = {"table": table, "filename": file.name, "allow_nan": str(allow_nan).lower()}
        return self._ask("POST", "/ingest", params=params, content=_chunks(file, progress))

    def wait(self, noun: str, key: str, ended: Callable[[Any], bool], watch: Callable[[Any], None]) -> Any:
        """The noun once it has ended; ``watch`` sees each state on the way."""
        while True:
            state = self.get(f"/nouns/{noun}/{key}")
            watch(state)
            if ended(state):
                return state
            time.sleep(POLL_S)

    def raw(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """A request to any path of the hub, for what is not its own API."""
        try:
            return self._client.request(method, path, **kwargs)
        except httpx.InvalidURL as wrong:
            raise BadInput(f"{self.url!r} is not a URL: {wrong}", where="--url") from wrong
        except httpx.TransportError as wrong:
            if isinstance(wrong, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
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


def _error(value: Any, status: int) -> TallyError:
    if isinstance(value, Mapping) and "what" in value:
        return error_from_dict(dict(value))
    return Failed(f"the hub answered {status}: {str(value)[:200]}")


def _chunks(file: Path, progress: Callable[[int], None]) -> Iterator[bytes]:
    with file.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk
            progress(len(chunk))
