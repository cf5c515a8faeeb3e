"""The hands with which a remedy is carried out: the verbs, each waited for until its work has ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tallystick.core.data import TABLE_URI, TableRef
from tallystick.core.endpoint import Endpoint, EndpointState
from tallystick.core.errors import BadInput, Conflict, Failed, NotSupported
from tallystick.core.model import ModelRef, ModelVersion
from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.run.events import Run
from tallystick.core.run.options import KUBEFLOW
from tallystick.core.verdict import Verdict
from tallystick.doors.kfp.reader import read_pipeline
from tallystick.hub.execute import execute
from tallystick.hub.house import House
from tallystick.hub.house.specs import spec_of
from tallystick.hub.plan import plan
from tallystick.hub.register import admit, register
from tallystick.judging.deploy import deploy
from tallystick.judging.judge import begin_judging, finish_judging
from tallystick.routines.attest import attested

__all__ = ["VerbHands", "pipeline_of"]

SETTLE_CHECK_S = 0.1


async def pipeline_of(house: House, spec_digest: str) -> tuple[Pipeline, bytes]:
    """The pipeline that a run was made from, and its file as it was handed in."""
    spec = await spec_of(house, spec_digest)
    return await asyncio.to_thread(read_pipeline, spec), spec


@dataclass(frozen=True)
class VerbHands:
    """See :class:`tallystick.routines.served.heal.Hands`."""

    house: House
    label: str

    async def rerun(self, run: Run, table: TableRef) -> Run:
        """Run the pipeline of ``run`` again; every parameter that means the table gets the new snapshot.

        NotSupported for a run that a cluster executed: what comes out there cannot be registered.
        """
        if run.options.on == KUBEFLOW:
            raise NotSupported(
                f"a cluster executed {run.key}, and what it puts out does not come here",
                where="remedy",
                hint=f"run {run.pipeline} without --on kubeflow, register its model, and deploy that",
            )
        pipeline, spec = await pipeline_of(self.house, run.spec_digest)
        params = {name: self._moved(value, table) for name, value in run.params.items()}
        if params == dict(run.params):
            raise BadInput(f"no parameter of run {run.key} names table {table.table}", where="remedy")
        again = await plan(self.house, pipeline, spec, params, run.options)
        return await execute(self.house, pipeline, again)

    @staticmethod
    def _moved(value: object, table: TableRef) -> object:
        if not isinstance(value, str) or not value.startswith(TABLE_URI):
            return value
        return f"{TABLE_URI}{table}" if TableRef.parse(value).table == table.table else value

    async def register(self, name: str, run: str, output: str) -> ModelVersion:
        """Register a run's output."""
        return await attested(self.house, await register(self.house, name, run, output))

    async def judge(self, model: ModelVersion) -> Verdict:
        """Judge on the rows that the model's run held out, under the house's policy."""
        verdict, rows = await begin_judging(self.house, model, "", self.house.policy, self.label)
        if verdict.state.ended:
            return verdict
        return await finish_judging(self.house, verdict, model, rows, self.house.policy, self.label)

    async def deploy(self, model: ModelVersion, endpoint: str) -> Endpoint:
        """Deploy and wait until it answers; Failed when settling gave up, Conflict for a newer wish."""
        wished = await deploy(self.house, model, endpoint)
        while True:
            now = await self.house.get("endpoint", endpoint, Endpoint)
            if now.wished.generation > wished.wished.generation:
                meant = now.wished.model or "nothing"
                raise Conflict(f"a newer wish, for {meant}, came in between", where=f"endpoint {endpoint}")
            if now.settled and now.state is EndpointState.READY:
                return now
            if now.state is EndpointState.FAILED:
                raise Failed(now.error, where=f"endpoint {endpoint}")
            await self.house.clock.sleep(SETTLE_CHECK_S)

    async def find(self, ref: ModelRef) -> ModelVersion:
        """The model version that ``ref`` means."""
        return await admit(self.house, ref)
