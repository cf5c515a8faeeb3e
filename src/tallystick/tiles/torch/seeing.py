"""What a module did on its way: its last layer's input, and what went into its final softmax.

A module is code, so this is seen as it runs: torch tells a mode of every operation that Python code asks for
(torch.overrides.TorchFunctionMode). A scripted module asks for none, and then only its answer is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Seen", "seeing"]

LAYERS = frozenset(("linear", "conv1d", "conv2d", "conv3d", "bilinear"))
ENDS = frozenset(("softmax", "log_softmax"))
ROUNDS = frozenset(("round", "floor", "ceil", "trunc", "fix"))
"""The true slope of these, 0, would hide from attacks what lies behind (BPDA; Athalye et al. 2018)."""

TINY = 1e-30


class Seen:
    """``last`` is the input of the last linear or convolutional layer, None where there was none."""

    def __init__(self) -> None:
        self.last: Any = None
        self._end: tuple[Any, Any] | None = None

    def note(self, name: str, given: Any, answer: Any) -> None:
        """An operation by its name in torch, its first argument, and its answer."""
        if name in LAYERS:
            self.last = given
        elif name in ENDS:
            self._end = (given, answer)

    def before_softmax(self, answer: Any) -> Any:
        """What went into the softmax that ``answer`` came out of; of other probabilities their logarithms."""
        import torch

        if self._end is not None and self._end[1] is answer and self._end[0].shape == answer.shape:
            return self._end[0]
        if answer.ndim != 2 or not len(answer) or answer.shape[1] < 2:
            return answer
        with torch.no_grad():
            sums = answer.sum(dim=1)
            shares = bool((answer >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-4)
        return answer.clamp_min(TINY).log() if shares else answer


@contextmanager
def seeing() -> Iterator[Seen]:
    """Note what is worked meanwhile, in this thread."""
    from torch.overrides import TorchFunctionMode

    seen = Seen()

    class Mode(TorchFunctionMode):
        """Works each operation as it is, and notes it; what rounds, on the way back, as if it did nothing."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            answer = func(*args, **(kwargs or {}))
            name, first = getattr(func, "__name__", ""), args[0] if args else None
            if name in ROUNDS and getattr(answer, "requires_grad", False) and answer is not first:
                answer = first + (answer - first).detach()
            seen.note(name, first, answer)
            return answer

    with Mode():
        yield seen
