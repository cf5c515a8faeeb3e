"""Figures and facts in words: times, sizes, digests, states. Pure; templates use them as filters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from tallystick.core.facts import Fact
from tallystick.core.run.events import Step

__all__ = [
    "FILTERS",
    "KINDS",
    "LISTS",
    "PLURALS",
    "bytes_text",
    "clip",
    "diff_lines",
    "duration",
    "fact_text",
    "href",
    "iso",
    "kind_of",
    "log_href",
    "number",
    "percent",
    "plural",
    "relative",
    "step_anchor",
    "step_href",
    "tried",
    "value_text",
]

KINDS: Mapping[str, str] = {
    "running": "busy", "judging": "busy", "starting": "busy", "carrying out": "busy", "cancelling": "busy",
    "stopping": "busy", "failing": "bad", "failed": "bad", "refused": "no",
    "succeeded": "good", "passed": "good", "ready": "good", "done": "good", "cached": "kept",
    "cancelled": "off", "stopped": "off", "pruned": "off", "skipped": "off", "backing off": "wait",
    "proposed": "wait", "drift": "warn", "warn": "warn",
}  # fmt: skip
"""Which of eight kinds of mark and colour a state has; a state that is not here is ``none``."""

PLURALS: Mapping[str, str] = {
    "data": "data", "run": "runs", "model": "models", "verdict": "verdicts",
    "endpoint": "endpoints", "signal": "signals", "remedy": "remedies",
}  # fmt: skip


LISTS: Mapping[str, str] = {**PLURALS, "schedule": "schedules", "study": "studies"}
"""The nouns that have pages, by what their lists are called."""


def kind_of(state: str) -> str:
    """Which mark and colour a state has."""
    return KINDS.get(str(state), "none")


def clip(text: Any, chars: int) -> str:
    """At most ``chars`` characters, the last one an ellipsis where something was left out."""
    shown = str(text)
    return shown if len(shown) <= chars else shown[: chars - 1] + "…"


def number(value: float) -> str:
    """1,797 and 0.9833: whole numbers with separators, others with four significant digits."""
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:.4g}"


def percent(share: float) -> str:
    """A share (0 to 1) as ``98.3 %``."""
    digits = 2 if 0 < share < 0.001 else 1
    return f"{share * 100:.{digits}f} %"


def plural(count: int, one: str, many: str = "") -> str:
    """``1 row``, ``1,797 rows``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def bytes_text(size: int) -> str:
    """In bytes, kB, MB or GB of 1,000 each."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} bytes"


def duration(ms: float) -> str:
    """``0 ms``, ``840 ms``, ``1.24 s``, ``2 min 3 s``, ``3 h 20 min``, ``2 days 4 h``."""
    if ms < 999.5:
        return f"{max(0, ms):.0f} ms"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours < 1:
        return f"{minutes} min {int(seconds % 60)} s"
    if hours < 48:
        return f"{hours} h {minutes % 60} min"
    return f"{hours // 24} days {hours % 24} h"


def relative(at_ms: int, now_ms: int) -> str:
    """``just now``, ``40 s ago``, ``3 min ago``, ``5 h ago``, ``12 days ago``, or the date."""
    seconds = (now_ms - at_ms) / 1000
    if seconds < -5:
        return "in " + duration(-seconds * 1000)
    for below, each, unit in ((5, 0, ""), (60, 1, "s"), (3600, 60, "min"), (172_800, 3600, "h")):
        if seconds < below:
            return f"{int(seconds // each)} {unit} ago" if each else "just now"
    days = int(seconds // 86_400)
    return f"{days} days ago" if days < 60 else iso(at_ms)[:10]


def iso(at_ms: int) -> str:
    """ISO 8601 in UTC with milliseconds; empty for 0 and for what is no date."""
    try:
        moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return ""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if at_ms else ""


def when(at_ms: int, now_ms: int) -> Markup:
    """A ``<time>`` with the relative time to read and the exact one in its title."""
    if not iso(at_ms):
        return Markup('<span class="dim">—</span>')
    exact = iso(at_ms)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, exact, relative(at_ms, now_ms))


def digest(text: str) -> Markup:
    """The first 12 hex digits, with the whole digest in the title."""
    if not text:
        return Markup('<span class="dim">—</span>')
    return Markup('<code class="digest" title="{}">{}</code>').format(text, text.removeprefix("sha256:")[:12])


def artifact(text: str) -> Markup:
    """A digest that leads to its artifact."""
    if not text:
        return digest(text)
    return Markup('<a href="/artifacts/{}">{}</a>').format(quote(text, safe=":"), digest(text))


def value_text(value: Any) -> str:
    """A parameter's value as people write it: text bare, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def tried(step: Step) -> str:
    """``try 2`` for a step that was tried more than once."""
    return f"try {step.attempt}" if step.attempt > 1 else ""


def step_href(run: str, path: str) -> str:
    """The page of a step."""
    return f"/runs/{quote(run, safe='')}/step?path={quote(path, safe='')}"


