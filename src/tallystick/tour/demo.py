"""``tally demo``: the whole life of a model on the handwritten digits, told as it happens."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

import tallystick
from tallystick.core.errors import Failed, Refused, Unavailable
from tallystick.core.names import digest_of
from tallystick.doors.cli import runs, verbs
from tallystick.evidence.figures import Rate
from tallystick.terminal.client import Hub
from tallystick.terminal.context import Tally
from tallystick.terminal.follow import follow
from tallystick.terminal.show import Screen, percent, short
from tallystick.tour import digits
from tallystick.tour.borrow import borrowed_hub

__all__ = ["COMMANDS"]

TABLE, MODEL, ENDPOINT = "digits", "digits", "digits"
GATE_EPS = 0.15


@dataclass
class Story:
    """The demo as it goes: every figure that is shown is kept in ``figures``."""

    tally: Tally
    hub: Hub
    folder: Path
    data: digits.Digits
    on: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """A line of the story."""
        self.tally.screen.say(f"  {text}")


@click.command()
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write every figure to FILE."
)
@click.option(
    "--keep/--stop",
    default=None,
    help="Keep the hub running at the end, or stop it (default: keep on a terminal).",
)
@click.option("--on", metavar="NAME", default="", help="Run the steps on another executor: ray.")
@click.pass_obj
def demo(tally: Tally, json_file: Path | None, keep: bool | None, on: str) -> None:
    """Carry one real model through its whole life, in about a minute and a half."""
    tally.screen = Screen(False)
    began = time.monotonic()
    with borrowed_hub(tally) as (hub, own), tempfile.TemporaryDirectory(prefix="tally-demo-") as folder:
        tally.screen.say(f"The hub answers at {hub.url}, its console too. Images: UCI digits, 8x8 pixels.")
        story = Story(tally, hub, Path(folder), digits.load_digits(), on)
        _tell(story)
        story.figures["seconds"] = {**story.seconds, "total": round(time.monotonic() - began, 2)}
        if json_file:
            json_file.write_text(json.dumps(story.figures, indent=2) + "\n", "utf-8")
        _summary(story)
        _leave(tally, hub, own, sys.stdout.isatty() if keep is None else keep)


def _tell(story: Story) -> None:
    chapters: list[tuple[str, str, Callable[[Story], None]]] = [
        ("data", "1 Data: images become a table with two snapshots", _ingest),
        ("pipeline", "2 Pipeline and runs: four kinds of model and a hardened one, side by side", _run),
        ("model", "3 Model: the most accurate one and the hardened one are registered", _register),
        ("verdict", "4 Verdict: both are attacked within the same budget, and weighed", _judge),
        ("endpoint", "5 Endpoint: the one that passed is served, the other is not", _deploy),
        ("predictions", "6 Predictions: held-out images, sent with Triton's client", _predict),
        ("signal", "7 Signal: the camera is knocked aside by one pixel", _drift),
        ("remedy", "8 Remedy: labelled new images, and the pipeline again", _heal),
    ]
    for name, title, chapter in chapters:
        story.tally.screen.err.print(f"[bold]{title}[/bold]")
        began = time.monotonic()
        chapter(story)
        story.seconds[name] = round(time.monotonic() - began, 2)


def _ingest(story: Story) -> None:
    story.figures["snapshots"] = []
    for name, images in (("digits-1.csv", story.data.first), ("digits-2.csv", story.data.second)):
        _add(story, name, images)
    before = story.figures["snapshots"]
    story.say(f"{before[1]['key']} follows {before[1]['parent'] or 'nothing'}: that is its lineage")


def _add(story: Story, name: str, images: digits.Images) -> None:
    """Ingest the images unless this very file is in the table already."""
    file = digits.write_csv(story.folder / name, images)
    digest = digest_of(file.read_bytes())
    known = [s for s in story.hub.get("/nouns/data", limit=1000) if s["table"] == TABLE and s["source"]]
    snapshot = next((s for s in known if s["source"]["digest"] == digest), None)
    again = snapshot is not None
    snapshot = snapshot or verbs.upload(story.tally, TABLE, file)
    figure = {
        "key": f"{TABLE}@{snapshot['snapshot_id']}",
        "rows": snapshot["rows"],
        "digest": snapshot["digest"],
        "parent": snapshot["parent"],
        "reused": again,
    }
    story.figures["snapshots"].append(figure)
    how = "is there already" if again else "ingested"
    story.say(f"{name} {how}: {figure['key']}, {figure['rows']:,} rows, content {short(figure['digest'])}")


def example_file(name: str) -> Path:
    """A file of the digits example, from the package or from the source tree."""
    package = Path(tallystick.__file__).parent
    for folder in (package / "_examples" / "digits", package.parents[1] / "examples" / "digits"):
        if (folder / name).is_file():
            return folder / name
    raise Unavailable(f"the example file {name} is not installed", hint="install tallystick again")


def _run(story: Story) -> None:
    snapshot = story.figures["snapshots"][1]["key"]
    begun = runs.begin_run(
        story.tally, example_file("pipeline.yaml"), {"data": f"tally://tables/{snapshot}"}, {"on": story.on}
    )
    run = runs.tell_run(story.tally, begun["key"])
    states = [s["state"] for s in run["steps"]]
    story.figures["run"] = {
        "key": run["key"],
        "steps": len(states),
        "cached": states.count("cached"),
        "scores": run["outputs"]["params"].get("scores", {}),
        "test": run["outputs"]["artifacts"]["test"][0]["digest"],
    }
    scores = ", ".join(f"{k} {v:.1%}" for k, v in story.figures["run"]["scores"].items())
    story.say(f"accuracy on held-out images: {scores}")
    story.say(f"{len(states)} steps, {states.count('cached')} of them from the cache; MLflow shows the rest:"
              f" {story.hub.url}/mlflow/")  # fmt: skip


def _register(story: Story) -> None:
    run = story.figures["run"]["key"]
    for output in ("best", "hardened"):
        model = story.hub.post("/models", name=MODEL, run=run, output=output)
        key, kind = f"{model['name']}@{model['version']}", model["params"].get("kind", output)
        story.figures[output] = {"model": key, "digest": model["digest"], "kind": kind}
        story.say(f"{key} is the {output} one ({kind}), content {short(model['digest'])}")


def _judge(story: Story) -> None:
    begun = {
        output: story.hub.post("/verdicts", model=story.figures[output]["model"])
        for output in ("best", "hardened")
    }
    for output, before in begun.items():
        figure = story.figures[output]
        if before["state"] != "judging":
            story.say(f"{figure['model']} was judged before, on the same rows under the same rules")
        verdict = follow(story.tally, "verdict", before["key"])
        evidence = story.hub.get(f"/verdicts/{verdict['key']}")["evidence"]
        story.say(f"clean            {percent(evidence['clean'])}")
        for point in evidence["curve"]:
            robust, noise = percent(point["robust"]), percent(point["noise"])
            story.say(f"eps {point['eps']:<5g} attacked {robust:>6}   noise {noise:>6}")
        figure["verdict"] = _verdict_figures(verdict, evidence)
        for finding in verdict["findings"]:
            mark = "holds" if finding["holds"] else finding["severity"]
            story.say(f"{mark}: {finding['text']}")
        story.say(f"{figure['model']} {verdict['state']}")


def _verdict_figures(verdict: Mapping[str, Any], evidence: Mapping[str, Any]) -> dict[str, Any]:
    def rate(wire: Mapping[str, Any]) -> dict[str, float]:
        found = Rate(wire["right"], wire["total"])
        return {"value": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4)}

    curve = [
        {"eps": p["eps"], "robust": rate(p["robust"]), "noise": rate(p["noise"])} for p in evidence["curve"]
    ]
    return {
        "key": verdict["key"],
        "state": verdict["state"],
        "clean": rate(evidence["clean"]),
        "curve": curve,
        "seed": evidence["budget"]["seed"],
        "dataset_digest": evidence["dataset_digest"],
        "versions": evidence["versions"],
        "attack_seconds": evidence["seconds"],
    }


def _deploy(story: Story) -> None:
    refused = story.figures["best"]
    try:
        story.hub.post("/endpoints", name=ENDPOINT, model=refused["model"])
    except Refused as wrong:
        refused["deploy"] = str(wrong)
        story.say(f"{refused['model']} is refused: {wrong.what}")
    else:
        story.say(f"{refused['model']} passed as well, so it may be served")
    passed = story.figures["hardened"]
    story.hub.post("/endpoints", name=ENDPOINT, model=passed["model"])
    endpoint = verbs.follow_endpoint(story.tally, ENDPOINT)
    generation = endpoint["observed_generation"]
    story.figures["endpoint"] = {"model": passed["model"], "generation": generation}
    story.say(
        f"{passed['model']} answers at {story.hub.url}/v2/models/{ENDPOINT}/infer, generation {generation}"
    )


def _predict(story: Story) -> None:
    content = story.hub.raw("GET", f"/artifacts/{story.figures['run']['test']}")
    if content.is_error:
        raise Failed("the held-out images cannot be fetched", where="demo")
    images = digits.read_parquet(content.content)
    _score(story, "held_out", images, "held-out images")


def _score(story: Story, name: str, images: digits.Images, words: str) -> None:
    began = time.monotonic()
    right = digits.score(story.hub.url, ENDPOINT, images)
    rate = Rate(right, len(images))
    figure = {"right": right, "total": len(images), "accuracy": round(rate.value, 4)}
    story.figures[name] = {**figure, "low": round(rate.low, 4), "high": round(rate.high, 4)}
    story.say(
        f"{right} of {len(images)} {words} right: {rate.value:.1%}"
        f" (95 % interval {rate.low:.1%} to {rate.high:.1%}), in {time.monotonic() - began:.1f} s"
    )


def _drift(story: Story) -> None:
    before = story.hub.post(f"/endpoints/{ENDPOINT}/observe")
    story.say("before: " + verbs.describe_observation(before))
    _score(story, "shifted_before", digits.shift_right(story.data.pool), "shifted images")
    found = story.hub.post(f"/endpoints/{ENDPOINT}/observe")
    if not found["signal"]:
        raise Failed("the shifted images raised no signal", where="demo")
    story.figures["signal"] = {
        "key": found["signal"]["key"],
        "share": round(found["signal"]["share"], 4),
        "rows": found["drift"]["rows_live"],
        "silent_before": before["signal"] is None,
    }
    story.say(found["signal"]["text"])


def _heal(story: Story) -> None:
    shifted = digits.shift_right(story.data.pool)
    _add(story, "digits-3-shifted.csv", shifted.part(0, digits.LABELLED_ROWS))
    remedy = story.hub.post("/remedies", signal=story.figures["signal"]["key"])
    story.say(f"proposed: {remedy['action']}, as {remedy['why']}")
    story.hub.post(f"/remedies/{remedy['key']}/carry")
    ended = follow(story.tally, "remedy", remedy["key"])
    story.figures["remedy"] = {
        k: ended[k] for k in ("key", "action", "state", "run", "model", "verdict", "outcome")
    }
    story.say(ended["outcome"])
    _score(
        story, "shifted_after", shifted.part(digits.LABELLED_ROWS), "shifted images that nobody trained on"
    )


def _attacked(figure: Mapping[str, Any]) -> str:
    """A verdict in a few words, at the eps that the default policy refuses by."""
    verdict = figure["verdict"]
    point = next((p for p in verdict["curve"] if p["eps"] == GATE_EPS), verdict["curve"][-1])
    clean, robust = verdict["clean"]["value"], point["robust"]["value"]
    return f"{figure['model']} {verdict['state']}: {clean:.1%} clean, {robust:.1%} at eps {point['eps']:g}"


def _summary(story: Story) -> None:
    f = story.figures
    best, hardened, run, signal, remedy = (f[n] for n in ("best", "hardened", "run", "signal", "remedy"))
    held_out, before, after = (f[n] for n in ("held_out", "shifted_before", "shifted_after"))
    rows = [
        ("data", f"{len(f['snapshots'])} snapshots, {f['snapshots'][-1]['rows']:,} rows", "/data"),
        ("pipeline", f"{run['steps']} steps, {run['cached']} from the cache", f"/runs/{run['key']}"),
        ("model", f"{best['model']} ({best['kind']}), {hardened['model']} (hardened)", "/models"),
        ("verdict", _attacked(best), f"/verdicts/{best['verdict']['key']}"),
        ("", _attacked(hardened), f"/verdicts/{hardened['verdict']['key']}"),
        ("endpoint", f"{f['endpoint']['model']} serves", f"/endpoints/{ENDPOINT}"),
        ("predictions", f"{held_out['accuracy']:.1%} of {held_out['total']} right", f"/endpoints/{ENDPOINT}"),
        ("signal", f"{signal['share']:.0%} of pixels drifted", f"/signals/{signal['key']}"),
        ("remedy", f"{remedy['model']} serves: {remedy['action']}", f"/remedies/{remedy['key']}"),
        ("", f"on shifted images {before['accuracy']:.1%} before, {after['accuracy']:.1%} after", ""),
    ]
    screen, seconds = story.tally.screen, story.seconds
    screen.out.print()
    took = {"": ""} | {name: f"{each:.1f} s" for name, each in seconds.items()}
    shown = [[name, what, took[name], page] for name, what, page in rows]
    screen.table(f, ["what", "figures", "took", "its page in the console"], shown, "")
    screen.out.print(f"\nAll of it in {f['seconds']['total']:.0f} s. The console: {story.hub.url}/")


def _leave(tally: Tally, hub: Hub, own: bool, keep: bool) -> None:
    if not own:
        return
    if not keep:
        tally.screen.say(f"The hub ends now; `tally --home {tally.home} up` shows all of this again.")
        return
    tally.screen.say(f"The hub goes on at {hub.url}; Ctrl-C ends it.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        tally.screen.say("ending")


COMMANDS = (demo,)
