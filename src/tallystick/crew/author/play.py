"""Run one step that was laid out, in the foreground: ``PYTHON -c THIS FOLDER [pdb]``.

It runs in any Python that has kfp's runtime, as its user, behind no wall. It imports nothing of ours, and is
handed over as text. With ``pdb`` it stops at the function's first line, and again where it fails.
"""

from __future__ import annotations

import bdb
import functools
import inspect
import json
import os
import pdb
import sys
import traceback
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any


def main(folder: str, *more: str) -> int:
    """0 once the step has done its work, 1 when it failed or was left."""
    order = json.loads(Path(folder, "order.json").read_bytes())
    os.environ.update(order["env"], _KFP_RUNTIME="true")
    try:
        from kfp.dsl.executor import Executor
    except ImportError as wrong:
        sys.stderr.write(f"{sys.executable} has no kfp: {wrong}\n  pip install kfp there\n")
        return 1
    os.chdir(Path(order["source"]).parents[1])
    try:
        function = _loaded(order)
        executor = Executor(executor_input=order["executor_input"], function_to_execute=function)
        if "pdb" in more:
            executor.func = _stopped(function)
        executor.execute()
    except SystemExit as leaving:
        if leaving.code not in (None, 0):
            return _failed(order, leaving, "pdb" in more)
    except bdb.BdbQuit:
        return 1
    except BaseException as wrong:  # noqa: BLE001  reason: the step's code may raise anything
        return _failed(order, wrong, "pdb" in more)
    _show(order)
    return 0


def _loaded(order: dict[str, Any]) -> Any:
    spec = spec_from_file_location("ephemeral_component", order["source"])
    if spec is None or spec.loader is None:
        raise ImportError(order["source"])
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.dont_write_bytecode = True
    spec.loader.exec_module(module)
    return getattr(module, order["function"])


def _stopped(function: Any) -> Any:
    """The function under the debugger; to kfp, which looks at its signature, it is the same."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return pdb.Pdb().runcall(function, *args, **kwargs)

    call.__dict__["__signature__"] = inspect.signature(function)
    return call


def _failed(order: dict[str, Any], wrong: BaseException, debug: bool) -> int:
    part = wrong.__traceback__
    while part is not None and part.tb_frame.f_code.co_filename != order["source"]:
        part = part.tb_next
    traceback.print_exception(type(wrong), wrong, part or wrong.__traceback__)
    if debug and part is not None:
        pdb.post_mortem(part)
    return 1


def _show(order: dict[str, Any]) -> None:
    """What came out."""
    file = Path(order["executor_input"]["outputs"]["outputFile"])
    done = json.loads(file.read_bytes()) if file.exists() else {}
    lines = [f"{name} = {json.dumps(value)}" for name, value in (done.get("parameterValues") or {}).items()]
    for name, said in order["executor_input"]["outputs"]["artifacts"].items():
        lines.append(f"{name}: {said['artifacts'][0]['uri']}")
    sys.stdout.write("".join(f"  {line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
