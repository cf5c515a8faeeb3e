"""Run Kubeflow's own golden pipelines on a house of ours, and say of each what came of it.

    python -m tests.conformance.kfp.run SOURCE [--packages URL] [--long] [NAME ...]

SOURCE is a source tree of kubeflow/pipelines; none of it is here. With ``--packages``, environments are
built from the index at URL, which those pipelines may name; with ``--long``, what only waits for minutes is
run too.
NAMEs are parts of names of pipelines: then their logs are printed as well.

Exit status 1 when one did not come out as ``expected.py`` has it, or went wrong without a reason that stands
in ``not_here.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.conformance.kfp.expected import WANTED
from tests.conformance.kfp.not_here import NOT_HERE
from tests.conformance.kfp.wanted import Wanted, one_of
from tests.corpus.runs import content, opened_house, run_spec, shown

from tallystick.core.errors import TallyError
from tallystick.core.run.events import Run
from tallystick.core.run.options import RunOptions
from tallystick.hub.house import House

FOLDER = Path("test_data/sdk_compiled_pipelines/valid")
LIMIT_S = 900
OPTIONS = RunOptions(cache=False, commands=True)
STAND_IN = Path(__file__).with_name("stand-in.sh")
RUN = re.compile(r"\{run ([^}]+)\}")


@dataclass(frozen=True)
class Came:
    """``verdict``: right, done (nobody wrote down what is right), needs, wrong, or skipped."""

    verdict: str
    words: str


def say(line: str) -> None:
    """A line of the report, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@dataclass
class Houses:
    """A house with walls and one without, both below ``home``, and the runs of pipelines of ``folder``."""

    folder: Path
    home: Path
    walled: House
    bare: House
    runs: dict[str, str] = field(default_factory=dict)

    def spec(self, name: str) -> bytes:
        """A golden pipeline's file, with the stand-in for a program that is nowhere."""
        raw, wanted = (self.folder / f"{name}.yaml").read_bytes(), WANTED.get(name)
        if wanted and wanted.program:
            program = self.home / wanted.program
            shutil.copyfile(STAND_IN, program)
            program.chmod(0o700)
            raw = raw.replace(f"- {wanted.program}\n".encode(), f"- {program}\n".encode())
        return raw

    async def params(self, name: str) -> Mapping[str, Any]:
        """The parameters of a pipeline, once those have run whose outputs it takes."""
        text = json.dumps(dict(WANTED[name].params) if name in WANTED else {})
        for other in RUN.findall(text):
            if other not in self.runs:
                run = await run_spec(self.walled, self.spec(other), await self.params(other), OPTIONS)
                self.runs[other] = run.key
        text = RUN.sub(lambda found: self.runs[found[1]], text.replace("{HOME}", str(self.home)))
        return dict(json.loads(text))


async def golden(houses: Houses, name: str, talks: bool) -> Came:
    """Run one pipeline and compare."""
    wanted, needs = WANTED.get(name), NOT_HERE.get(name)
    house = houses.walled if wanted is None or wanted.walls else houses.bare
    options = replace(OPTIONS, no_gpus=bool(wanted and wanted.no_gpus))
    try:
        params, spec = await houses.params(name), houses.spec(name)
        async with asyncio.timeout(LIMIT_S):
            run = await run_spec(house, spec, params, options)
    except TallyError as refused:
        return Came("needs" if needs else "wrong", f"refused: {needs or refused}")
    except TimeoutError:
        return Came("wrong", f"not done after {LIMIT_S} s")
    made = {step.path: [str(step.state), dict(step.outputs.params)] for step in run.steps}
    artifacts = await _artifacts(house, run, wanted.artifacts if wanted else {})
    seen = {**await shown(house, run), "made": made, "artifacts": artifacts, "logs": await _logs(house, run)}
    if talks:
        say(json.dumps(seen, indent=1))
    if needs:
        runs_here = run.state == "succeeded"
        return Came("wrong" if runs_here else "needs", f"{run.state}: {needs}")
    if wanted is None:
        ended = run.state == "succeeded"
        return Came("done" if ended else "wrong", str(run.error or run.state))
    differs = _differs(wanted, seen)
    return Came("wrong", differs) if differs else Came("right", wanted.words)


