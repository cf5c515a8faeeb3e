"""``tally env``: the environments that were built for components."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

from tallystick.core.errors import BadInput
from tallystick.terminal.context import Tally, common
from tallystick.terminal.show import ago

__all__ = ["env"]

_UNITS = {"h": 3600, "d": 86_400, "w": 604_800}
PACKAGES_SHOWN = 4
Kept = Mapping[str, Any]


@click.group()
def env() -> None:
    """The environments that components' packages were built into: list, prune."""


@env.command("list")
@common
@click.pass_obj
def list_them(tally: Tally) -> None:
    """List environments, those that were not used for longest first, with what they take on the disk."""
    found = tally.hub.get("/environments")
    _table(tally, found, found["environments"], "no environment was built yet")
    if not tally.screen.as_json:
        tally.screen.say(_sum(found))


@env.command()
@click.option("--unused", metavar="AGE", help="What was not used for so long (12h, 30d, 8w).")
@click.option("--gib", type=click.FloatRange(0), metavar="N", help="Until N GiB are taken.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@common
@click.pass_obj
def prune(tally: Tally, unused: str | None, gib: float | None, dry_run: bool) -> None:
    """Remove environments that nobody uses, those that were not used for longest first.

    Without options, until the setting environments_gib holds. Who needs one that went has it built again.
    """
    body: dict[str, Any] = {"dry_run": dry_run}
    if unused is not None:
        body["unused_s"] = _seconds(unused)
    if gib is not None:
        body["bytes_max"] = int(gib * 2**30)
    found = tally.hub.post("/environments/prune", **body)
    _table(tally, found, found["removed"], "nothing would go" if dry_run else "nothing had to go")
    if not tally.screen.as_json:
        tally.screen.say(f"{'would go' if dry_run else 'removed'}: {len(found['removed'])}; {_sum(found)}")


def _table(tally: Tally, value: Kept, shown: Sequence[Kept], empty: str) -> None:
    rows = [
        [
            one["name"][:12],
            f"{one['size_bytes'] / 2**20:,.1f} MiB",
            ago(one["used_ms"]) if one["used_ms"] else "-",
            "in use" if one["in_use"] else "",
            _holds(one),
        ]
        for one in shown
    ]
    tally.screen.table(value, ["environment", "size", "last used", "", "for"], rows, empty)


def _holds(one: Kept) -> str:
    """What was asked for; of one that nobody asks for any more, some of what is in it."""
    if one["wanted"]:
        return " | ".join(one["wanted"])
    if one["name"] == "cache":
        return "what uv fetched, linked with the environments"
    names = [f"{name}=={version}" for name, version in one["packages"].items()]
    more = len(names) - PACKAGES_SHOWN
    return " ".join(names[:PACKAGES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _sum(found: Kept) -> str:
    return f"{found['size_bytes'] / 2**30:.2f} GiB of {found['bytes_max'] / 2**30:g} GiB are taken"


def _seconds(age: str) -> int:
    said = re.fullmatch(r"([0-9]{1,6})([hdw])", age)
    if said is None:
        raise BadInput(f"{age[:100]!r} is no age", where="--unused", hint="for example 12h, 30d or 8w")
    return int(said[1]) * _UNITS[said[2]]
