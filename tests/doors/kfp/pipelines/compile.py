"""Compile the pipelines here with the kfp SDK.

    .venv-kfp/bin/python tests/doors/kfp/pipelines/compile.py [FOLDER]

Writes ``MODULE/NAME.yaml`` for each pipeline of each module here, below FOLDER or beside this file.
"""

import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")  # kfp's own, about what its next version will do

HERE = Path(__file__).parent


def compile_all(target: Path) -> None:
    """Compile every pipeline of every file."""
    import flow
    import plain
    import refused
    import steps
    from kfp import compiler

    for module in (plain, flow, steps, refused):
        folder = target / module.__name__
        folder.mkdir(parents=True, exist_ok=True)
        for pipeline in module.PIPELINES:
            compiler.Compiler().compile(pipeline, str(folder / f"{pipeline.name}.yaml"))


if __name__ == "__main__":
    compile_all(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
