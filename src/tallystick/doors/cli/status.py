"""``tally status``: what the hub has, what it is doing, and what waits for somebody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from tallystick.doors.cli.verbs import next_step
from tallystick.terminal.client import Hub
from tallystick.terminal.context import Tally, common

__all__ = ["COMMANDS"]

Noun = Mapping[str, Any]


@click.command()
@common
@click.pass_obj
def status(tally: Tally) -> None:
    """Say what the hub has, what it is doing, and what waits for you, with the command for it."""
    hub = tally.hub
    now = hub.get("/status")
    endpoints = _endpoints(hub, now.get("policy_digest", ""))
    signals, remedies = _open(endpoints, *(hub.get(f"/nouns/{n}", limit=1000) for n in ("signal", "remedy")))
    counts = ", ".join(f"{n} {noun}" for noun, n in now["counts"].items() if noun != "step")
    lines = [
        f"tallystick {now['version']} at {now['url']} (process {now['pid']})",
        f"  home       {now['home']}",
        f"  sandbox    {now['sandbox']}",
        *(f"  executor   {name}: {manner}" for name, manner in now.get("executors", {}).items()),
        *_mlflow(now),
        f"  has        {counts}",
        f"  under way  {', '.join(now['under_way']) or 'nothing'}",
        *(f"  endpoint   {_endpoint_words(e)}" for e in endpoints),
        *(f"  signal     {_signal_words(s, remedies)}" for s in signals),
        *(f"  remedy     {_remedy_words(r)}" for r in remedies),
    ]
    value = {**now, "endpoints": endpoints, "signals": signals, "remedies": remedies}
    tally.screen.result(value, "\n".join(lines))


def _mlflow(now: Noun) -> list[str]:
    """Where MLflow's record is, who answers for it, and what its own server does meanwhile."""
    if "database" not in now:
        return []
    native, version = now["native_tracking"], now["mlflow_version"]
    workspaces = ", with workspaces" if now["workspaces"] else ""
    return [
        f"  record     {now['database']}{workspaces}",
        f"  artifacts  {now['artifact_store']}",
        f"  tracking   {'native' if native == 'on' else native}",
        f"  MLflow     {f'{version}, its own server' if version else 'is not installed: its server'}"
        f" {now['mlflow_server']}",
    ]


def _endpoints(hub: Hub, policy_digest: str) -> list[Noun]:
    """The endpoints, each with whether the verdict that let its model in was under another policy."""
    policies = {v["key"]: v["policy_digest"] for v in hub.get("/nouns/verdict", limit=1000)}
    return [
        {**e, "under_another_policy": policies.get(e["wished"]["verdict"], policy_digest) != policy_digest}
        for e in hub.get("/nouns/endpoint", limit=1000)
    ]


def _open(
    endpoints: Sequence[Noun], signals: Sequence[Noun], remedies: Sequence[Noun]
) -> tuple[list[Noun], list[Noun]]:
    """The signals about a model that still serves and that nothing was done about, and the remedies
    that wait or are being carried out.
    """
    serving = {(e["name"], e["wished"]["model"]) for e in endpoints}
    done = {r["signal"] for r in remedies if r["state"] == "done"}
    waiting = [s for s in signals if (s["endpoint"], s["model"]) in serving and s["key"] not in done]
    keys = {s["key"] for s in waiting}
    begun = [
        r
        for r in remedies
        if r["state"] == "carrying out" or (r["signal"] in keys and r["state"] in ("proposed", "failed"))
    ]
    return waiting, begun


def _endpoint_words(endpoint: Noun) -> str:
    wished = endpoint["wished"]
    model = wished["model"] or "nothing"
    words = f"{endpoint['name']} {endpoint['state']}, {model}"
    words += f", generation {endpoint['observed_generation']} of {wished['generation']}"
    if endpoint["error"]:
        words += f": {endpoint['error']}"
    if endpoint["under_another_policy"]:
        words += f"; its verdict was given under another policy: tally judge {model}"
    return words


def _signal_words(signal: Noun, remedies: Sequence[Noun]) -> str:
    if signal.get("kind", "drift") != "drift":
        return f"{signal['key']}: {signal['text']}"
    words = (
        f"{signal['key']}: {signal['share']:.0%} of what endpoint {signal['endpoint']} is asked has drifted"
    )
    if any(r["signal"] == signal["key"] for r in remedies):
        return words
    return f"{words}: tally observe {signal['endpoint']}"


def _remedy_words(remedy: Noun) -> str:
    words = f"{remedy['key']} {remedy['state']}: {remedy['action']}"
    if remedy["state"] == "carrying out":
        return words
    came = f" ({remedy['outcome']})" if remedy["outcome"] else ""
    return f"{words}{came}: {next_step(remedy)}"


COMMANDS = (status,)
