"""The pipeline of test_live.py; `.venv-kfp/bin/python watched.py` writes watched.yaml beside it."""

from pathlib import Path

from kfp import compiler, dsl


@dsl.component
def say(lines: int) -> int:
    import sys
    import time

    sys.stdout.write("<script>alert('log')</script><img src=x onerror=alert(1)>\n")
    sys.stdout.flush()
    sys.stdout.buffer.write(b"binary \xff\x00\x07 end\n")
    for i in range(lines):
        sys.stdout.write(f"\033[31mline {i}\033[0m\n")
        sys.stdout.flush()
        time.sleep(0.1)
    return lines


@dsl.component
def part(n: int) -> int:
    import time

    time.sleep(0.2)
    return n * n


@dsl.component
def close(total: int) -> str:
    return f"{total} lines"


@dsl.pipeline(name="watched")
def watched(lines: int = 40, items: list = [0, 1, 2, 3, 4, 5, 6, 7]):  # noqa: B006  reason: kfp's way
    said = say(lines=lines)
    with dsl.ParallelFor(items) as item:
        part(n=item)
    close(total=said.output)


if __name__ == "__main__":
    compiler.Compiler().compile(watched, str(Path(__file__).with_suffix(".yaml")))
