"""The errand ``measure.sample``: rows that an endpoint was asked about, and what its model says of them.

Nobody knows the right answers to what strangers ask. How often an attack turns the model's own answer can be
measured all the same, and that is what such rows are for.

Order: ``exchanges`` (files of a traffic window), ``generation`` (which exchanges count), ``rows_max`` (the
newest rows that count, a request whole), ``inputs`` (the model's TensorSpecs), ``socket`` and ``name`` (where
the model answers, and to what), ``label`` (the column of the answers) and ``out`` (a Parquet file to make).
Result: ``rows`` (how many there are), ``skipped`` (requests that could not be read, or do not fit).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.facts import from_json
from tallystick.core.model import TensorSpec
from tallystick.crew.desk import Desk, attend
from tallystick.crew.measure.live import gather
from tallystick.crew.serve import QUIET
from tallystick.ports.traffic import read_window

if TYPE_CHECKING:
    import numpy as np

    from tallystick.crew.measure.classes import Answer
    from tallystick.crew.measure.remote import RemotePredictor

__all__ = ["main"]

ASKED_MAX = 256
"""Rows of one question to the model."""


def main(desk: Desk) -> Mapping[str, Any]:
    """Read what was asked, ask the model again, and write both down; NotSupported for rows of no numbers."""
    os.environ.update({key: os.environ.get(key, value) for key, value in QUIET.items()})
    order = desk.order
    try:
        exchanges = [Path(path) for path in order["exchanges"]]
        generation, rows_max = int(order["generation"]), int(order["rows_max"])
        inputs = [from_json(TensorSpec, spec) for spec in order["inputs"]]
        socket, name, label = Path(order["socket"]), str(order["name"]), str(order["label"])
        out = Path(order["out"])
    except KeyError as missing:
        raise BadInput(f"the order lacks {missing}", where="crew/measure/sample") from None
    from tallystick.crew.measure.remote import RemotePredictor  # late, as numpy comes with it

    names = _names(inputs)
    desk.progress(0.0, "reading what was asked")
    live = gather(read_window(exchanges), generation, names)
    live.keep_newest(rows_max)
    if not live.rows:
        return {"rows": 0, "skipped": live.skipped}
    desk.progress(0.3, f"asking again about {live.rows:,} rows")
    columns = {each: live.column(each)[:rows_max] for each in names}
    predictor = RemotePredictor(socket, name)
    try:
        said = _said(predictor, columns)
    finally:
        predictor.close()
    _write(columns, said, label, out)
    return {"rows": len(said), "skipped": live.skipped}


def _names(inputs: Sequence[TensorSpec]) -> Sequence[str]:
    """A name for each feature: the inputs' own, or numbers where one input takes them all."""
    from tallystick.crew.measure.target import columns_of, features_of

    if named := columns_of(inputs):
        return named
    count = features_of(inputs[0]) if len(inputs) == 1 and inputs[0].datatype != "BYTES" else 0
    if not count:
        raise NotSupported("its inputs are no rows of numbers of one length", where="sample")
    return [f"x{i:05d}" for i in range(count)]


def _said(predictor: RemotePredictor, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """What the model says of each row: the name of a class, or the place of the highest score."""
    import numpy as np

    from tallystick.crew.measure.classes import Reader
    from tallystick.crew.measure.target import FLOATS

    specs, total = predictor.inputs, len(next(iter(columns.values())))
    rows = np.stack(list(columns.values()), axis=1)
    parts: list[Answer] = []
    for at in range(0, total, ASKED_MAX):
        part = rows[at : at + ASKED_MAX]
        if len(specs) > 1 or specs[0].name in columns:
            asked: dict[str, np.ndarray] = {
                s.name: part[:, i].astype(FLOATS[s.datatype]).reshape((len(part), *s.shape[1:]))
                for i, s in enumerate(specs)
            }
        else:
            asked = {
                specs[0].name: part.astype(FLOATS[specs[0].datatype]).reshape(
                    (len(part), *specs[0].shape[1:])
                )
            }
        answers = predictor.predict(asked)
        parts.append(Reader.of(answers)(answers))
    if all(answer.said is not None for answer in parts):
        return np.concatenate([a.said for a in parts if a.said is not None])
    best = [a.scores.argmax(axis=1) for a in parts if a.scores is not None]
    return np.concatenate(best).astype(np.int64)


def _write(columns: Mapping[str, np.ndarray], said: np.ndarray, label: str, out: Path) -> None:
    """One Parquet file: the same rows and answers give the same bytes."""
    import pyarrow as pa
    from pyarrow import parquet

    numbers = pa.array([str(s) for s in said]) if said.dtype.kind in "OUS" else pa.array(said)
    if said.dtype.kind in "OUS" and all(s.lstrip("-").isdigit() for s in numbers.to_pylist()):
        numbers = pa.array([int(s) for s in numbers.to_pylist()], pa.int64())
    table = pa.table({**{name: pa.array(values) for name, values in columns.items()}, label: numbers})
    parquet.write_table(table, out)


if __name__ == "__main__":
    attend(main)
