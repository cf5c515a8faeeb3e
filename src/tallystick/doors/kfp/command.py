"""The command line that kfp's compiler writes for a Python function, taken apart again.

Versions 2.0 to 2.17 of the SDK write the same thing in two parts, the first of which may be absent::

    sh -c  '... python3 -m pip install --quiet ... 'PACKAGE' ... && "$0" "$@"'
    sh -ec '... python3 -m kfp.dsl.executor_main --component_module_path ... "$@"' SOURCE
    args: --executor_input {{$}} --function_to_execute NAME

Only exactly this is understood, and neither shell nor pip is then run. Any other command is a command.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tallystick.core.pipeline.spec import Function

__all__ = ["read_function"]

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
_AND = re.compile(r"\s*&&\s*(?=\S)|\s*$")
_RUNTIME = re.compile(r"kfp(?:-pipeline-spec)?(?:\s*[=<>!~].*)?")


def read_function(command: Sequence[Any], args: Sequence[Any]) -> Function | None:
    """The function behind a container's command; None when it is any other command."""
    if not all(isinstance(word, str) for word in (*command, *args)):
        return None
    if len(command) < 4 or [*command[-4:-2]] != ["sh", "-ec"] or not _RUN.fullmatch(_squeeze(command[-2])):
        return None
    if len(args) != 4 or [*args[:3]] != ["--executor_input", "{{$}}", "--function_to_execute"]:
        return None
    name, prepare = args[3], list(command[:-4])
    if not name.isidentifier() or keyword.iskeyword(name):
        return None
    function = Function(name, command[-1])
    if not prepare:
        return function
    return _prepared(function, prepare[2]) if len(prepare) == 3 and prepare[:2] == ["sh", "-c"] else None


def _squeeze(script: str) -> str:
    return " ".join(script.split())


def _prepared(function: Function, script: str) -> Function | None:
    """With the packages of each ``pip install``, without kfp's own runtime, which the executor brings."""
    prepare = _PREPARE.fullmatch(_squeeze(script))
    if not prepare:
        return None
    installs, at = prepare["installs"].replace(_VENV, "").strip(), 0
    packages, indexes = list[str](), set[str]()
    while at < len(installs):
        install = _INSTALL.match(installs, at)
        joined = _AND.match(installs, install.end()) if install else None
        new = _packages(install["packages"]) if install else None
        if install is None or joined is None or new is None:
            return None
        packages += new
        indexes.add(install["index"])
        at = joined.end()
    if len(indexes) > 1:  # the compiler gives all of them the same
        return None
    options = indexes.pop().split()
    said = [*zip(options[::2], options[1::2], strict=True)]
    urls = tuple(value for option, value in said if option != "--trusted-host")
    # Where nobody named a host, the compiler writes the URLs again. To pip these are no hosts.
    hosts = (value for option, value in said if option == "--trusted-host" and value not in urls)
    return replace(
        function,
        packages=tuple(dict.fromkeys(packages)),
        index_urls=urls,
        trusted_hosts=tuple(hosts),
    )


def _packages(quoted: str) -> list[str] | None:
    """The requirements of one ``pip install``; None where an option stands among them."""
    packages = [word[1:-1] for word in re.findall(_QUOTED, quoted)]
    if any(_RUNTIME.fullmatch(p) for p in packages):
        packages = [p for p in packages if p != "--no-deps" and not p.startswith("typing-extensions>=3.7.4")]
    if any(option.startswith("-") for option in packages):
        return None
    return [p for p in packages if not _RUNTIME.fullmatch(p)]
