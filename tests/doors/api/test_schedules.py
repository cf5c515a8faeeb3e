"""Schedules over the API."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette

from tallystick.doors.api.schedules import routes
from tallystick.tiles.calendar.cron import CronCalendar
from tests.doors.api.conftest import read
from tests.fakes.runs.cluster import FakeCluster

BODY = {"spec": "chain", "every_s": 60}
AWAY = {"on": "kubeflow", "host": "http://localhost:1"}


@pytest.fixture
async def schedules(house):
    house.clusters = lambda host: FakeCluster()
    transport = httpx.ASGITransport(Starlette(routes=routes(house, read, CronCalendar())))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub/api/tally") as client:
        yield client


async def test_a_schedule_says_where_its_runs_are_done(schedules, house):
    made = await schedules.post("/schedules", json={**BODY, "options": {**AWAY, "experiment": "mine"}})
    assert made.status_code == 201, made.text
    (listed,) = (await schedules.get("/schedules")).json()
    assert {name: listed["options"][name] for name in (*AWAY, "experiment")} == {**AWAY, "experiment": "mine"}
    fact = house.ledger.facts[-1]
    assert (fact.noun, fact.state["options"]["host"]) == ("schedule", AWAY["host"])
    plain = (await schedules.post("/schedules", json=BODY)).json()
    assert (plain["options"]["on"], plain["next_due_ms"]) == ("", plain["created_ms"] + 60_000)


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"options": {"on": "mars"}}, "on"),
        ({"options": {"on": "kubeflow"}}, "host"),
        ({"options": {**AWAY, "seed": 5}}, "seed"),
        ({"options": {"strange": 1}}, "options"),
        ({"options": "ray"}, "body"),
        ({"spec": "no", "filename": "p.yaml"}, "p.yaml: spec"),
        ({"every_s": "60"}, "body"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_written(schedules, house, more, where):
    answer = await schedules.post("/schedules", json={**BODY, **more})
    assert answer.status_code >= 400
    assert answer.json()["where"] == where
    assert not house.ledger.facts
