"""The catalogue's worker: a process that alone imports pyiceberg and pyarrow (3.5 s) and touches files.

``python -m tallystick.tiles.catalogue.worker`` reads lines of JSON. The first is the order:
``{"database", "warehouse", "rows_max", "columns_max"}``, answered by ``{"ready": {}}``. Each further
line is a request ``{"verb": "append" | "snapshots" | "tables" | "export", ...}``, done one at a time
and answered by ``{"result": {...}}`` or ``{"error": {...}}``. It ends at the end of its input.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallystick.core.data import Source
from tallystick.core.errors import BadInput, Damaged, Failed, MissingTile, TallyError, TooLarge, Unavailable
from tallystick.core.facts import to_json
from tallystick.core.names import check_name

if TYPE_CHECKING:
    from tallystick.tiles.catalogue.shelf import Shelf

__all__ = ["main"]


def _open(order: Mapping[str, Any]) -> Shelf:
    try:
        from tallystick.tiles.catalogue.formats import Limits
        from tallystick.tiles.catalogue.shelf import Shelf
    except ImportError as missing:
        raise MissingTile(
            f"it needs the Python package {missing.name or missing}",
            where="tile catalogue/iceberg",
            hint="pip install 'tallystick[iceberg]'",
        ) from missing
    limits = Limits(int(order["rows_max"]), int(order["columns_max"]))
    return Shelf(Path(order["database"]), Path(order["warehouse"]), limits)


def _append(shelf: Shelf, asked: Mapping[str, Any]) -> Any:
    source = Source(asked["filename"], asked["source_digest"], int(asked["source_bytes"]))
    return _wire(
        [
            shelf.append(
                asked["table"],
                Path(asked["file"]),
                asked["kind"],
                source,
                at_ms=int(asked["at_ms"]),
                allow_nan=bool(asked["allow_nan"]),
            )
        ]
    )


def _snapshots(shelf: Shelf, asked: Mapping[str, Any]) -> Any:
    return _wire(shelf.snapshots(asked["table"]))


def _tables(shelf: Shelf, asked: Mapping[str, Any]) -> Any:
    return {"tables": shelf.tables()}


def _export(shelf: Shelf, asked: Mapping[str, Any]) -> Any:
    from tallystick.tiles.catalogue.exports import export

    check_name("table", asked["table"])
    return _wire([export(shelf, asked["table"], asked["snapshot"], Path(asked["dest"]))])


def _wire(snapshots: list[Any]) -> Any:
    """Snapshots with each list of columns said once: there may be thousands of either."""
    columns: list[Any] = []
    said = []
    for snapshot in snapshots:
        item = to_json(snapshot)
        if item["columns"] not in columns:
            columns.append(item["columns"])
        said.append({**item, "columns": columns.index(item["columns"])})
    return {"snapshots": said, "columns": columns}


VERBS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "append": _append,
    "snapshots": _snapshots,
    "tables": _tables,
    "export": _export,
}


def _told(wrong: BaseException) -> TallyError:
    """What a library's error means to a user."""
    if isinstance(wrong, TallyError):
        return wrong
    said = f"{type(wrong).__name__}: {str(wrong)[:500]}"
    if isinstance(wrong, MemoryError):
        return TooLarge(
            "it needs more memory than the worker has", where="catalogue", hint="send it in parts"
        )
    if isinstance(wrong, OSError) and wrong.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return Unavailable(f"the disk refuses: {os.strerror(wrong.errno)}", where="catalogue")
    if isinstance(wrong, FileNotFoundError):
        return Damaged(f"a file of the table is gone: {said}", where="catalogue")
    if type(wrong).__name__ == "OperationalError":  # SQLAlchemy's, which is imported by pyiceberg alone
        return Unavailable(f"the catalogue's database cannot be used: {said}", where="catalogue")
    return Failed(said, where="catalogue")


def _serve(shelf: Shelf, line: str) -> Mapping[str, Any]:
    try:
        asked = json.loads(line)
        if asked.get("verb") not in VERBS:
            raise BadInput(f"there is no verb {asked.get('verb')!r}", where="catalogue worker")
        return {"result": VERBS[asked["verb"]](shelf, asked)}
    except Exception as wrong:  # noqa: BLE001 - the process's edge: the hub must hear of whatever it is
        if not isinstance(wrong, TallyError):
            traceback.print_exc()
        return {"error": _told(wrong).as_dict()}


def main() -> None:
    """Serve until the input ends. Whatever a library prints goes to standard error."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def say(said: Mapping[str, Any]) -> None:
        out.write(json.dumps(said).encode() + b"\n")
        out.flush()

    try:
        shelf = _open(json.loads(sys.stdin.readline()))
    except Exception as wrong:  # noqa: BLE001 - as above
        traceback.print_exc()
        say({"error": _told(wrong).as_dict()})
        sys.exit(1)
    say({"ready": {}})
    for line in sys.stdin:
        say(_serve(shelf, line))


if __name__ == "__main__":
    main()
