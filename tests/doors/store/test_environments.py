"""`tally env`: what it asks, what it says, and the API that it asks."""

from __future__ import annotations

import json
import time

import httpx
import pytest
from starlette.applications import Starlette

from tallystick.doors.api.environments import routes

GIB = 2**30


def kept(name="a" * 40, **said):
    usual = {"size_bytes": 3 * 2**20, "used_ms": int(time.time() * 1000) - 7_200_000, "in_use": False}
    return {"name": name, **usual, "packages": {}, "wanted": [], **said}


CACHE = kept("cache", used_ms=0)
ALL = {
    "environments": [
        kept(wanted=["pandas==2.2.0"], in_use=True),
        kept("b" * 40, packages=dict.fromkeys("vwxyz", "1")),
        CACHE,
    ],
    "size_bytes": 5 * GIB // 2,
    "bytes_max": 10 * GIB,
}


class Tile:
    """Keeps what it was asked."""

    def __init__(self):
        self.asked = []

    async def kept(self):
        return ALL

    async def prune(self, bytes_max=None, unused_s=None, *, dry_run=False):
        self.asked.append((bytes_max, unused_s, dry_run))
        return {**ALL, "removed": []}


@pytest.fixture
async def asked():
    tile = Tile()
    transport = httpx.ASGITransport(Starlette(routes=routes(tile)))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub/api/tally") as client:
        yield tile, client


# ---------------------------------------------------------------------- the commands


def test_they_are_listed(desk):
    desk.answers["GET /api/tally/environments"] = ALL
    said = desk.type("env", "list")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines == [
        "environment size last used for",
        "aaaaaaaaaaaa 3.0 MiB 2 h ago in use pandas==2.2.0",
        "bbbbbbbbbbbb 3.0 MiB 2 h ago v==1 w==1 x==1 y==1 and 1 more",
        "cache 3.0 MiB - what uv fetched, linked with the environments",
    ]
    assert "2.50 GiB of 10 GiB are taken" in said.err
    assert desk.type("env", "list", "--json").json == ALL
    desk.answers["GET /api/tally/environments"] = {**ALL, "environments": []}
    assert "no environment was built yet" in desk.type("env", "list").out


@pytest.mark.parametrize(
    ("words", "body"),
    [
        ([], {"dry_run": False}),
        (["--dry-run"], {"dry_run": True}),
        (["--unused", "30d"], {"dry_run": False, "unused_s": 30 * 86_400}),
        (["--unused", "12h", "--gib", "0"], {"dry_run": False, "unused_s": 43_200, "bytes_max": 0}),
        (["--gib", "1.5"], {"dry_run": False, "bytes_max": 3 * GIB // 2}),
    ],
)
def test_they_are_removed_as_somebody_says(desk, words, body):
    desk.answers["POST /api/tally/environments/prune"] = {**ALL, "removed": [kept(wanted=["old"])]}
    said = desk.type("env", "prune", *words)
    assert (said.status, desk.bodies("POST /api/tally/environments/prune")) == (0, [body])
    assert "aaaaaaaaaaaa" in said.out
    assert ("would go: 1" if "--dry-run" in words else "removed: 1") in said.err


@pytest.mark.parametrize("age", ["30", "d", "-1d", "1y", "\u0661d", "1d ", "", "9999999d"])
def test_what_is_no_age_is_refused_before_anything_is_asked(desk, age):
    said = desk.type("env", "prune", "--unused", age)
    assert (said.status, desk.asked) == (2, [])
    assert "is no age" in said.err


# ---------------------------------------------------------------------- the API


async def test_the_tile_is_asked(asked):
    tile, client = asked
    assert (await client.get("/environments")).json() == ALL
    body = {"bytes_max": 5, "unused_s": None, "dry_run": True}
    assert (await client.post("/environments/prune", json=body)).json()["removed"] == []
    await client.post("/environments/prune", json={})
    assert tile.asked == [(5, None, True), (None, None, False)]


@pytest.mark.parametrize(
    "body",
    [{"bytes_max": -1}, {"bytes_max": 1.5}, {"unused_s": True}, {"unused_s": "1"}, {"unused_s": 2**63},
     {"dry_run": 1}, {"all": True}, []],
)  # fmt: skip
async def test_what_is_no_limit_is_refused(asked, body):
    tile, client = asked
    answer = await client.post("/environments/prune", json=body)
    assert (answer.status_code, tile.asked) == (400, []), answer.text


async def test_only_json_is_taken(asked):
    tile, client = asked
    answer = await client.post(
        "/environments/prune", content=json.dumps({}), headers={"content-type": "text/plain"}
    )
    assert (answer.status_code, tile.asked) == (400, [])


async def test_a_tile_that_keeps_nothing_says_so():
    transport = httpx.ASGITransport(Starlette(routes=routes(object())))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub/api/tally") as client:
        answer = await client.get("/environments")
    assert (answer.status_code, answer.json()["what"]) == (501, "these environments are not kept by the hub")
