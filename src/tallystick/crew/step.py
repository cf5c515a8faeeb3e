"""The main of a step's process: one Python component, run by KFP's own executor.

``python -P -m tallystick.crew.step ORDER``, where the file ORDER holds a JSON object: ``source`` and
``function`` say what to run, ``executor_input`` is KFP v2's, ``failure`` is the file to say one's failure in,
and ``hub_socket``, when not empty, is the unix socket behind ``MLFLOW_TRACKING_URI``. ``cores``, when not
empty, are those to run on: a hint for libraries that count them, and no wall.

A Python of its own is the exception: mostly a step is forked from a process that has all of this imported
(``tallystick.crew.steps.zygote``), and only :func:`run` is called here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import traceback
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["main", "run"]

MESSAGE_CHARS_MAX = 2000


def main(order_file: str) -> int:
    """Run the order in a file; the process's status."""
    return run(json.loads(Path(order_file).read_bytes()))


def run(order: dict[str, Any]) -> int:
    """Run the component: 0, or 1 once the reason is in the order's ``failure`` file."""
    os.dup2(1, 2)  # one stream, so that lines keep the order in which they were printed
    try:
        if order["cores"]:
            os.sched_setaffinity(0, order["cores"])
        if order["hub_socket"]:
            _reach_hub(order["hub_socket"])
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
    # Not by the loader, which would look for its bytecode and leave it there: this source is read only once.
    code = compile(Path(loader.path).read_bytes(), loader.path, "exec", dont_inherit=True)
    exec(code, module.__dict__)  # noqa: S102  it is what a step is
    function = getattr(module, order["function"])
    Executor(executor_input=order["executor_input"], function_to_execute=function).execute()


def _fail(order: dict[str, Any], wrong: BaseException) -> int:
    """Print the traceback, from the component's own code on, and write the one-line reason."""
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
