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
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.facts import from_json, to_json
from tallystick.core.model import TensorSpec
from tallystick.core.signal import Drift
from tallystick.crew.desk import Desk, attend
from tallystick.crew.measure.columns import feature_names, floats, is_number, read_rows
from tallystick.crew.serve import QUIET
from tallystick.ports.traffic import Exchange, read_window

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Live", "gather", "main"]

ANSWERED = 200


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


@dataclass
class Live:
    """Rows that were asked about: by column the parts of its values, float64 each, in the order asked."""

    skipped: int = 0
    asked: deque[tuple[int, int]] = field(default_factory=deque)
    parts: dict[str, deque[np.ndarray]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows there are, of all requests."""
        return sum(rows for _, rows in self.asked)

    def column(self, name: str) -> np.ndarray:
        """A column's values, float64 (rows,)."""
        import numpy as np

        return np.concatenate(self.parts[name])

    def add(self, exchange: Exchange, columns: Mapping[str, np.ndarray]) -> None:
        """Count a request with its columns, all of one length."""
        self.asked.append((exchange.at_ms, len(next(iter(columns.values())))))
        for name, values in columns.items():
            self.parts.setdefault(name, deque()).append(values)

    def keep_newest(self, rows_max: int) -> None:
        """Forget the oldest requests, as long as ``rows_max`` rows remain: what is asked now counts."""
        rows = self.rows
        while self.asked and rows - self.asked[0][1] >= rows_max:
            rows -= self.asked.popleft()[1]
            for parts in self.parts.values():
                parts.popleft()


def gather(exchanges: Iterable[Exchange], generation: int, names: Sequence[str]) -> Live:
    """The rows of all requests to ``generation`` that were answered; what cannot be read is skipped."""
    from tallystick.doors.oip.codec import decode_request

    live = Live()
    for exchange in exchanges:
        if exchange.status != ANSWERED or exchange.generation != generation:
            continue
        try:
            inputs = decode_request(exchange.body, exchange.json_bytes).inputs
        except BadInput:
            live.skipped += 1
            continue
        columns = _columns(inputs, names)
        if columns and (not live.parts or columns.keys() == live.parts.keys()):
            live.add(exchange, columns)
        else:
            live.skipped += 1
    return live


def _columns(inputs: Mapping[str, np.ndarray], names: Sequence[str]) -> Mapping[str, np.ndarray]:
    """The request's numbers by column: of one table of all, or of an input for each; empty where unfit."""
    found = {n: a.reshape(-1) for n, a in inputs.items() if n in names and a.size == len(a)}
    if not found and len(inputs) == 1:
        rows = next(iter(inputs.values()))
        if rows.ndim > 1 and len(rows) and rows.size == len(rows) * len(names):
            found = dict(zip(names, rows.reshape(len(rows), -1).T, strict=True))
    found = {n: a.astype("float64") for n, a in found.items() if a.dtype.kind in "biuf" and len(a)}
    return found if len({len(a) for a in found.values()}) == 1 else {}


if __name__ == "__main__":
    attend(main)
