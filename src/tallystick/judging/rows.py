"""Which rows a model is judged on: those that are named, or that its run held out; none that it has seen."""

from __future__ import annotations

from tallystick.core.data import TABLE_URI, TableRef
from tallystick.core.errors import BadInput
from tallystick.core.model import ModelVersion
from tallystick.core.run.events import Run
from tallystick.hub.house import House
from tallystick.hub.house.rows import Rows, rows_of

__all__ = ["rows_for_judging", "rows_trained_on"]


async def rows_for_judging(house: House, model: ModelVersion, name: str = "") -> Rows:
    """The rows named, or else those that the model's own run held out (its output ``test``).

    Rows of a table that the model was made from, of whichever snapshot, are refused: it has seen them, or
    may have. So are the rows that its own run put out as ``train``. Any other output of a run
    (``RUN/OUTPUT``) is taken as it is, although it may be what a model was trained on: nothing tells that
    apart from rows that were held out.
    """
    rows = await _rows(house, model, name)
    seen = await rows_trained_on(house, model)
    if seen and seen.artifact == rows.artifact:
        hint = f"tally judge {model.key} --data with rows that it has not seen"
        raise BadInput(f"{model.key} was trained on {rows.name}, as its run says", where="data", hint=hint)
    return rows


async def _rows(house: House, model: ModelVersion, name: str) -> Rows:
    if name:
        _check_unseen(model, name)
        return await rows_of(house, name)
    run = await house.find("run", model.origin.run, Run) if model.origin.run else None
    if run and len(run.outputs.artifacts.get("test", ())) == 1:
        return await rows_of(house, f"{run.key}/test")
    raise BadInput(
        f"say on which rows to judge {model.key}", where="data", hint=f"tally judge {model.key} --data TABLE"
    )


async def rows_trained_on(house: House, model: ModelVersion) -> Rows | None:
    """The rows that a model was trained on, where its own run put them out as ``train``; else None.

    A table that the run read may hold rows that it held out: nobody can say that it was trained on those.
    """
    run = await house.find("run", model.origin.run, Run) if model.origin.run else None
    if run is None or len(run.outputs.artifacts.get("train", ())) != 1:
        return None
    return await rows_of(house, f"{run.key}/train")


def _check_unseen(model: ModelVersion, name: str) -> None:
    """BadInput where ``name`` is a table that the model was made from."""
    if "/" in name.removeprefix(TABLE_URI):
        return
    table = TableRef.parse(name).table
    if table in model.origin.tables:
        raise BadInput(
            f"{model.key} was made from rows of table {table}",
            where="data",
            hint="leave --data out to judge on the rows that its run held out, or name other rows",
        )
