"""A rehearsal: a small component is run in the zygote itself, so that steps find everything warm.

What a forked process writes to, the kernel copies for it, a page at a time; and Python writes to its code for
as long as that is new to it (PEP 659), so each step would copy, and adapt for itself, whatever KFP's runtime
consists of. After this that is done, once, in the memory that they share.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from tallystick.crew import step

__all__ = ["rehearse"]

TIMES = 10
"""CPython 3.11 and 3.12 adapt a function within its first few calls."""
SOURCE = """
import kfp
from kfp import dsl
from kfp.dsl import *
from typing import *

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


def rehearse() -> None:
    """Run the component ``TIMES`` times. OSError where there is no room for its few files."""
    with tempfile.TemporaryDirectory() as folder:
        order = _order(Path(folder))
        for _ in range(TIMES):
            step.run(order)
    del sys.modules["ephemeral_component"]
    logging.root.handlers.clear()  # a step's own words go through a handler of its own
    logging.root.setLevel(logging.WARNING)


def _order(folder: Path) -> dict[str, Any]:
    source, out = folder / "component.py", folder / "out"
    out.mkdir()
    source.write_text(SOURCE, encoding="utf-8")
    values = {"number": 1, "share": 0.5, "words": "a", "yes": True, "items": [1], "names": {"a": 1}}
    return {
        "source": str(source),
        "function": "rehearse",
        "argv": [],
        "failure": str(out / "failure.json"),
        "hub_socket": "",
        "cores": [],
        "workers": 1,
        "executor_input": {
            "inputs": {
                "parameterValues": values,
                "artifacts": {"given": _artifact("given", "Dataset", folder)},
            },
            "outputs": {
                "parameters": {name: {"outputFile": str(out / name)} for name in ("total", "said")},
                "artifacts": {
                    "made": _artifact("made", "Model", out),
                    "metrics": _artifact("metrics", "Metrics", out),
                },
                "outputFile": str(out / "executor_output.json"),
            },
        },
    }


def _artifact(name: str, kind: str, folder: Path) -> dict[str, Any]:
    schema = {"schemaTitle": f"system.{kind}", "schemaVersion": "0.0.1"}
    return {"artifacts": [{"name": name, "type": schema, "uri": str(folder / name), "metadata": {}}]}
