"""Requests in, JSON out: reading bodies with limits, and errors as JSON with their HTTP status."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from tallystick.core.errors import BadInput, Failed, TallyError, TooLarge, Unavailable
from tallystick.core.facts import from_json, to_json
from tallystick.core.run.options import RunOptions

__all__ = [
    "BODY_BYTES_MAX",
    "answer",
    "file_name",
    "flag",
    "in_file",
    "json_body",
    "number",
    "options_in",
    "pipeline_in",
    "save_body",
    "text",
    "texts",
]

P = TypeVar("P")
_log = logging.getLogger(__name__)

BODY_BYTES_MAX = 12 * 1024 * 1024
"""Bytes of a JSON body: a pipeline of 10 MiB and its parameters."""

DIGITS_MAX = 20
_SURROGATE = re.compile(r"[\ud800-\udfff]")
"""Half a character: JSON can say it, UTF-8 cannot."""
FILE_NAME_CHARS_MAX = 200
_TURNS_TEXT = re.compile(r"[\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that break a line or turn the direction of writing: a name with one reads as another."""
_WHOLE_FILE = ("", "file", "filename", "pipeline", "upload")
CLOSED = 499
"""For the log of a server: the client went away, and nobody receives the answer."""

Handler = Callable[[Request], Awaitable[Any]]


def answer(handler: Handler, status: int = 200) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint whose value is sent as JSON, and whose error as JSON with its HTTP status.

    What is no TallyError is a defect of ours: the client learns its kind, the hub's log the traceback.
    """

    async def endpoint(request: Request) -> Response:
        try:
            return JSONResponse(to_json(await handler(request)), status_code=status)
        except TallyError as wrong:
            return JSONResponse(wrong.as_dict(), status_code=wrong.http_status)
        except ClientDisconnect:
            return Response(status_code=CLOSED)
        except Exception as wrong:  # noqa: BLE001  reason: the process's edge; the client must learn that it failed
            _log.error("%s %s", request.method, request.url.path, exc_info=wrong)
            defect = _defect(wrong)
            return JSONResponse(defect.as_dict(), status_code=defect.http_status)

    return endpoint


def _defect(wrong: Exception) -> Failed:
    said = (str(wrong).splitlines() or [""])[0][:200]
    kind = f"{type(wrong).__name__}: {said}" if said else type(wrong).__name__
    return Failed(
        f"something in the hub itself went wrong ({kind})", where="hub", hint="its own output says where"
    )


async def json_body(request: Request, bytes_max: int | None = None) -> Mapping[str, Any]:
    """The request's body, a JSON object of at most ``bytes_max`` (``BODY_BYTES_MAX``).

    The content type must say JSON: a web page of another origin cannot send that without asking first.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise BadInput("the content type must be application/json", where="body")
    chunks: list[bytes] = []
    size, limit = 0, BODY_BYTES_MAX if bytes_max is None else bytes_max
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body is over {limit} bytes", where="body")
        chunks.append(chunk)
    try:
        body = json.loads(b"".join(chunks))
    except (ValueError, RecursionError):
        raise BadInput("the body is not JSON", where="body") from None
    if not isinstance(body, dict):
        raise BadInput("the body must be a JSON object", where="body")
    return body


def text(body: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A text field; BadInput when it is missing (and has no default) or is something else."""
    value = body.get(name, default)
    if not isinstance(value, str) or (not value and default is None) or _SURROGATE.search(value):
        raise BadInput(f"{name!r} must be text", where="body")
    return value


def file_name(given: str) -> str:
    """The last part of a file's path; BadInput for one that does not show as what it is."""
    name = given[-FILE_NAME_CHARS_MAX:].rpartition("/")[2]
    control = any(unicodedata.category(char) == "Cc" for char in name)
    if control or _SURROGATE.search(name) or _TURNS_TEXT.search(name):
        raise BadInput(f"{name!a} has control characters in it", where="filename", hint="rename the file")
    return name


def in_file(wrong: BadInput, name: str) -> BadInput:
    """The error about a file's content, which says first in which file that is."""
    whole = wrong.where in (*_WHOLE_FILE, name, repr(name))
    where = name if whole else f"{name}: {wrong.where}"
    return type(wrong)(wrong.what, where=where if name else wrong.where, hint=wrong.hint)


async def pipeline_in(body: Mapping[str, Any], read: Callable[[bytes], P]) -> tuple[P, bytes]:
    """What ``read`` makes of the file in the field ``spec``, and its bytes; its errors name ``filename``."""
    spec, filename = text(body, "spec").encode(), file_name(text(body, "filename", ""))
    try:
        return await asyncio.to_thread(read, spec), spec
    except BadInput as wrong:
        raise in_file(wrong, filename) from wrong


def options_in(body: Mapping[str, Any]) -> RunOptions:
    """The field ``options``: how a run is to be done; BadInput for what nobody knows, or what cannot be."""
    said, known = body.get("options", {}), RunOptions.__dataclass_fields__
    if not isinstance(said, Mapping):
        raise BadInput("'options' must be an object", where="body")
    if strange := sorted(set(said) - set(known)):
        raise BadInput(f"there is no option {strange[0][:100]!r}", where="options", hint=", ".join(known))
    return from_json(RunOptions, said, "options").check()


def flag(body: Mapping[str, Any], name: str) -> bool:
    """A true/false field, false when absent."""
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise BadInput(f"{name!r} must be true or false", where="body")
    return value


def texts(body: Mapping[str, Any], name: str) -> Mapping[str, str]:
    """A field that is an object of texts; empty where it is not there."""
    value = body.get(name, {})
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise BadInput(f"{name!r} must be an object of texts", where="body")
    return value


def number(request: Request, name: str, default: int, high: int) -> int:
    """A whole number from the query, 0 to ``high``."""
    given = request.query_params.get(name, str(default))
    if not (given.isascii() and given.isdigit() and len(given) <= DIGITS_MAX and int(given) <= high):
        raise BadInput(f"{name!r} must be a whole number from 0 to {high}", where="query")
    return int(given)


async def save_body(request: Request, path: Path, bytes_max: int) -> int:
    """Stream the body into ``path``; how many bytes.

    TooLarge past the limit, BadInput when cut off, Unavailable when the disk is full.
    """
    size = 0
    with path.open("xb") as file:
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > bytes_max:
                    raise TooLarge(
                        f"the file is over {bytes_max // 2**20} MiB",
                        where="upload",
                        hint="set upload_mib_max",
                    )
                await asyncio.to_thread(file.write, chunk)
        except ClientDisconnect:
            raise BadInput("the upload was cut off; nothing was ingested", where="upload") from None
        except OSError as wrong:
            raise Unavailable(f"the upload cannot be kept: {wrong.strerror}", where="upload") from wrong
    return size
