"""KFP's own local runner. Annotations are real types here: KFP's compiler reads them."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp import dsl, local

__all__ = ["kfp_local"]


@dsl.component(install_kfp_package=False)
def add(n: int) -> int:
    """The component that every way runs."""
    return n + 1


@dsl.component
def usual_add(n: int) -> int:
    """The same, as people write it: kfp is installed anew for each step."""
    return n + 1


def kfp_local(
    folder: Path, works: Callable[[Callable[[str, int], None]], None], *, usual: bool = False
) -> None:
    """At its best setting, no virtual environment and nothing installed; or by default, with both."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # it runs `python3`
    local.init(runner=local.SubprocessRunner(use_venv=usual), pipeline_root=str(folder / "out"))
    made: dict[tuple[str, int], Callable[[], Any]] = {}

    def way(kind: str, count: int) -> None:
        if (kind, count) not in made:
            made[kind, count] = (_fan if kind == "fan" else _chain)(count, usual_add if usual else add)
        made[kind, count]()

    works(way)


def _chain(count: int, add_one: Any) -> Callable[[], Any]:
    @dsl.pipeline
    def chain() -> int:
        last = add_one(n=0)
        for _ in range(count - 1):
            last = add_one(n=last.output)
        return last.output

    return chain


def _fan(count: int, add_one: Any) -> Callable[[], Any]:
    @dsl.pipeline
    def fan() -> None:
        for n in range(count):
            add_one(n=n)

    return fan
