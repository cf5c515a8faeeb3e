"""Models: every version, with its newest verdict and where it serves."""

from __future__ import annotations

from starlette.requests import Request

from tallystick.core.endpoint import Endpoint
from tallystick.core.errors import NotFound
from tallystick.core.model import ModelVersion
from tallystick.doors.console.answer import Page, name_in
from tallystick.doors.console.pages.verdicts import brief_of, verdicts_by_model
from tallystick.doors.console.view import View

__all__ = ["model", "model_name", "models"]


async def _served(view: View) -> dict[str, list[Endpoint]]:
    """Endpoints by the key of the model that they are wished to serve."""
    found: dict[str, list[Endpoint]] = {}
    for item in (await view.newest(Endpoint)).values:
        if item.wished.model:
            found.setdefault(item.wished.model, []).append(item)
    return found


async def models(view: View, request: Request) -> Page:
    """Every model version with its newest verdict and where it is served."""
    return await _list(view, "", "Models")


async def model_name(view: View, request: Request) -> Page:
    """The versions of one model."""
    name, _, version = request.path_params["name"].partition("@")
    if version:  # the key as it is shown everywhere is an address too
        request.path_params.update(name=name, version=version)
        return await model(view, request)
    name = name_in(request, "name")
    return await _list(view, name, name)


async def _list(view: View, name: str, title: str) -> Page:
    listing = await view.newest(ModelVersion)
    found = [m for m in listing.values if not name or m.name == name]
    if name and not found:
        names = ", ".join(sorted({m.name for m in listing.values})[:8]) or "none yet"
        raise NotFound(f"there is no model {name!r}", where="model", hint=f"models: {names}")
    found.sort(key=lambda m: (-m.at_ms, m.name, -m.version))
    judged, served = await verdicts_by_model(view), await _served(view)
    rows = [(m, next(iter(judged.get(m.key, ())), None), served.get(m.key, [])) for m in found]
    live = any(v is not None and not v.state.ended for _, v, _ in rows)
    data = {
        "models": [{"model": m, "verdict": v.state if v else None, "endpoints": [e.name for e in s]}
                   for m, v, s in rows],
        "left_out": listing.left_out,
    }  # fmt: skip
    return Page("making/models.html", title, data, {"rows": rows, "listing": listing, "name": name}, live)


async def model(view: View, request: Request) -> Page:
    """One version: where it came from, what it takes, what was found of it, and where it serves."""
    key = f"{request.path_params['name']}@{name_in(request, 'version')}"
    found = await view.one(ModelVersion, key)
    judged = (await verdicts_by_model(view)).get(key, [])
    serving = (await _served(view)).get(key, [])
    earlier = [
        e for e in (await view.newest(Endpoint)).values
        if e.wished.model != key and any(w.model == key for w in e.served)
    ]  # fmt: skip
    shown = {
        "m": found,
        "verdicts": judged,
        "serving": serving,
        "earlier": earlier,
        "report": await brief_of(view, judged[0]) if judged else "",
    }
    data = {
        "model": found, "verdicts": judged, "endpoints": [e.name for e in serving],
        "endpoints_earlier": [e.name for e in earlier],
    }  # fmt: skip
    return Page("making/model.html", key, data, shown, live=any(not v.state.ended for v in judged))
