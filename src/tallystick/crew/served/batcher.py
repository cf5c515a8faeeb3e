"""Micro-batching without waiting: what arrived in the same turn of the loop is predicted in one call.

Each caller gets the rows that it sent and no others. A request that makes the batch fail fails alone:
the batch is then done again one by one. A caller that went away is left out and disturbs nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from tallystick.core.errors import Failed, TallyError
from tallystick.ports.models.runtime import Predictor

__all__ = ["ROWS_MAX", "Batcher", "Tensors"]

Tensors = Mapping[str, np.ndarray]

ROWS_MAX = 4096
"""Rows of one batch of several requests; a single request may be larger."""

INLINE_S_MAX = 0.005
"""Where the last call took less, the next is made in the loop itself: a thread's turn costs 0.1 ms, and
as long as this nobody minds waiting for an answer about health."""


@dataclass(slots=True)
class _Waiting:
    inputs: Tensors
    rows: int
    answer: asyncio.Future[Tensors]


class Batcher:
    """Predicts for many callers, one call at a time; of one event loop."""

    def __init__(self, predictor: Predictor, rows_max: int = ROWS_MAX) -> None:
        self._predictor = predictor
        self._rows_max = rows_max
        self._joins = all(spec.shape[:1] == (-1,) for spec in (*predictor.inputs, *predictor.outputs))
        self._waiting: list[_Waiting] = []
        self._working: asyncio.Task[None] | None = None
        self._last_s = INLINE_S_MAX
        self.calls = 0

    async def predict(self, inputs: Tensors) -> Tensors:
        """The model's answer for these rows; BadInput or Failed as the model says."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(inputs, _rows(inputs), loop.create_future())
        self._waiting.append(waiting)
        if self._working is None:
            self._working = loop.create_task(self._work(), name="batcher")
        return await waiting.answer

    async def _work(self) -> None:
        """Until nobody waits: take what is there, in order, and answer it."""
        try:
            while self._waiting:
                for batch in self._take():
                    await self._answer(batch)
                await asyncio.sleep(0)  # one turn of the loop: whatever arrived meanwhile is read
        finally:
            self._working = None

    def _take(self) -> list[list[_Waiting]]:
        """All that wait, as batches of requests that can be joined, in the order they came."""
        waiting, self._waiting = self._waiting, []
        batches: dict[Hashable, list[_Waiting]] = {}
        filled: dict[Hashable, int] = {}
        for number, one in enumerate(waiting):
            if one.answer.done():  # its caller went away
                continue
            key: Hashable = _likeness(one.inputs) if self._joins and one.rows > 0 else number
            part = (key, filled.get(key, 0) // self._rows_max)
            filled[key] = filled.get(key, 0) + one.rows
            batches.setdefault(part, []).append(one)
        return list(batches.values())

    async def _answer(self, batch: list[_Waiting]) -> None:
        if len(batch) > 1:
            joined = {n: np.concatenate([one.inputs[n] for one in batch]) for n in batch[0].inputs}
            with suppress(TallyError):
                parts = _parts(await self._call(joined), [one.rows for one in batch])
                for one, part in zip(batch, parts, strict=True):
                    _settle(one, part)
                return
        for one in batch:
            if not one.answer.done():
                try:
                    _settle(one, await self._call(one.inputs))
                except TallyError as wrong:
                    _settle(one, wrong)

    async def _call(self, inputs: Tensors) -> Tensors:
        """One call of the model; whatever it raises becomes Failed, so that the work goes on."""
        self.calls += 1
        began = perf_counter()
        try:
            if self._last_s < INLINE_S_MAX:
                return self._predictor.predict(inputs)
            return await asyncio.to_thread(self._predictor.predict, inputs)
        except TallyError:
            raise
        except Exception as wrong:  # the model's edge: nothing it raises may end the work for the others
            raise Failed(f"{type(wrong).__name__}: {str(wrong)[:500]}", where="model") from wrong
        finally:
            self._last_s = perf_counter() - began


def _rows(inputs: Tensors) -> int:
    """Rows that all inputs have alike; 0 where they differ or have none, so that it is never joined."""
    counts = {array.shape[:1] for array in inputs.values()}
    return next(iter(counts))[0] if len(counts) == 1 and () not in counts else 0


def _likeness(inputs: Tensors) -> Hashable:
    """Requests with the same one can be joined: names, types, and shapes but for the rows."""
    return tuple((n, inputs[n].dtype.str, inputs[n].shape[1:]) for n in sorted(inputs))


def _parts(answers: Tensors, rows: Sequence[int]) -> list[Tensors]:
    """The answers cut up again; Failed when an answer has not one row for each row asked."""
    total = sum(rows)
    for name, array in answers.items():
        if array.shape[:1] != (total,):
            raise Failed(f"output {name!r} has shape {list(array.shape)} for {total} rows", where="model")
    ends = np.cumsum(rows).tolist()
    return [
        {n: array[end - count : end] for n, array in answers.items()}
        for count, end in zip(rows, ends, strict=True)
    ]


def _settle(one: _Waiting, outcome: Tensors | TallyError) -> None:
    """Tell the caller, unless it went away: telling it twice, or late, must not raise."""
    if one.answer.done():
        return
    if isinstance(outcome, TallyError):
        one.answer.set_exception(outcome)
    else:
        one.answer.set_result(outcome)
