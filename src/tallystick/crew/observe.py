"""The errand ``observe``: measure how far what an endpoint was asked lies from reference rows.

Order: ``exchanges`` (files of a traffic window), ``generation`` (which exchanges count), ``rows_max``
(the newest rows that count, a request whole), ``reference`` (a Parquet file), ``label`` (its column
that is no input), ``reference_name``, ``reference_digest`` and ``inputs`` (the model's TensorSpecs). Result:
a :class:`tallystick.core.signal.Drift`, and beside it ``requests`` (how many were counted), ``skipped``
(how many could not be read, or do not fit) and ``left_out`` (columns that are no numbers, and so are not
compared).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.facts import from_json, to_json
from tallystick.core.model import TensorSpec
from tallystick.core.signal import Drift
from tallystick.crew.desk import Desk, attend
from tallystick.crew.measure.columns import feature_names, floats, is_number, read_rows
from tallystick.crew.measure.live import gather
from tallystick.crew.serve import QUIET
from tallystick.ports.traffic import read_window

__all__ = ["main"]


def main(desk: Desk) -> Mapping[str, Any]:
    """Read, compare and tell; BadInput or NotSupported where the reference does not fit the model."""
    os.environ.update({key: os.environ.get(key, value) for key, value in QUIET.items()})
    order = desk.order
    try:
        exchanges = [Path(path) for path in order["exchanges"]]
        generation, label = int(order["generation"]), str(order["label"])
        rows_max = int(order["rows_max"])
        reference = Path(order["reference"])
        name, digest = str(order["reference_name"]), str(order["reference_digest"])
        inputs = [from_json(TensorSpec, spec) for spec in order["inputs"]]
    except KeyError as missing:
        raise BadInput(f"the order lacks {missing}", where="crew/observe") from None
    from tallystick.crew.measure.drift import column_drift  # late, as numpy comes with it

    desk.progress(0.0, f"reading {name}")
    table = read_rows(reference)
    numbers = [n for n in feature_names(table, label) if is_number(table.column(n))]
    names = _compared(numbers, inputs, name)
    desk.progress(0.2, "reading what was asked")
    live = gather(read_window(exchanges), generation, names)
    live.keep_newest(rows_max)
    desk.progress(0.6, f"comparing {live.rows:,} rows with {table.num_rows:,} of {name}")
    compared = [n for n in names if n in numbers and n in live.parts] if live.rows else []
    drift = Drift(
        reference=name,
        reference_digest=digest,
        rows_reference=table.num_rows,
        rows_live=live.rows,
        columns=tuple(column_drift(n, floats(table.column(n)), live.column(n)) for n in compared),
        first_ms=live.asked[0][0] if live.asked else 0,
        last_ms=live.asked[-1][0] if live.asked else 0,
    )
    left_out = [n for n in names if n not in compared] if live.rows else []
    more = {"requests": len(live.asked), "skipped": live.skipped, "left_out": left_out}
    return {**to_json(drift), **more}


def _compared(numbers: Sequence[str], inputs: Sequence[TensorSpec], reference: str) -> Sequence[str]:
    """The features' names, in the order in which the model takes them."""
    from tallystick.crew.measure.target import columns_of, features_of

    named = columns_of(inputs) if inputs else ()
    if named:
        if not set(named) & set(numbers):
            hint = "the columns that the model was trained on must be those of the table"
            raise NotSupported(
                f"none of the model's inputs is a column of numbers in {reference}", where="drift", hint=hint
            )
        return named
    wanted = features_of(inputs[0]) if inputs else len(numbers)
    if wanted not in (0, len(numbers)):
        raise NotSupported(
            f"the model takes {wanted} features, and {reference} has {len(numbers)} columns of numbers"
            " beside the label",
            where="drift",
            hint="a drift can be measured where the model takes the table's columns as they are",
        )
    return numbers


if __name__ == "__main__":
    attend(main)
