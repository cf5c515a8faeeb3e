"""What each component runs on: what is installed beside the hub, or an environment of its own packages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tallystick.core.errors import NotSupported
from tallystick.core.pipeline.spec import Command, Component, Function
from tallystick.core.values import Environment
from tallystick.ports.executor import Job
from tallystick.ports.runs.environments import Environments
from tallystick.tiles.executor.installed import check_packages, environment_stamp, installed_environment
from tallystick.tiles.executor.programs import command_environment
from tallystick.tiles.executor.python import HUB, Python

__all__ = ["Bases"]


class Bases:
    """``environments`` builds what is not installed beside the hub; None where nothing does."""

    def __init__(self, environments: Environments | None) -> None:
        self._environments = environments
        self._installed: tuple[object, Environment | None] = (None, None)

    def check(self, component: Component) -> None:
        """NotSupported for a package that cannot be had, Refused for an index that is not allowed."""
        own = self._own(component)
        if own is not None and self._environments is not None:
            self._environments.check(own)
        elif own is not None:
            raise self._without(component.name, own)

    async def environment(self, component: Component) -> Environment:
        """What ``component`` is to run on."""
        own, code = self._own(component), component.code
        if own is None:
            here = await self._beside_the_hub()
            if isinstance(code, Command):
                return await asyncio.to_thread(command_environment, code, component.env, here)
            return here
        if self._environments is None:
            raise self._without(component.name, own)
        return await self._environments.resolve(own)

    async def python(self, job: Job, on_log: Callable[[str], None]) -> Python:
        """The Python for a job, built now where it has to be."""
        code, environment = job.component.code, job.environment
        if environment is None or not environment.lock or not isinstance(code, Function):
            return HUB
        if self._environments is None:
            raise self._without(job.component.name, code)
        built = await self._environments.build(environment, code, on_log)
        shown = tuple(str(path) for path in built.shown)
        return Python(str(built.python), str(built.runtime), shown, built.hold)

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
