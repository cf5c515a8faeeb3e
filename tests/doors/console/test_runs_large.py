"""Pages of large runs and of runs that go on: small answers, only what changed, steps page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tallystick.core.names import DEFAULT_TENANT
from tallystick.core.run.events import Began, RunState, StepState
from tallystick.core.run.record import write_event, write_step
from tallystick.ports.runs.journal import Entry
from tests.doors.console.world import GOOD, STUDY, done, keep_run, lived, long_chain, looping
from tests.doors.test_console import LIVE, Reader, client_of
from tests.fakes.life import Life

PART = {"tally-part": "main"}


@pytest.fixture
async def life(tmp_path: Path) -> Life:
    return await lived(tmp_path)


@pytest.fixture
async def web(life: Life) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(life) as client:
        yield client


async def test_a_run_of_a_thousand_steps_is_a_small_page(life: Life, web: httpx.AsyncClient) -> None:
    steps = [done(f"step-{i}", 50 * i, 45) for i in range(1000)]
    await keep_run(life, "run-chain", long_chain(1000), steps, RunState.SUCCEEDED)
    for path in ("", "/timeline", "/steps", "/steps?page=10", "?open=step-25%E2%80%A6"):
        answer = await web.get(f"/runs/run-chain{path}")
        assert answer.status_code == 200
        assert len(answer.content) < 250_000, path
    page = Reader((await web.get("/runs/run-chain")).text)
    assert "1,000 of 1,000 started are done" in " ".join(page.text.split())
    assert "All 1,000 steps" in page.text


async def test_ten_thousand_items_are_counted_and_never_sent(life: Life, web: httpx.AsyncClient) -> None:
    steps = [done("begin", 0, 10)]
    steps += [done(f"each[{i}]/{t}", 10 + i, 5) for i in range(10_000) for t in ("train", "score")]
    steps[21] = replace(steps[21], state=StepState.FAILED, error="no memory")
    await keep_run(life, "run-loop", looping(10_000), steps, RunState.FAILED)
    answer = await web.get("/runs/run-loop")
    assert len(answer.content) < 60_000
    assert "9,999 of 10,000 done" in answer.text
    assert "no memory" in answer.text, "what failed is among the steps that are shown"
    opened = await web.get("/runs/run-loop?open=each")
    assert "9,999 of 10,000 done" in opened.text
    assert "[10] ▸" in opened.text
    assert len((await web.get("/runs/run-loop/timeline")).content) < 100_000
    failed = Reader((await web.get("/runs/run-loop/steps?state=failed")).text)
    assert "1 to 1 of 1" in " ".join(failed.text.split())
    under = (await web.get("/runs/run-loop/steps.json?under=each[77]/")).json()
    assert [step["path"] for step in under["steps"]] == ["each[77]/train", "each[77]/score"]


async def test_only_what_changed_is_answered_again(life: Life, web: httpx.AsyncClient) -> None:
    whole = await web.get(f"/runs/{LIVE}")
    part = await web.get(f"/runs/{LIVE}", headers=PART)
    assert part.text.lstrip().startswith("<title>")
    assert '<main id="main"' in part.text
    assert '<nav aria-label="Record"' not in part.text
    assert part.text.partition("<main")[2].strip() in whole.text
    again = await web.get(f"/runs/{LIVE}", headers={**PART, "if-none-match": part.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == whole.headers["content-security-policy"]
    now = done("choose", 100, 0, StepState.RUNNING)
    entry = Entry(write_event(Began(2, 2)), [(now.path, write_step(replace(now, ended_ms=0)))])
    await life.journal.record(DEFAULT_TENANT, LIVE, [entry])
    changed = await web.get(f"/runs/{LIVE}", headers={**PART, "if-none-match": part.headers["etag"]})
    assert changed.status_code == 200
    assert "choose: running" in changed.text
    assert "choose: succeeded" not in changed.text


@pytest.mark.parametrize("query", ["state=nope", "page=0", "page=x", "page=99999999999", "page=-1"])
async def test_steps_that_cannot_be_meant_are_refused(web: httpx.AsyncClient, query: str) -> None:
    assert (await web.get(f"/runs/{GOOD}/steps?{query}")).status_code == 400


async def test_steps_past_the_end_are_none(web: httpx.AsyncClient) -> None:
    assert "No such step" in (await web.get(f"/runs/{GOOD}/steps?page=7")).text
    assert "No such step" in (await web.get(f"/runs/{GOOD}/steps?under=%3Cscript%3E")).text


async def test_folds_of_somebody_elses_making_do_nothing(web: httpx.AsyncClient) -> None:
    query = "&".join(f"open=<script>alert({i})</script>" for i in range(500))
    answer = await web.get(f"/runs/{GOOD}?{query}")
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    assert len(answer.content) < 200_000


async def test_a_step_says_all_that_is_known_of_it(web: httpx.AsyncClient) -> None:
    page = Reader((await web.get(f"/runs/{GOOD}/step?path=split")).text)
    text = " ".join(page.text.split())
    assert "miss: package numpy was 2.4.5" in text
    assert "Python 3.11.9 on linux x86_64" in text
    assert "3 packages" in text
    assert "scikit-learn 1.9.0" in text
    assert "accuracy = 0.9833" in text
    assert "epoch 29: loss 0.033" in text
    assert any(str(a["href"]).startswith("/mlflow/#/runs/") for a in page.all("a"))
    skipped = Reader((await web.get(f"/runs/{GOOD}/step?path=notify")).text)
    assert "It was skipped: its condition is false." in skipped.text
    assert "it never ran" in skipped.text


async def test_schedules_and_studies_are_listed(web: httpx.AsyncClient) -> None:
    schedules = " ".join(Reader((await web.get("/schedules")).text).text.split())
    assert "0 3 * * * UTC" in schedules
    assert "in 1 h 0 min" in schedules
    assert "every 1 h 0 min on ray" in schedules
    assert "hourly off" in schedules
    studies = " ".join(Reader((await web.get("/studies")).text).text.split())
    assert "most accuracy" in studies
    assert "0.97" in studies
    study = Reader((await web.get(f"/studies/{STUDY}")).text)
    assert "3 trials with a value" in study.text
    assert "the best accuracy is 0.97" in study.text
    assert "it broke <script>" in study.text
    assert "done onray" in study.text.replace("\n", "")


async def test_two_runs_are_compared_side_by_side(life: Life, web: httpx.AsyncClient) -> None:
    before, after = looping(3), looping(4)
    for key, whole in (("run-a", before), ("run-b", after)):
        await keep_run(life, key, whole, [done("begin", 0, 10)], RunState.SUCCEEDED)
    chosen = Reader((await web.get("/runs/run-a/diff")).text)
    assert "/runs/run-a/diff/run-b" in [a["href"] for a in chosen.all("a")]
    page = await web.get("/runs/run-a/diff/run-b")
    assert page.status_code == 200
    assert "Two runs of looping" in page.text
    assert 'id="code"' in page.text
    missing = await web.get("/runs/run-a/diff/run-z")
    assert missing.status_code == 404
