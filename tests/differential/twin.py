"""One request sent to two servers, and their answers compared after what must differ was made equal.

A request may name what a server made, as ``@run:3@``: the fourth run that was made, counted from 0 (and
from the start again where there are fewer). Each side puts its own id there; in answers it is put back.
What else must differ: times that the server reads from its clock, and names that it makes up.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

__all__ = ["Answer", "Call", "Difference", "Side", "Twin"]

_MARK = re.compile(r"@(run|model|experiment|token):(\d+)@")
_MADE_UP = re.compile(r"[a-z]+-[a-z]+-\d{1,4}")
_HEX = re.compile(r"[0-9a-f]{32}")
"""In a message that names what a database refused: an id made for a row that was not written."""
_SET = re.compile(r"\{((?:'[^']*'(?:, )?)+)\}")
_NUMBER = re.compile(r"\d{13}")
_UNORDERED = frozenset(("params", "tags", "metrics", "aliases", "latest_versions", "dataset_inputs",
                        "model_inputs", "model_outputs"))  # fmt: skip
"""Lists that the store reads in no order; a history's ``metrics`` stay as they are (see ``_ordered``)."""
SHOWN_MAX = 60
_DAY_MS = 86_400_000


class Difference(AssertionError):
    """The two servers answered differently."""


@dataclass(frozen=True, slots=True, repr=False)
class Call:
    """A request. ``body`` is JSON; ``raw``, where there is one, is sent as it is instead."""

    method: str
    path: str
    body: Any = None
    params: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: str | None = None

    def __repr__(self) -> str:
        """Short, as it is read in a failed session; it can be pasted into a test."""
        given = [f"{n}={v!r}" for n in ("body", "params", "headers", "raw") if (v := getattr(self, n))]
        return f"Call({', '.join([repr(self.method), repr(self.path), *given])})"

    def text(self) -> str | None:
        """The body as it is sent, marks still in it."""
        if self.raw is not None:
            return self.raw
        return None if self.body is None else json.dumps(self.body)


@dataclass(frozen=True, slots=True)
class Answer:
    """``body`` is JSON where it is, and text otherwise."""

    status: int
    kind: str
    body: Any


class Side:
    """One server, and which ids it gave."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.http = httpx.Client(base_url=url, timeout=120)
        self.made: dict[str, list[str]] = defaultdict(list)
        self._shown: dict[str, str] = {}
        self._ids = re.compile(r"(?!)")

    def close(self) -> None:
        self.http.close()

    def send(self, call: Call) -> Answer:
        text = call.text()
        headers = {"content-type": "application/json", **call.headers} if text is not None else call.headers
        answer = self.http.request(
            call.method,
            self.filled(call.path),
            params=[(k, self.filled(v)) for k, v in call.params] or None,
            content=None if text is None else self.filled(text).encode(),
            headers=dict(headers),
        )
        kind = answer.headers.get("content-type", "").partition(";")[0]
        try:
            return Answer(answer.status_code, kind, answer.json())
        except ValueError:
            return Answer(answer.status_code, kind, answer.text)

    def filled(self, text: str) -> str:
        def put(mark: re.Match[str]) -> str:
            made = self.made[mark[1]]
            return made[int(mark[2]) % len(made)] if made else "none-of-these"

        return _MARK.sub(put, text)

    def learn(self, kind: str, value: str) -> None:
        """Know ``value`` as the next of its kind."""
        if kind != "token" and value in self.made[kind]:
            return
        self.made[kind].append(value)
        if kind in ("run", "model", "name"):  # experiments' ids are short numbers: they go by the field
            self._shown[value] = f"@{kind}:{len(self.made[kind]) - 1}@"
            alternatives = sorted(self._shown, key=len, reverse=True)
            self._ids = re.compile("|".join(map(re.escape, alternatives)))

    def know(self, other: Side) -> None:
        """Take over what ``other`` knows: the server behind has its database now."""
        self.forget()
        for kind, values in other.made.items():
            for value in values:
                self.learn(kind, value)

    def forget(self) -> None:
        self.made.clear()
        self._shown.clear()
        self._ids = re.compile(r"(?!)")

    def shown(self, text: str) -> str:
        return self._ids.sub(lambda found: self._shown[found[0]], text)

    def normal(self, value: Any, name: str = "", inside: str = "") -> Any:
        """``value``, which stands under ``name`` in an answer, without what is this side's alone."""
        if isinstance(value, dict):
            return {k: self.normal(v, k, name) for k, v in value.items()}
        if isinstance(value, list):
            rows = [self.normal(v, name, name) for v in value]
            return (
                sorted(rows, key=lambda row: json.dumps(row, sort_keys=True)) if _free(name, inside) else rows
            )
        if isinstance(value, int) and not isinstance(value, bool):
            return "@now@" if _is_now(value) else value
        if isinstance(value, str):
            return self._normal_text(value, name)
        return value

    def _normal_text(self, value: str, name: str) -> str:
        if name == "experiment_id" and value in self.made["experiment"]:
            return f"@experiment:{self.made['experiment'].index(value)}@"
        if name == "next_page_token":
            return self.shown(_opened(value))
        if name in ("artifact_location", "artifact_uri", "source", "storage_location"):
            value = re.sub(r"(?<=:/)\d+(?=/|$)", self._experiment, value)
        if _NUMBER.fullmatch(value) and _is_now(int(value)):
            return "@now@"
        shown = self.shown(value)
        return _message(shown) if name == "message" else shown

    def _experiment(self, found: re.Match[str]) -> str:
        made = self.made["experiment"]
        return f"@experiment:{made.index(found[0])}@" if found[0] in made else found[0]


