"""The console in a real browser: widths, light and dark, keyboard, contrast, live refresh. Needs Chromium."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tallystick.core.facts import Fact, from_json, to_json
from tallystick.core.run.events import Run, RunState
from tallystick.doors.console import console_missing, console_routes
from tests.doors.console.world import lived, view_of
from tests.doors.test_console import BAD, GOOD, LIVE, PAGES
from tests.fakes.life import NOW_MS, Life
from tests.fakes.machine.chromium import DRIVES_CHROMIUM, chromium

__all__ = ["chromium"]

pytestmark = DRIVES_CHROMIUM

T = TypeVar("T")
Scheme = Literal["light", "dark"]

CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const text = getComputedStyle(at).backgroundColor;
      const colour = parse(text);
      if (text.startsWith("rgb") && (colour.length < 4 || colour[3] === 1)) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const unseen = ["TITLE", "DESC"].includes(node.tagName.toUpperCase());
    if (!own || unseen || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const colour = node instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(parse(colour)), light(behind(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${node.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)} ${colour}`);
  }
  return poor;
}"""

LINKS = """() => [...document.querySelectorAll("a")].filter((a) => a.getClientRects().length)
  .map((a) => a.getAttribute("href"))"""

FOCUSED = """() => [document.activeElement.getAttribute("href"),
  getComputedStyle(document.activeElement).outlineStyle]"""

SEEN = """() => [document.activeElement.getAttribute("href"),
  Math.round(document.activeElement.getBoundingClientRect().top)]"""

UNNAMED = """() => [...document.querySelectorAll("img, svg, a, [role=region], nav")].filter((e) =>
  !e.closest("[aria-hidden=true]") && !(e.getAttribute("alt") || e.getAttribute("aria-label")
    || ["A", "a"].includes(e.tagName) && e.textContent.trim())).map((e) => e.outerHTML.slice(0, 120))"""


@dataclass(slots=True)
class House:
    url: str
    life: Life


async def _nothing_yet(request: Request) -> JSONResponse:
    """What the API's door says of a step that has printed nothing."""
    return JSONResponse({"text": "", "next": 0, "attempt": 1, "ended": False})


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    life = asyncio.run(lived(tmp_path_factory.mktemp("life")))
    view = view_of(life)
    quiet = Route("/api/tally/runs/{key}/log", _nothing_yet)
    app = Starlette(routes=[quiet, *console_routes(view)], exception_handlers={404: console_missing(view)})
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    yield House(f"http://127.0.0.1:{listener.getsockname()[1]}", life)
    server.should_exit = True
    thread.join(60)
    listener.close()


def told(work: Coroutine[Any, Any, T]) -> T:
    """The value of a coroutine, run beside the loop that playwright holds in this thread."""
    with ThreadPoolExecutor(1) as beside:
        return beside.submit(asyncio.run, work).result()


def context_of(chromium: Browser, width: int, scheme: Scheme = "light") -> BrowserContext:
    return chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)


def complaints_of(page: Page) -> list[str]:
    """Fills up with what the console of the browser, CSP included, and scripts complain about."""
    found: list[str] = []
    page.on("console", lambda said: found.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda wrong: found.append(str(wrong)))
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1920])
def test_every_page_fits_and_can_be_read(house: House, chromium: Browser, width: int, scheme: Scheme) -> None:
    context = context_of(chromium, width, scheme)
    page = context.new_page()
    said = complaints_of(page)
    for path in PAGES:
        page.goto(house.url + path)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{path} is {wide} px wide"
        assert page.locator("h1").count() == 1
        assert page.evaluate(UNNAMED) == [], path
        assert page.evaluate(CONTRAST) == [], path
    assert said == []
    context.close()


def test_every_link_of_the_overview_is_reached_by_tab(house: House, chromium: Browser) -> None:
    for width in (360, 1920):
        context = context_of(chromium, width)
        page = context.new_page()
        page.goto(house.url + f"/?w={width}")
        page.evaluate("delete document.getElementById('main').dataset.live")
        wanted = page.evaluate(LINKS)
        reached, ringed = [], 0
        for _ in range(len(wanted) + 3):
            page.keyboard.press("Tab")
            at = page.evaluate(FOCUSED)
            if at[0]:
                reached.append(at[0])
                ringed += at[1] != "none"
        assert reached[0] == "#main", "the skip link comes first"
        assert reached[: len(wanted)] == wanted
        assert ringed >= len(wanted)
        context.close()


