"""What every registry must do. Subclass :class:`RegistryProof`.

Tests use names of their own, so that one registry may serve them all. The tests are coroutines:
run them with pytest-asyncio in its ``auto`` mode.
"""

from __future__ import annotations

import abc
import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.ports.registry import Registry

__all__ = ["RegistryProof"]


def new_name() -> str:
    """A name that no other test uses."""
    return f"m-{secrets.token_hex(6)}"


def contents(folder: Path) -> dict[str, bytes]:
    """All files below ``folder`` by their relative path."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class RegistryProof(abc.ABC):
    """Runs, versions, aliases, files there and back, and what must be refused."""

    @abc.abstractmethod
    async def open(self, home: Path) -> Registry:
        """Open the registry of ``home``, an empty folder at first."""

    @abc.abstractmethod
    async def close(self, registry: Registry) -> None:
        """Let go of it."""

    @abc.abstractmethod
    async def log_figures(
        self, registry: Registry, run_id: str, metrics: Mapping[str, float], params: Mapping[str, str]
    ) -> None:
        """Log to a run as a client of the registry would."""

    @abc.abstractmethod
    async def log_model(self, registry: Registry, folder: Path, run_id: str) -> str:
        """Log ``folder`` as a model of a run, as a client of the registry would; its id."""

    @pytest.fixture
    async def registry(self, tmp_path: Path) -> AsyncIterator[Registry]:
        """A registry; a subclass may let all tests share one."""
        home = tmp_path / "home"
        home.mkdir()
        registry = await self.open(home)
        yield registry
        await self.close(registry)

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A model's files: nested, empty, over a chunk long, with odd names."""
        folder = tmp_path / "model"
        (folder / "data" / "deep").mkdir(parents=True)
        (folder / "MLmodel").write_text("flavors: {}\n")
        (folder / "empty").touch()
        (folder / "data" / "weights.bin").write_bytes(bytes(range(256)) * 9000)
        (folder / "data" / "deep" / "a b ü+&=,'[1]?:.txt").write_text("odd")
        return folder

    async def test_runs_of_an_experiment_share_it(self, registry: Registry) -> None:
        experiment = new_name()
        first, second = [await registry.begin_run(experiment, n, {"k": "v"}) for n in ("one", "two")]
        assert first[0] == second[0]
        assert first[1] != second[1]

    async def test_runs_begun_at_once_make_one_experiment(self, registry: Registry) -> None:
        experiment = new_name()
        begun = await asyncio.gather(*(registry.begin_run(experiment, str(i), {}) for i in range(8)))
        assert len({experiment_id for experiment_id, _ in begun}) == 1
        assert len({run_id for _, run_id in begun}) == 8

    @pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
    async def test_a_run_ends(self, registry: Registry, status: str) -> None:
        _, run_id = await registry.begin_run(new_name(), "run", {})
        await registry.end_run(run_id, status)

    async def test_a_run_ends_in_no_other_way(self, registry: Registry) -> None:
        _, run_id = await registry.begin_run(new_name(), "run", {})
        for status in ("", "RUNNING", "finished", "LOST"):
            with pytest.raises(BadInput):
                await registry.end_run(run_id, status)

    async def test_an_unknown_run_is_not_found(self, registry: Registry) -> None:
        with pytest.raises(NotFound):
            await registry.end_run("0" * 32, "FINISHED")
        with pytest.raises(NotFound):
            await registry.run_data("0" * 32)

    async def test_a_runs_figures_are_its_latest(self, registry: Registry) -> None:
        _, run_id = await registry.begin_run(new_name(), "run", {})
        assert (await registry.run_data(run_id)).metrics == {}
        await self.log_figures(
            registry, run_id, {"acc": 0.5, "loss": 2.0, "odd": float("nan")}, {"lr": "0.1"}
        )
        await self.log_figures(registry, run_id, {"acc": 0.75}, {})
        data = await registry.run_data(run_id)
        assert data.metrics == {"acc": 0.75, "loss": 2.0}, "and what is not a finite number is left out"
        assert data.params == {"lr": "0.1"}

    async def test_a_run_has_the_tags_that_it_began_with(self, registry: Registry) -> None:
        _, run_id = await registry.begin_run(new_name(), "run", {"tally.run": "run-1", "k": "ü"})
        tags = (await registry.run_data(run_id)).tags
        assert {k: tags.get(k) for k in ("tally.run", "k")} == {"tally.run": "run-1", "k": "ü"}

    async def test_versions_count_from_one(self, registry: Registry, folder: Path) -> None:
        name, other = new_name(), new_name()
        _, run_id = await registry.begin_run(new_name(), "run", {})
        first = await registry.register(name, folder, {"n": "1"})
        second = await registry.register(name, folder, {"n": "2"}, run_id=run_id)
        assert (first.name, first.version, first.tags, first.run_id) == (name, 1, {"n": "1"}, "")
        assert (second.version, second.tags, second.run_id) == (2, {"n": "2"}, run_id)
        assert (await registry.register(other, folder, {})).version == 1
        assert list(await registry.versions(name)) == [second, first]
        everything = [v for v in await registry.versions() if v.name in (name, other)]
        assert [(v.name, v.version) for v in everything] == [(other, 1), (name, 2), (name, 1)]

    async def test_what_is_registered_is_the_folder(
        self, registry: Registry, folder: Path, tmp_path: Path
    ) -> None:
        """A run may have logged a model under the same name: what was judged is what is registered."""
        name, other = new_name(), tmp_path / "other"
        other.mkdir()
        (other / "MLmodel").write_text("flavors: {other: {}}\n")
        _, run_id = await registry.begin_run(new_name(), "run", {})
        model_id = await self.log_model(registry, other, run_id)
        made = await registry.register(name, folder, {}, run_id=run_id)
        assert (made.model_id != model_id, made.run_id) == (True, run_id)
        assert await registry.fetch(name, 1, tmp_path / "got") == made
        assert contents(tmp_path / "got") == contents(folder)

    async def test_a_version_of_an_unknown_run_is_not_found(self, registry: Registry, folder: Path) -> None:
        with pytest.raises(NotFound):
            await registry.register(new_name(), folder, {}, run_id="0" * 32)

    async def test_files_come_back_as_they_went(
        self, registry: Registry, folder: Path, tmp_path: Path
    ) -> None:
        name = new_name()
        made = await registry.register(name, folder, {"a": "b"})
        assert await registry.fetch(name, made.version, tmp_path / "got") == made
        assert contents(tmp_path / "got") == contents(folder)

    async def test_nothing_is_fetched_over_what_exists(
        self, registry: Registry, folder: Path, tmp_path: Path
    ) -> None:
        name, dest = new_name(), tmp_path / "there"
        await registry.register(name, folder, {})
        dest.mkdir()
        with pytest.raises(Conflict):
            await registry.fetch(name, 1, dest)
        assert list(dest.iterdir()) == []

    async def test_an_unknown_version_is_not_found(
        self, registry: Registry, folder: Path, tmp_path: Path
    ) -> None:
        name = new_name()
        with pytest.raises(NotFound):
            await registry.versions(name)
        await registry.register(name, folder, {})
        for unknown in ((name, 2), (new_name(), 1)):
            with pytest.raises(NotFound):
                await registry.fetch(*unknown, tmp_path / "got")
        assert not (tmp_path / "got").exists()

    @pytest.mark.parametrize("name", ["", "a/b", "a:b"])
    async def test_a_bad_name_is_refused(self, registry: Registry, folder: Path, name: str) -> None:
        with pytest.raises(BadInput):
            await registry.register(name, folder, {})

    async def test_a_name_with_a_quote_is_a_name(self, registry: Registry, folder: Path) -> None:
        name = f"it's {new_name()}"
        await registry.register(name, folder, {})
        assert [v.name for v in await registry.versions(name)] == [name]

    async def test_only_plain_files_are_registered(
        self, registry: Registry, folder: Path, tmp_path: Path
    ) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()
        with pytest.raises(BadInput):
            await registry.register(new_name(), empty, {})
        (folder / "data" / "link").symlink_to("/etc/hostname")
        with pytest.raises(BadInput):
            await registry.register(new_name(), folder, {})
        (folder / "data" / "link").unlink()
        os.mkfifo(folder / "pipe")
        with pytest.raises(BadInput):
            await registry.register(new_name(), folder, {})

    async def test_an_alias_moves(self, registry: Registry, folder: Path) -> None:
        name = new_name()
        for _ in range(2):
            await registry.register(name, folder, {})
        await registry.point(name, "champion", 1)
        assert [v.aliases for v in await registry.versions(name)] == [(), ("champion",)]
        await registry.point(name, "champion", 2)
        await registry.point(name, "latest-good", 2)
        newest, oldest = await registry.versions(name)
        assert (set(newest.aliases), oldest.aliases) == ({"champion", "latest-good"}, ())

    async def test_an_alias_needs_a_version(self, registry: Registry, folder: Path) -> None:
        name = new_name()
        await registry.register(name, folder, {})
        for unknown in ((name, 2), (new_name(), 1)):
            with pytest.raises(NotFound):
                await registry.point(unknown[0], "champion", unknown[1])

    async def test_registering_at_once_gives_each_a_version(self, registry: Registry, folder: Path) -> None:
        name = new_name()
        made = await asyncio.gather(*(registry.register(name, folder, {}) for _ in range(4)))
        assert sorted(m.version for m in made) == [1, 2, 3, 4]
