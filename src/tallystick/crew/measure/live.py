"""Live rows: what the recorded exchanges of an endpoint asked about, by column."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tallystick.core.errors import BadInput
from tallystick.ports.traffic import Exchange

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Live", "gather"]

ANSWERED = 200


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
