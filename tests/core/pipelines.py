"""Random pipelines: graphs in graphs, loops, importers, and inputs from wherever there is one."""

from __future__ import annotations

from random import Random

from tallystick.core.pipeline.order import is_param
from tallystick.core.pipeline.spec import (
    Binding,
    Cache,
    Component,
    Constant,
    Dag,
    DagOutput,
    FromInput,
    FromTask,
    Function,
    Importer,
    Loop,
    Param,
    ParamType,
    Pipeline,
    Slot,
    Source,
    Task,
)

__all__ = ["random_pipeline"]


def random_pipeline(lots: Random) -> Pipeline:
    """A pipeline with the parameters ``items`` (a list) and ``number``; each step gives ``out``."""
    params = (Param("items", ParamType.LIST, [1, 2]), Param("number", ParamType.INTEGER, 1))
    return Pipeline("p", _dag(lots, {"number"}, {"items"}, depth=0), params)


def _dag(lots: Random, inputs: set[str], lists: set[str], depth: int) -> Dag:
    tasks: list[Task] = []
    for n in range(lots.randint(1, 4)):
        tasks.append(_task(lots, f"t{n}", tasks, inputs, lists, depth))
    last = lots.choice(tasks)
    lots.shuffle(tasks)
    return Dag(tuple(tasks), (DagOutput("out", (Source(last.name, "out"),)),))


def _task(
    lots: Random, name: str, earlier: list[Task], inputs: set[str], lists: set[str], depth: int
) -> Task:
    after = tuple(task.name for task in earlier if lots.random() < 0.2)
    kind = lots.random()
    if kind < 0.1:
        return Task(name, Importer(_binding(lots, earlier, inputs)), after=after)
    bound = {f"x{n}": _binding(lots, earlier, inputs) for n in range(lots.randint(0, 2))}
    if kind < 0.4 and depth < 2:
        return _graph(lots, name, earlier, bound, after, lists, depth)
    component = Component(
        name="c",
        code=Function("f", "def f(): ..."),
        params=tuple(Param(x, ParamType.INTEGER) for x in bound if not isinstance(bound[x], FromTask)),
        artifacts=tuple(Slot(x, optional=True) for x in bound if isinstance(bound[x], FromTask)),
        out_params=(Param("out", ParamType.INTEGER),),
    )
    return Task(name, component, bound, after, cache=Cache(lots.random() < 0.5))


def _graph(
    lots: Random,
    name: str,
    earlier: list[Task],
    bound: dict[str, Binding],
    after: tuple[str, ...],
    lists: set[str],
    depth: int,
) -> Task:
    if lots.random() < 0.4:
        return Task(name, _dag(lots, set(bound), set(), depth + 1), bound, after)
    looped = [task.name for task in earlier if task.loop and _gives_a_list(task)]
    sources: list[Binding] = [
        Constant(list(range(lots.randint(0, 4)))),
        *map(FromInput, sorted(lists)),
    ]
    sources += [FromTask(task, "out") for task in looped]
    loop = Loop(lots.choice(sources), "item", lots.choice([0, 0, 1, 2]))
    return Task(name, _dag(lots, {*bound, "item"}, set(), depth + 1), bound, after, loop)


def _gives_a_list(task: Task) -> bool:
    return isinstance(task.body, Dag) and all(is_param(task.body, output) for output in task.body.outputs)


def _binding(lots: Random, earlier: list[Task], inputs: set[str]) -> Binding:
    choices: list[Binding] = [Constant(lots.randint(0, 9)), *map(FromInput, sorted(inputs))]
    choices += [FromTask(task.name, "out") for task in earlier]
    return lots.choice(choices)
