"""What can be wanted of a golden pipeline's run, and short ways to say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.kfp.chance import Rule

__all__ = ["Wanted", "calls", "file", "gives", "one_of", "prints", "words"]


@dataclass(frozen=True)
class one_of:  # noqa: N801  reason: it reads as what it says in the table
    """Any of these."""

    values: list[Any]


@dataclass(frozen=True)
class Wanted:
    """How a run with ``params`` ends, its outputs, the states of steps, and what stands in their logs.

    ``packages`` are what it needs installed, ``long`` says that it only waits for minutes. In ``params``,
    ``{run NAME}`` stands for a run of the golden pipeline NAME, and ``{HOME}`` for a folder. ``program`` is
    one that stands in no image and nowhere else: ``stand-in.sh`` takes its place, and notes its arguments.
    ``artifacts`` are those of steps, as STEP:OUTPUT, with what :func:`file` says of them.
    ``walls`` off: steps are plain processes, which see the whole machine, as they do with kfp.local. With
    ``no_gpus`` those that ask for a GPU run without. A step is named with its state, or with one of its
    outputs. ``rule`` is what holds however chance decides.
    """

    state: str = "succeeded"
    params: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, Any] = field(default_factory=dict)
    logs: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, Any] = field(default_factory=dict)
    packages: str = ""
    long: bool = False
    program: str = ""
    walls: bool = True
    no_gpus: bool = False
    rule: Rule | None = None

    @property
    def words(self) -> str:
        """What was compared."""
        what = {"outputs": self.outputs, "steps": self.steps, "logs": self.logs, "artifacts": self.artifacts}
        found = [f"{len(value)} {name}" for name, value in what.items() if value]
        found += ["a rule"] if self.rule else []
        given = [f"with a stand-in for {self.program}"] if self.program else []
        less = {"walls": not self.walls, "GPUs": self.no_gpus}
        without = [f"without {name}" for name, is_so in less.items() if is_so]
        return ", ".join([self.state, *found, *given, *without])


def prints(**logs: str) -> Wanted:
    """It succeeds, and its steps (with ``_`` for ``-``) say this."""
    return Wanted(logs={name.replace("_", "-"): text for name, text in logs.items()})


def gives(value: Any, /, **params: Any) -> Wanted:
    """It succeeds with one output."""
    return Wanted(params=params, outputs={"Output": value})


def calls(program: str, outputs: Mapping[str, Any], /, **params: Any) -> Wanted:
    """It calls a program that is nowhere; the outputs are the arguments that it must be given."""
    return Wanted(params=params, outputs=outputs, program=program, walls=False)


def words(*each: str) -> str:
    """What the stand-in writes into every output."""
    return "".join(f"{word}\n" for word in each)


def file(text: str | None, **metadata: Any) -> dict[str, Any]:
    """An artifact with this text, None for any."""
    return {"metadata": metadata} if text is None else {"text": text, "metadata": metadata}
