"""``tally predict``: rows of a file to an endpoint over the Open Inference Protocol, and its answers back."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tallystick.core.errors import BadInput, Failed, NotFound, Unavailable
from tallystick.core.names import check_name
from tallystick.doors.cli.client import Hub
from tallystick.doors.cli.context import Tally, common

__all__ = ["ask", "predict", "read_rows"]

ROWS_AT_ONCE = 1000

Row = Mapping[str, Any]


@click.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@common
@click.pass_obj
def predict(tally: Tally, name: str, file: Path) -> None:
    """Send the rows of FILE (.csv or .jsonl) to endpoint NAME; columns that are no input are left out."""
    check_name("endpoint", name)
    rows = read_rows(file)
    hub = tally.hub
    inputs = metadata(hub, name)["inputs"]
    answers: list[dict[str, Any]] = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        answers += ask(hub, name, inputs, rows[start : start + ROWS_AT_ONCE], start)
    columns = list(answers[0])
    tally.screen.table(answers, columns, ([_cell(a[c]) for c in columns] for a in answers), "no rows")


def read_rows(file: Path) -> list[Row]:
    """The rows of a CSV (with header) or JSON lines file; BadInput names the line that does not fit."""
    if not file.is_file():
        raise BadInput("no such file", where=str(file))
    ending = file.suffix.lower()
    try:
        if ending == ".csv":
            rows = _csv_rows(file)
        elif ending in (".jsonl", ".ndjson"):
            rows = [
                _json_row(line, i, file)
                for i, line in enumerate(file.read_text("utf-8").splitlines(), 1)
                if line
            ]
        else:
            raise BadInput(
                f"cannot read {ending or 'this kind of'} files", where=str(file), hint="use .csv or .jsonl"
            )
    except UnicodeDecodeError:
        raise BadInput("is not UTF-8 text", where=str(file)) from None
    if not rows:
        raise BadInput("the file has no rows", where=str(file))
    return rows


def _csv_rows(file: Path) -> list[Row]:
    with file.open(encoding="utf-8", newline="") as source:
        reader = csv.DictReader(source)
        rows: list[Row] = []
        for row in reader:
            if None in row or None in row.values():
                raise BadInput(
                    "the row has another number of cells than the header", where=f"{file}:{reader.line_num}"
                )
            rows.append(row)
    return rows


def _json_row(line: str, number: int, file: Path) -> Row:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise BadInput("the line is not a JSON object", where=f"{file}:{number}")
    return row


def metadata(hub: Hub, name: str) -> Any:
    """What the endpoint says of its inputs and outputs."""
    answer = hub.raw("GET", f"/v2/models/{name}")
    if answer.status_code == 404:
        raise NotFound(f"no endpoint {name!r}: {_said(answer)}", hint=f"tally deploy MODEL --name {name}")
    if answer.is_error:
        raise Unavailable(f"endpoint {name!r} does not answer: {_said(answer)}", hint="tally status")
    return answer.json()


def ask(
    hub: Hub, name: str, inputs: Sequence[Mapping[str, Any]], rows: Sequence[Row], first: int
) -> list[dict[str, Any]]:
    """The answers for ``rows``, a dict by output name for each; ``first`` is their place in the file."""
    body = {"inputs": _tensors(inputs, rows, first)}
    answer = hub.raw("POST", f"/v2/models/{name}/infer", json=body)
    if answer.is_error:
        raise (BadInput if answer.status_code < 500 else Failed)(_said(answer), where=f"endpoint {name}")
    columns = {o["name"]: _split(o, len(rows)) for o in answer.json()["outputs"]}
    return [{key: values[i] for key, values in columns.items()} for i in range(len(rows))]


def _tensors(inputs: Sequence[Mapping[str, Any]], rows: Sequence[Row], first: int) -> list[dict[str, Any]]:
    wide = len(inputs) == 1 and len(inputs[0]["shape"]) == 2 and inputs[0]["name"] not in rows[0]
    if not wide:
        return [
            {"name": i["name"], "datatype": i["datatype"], "shape": [len(rows)] + [1] * (len(i["shape"]) - 1),
             "data": [_value(row, i["name"], i["datatype"], first + n) for n, row in enumerate(rows)]}
            for i in inputs
        ]  # fmt: skip
    spec = inputs[0]
    width = int(spec["shape"][1])
    names = list(rows[0])
    names = names if width < 0 or len(names) == width else [n for n in names if n != "label"]
    if width >= 0 and len(names) != width:
        raise BadInput(f"the model takes {width} columns, the file has {len(names)}", where=str(spec["name"]))
    data = [_value(row, n, spec["datatype"], first + i) for i, row in enumerate(rows) for n in names]
    return [
        {"name": spec["name"], "datatype": spec["datatype"], "shape": [len(rows), len(names)], "data": data}
    ]


def _value(row: Row, name: str, datatype: str, at: int) -> Any:
    if name not in row:
        raise BadInput(f"column {name!r} is missing", where=f"row {at + 1}")
    value = row[name]
    if datatype == "BYTES":
        return str(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise BadInput(
            f"column {name!r} holds {str(value)[:40]!r}, not a number", where=f"row {at + 1}"
        ) from None
    if not math.isfinite(number):
        raise BadInput(
            f"column {name!r} holds {value}", where=f"row {at + 1}", hint="the model takes finite numbers"
        )
    return int(number) if datatype.startswith(("INT", "UINT")) else number


def _split(output: Mapping[str, Any], rows: int) -> list[Any]:
    """An output's flat data as one value, or list of values, for each row."""
    data = output["data"]
    each = len(data) // rows
    return list(data) if each == 1 else [data[i * each : (i + 1) * each] for i in range(rows)]


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_cell(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _said(answer: Any) -> str:
    try:
        value = answer.json()
        return str(value.get("error", value))[:500] if isinstance(value, dict) else str(value)[:500]
    except ValueError:
        return str(answer.text)[:200]
