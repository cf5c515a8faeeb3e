"""The API on a house in memory, asked without a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from tallystick.core.errors import BadInput
from tallystick.core.pipeline.spec import Param, ParamType
from tallystick.doors.api.app import api_routes
from tests.fakes.house import SEEN, make_house
from tests.fakes.house.judge import judge_script
from tests.hub.runs.steps import chain

FACTS = {"version": "0", "url": "http://hub", "label": "label", "upload_bytes_max": 100_000}


def read(spec: bytes):
    """A pipeline file is ``chain``, or ``chain`` with a ``list``, and everything else is none."""
    if spec not in (b"chain", b"chain list"):
        raise BadInput("it is not a pipeline", where="spec")
    params = (Param("list", ParamType.LIST, []),) if spec.endswith(b"list") else ()
    return replace(chain(), params=params)


class NoHands:
    """For remedies that ask for none."""


async def inspect(order, say):
    return SEEN


def write(text):
    Path(text.path).write_text("hello")
    return 1


@pytest.fixture
async def house(tmp_path):
    house = make_house(
        tmp_path, {"write": write, "read": lambda text: 5}, {"inspect": inspect, "judge": judge_script()}
    )
    yield house
    for task in house.tasks.values():
        task.cancel()
    await house.sandbox.close()
    await house.traffic.close()


@pytest.fixture
def app(house):
    return Starlette(routes=api_routes(house, NoHands(), read, FACTS))


@pytest.fixture
async def api(app):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub/api/tally") as client:
        yield client
