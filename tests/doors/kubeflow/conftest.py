"""A real hub, and the stock ``kfp.Client`` in an environment of its own, which does what a script says."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from tallystick.core.errors import BadInput
from tallystick.core.pipeline.spec import Param, ParamType
from tallystick.doors.kubeflow.app import kubeflow_routes
from tallystick.tiles.calendar.cron import CronCalendar
from tests.fakes.house import make_house, until
from tests.hub.runs.steps import side_by_side
from tests.journeys.conftest import start_hub

ROOT = Path(__file__).resolve().parents[3]
PYTHON = Path(os.environ.get("TALLY_TEST_KFP_PYTHON", ROOT / ".venv-kfp" / "bin" / "python"))

HEAD = """
import json, os, sys, time, warnings
warnings.simplefilter("ignore")
import kfp, kfp_server_api
from kfp import compiler, dsl
from kfp_server_api import ApiException

@dsl.component
def add(a: int, b: int) -> int:
    return a + b

@dsl.component
def fail_unless(path: str) -> str:
    import os
    if not os.path.exists(path):
        raise RuntimeError("it is not there")
    return path

@dsl.component
def wait(seconds: float) -> float:
    import time
    time.sleep(seconds)
    return seconds

@dsl.pipeline(name="sums", description="adds")
def sums(a: int = 1, b: int = 2) -> int:
    first = add(a=a, b=b)
    with dsl.ParallelFor([1, 2]) as n:
        add(a=first.output, b=n)
    return first.output

@dsl.pipeline(name="long")
def long(seconds: float = 60.0):
    wait(seconds=seconds).set_caching_options(False)

@dsl.pipeline(name="broken")
def broken(path: str):
    ok = add(a=40, b=2)
    fail_unless(path=path).after(ok)

def refused(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except ApiException as wrong:
        body = json.loads(wrong.body)
        assert set(body) >= {"error", "code", "message", "details"}, body
        return [wrong.status, body["code"], body["message"]]
    raise AssertionError("it was not refused")

url, folder = sys.argv[1:]
os.chdir(folder)
client = kfp.Client(host=url)

def done(run_id, timeout=60):
    return client.wait_for_run_completion(run_id, timeout, sleep_duration=0.2)

said = {}
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory, with_record):
    running = start_hub(with_record(tmp_path_factory.mktemp("kubeflow") / "home"))
    yield running
    running.end()


@pytest.fixture
def script(hub, tmp_path):
    """Runs lines with ``client``, the pipelines above and ``said``, a dict that comes back as JSON."""
    if not PYTHON.exists():
        pytest.skip("no environment with the kfp SDK: make test")

    def run(lines: str, url: str = "") -> dict:
        file = tmp_path / "script.py"
        file.write_text(f"{HEAD}\n{lines}\nprint(json.dumps(said, default=str))\n")
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "KFP_LOCAL": "0"}
        done = subprocess.run(
            [str(PYTHON), str(file), url or hub.url, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def read(spec):
    if b"pipelineInfo" not in spec:
        raise BadInput("it is not a pipeline", where="pipeline")
    return replace(side_by_side("a"), params=(Param("n", ParamType.INTEGER, 1),))


@pytest.fixture
async def house(tmp_path):
    house = make_house(tmp_path, {"a": lambda: 1})
    yield house
    await until(lambda: not house.tasks)
    await house.traffic.close()


@pytest.fixture
async def api(house):
    app = Starlette(routes=kubeflow_routes(house, read, CronCalendar()))
    base = "http://hub/apis/v2beta1"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base) as client:
        yield client