def test_a_running_page_refreshes_itself_and_keeps_scroll_and_focus(house: House, chromium: Browser) -> None:
    context = context_of(chromium, 360)
    page = context.new_page()
    said = complaints_of(page)
    page.goto(f"{house.url}/runs/{LIVE}")
    page.evaluate("document.getElementById('graph').scrollLeft = 150")
    page.locator(".steps a", has_text="log").first.focus()
    page.evaluate("window.scrollTo(0, 300)")
    kept = page.evaluate(SEEN)
    expect(page.locator("#live")).to_be_visible()
    fact = told(house.life.ledger.latest("default", "run", LIVE))
    assert fact is not None
    done = from_json(Run, fact.state)
    done = replace(done, state=RunState.SUCCEEDED, ended_ms=NOW_MS)
    told(house.life.ledger.append([Fact("run", LIVE, "ended", to_json(done), at_ms=NOW_MS)]))
    expect(page.locator("h1 .badge")).to_have_text("succeeded")
    assert page.evaluate("document.getElementById('graph').scrollLeft") == 150
    assert page.evaluate(SEEN) == kept
    expect(page.locator("#live")).to_have_count(0)
    assert page.evaluate("document.getElementById('main').dataset.live") is None
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2500)
    assert asked == [], "a page that is not live asks for nothing"
    assert said == []
    told(house.life.ledger.append([replace(fact, seq=0)]))
    context.close()


def test_a_page_that_never_runs_asks_for_nothing(house: House, chromium: Browser) -> None:
    context = context_of(chromium, 768)
    page = context.new_page()
    page.goto(f"{house.url}/runs/{GOOD}", wait_until="networkidle")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2500)
    assert asked == []
    context.close()


def test_a_hub_that_is_gone_is_said_and_the_page_comes_back(house: House, chromium: Browser) -> None:
    context = context_of(chromium, 768)
    page = context.new_page()
    page.goto(f"{house.url}/")
    context.set_offline(True)
    expect(page.locator("#live")).to_contain_text("no answer from the hub")
    context.set_offline(False)
    expect(page.locator("#live")).to_have_text("live")
    context.close()


@pytest.mark.parametrize("opened", [True, False], ids=["in the open console", "in a new tab"])
@pytest.mark.parametrize(
    ("link", "at"),
    [
        ("/#/experiments/1/runs/0ab1", "/mlflow/#/experiments/1/runs/0ab1"),
        ("/#/models/a%20b?x=1&y=%23", "/mlflow/#/models/a%20b?x=1&y=%23"),
        ("/#/", "/mlflow/#/"),
        # Links that somebody else wrote: they may lead to a page of MLflow's that is not there, no further.
        ("/#//evil.example/a", "/mlflow/#//evil.example/a"),
        ("/#/\\evil.example", "/mlflow/#/\\evil.example"),
        ("/#/../../api/tally/status", "/mlflow/#/../../api/tally/status"),
        ("/#/@evil.example:80/", "/mlflow/#/@evil.example:80/"),
        ("/#/javascript:alert(1)", "/mlflow/#/javascript:alert(1)"),
        # These stay.
        ("/#main", "/#main"),
        ("/#javascript:alert(1)", "/#javascript:alert(1)"),
        ("/#https://evil.example/", "/#https://evil.example/"),
        ("/#\\/evil.example", "/#\\/evil.example"),
        ("/#%2F%2Fevil.example", "/#%2F%2Fevil.example"),
        ("/?next=https://evil.example/#main", "/?next=https://evil.example/#main"),
        ("/models#/experiments/1", "/models#/experiments/1"),
        ("//evil.example/#/experiments/1", "//evil.example/#/experiments/1"),
    ],
)
def test_a_link_that_mlflows_client_printed(
    house: House, chromium: Browser, link: str, at: str, opened: bool
) -> None:
    context = context_of(chromium, 768)
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    if opened:
        page.goto(house.url + "/")
    page.goto(house.url + link)
    expect(page).to_have_url(house.url + at)
    page.evaluate("new Promise((then) => setTimeout(then))")  # whatever listens has been told by now
    assert page.evaluate("location.href") == house.url + at
    assert page.evaluate("[location.origin, location.protocol]") == [house.url, "http:"]
    assert [url for url in asked if not url.startswith(house.url + "/")] == []
    assert said == []
    context.close()


def test_a_hostile_page_runs_no_script(house: House, chromium: Browser) -> None:
    context = context_of(chromium, 1920)
    page = context.new_page()
    opened: list[str] = []
    page.on("dialog", lambda dialog: (opened.append(dialog.message), dialog.dismiss()))
    for path in (f"/runs/{BAD}", "/", "/data/digits", "/endpoints/forest"):
        page.goto(house.url + path)
    evil = house.life.put(b"<!doctype html><script>alert('artifact')</script>")
    page.goto(f"{house.url}/artifacts/{evil}")
    assert opened == []
    context.close()
