"""What is installed beside the hub, where that is enough for a component; else an environment of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable

from tallystick.core.errors import NotSupported
from tallystick.core.pipeline.spec import Command, Component, Function
from tallystick.core.values import Environment
from tallystick.ports.runs.environments import Built, Environments
from tallystick.ports.tile import Place
from tallystick.tiles.bases.installed import check_packages, environment_stamp, installed_environment
from tallystick.tiles.bases.programs import command_environment

__all__ = ["LocalBases", "open_tile"]


class LocalBases:
    """See :class:`tallystick.ports.runs.bases.Bases`.

    ``environments`` builds what is not installed beside the hub; None where nothing does.
    """

    def __init__(self, environments: Environments | None) -> None:
        self._environments = environments
        self._installed: tuple[object, Environment | None] = (None, None)

    def check(self, component: Component) -> None:
        """See the port."""
        own = self._own(component)
        if own is not None and self._environments is not None:
            self._environments.check(own)
        elif own is not None:
            raise self._without(component.name, own)

    async def environment(self, component: Component) -> Environment:
        """See the port."""
        own, code = self._own(component), component.code
        if own is None:
            here = await self._beside_the_hub()
            if isinstance(code, Command):
                return await asyncio.to_thread(command_environment, code, component.env, here)
            return here
        if self._environments is None:
            raise self._without(component.name, own)
        return await self._environments.resolve(own)

    async def built(
        self, component: Component, environment: Environment | None, on_log: Callable[[str], None]
    ) -> Built | None:
        """See the port."""
        code = component.code
        if environment is None or not environment.lock or not isinstance(code, Function):
            return None
        if self._environments is None:
            raise self._without(component.name, code)
        return await self._environments.build(environment, code, on_log)

    def stamp(self) -> Hashable:
        """See the port."""
        return environment_stamp()

    def _own(self, component: Component) -> Function | None:
        """The function whose packages are not installed beside the hub, or are to come from elsewhere."""
        code = component.code
        if not isinstance(code, Function) or not code.packages:
            return None
        if code.index_urls:
            return code
        try:
            check_packages(code.packages, component.name)
        except NotSupported:
            return code
        return None

    def _without(self, where: str, code: Function) -> NotSupported:
        """Why it cannot run where nothing builds environments."""
        check_packages(code.packages, where)
        return NotSupported(
            f"it names a package index of its own ({code.index_urls[0][:100]})",
            where=where,
            hint="an environment for each component: pip install 'tallystick[environments]'",
        )

    async def _beside_the_hub(self) -> Environment:
        """Looked at anew whenever a package was installed or removed."""
        stamp, (known, installed) = environment_stamp(), self._installed
        if installed is None or known != stamp:
            installed = await asyncio.to_thread(installed_environment)
            self._installed = (stamp, installed)
        return installed


def open_tile(place: Place) -> LocalBases:
    """What is not installed, ``place.parts["environments"]`` builds, where it is given."""
    return LocalBases(place.parts.get("environments"))
