"""The rows of a file that somebody wants predictions for: CSV, Parquet or JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tallystick.core.errors import BadInput, MissingTile
from tallystick.terminal.context import check_file

__all__ = ["Row", "read_rows"]

Row = Mapping[str, Any]


def read_rows(file: Path) -> list[Row]:
    """The rows of a file, by column name; BadInput names the line that does not fit."""
    readers = {".csv": _csv_rows, ".parquet": _parquet_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}
    check_file(file)
    ending = file.suffix.lower()
    if ending not in readers:
        kind = f"{ending} files" if ending else "a file without an ending"
        raise BadInput(f"cannot read {kind}", where=str(file), hint="use .csv, .parquet or .jsonl")
    try:
        rows = readers[ending](file)
    except UnicodeDecodeError:
        raise BadInput("is not UTF-8 text", where=str(file)) from None
    if not rows:
        raise BadInput("the file has no rows", where=str(file))
    return rows


def _csv_rows(file: Path) -> list[Row]:
    rows: list[Row] = []
    with file.open(encoding="utf-8-sig", newline="") as source:
        reader = csv.reader(source, strict=True)
        header: list[str] = []
        try:
            for cells in reader:
                where = f"{file}: line {reader.line_num}"
                if not header:
                    header = _checked_header(cells, where)
                elif cells and len(cells) != len(header):
                    raise BadInput(f"{len(cells)} fields, the header has {len(header)}", where=where)
                elif cells:  # an empty line is no row
                    rows.append(dict(zip(header, cells, strict=True)))
        except csv.Error as wrong:
            raise BadInput(f"it is not CSV: {wrong}", where=f"{file}: line {reader.line_num}") from None
    return rows


def _checked_header(cells: list[str], where: str) -> list[str]:
    repeated = next((name for name in cells if cells.count(name) > 1), None)
    if repeated is not None:
        raise BadInput(f"column {repeated!r} appears twice", where=where)
    return cells


def _json_rows(file: Path) -> list[Row]:
    lines = file.read_text("utf-8-sig").split("\n")
    return [_json_row(line, f"{file}: line {n}") for n, line in enumerate(lines, 1) if line.strip()]


def _json_row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise BadInput("the line is not a JSON object", where=where)
    return row


def _parquet_rows(file: Path) -> list[Row]:
    try:
        from pyarrow import ArrowException, parquet  # late: it weighs, and only this kind of file needs it
    except ImportError:
        raise MissingTile(
            "reading Parquet needs the Python package pyarrow",
            where=str(file),
            hint="pip install 'tallystick[iceberg]', or use .csv or .jsonl",
        ) from None
    try:
        rows: list[Row] = parquet.read_table(file).to_pylist()
    except (ArrowException, OSError) as wrong:
        said = (str(wrong).splitlines() or ["it is damaged"])[0][:200]
        raise BadInput(f"it is not a Parquet file that can be read: {said}", where=str(file)) from None
    return rows
