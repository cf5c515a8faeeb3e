"""The pipeline of test_reproduce.py; `.venv-kfp/bin/python again.py` writes again.yaml beside it."""

from pathlib import Path

from kfp import compiler, dsl


@dsl.component
def count(
    rows: dsl.Input[dsl.Dataset], copy: dsl.Output[dsl.Dataset], metrics: dsl.Output[dsl.Metrics]
) -> int:
    from pathlib import Path

    content = Path(rows.path).read_bytes()
    Path(copy.path).write_bytes(content * 2)
    metrics.log_metric("share", 0.25)
    Path(metrics.path).touch()
    return len(content)


@dsl.component
def draw(n: int, turn: int) -> float:
    import os
    import random

    lots = random.Random(os.environ.get("TALLY_SEED", "0"))  # noqa: S311  reason: they are to come again
    return lots.random() + n + turn


@dsl.component
def stamp(said: dsl.Output[dsl.Artifact]) -> str:
    import time
    from pathlib import Path

    text = str(time.time_ns())
    Path(said.path).write_text(text)
    return text


@dsl.pipeline(name="again")
def again(table: str, stamped: bool = False):
    rows = dsl.importer(artifact_uri=table, artifact_class=dsl.Dataset)
    counted = count(rows=rows.output)
    with dsl.ParallelFor([1, 2]) as turn:
        draw(n=counted.outputs["Output"], turn=turn)
    with dsl.If(stamped == True):  # noqa: E712  reason: kfp compiles the comparison
        stamp()


if __name__ == "__main__":
    compiler.Compiler().compile(again, str(Path(__file__).with_suffix(".yaml")))
