"""What a serving process answers to the Open Inference Protocol, and to a judge beside it.

A judge may also ask for gradients, where the order said so: ``POST .../pull`` with rows answers with
``logits`` and a token in a header, ``POST .../pull/TOKEN`` with ``weights`` answers with the gradient by each
input, and ``POST .../hidden`` with ``hidden``. An endpoint has none of these paths.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tallystick import __version__
from tallystick.core.errors import BadInput, Failed, NotFound, TallyError
from tallystick.core.facts import to_json
from tallystick.core.model import TensorSpec
from tallystick.crew.served.batcher import Batcher, Tensors
from tallystick.crew.served.pulls import Pulls
from tallystick.crew.served.wire import Answer, Asked
from tallystick.doors.oip.codec import InferResponse, decode_request, encode_response

__all__ = ["Card", "Serving", "answer_error"]

log = logging.getLogger(__name__)

LENGTH = "inference-header-content-length"
PULL = "tally-pull"
"""The header that names a pull which waits for its weights."""

POSTED = ("infer", "pull", "hidden")
JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Card:
    """What the process says about its model."""

    name: str
    version: str
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def as_dict(self) -> dict[str, Any]:
        """The protocol's model metadata."""
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": self.platform,
            "inputs": to_json(self.inputs),
            "outputs": to_json(self.outputs),
        }


class Serving:
    """The handler behind the wire: routes, and never raises."""

    def __init__(self, card: Card, batcher: Batcher, pulls: Pulls | None = None) -> None:
        self._card = card
        self._batcher = batcher
        self._pulls = pulls

    async def __call__(self, asked: Asked) -> Answer:
        """Answer a request, with ``{"error": text}`` where it cannot be done."""
        try:
            return await self._answer(asked)
        except TallyError as wrong:
            return answer_error(wrong)
        except Exception as wrong:  # the process's edge: the asker must have an answer
            log.exception("a request failed")
            return answer_error(Failed(f"{type(wrong).__name__}: {str(wrong)[:500]}", where="serving"))

    async def _answer(self, asked: Asked) -> Answer:
        what = self._what(asked.path)
        if what.partition("/")[0] in POSTED:
            return await self._asked(what, asked) if asked.method == "POST" else _wrong_method("POST")
        return _json(self._said(what)) if asked.method == "GET" else _wrong_method("GET")

    def _what(self, path: str) -> str:
        """``server``, ``live``, ``ready``, ``model``, ``model ready`` or what is posted; else NotFound."""
        parts = path.strip("/").split("/")
        fixed = {"v2": "server", "v2/health/live": "live", "v2/health/ready": "ready"}.get("/".join(parts))
        if fixed:
            return fixed
        if parts[:2] != ["v2", "models"] or len(parts) < 3:
            raise NotFound("no such path", where=path[:200])
        if parts[2] != self._card.name:
            raise NotFound(
                f"no model {parts[2][:100]!r} is here", where="model", hint=f"here: {self._card.name}"
            )
        rest = parts[3:]
        if rest[:1] == ["versions"] and len(rest) > 1:
            if rest[1] != self._card.version:
                hint = f"here: {self._card.version}"
                raise NotFound(f"no version {rest[1][:100]!r} is here", where=self._card.name, hint=hint)
            rest = rest[2:]
        found = {"": "model", "ready": "model ready", "infer": "infer"}.get("/".join(rest))
        if self._pulls and (rest in (["pull"], ["hidden"]) or (rest[:1] == ["pull"] and len(rest) == 2)):
            found = "/".join(rest)
        if found is None:
            raise NotFound("no such path", where=path[:200])
        return found

    def _said(self, what: str) -> Mapping[str, Any]:
        if what == "server":
            return {"name": "tallystick", "version": __version__, "extensions": ["binary_tensor_data"]}
        if what == "model":
            return self._card.as_dict()
        if what == "model ready":
            return {"name": self._card.name, "ready": True}
        return {what: True}

    async def _asked(self, what: str, asked: Asked) -> Answer:
        if asked.headers.get("content-encoding", "identity") != "identity":
            raise BadInput("compressed bodies are not read", where="request", hint="send it as it is")
        request = decode_request(asked.body, _json_bytes(asked.headers))
        headers: Mapping[str, str] = {}
        outputs: Tensors
        if what == "infer" or self._pulls is None:
            outputs = await self._batcher.predict(request.inputs)
        elif what == "hidden":
            outputs = {"hidden": await self._pulls.hidden(request.inputs)}
        elif what == "pull":
            token, logits = await self._pulls.begin(request.inputs)
            outputs, headers = {"logits": logits}, {PULL: token}
        else:
            if request.inputs.keys() != {"weights"}:
                raise BadInput("a pull goes on with one input, 'weights'", where="pull")
            outputs = await self._pulls.finish(what.partition("/")[2], request.inputs["weights"])
        response = InferResponse(outputs, self._card.name, self._card.version)
        body, json_bytes = encode_response(response, request)
        if json_bytes:
            kind = {"content-type": "application/octet-stream", LENGTH: str(json_bytes)}
            return Answer(200, body, {**kind, **headers})
        return Answer(200, body, {**JSON, **headers})


def _json_bytes(headers: Mapping[str, str]) -> int:
    text = headers.get(LENGTH, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise BadInput(f"Inference-Header-Content-Length is {text[:50]!r}", where="request")
    return int(text)


def _json(said: Mapping[str, Any], status: int = 200) -> Answer:
    return Answer(status, json.dumps(said).encode(), JSON)


def _wrong_method(wanted: str) -> Answer:
    return Answer(
        405, json.dumps({"error": f"this path is asked by {wanted}"}).encode(), JSON | {"allow": wanted}
    )


def answer_error(wrong: TallyError) -> Answer:
    """The protocol's error: ``{"error": text}`` with the status of the error's kind."""
    return _json({"error": str(wrong)}, wrong.http_status)
