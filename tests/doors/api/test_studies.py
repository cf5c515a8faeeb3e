from __future__ import annotations

import contextlib
from dataclasses import replace

import httpx
import pytest
from starlette.applications import Starlette

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.pipeline.spec import Constant, Importer, Param, ParamType, Task
from tallystick.core.run.events import Run, RunState
from tallystick.core.values import Values
from tallystick.doors.api.studies import routes
from tests.fakes.executor import FakeExecutor
from tests.fakes.house import make_house, until
from tests.fakes.runs.cluster import FakeCluster
from tests.fakes.runs.tuner import FakeTuner
from tests.hub.runs.steps import side_by_side

PARAMS = (Param("x", ParamType.DOUBLE), Param("depth", ParamType.INTEGER, 3))
PIPELINE = replace(side_by_side("a"), name="bowl", params=PARAMS)
SPACE = '[x]\ntype = "float"\nlow = -5\nhigh = 5\n'
BODY = {"spec": "bowl", "objective": "loss", "space": SPACE, "sampler": "random", "seed": 1, "trials": 4}


def read(spec):
    if spec == b"imports":
        importer = Task("data", Importer(Constant("tally://tables/nowhere")))
        return replace(PIPELINE, root=replace(PIPELINE.root, tasks=(importer, *PIPELINE.root.tasks)))
    if spec != b"bowl":
        raise BadInput("it is not a pipeline", where="spec")
    return PIPELINE


class Hands:
    @contextlib.asynccontextmanager
    async def tuner(self, study):
        yield FakeTuner()

    async def run(self, study, trial):
        run = Run(trial.run, "bowl", "", {}, RunState.SUCCEEDED)
        return replace(run, outputs=Values({"loss": trial.params["x"] ** 2}))

    async def cancel(self, run):
        pass

    async def logged(self, run, metric):
        return {}


@pytest.fixture
async def house(tmp_path):
    house = make_house(tmp_path)
    yield house
    for task in house.tasks.values():
        task.cancel()
    await house.traffic.close()


@pytest.fixture
async def api(house):
    transport = httpx.ASGITransport(Starlette(routes=routes(house, Hands(), read)))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub/api/tally") as client:
        yield client


async def test_a_study_is_begun_and_goes_on_by_itself(api, house):
    answer = await api.post("/studies", json={**BODY, "params_text": {"depth": "4"}, "name": "first"})
    assert answer.status_code == 202
    study = answer.json()
    assert (study["name"], study["state"], study["params"]) == ("first", "running", {"depth": 4})
    assert (study["trials_max"], study["failures_max"], study["parallel"]) == (4, 3, 1)
    await until(lambda: study["key"] not in house.tasks)
    ended = (await api.get(f"/studies/{study['key']}")).json()
    assert (ended["state"], len(ended["trials"])) == ("succeeded", 4)
    assert ended["best"] in ended["trials"]


async def test_it_goes_on_with_more_trials_and_stops(api, house):
    key = (await api.post("/studies", json=BODY)).json()["key"]
    await until(lambda: key not in house.tasks)
    assert (await api.post(f"/studies/{key}/resume", json={})).status_code == 400
    answer = await api.post(f"/studies/{key}/resume", json={"trials": 6, "parallel": 2})
    assert (answer.status_code, answer.json()["state"]) == (202, "running")
    await until(lambda: key not in house.tasks)
    ended = (await api.get(f"/studies/{key}")).json()
    assert (len(ended["trials"]), ended["parallel"]) == (6, 2)
    assert (await api.post(f"/studies/{key}/stop")).json()["state"] == "succeeded"
    assert (await api.get("/studies/study-none")).status_code == 404


