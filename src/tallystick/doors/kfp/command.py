"""The command line that kfp's compiler writes for a lightweight Python component, taken apart again.

Versions 2.0 to 2.17 of the SDK write the same thing in two parts, the first of which may be absent::

    sh -c  '... python3 -m pip install --quiet ... 'PACKAGE' ... && "$0" "$@"'
    sh -ec '... python3 -m kfp.dsl.executor_main --component_module_path ... "$@"' SOURCE
    args: --executor_input {{$}} --function_to_execute NAME

Only exactly this is understood: neither shell nor pip is ever run, so anything else would be passed over.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.core.errors import NotSupported

__all__ = ["Function", "read_command"]

_RUN = re.compile(
    r'program_path=\$\(mktemp -d\) printf "%s" "\$0" > "\$program_path/ephemeral_component\.py" '
    r"(?:_KFP_RUNTIME=true )?python3 -m kfp\.(?:dsl|components)\.executor_main "
    r'--component_module_path "\$program_path/ephemeral_component\.py" "\$@"'
)
_PREPARE = re.compile(
    r'(?:if ! \[ -x "\$\(command -v pip\)" \]; then '
    r"python3 -m ensurepip \|\| python3 -m ensurepip --user \|\| apt-get install python3-pip fi )?"
    r'PIP_DISABLE_PIP_VERSION_CHECK=1 (?P<installs>.+) && "\$0" "\$@"',
    re.DOTALL,
)
# use_venv=True: an environment that inherits all packages of the one around it.
_VENV = (
    'export PIP_DISABLE_PIP_VERSION_CHECK=1 tmp=$(mktemp -d) python3 -m venv "$tmp/venv" '
    '--system-site-packages . "$tmp/venv/bin/activate" '
)
_QUOTED = r"""'[^']*'|"[^"]*\""""
_INSTALL = re.compile(
    r"python3 -m pip install --quiet --no-warn-script-location "
    r"(?P<index>(?:--(?:index-url|extra-index-url|trusted-host) \S+ )*)"
    rf"(?P<packages>(?:{_QUOTED})(?: (?:{_QUOTED}))*)"
)
_HINT = "compile a @dsl.component function with kfp 2, and leave its command alone"
_AND = re.compile(r"\s*&&\s*(?=\S)|\s*$")
_RUNTIME = re.compile(r"kfp(?:-pipeline-spec)?(?:\s*[=<>!~].*)?")


@dataclass(frozen=True, slots=True)
class Function:
    """A Python function: its name, the source of the module it stands in, and the packages it asks for."""

    name: str
    source: str
    packages: tuple[str, ...]


def read_command(command: Sequence[str], args: Sequence[str]) -> Function:
    """The function behind a container's command; NotSupported when it is any other command."""
    if len(command) < 4 or [*command[-4:-2]] != ["sh", "-ec"] or not _RUN.fullmatch(_squeeze(command[-2])):
        raise _other("a container command that is not a lightweight Python component")
    prepare = list(command[:-4])
    if prepare and (len(prepare) != 3 or prepare[:2] != ["sh", "-c"]):
        raise _other("a command before the Python component")
    name = _function_name(args)
    return Function(name, command[-1], _packages(prepare[2]) if prepare else ())


def _other(what: str) -> NotSupported:
    return NotSupported(
        f"{what} is not supported",
        hint=_HINT,
    )


def _squeeze(script: str) -> str:
    return " ".join(script.split())


def _function_name(args: Sequence[str]) -> str:
    if len(args) != 4 or [*args[:3]] != ["--executor_input", "{{$}}", "--function_to_execute"]:
        raise _other("an argument beside --executor_input {{$}} --function_to_execute NAME")
    name = args[3]
    if not name.isidentifier() or keyword.iskeyword(name):
        raise _other(f"the function name {name[:80]!r}")
    return name


def _packages(script: str) -> tuple[str, ...]:
    """The packages of each ``pip install``, without kfp's own runtime, which the executor brings."""
    prepare = _PREPARE.fullmatch(_squeeze(script))
    if not prepare:
        raise _other("a script before the Python component")
    installs, found, at = prepare["installs"].replace(_VENV, "").strip(), [], 0
    while at < len(installs):
        install = _INSTALL.match(installs, at)
        if not install:
            raise _other("a script before the Python component")
        found += _installed(install)
        joined = _AND.match(installs, install.end())
        if not joined:
            raise _other("a script before the Python component")
        at = joined.end()
    return tuple(dict.fromkeys(found))


def _installed(install: re.Match[str]) -> list[str]:
    if install["index"]:
        raise NotSupported(
            "a package index of the component's own (pip_index_urls) is not supported",
            hint="packages come from the executor's environment: leave pip_index_urls out",
        )
    packages = [quoted[1:-1] for quoted in re.findall(_QUOTED, install["packages"])]
    if any(_RUNTIME.fullmatch(p) for p in packages):
        packages = [p for p in packages if p != "--no-deps" and not p.startswith("typing-extensions>=3.7.4")]
    for option in packages:
        if option.startswith("-"):
            raise _other(f"the pip option {option[:80]!r}")
    return [p for p in packages if not _RUNTIME.fullmatch(p)]
