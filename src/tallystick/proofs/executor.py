"""What every executor must do. Subclass it and say how the tile opens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tallystick.core.errors import NotSupported
from tallystick.core.names import check_digest
from tallystick.core.pipeline.spec import Command, Component, Function
from tallystick.ports.executor import Executor, InputFile, Job, Outcome
from tallystick.proofs.executor_steps import component

__all__ = ["ExecutorProof"]

AT_ONCE = 6


class ExecutorProof:
    """The conformance suite of :class:`tallystick.ports.executor.Executor`."""

    async def open(self, home: Path) -> Executor:
        """Open the tile."""
        raise NotImplementedError

    async def close(self) -> None:
        """End what :meth:`open` has opened beside the tile."""

    @pytest_asyncio.fixture
    async def executor(self, tmp_path: Path) -> AsyncIterator[Executor]:
        """The tile."""
        (tmp_path / "home").mkdir()
        yield await self.open(tmp_path / "home")
        await self.close()

    async def run(
        self,
        executor: Executor,
        folder: Path,
        step: str | Component,
        params: Mapping[str, Any] | None = None,
        given: tuple[InputFile, ...] = (),
        log: list[str] | None = None,
    ) -> Outcome:
        """Run a step in ``folder/work``."""
        what = component(step) if isinstance(step, str) else step
        workdir = folder / "work"
        workdir.mkdir(parents=True)
        artifacts = {"given": given} if given else {}
        return await executor.run(
            Job(f"proof/{what.name}", what, workdir, params or {}, artifacts),
            (log if log is not None else []).append,
        )

    def inputs(self, folder: Path, count: int) -> tuple[InputFile, ...]:
        """Files with a text and metadata each."""
        files = []
        for number in range(count):
            path = folder / f"input-{number}"
            path.write_text(f"text {number}")
            files.append(InputFile(path, "system.Dataset", {"n": number}))
        return tuple(files)

    # ---------------------------------------------------------------------- what it says of itself

    async def test_its_manner_is_one_line_for_people(self, executor: Executor) -> None:
        """It says how steps come to be, before the first one and after it."""
        assert isinstance(executor, Executor)
        assert executor.manner.isprintable()
        assert "step" in executor.manner

    # ---------------------------------------------------------------------- what goes in

    async def test_parameters_keep_their_types(self, executor: Executor, tmp_path: Path) -> None:
        params = {
            "whole": 3,
            "real": 2,
            "text": "ä\n\"'",
            "yes": False,
            "items": [1, 2.5, "x", None, [1]],
            "fields": {"a": 1, "b": {"c": [2]}},
        }
        outcome = await self.run(executor, tmp_path, "echo", params)
        assert outcome.error == ""
        seen = outcome.params["Output"]
        assert seen["given"] == [*params.values(), "its own"]
        assert seen["types"] == [
            *("int", "float", "str", "bool", "list", "dict", "str"),
            *("int", "float", "str", "NoneType", "list"),
        ]

    async def test_an_optional_parameter_may_be_none(self, executor: Executor, tmp_path: Path) -> None:
        params = {"whole": 1, "real": 0.5, "text": "", "yes": True, "items": [], "fields": {}, "unsaid": None}
        outcome = await self.run(executor, tmp_path, "echo", params)
        assert outcome.params["Output"]["given"][-1] == "its own"

    async def test_an_artifact_goes_in(self, executor: Executor, tmp_path: Path) -> None:
        outcome = await self.run(executor, tmp_path, "read", given=self.inputs(tmp_path, 1))
        assert outcome.params["Output"] == {"text": "text 0", "metadata": {"n": 0}, "same": True}

    async def test_a_list_of_artifacts_goes_in(self, executor: Executor, tmp_path: Path) -> None:
        outcome = await self.run(executor, tmp_path, "gather", given=self.inputs(tmp_path, 3))
        assert outcome.error == ""
        assert outcome.params["Output"] == [["text 0", 0], ["text 1", 1], ["text 2", 2]]

    async def test_an_optional_artifact_may_be_absent(self, executor: Executor, tmp_path: Path) -> None:
        outcome = await self.run(executor, tmp_path, "without_input")
        assert outcome.params == {"Output": True}

    # ---------------------------------------------------------------------- what comes out

    async def test_a_file_comes_out(self, executor: Executor, tmp_path: Path) -> None:
        outcome = await self.run(executor, tmp_path, "write_file", {"text": "four"})
        assert (outcome.error, outcome.params) == ("", {"Output": 4})
        made = outcome.artifacts["made"]
        assert made.path.read_text() == "four"
        assert made.path.is_relative_to(tmp_path / "work")
        assert made.schema == "system.Dataset"
        assert made.metadata == {"rows": 2, "nested": {"list": [1, 2.5, "three", None, True]}}

    async def test_a_folder_comes_out(self, executor: Executor, tmp_path: Path) -> None:
        outcome = await self.run(executor, tmp_path, "write_folder")
        assert outcome.error == ""
        made = outcome.artifacts["made"]
        assert (made.path / "inner" / "latest").read_bytes() == b"\x00\x01"
        assert (made.schema, made.metadata) == ("system.Model", {"framework": "none"})

    async def test_metrics_come_out(self, executor: Executor, tmp_path: Path) -> None:
        outcome = await self.run(executor, tmp_path, "measure")
        assert outcome.artifacts["made"].metadata == {"accuracy": 0.75}

    @pytest.mark.parametrize(
        "step", ["leave_nothing", "link_out", "link_out_within", "pipe_out", "not_a_number", "not_an_int"]
    )
    async def test_an_output_that_cannot_be_taken(
        self, executor: Executor, tmp_path: Path, step: str
    ) -> None:
        outcome = await self.run(executor, tmp_path, step)
        assert outcome.error
        assert "\n" not in outcome.error
        assert (outcome.params, outcome.artifacts) == ({}, {})
        if step not in ("not_a_number", "not_an_int"):
            assert "'made'" in outcome.error

    async def test_a_step_that_raises(self, executor: Executor, tmp_path: Path) -> None:
        outcome = await self.run(executor, tmp_path, "fail", {"text": "it broke\nhere"})
        assert outcome.error == "ValueError: it broke here"
        assert (outcome.params, outcome.artifacts) == ({}, {})

    async def test_lines_come_in_order(self, executor: Executor, tmp_path: Path) -> None:
        log: list[str] = []
        outcome = await self.run(executor, tmp_path, "speak", {"count": 50}, log=log)
        assert outcome.error == ""
        assert [line for line in log if line.startswith("line ")] == [f"line {n}" for n in range(50)]

    async def test_many_at_once(self, executor: Executor, tmp_path: Path) -> None:
        runs = [
            self.run(executor, tmp_path / str(n), "write_file", {"text": "x" * n}) for n in range(AT_ONCE)
        ]
        outcomes = await asyncio.gather(*runs)
        assert [outcome.params["Output"] for outcome in outcomes] == list(range(AT_ONCE))

    # ---------------------------------------------------------------------- what is said before

    async def test_what_can_be_run(self, executor: Executor) -> None:
        for step in ("echo", "gather", "measure"):
            executor.check(component(step))

    async def test_a_package_that_is_missing_is_named(self, executor: Executor) -> None:
        with pytest.raises(NotSupported, match="no-such-package-of-anybody"):
            executor.check(component("speak", code=Function("speak", "", ("no-such-package-of-anybody>=1",))))

    async def test_a_container_s_command_is_refused_with_the_reason(self, executor: Executor) -> None:
        command = Command("ghcr.io/acme/train:1", ("python", "train.py"))
        with pytest.raises(NotSupported, match="container's command") as refused:
            executor.check(component("speak", code=command))
        assert refused.value.where == "speak"

    async def test_the_environment_is_told_and_stays(self, executor: Executor) -> None:
        first = await executor.environment(component("speak"))
        assert check_digest(first.digest) == (await executor.environment(component("echo"))).digest
        assert first.python
        assert first.platform