def _free(name: str, inside: str) -> bool:
    """Whether the list ``name`` of an object that stands under ``inside`` is in no order."""
    return name in _UNORDERED and not (name == "metrics" and inside == "")


def _is_now(value: int) -> bool:
    return abs(value - time.time() * 1000) < _DAY_MS


def _message(text: str) -> str:
    """An error's message without a row's values and ids, and with sets (printed in any order) in order."""
    plain = _HEX.sub("@hex@", text.partition("[parameters: ")[0])
    return _SET.sub(lambda found: "{" + ", ".join(sorted(found[1].split(", "))) + "}", plain)


def _opened(token: str) -> str:
    """What a page token says; equal tokens may be spelled differently."""
    try:
        return json.dumps(json.loads(base64.b64decode(token)), sort_keys=True)
    except (ValueError, binascii.Error):
        return token


def _by_run(call: Call, normal: Any, body: Any) -> Any:
    """A history of several runs is in the order of their ids, which are random: seen, then undone."""
    if not call.path.endswith("get-history-bulk") or "metrics" not in body:
        return normal
    ids = [point["run_id"] for point in body["metrics"]]
    return {
        "in_order": ids == sorted(ids),
        "metrics": sorted(normal["metrics"], key=lambda point: point["run_id"]),
    }


_LEARNS: tuple[tuple[str, Callable[[Any], str]], ...] = (
    ("run", lambda body: body["run"]["info"]["run_id"]),
    ("model", lambda body: body["model"]["info"]["model_id"]),
    ("experiment", lambda body: body["experiment_id"]),
    ("token", lambda body: body["next_page_token"]),
    ("name", lambda body: _made_up(body["run"]["info"]["run_name"])),
    ("name", lambda body: _made_up(body["model"]["info"]["name"])),
)


def _made_up(name: str) -> str:
    if not _MADE_UP.fullmatch(name):
        raise KeyError(name)
    return name


class Twin:
    """Stock MLflow and a hub, asked the same."""

    def __init__(self, stock: str, hub: str) -> None:
        self.sides = (Side("stock", stock), Side("hub", hub))
        self.history: list[Call] = []

    def close(self) -> None:
        for side in self.sides:
            side.close()

    def new_page(self) -> None:
        """Forget what was made: marks count from what is made from now on."""
        self.history.clear()
        for side in self.sides:
            side.forget()

    def ask(self, call: Call) -> Answer:
        """Both answers as one, which is stock's; Difference where they are two."""
        self.history.append(call)
        answers = [side.send(call) for side in self.sides]
        self._learn(answers)
        normal = [
            (
                a.status,
                a.kind,
                json.dumps(_by_run(call, side.normal(a.body), a.body), sort_keys=True, indent=1),
            )
            for side, a in zip(self.sides, answers, strict=True)
        ]
        if normal[0] != normal[1]:
            raise Difference(self._said(call, normal))
        return answers[0]

    def _learn(self, answers: list[Answer]) -> None:
        for kind, find in _LEARNS:
            try:
                found = [find(answer.body) for answer in answers]
            except (KeyError, TypeError):
                continue
            for side, value in zip(self.sides, found, strict=True):
                side.learn(kind, value)

    def _said(self, call: Call, normal: list[tuple[int, str, str]]) -> str:
        sent = f"{call.method} {call.path} {dict(call.params) or ''} {(call.text() or '')[:3000]}"
        lines = [sent, *(f"  {k}: {v}" for k, v in call.headers.items())]
        for side, (status, kind, body) in zip(self.sides, normal, strict=True):
            lines += [f"{side.name}: {status} {kind}", body[:4000]]
        lines += ["after:", *(f"  {call!r}"[:1000] for call in self.history[:-1][-SHOWN_MAX:])]
        return "\n".join(lines)
