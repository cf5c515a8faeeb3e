"""Lay out one step of a past run as it was: ``python -m tallystick.crew.author.layout URL RUN STEP FOLDER``.

FOLDER gets what the step's own had: its source, its inputs unpacked, and ``order.json`` for
:mod:`tallystick.crew.author.play`. Nothing of the step's code runs here. What is wrong goes into
``FOLDER/wrong.json``, as the hub's API says errors.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tallystick.core.errors import BadInput, NotFound, NotSupported, TallyError
from tallystick.core.facts import from_json
from tallystick.core.pipeline.order import components
from tallystick.core.pipeline.spec import Component, Function, ParamType, Pipeline
from tallystick.core.values import ArtifactRef, Values
from tallystick.doors.kfp.reader import read_pipeline
from tallystick.terminal.client import Hub

__all__ = ["component_at", "main"]


def main(url: str, run_key: str, path: str, folder: str) -> int:
    """0 once it is laid out."""
    try:
        _lay_out(Hub(url), run_key, path, Path(folder))
    except TallyError as wrong:
        Path(folder, "wrong.json").write_text(json.dumps(wrong.as_dict()), encoding="utf-8")
        return 1
    return 0


def _lay_out(hub: Hub, run_key: str, path: str, folder: Path) -> None:
    run = hub.noun("run", run_key)
    step = next(step for step in run["steps"] if step["path"] == path)
    spec = hub.raw("GET", f"/artifacts/{run['spec_digest']}")
    if spec.is_error:
        raise NotFound("its pipeline is no longer there", where=run_key)
    component = component_at(read_pipeline(spec.content), path)
    if not isinstance(component.code, Function):
        raise NotSupported("it is a container's command, and no Python function", where=path)
    room = folder / "step"
    for part in ("step", "tmp", "out/artifacts", "out/params"):
        (room / part).mkdir(parents=True)
    source = room / "step" / "component.py"
    source.write_text(component.code.source, encoding="utf-8")
    inputs = from_json(Values, step["inputs"])
    order = {
        "source": str(source),
        "function": component.code.name,
        "executor_input": {
            "inputs": {
                "parameterValues": _params(component, inputs),
                "artifacts": _fetched(hub, inputs, folder / "in"),
            },
            "outputs": _outputs(component, room / "out"),
        },
        "env": {
            **component.env,
            "TALLY_RUN": run_key,
            "TALLY_STEP": path,
            "TMPDIR": str(room / "tmp"),
            # What the step logs with MLflow stays here: nothing is recorded.
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        },
    }
    (folder / "order.json").write_text(json.dumps(order), encoding="utf-8")


def _params(component: Component, inputs: Values) -> dict[str, Any]:
    """Those that the component knows; a whole number where a double is declared is one."""
    types = {param.name: param.type for param in component.params}
    return {
        name: float(value) if types[name] is ParamType.DOUBLE and isinstance(value, int) else value
        for name, value in inputs.params.items()
        if name in types
    }


def _outputs(component: Component, out: Path) -> dict[str, Any]:
    """Where the component is to leave what it makes, as KFP's ExecutorInput says it."""
    made = {slot.name: [_artifact(slot.name, out / "artifacts" / slot.name, slot.schema, {})]
            for slot in component.out_artifacts}  # fmt: skip
    return {
        "parameters": {p.name: {"outputFile": str(out / "params" / p.name)} for p in component.out_params},
        "artifacts": {name: {"artifacts": some} for name, some in made.items()},
        "outputFile": str(out / "executor_output.json"),
    }


def _artifact(name: str, path: Path, schema: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    kind = {"schemaTitle": schema, "schemaVersion": "0.0.1"}
    return {"name": name, "type": kind, "uri": str(path), "metadata": dict(metadata)}


def component_at(pipeline: Pipeline, path: str) -> Component:
    """The component of the step at ``path``, for example ``for-loop-1[2]/train``."""
    task = "/".join(part.partition("[")[0] for part in path.split("/"))
    found = dict(components(pipeline.root)).get(task)
    if found is None:
        raise BadInput("it is no step that runs code", where=path, hint="importers and graphs are none")
    return found


def _fetched(hub: Hub, inputs: Values, folder: Path) -> dict[str, Any]:
    files: dict[str, Any] = {}
    for name, refs in inputs.artifacts.items():
        here = [_one(hub, name, ref, folder / f"{len(files)}-{n}") for n, ref in enumerate(refs)]
        files[name] = {"artifacts": here}
    return files


def _one(hub: Hub, name: str, ref: ArtifactRef, target: Path) -> dict[str, Any]:
    answer = hub.raw("GET", f"/api/tally/artifacts/{ref.digest}")
    if answer.is_error:
        raise NotFound(f"the input {name!r} is no longer there", where=ref.digest)
    target.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        tar.extractall(target, filter="data")
    return _artifact(name, target / "it", ref.schema, ref.metadata)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
