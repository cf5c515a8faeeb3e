"""A rehearsal: a small component is run in the zygote itself, so that steps find everything warm.

What a forked process writes to, the kernel copies for it, a page at a time; and Python writes to its code for
as long as that is new to it (PEP 659), so each step would copy, and adapt for itself, whatever KFP's runtime
consists of. After this that is done, once, in the memory that they share.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tallystick.crew import step

__all__ = ["rehearsed"]

TIMES = 10
"""CPython 3.11 and 3.12 adapt a function within its first few calls."""
HEAD = """
import kfp
from kfp import dsl
from kfp.dsl import *
from typing import *
"""
SMALL = """
def rehearse(number: int) -> int:
    return number
"""
LARGE = """
def rehearse(
    number: int, share: float, words: str, yes: bool, items: list, names: dict,
    given: Input[Dataset], made: Output[Model], metrics: Output[Metrics],
) -> NamedTuple('Outputs', [('total', float), ('said', str)]):
    with open(made.path, 'w') as file:
        file.write(words)
    metrics.log_metric('share', share)
    made.metadata['number'] = number
    return (number + share, words)
"""


@contextlib.contextmanager
def rehearsed() -> Iterator[dict[str, Any]]:
    """Run a component ``TIMES`` times; the order for a small one, which stands until the block is left.

    OSError where there is no room for its few files.
    """
    folder = tempfile.mkdtemp()  # whoever is forked meanwhile leaves it alone as it ends
    try:
        large = _large(Path(folder, "large"))
        step.lay_out(large)
        for _ in range(TIMES):
            step.run(large)
        del sys.modules["ephemeral_component"]
        logging.root.handlers.clear()  # a step's own words go through a handler of its own
        logging.root.setLevel(logging.WARNING)
        yield _order(Path(folder, "small"), SMALL, {"number": 1}, ["Output"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _large(folder: Path) -> dict[str, Any]:
    values = {"number": 1, "share": 0.5, "words": "a", "yes": True, "items": [1], "names": {"a": 1}}
    order, out = _order(folder, LARGE, values, ["total", "said"]), folder / "out"
    told = order["executor_input"]
    told["inputs"]["artifacts"]["given"] = _artifact("given", "Dataset", folder)
    told["outputs"]["artifacts"] |= {
        "made": _artifact("made", "Model", out),
        "metrics": _artifact("metrics", "Metrics", out),
    }
    return order


def _order(folder: Path, code: str, values: Mapping[str, Any], params: Sequence[str]) -> dict[str, Any]:
    source, out = folder / "component.py", folder / "out"
    folder.mkdir(parents=True)
    return {
        "root": str(folder),
        "folders": ["tmp", "home", "out"],
        "source": str(source),
        "code": HEAD + code,
        "function": "rehearse",
        "argv": [],
        "failure": str(out / "failure.json"),
        "hub_socket": "",
        "cores": [],
        "workers": 1,
        "executor_input": {
            "inputs": {"parameterValues": values, "artifacts": {}},
            "outputs": {
                "parameters": {name: {"outputFile": str(out / name)} for name in params},
                "artifacts": {},
                "outputFile": str(out / "executor_output.json"),
            },
        },
    }


def _artifact(name: str, kind: str, folder: Path) -> dict[str, Any]:
    schema = {"schemaTitle": f"system.{kind}", "schemaVersion": "0.0.1"}
    return {"artifacts": [{"name": name, "type": schema, "uri": str(folder / name), "metadata": {}}]}