@pytest.mark.parametrize(
    ("more", "where", "what"),
    [
        ({"spec": "nothing", "filename": "p.yaml"}, "p.yaml: spec", "not a pipeline"),
        ({"space": "x = 1", "space_filename": "s.toml"}, "s.toml: [x]", "must be a table"),
        ({"space": "?", "space_filename": "s.toml"}, "s.toml", "not TOML"),
        ({"space": SPACE.replace("x", "y"), "space_filename": "s.toml"}, "s.toml: [y]", "no parameter"),
        ({"sampler": "tpa"}, "sampler", "'tpa'"),
        ({"pruner": "mediam"}, "pruner", "'mediam'"),
        ({"direction": "up"}, "direction", "'up'"),
        ({"objective": ""}, "body", "'objective' must be text"),
        ({"objective": "a\nb"}, "objective", "metric's name"),
        ({"trials": 0}, "body", "'trials'"),
        ({"trials": True}, "body", "'trials'"),
        ({"parallel": 10**6}, "body", "'parallel'"),
        ({"seed": -1}, "body", "'seed'"),
        ({"name": "../x"}, "study", "not a valid study name"),
        ({"params_text": {"depth": "deep"}}, "parameter depth", "not NUMBER_INTEGER"),
        ({"params_text": {"deep": "1"}}, "bowl", "no parameter 'deep'"),
        ({"params_text": []}, "body", "object of texts"),
        ({"sampler": "grid"}, "[x]", "finite number"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_written(api, house, more, where, what):
    answer = await api.post("/studies", json={**BODY, **more})
    assert answer.status_code == 400
    assert (answer.json()["where"], what in answer.json()["what"]) == (where, True), answer.json()
    assert house.ledger.facts == []


async def test_it_says_where_its_trials_are_done(api, house):
    house.executors["other"] = FakeExecutor({})
    study = (await api.post("/studies", json={**BODY, "options": {"on": "other", "seed": 3}})).json()
    assert (study["options"]["on"], study["options"]["seed"]) == ("other", 3)
    await until(lambda: study["key"] not in house.tasks)


@pytest.mark.parametrize(
    ("options", "where", "what"),
    [
        ({"on": "kubeflow"}, "host", "a host goes with kubeflow"),
        ({"on": "kubeflow", "host": "http://localhost:1"}, "http://localhost:1", "hands nothing to clusters"),
        ({"on": "kubeflow", "host": "http://localhost:1", "seed": 3}, "http://localhost:1", "hands nothing"),
        ({"on": "mars"}, "on", "there is no executor 'mars'"),
        ({"on": "choosy"}, "task a", "not mine"),
        ({"experiment": "mine"}, "options", "below the study"),
        ([], "body", "must be an object"),
    ],
)
async def test_where_they_cannot_be_done_is_refused_before_anything_is_written(
    api, house, options, where, what
):
    house.executors["choosy"] = Choosy({})
    answer = await api.post("/studies", json={**BODY, "options": options})
    assert answer.status_code >= 400
    said = answer.json()
    assert (said["where"], what in said["what"]) == (where, True)
    assert not house.ledger.facts


async def test_on_a_kubeflow(api, house):
    cluster = FakeCluster()
    house.clusters = {"http://localhost:1": cluster}.__getitem__
    options = {"on": "kubeflow", "host": "http://localhost:1"}
    for more, what in (
        ({"pruner": "median"}, "a pruner reads what steps log to MLflow here"),
        ({"options": {**options, "seed": 3}}, "Kubeflow knows nothing of a seed"),
    ):
        answer = await api.post("/studies", json={**BODY, "options": options, **more})
        assert (answer.status_code, what in answer.json()["what"]) == (501, True), answer.json()
    assert not house.ledger.facts
    study = (await api.post("/studies", json={**BODY, "options": options})).json()
    assert study["options"]["host"] == "http://localhost:1"
    await until(lambda: study["key"] not in house.tasks)


async def test_what_no_trial_could_import_is_refused_before_anything_is_written(api, house):
    answer = await api.post("/studies", json={**BODY, "spec": "imports"})
    assert (answer.status_code, answer.json()["what"]) == (404, "no table 'nowhere'")
    assert not house.ledger.facts


class Choosy(FakeExecutor):
    """It runs nothing."""

    def check(self, component, *, commands=False):
        raise NotSupported("not mine", where=component.name)
