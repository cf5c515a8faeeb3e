"""What a person sees: words on standard error while work goes on, tables or JSON on standard output."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.status import Status
from rich.table import Table

__all__ = ["Screen", "ago", "newest_verdicts", "percent", "short", "verdict_words", "visible"]

REACHED = ("passed", "refused")
PIPE_COLUMNS = 240
"""Characters of a line that nobody's terminal has to hold."""


class Screen:
    """Where output goes. ``as_json`` keeps standard output for one JSON document.

    Much of what is shown was said by others: control characters in it are written out.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.err = Console(stderr=True, highlight=False)
        self.out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)
        self._status: Status | None = None
        self._quarter = -1

    def say(self, text: str) -> None:
        """A line about what happens."""
        self.err.print(escape(visible(text)), soft_wrap=not self.err.is_terminal)

    def progress(self, share: float, text: str) -> None:
        """How far work is: one line that changes on a terminal, elsewhere a line for each quarter."""
        if self.err.is_terminal:
            if self._status is None:
                self._status = self.err.status("")
                self._status.start()
            self._status.update(escape(visible(f"{share:4.0%}  {text}")))
        elif int(share * 4) != self._quarter:
            self._quarter = int(share * 4)
            self.say(f"  {share:4.0%}  {text}")

    def done(self) -> None:
        """The work that made progress has ended: its line goes."""
        if self._status:
            self._status.stop()
        self._status, self._quarter = None, -1

    @contextmanager
    def counting(self, text: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """A line with the bytes done, on a terminal; with a bar where it is known how many there are."""
        bar = (BarColumn(),) if total is not None else ()
        columns = TextColumn("{task.description}"), *bar, DownloadColumn()
        with Progress(*columns, console=self.err, transient=True, disable=not self.err.is_terminal) as line:
            task = line.add_task(text, total=total)
            yield lambda size: line.advance(task, size)

    def json(self, value: Any) -> None:
        """The result as JSON on standard output."""
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))

    def result(self, value: Any, text: str) -> None:
        """The result: JSON where scripts read, else the text."""
        if self.as_json:
            self.json(value)
        else:
            self.out.print(escape(visible(text)), soft_wrap=not self.out.is_terminal)

    def table(self, value: Any, columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
        """Rows under column heads, or the words for none; JSON where scripts read."""
        if self.as_json:
            self.json(value)
            return
        shown = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            # Keys are there to be copied: only the last column, which is words, may wrap.
            shown.add_column(column, overflow="fold", no_wrap=column != columns[-1])
        for row in rows:
            shown.add_row(*(escape(visible(cell)) for cell in row))
        self.out.print(shown if shown.row_count else empty)


def short(digest: str) -> str:
    """The first 12 digits of a digest."""
    return digest.removeprefix("sha256:")[:12]


def ago(at_ms: int) -> str:
    """How long ago, in the largest fitting unit; the date once it is over a week."""
    seconds = max(0.0, time.time() - at_ms / 1000)
    for size, unit in ((60, "s"), (60, "min"), (24, "h")):
        if seconds < size:
            return f"{math.floor(seconds)} {unit} ago"
        seconds /= size
    if seconds < 7:
        return f"{math.floor(seconds)} d ago"
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")


def percent(rate: Mapping[str, Any]) -> str:
    """A rate of the evidence, as a percentage."""
    return f"{int(rate['right']) / int(rate['total']):.1%}"


def visible(text: str) -> str:
    """``text`` with its control characters written out, so that it shows what it is and moves no cursor."""
    kept = "\n\t"
    return "".join(c if c in kept or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def newest_verdicts(verdicts: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """By model, of verdicts newest first: the newest that was reached, which is what the gate asks; else
    the newest.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for verdict in verdicts:
        before = found.setdefault(verdict["model"], verdict)
        if before["state"] not in REACHED and verdict["state"] in REACHED:
            found[verdict["model"]] = verdict
    return found


def verdict_words(verdict: Mapping[str, Any] | None, digest: str, policy_digest: str) -> str:
    """A verdict in a few words: what it says, and whether it is about these files and the present rules."""
    if verdict is None:
        return "none"
    refusing = [
        f["rule"]
        for f in verdict["findings"]
        if not f["holds"] and f["severity"] == "refuse" and not f.get("exception")
    ]
    words = str(verdict["state"])
    if verdict["model_digest"] != digest:
        words += " for other files"
    if policy_digest and verdict["policy_digest"] != policy_digest:
        words += " under another policy"
    if refusing:
        words += ": " + ", ".join(refusing)
    clean = verdict.get("figures", {}).get("clean_accuracy")
    return words if clean is None else f"{words}; {clean:.1%} clean"
