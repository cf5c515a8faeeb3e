"""A run's graph as a picture: what the pipeline says, with the state of each step. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from tallystick.core.pipeline.order import components, task_order, upstream
from tallystick.core.pipeline.spec import Dag, Pipeline, Task
from tallystick.core.run.events import Run, Step
from tallystick.doors.console.show import words
from tallystick.doors.console.show.layout import Size, layered
from tallystick.doors.console.show.svg import el, group, mark, picture, text, title

__all__ = ["ITERATIONS_SHOWN", "TASKS_DRAWN_MAX", "draw_run"]

TASKS_DRAWN_MAX = 300
ITERATIONS_SHOWN = 6
NODE = Size(174, 52)
PAD = 14
HEAD = 26


@dataclass(frozen=True, slots=True)
class _Block:
    """Something drawn at the origin, with its size."""

    size: Size
    art: Markup


@dataclass(frozen=True, slots=True)
class _Scene:
    """What is drawn: the steps of a run by their paths, and the word for what has no step."""

    run: Run
    steps: Mapping[str, Step]
    now_ms: int
    idle: str


def draw_run(run: Run, pipeline: Pipeline | None, now_ms: int) -> Markup | None:
    """The graph of ``run``, or None when it is too large to be read as a picture.

    Without its pipeline only the steps that started can be drawn, one below the other.
    """
    steps = {step.path: step for step in run.steps}
    scene = _Scene(run, steps, now_ms, "not started" if run.state.ended else "waits")
    if pipeline is None:
        if len(steps) > TASKS_DRAWN_MAX:
            return None
        nodes = {s.path: _node(s.path, s.path, scene) for s in run.steps}
        block = _assemble(nodes, ())
    else:
        if max(len(steps), sum(1 for _ in components(pipeline.root))) > TASKS_DRAWN_MAX:
            return None
        block = _dag(pipeline.root, "", scene)
    told = Counter(str(step.state) for step in run.steps)
    about = ", ".join(f"{count} {state}" for state, count in told.items()) or "no step has started"
    size = block.size
    name = f"Graph of run {run.key}"
    return picture(
        size.width + 8, size.height + 8, name, about, [group(4, 4, [block.art])], class_="graph", links=True
    )


def _dag(dag: Dag, prefix: str, scene: _Scene) -> _Block:
    blocks = {task.name: _task(task, prefix, scene) for task in task_order(dag)}
    edges = [(other, task.name) for task in dag.tasks for other in upstream(task)]
    return _assemble(blocks, edges)


def _assemble(blocks: Mapping[str, _Block], edges: Sequence[tuple[str, str]]) -> _Block:
    layout = layered({name: block.size for name, block in blocks.items()}, edges, gap_x=40)
    lines = [el("path", d=_curve(points), class_="edge") for points in layout.edges.values()]
    tips = [_tip(*points[-1]) for points in layout.edges.values()]
    boxes = [group(layout.boxes[name].x, layout.boxes[name].y, [b.art]) for name, b in blocks.items()]
    return _Block(Size(layout.width, layout.height), Markup("").join([*lines, *tips, *boxes]))


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """A smooth line through the points, level where it passes each of them."""
    (x, y), *rest = points
    path = f"M{x:.1f} {y:.1f}"
    for to_x, to_y in rest:
        bend = (to_x - x) / 2
        path += f"C{x + bend:.1f} {y:.1f} {to_x - bend:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
        x, y = to_x, to_y
    return path


def _tip(x: float, y: float) -> Markup:
    return el("path", d=f"M{x - 7:.1f} {y - 4:.1f}L{x:.1f} {y:.1f}L{x - 7:.1f} {y + 4:.1f}", class_="edge")


def _task(task: Task, prefix: str, scene: _Scene) -> _Block:
    path = prefix + task.name
    if not isinstance(task.body, Dag):
        return _node(task.name, path, scene)
    whole = scene.steps.get(path)
    if whole:  # it stands for all of the graph, which was never begun
        inside = replace(scene, steps={}, idle=str(whole.state))
        return _frame(f"{task.name}: {whole.state}", [_dag(task.body, f"{path}/", inside)], "ghost", whole)
    if not task.loop:
        return _frame(task.name, [_dag(task.body, f"{path}/", scene)])
    return _loop(task, task.body, path, scene)


def _loop(task: Task, body: Dag, path: str, scene: _Scene) -> _Block:
    found = sorted({_iteration(p, path) for p in scene.steps} - {-1})
    if not found:
        return _frame(f"{task.name}: for each item", [_dag(body, f"{path}[0]/", scene)], "ghost")
    shown = [_frame(f"[{i}]", [_dag(body, f"{path}[{i}]/", scene)], "iteration")
             for i in found[:ITERATIONS_SHOWN]]  # fmt: skip
    words_more = f" ({ITERATIONS_SHOWN} drawn)" if len(found) > ITERATIONS_SHOWN else ""
    return _frame(f"{task.name}: {words.plural(len(found), 'iteration')}{words_more}", shown, "loop")


def _iteration(step: str, loop: str) -> int:
    """Which iteration of ``loop`` a step belongs to, -1 for none."""
    rest = step.removeprefix(f"{loop}[")
    number = rest.partition("]/")[0]
    return int(number) if rest != step and number.isdigit() and number.isascii() else -1


def _frame(name: str, blocks: Sequence[_Block], kind: str = "inner", step: Step | None = None) -> _Block:
    """Blocks above each other in a box with a name, which leads to ``step``."""
    width = max([b.size.width for b in blocks] + [len(name) * 7.4]) + 2 * PAD
    y, parts = float(HEAD), []
    for block in blocks:
        parts.append(group(PAD, y, [block.art]))
        y += block.size.height + 10
    height = y - 10 + PAD
    box = el("rect", x=0, y=0, width=width, height=height, rx=10, class_=f"frame {kind}")
    head = text(PAD, 18, words.clip(name, int((width - 2 * PAD) / 7)), "frame-name")
    if step:
        head = el("a", title(f"{step.path}: {step.error or step.state}"), head, href=_row(step))
    return _Block(Size(width, height), Markup("").join([box, head, *parts]))


def _node(name: str, path: str, scene: _Scene) -> _Block:
    step = scene.steps.get(path)
    state = str(step.state) if step else scene.idle
    took, tried = _took(step, scene.now_ms), words.tried(step) if step else ""
    mood = words.kind_of(state)
    parts = [
        title(f"{path}: " + " · ".join(filter(None, (state, tried, took)))),
        el("rect", x=0, y=0, width=NODE.width, height=NODE.height, rx=8, class_="box"),
        mark(mood, 12, 18),
        text(38, 22, words.clip(name, 17), "node-name"),
        text(38, 40, " · ".join(filter(None, (state, tried or took))), "node-state"),
    ]
    art = el("g", *parts, class_=f"node kind-{mood}")
    return _Block(NODE, el("a", art, href=_row(step)) if step else art)


def _row(step: Step) -> str:
    return "#" + words.step_anchor(step.path)


def _took(step: Step | None, now_ms: int) -> str:
    """How long it took; nothing for what never ran."""
    if step is None or not step.started_ms or not step.attempt:
        return ""
    return words.duration((step.ended_ms or now_ms) - step.started_ms)
