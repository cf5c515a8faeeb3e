"""Steps for the executor's proof: each a KFP component's function, to be run as source or called as it is.

Artifacts are whatever has ``path``, ``name``, ``uri`` and ``metadata``. Annotations are KFP's, and imports
stand inside, because each function's source goes alone to the step's process.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tallystick.core.pipeline.spec import Component, Function, Param, ParamType, Slot

if TYPE_CHECKING:
    from kfp.dsl import Dataset, Input, Metrics, Model, Output

__all__ = ["STEPS", "component"]

HEAD = "\nimport kfp\nfrom kfp import dsl\nfrom kfp.dsl import *\nfrom typing import *\n\n"
"""What KFP's compiler puts before a component's function."""


def echo(
    whole: int,
    real: float,
    text: str,
    yes: bool,
    items: list[Any],
    fields: dict[str, Any],
    unsaid: str = "its own",
) -> dict[str, Any]:
    """Hand back everything, with the types seen."""
    given = [whole, real, text, yes, items, fields, unsaid]
    return {"given": given, "types": [type(value).__name__ for value in (*given, *items)]}


def write_file(text: str, made: Output[Dataset]) -> int:
    """A file, metadata and a parameter."""
    with open(made.path, "w") as file:  # noqa: PTH123  as users write it
        file.write(text)
    made.metadata["rows"] = 2
    made.metadata["nested"] = {"list": [1, 2.5, "three", None, True]}
    return len(text)


def write_folder(made: Output[Model]) -> None:
    """A folder, with a link inside of it."""
    import os

    os.makedirs(made.path + "/inner")  # noqa: PTH103  as users write it
    with open(made.path + "/inner/weights", "wb") as file:  # noqa: PTH123
        file.write(b"\x00\x01")
    os.symlink("weights", made.path + "/inner/latest")  # noqa: PTH211
    made.metadata["framework"] = "none"


def measure(made: Output[Metrics]) -> None:
    """KFP's way to log metrics: all in the metadata, and no file at all but for this empty one."""
    made.log_metric("accuracy", 0.75)
    open(made.path, "w").close()  # noqa: PTH123


def read(given: Input[Dataset]) -> dict[str, Any]:
    """What an input artifact looks like from inside."""
    with open(given.path) as file:  # noqa: PTH123
        return {"text": file.read(), "metadata": given.metadata, "same": given.uri == given.path}


def gather(given: Input[list[Dataset]]) -> list[Any]:
    """A list of artifacts, in order."""
    from pathlib import Path

    return [[Path(one.path).read_text(), one.metadata.get("n")] for one in given]


def without_input(given: Input[Dataset] = None) -> bool:
    """Whether an optional artifact is absent."""
    return given is None


def speak(count: int) -> None:
    """Print numbered lines."""
    for number in range(count):
        print(f"line {number}")  # noqa: T201


def fail(text: str) -> None:
    """Raise."""
    raise ValueError(text)


def leave_nothing(made: Output[Dataset]) -> None:
    """Forget to write the output."""


def link_out(made: Output[Dataset]) -> None:
    """An output that is a link to somebody else's file."""
    import os

    os.symlink("/etc/hostname", made.path)  # noqa: PTH211


def link_out_within(made: Output[Model]) -> None:
    """The same, hidden in a folder."""
    import os

    os.makedirs(made.path + "/deep")  # noqa: PTH103
    os.symlink("/etc", made.path + "/deep/link")  # noqa: PTH211


def pipe_out(made: Output[Dataset]) -> None:
    """An output that would keep its reader waiting for ever."""
    import os

    os.mkfifo(made.path)


def not_a_number() -> float:
    """A parameter that JSON cannot say."""
    return float("nan")


def not_an_int() -> int:
    """Not what was declared."""
    return "seven"  # type: ignore[return-value]  # on purpose


STEPS: dict[str, Callable[..., Any]] = {
    step.__name__: step
    for step in (
        echo,
        write_file,
        write_folder,
        measure,
        read,
        gather,
        without_input,
        speak,
        fail,
        leave_nothing,
        link_out,
        link_out_within,
        pipe_out,
        not_a_number,
        not_an_int,
    )
}

_OUT = {
    "echo": ParamType.STRUCT,
    "write_file": ParamType.INTEGER,
    "read": ParamType.STRUCT,
    "gather": ParamType.LIST,
    "without_input": ParamType.BOOLEAN,
    "not_a_number": ParamType.DOUBLE,
    "not_an_int": ParamType.INTEGER,
}
_PARAMS = {
    "echo": (
        Param("whole", ParamType.INTEGER),
        Param("real", ParamType.DOUBLE),
        Param("text", ParamType.STRING),
        Param("yes", ParamType.BOOLEAN),
        Param("items", ParamType.LIST),
        Param("fields", ParamType.STRUCT),
        Param("unsaid", ParamType.STRING, optional=True),
    ),
    "write_file": (Param("text", ParamType.STRING),),
    "speak": (Param("count", ParamType.INTEGER),),
    "fail": (Param("text", ParamType.STRING),),
}
_GIVEN = {
    "read": Slot("given", "system.Dataset"),
    "gather": Slot("given", "system.Dataset", is_list=True),
    "without_input": Slot("given", "system.Dataset", optional=True),
}
_MADE = {
    "write_file": "system.Dataset",
    "write_folder": "system.Model",
    "measure": "system.Metrics",
    "leave_nothing": "system.Dataset",
    "link_out": "system.Dataset",
    "link_out_within": "system.Model",
    "pipe_out": "system.Dataset",
}


def component(name: str, **changed: Any) -> Component:
    """The component of the step ``name``; ``changed`` fields over it."""
    built = Component(
        name=name,
        code=Function(name, HEAD + inspect.getsource(STEPS[name])),
        params=_PARAMS.get(name, ()),
        artifacts=(_GIVEN[name],) if name in _GIVEN else (),
        out_params=(Param("Output", _OUT[name]),) if name in _OUT else (),
        out_artifacts=(Slot("made", _MADE[name]),) if name in _MADE else (),
    )
    return replace(built, **changed)
