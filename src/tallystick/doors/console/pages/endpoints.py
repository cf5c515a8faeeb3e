"""What is in production: endpoints, the signals they raise, and the remedies."""

from __future__ import annotations

import json
import shlex
from typing import Any

from starlette.requests import Request

from tallystick.core.endpoint import Endpoint, EndpointState
from tallystick.core.model import ModelVersion, TensorSpec
from tallystick.core.remedy import Remedy, RemedyState
from tallystick.core.signal import Signal
from tallystick.core.verdict import Verdict
from tallystick.doors.console.answer import Page, name_in
from tallystick.doors.console.view import View
from tallystick.drawing.chart import drift_bars, heat_map, sparkline, square_columns
from tallystick.ports.traffic import TrafficStats

__all__ = ["endpoint", "endpoints", "remedies", "remedy", "signal", "signals"]

EXAMPLE_NUMBERS_MAX = 64


def _stats(view: View, name: str) -> TrafficStats:
    return view.traffic.stats(view.tenant, name, view.clock.now_ms())


def _is_live(found: Endpoint, stats: TrafficStats) -> bool:
    """While it starts or changes, and while requests keep coming; one that gave up waits for a new wish."""
    changing = found.state is not EndpointState.FAILED and not found.settled
    return changing or found.state is EndpointState.STARTING or any(stats.per_second)


async def endpoints(view: View, request: Request) -> Page:
    """All endpoints with what they serve and their traffic."""
    listing = await view.newest(Endpoint)
    rows = [(e, _stats(view, e.name)) for e in sorted(listing.values, key=lambda e: e.name)]
    live = any(_is_live(e, s) for e, s in rows)
    data = {"endpoints": [{"endpoint": e, "traffic": s} for e, s in rows], "left_out": listing.left_out}
    return Page("proving/endpoints.html", "Endpoints", data, {"rows": rows, "listing": listing}, live)


async def endpoint(view: View, request: Request) -> Page:
    """One endpoint: wish and truth, traffic, how to ask it, drift, and what served before."""
    found = await view.one(Endpoint, name_in(request, "name"))
    stats = _stats(view, found.name)
    model = await view.find(ModelVersion, found.wished.model)
    signals = [s for s in (await view.newest(Signal)).values if s.endpoint == found.name]
    last = max(signals, key=lambda s: s.at_ms, default=None)
    remedies = [r for r in (await view.newest(Remedy)).values if r.endpoint == found.name]
    address = str(request.base_url).rstrip("/")
    shown = {
        "e": found, "stats": stats, "verdict": await view.find(Verdict, found.wished.verdict), "model": model,
        "signal": last, "signals": sorted(signals, key=lambda s: -s.at_ms), "remedies": remedies,
        "spark": sparkline(stats.per_second, f"Requests to {found.name}, last 60 s"),
        "address": f"{address}/v2/models/{found.name}/infer", "example": _example(address, found.name, model),
        **(_drawn(last) if last else {}),
    }  # fmt: skip
    live = _is_live(found, stats) or any(r.state is RemedyState.CARRYING for r in remedies)
    data = {"endpoint": found, "traffic": stats, "signal": last, "remedies": [r.key for r in remedies]}
    return Page("proving/endpoint.html", found.name, data, shown, live)


def _example(address: str, name: str, model: ModelVersion | None) -> str:
    """A command that asks the endpoint, with zeros of the right shape where the model says which."""
    tensors = model.inputs if model else ()
    body = json.dumps({"inputs": [_zeros(t) for t in tensors or (TensorSpec("input-0", "FP32", (1, 1)),)]})
    url = f"{address}/v2/models/{name}/infer"
    return (
        f"curl -s {shlex.quote(url)} \\\n  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}"
    )


def _zeros(tensor: TensorSpec) -> dict[str, Any]:
    shape = [1 if length < 0 else length for length in tensor.shape] or [1]
    count = 1
    for length in shape:
        count *= length
    value: Any = "" if tensor.datatype == "BYTES" else False if tensor.datatype == "BOOL" else 0
    data = [value] * count if count <= EXAMPLE_NUMBERS_MAX else [f"... {count} values"]
    return {"name": tensor.name, "shape": shape, "datatype": tensor.datatype, "data": data}


def _drawn(found: Signal) -> dict[str, Any]:
    """The signal's drift as pictures: bars always, a map of pixels where the columns are a square."""
    columns = found.drift.columns
    pixels = square_columns(columns)
    return {
        "bars": drift_bars(columns, found.worst) if columns else None,
        "heat": heat_map(pixels, found.worst) if pixels else None,
        "worst": sorted(columns, key=lambda c: (-c.ks, c.column))[:10],
    }


async def signals(view: View, request: Request) -> Page:
    """All signals, newest first, each with its remedy."""
    listing = await view.newest(Signal)
    remedies_of = {r.signal: r for r in reversed((await view.newest(Remedy)).values)}
    rows = [(s, remedies_of.get(s.key)) for s in sorted(listing.values, key=lambda s: -s.at_ms)]
    data = {
        "signals": [{"signal": s, "remedy": r.key if r else None} for s, r in rows],
        "left_out": listing.left_out,
    }
    return Page("proving/signals.html", "Signals", data, {"rows": rows, "listing": listing})


async def signal(view: View, request: Request) -> Page:
    """One signal with its figures."""
    found = await view.one(Signal, name_in(request, "key"))
    remedies = [r for r in (await view.newest(Remedy)).values if r.signal == found.key]
    shown = {"s": found, "remedies": remedies, **_drawn(found)}
    data = {"signal": found, "remedies": [r.key for r in remedies]}
    return Page("proving/signal.html", found.key, data, shown)


async def remedies(view: View, request: Request) -> Page:
    """All remedies, most recently changed first."""
    listing = await view.newest(Remedy)
    found = sorted(listing.values, key=lambda r: -r.at_ms)
    live = any(r.state is RemedyState.CARRYING for r in found)
    data = {"remedies": found, "left_out": listing.left_out}
    return Page("proving/remedies.html", "Remedies", data, {"remedies": found, "listing": listing}, live)


async def remedy(view: View, request: Request) -> Page:
    """One remedy: why, what it did, and each step of the way."""
    found = await view.one(Remedy, name_in(request, "key"))
    facts = await view.history(Remedy, found.key)
    live = found.state is RemedyState.CARRYING
    data = {"remedy": found, "facts": facts}
    return Page("proving/remedy.html", found.key, data, {"r": found, "facts": facts}, live)
