"""``tally harden``: a model that withstands more, made by a pipeline and judged beside the original."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import tallystick
from tallystick.core.errors import BadInput, Failed, Unavailable
from tallystick.core.facts import from_json, to_json
from tallystick.core.model import ModelVersion
from tallystick.core.names import check_name
from tallystick.doors.judge.words import finding_lines
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Figure
from tallystick.evidence.policy import Policy
from tallystick.judging.harden import OUTPUT, How, Wish, params_of
from tallystick.terminal.context import Tally, common, goes_on
from tallystick.terminal.follow import LOOK, follow

__all__ = ["COMMANDS"]

REFUSED = 3
"""Exit status: the gate's own, where the hardened model is refused too."""
ENDED = ("succeeded", "failed", "cancelled")
SHOWN = ("clean_accuracy", "robust_accuracy")


@click.command()
@click.argument("model")
@click.option("--how", type=click.Choice([str(how) for how in How]), required=True, help="The way.")
@click.option(
    "--data", default="", metavar="TABLE",
    help="Rows to train on: TABLE, TABLE@SNAPSHOT or RUN/OUTPUT (default: the model's table).",
)  # fmt: skip
@click.option("--label", default="", metavar="COLUMN", help="The column with the right answer.")
@click.option("--eps", type=float, default=0.0, help="The radius to withstand (default: the policy's).")
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the way.")
@click.option("--output-name", default="", metavar="NAME", help="Register as NAME (default: as MODEL).")
@common
@click.pass_obj
def harden(tally: Tally, /, model: str, output_name: str, **said: Any) -> None:
    """Make a model that withstands more than MODEL, and judge both; exit status 3 when it is refused too.

    It is the next version of MODEL. Both are judged by the rows that MODEL's own run held out, which the new
    one is not trained on; without such a run, by a fifth of the table.
    """
    if output_name:
        check_name("model", output_name)
    wish = Wish(
        How(said["how"]), said["label"] or str(tally.hub.get("/status")["label"]), said["eps"], said["data"],
        said["seed"], _pairs(said["settings"]),
    )  # fmt: skip
    original = from_json(ModelVersion, tally.hub.post("/models/admit", model=model), "model")
    policy = Policy.parse(tomllib.loads(tally.hub.get("/policy")["text"]))
    params, notes = params_of(original, _outputs(tally, original), policy, wish)
    for note in notes:
        tally.screen.say(f"  {note}")
    run = _run(tally, params)
    name = output_name or original.name
    made = tally.hub.post("/models", name=name, run=run, output=OUTPUT)
    hardened = f"{made['name']}@{made['version']}"
    tally.screen.say(f"  {hardened} is registered; it and {original.key} are judged by {run}/test")
    models = {"original": original.key, "hardened": hardened}
    verdicts = _judged(tally, models, f"{run}/test", wish.label)
    value = {"run": run, "how": wish.how, "eps": params["eps"], "settings": params["settings"], **models}
    value |= {"notes": list(notes), "verdicts": {k: v["verdict"] for k, v in verdicts.items()}}
    figures = _beside(verdicts)
    tally.screen.result({**value, "figures": figures}, _text(models, verdicts, figures))
    if verdicts["hardened"]["verdict"]["state"] == "refused":
        click.get_current_context().exit(REFUSED)


