"""The first page, with the spine as a picture, and the log of all facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request

from tallystick.core.errors import BadInput
from tallystick.core.facts import NOUNS, Fact
from tallystick.doors.console.answer import Page
from tallystick.doors.console.view import KEYS_MAX, View
from tallystick.drawing.spine import Stop, draw_spine, state_words
from tallystick.drawing.words import PLURALS, fact_text, kind_of, plural

__all__ = ["home", "log"]

NEWS = 12
LOG_FACTS = 100


@dataclass(frozen=True, slots=True)
class News:
    """The newest fact of a key, and how many before it were about the same."""

    fact: Fact
    times: int = 1


async def home(view: View, request: Request) -> Page:
    """The spine and what happened last; with nothing on record, what to type first."""
    counts = await view.ledger.counts(view.tenant)
    listings = {noun: await view.ledger.listing(view.tenant, noun, KEYS_MAX) for noun in PLURALS}
    stops = _stops(counts, listings)
    facts = await view.ledger.history(view.tenant, limit=5 * NEWS)
    live = any(kind_of(state) == "busy" for stop in stops for state, _ in stop.states)
    shown = {
        "wide": draw_spine(stops), "tall": draw_spine(stops, tall=True), "empty": not any(counts.values()),
        "news": _news(facts)[:NEWS], "partial": [n for n in PLURALS if counts.get(n, 0) > len(listings[n])],
        "keys_max": KEYS_MAX,
    }  # fmt: skip
    data = {
        "spine": [{"noun": s.noun, "count": s.count, "states": [t for _, t in s.states]} for s in stops],
        "facts": [{"fact": replace(f, state={}), "text": fact_text(f)} for f in facts[:NEWS]],
    }
    return Page("home.html", "Overview", data, shown, live)


def _news(facts: Sequence[Fact]) -> list[News]:
    """Facts in a row about one key become one line; what has no page of its own stays in the log."""
    news: list[News] = []
    for fact in facts:
        if fact.noun not in PLURALS:
            continue
        if news and (news[-1].fact.noun, news[-1].fact.key) == (fact.noun, fact.key):
            news[-1] = News(news[-1].fact, news[-1].times + 1)
        else:
            news.append(News(fact))
    return news


def _stops(counts: Mapping[str, int], listings: Mapping[str, Sequence[Fact]]) -> list[Stop]:
    stops = []
    for noun, name in PLURALS.items():
        states = [f.state for f in listings[noun]]
        stops.append(Stop(noun, name, f"/{name}", counts.get(noun, 0), _states(noun, states)))
        if noun == "data":
            pipelines = {str(f.state.get("pipeline")) for f in listings["run"]}
            stops.append(Stop("pipeline", "pipelines", "/pipelines", len(pipelines)))
    return stops


def _states(noun: str, states: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    if not states:
        return []
    if noun == "data":
        return [("", plural(len({s.get("table") for s in states}), "table"))]
    if noun == "model":
        return [("", plural(len({s.get("name") for s in states}), "name"))]
    if noun == "signal":
        return state_words(Counter(str(s.get("kind")) for s in states))
    return state_words(Counter(str(s.get("state")) for s in states))


async def log(view: View, request: Request) -> Page:
    """Facts newest first; ``?noun=`` filters, ``?before=`` pages."""
    noun, before = request.query_params.get("noun", ""), request.query_params.get("before", "0")
    if noun and noun not in NOUNS:
        raise BadInput(f"there is no noun {noun[:40]!r}", where="log", hint="one of " + ", ".join(NOUNS))
    if not (before.isascii() and before.isdigit() and len(before) < 19):
        raise BadInput(
            f"{before[:40]!r} is no place in the log", where="log", hint="before is a whole number"
        )
    facts = await view.ledger.history(view.tenant, noun=noun, before=int(before), limit=LOG_FACTS + 1)
    more = facts[LOG_FACTS - 1].seq if len(facts) > LOG_FACTS else 0
    facts = facts[:LOG_FACTS]
    data = {"facts": [{"fact": f, "text": fact_text(f)} for f in facts], "next_before": more}
    return Page("log.html", "Log", data, {"facts": facts, "noun": noun, "more": more, "before": int(before)})
