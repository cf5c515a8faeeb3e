"""Pages of runs: what is tried again, what was skipped, and how far all of them are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.doors.console.world import lived
from tests.doors.test_console import GOOD, LIVE, Reader, client_of


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(await lived(tmp_path)) as client:
        yield client


async def test_a_run_under_way_shows_what_is_tried_again(web: httpx.AsyncClient) -> None:
    page = Reader((await web.get(f"/runs/{LIVE}")).text)
    assert "for-each-depth[1]/train: running · try 2 · 17.6 s" in page.text
    assert "for-each-depth[2]/train: backing off · try 3 · 90 ms" in page.text
    whole = (await web.get(f"/runs/{LIVE}.json")).json()
    states = {s["path"]: (s["state"], s["attempt"]) for s in whole["run"]["steps"]}
    assert states["for-each-depth[2]/train"] == ("backing off", 3)


async def test_all_runs_are_listed_with_how_far_they_are(web: httpx.AsyncClient) -> None:
    text = " ".join(Reader((await web.get("/runs")).text).text.split())
    assert "11 of 12" in text, "from the counts that its fact keeps"
    assert "1 of 2" in text, "from the steps in the fact, as an older tallystick kept them"
    assert "4 of 6" in text, "from the journal, while it runs"


async def test_a_step_that_was_skipped_says_why_and_has_no_log(web: httpx.AsyncClient) -> None:
    page = Reader((await web.get(f"/runs/{GOOD}/log?step=notify")).text)
    assert "It was skipped: its condition is false." in page.text
    assert "There is no log of it." in page.text
    missing = await web.get(f"/runs/{GOOD}/log?step=nobody")
    assert missing.status_code == 404
    assert "steps: import-digits, split" in missing.text