def log_href(run: str, path: str, whole: bool = False) -> str:
    """The page of a step's log; ``whole``: all of it as plain text."""
    return f"/runs/{quote(run, safe='')}/log{'.txt' if whole else ''}?step={quote(path, safe='')}"


def diff_lines(text: str) -> list[tuple[str, str]]:
    """The lines of a unified diff, each with its kind: add, cut, at, or nothing."""
    kinds = {"+": "add", "-": "cut", "@": "at"}
    return [
        ("at" if line.startswith(("+++ ", "--- ")) else kinds.get(line[:1], ""), line)
        for line in text.splitlines()
    ]


def step_anchor(path: str) -> str:
    """The id of a step's row on its run's page."""
    return "step-" + quote(path, safe="")


def href(key: str, noun: str) -> str:
    """The page of a noun's key. What a verdict calls its data may also be a run's output, ``RUN/OUTPUT``."""
    name, _, rest = (quote(part, safe="") for part in key.partition("@"))
    if noun == "data" and "/" in key:
        return f"/runs/{quote(key.partition('/')[0], safe='')}"
    if noun == "data":
        return f"/data/{name}" + (f"#at-{rest}" if rest else "")
    if noun == "model":
        return f"/models/{name}" + (f"/{rest}" if rest else "")
    return f"/{LISTS[noun]}/{quote(key, safe='')}"


def link(key: str, noun: str) -> Markup:
    """The key as a link to its page, where it has one."""
    if not key:
        return Markup('<span class="dim">—</span>')
    if noun not in LISTS or noun == "schedule":
        return digest(key)
    return Markup('<a class="key" href="{}">{}</a>').format(href(key, noun), key)


def fact_text(fact: Fact) -> str:
    """One fact in plain words, from the state that it left behind."""
    say = _SAY.get(fact.noun)
    return clip((say(fact.state) if say else fact.note) or f"{fact.noun} {fact.event}", 300)


def _data(state: Mapping[str, Any]) -> str:
    source = state.get("source") or {}
    origin = f" from {source.get('name')}" if source.get("name") else ""
    return f"{state.get('table')} has {plural(int(state.get('rows', 0)), 'row')}{origin}"


def _run(state: Mapping[str, Any]) -> str:
    counts = state.get("counts") or Counter(s.get("state") for s in state.get("steps") or ())
    done = sum(counts.get(name, 0) for name in ("succeeded", "cached"))
    text = f"{state.get('pipeline')}: {state.get('state')}, {plural(done, 'step')} done"
    return f"{text}: {state['error']}" if state.get("error") else text


def _model(state: Mapping[str, Any]) -> str:
    run = (state.get("origin") or {}).get("run")
    return f"version {state.get('version')} of {state.get('name')}" + (f", made by {run}" if run else "")


def _verdict(state: Mapping[str, Any]) -> str:
    model, now = state.get("model"), state.get("state")
    broken = [
        f
        for f in state.get("findings") or ()
        if not f.get("holds") and f.get("severity") == "refuse" and not f.get("exception")
    ]
    why = broken[0].get("text") if broken else state.get("error") or state.get("progress")
    return f"{model} {'is being judged' if now == 'judging' else now}" + (f": {why}" if why else "")


def _endpoint(state: Mapping[str, Any]) -> str:
    model = (state.get("wished") or {}).get("model")
    text = f"{state.get('name')} is {state.get('state')}" + (f" with {model}" if model else "")
    return f"{text}: {state['error']}" if state.get("error") else text


def _remedy(state: Mapping[str, Any]) -> str:
    target = f" ({state['target']})" if state.get("target") else ""
    text = f"{state.get('action')}{target} for {state.get('endpoint')}: {state.get('state')}"
    return f"{text}, {state['outcome']}" if state.get("outcome") else text


def _best(state: Mapping[str, Any]) -> str:
    value = (state.get("best") or {}).get("value")
    return number(value) if isinstance(value, int | float) else "not known"


_SAY: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "data": _data, "run": _run, "model": _model, "verdict": _verdict, "endpoint": _endpoint,
    "schedule": lambda state: f"{state.get('name')}: {'on' if state.get('enabled') else 'off'}",
    "study": lambda state: f"{state.get('name')}: {state.get('state')}, best {_best(state)}",
    "signal": lambda state: f"{state.get('endpoint')}: {state.get('text')}", "remedy": _remedy,
}  # fmt: skip


def _hardest(figures: Mapping[str, float]) -> tuple[float, float] | None:
    """The largest eps at which a verdict says how much withstood, and that share; None where it says none."""
    at = {float(k.partition("@")[2]): v for k, v in figures.items() if k.startswith("robust_accuracy@")}
    return max(at.items()) if at else None


FILTERS = {
    "hardest": _hardest,
    "anchor": step_anchor, "artifact": artifact, "bytes": bytes_text, "clip": clip, "diff_lines": diff_lines,
    "digest": digest, "duration": duration, "href": href, "iso": iso, "kind": kind_of, "link": link,
    "log_href": log_href, "number": number, "percent": percent, "plural": plural, "say": fact_text,
    "step_href": step_href, "tried": tried, "value": value_text, "when": when,
    "quoted": lambda text: quote(str(text), safe=""),
}  # fmt: skip
