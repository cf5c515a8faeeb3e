"""A run's steps in heaps: what became of all turns of a loop, of a graph inside, of alike tasks. Pure.

A heap is found under its path. In ``outer[3]/inner[2]/train`` the heaps are that step itself;
``outer[3]/inner[2]`` and ``outer[3]/inner``, a turn and all turns; ``outer[3]/inner/train``, the step in all
turns; ``outer[3]``; and ``outer``, ``outer/inner``, ``outer/inner/train``, with all turns of both loops.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tallystick.core.pipeline.spec import Constant, Dag, FromInput, FromTask, Loop, Task
from tallystick.core.run.events import Run, Step, StepState

__all__ = ["Pile", "Piles", "Turns", "bare"]

_TURN = re.compile(r"\[(\d{1,9})\]$", re.ASCII)
_ORDER = ("failed", "running", "backing off", "cancelled", "succeeded", "cached", "skipped")


def bare(path: str) -> str:
    """A path without the numbers of turns."""
    *inside, last = path.split("/")
    return "/".join([*(_TURN.sub("", part) for part in inside), last])


@dataclass(slots=True)
class Pile:
    """Steps that stand as one: how many in which state, from when to when; ``one`` where there is only one.

    ``own`` of them stand for the whole of a graph that was never begun.
    """

    states: dict[StepState, int] = field(default_factory=dict)
    began_ms: int = 0
    ended_ms: int = 0
    one: Step | None = None
    own: int = 0

    def add(self, step: Step, *, own: bool = False) -> None:
        """Put a step on it; ``own`` where the heap has its very place, and not one around it."""
        self.own += own
        self.one = None if self.states else step
        self.states[step.state] = self.states.get(step.state, 0) + 1
        if step.started_ms and (not self.began_ms or step.started_ms < self.began_ms):
            self.began_ms = step.started_ms
        self.ended_ms = max(self.ended_ms, step.ended_ms)

    def merge(self, other: Pile) -> None:
        """Put all of another on it."""
        self.one = None if self.states else other.one
        self.own += other.own
        for state, count in other.states.items():
            self.states[state] = self.states.get(state, 0) + count
        self.began_ms = min(filter(None, (self.began_ms, other.began_ms)), default=0)
        self.ended_ms = max(self.ended_ms, other.ended_ms)

    @property
    def total(self) -> int:
        """How many lie on it."""
        return sum(self.states.values())

    @property
    def done(self) -> int:
        """How many have ended well, those that were skipped included."""
        return sum(n for s, n in self.states.items() if s.done or s is StepState.SKIPPED)

    @property
    def open(self) -> bool:
        """Whether one of them has not ended."""
        return any(not state.ended for state in self.states)

    @property
    def state(self) -> str:
        """The state that matters most; empty for nothing."""
        return next((name for name in _ORDER if StepState(name) in self.states), "")

    def said(self) -> str:
        """``37 succeeded, 2 running``."""
        return ", ".join(f"{self.states[StepState(n)]:,} {n}" for n in _ORDER if StepState(n) in self.states)


@dataclass(frozen=True, slots=True)
class Turns:
    """How far a loop is: turns ``done`` of ``total`` (0: nobody knows); ``bad`` and ``busy`` by number."""

    begun: tuple[int, ...]
    done: int
    total: int
    bad: tuple[int, ...]
    busy: tuple[int, ...]

    def said(self) -> str:
        """``37 of 100 done``."""
        of = f" of {self.total:,}" if self.total else f" of {len(self.begun):,} begun"
        return f"{self.done:,}{of} done"


class Piles:
    """All heaps of a run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.steps: Mapping[str, Step] = {step.path: step for step in run.steps}
        self._piles: dict[str, Pile] = {}
        self._turns: dict[str, set[int]] = {}
        for step in run.steps:
            depth = step.path.count("/")
            for key in self._keys(step.path):
                self._piles.setdefault(key, Pile()).add(step, own=key.count("/") == depth)

    def at(self, path: str) -> Pile:
        """The heap of a path; an empty one where nothing has begun."""
        return self._piles.get(path) or Pile()

    def of(self, paths: Iterable[str]) -> Pile:
        """The heaps of some paths as one."""
        whole = Pile()
        for path in paths:
            whole.merge(self.at(path))
        return whole

    def _keys(self, path: str) -> Iterable[str]:
        parts = path.split("/")
        inner = [_TURN.sub("", part) for part in parts[:-1]]
        if inner == parts[:-1]:  # no loop around it
            return ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
        keys: dict[str, None] = {}
        for exact in range(len(parts)):
            for length in range(max(1, exact), len(parts) + 1):
                keys["/".join([*parts[:exact], *inner[exact:length], *parts[len(inner) : length]])] = None
        for i, (own, name) in enumerate(zip(parts, inner, strict=False)):
            if own != name:
                self._turns.setdefault("/".join([*parts[:i], name]), set()).add(int(own[len(name) + 1 : -1]))
        return keys

    # -------------------------------------------------------------------------------------------------- loops

    def turns(self, task: Task, prefix: str) -> Turns:
        """How far the loop ``task`` is, in the graph whose paths begin with ``prefix``."""
        path = prefix + task.name
        begun = sorted(self._turns.get(path, ()))
        total = self._items(task.loop, prefix) if task.loop else 0
        done, bad, busy = 0, [], []
        for i in begun:
            pile = self.at(f"{path}[{i}]")
            if StepState.FAILED in pile.states or StepState.CANCELLED in pile.states:
                bad.append(i)
            elif pile.open:
                busy.append(i)
            elif isinstance(task.body, Dag) and self._over(task.body, f"{path}[{i}]/"):
                done += 1
        return Turns(tuple(begun), done, max(total, len(begun)) if total else 0, tuple(bad), tuple(busy))

    def _items(self, loop: Loop, prefix: str) -> int:
        """How many items a loop has, where that can be known already; 0 where not."""
        items, found = loop.items, None
        if isinstance(items, Constant):
            found = items.value
        elif isinstance(items, FromInput) and not prefix and not items.item_field:
            found = self.run.params.get(items.name)
        elif isinstance(items, FromTask) and not items.item_field:
            found = self._output(prefix + items.task, items.output)
        return len(found) if isinstance(found, list | tuple) else 0

    def _output(self, path: str, name: str) -> Any:
        step = self.steps.get(path)
        if step is None:
            return None
        return step.outputs.params.get(name, step.outputs.artifacts.get(name))

    def _over(self, dag: Dag, prefix: str) -> bool:
        """Whether every task of a graph has ended."""
        return all(self._ended(task, prefix) for task in dag.tasks)

    def _ended(self, task: Task, prefix: str) -> bool:
        path = prefix + task.name
        step = self.steps.get(path)
        if step is not None or not isinstance(task.body, Dag):
            return step is not None and step.state.ended
        if not task.loop:
            return self._over(task.body, f"{path}/")
        turns = self.turns(task, prefix)
        return bool(turns.begun) and turns.done == (turns.total or len(turns.begun))
