"""The main of a step's process: one Python component, run by KFP's own executor, or one command.

``python -P -m tallystick.crew.step ORDER``, where the file ORDER holds a JSON object: ``root`` is the
step's folder, which :func:`lay_out` fills, ``source`` and ``function`` say what to run, ``executor_input`` is
KFP v2's, ``failure`` is the file to say one's failure in, and ``hub_socket``, when not empty, is the unix
socket behind ``MLFLOW_TRACKING_URI``. ``cores``, when not empty, are those to run on: a hint for libraries
that count them, and no wall. ``argv``, when not empty, is run in place of a function. Of ``workers`` more
than one, each is a process of its own.

A Python of its own is the exception: mostly a step is forked from a process that has all of this imported
(``tallystick.crew.steps.zygote``), and only :func:`run` is called here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import sys
import traceback
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any

from tallystick.crew.gang import run_command, run_gang

__all__ = ["lay_out", "main", "run", "run_one"]

MESSAGE_CHARS_MAX = 2000
_ready: dict[str, CodeType] = {}
"""Components that are compiled and have not run, by their paths."""


def main(order_file: str) -> int:
    """Run the order in a file; the process's status."""
    order = json.loads(Path(order_file).read_bytes())
    lay_out(order)
    return run(order)


def lay_out(order: dict[str, Any]) -> None:
    """Put into the step's folder, ``root``, what is to lie there before any code but ours runs.

    Those are ``folders``, and the component's ``code`` at ``source``, where it has some: it is
    compiled here.
    """
    for name in order["folders"]:
        os.mkdir(f"{order['root']}/{name}")  # noqa: PTH102  pathlib would be felt in a step of a few ms
    if order["code"]:
        left = memoryview(order["code"].encode())
        with open(order["source"], "xb", buffering=0) as file:  # noqa: PTH123  as above
            while left:  # what a full disk has no room for is refused only when it is tried again
                left = left[file.write(left) :]
        with contextlib.suppress(Exception):  # it is met again, and said, when the component is to run
            _ready[order["source"]] = _compiled(order)


def _compiled(order: dict[str, Any]) -> CodeType:
    """Not by a loader, which would look for its bytecode and leave it there: this is read only once."""
    return compile(order["code"].encode(), order["source"], "exec", dont_inherit=True)


def run(order: dict[str, Any]) -> int:
    """Run the component: 0, or a status, with the reason in the order's ``failure`` file if there is one."""
    os.dup2(1, 2)  # one stream, so that lines keep the order in which they were printed
    try:
        if order["hub_socket"]:
            _reach_hub(order["hub_socket"])
    except OSError as wrong:
        return _fail(order, wrong)
    return run_gang(order, run_one) if order["workers"] > 1 else run_one(order)


def run_one(order: dict[str, Any]) -> int:
    """One worker, or the only one."""
    try:
        if order["cores"]:
            os.sched_setaffinity(0, order["cores"])
        if order["argv"]:
            return run_command(order)
        _run(order)
    except SystemExit as leaving:
        if leaving.code in (None, 0):
            return 0
        return _fail(order, leaving)
    except BaseException as wrong:  # noqa: BLE001  the process's edge: whatever it is, the run must hear of it
        return _fail(order, wrong)
    return 0


def _reach_hub(hub_socket: str) -> None:
    from tallystick.crew.relay import start_relay

    os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{start_relay(hub_socket)}"


def _run(order: dict[str, Any]) -> None:
    os.environ["_KFP_RUNTIME"] = "true"  # or importing kfp takes seconds, and packages that are not here
    import logging

    from kfp.dsl.executor import Executor

    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    loader = SourceFileLoader("ephemeral_component", order["source"])
    spec = importlib.util.spec_from_file_location(loader.name, loader.path, loader=loader)
    if spec is None:
        raise ImportError(order["source"])
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    code = _ready.pop(order["source"], None) or _compiled(order)
    exec(code, module.__dict__)  # noqa: S102  it is what a step is
    function = getattr(module, order["function"])
    Executor(executor_input=order["executor_input"], function_to_execute=function).execute()
    _bring_in(order)


def _bring_in(order: dict[str, Any]) -> None:
    """Copy to their places the artifacts that the component put elsewhere (``custom_path``), as Kubeflow.

    Nobody outside the step's wall could find them, and here nothing is done that the component could not do.
    """
    outputs = order["executor_input"]["outputs"]
    if not outputs["artifacts"]:
        return
    file, root = Path(outputs["outputFile"]), Path(order["source"]).parent.resolve()
    try:
        said = json.loads(file.read_bytes())
        made = {name: said["artifacts"][name]["artifacts"][0] for name in said.get("artifacts") or ()}
        away = {name: Path(one.pop("custom_path")) for name, one in made.items() if _is_away(one, root)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return  # the component wrote it itself, or nothing: who takes the outputs says what is wrong with it
    for name, path in away.items():
        copy = shutil.copytree if path.is_dir() else shutil.copyfile
        copy(path, outputs["artifacts"][name]["artifacts"][0]["uri"])
    if away:
        file.write_text(json.dumps(said), encoding="utf-8")


def _is_away(artifact: dict[str, Any], root: Path) -> bool:
    path = Path(artifact.get("custom_path") or root)
    return path.exists() and not path.resolve().is_relative_to(root)


def _fail(order: dict[str, Any], wrong: BaseException) -> int:
    """Print the traceback, from the component's own code on, and write the one-line reason."""
    if not order["argv"]:
        traceback.print_exception(type(wrong), wrong, _own_part(order["source"], wrong.__traceback__))
    kind = type(wrong)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    message = " ".join(str(wrong)[:MESSAGE_CHARS_MAX].split())
    said = {"error": f"{name}: {message}" if message else name, "memory": isinstance(wrong, MemoryError)}
    Path(order["failure"]).write_text(json.dumps(said), encoding="utf-8")
    return 1


def _own_part(source: str, trace: TracebackType | None) -> TracebackType | None:
    part = trace
    while part is not None and part.tb_frame.f_code.co_filename != source:
        part = part.tb_next
    return part or trace


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
