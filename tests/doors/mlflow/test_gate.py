"""The gate at MLflow's registry, with MLflow's own server behind it: no way around, and nothing else shut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
import pytest_asyncio

from tallystick.core.model import ModelRef, ModelVersion
from tallystick.core.verdict import VerdictState
from tallystick.doors.mlflow.step import step_app
from tallystick.doors.tracking import table
from tallystick.hub.register import admit
from tests.doors.mlflow.gated import Gated, opened, refused
from tests.doors.mlflow.house import API, served
from tests.doors.mlflow.house import House as DoorHouse
from tests.fakes.house import add_verdict

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALIAS, MOVE = "registered-models/alias", "model-versions/transition-stage"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gated(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gated]:
    async with opened(tmp_path_factory.mktemp("home")) as found:
        yield found


async def test_a_version_without_a_verdict_gets_no_gated_alias(gated: Gated) -> None:
    await gated.version("fresh")
    refused(
        await gated.ask(ALIAS, name="fresh", alias="champion", version="1"),
        "gate: model fresh@1 has no verdict",
        "(tally judge fresh@1 --data TABLE)",
    )
    assert await gated.aliases("fresh") == {}
    admitted = await gated.house.get("model", "fresh@1", ModelVersion)  # so that it can be judged next
    assert admitted.origin.run == ""


async def test_a_refused_version_gets_none_and_the_rules_are_named(gated: Gated) -> None:
    version = await gated.passed("weak", VerdictState.REFUSED)
    verdict = (await gated.house.ledger.listing("default", "verdict", 1))[0]
    answer = await gated.ask(ALIAS, name="weak", alias="champion", version=str(version))
    refused(answer, f"verdict {verdict.key} refused model weak@1", f"tally verdict {verdict.key}")


async def test_a_version_that_passed_gets_it_and_keeps_all_else_free(gated: Gated) -> None:
    version = await gated.passed("good")
    assert (await gated.ask(ALIAS, name="good", alias="champion", version=str(version))).status_code == 200
    assert await gated.aliases("good") == {"champion": version}
    later = await gated.version("good")
    for alias in ("challenger", "best"):
        assert (await gated.ask(ALIAS, name="good", alias=alias, version=str(later))).status_code == 200
    refused(
        await gated.ask(ALIAS, name="good", alias="champion", version=str(later)), "good@2 has no verdict"
    )
    assert (await gated.aliases("good"))["champion"] == version
    answer = await gated.ask(ALIAS, "DELETE", name="good", alias="champion")
    assert answer.status_code == 200
    assert "champion" not in await gated.aliases("good")


@pytest.mark.parametrize("stage", ["Production", "production", "PRODUCTION", "pRoDuCtIoN"])
async def test_no_stage_of_production_without_a_verdict(gated: Gated, stage: str) -> None:
    name = f"staged-{stage}"
    version = str(await gated.version(name))
    refused(await gated.ask(MOVE, name=name, version=version, stage=stage), f"{name}@1 has no verdict")
    for free in ("Staging", "Archived", "None"):
        assert (await gated.ask(MOVE, name=name, version=version, stage=free)).status_code == 200
    await add_verdict(gated.house, await admit(gated.house, ModelRef(name, 1)))
    both = {"archive_existing_versions": True}
    assert (await gated.ask(MOVE, name=name, version=version, stage=stage, **both)).status_code == 200
    assert await gated.stages(name) == {version: "Production"}


WAYS = [
    f"{root}/{call}{end}"
    for root in (
        "/api/2.0/mlflow",
        "/ajax-api/2.0/mlflow",
        "/mlflow/api/2.0/mlflow",
        "/mlflow/ajax-api/2.0/mlflow",
    )
    for call in (ALIAS, MOVE)
    for end in ("", "/", "%2E", "/.", "?alias=free&stage=None")
]
ODD = [
    "/api/2.0/mlflow/registered-models/%61lias",
    "/api/2.0/mlflow/registered%2Dmodels/alias",
    "/api/2.0/mlflow//registered-models/alias",
    "//api/2.0/mlflow/registered-models/alias",
    "/api/2.0/mlflow/registered-models%2Falias",
    "/api/2.0/mlflow/registered-models/x/../alias",
    "/api/2.0/mlflow/Registered-Models/Alias",
    "/api/3.0/mlflow/registered-models/alias",
    "/api/2.0/preview/mlflow/registered-models/alias",
    "/ajax-api/2.0/preview/mlflow/model-versions/transition-stage",
]


@pytest.mark.parametrize("path", WAYS + ODD)
async def test_no_way_around(gated: Gated, path: str) -> None:
    if not await _there(gated, "around"):
        await gated.version("around")
    body = {"name": "around", "version": "1", "alias": "champion", "stage": "Production"}
    for method in ("POST", "PUT", "PATCH"):
        answer = await gated.http.request(method, path, json=body, follow_redirects=True)
        assert answer.status_code >= 400
    assert await gated.aliases("around") == {}
    assert await gated.stages("around") == {"1": "None"}


async def _there(gated: Gated, name: str) -> bool:
    return (await gated.http.get(API + "registered-models/get", params={"name": name})).status_code == 200


CHAMPION = '{"name": "odd", "version": "1", "alias": "champion"}'
BODIES = {
    "twice": CHAMPION[:-1] + ', "alias": "champion"}',
    "the last counts": '{"alias": "free", ' + CHAMPION[1:],
    "in a text": json.dumps(CHAMPION),
    "with a mark": "\ufeff" + CHAMPION,
    "in UTF-16": CHAMPION.encode("utf-16"),
    "escaped": CHAMPION.replace("champion", "\\u0063hampion"),
    "spaced version": CHAMPION.replace('"1"', '" 1 "'),
    "long version": CHAMPION.replace('"1"', '"0_1"'),
    "foreign digits": CHAMPION.replace('"1"', '"\u0661"'),
    "number": CHAMPION.replace('"1"', "1"),
    "capitals": CHAMPION.replace("champion", "CHAMPION"),
    "with a line's end": CHAMPION.replace("champion", "champion\\n"),
    "list": CHAMPION.replace('"champion"', '["champion"]'),
    "wrapped": f"[{CHAMPION}]",
    "none": "",
    "no JSON": "alias=champion&name=odd&version=1",
}


@pytest.mark.parametrize("kind", BODIES)
async def test_no_body_around(gated: Gated, kind: str) -> None:
    if not await _there(gated, "odd"):
        await gated.version("odd")
    sent = BODIES[kind].encode() if isinstance(BODIES[kind], str) else BODIES[kind]
    for head in ("application/json", "application/json; charset=utf-16", "text/plain", ""):
        answer = await gated.http.post(
            API + ALIAS, content=sent, headers={"content-type": head} if head else {}
        )
        assert answer.status_code >= 400, answer.text
    pieces = iter([sent[:5], sent[5:]])

    async def in_pieces() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    answer = await gated.http.post(
        API + ALIAS, content=in_pieces(), headers={"content-type": "application/json"}
    )
    assert answer.status_code >= 400
    assert await gated.aliases("odd") == {}


async def test_camel_case_says_the_same(gated: Gated) -> None:
    await gated.version("camel")
    body = {"name": "camel", "version": "1", "stage": "Production", "archiveExistingVersions": True}
    refused(await gated.ask(MOVE, **body), "camel@1 has no verdict")
    assert await gated.stages("camel") == {"1": "None"}


async def test_a_body_that_is_too_long_is_refused(gated: Gated) -> None:
    said = {"name": "around", "version": "1", "alias": "champion", "more": "x" * 2_000_000}
    answer = await gated.ask(ALIAS, **said)
    assert (answer.status_code, answer.json()["error_code"]) == (413, "INVALID_PARAMETER_VALUE")


async def test_what_mlflow_knows_nothing_of_has_mlflow_s_own_error(gated: Gated) -> None:
    for name, version in (("nobody", "1"), ("good", "99")):
        answer = await gated.ask(ALIAS, name=name, alias="champion", version=version)
        assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    answer = await gated.ask(ALIAS, name="good", alias="champion")
    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"


async def test_files_that_were_exchanged_after_they_were_judged_get_nothing(gated: Gated) -> None:
    version = await gated.passed("moved")
    (found,) = await gated.registry.versions("moved")
    where = next((gated.home / "mlflow").rglob(f"{found.model_id}/artifacts/model.onnx"))
    where.write_bytes(b"another model")
    answer = await gated.ask(ALIAS, name="moved", alias="champion", version=str(version))
    refused(answer, "the registry's files of moved@1 are not those that were judged")


async def test_another_model_under_a_judged_name_gets_nothing(gated: Gated) -> None:
    await gated.passed("name")
    await gated.ask("registered-models/delete", "DELETE", name="name")
    await gated.version("name")
    answer = await gated.ask(ALIAS, name="name", alias="champion", version="1")
    refused(answer, "are not those that were judged")


async def test_a_model_in_production_keeps_its_name(gated: Gated) -> None:
    version = str(await gated.passed("named"))
    rename = {"name": "named", "new_name": "other-name"}
    assert (await gated.ask(ALIAS, name="named", alias="champion", version=version)).status_code == 200
    refused(await gated.ask("registered-models/rename", **rename), "model named has alias champion")
    refused(await gated.ask("registered-models/rename", name="named", newName="other-name"), "alias champion")
    await gated.ask(ALIAS, "DELETE", name="named", alias="champion")
    assert (await gated.ask(MOVE, name="named", version=version, stage="Production")).status_code == 200
    refused(await gated.ask("registered-models/rename", **rename), "model named has stage Production")
    await gated.ask(MOVE, name="named", version=version, stage="Archived")
    assert (await gated.ask("registered-models/rename", **rename)).status_code == 200
    refused(await gated.ask(ALIAS, name="other-name", alias="champion", version=version), "has no verdict")


async def test_no_version_is_made_with_a_gated_alias(gated: Gated) -> None:
    born = {"name": "around", "source": "mlflow-artifacts:/x"}
    for more in ({"aliases": ["champion"]}, {"alias": "Champion"}, {"aliases": [{"alias": "champion"}]},
                 {"stage": "production"}, {"currentStage": "Production"}):  # fmt: skip
        refused(await gated.ask("model-versions/create", **born, **more), "a version is not made with")
    assert len(await gated.registry.versions("around")) == 1


async def test_models_of_other_workspaces_get_nothing(gated: Gated) -> None:
    version = str(await gated.passed("spaces"))
    body = {"name": "spaces", "alias": "champion", "version": version}
    for said in ("team-a", "TEAM", "default2"):
        answer = await gated.http.post(API + ALIAS, json=body, headers={"x-mlflow-workspace": said})
        refused(answer, "the hub judges models of workspace default alone")
    twice = [("x-mlflow-workspace", "default"), ("X-MLFLOW-Workspace", "team-a")]
    refused(await gated.http.post(API + ALIAS, json=body, headers=twice), "workspace default alone")


async def test_prompts_are_no_models(gated: Gated) -> None:
    tags = [
        {"key": "mlflow.prompt.is_prompt", "value": "true"},
        {"key": "mlflow.prompt.text", "value": "hello"},
    ]
    assert (await gated.ask("registered-models/create", name="prompt", tags=tags)).status_code == 200
    made = await gated.ask("model-versions/create", name="prompt", source="dummy-source", tags=tags)
    assert made.status_code == 200, made.text
    assert (await gated.ask(ALIAS, name="prompt", alias="champion", version="1")).status_code == 200
    assert (await gated.ask("registered-models/rename", name="prompt", new_name="words")).status_code == 200


async def test_a_model_that_is_tagged_as_a_prompt_is_none(gated: Gated) -> None:
    await gated.version("disguised")
    tag = {"key": "mlflow.prompt.is_prompt", "value": "true"}
    await gated.ask("registered-models/set-tag", name="disguised", **tag)
    await gated.ask("model-versions/set-tag", name="disguised", version="1", **tag)
    answer = await gated.ask(ALIAS, name="disguised", alias="champion", version="1")
    assert answer.status_code >= 400
    assert await gated.aliases("disguised") == {}


async def test_an_expired_verdict_opens_nothing(gated: Gated) -> None:
    version = str(await gated.passed("old", threats="sha256:" + "0" * 64))
    answer = await gated.ask(ALIAS, name="old", alias="champion", version=version)
    refused(answer, "was reached before the list of threats changed", "tally judge old@1")


async def test_which_aliases_and_stages_ask_is_the_policy_s_to_say(gated: Gated) -> None:
    before = gated.house.policy
    await gated.version("policy")
    try:
        gated.house.policy = replace(
            before, gate=replace(before.gate, aliases=("live",), stages=("Staging",))
        )
        body = {"name": "policy", "version": "1"}
        refused(await gated.ask(ALIAS, **body, alias="live"), "policy@1 has no verdict")
        refused(await gated.ask(MOVE, **body, stage="staging"), "policy@1 has no verdict")
        assert (await gated.ask(ALIAS, **body, alias="champion")).status_code == 200
    finally:
        gated.house.policy = before


async def test_a_version_that_is_exchanged_meanwhile_waits(gated: Gated) -> None:
    """Many at once: whoever makes the model anew, the alias is never on files that nobody judged."""
    await gated.passed("racing")
    judged = (await admit(gated.house, ModelRef("racing", 1))).digest

    async def exchange() -> None:
        await gated.ask("registered-models/delete", "DELETE", name="racing")
        await gated.version("racing")

    async def point() -> None:
        await gated.ask(ALIAS, name="racing", alias="champion", version="1")

    await asyncio.gather(*(point() for _ in range(4)), exchange(), *(point() for _ in range(4)))
    if (await gated.aliases("racing")).get("champion"):
        await gated.registry.fetch("racing", 1, gated.home / "raced")
        assert (await gated.house.artifacts.put_folder(gated.home / "raced")).digest == judged


async def test_a_step_s_door_moves_nothing(gated: Gated) -> None:
    await gated.passed("stepped")
    app = step_app(gated.registry.child, {"tally.run": "run-1", "tally.step": "train"})
    async with served(app) as url, httpx.AsyncClient(base_url=url, timeout=60) as step:
        for path, body in (
            (ALIAS, {"name": "stepped", "alias": "champion", "version": "1"}),
            (MOVE, {"name": "stepped", "stage": "Production", "version": "1"}),
            ("registered-models/rename", {"name": "stepped", "new_name": "x"}),
        ):
            assert (await step.post(API + path, json=body)).status_code == 403
    assert await gated.aliases("stepped") == {}


async def test_nothing_native_moves_an_alias_or_a_stage() -> None:
    for root in ("/api", "/ajax-api", "/mlflow/api", "/mlflow/ajax-api"):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            for call in (ALIAS, MOVE, "registered-models/rename", "model-versions/create"):
                assert table.find(method, f"{root}/2.0/mlflow/{call}".encode()) is None


STOCK = """
import json, mlflow
from mlflow.exceptions import MlflowException
client, said = mlflow.MlflowClient(), {}
def what(do):
    try:
        do()
    except MlflowException as wrong:
        return [wrong.error_code, wrong.message]
    return "done"
said["alias"] = what(lambda: client.set_registered_model_alias("theirs", "champion", "1"))
said["stage"] = what(lambda: client.transition_model_version_stage("theirs", "1", "Production"))
said["passed"] = what(lambda: client.set_registered_model_alias("judged", "champion", "1"))
said["loaded"] = client.get_model_version_by_alias("judged", "champion").version
said["removed"] = what(lambda: client.delete_registered_model_alias("judged", "champion"))
print(json.dumps(said))
"""


@pytest.mark.slow
async def test_the_stock_client_is_told_what_failed_and_what_to_run(gated: Gated) -> None:
    await gated.passed("theirs", VerdictState.REFUSED)
    await gated.passed("judged")
    door = DoorHouse(gated.home, gated.registry, gated.url, "", gated.http, gated.http)
    said = await door.python(STOCK)
    for how in ("alias", "stage"):
        code, message = said[how]
        assert code == "PERMISSION_DENIED"
        assert "refused model theirs@1" in message
        assert "tally verdict verdict-" in message
    assert (said["passed"], said["loaded"], said["removed"]) == ("done", "1", "done")