def _pairs(given: Sequence[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals) or name in found:
            raise BadInput(f"{text!r:.100} is not NAME=VALUE, said once", where="--set")
        found[name] = value
    return found


def _outputs(tally: Tally, model: ModelVersion) -> Sequence[str]:
    """What the model's own run put out, one of each, while that run is known."""
    if not model.origin.run:
        return ()
    run = tally.hub.noun("run", model.origin.run)
    return [name for name, refs in run["outputs"]["artifacts"].items() if len(refs) == 1]


def pipeline_text() -> str:
    """The compiled pipeline, from the package or from the source tree."""
    package = Path(tallystick.__file__).parent
    for folder in (package / "_examples" / "harden", package.parents[1] / "examples" / "harden"):
        if (folder / "pipeline.yaml").is_file():
            return (folder / "pipeline.yaml").read_text("utf-8")
    raise Unavailable("the pipeline that hardens is not installed", hint="install tallystick again")


def _run(tally: Tally, params: Mapping[str, Any]) -> str:
    """Submit the pipeline and follow it; its key. Failed when it does not succeed."""
    spec = pipeline_text()
    key = str(tally.hub.post("/runs", spec=spec, params=dict(params), filename="harden.yaml")["key"])
    seen: set[tuple[str, int]] = set()

    def watch(run: Mapping[str, Any]) -> None:
        for step in run["steps"]:
            mark = step["path"], step["attempt"]
            if step["state"] in ("succeeded", "cached", "failed") and mark not in seen:
                seen.add(mark)
                seconds = max(0, step["ended_ms"] - step["started_ms"]) / 1000
                text = f"  {step['path']:<32} {step['state']:<11} {seconds:5.1f} s"
                tally.screen.say(f"{text}: {step['error']}" if step["error"] else text)

    how = f"follow it with `tally status`; once it has succeeded, `tally register NAME --run {key}"
    with goes_on(tally, key, f"{how} --output {OUTPUT}`"):
        ended = tally.hub.wait("run", key, lambda now: now["state"] in ENDED, watch)
    if ended["state"] != "succeeded":
        hint = f"tally logs {key}, or see {tally.hub.url}/runs/{key}"
        raise Failed(f"run {key} {ended['state']}: {ended['error']}", hint=hint)
    return key


def _judged(tally: Tally, models: Mapping[str, str], data: str, label: str) -> dict[str, Any]:
    """What ``GET /verdicts/KEY`` says of each, by role, judged on the same rows."""
    begun = {
        role: tally.hub.post("/verdicts", model=model, data=data, label=label)["key"]
        for role, model in models.items()
    }
    found = {}
    for role, key in begun.items():
        again = f"tally judge {models[role]} --data {shlex.quote(data)}"
        tally.screen.say(f"  {models[role]}:")
        with goes_on(tally, key, f"{LOOK}; `{again}` waits for it"):
            follow(tally, "verdict", key)
        found[role] = tally.hub.get(f"/verdicts/{key}")
    return found


def _beside(verdicts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Clean accuracy and that at each eps, of both, with 95 % intervals."""
    found: dict[tuple[str, float | None], dict[str, Any]] = {}
    for role, each in verdicts.items():
        evidence = from_json(Evidence, each["evidence"], "evidence")
        for figure in evidence.figures():
            if figure.measure in SHOWN and not figure.group:
                row = {"measure": figure.measure, "eps": figure.eps}
                found.setdefault((figure.measure, figure.eps), row)[role] = to_json(figure)
    return sorted(found.values(), key=lambda row: (row["measure"], row["eps"] or 0.0))


def _text(
    models: Mapping[str, str], verdicts: Mapping[str, Any], figures: Sequence[Mapping[str, Any]]
) -> str:
    """Both side by side, then what does not hold of the hardened one."""
    rows = [("", *models.values())]
    for row in figures:
        head = "clean" if row["eps"] is None else f"eps {row['eps']:g}"
        rows.append((head, *(_share(row.get(role)) for role in models)))
    rows.append(("verdict", *(str(verdicts[role]["verdict"]["state"]) for role in models)))
    widths = [max(len(row[at]) for row in rows) for at in range(3)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    verdict = verdicts["hardened"]["verdict"]
    wanting = dict(verdict, findings=[f for f in verdict["findings"] if not f["holds"]])
    return "\n".join([*lines, *finding_lines(wanting)])


def _share(wire: Any) -> str:
    if wire is None:
        return "-"
    figure = from_json(Figure, wire, "figure")
    return f"{figure.value:.1%} ({figure.low:.1%} to {figure.high:.1%})"


COMMANDS: tuple[click.Command, ...] = (harden,)
