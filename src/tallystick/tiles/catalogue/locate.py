"""Where in a text file something does not fit: read again in plain Python, only after an error."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any

__all__ = [
    "LINE_BYTES_MAX",
    "absent_keys",
    "csv_header",
    "line_not_json",
    "line_not_utf8",
    "line_of_kind",
    "line_of_record",
    "line_ragged",
]

LINE_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of one line that an error is looked for in."""


def line_not_utf8(path: Path) -> int:
    """The number of the first line that is not UTF-8, counting from 1; 0 when all are."""
    for number, line in _lines(path):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            return number
    return 0


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LINE_BYTES_MAX):
            number += 1
            yield number, line


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Records that are not blank, each with the number of the line that it ends on."""
    csv.field_size_limit(LINE_BYTES_MAX)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file)
        try:
            for record in reader:
                if record:
                    yield reader.line_num, record
        except csv.Error:
            return


def csv_header(path: Path) -> list[str]:
    """The fields of the first record that is not blank; empty when there is none."""
    return next((record for _, record in _records(path)), [])


def line_ragged(path: Path) -> tuple[int, int, int]:
    """The first record with another number of fields than the header: line, fields, header's fields.

    Zeros when there is none.
    """
    width = 0
    for line, record in _records(path):
        width = width or len(record)
        if len(record) != width:
            return line, len(record), width
    return 0, 0, 0


def line_of_record(path: Path, number: int) -> int:
    """The line of record ``number``, the header being 1; 0 when there are fewer."""
    return next((line for i, (line, _) in enumerate(_records(path), 1) if i == number), 0)


def _objects(path: Path) -> Iterator[tuple[int, Any]]:
    """What stands on each line that is not blank; ``ValueError`` itself where it is not JSON."""
    for number, line in _lines(path):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, ValueError


def line_not_json(path: Path) -> int:
    """The first line that is not one JSON object; 0 when all are."""
    return next((number for number, said in _objects(path) if not isinstance(said, dict)), 0)


def line_of_kind(path: Path, key: str, fits: Callable[[Any], bool]) -> int:
    """The first line whose value of ``key`` is there, not null and ``fits``; 0 when there is none."""
    for number, said in _objects(path):
        if isinstance(said, dict) and said.get(key) is not None and fits(said[key]):
            return number
    return 0


def absent_keys(path: Path, keys: Set[str]) -> set[str]:
    """Those of ``keys`` that no line has."""
    absent = set(keys)
    for _, said in _objects(path):
        absent -= said.keys() if isinstance(said, dict) else set()
        if not absent:
            break
    return absent