async def _logs(house: House, run: Run) -> Mapping[str, str]:
    logs = {step.path: step.log_digest for step in run.steps if step.log_digest}
    return {path: (await house.artifacts.path_of(d)).read_text("utf-8") for path, d in logs.items()}


async def _artifacts(house: House, run: Run, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of each that a step made its metadata; its text too where that is wanted."""
    found = {}
    for step in run.steps:
        for name, refs in step.outputs.artifacts.items():
            at = f"{step.path}:{name}"
            read = "text" in wanted.get(at, {})
            found[at] = await content(house, refs[0]) if read else {"metadata": dict(refs[0].metadata)}
    return found


def _differs(wanted: Wanted, seen: Mapping[str, Any]) -> str:
    """What is not as it should be; an empty text when all is."""
    if seen["state"] != wanted.state:
        return f"{seen['state']}, {wanted.state} is right: {seen['error']}"
    for name, value in wanted.outputs.items():
        found = seen["outputs"].get(name)
        if found not in (value.values if isinstance(value, one_of) else [value]):
            return f"output {name} is {json.dumps(found)[:200]}, {value!r} is right"
    for path, right in wanted.steps.items():
        state, made = seen["made"].get(path, ["not there", {}])
        if right != state and right not in made.values():
            return f"step {path} {state} with {made}, {right!r} is right"
    for at, right in wanted.artifacts.items():
        if seen["artifacts"].get(at) != right:
            return f"artifact {at} is {json.dumps(seen['artifacts'].get(at))[:200]}, {right!r} is right"
    for path, text in wanted.logs.items():
        if text not in seen["logs"].get(path, ""):
            return f"step {path} does not say {text!r}: {seen['logs'].get(path, '')[-300:]!r}"
    if wanted.rule and not wanted.rule(seen):
        return f"it breaks its rule: {seen}"
    return ""


async def run_all(source: Path, names: list[str], index: str, long: bool) -> dict[str, Came]:
    """Every golden pipeline, in order."""
    folder = source / FOLDER
    came: dict[str, Came] = {}
    with tempfile.TemporaryDirectory(prefix="golden-") as home:
        async with AsyncExitStack() as open_ones:
            each = [Path(home, "walled"), Path(home, "bare")]
            for place in each:
                place.mkdir()
            walled = await open_ones.enter_async_context(opened_house(each[0], index))
            bare = await open_ones.enter_async_context(opened_house(each[1], index, walls=False))
            houses = Houses(folder, Path(home), walled, bare)
            for file in sorted(folder.rglob("*.yaml")):
                name = str(file.relative_to(folder).with_suffix(""))
                wanted = WANTED.get(name)
                if names and not any(part in name for part in names):
                    continue
                if wanted and ((wanted.long and not long) or (wanted.packages and not index)):
                    why = "it only waits: --long" if wanted.long else f"{wanted.packages}: --packages"
                    came[name] = Came("skipped", why)
                else:
                    came[name] = await golden(houses, name, bool(names))
                say(f"{came[name].verdict:8} {name:66} {came[name].words[:160]}")
    return came


def main() -> int:
    """Run, print the table, and say by the status whether all is as it should be."""
    parser = argparse.ArgumentParser(description="Run Kubeflow's golden pipelines.")
    parser.add_argument("source", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--packages", metavar="URL", default="")
    parser.add_argument("--long", action="store_true")
    given = parser.parse_intermixed_args()
    if not (given.source / FOLDER).is_dir():
        say(f"there is no {FOLDER} in {given.source}")
        return 2
    if given.packages:
        os.environ["UV_DEFAULT_INDEX"] = given.packages  # and no other that this machine has told pip of
    came = asyncio.run(run_all(given.source, given.names, given.packages, given.long))
    counts = Counter(one.verdict for one in came.values())
    say(f"\n{len(came)} pipelines: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common()))
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
