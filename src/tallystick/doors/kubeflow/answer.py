"""Requests in, JSON out, and errors as ``google.rpc.Status`` with their HTTP status."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from tallystick.core.errors import (
    BadInput,
    Conflict,
    NotFound,
    NotSupported,
    Refused,
    TallyError,
    TookTooLong,
    TooLarge,
    Unavailable,
)

__all__ = [
    "BODY_BYTES_MAX",
    "CANCELLED",
    "UNKNOWN",
    "answer",
    "body_of",
    "flag",
    "read_body",
    "status",
    "text",
]

_log = logging.getLogger(__name__)

BODY_BYTES_MAX = 12 * 1024 * 1024
"""Bytes of a request: a pipeline of 10 MiB, and what stands around it."""
CLOSED = 499

CANCELLED, UNKNOWN, INTERNAL = 1, 2, 13
_CODES: tuple[tuple[type[TallyError], int], ...] = (
    (NotSupported, 12),
    (TooLarge, 8),
    (BadInput, 3),
    (NotFound, 5),
    (Conflict, 6),
    (Refused, 7),
    (Unavailable, 14),
    (TookTooLong, 4),
)

Handler = Callable[[Request], Awaitable[Any]]


def status(wrong: TallyError) -> dict[str, Any]:
    """An error as ``google.rpc.Status``, with ``error`` beside it, as Kubeflow has it."""
    code = next((code for kind, code in _CODES if isinstance(wrong, kind)), INTERNAL)
    detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": type(wrong).__name__}
    metadata = {"what": wrong.what, "where": wrong.where, "hint": wrong.hint}
    details = [{**detail, "domain": "tallystick", "metadata": metadata}]
    return {"error": str(wrong), "code": code, "message": str(wrong), "details": details}


def answer(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint whose value is sent as JSON. What is no TallyError is a defect of ours, for the log."""

    async def endpoint(request: Request) -> Response:
        try:
            return JSONResponse(await handler(request))
        except TallyError as wrong:
            return JSONResponse(status(wrong), status_code=wrong.http_status)
        except ClientDisconnect:
            return Response(status_code=CLOSED)
        except Exception as wrong:  # noqa: BLE001  reason: the process's edge; the client must learn that it failed
            _log.error("%s %s", request.method, request.url.path, exc_info=wrong)
            defect = TallyError(f"something in the hub itself went wrong ({type(wrong).__name__})")
            return JSONResponse(status(defect), status_code=defect.http_status)

    return endpoint


async def read_body(request: Request) -> bytes:
    """The whole body; TooLarge over ``BODY_BYTES_MAX``."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise TooLarge(f"the body is over {BODY_BYTES_MAX} bytes", where="body")
        chunks.append(chunk)
    return b"".join(chunks)


async def body_of(request: Request) -> Mapping[str, Any]:
    """The body, a JSON object; BadInput for anything else, a NaN in it included."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise BadInput("the content type must be application/json", where="body")

    def constant(name: str) -> Any:
        raise BadInput(f"{name} is no JSON", where="body")

    try:
        body = json.loads(await read_body(request), parse_constant=constant)
        json.dumps(body, ensure_ascii=False).encode()  # half a character can be said in JSON alone
    except (ValueError, RecursionError):
        raise BadInput("the body is not JSON", where="body") from None
    if not isinstance(body, dict):
        raise BadInput("the body must be a JSON object", where="body")
    return body


def text(body: Mapping[str, Any], name: str, default: str = "") -> str:
    """A text field; the default where it is absent or null, BadInput where it is something else."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise BadInput(f"{name!r} must be text", where="body")
    return value


def flag(body: Mapping[str, Any], name: str) -> bool:
    """A true/false field, false where it is absent or null."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadInput(f"{name!r} must be true or false", where="body")
    return bool(value)
