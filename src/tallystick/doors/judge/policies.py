"""The gate's rules: ``tally policy show``, ``check``, ``test`` and ``versions``."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tallystick.core.errors import BadInput
from tallystick.core.facts import to_json
from tallystick.core.verdict import Severity
from tallystick.evidence.policy import Policy
from tallystick.terminal.context import Tally, check_file, common
from tallystick.terminal.show import ago, short

__all__ = ["COMMANDS"]

DIFFERENT = 1
"""Exit status of ``test`` where a verdict would change."""
FILE_BYTES_MAX = 1_000_000
_FILE = click.argument("file", type=click.Path(path_type=Path))


@click.group()
def policy() -> None:
    """The gate's rules: what is in force, whether a file is sound, what it would change."""


@policy.command()
@common
@click.pass_obj
def show(tally: Tally) -> None:
    """Print the policy that is in force, as it was written; with --json, as it was understood."""
    found = tally.hub.get("/policy")
    if tally.screen.as_json:
        tally.screen.json(found)
    else:
        click.echo(found["text"], nl=not found["text"].endswith("\n"))


@policy.command()
@_FILE
@common
@click.pass_obj
def check(tally: Tally, file: Path) -> None:
    """Read FILE as a hub would, and say what it asks for; no hub is needed."""
    found, _ = _read(file)
    refuse = sum(rule.severity is Severity.REFUSE for rule in found.rules)
    now = time.time_ns() // 1_000_000
    ended = [e for e in found.exceptions if e.ends_ms <= now]
    lines = [
        f"{file} is a policy: {found.name}, {short(found.digest)}",
        f"  rules       {len(found.rules)}, of which {refuse} refuse and {len(found.rules) - refuse} warn",
        f"  exceptions  {len(found.exceptions)}, of which {len(ended)} have ended",
        f"  gate        deployment, {_gate(found)}",
    ]
    lines += [f"  ended       {e.model} from {e.rule!r}, on {e.until}: {e.owner}" for e in ended]
    tally.screen.result({"digest": found.digest, "policy": to_json(found)}, "\n".join(lines))


def _gate(found: Policy) -> str:
    parts = [f"alias {name}" for name in found.gate.aliases] + [f"stage {s}" for s in found.gate.stages]
    return ", ".join(parts) or "no alias and no stage"


def _read(file: Path) -> tuple[Policy, str]:
    """The policy in a file, and its text; BadInput names the file and what in it is wrong."""
    check_file(file)
    if file.stat().st_size > FILE_BYTES_MAX:
        raise BadInput(f"a policy is at most {FILE_BYTES_MAX:,} bytes", where=str(file))
    try:
        text = file.read_text("utf-8")
        return Policy.parse(tomllib.loads(text), time.time_ns() // 1_000_000), text
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        raise BadInput(f"is not TOML: {wrong}", where=str(file)) from wrong
    except BadInput as wrong:
        inside = f"{file}: {wrong.where}" if wrong.where else str(file)
        raise type(wrong)(wrong.what, where=inside, hint=wrong.hint) from wrong


@policy.command()
@_FILE
@common
@click.pass_obj
def test(tally: Tally, file: Path) -> None:
    """Weigh the evidence of past verdicts under the policy in FILE, and show which would change.

    Nothing is recorded. Exit status 0 when no verdict would change, 1 when one would.
    """
    _, text = _read(file)
    found = tally.hub.post("/policy/test", text=text)
    rows = [
        [v["model"], v["verdict"], v["before"], v["after"] if v["changes"] else "the same", _because(v)]
        for v in found["verdicts"]
    ]
    if not tally.screen.as_json:
        tally.screen.say(_summary(found))
    tally.screen.table(
        found, ["model", "verdict", "was", "would be", "because"], rows, "no verdict to try it on"
    )
    click.get_current_context().exit(DIFFERENT if found["changed"] else 0)


def _summary(found: Mapping[str, Any]) -> str:
    tried, left = len(found["verdicts"]), found["without_evidence"]
    words = f"{found['changed']} of {tried} verdicts would change under {found['name']}"
    return f"{words}; {left} more have no evidence that can be weighed" if left else words


def _because(tried: Mapping[str, Any]) -> str:
    """The rules that now say something else, and those that are no more."""
    return "; ".join([*tried["rules"], *(f"no rule {name!r} any more" for name in tried["dropped"])]) or "-"


@policy.command()
@common
@click.pass_obj
def versions(tally: Tally) -> None:
    """List the policies that were in force, newest first; `tally show policy DIGEST` has the artifact."""
    facts = tally.hub.get("/log", noun="policy", limit=1000)
    rows = [
        [
            ago(f["at_ms"]),
            f["state"]["name"],
            short(f["key"]),
            str(f["state"]["rules"]),
            str(f["state"]["exceptions"]),
            short(f["state"]["text"]),
        ]
        for f in facts
    ]
    heads = ["in force since", "policy", "digest", "rules", "exceptions", "text"]
    tally.screen.table([f["state"] for f in facts], heads, rows, "no policy was told yet")


COMMANDS: tuple[click.Command, ...] = (policy,)
