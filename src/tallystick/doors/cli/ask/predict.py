"""``tally predict``: rows of a file to an endpoint over the Open Inference Protocol, and its answers back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tallystick.core import errors
from tallystick.core.errors import BadInput, Failed, NotFound, NotSupported, Unavailable
from tallystick.core.names import check_name
from tallystick.doors.cli.ask.cells import fitted
from tallystick.doors.cli.ask.rows import Row, read_rows
from tallystick.terminal.client import Hub
from tallystick.terminal.context import Tally, common

__all__ = ["Asking", "predict"]

ROWS_AT_ONCE = 1000
SHOWN_MAX = 6
_KINDS = (NotFound, errors.TooLarge, NotSupported, Unavailable, errors.TookTooLong)
"""What an answer's status tells apart; the protocol has no other word for the kind of an error."""


@click.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--label",
    default=None,
    metavar="COLUMN",
    help="The column of the model's data that is no input (default: the hub's setting).",
)
@common
@click.pass_obj
def predict(tally: Tally, name: str, file: Path, label: str | None) -> None:
    """Send the rows of FILE (.csv, .parquet or .jsonl) to endpoint NAME.

    Columns go to the model's inputs by name, in whatever order they stand; those that are no input are
    left out. A model with one wide input has no names of its own: they are those of the table that it
    was made from. Where nobody knows that table, every column of FILE must be an input, and the order
    in which they stand is trusted.
    """
    check_name("endpoint", name)
    rows = read_rows(file)
    asking = Asking.of(tally.hub, name, label, str(file), rows)
    answers: list[dict[str, Any]] = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        answers += asking.ask(rows[start : start + ROWS_AT_ONCE], start)
    columns = list(answers[0])
    tally.screen.table(answers, columns, ([_cell(a[c]) for c in columns] for a in answers), "no rows")


@dataclass(frozen=True)
class Asking:
    """How rows of ``file`` become requests: ``columns`` fill the only input where that is wide."""

    hub: Hub
    name: str
    file: str
    inputs: Sequence[Mapping[str, Any]]
    columns: Sequence[str] | None = None

    @classmethod
    def of(cls, hub: Hub, name: str, label: str | None, file: str, rows: Sequence[Row]) -> Asking:
        """For an endpoint and rows; BadInput where they do not fit together."""
        try:
            endpoint = hub.noun("endpoint", name)
        except NotFound:
            hint = f"tally deploy MODEL --name {name}"
            raise NotFound(f"no endpoint {name!r}", hint=hint) from None
        says = _metadata(hub, name)
        inputs = says["inputs"]
        if not _is_wide(inputs):
            return cls(hub, name, file, inputs)
        known = _known_columns(hub, endpoint, says["versions"], label)
        return cls(hub, name, file, inputs, _chosen(inputs[0], known, rows, file))

    def ask(self, rows: Sequence[Row], first: int) -> list[dict[str, Any]]:
        """The answers for ``rows``, a dict by output name for each; ``first`` is their place in the file."""
        body = {"inputs": self._tensors(rows, first)}
        answer = self.hub.raw("POST", f"/v2/models/{self.name}/infer", json=body)
        if answer.is_error:
            raise _error(answer, self.name)
        columns = {o["name"]: _split(o, len(rows)) for o in answer.json()["outputs"]}
        return [{key: values[i] for key, values in columns.items()} for i in range(len(rows))]

    def _tensors(self, rows: Sequence[Row], first: int) -> list[dict[str, Any]]:
        if self.columns is not None:
            return [self._tensor(self.inputs[0], rows, first, self.columns)]
        return [self._tensor(spec, rows, first, [spec["name"]]) for spec in self.inputs]

    def _tensor(
        self, spec: Mapping[str, Any], rows: Sequence[Row], first: int, columns: Sequence[str]
    ) -> dict[str, Any]:
        rest = [len(columns)] if self.columns is not None else [1] * (len(spec["shape"]) - 1)
        data = [
            fitted(row, column, spec["datatype"], f"{self.file}: row {first + n + 1}")
            for n, row in enumerate(rows)
            for column in columns
        ]
        shape = [len(rows), *rest]
        return {"name": spec["name"], "datatype": spec["datatype"], "shape": shape, "data": data}


