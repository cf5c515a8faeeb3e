"""Verdicts, and the report on each: as a page, as one HTML file, as a Markdown model card."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from tallystick import __version__
from tallystick.core.errors import TallyError
from tallystick.core.verdict import Verdict
from tallystick.doors.console.answer import HEADERS, HERE, Page, error_answer, name_in
from tallystick.doors.console.view import View
from tallystick.drawing.report.content import Report
from tallystick.drawing.report.markdown import model_card
from tallystick.drawing.report.page import brief, sections
from tallystick.drawing.report.whole import pictures_of, self_contained
from tallystick.drawing.words import iso
from tallystick.evidence.evidence import Evidence
from tallystick.judging.weighed import evidence_of

__all__ = ["brief_of", "card", "verdict", "verdicts", "verdicts_by_model", "whole_file"]

PICTURE_BYTES_MAX = 2 * 1024 * 1024
PNG = b"\x89PNG\r\n\x1a\n"

FILE_HEADERS: Mapping[str, str] = {
    **HEADERS,
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
}


async def verdicts_by_model(view: View) -> dict[str, list[Verdict]]:
    """Verdicts by model key, newest first."""
    found: dict[str, list[Verdict]] = {}
    for item in sorted((await view.newest(Verdict)).values, key=lambda v: -v.at_ms):
        found.setdefault(item.model, []).append(item)
    return found


async def verdicts(view: View, request: Request) -> Page:
    """All verdicts, newest first."""
    listing = await view.newest(Verdict)
    found = sorted(listing.values, key=lambda v: -v.at_ms)
    live = any(not v.state.ended for v in found)
    data = {"verdicts": found, "left_out": listing.left_out}
    return Page("proving/verdicts.html", "Verdicts", data, {"verdicts": found, "listing": listing}, live)


async def verdict(view: View, request: Request) -> Page:
    """One verdict: the whole report on it."""
    found = await view.one(Verdict, name_in(request, "key"))
    report = await _report(view, found)
    data = {"verdict": found, "expired": report.expired, "evidence": report.evidence}
    shown = {"v": found, "report": sections(report, _shown_at)}
    return Page("proving/verdict.html", found.key, data, shown, not found.state.ended)


async def brief_of(view: View, found: Verdict) -> str:
    """The beginning of a report, for the model's own page."""
    return brief(await _report(view, found))


async def whole_file(view: View, request: Request) -> Response:
    """The report as one HTML file that needs nothing else."""
    try:
        report = await _report(view, await view.one(Verdict, str(request.path_params["key"])))
    except TallyError as wrong:
        return error_answer(view, request, wrong)
    pictures = await asyncio.to_thread(_read, await _paths(view, pictures_of(report)))
    css = await asyncio.to_thread((HERE / "static" / "tally.css").read_text, "utf-8")
    about = f"Written by tallystick {__version__} at {iso(view.clock.now_ms())}."
    text = self_contained(report, pictures, css, about)
    return _file(report, "html", text, "text/html; charset=utf-8")


async def card(view: View, request: Request) -> Response:
    """The report as a Markdown model card."""
    try:
        report = await _report(view, await view.one(Verdict, str(request.path_params["key"])))
    except TallyError as wrong:
        return error_answer(view, request, wrong)
    return _file(report, "md", model_card(report), "text/markdown; charset=utf-8")


def _file(report: Report, kind: str, text: str, media_type: str) -> Response:
    """To be saved: it says of somebody's model what that model's own names and rows say."""
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in report.verdict.key)
    headers = {**FILE_HEADERS, "Content-Disposition": f'attachment; filename="{name}.{kind}"'}
    return Response(text, media_type=media_type, headers=headers)


def _shown_at(digest: str) -> str:
    return f"/artifacts/{digest}"


async def _report(view: View, found: Verdict) -> Report:
    evidence = await _evidence(view, found)
    before = await _before(view, found) if evidence is not None else None
    expired = await view.expired(found) if view.expired and found.reached else ""
    return Report(found, evidence, before, expired)


async def _evidence(view: View, found: Verdict) -> Evidence | None:
    """What it rests on; None where that is gone, damaged, or was kept otherwise by an earlier tallystick."""
    with contextlib.suppress(TallyError):
        return await evidence_of(view.artifacts, found)
    return None


async def _before(view: View, found: Verdict) -> Evidence | None:
    """The evidence on the newest earlier version of the model that was judged on the same kind of rows."""
    name, _, version = found.model.rpartition("@")
    if not version.isdigit():
        return None
    earlier: list[tuple[int, Verdict]] = []
    for key, judged in (await verdicts_by_model(view)).items():
        other, _, number = key.rpartition("@")
        if other == name and number.isdigit() and int(number) < int(version):
            earlier += [(int(number), v) for v in judged if v.reached and v.label == found.label][:1]
    for _, each in sorted(earlier, key=lambda pair: -pair[0]):
        if evidence := await _evidence(view, each):
            return evidence
    return None


async def _paths(view: View, digests: Sequence[str]) -> dict[str, Path]:
    found = {}
    for digest in digests:
        with contextlib.suppress(TallyError):
            found[digest] = await view.artifacts.path_of(digest)
    return found


def _read(paths: Mapping[str, Path]) -> dict[str, bytes]:
    """The pictures that are PNG files of a sensible size; the others are left blank."""
    found = {}
    for digest, path in paths.items():
        with contextlib.suppress(OSError):
            if path.stat().st_size <= PICTURE_BYTES_MAX and (content := path.read_bytes()).startswith(PNG):
                found[digest] = content
    return found
