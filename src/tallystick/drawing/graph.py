"""A run's graph as a picture: what the pipeline says, with the state of each step. Pure.

However long the run, the picture stays small: a loop of many turns is one box that counts them, graphs inside
can be folded and unfolded by links, and a graph of many tasks has alike ones drawn as one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote, urlencode

from markupsafe import Markup

from tallystick.core.pipeline.order import components, task_order, upstream
from tallystick.core.pipeline.spec import Component, Dag, Pipeline, Task
from tallystick.core.run.events import Run
from tallystick.drawing import words
from tallystick.drawing.boxes import Block, Canvas, Many, TooMany, assemble, frame, node, shares
from tallystick.drawing.bundle import bundled
from tallystick.drawing.piles import Piles, Turns, bare
from tallystick.drawing.svg import group, picture

__all__ = ["FOLDS_MAX", "ITERATIONS_SHOWN", "Folds", "draw_run"]

LEVEL_MAX = 40
"""Tasks of one graph that are drawn each for itself."""
INNER_MAX = 60
"""Tasks of a pipeline up to which graphs inside are drawn open."""
ITERATIONS_SHOWN = 6
FOLDS_MAX = 40
OPENED_MAX = 120
"""Tasks of a group that is opened."""
MORE = "…"


@dataclass(frozen=True, slots=True)
class Folds:
    """What somebody opened and folded, by path, on the page at ``page``."""

    page: str = ""
    opened: frozenset[str] = frozenset()
    folded: frozenset[str] = frozenset()

    def link(self, path: str, *, opens: bool) -> str:
        """The page with one more graph open, or folded."""
        opened, folded = self.opened - {path}, self.folded - {path}
        if opens and path not in self.folded:
            opened |= {path}
        if not opens and path not in self.opened:
            folded |= {path}
        pairs = [("open", p) for p in sorted(opened)] + [("fold", p) for p in sorted(folded)]
        return f"{self.page}?{urlencode(pairs[-FOLDS_MAX:])}#graph"

    def step(self, path: str) -> str:
        """The page of a step."""
        return f"{self.page}/step?path={quote(path, safe='')}"

    def steps(self, under: str) -> str:
        """The list of the steps whose paths begin so."""
        return f"{self.page}/steps?under={quote(under, safe='')}"


@dataclass(frozen=True, slots=True)
class _Scene:
    """What is drawn: the heaps of a run, what they are drawn on, and what is open.

    ``times``: how often each task here is to run, 0 where nobody knows, 1 outside of loops.
    """

    piles: Piles
    canvas: Canvas
    folds: Folds
    small: bool
    times: int = 1


def draw_run(run: Run, pipeline: Pipeline | None, now_ms: int, folds: Folds = Folds()) -> Markup | None:
    """The graph of ``run``, or None when too much of it is open to be read as a picture.

    Without its pipeline only the steps that started can be drawn, those of loops as one.
    """
    idle = "not started" if run.state.ended else "waits"
    parts = sum(1 for _ in components(pipeline.root)) if pipeline else 0
    scene = _Scene(Piles(run), Canvas(now_ms, idle), folds, parts <= INNER_MAX)
    try:
        block = _dag(pipeline.root, "", scene) if pipeline else _loose(run, scene)
    except TooMany:
        return None
    told = Counter(str(step.state) for step in run.steps)
    about = ", ".join(f"{count:,} {state}" for state, count in told.items()) or "no step has started"
    size, name = block.size, f"Graph of run {run.key}"
    art = [group(4, 4, [block.art])]
    return picture(size.width + 8, size.height + 8, name, about, art, class_="graph", links=True)


def _loose(run: Run, scene: _Scene) -> Block:
    paths = list(dict.fromkeys(bare(step.path) for step in run.steps))
    groups, _ = bundled(dict.fromkeys(paths, "step"), (), LEVEL_MAX)
    blocks = {
        head: _leaf(head, head, scene) if len(names) == 1 else _group(names, None, "", scene)
        for head, names in groups.items()
    }
    return assemble(blocks, ())


def _dag(dag: Dag, prefix: str, scene: _Scene) -> Block:
    tasks = {task.name: task for task in task_order(dag)}
    groups, edges = bundled({name: _kind(task) for name, task in tasks.items()}, _edges(dag), LEVEL_MAX)
    blocks = {
        head: _task(tasks[head], prefix, scene) if len(names) == 1 else _group(names, dag, prefix, scene)
        for head, names in groups.items()
    }
    return assemble(blocks, edges)


def _kind(task: Task) -> str:
    body = task.body
    return body.name if isinstance(body, Component) else "" if isinstance(body, Dag) else "importer"


# --------------------------------------------------------------------------------------------- graphs inside


def _task(task: Task, prefix: str, scene: _Scene) -> Block:
    path = prefix + task.name
    if not isinstance(task.body, Dag):
        return _leaf(task.name, path, scene)
    whole = scene.piles.steps.get(path)
    if whole:  # it stands for all of the graph, which was never begun
        if path not in scene.folds.opened and not scene.small:
            return node(task.name, path, scene.piles.at(path), scene.canvas, href=scene.folds.step(path))
        inside = replace(
            scene,
            piles=Piles(replace(scene.piles.run, steps=())),
            canvas=replace(scene.canvas, idle=str(whole.state)),
        )
        return frame(f"{task.name}: {whole.state}", [_dag(task.body, f"{path}/", inside)], "ghost",
                      scene.folds.step(path), f"{path}: {whole.error or whole.state}")  # fmt: skip
    turns = scene.piles.turns(task, prefix) if task.loop else None
    if scene.times != 1:  # in many turns at once: those in which it was skipped whole have nothing of it
        scene = replace(scene, times=max(0, scene.times - scene.piles.at(path).own))
    if not _open(task.body, path, scene, turns):
        return _folded(task, path, scene, turns)
    if turns is not None:
        return _loop(task, task.body, path, scene, turns)
    inner = [_dag(task.body, f"{path}/", scene)]
    return frame(task.name, inner, "inner", scene.folds.link(path, opens=False), f"fold {path}")


def _open(body: Dag, path: str, scene: _Scene, turns: Turns | None) -> bool:
    if path in scene.folds.folded:
        return False
    if path in scene.folds.opened:
        return True
    if turns is None:
        return scene.small
    return scene.small and max(len(turns.begun), turns.total) <= ITERATIONS_SHOWN and len(body.tasks) <= 12


def _folded(task: Task, path: str, scene: _Scene, turns: Turns | None) -> Block:
    """One box for all that is in a graph, with a second edge behind it; a link opens it."""
    pile, href = scene.piles.at(path), scene.folds.link(path, opens=True)
    if turns is None or scene.times != 1:
        many = Many(pile.said(), shares(pile))
    else:
        said = turns.said() if turns.begun or turns.total else "a loop"
        parts = {"good": turns.done, "bad": len(turns.bad), "busy": len(turns.busy)}
        many = Many(said, parts, turns.total or len(turns.begun))
    return node(f"{task.name} ▸", path, pile, scene.canvas, href=href, many=many)


def _loop(task: Task, body: Dag, path: str, scene: _Scene, turns: Turns) -> Block:
    """A loop that is open: a few turns each for itself, or many as one with those beside it that are open."""
    fold = scene.folds.link(path, opens=False)
    if not turns.begun:
        inner = replace(scene, times=turns.total * scene.times if scene.times != 1 else turns.total or 1)
        return frame(
            f"{task.name}: for each item", [_dag(body, f"{path}/", inner)], "ghost", fold, f"fold {path}"
        )
    if len(turns.begun) <= ITERATIONS_SHOWN and turns.total <= ITERATIONS_SHOWN:
        shown = [_turn(body, path, i, scene) for i in turns.begun]
        name = f"{task.name}: {words.plural(len(turns.begun), 'iteration')}"
        return frame(name, shown, "loop", fold, f"fold {path}")
    every = replace(scene, times=turns.total)
    blocks = [frame("all iterations", [_dag(body, f"{path}/", every)], "iteration")]
    chosen = [i for i in turns.begun if f"{path}[{i}]" in scene.folds.opened]
    notable = [i for i in (*turns.bad, *turns.busy) if i not in chosen][:ITERATIONS_SHOWN]
    blocks += [_turn(body, path, i, scene, folds=True) for i in chosen]
    blocks += [_closed_turn(path, i, scene) for i in notable]
    name = f"{task.name}: {words.plural(turns.total or len(turns.begun), 'iteration')}, {turns.done:,} done"
    return frame(name, blocks, "loop", fold, f"fold {path}")


def _turn(body: Dag, path: str, i: int, scene: _Scene, *, folds: bool = False) -> Block:
    at = f"{path}[{i}]"
    link = scene.folds.link(at, opens=False) if folds else ""
    return frame(f"[{i}]", [_dag(body, f"{at}/", replace(scene, times=1))], "iteration", link, f"fold {at}")


def _closed_turn(path: str, i: int, scene: _Scene) -> Block:
    at = f"{path}[{i}]"
    pile, href = scene.piles.at(at), scene.folds.link(at, opens=True)
    return node(f"[{i}] ▸", at, pile, scene.canvas, href=href, many=Many(pile.said(), shares(pile)))


# --------------------------------------------------------------------------------------------------- one box


def _group(names: Sequence[str], dag: Dag | None, prefix: str, scene: _Scene) -> Block:
    """Tasks that are alike or follow each other, as one box that a link opens, or leads to their steps."""
    at = f"{prefix}{names[0]}{MORE}"
    if dag and at in scene.folds.opened:
        wanted = set(names)
        inner = Dag(tuple(task for task in dag.tasks if task.name in wanted))
        blocks = {task.name: _task(task, prefix, scene) for task in inner.tasks}
        name = f"{names[0]} … {names[-1]}"
        return frame(
            name,
            [assemble(blocks, _edges(inner))],
            "inner",
            scene.folds.link(at, opens=False),
            f"fold {name}",
        )
    pile = scene.piles.of(prefix + name for name in names)
    of = max(len(names) * scene.times, pile.total)
    shared = _shared(names)
    opens = dag is not None and len(names) <= OPENED_MAX
    href = scene.folds.link(at, opens=True) if opens else scene.folds.steps(prefix + shared)
    name = f"{names[0]}…{names[-1][len(shared) :]}"
    whole = f"{prefix}{names[0]} … {names[-1]}"
    many = Many(f"{pile.done:,} of {of:,} done", shares(pile), of)
    return node(name, whole, pile, scene.canvas, href=href, many=many)


def _edges(dag: Dag) -> list[tuple[str, str]]:
    return [(other, task.name) for task in dag.tasks for other in upstream(task)]


def _shared(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:same]


def _leaf(name: str, path: str, scene: _Scene) -> Block:
    pile = scene.piles.at(path)
    if pile.total <= 1 and scene.times == 1:
        return node(name, path, pile, scene.canvas, href=scene.folds.step(path) if pile.one else "")
    of = scene.times if scene.times > 1 else 0
    said = (
        f"{pile.done:,} of {of:,} done" if of else f"{pile.done:,} done" if pile.total else scene.canvas.idle
    )
    href = scene.folds.steps(path) if pile.total else ""
    return node(name, path, pile, scene.canvas, href=href, many=Many(said, shares(pile), of))