def _is_wide(inputs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the model has one input with a column for each feature, rather than one input for each."""
    for spec in inputs:
        several = [n for n in spec["shape"][1:] if n != 1]
        if several and (len(inputs) > 1 or len(spec["shape"]) != 2):
            raise NotSupported(
                f"input {spec['name']!r} has shape {spec['shape']}, and a column of a file is one value",
                where="tally predict",
                hint="ask it with an Open Inference Protocol client",
            )
    return len(inputs) == 1 and len(inputs[0]["shape"]) == 2


def _metadata(hub: Hub, name: str) -> Any:
    """What the endpoint, which exists, says of its inputs; Unavailable says why it does not answer."""
    answer = hub.raw("GET", f"/v2/models/{name}")
    if answer.status_code == 404:  # the hub has just been started, and has not got to it yet
        raise Unavailable("it is starting", where=f"endpoint {name}", hint="ask again soon")
    if answer.is_error:
        raise _error(answer, name)
    return answer.json()


def _known_columns(
    hub: Hub, endpoint: Mapping[str, Any], versions: Sequence[str], label: str | None
) -> list[list[str]]:
    """The columns, less the label, of each snapshot that the served model was made from."""
    wishes = [endpoint["wished"], *reversed(endpoint["served"])]
    # While a new model is being started, the one before it answers.
    serving = next((w for w in wishes if w["model"].rpartition("@")[2] in versions), wishes[0])
    if not serving["model"]:
        return []
    if label is None:
        label = str(hub.get("/status")["label"])
    snapshots = hub.noun("model", serving["model"])["origin"]["snapshots"]
    tables = [hub.noun("data", key)["columns"] for key in snapshots]
    return [[c["name"] for c in columns if c["name"] != label] for columns in tables]


def _chosen(
    spec: Mapping[str, Any], known: Sequence[Sequence[str]], rows: Sequence[Row], file: str
) -> Sequence[str]:
    """The file's columns for a wide input, in the model's order."""
    width, given = int(spec["shape"][1]), list(rows[0])
    for columns in known:
        if width < 0 or len(columns) == width:
            missing = [c for c in columns if c not in given]
            if missing:
                raise BadInput(f"column {missing[0]!r} is missing", where=file, hint=_hint(columns))
            return columns
    if width == 1 and spec["name"] in given:
        return [spec["name"]]
    if width >= 0 and len(given) != width:
        raise BadInput(
            f"the model takes {width} columns, the file has {len(given)}",
            where=file,
            hint="nobody knows their names, so leave out of the file what is no input (or say --label)",
        )
    other = next((n for n, row in enumerate(rows, 1) if list(row) != given), None)
    if other:
        raise BadInput(
            "its columns are not those of the first row, in that order", where=f"{file}: row {other}"
        )
    return given


def _hint(columns: Sequence[str]) -> str:
    shown = ", ".join(columns[:SHOWN_MAX]) + (", ..." if len(columns) > SHOWN_MAX else "")
    return f"the model was made from {len(columns)} columns: {shown}"


def _split(output: Mapping[str, Any], rows: int) -> list[Any]:
    """An output's flat data as one value, or list of values, for each row."""
    data = output["data"]
    each = len(data) // rows
    return list(data) if each == 1 else [data[i * each : (i + 1) * each] for i in range(rows)]


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_cell(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _error(answer: Any, name: str) -> errors.TallyError:
    """The error in an answer; the endpoint's name is said once."""
    try:
        value = answer.json()
    except ValueError:
        value = answer.text
    text = str(value.get("error", value)) if isinstance(value, dict) else str(value)
    status = answer.status_code
    other = BadInput if status < 500 else Failed
    kind = next((k for k in _KINDS if k.http_status == status), other)
    return kind(text.removeprefix(f"endpoint {name}: ")[:500], where=f"endpoint {name}")
