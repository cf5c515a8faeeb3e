"""Route: which process answers for which endpoint at this moment.

Settling writes here, the doors read. Nothing is stored: after a start it is filled again by settling.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tallystick.core.errors import NotFound, Unavailable

__all__ = ["Live", "Routes"]

SHOWN_MAX = 10


@dataclass(frozen=True, slots=True)
class Live:
    """A serving process that said it was ready: its unix socket, and what it serves.

    It answers under the endpoint's name. ``model`` and ``version`` are those of the registry.
    """

    socket: Path
    generation: int
    model: str
    version: str


@dataclass(slots=True)
class Routes:
    """Endpoints by name: each has a process that answers, or a reason why none does, or both for a while."""

    _live: dict[str, Live] = field(default_factory=dict)
    _trouble: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def put(self, name: str, live: Live) -> None:
        """From now on ``live`` answers for endpoint ``name``; what answered before does so no more."""
        self._live[name] = live
        self._trouble.pop(name, None)

    def drop(self, name: str) -> None:
        """Forget endpoint ``name``; nothing happens when it is unknown."""
        self._live.pop(name, None)
        self._trouble.pop(name, None)

    def trouble(self, name: str, why: str, *, soon: bool = True) -> None:
        """Endpoint ``name`` exists, and ``why`` (its state or error) says why nothing new answers for it.

        ``soon`` tells whether it may answer by itself before long, or somebody must deploy. A process
        that does answer goes on doing so.
        """
        self._trouble[name] = (why, soon)

    def find(self, name: str) -> Live:
        """What answers for ``name``; Unavailable with the reason when nothing does, NotFound if unknown."""
        live = self._live.get(name)
        if live is not None:
            return live
        if name in self._trouble:
            why, soon = self._trouble[name]
            hint = "ask again soon" if soon else f"tally deploy MODEL --name {name}"
            raise Unavailable(why, where=f"endpoint {name}", hint=hint)
        known = self.names()
        shown = ", ".join(known[:SHOWN_MAX]) + (", ..." if len(known) > SHOWN_MAX else "")
        hint = f"known: {shown}" if known else "deploy a model first"
        raise NotFound(f"no endpoint is called {name[:100]!r}", hint=hint)

    def names(self) -> tuple[str, ...]:
        """Every endpoint that is known, sorted."""
        return tuple(sorted(self._live.keys() | self._trouble.keys()))
