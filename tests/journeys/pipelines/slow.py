"""The pipeline of test_resume.py; `.venv-kfp/bin/python slow.py` writes slow.yaml beside it."""

from pathlib import Path

from kfp import compiler, dsl


@dsl.component
def first() -> int:
    print("ran")
    return 7


@dsl.component
def second(n: int) -> int:
    import time

    print("ready", flush=True)
    time.sleep(3)
    return n + 1


@dsl.component
def clean(status: dsl.PipelineTaskFinalStatus):
    print("cleaned after", status.state)


@dsl.pipeline(name="slow")
def slow():
    with dsl.ExitHandler(clean()):
        a = first()
        second(n=a.output)
        with dsl.If(a.output > 100):
            first()
        with dsl.Else():
            first()


if __name__ == "__main__":
    compiler.Compiler().compile(slow, str(Path(__file__).with_suffix(".yaml")))
