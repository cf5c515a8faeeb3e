"""The errand ``judge``: attack a model on labelled rows, within a budget, and say what it withstood.

Code that came with a model never runs in this process, as it could write a result of its own: a model whose
runtime runs code is asked over the socket of another process that serves it, and refused where there is none.

Order: ``folder`` (an MLflow model), ``rows`` (a Parquet file), ``label`` (its column with the classes'
numbers), ``budget``, ``attack`` (a tile's name) and ``pictures`` (a folder to write PNG files to); and where
the model is served, ``socket`` (its path) and ``name`` (that it answers to).
Result: ``clean``, ``curve``, ``attacks``, ``pictures`` (with the files' names), ``versions``, ``seconds``:
what :class:`tallystick.core.verdict.Evidence` needs beside what the hub knows itself.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallystick import __version__
from tallystick.core.errors import BadInput
from tallystick.core.facts import from_json, to_json
from tallystick.core.verdict import AttackRecord, Budget
from tallystick.crew.desk import Desk, attend
from tallystick.crew.measure.columns import feature_names, features, labels, read_rows
from tallystick.crew.serve import QUIET, choose_runtime
from tallystick.ports.attack import Attack
from tallystick.ports.runtime import Predictor, Runtime
from tallystick.ports.tile import Place
from tallystick.wiring.tiles import open_tile

if TYPE_CHECKING:
    from tallystick.crew.measure.target import Seen

__all__ = ["main"]

PREPARED = 0.05
"""The share of the work that comes before the attack."""

LIBRARIES: Mapping[str, str] = {
    "onnxruntime": "onnxruntime",
    "mlflow": "mlflow",
    "sklearn": "scikit-learn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "torch": "torch",
    "tensorflow": "tensorflow",
}
"""Modules that models predict with, and the packages that say their version."""


def main(desk: Desk) -> Mapping[str, Any]:
    """Attack and tell; BadInput names the column, row or input that does not fit."""
    began = time.monotonic()
    os.environ.update({key: os.environ.get(key, value) for key, value in QUIET.items()})
    order = desk.order
    try:
        folder, rows = Path(order["folder"]), Path(order["rows"])
        label, tile, pictures = str(order["label"]), str(order["attack"]), Path(order["pictures"])
        budget = from_json(Budget, order["budget"], "budget")
    except KeyError as missing:
        raise BadInput(f"the order lacks {missing}", where="crew/judge") from None
    attack: Attack = open_tile("attack", tile, Place(pictures))
    desk.progress(0.0, "reading the rows")
    table = read_rows(rows)
    names = feature_names(table, label)
    y = labels(table, label)
    desk.progress(0.02, "loading the model")
    tile_name, runtime = choose_runtime(folder, "", {})
    from tallystick.crew.measure.pictures import draw  # late, as numpy comes with them
    from tallystick.crew.measure.target import Seen, columns_of

    def said(share: float, text: str) -> None:
        desk.progress(PREPARED + (1 - PREPARED) * share, text)

    with _loaded(tile_name, runtime, folder, order) as predictor:
        x = features(table, _chosen(names, columns_of(predictor.inputs)), budget.low, budget.high)
        target = Seen(predictor, x, y)
        used = {"runtime": f"tallystick {tile_name}", **_libraries(runtime.runs_code)}
        found = attack.run(target, x, y, budget, said)
        drawn = draw(target, x, y, found, budget, pictures)
    return {
        "clean": to_json(found.clean),
        "curve": to_json(found.curve),
        "attacks": [to_json(_told(record, target)) for record in found.records],
        "pictures": drawn,
        "versions": {**_machine(), **used, **attack.versions()},
        "seconds": round(time.monotonic() - began, 3),
    }


@contextmanager
def _loaded(tile: str, runtime: Runtime, folder: Path, order: Mapping[str, Any]) -> Iterator[Predictor]:
    """The model, loaded here if it is only data; else the one behind the order's socket."""
    if not runtime.runs_code:
        yield runtime.load(folder)
        return
    if "socket" not in order or "name" not in order:
        raise BadInput(
            f"the runtime {tile} may run code of the model's own, which is never run where it is measured",
            where="crew/judge",
            hint="the model's record says that it runs none: do not trust this model",
        )
    from tallystick.crew.measure.remote import RemotePredictor  # late, as numpy comes with it

    with closing(RemotePredictor(Path(order["socket"]), str(order["name"]))) as predictor:
        yield predictor


def _chosen(names: Sequence[str], wanted: Sequence[str]) -> Sequence[str]:
    """The columns for the model: all, or those that its inputs name, in their order."""
    missing = [name for name in wanted if name not in names]
    if missing:
        raise BadInput(
            f"the model has an input {missing[0]!r:.100}, and the rows have no such column",
            where="rows",
            hint="judge on a table with the columns that the model was trained on",
        )
    return wanted or names


def _told(record: AttackRecord, target: Seen) -> AttackRecord:
    """The record, with what the model let the attack see."""
    seen = "labels only, as scores 1 and 0" if target.labels_only else "class scores"
    return replace(record, settings={**record.settings, "model_gives": seen})


def _libraries(elsewhere: bool) -> dict[str, str]:
    """Versions of the libraries that came in as the model was loaded.

    Of a model that was loaded ``elsewhere`` nobody can say for certain which those were: then of all that
    are installed.
    """
    found: dict[str, str] = {}
    for module, package in LIBRARIES.items():
        if elsewhere or module in sys.modules:
            try:
                found[package] = version(package)
            except PackageNotFoundError:  # a build of its own name, such as one for a GPU, or not installed
                if module in sys.modules:
                    found[package] = str(getattr(sys.modules[module], "__version__", "unknown"))
    return found


def _machine() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "tallystick": __version__,
    }


if __name__ == "__main__":
    attend(main)
