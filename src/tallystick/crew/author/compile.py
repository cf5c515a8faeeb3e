"""Compile one pipeline out of a Python file: ``PYTHON -c THIS FILE FUNCTION FOLDER``.

It runs in a Python that has the kfp SDK, as its user runs the file itself, and imports nothing of ours: it is
handed over as text. FUNCTION empty means the only pipeline there is. What came of it stands in
``FOLDER/done.json``: ``{"spec": ...}``, or ``{"error": ..., "where": ..., "hint": ..., "trace": ...}``.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from pathlib import Path
from typing import Any

TRACE_CHARS_MAX = 20_000


class Refused(Exception):
    """What is wrong, and what to do about it."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint


def main(file: str, function: str, folder: str) -> int:
    """0 with the pipeline, 1 with the reason why there is none."""
    try:
        done = {"spec": _compiled(Path(file), function, Path(folder))}
    except Refused as wrong:
        done = {"error": str(wrong), "hint": wrong.hint, "where": file, "trace": ""}
    except BaseException as wrong:  # noqa: BLE001  reason: the user's code may raise anything, SystemExit too
        done = _told(wrong, file)
    Path(folder, "done.json").write_text(json.dumps(done), encoding="utf-8")
    return 0 if "spec" in done else 1


def _compiled(file: Path, function: str, folder: Path) -> str:
    try:
        from kfp import compiler
    except ImportError as wrong:
        raise Refused(f"{sys.executable} has no kfp SDK: {wrong}", "pip install kfp there") from wrong
    pipeline = _pipeline(_imported(file), function)
    target = folder / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(target))
    return target.read_text(encoding="utf-8")


def _imported(file: Path) -> Any:
    """The file as a module of its name; its folder comes first, as if Python had been told to run it."""
    sys.path[0] = str(file.parent)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise Refused("is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _pipeline(module: Any, function: str) -> Any:
    from kfp.dsl import base_component, graph_component

    if function:
        found = getattr(module, function, None)
        if isinstance(found, base_component.BaseComponent):
            return found
        hint = "it has: " + (", ".join(_names(module)) or "none")
        raise Refused(f"no pipeline or component {function!r}", hint)
    names = _names(module)
    if not names:
        hint = "mark the function with @dsl.pipeline, or name a component: FILE.py:FUNCTION"
        raise Refused("no pipeline in it", hint)
    if len(names) > 1:
        hint = "say which: " + ", ".join(f"{Path(module.__file__).name}:{name}" for name in names)
        raise Refused(f"{len(names)} pipelines in it", hint)
    found = getattr(module, names[0])
    assert isinstance(found, graph_component.GraphComponent)  # noqa: S101  reason: for whoever reads it
    return found


def _names(module: Any) -> list[str]:
    """The pipelines that the file itself defines, each by its first name."""
    from kfp.dsl import graph_component

    names: dict[int, str] = {}
    for name, value in vars(module).items():
        is_one = isinstance(value, graph_component.GraphComponent)
        if is_one and value.pipeline_func.__module__ == module.__name__:
            names.setdefault(id(value), name)
    return list(names.values())


def _told(wrong: BaseException, file: str) -> dict[str, str]:
    """The error, and the traceback from the user's own file on."""
    part = wrong.__traceback__
    while part is not None and part.tb_frame.f_code.co_filename != file:
        part = part.tb_next
    line = f", line {part.tb_lineno}" if part else ""
    if isinstance(wrong, SyntaxError) and wrong.filename == file:
        line = f", line {wrong.lineno}"
    text = "".join(traceback.format_exception(type(wrong), wrong, part, chain=False))
    message = " ".join(str(wrong).split())[:500]
    error = f"{type(wrong).__name__}: {message}" if message else type(wrong).__name__
    return {"error": error, "where": f"{file}{line}", "hint": "", "trace": text[-TRACE_CHARS_MAX:]}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
