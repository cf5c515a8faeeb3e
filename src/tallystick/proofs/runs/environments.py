"""What every tile for environments must do."""

from __future__ import annotations

import abc
import asyncio
from pathlib import Path

import pytest

from tallystick.core.errors import NotSupported, Refused
from tallystick.core.pipeline.spec import Function
from tallystick.core.values import Environment
from tallystick.ports.runs.environments import Built, Environments

__all__ = ["EnvironmentsProof"]

NO_REQUIREMENTS = (
    "-r x",
    "--index-url=http://x",
    "./x.whl",
    "x @ https://example.org/x.whl",
    "x==",
    "a\nb",
    "",
)


def wanting(*packages: str, indexes: tuple[str, ...] = ()) -> Function:
    """A component's code that asks for them."""
    return Function("it", "", packages, index_urls=indexes)


class EnvironmentsProof(abc.ABC):
    """Subclass it, say how a tile is opened and what can be had, and pytest runs all of this."""

    packages: tuple[str, str]
    """Two packages that can be had, neither of which needs the other."""
    nowhere = "no-such-package-of-anybody"

    @abc.abstractmethod
    def open(self, home: Path, *, room: bool = True) -> Environments:
        """A tile with its environments below ``home``. Without ``room`` it keeps none that it may remove."""

    async def made(self, environments: Environments, code: Function) -> Built:
        """An environment of what the code asks for."""
        return await environments.build(await environments.resolve(code), code, lambda _: None)

    def test_it_is_the_port(self, tmp_path: Path) -> None:
        """All methods are there."""
        assert isinstance(self.open(tmp_path), Environments)

    @pytest.mark.parametrize("text", NO_REQUIREMENTS)
    async def test_only_plain_requirements_are_taken(self, tmp_path: Path, text: str) -> None:
        """Nothing that could be an option, a path or an address, asked beforehand or not."""
        environments = self.open(tmp_path)
        with pytest.raises(NotSupported):
            environments.check(wanting(text))
        with pytest.raises(NotSupported):
            await environments.resolve(wanting(self.packages[0], text))

    async def test_an_index_that_nobody_allowed_is_refused(self, tmp_path: Path) -> None:
        """Whoever runs the hub says from where packages come."""
        environments, code = self.open(tmp_path), wanting(self.packages[0], indexes=("https://example.org/",))
        with pytest.raises(Refused):
            environments.check(code)
        with pytest.raises(Refused):
            await environments.resolve(code)

    async def test_a_lock_is_the_same_for_the_same_packages(self, tmp_path: Path) -> None:
        """In whatever order, at whatever time, and by whoever opens the home."""
        one, other = self.packages
        environments = self.open(tmp_path)
        environments.check(wanting(one, other))
        both = await asyncio.gather(
            environments.resolve(wanting(one, other)), environments.resolve(wanting(other, one, one))
        )
        assert both[0] == both[1] == await self.open(tmp_path).resolve(wanting(other, one))
        assert {one, other} <= both[0].packages.keys()
        assert both[0].lock
        alone = await environments.resolve(wanting(one))
        assert alone.digest != both[0].digest
        assert other not in alone.packages

    async def test_what_is_nowhere_is_not_supported(self, tmp_path: Path) -> None:
        """And it is named."""
        with pytest.raises(NotSupported, match=self.nowhere):
            await self.open(tmp_path).resolve(wanting(self.packages[0], self.nowhere))

    async def test_an_environment_is_built_once(self, tmp_path: Path) -> None:
        """Many at once and one later get the same, and only somebody who waits for it hears of it."""
        environments, code, heard = self.open(tmp_path), wanting(self.packages[0]), list[str]()
        environment = await environments.resolve(code)
        built = await asyncio.gather(*(environments.build(environment, code, heard.append) for _ in range(4)))
        assert len({one.python for one in built}) == 1
        assert heard
        assert await self.open(tmp_path).build(environment, code, pytest.fail) == built[0]
        self.is_whole(built[0])

    def is_whole(self, built: Built) -> None:
        """All of it is there, and what a wall must show has Python and runtime in it."""
        assert built.python.exists()
        assert built.runtime.is_dir()
        assert all(path.exists() for path in built.shown)
        assert built.runtime in built.shown
        assert any(built.python.is_relative_to(path) for path in built.shown)

    async def test_what_another_python_has_locked_is_refused(self, tmp_path: Path) -> None:
        """It would be other packages."""
        environments, code = self.open(tmp_path), wanting(self.packages[0])
        environment = await environments.resolve(code)
        for other in (("CPython 2.7.18", environment.platform), (environment.python, "plan9 mips")):
            with pytest.raises(NotSupported):
                await environments.build(
                    Environment(*other, environment.packages, environment.lock), code, lambda _: None
                )

    async def test_what_is_held_stays(self, tmp_path: Path) -> None:
        """However little room there is; and what had to go is there again when it is wanted."""
        environments, (one, other) = self.open(tmp_path, room=False), self.packages
        held = await self.made(environments, wanting(one))
        for _ in range(2):
            self.is_whole(await self.made(environments, wanting(other)))
            self.is_whole(await self.made(self.open(tmp_path, room=False), wanting(one, other)))
        self.is_whole(held)
        assert await self.made(environments, wanting(one)) == held
