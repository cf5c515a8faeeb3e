"""A real run, watched in a real browser: the graph moves, the log is read on, nothing flickers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.fakes.machine.chromium import DRIVES_CHROMIUM, chromium
from tests.fakes.mlflow.schema import WithRecord
from tests.journeys.conftest import RunningHub, start_hub

__all__ = ["chromium"]

pytestmark = [*DRIVES_CHROMIUM, pytest.mark.journey]

PIPELINE = str(Path(__file__).with_name("watched.yaml"))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, with_record: WithRecord) -> Iterator[RunningHub]:
    running = start_hub(with_record(tmp_path_factory.mktemp("watched") / "home"))
    yield running
    running.end()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page at whose end nothing was complained about, and no dialog came up."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page, said = context.new_page(), list[str]()
    page.on("console", lambda told: said.append(told.text) if told.type in ("error", "warning") else None)
    page.on("pageerror", lambda wrong: said.append(str(wrong)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    yield page
    context.close()
    assert said == []


def begun(hub: RunningHub, lines: int) -> str:
    return str(hub.json("run", PIPELINE, "-p", f"lines={lines}", "--no-wait")["key"])


def test_the_graph_moves_while_the_run_goes_on(hub: RunningHub, page: Page) -> None:
    key = begun(hub, 41)
    page.goto(f"{hub.url}/runs/{key}")
    node = page.locator("#graph .node", has_text="say")
    expect(node).to_contain_text("running")
    # The picture is changed, and never exchanged: what is marked here is there to the end.
    page.evaluate("document.querySelector('#graph svg').marked = true")
    page.evaluate("document.querySelector('#graph .node').marked = true")
    expect(page.locator("#graph .node", has_text="for-loop-")).to_contain_text("8 of 8 done")
    expect(page.locator("#graph .node", has_text="close")).to_contain_text("succeeded")
    expect(page.locator("h1 .badge")).to_have_text("succeeded")
    expect(page.locator("#live")).to_have_count(0)
    assert page.evaluate("document.querySelector('#graph svg').marked") is True
    assert page.evaluate("document.querySelector('#graph .node').marked") is True
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2500)
    assert asked == [], "a run that has ended is asked for no more"


def test_a_loop_is_unfolded_by_its_link_and_the_timeline_shows_all(hub: RunningHub, page: Page) -> None:
    key = begun(hub, 2)
    page.goto(f"{hub.url}/runs/{key}")
    expect(page.locator("h1 .badge")).to_have_text("succeeded")
    page.locator("#graph a", has_text="for-loop-").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#graph .frame-name", has_text="8 iterations, 8 done")).to_be_visible()
    page.locator("#graph a", has_text="8 iterations").click()
    expect(page.locator("#graph .frame-name", has_text="iterations")).to_have_count(0)
    page.get_by_role("link", name="timeline").click()
    expect(page.locator("#timeline svg")).to_be_visible()
    expect(page.locator("#timeline .critical").first).to_be_visible()
    expect(page.locator("body")).to_contain_text("critical path")


def test_a_log_is_read_on_while_it_is_written(hub: RunningHub, page: Page) -> None:
    key = begun(hub, 60)
    page.goto(f"{hub.url}/runs/{key}")
    page.locator("#graph a", has_text="say").click()
    page.get_by_role("link", name="the log on a page of its own").click()
    log = page.locator("#log")
    expect(log).to_contain_text("line 3")
    assert page.locator("h1 .badge").text_content() == "running", "it is not the stored log that is shown"
    told = log.text_content() or ""
    assert "<script>alert('log')</script><img src=x onerror=alert(1)>" in told
    assert "binary \ufffd" in told
    assert "\x1b" not in told
    assert page.locator("#log *").count() == 0, "what a step prints is only ever text"
    expect(log).to_contain_text("line 45")  # more than fits: it goes on at the end
    assert page.evaluate("(() => { const e = document.getElementById('log'); return e.scrollTop > 0; })()")
    page.evaluate("document.getElementById('log').scrollTop = 0")
    expect(log).to_contain_text("line 52")
    assert page.evaluate("document.getElementById('log').scrollTop") == 0, "who scrolled up reads in peace"
    expect(page.locator("h1 .badge")).to_have_text("succeeded")
    expect(log).to_contain_text("line 59")
    assert "\x1b" not in (log.text_content() or "")
    assert len([line for line in (log.text_content() or "").splitlines() if "line " in line]) == 60


def test_two_runs_are_compared_and_a_step_says_what_it_ran_on(hub: RunningHub, page: Page) -> None:
    one, two = begun(hub, 3), begun(hub, 4)
    for key in (one, two):
        page.goto(f"{hub.url}/runs/{key}")
        expect(page.locator("h1 .badge")).to_have_text("succeeded")
    page.goto(f"{hub.url}/runs/{one}")
    page.get_by_role("link", name="compare", exact=True).click()
    page.get_by_role("link", name=two).click()
    expect(page.locator("#params")).to_contain_text("lines")
    expect(page.locator("#params .before")).to_contain_text("3")
    expect(page.locator("#params .after")).to_contain_text("4")
    page.goto(f"{hub.url}/runs/{one}/step?path=say")
    expect(page.locator("main")).to_contain_text("Python 3.")
    expect(page.locator("main")).to_contain_text("Cache")
    page.locator("summary").click()
    expect(page.locator(".packages")).to_be_visible()
