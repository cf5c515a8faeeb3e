"""A pipeline that may be given an artifact; `.venv-kfp/bin/python perhaps.py` writes perhaps.yaml."""

from pathlib import Path

from kfp import compiler, dsl


@dsl.component(install_kfp_package=False)
def copy(made: dsl.Output[dsl.Dataset], data: dsl.Input[dsl.Dataset] = None) -> str:
    """What is in it, where there is one."""
    from pathlib import Path

    text = Path(data.path).read_text() if data else "nothing"
    Path(made.path).write_text(text)
    return text


@dsl.pipeline(name="perhaps")
def perhaps(data: dsl.Input[dsl.Dataset] = None) -> str:
    """One step."""
    return copy(data=data).outputs["Output"]


if __name__ == "__main__":
    compiler.Compiler().compile(perhaps, str(Path(__file__).with_suffix(".yaml")))
