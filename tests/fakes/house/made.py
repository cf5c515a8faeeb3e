"""A model that a run made, with everything on record that there can be: for tests of lineage and papers."""

from __future__ import annotations

from dataclasses import replace

from tallystick.core.facts import to_json
from tallystick.core.model import ModelVersion
from tallystick.core.names import digest_of
from tallystick.core.run.events import Run, Step, StepState
from tallystick.core.run.recipe import Kept, Recipe
from tallystick.core.values import ArtifactRef, Environment, Values
from tallystick.core.verdict import Verdict, VerdictState
from tallystick.evidence.papers.statement import PAYLOAD_TYPE, verdict_statement
from tallystick.hub.house import House
from tallystick.hub.house.specs import keep_spec
from tallystick.judging.weighed import keep_json
from tests.fakes.house.nouns import add_model, add_run, add_verdict, keep_steps

__all__ = ["ENVIRONMENT", "RECIPE", "judged", "made_model"]

LOCK = f"numpy==2.3.5 --hash=sha256:{'1' * 64}\n"
ENVIRONMENT = Environment("3.13.1", "linux-x86_64", {"numpy": "2.3.5"}, LOCK)
RECIPE = Recipe({"source": digest_of("def train(): ..."), "packages": digest_of("p"), "param depth": "3"})


async def made_model(house: House, *, cached: bool = False, version: int = 1) -> tuple[ModelVersion, Run]:
    """A registered model, and the run whose step ``train`` made it (``cached``: an earlier run)."""
    spec = await keep_spec(house, b"pipeline: digits\n")
    run = await add_run(house, spec_digest=spec, started_ms=1_000, ended_ms=9_000)
    model = await add_model(house, version, run=run)
    ref = ArtifactRef("model", model.digest, "system.Model")
    made = Values(artifacts={"model": (ref,)})
    train = Step(
        "train", StepState.SUCCEEDED, outputs=made, cache_key=RECIPE.key, environment=ENVIRONMENT.digest,
        started_ms=2_000, ended_ms=5_000, log_digest=digest_of("log"),
    )  # fmt: skip
    maker = run
    if cached:
        maker = replace(run, key=house.new_key("run"))
        await house.tell("run", maker.key, "succeeded", maker)
        await keep_steps(house, maker, train)
        train = replace(train, state=StepState.CACHED, environment="", started_ms=7_000, ended_ms=7_000)
    await keep_steps(house, run, train)
    await house.tell("environment", ENVIRONMENT.digest, "seen", ENVIRONMENT)
    kept = Kept(made, RECIPE.parts, 5_000, maker.key, "train")
    await house.tell("step", RECIPE.key, "made", to_json(kept))
    return model, maker


async def judged(
    house: House, model: ModelVersion, state: VerdictState = VerdictState.PASSED, **more: object
) -> Verdict:
    """A verdict on the model, signed as the hub signs it."""
    verdict = await add_verdict(house, model, state)
    verdict = replace(verdict, **more)
    assert house.signing is not None
    envelope = house.signing.sign(PAYLOAD_TYPE, verdict_statement(verdict).to_bytes())
    verdict = replace(verdict, envelope=await keep_json(house, envelope))
    await house.tell("verdict", verdict.key, str(state), verdict)
    return verdict
