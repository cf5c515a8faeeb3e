"""Bases: what each component runs on, what is installed beside the hub or an environment of its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol, runtime_checkable

from tallystick.core.pipeline.spec import Component
from tallystick.core.values import Environment
from tallystick.ports.runs.environments import Built

__all__ = ["PROGRAMS", "Bases"]

PROGRAMS = "/usr/local/bin:/usr/bin:/bin"
"""A step's PATH, after the folder of its Python."""


@runtime_checkable
class Bases(Protocol):
    """What components run on. An executor stands on it: that knows how to run, and this on what."""

    def check(self, component: Component) -> None:
        """NotSupported for a package that cannot be had, Refused for an index that is not allowed."""
        ...

    async def environment(self, component: Component) -> Environment:
        """What ``component`` is to run on, resolved and not yet built; see :meth:`Executor.environment`."""
        ...

    async def built(
        self, component: Component, environment: Environment | None, on_log: Callable[[str], None]
    ) -> Built | None:
        """What ``environment`` says, built now where it is not yet; None is what is installed beside the hub.

        See :meth:`Environments.build`; NotSupported, with the reason, where nothing builds.
        """
        ...

    def stamp(self) -> Hashable:
        """Changes whenever a package is installed or removed beside the hub. Takes some 20 us."""
        ...
