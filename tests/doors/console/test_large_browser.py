"""Large and hostile runs in a real browser: they render, they move by keyboard, and nothing in them acts."""

from __future__ import annotations

from dataclasses import replace

from playwright.sync_api import Browser, expect

from tallystick.core.pipeline.spec import Dag, Pipeline, Task
from tallystick.core.run.events import RunState, StepState
from tests.doors.console.world import component, done, keep_run, long_chain, looping
from tests.doors.test_console_browser import House, complaints_of, context_of, house, told
from tests.fakes.life import EVIL
from tests.fakes.machine.chromium import DRIVES_CHROMIUM, chromium

__all__ = ["chromium", "house"]

pytestmark = DRIVES_CHROMIUM


def test_a_run_of_a_thousand_steps_renders(house: House, chromium: Browser) -> None:
    steps = [done(f"step-{i}", 50 * i, 45) for i in range(1000)]
    told(keep_run(house.life, "run-chain", long_chain(1000), steps, RunState.SUCCEEDED))
    context = context_of(chromium, 390)
    page = context.new_page()
    said = complaints_of(page)
    answer = page.goto(f"{house.url}/runs/run-chain")
    assert answer is not None
    assert len(answer.body()) < 1_000_000
    expect(page.locator("#graph .node")).to_have_count(40)
    group = page.locator("#graph a", has_text="step-25…49")
    group.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#graph .node")).to_have_count(39 + 25)
    page.goto(f"{house.url}/runs/run-chain/timeline")
    expect(page.locator("#timeline .row-name")).to_have_count(100)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert said == []
    context.close()


def test_a_loop_counts_on_in_the_box_that_is_there(house: House, chromium: Browser) -> None:
    steps = [done("begin", 0, 10), *(done(f"each[{i}]/train", 20, 5) for i in range(2000))]
    told(keep_run(house.life, "run-loop", looping(10_000), steps))
    context = context_of(chromium, 1280)
    page = context.new_page()
    said = complaints_of(page)
    page.goto(f"{house.url}/runs/run-loop?open=each")
    train = page.locator("#graph .node", has_text="train").first
    expect(train).to_contain_text("2,000 of 10,000 done")
    page.evaluate("document.querySelector('#graph svg').marked = true")
    more = [done(f"each[{i}]/train", 20, 5) for i in range(3000)]
    told(keep_run(house.life, "run-loop", looping(10_000), [*more, replace(steps[0], path="late")]))
    expect(train).to_contain_text("3,000 of 10,000 done")
    assert page.evaluate("document.querySelector('#graph svg').marked") is True
    assert said == []
    context.close()


def test_hostile_names_and_errors_are_only_ever_text(house: House, chromium: Browser) -> None:
    names = [EVIL, '"><svg onload=alert(2)>', "javascript:alert(3)", "a&b<c", "x" * 3000, "\u202etxt.exe"]
    whole = Pipeline(EVIL, Dag(tuple(Task(name, component(name)) for name in names)))
    steps = [
        replace(done(name, 0, 5, StepState.FAILED), error=EVIL, cache_note=EVIL, note=EVIL) for name in names
    ]
    told(keep_run(house.life, "run-evil", whole, steps, RunState.FAILED))
    context = context_of(chromium, 390)
    page = context.new_page()
    said = complaints_of(page)
    opened: list[str] = []
    page.on("dialog", lambda dialog: (opened.append(dialog.message), dialog.dismiss()))
    for path in ("", "/timeline", "/steps", "/diff/run-evil", "/diff"):
        page.goto(f"{house.url}/runs/run-evil{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    page.goto(f"{house.url}/runs/run-evil")
    for i in range(len(names)):
        page.locator("#graph a").nth(i).click()
        expect(page.locator("h1 .badge")).to_have_text("failed")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.go_back()
    assert (opened, said) == ([], [])
    context.close()
