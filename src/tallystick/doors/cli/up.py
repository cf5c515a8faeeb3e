"""``tally up`` and ``tally settings``."""

from __future__ import annotations

import click

from tallystick.doors.cli.context import Tally, common
from tallystick.settings import describe

__all__ = ["COMMANDS"]


@click.command()
@click.option("--home", metavar="DIR", help="The state folder (default: tally-home).")
@click.option("--host", metavar="ADDRESS", help="The address to listen on (default: 127.0.0.1).")
@click.option("--port", type=int, metavar="N", help="The port to listen on (default: 5000; 0: a free one).")
@click.option("--policy", metavar="FILE", help="The gate's rules (default: those that tallystick brings).")
@click.option("--sandbox", metavar="NAME", help="auto, bubblewrap or process (default: auto).")
@click.pass_obj
def up(
    tally: Tally,
    home: str | None,
    host: str | None,
    port: int | None,
    policy: str | None,
    sandbox: str | None,
) -> None:
    """Start the hub: console, MLflow, pipelines and endpoints on one port."""
    flags = {"home": home or tally.home, "host": host, "port": port, "policy": policy, "sandbox": sandbox}
    tally.serve(tally.settings(**flags), click.echo)


@click.command()
@common
@click.pass_obj
def settings(tally: Tally) -> None:
    """List every setting: what holds now, its default, unit, limits and environment variable."""
    now = tally.settings(home=tally.home)
    rows = [{**row, "now": getattr(now, str(row["name"]))} for row in describe()]

    def limits(row: dict[str, object]) -> str:
        if row["low"] is None:
            return str(row["unit"])
        return f"{row['low']:g} to {row['high']:g} {row['unit']}".strip()

    shown = [
        [str(r["name"]), str(r["now"]), str(r["default"]), limits(r), str(r["env"]), str(r["doc"])]
        for r in rows
    ]
    heads = ["setting", "now", "default", "limits", "variable", "what it is for"]
    tally.screen.table(rows, heads, shown, "none")


COMMANDS = (up, settings)
