"""The cases of the corpus, as its files write them down: read without importing anything of kfp."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["CASES", "PIPELINES", "Case"]

PIPELINES = Path(__file__).with_name("pipelines")


@dataclass(frozen=True)
class Case:
    """One pipeline with parameters, and what is right: its state, its outputs, and what its steps say.

    ``local`` is empty where kfp.local gives the same; otherwise it says in what kfp.local is wrong.
    ``commands``, ``cache`` and ``no_gpus`` are what the hub is asked to allow.
    """

    name: str
    module: str
    pipeline: str
    params: dict[str, Any]
    state: str = "succeeded"
    outputs: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    commands: bool = False
    cache: bool = False
    no_gpus: bool = False
    local: str = ""

    def with_files(self, files: Path, run: str = "") -> dict[str, Any]:
        """Its parameters, for a folder of files to import and a run whose output is imported."""
        text = json.dumps(self.params).replace("{FILES}", str(files)).replace("{RUN}", run)
        return dict(json.loads(text))

    @property
    def right(self) -> dict[str, Any]:
        """What is to be seen of it."""
        return {"state": self.state, "outputs": self.outputs, "said": sorted(self.said)}


def _cases() -> Iterator[Case]:
    for file in sorted(PIPELINES.glob("*.py")):
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CASES":
                for n, said in enumerate(ast.literal_eval(node.value)):
                    yield Case(f"{file.stem}-{said['pipeline']}-{n}", file.stem, **said)


CASES = tuple(_cases())
