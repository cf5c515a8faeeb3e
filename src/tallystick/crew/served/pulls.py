"""Gradients of a served model: the half of the exchange that runs beside the model.

A gradient has two halves: the answer must be known before anybody can say what is wanted of it. So a judge
sends rows and gets logits with a token, and sends the token with weights and gets gradients. Meanwhile
the model's one thread waits in the middle of its ``pull``, with all that the way back needs. Only one such
pull is kept: the next one, a minute of silence and the end of the process each let it go.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from tallystick.core.errors import BadInput, Conflict, Failed, NotSupported, TallyError
from tallystick.ports.models.runtime import Differentiable, Predictor

__all__ = ["KEPT_S", "Pulls"]

KEPT_S = 60.0
"""How long a pull waits for its weights."""

T = TypeVar("T")
Tensors = Mapping[str, np.ndarray]


class _LetGo(Exception):
    """Nobody wants this pull's gradients any more; raised in the middle of it."""


class _Pull:
    """One pull that is kept between its halves; of one event loop and one thread."""

    def __init__(self, token: str, loop: asyncio.AbstractEventLoop) -> None:
        self.token = token
        self.logits: asyncio.Future[np.ndarray] = loop.create_future()
        self.gradients: asyncio.Future[Tensors] | None = None
        self._loop = loop
        self._weights: queue.SimpleQueue[np.ndarray | None] = queue.SimpleQueue()

    def weigh(self, logits: np.ndarray) -> np.ndarray:
        """In the model's thread: hand the logits over and wait for what is wanted of them."""
        self._loop.call_soon_threadsafe(self._known, np.ascontiguousarray(logits, np.float32))
        try:
            weights = self._weights.get(timeout=KEPT_S)
        except queue.Empty:
            weights = None
        if weights is None:
            raise _LetGo
        return weights

    def _known(self, logits: np.ndarray) -> None:
        if not self.logits.done():
            self.logits.set_result(logits)

    def go_on(self, weights: np.ndarray | None) -> None:
        """The weights; None lets go of it."""
        self._weights.put(weights)


class Pulls:
    """Gradients and inner values of one model, one question at a time."""

    def __init__(self, predictor: Predictor) -> None:
        self._model = predictor
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pull")
        self._tokens = itertools.count(1)
        self._kept: _Pull | None = None

    async def begin(self, inputs: Tensors) -> tuple[str, np.ndarray]:
        """A token and the logits (n, classes); NotSupported where this model has no gradients."""
        model, loop = self._differentiable(), asyncio.get_running_loop()
        self._let_go()
        kept = self._kept = _Pull(str(next(self._tokens)), loop)

        def work() -> Tensors:
            return model.pull(inputs, kept.weigh)[1]

        kept.gradients = loop.run_in_executor(self._thread, work)
        kept.gradients.add_done_callback(_heard)
        await asyncio.wait((kept.logits, kept.gradients), return_when=asyncio.FIRST_COMPLETED)
        if not kept.logits.done():
            await _outcome(kept.gradients)
            raise Failed("it has gradients of nothing that it says", where="model")
        return kept.token, kept.logits.result()

    async def finish(self, token: str, weights: np.ndarray) -> Tensors:
        """The gradients by the inputs that ``begin`` was given.

        Conflict where that pull was let go, BadInput for weights that do not fit its logits.
        """
        kept = self._kept
        if kept is None or kept.gradients is None or kept.token != token or not kept.logits.done():
            raise Conflict("this pull is over", where="pull", hint="send the rows again")
        logits = kept.logits.result()
        if weights.shape != logits.shape or weights.dtype != np.float32:
            shown = f"{weights.dtype.name} {list(weights.shape)}"
            raise BadInput(f"the weights are {shown}, not float32 {list(logits.shape)}", where="weights")
        self._kept = None
        kept.go_on(weights)
        return await _outcome(kept.gradients)

    async def hidden(self, inputs: Tensors) -> np.ndarray:
        """What goes into the model's last layer (n, units)."""
        model = self._differentiable()
        self._let_go()
        return await _outcome(asyncio.get_running_loop().run_in_executor(self._thread, model.hidden, inputs))

    def close(self) -> None:
        """Let go of what is kept, and take no more."""
        self._let_go()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _let_go(self) -> None:
        if self._kept:
            self._kept.go_on(None)
            self._kept = None

    def _differentiable(self) -> Differentiable:
        if not isinstance(self._model, Differentiable):
            raise NotSupported("the runtime that loads this model has no gradients", where="model")
        return self._model


def _heard(ended: asyncio.Future[Tensors]) -> None:
    """A pull that was let go ends with an error that nobody waits for."""
    if not ended.cancelled():
        ended.exception()


async def _outcome(work: asyncio.Future[T]) -> T:
    """Its value; whatever the model raised is Failed."""
    try:
        return await work
    except TallyError:
        raise
    except _LetGo:
        raise Conflict("this pull is over", where="pull", hint="send the rows again") from None
    except Exception as wrong:  # the model's edge: it may raise whatever it likes
        raise Failed(f"{type(wrong).__name__}: {str(wrong)[:500]}", where="model") from wrong
