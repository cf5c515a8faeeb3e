"""Which commands are Python functions: the shapes that several versions of the SDK wrote."""

from __future__ import annotations

import pytest

from tallystick.core.pipeline.spec import Function
from tallystick.doors.kfp.command import read_function


class TestCommands:
    """The shapes that several versions of the SDK wrote."""

    RUN = (
        'program_path=$(mktemp -d)\n\nprintf "%s" "$0" > "$program_path/ephemeral_component.py"\n'
        "{0}python3 -m kfp.{1}.executor_main --component_module_path "
        '"$program_path/ephemeral_component.py" "$@"\n'
    )
    ARGS = ("--executor_input", "{{$}}", "--function_to_execute", "f")
    CHECK = (
        '\nif ! [ -x "$(command -v pip)" ]; then\n    python3 -m ensurepip || '
        "python3 -m ensurepip --user || apt-get install python3-pip\nfi\n\nPIP_DISABLE_PIP_VERSION_CHECK=1 "
    )
    PIP = "python3 -m pip install --quiet --no-warn-script-location"
    VENV = (
        '\nexport PIP_DISABLE_PIP_VERSION_CHECK=1\ntmp=$(mktemp -d)\n'
        'python3 -m venv "$tmp/venv" --system-site-packages\n. "$tmp/venv/bin/activate"\n '
    )  # fmt: skip
    KFP = "'kfp==2.9.0' '--no-deps' 'typing-extensions>=3.7.4,<5; python_version<\"3.9\"'"

    @pytest.mark.parametrize(
        ("installs", "packages"),
        [
            (f"{PIP} 'numpy' 'kfp==2.0.1'", ("numpy",)),  # 2.0
            (f"{PIP} {KFP}  &&  {PIP} 'numpy>=2' 'pandas'", ("numpy>=2", "pandas")),  # 2.4 to 2.11
            (f"{PIP} 'numpy'  &&  {PIP} {KFP}", ("numpy",)),  # from 2.13
            (f"{PIP} 'numpy'  &&  {VENV}{PIP} {KFP}", ("numpy",)),  # use_venv=True
            (f"{PIP} {KFP}", ()),
            (f"{PIP} \"x; extra == 'y'\"", ("x; extra == 'y'",)),
            (f"{PIP} 'kfp-kubernetes==2.0'", ("kfp-kubernetes==2.0",)),
        ],
    )
    def test_packages(self, installs: str, packages: tuple[str, ...]) -> None:
        prepare = f'{self.CHECK}{installs} && "$0" "$@"\n'
        run = self.RUN.format("_KFP_RUNTIME=true ", "dsl")
        found = read_function(["sh", "-c", prepare, "sh", "-ec", run, "def f(): pass"], self.ARGS)
        assert found == Function("f", "def f(): pass", packages)

    def test_urls_are_no_hosts_to_trust(self) -> None:
        """Where nobody named a host, the compiler writes the indexes' URLs in their place."""
        url = "https://index.invalid/simple"
        install = f"{self.PIP} --index-url {url} --trusted-host {url} --trusted-host b.invalid 'numpy'"
        prepare = f'{self.CHECK}{install} && "$0" "$@"\n'
        run = self.RUN.format("_KFP_RUNTIME=true ", "dsl")
        found = read_function(["sh", "-c", prepare, "sh", "-ec", run, "def f(): pass"], self.ARGS)
        assert found == Function("f", "def f(): pass", ("numpy",), (url,), ("b.invalid",))

    def test_nothing_to_install(self) -> None:
        run = self.RUN.format("", "components")
        assert read_function(["sh", "-ec", run, "def f(): pass"], self.ARGS) == Function("f", "def f(): pass")

    @pytest.mark.parametrize(
        "installs",
        [
            f"{PIP} 'numpy'; rm -rf /",
            f"{PIP} 'numpy' && curl example.invalid",
            f"{PIP} '--editable'",
            f"{PIP} numpy",
            f"{PIP} --index-url https://index.invalid 'numpy'  &&  {PIP} 'pandas'",
            f"{PIP} --find-links https://index.invalid 'numpy'",
            "echo",
        ],
    )
    def test_anything_else_is_a_command(self, installs: str) -> None:
        prepare = f'{self.CHECK}{installs} && "$0" "$@"\n'
        run = self.RUN.format("_KFP_RUNTIME=true ", "dsl")
        assert read_function(["sh", "-c", prepare, "sh", "-ec", run, "def f(): pass"], self.ARGS) is None
        assert read_function(["sh", "-ec", run + installs, "def f(): pass"], self.ARGS) is None
        assert read_function(["sh", "-ec", run, "def f(): pass"], [*self.ARGS, "--more"]) is None
        assert read_function(["sh", "-ec", run, "def f(): pass"], [*self.ARGS[:3], "os.system"]) is None
        assert read_function(["sh", "-ec", run, {"Concat": ["a"]}], self.ARGS) is None
