"""Reading ``MLmodel``, the file that says what an MLflow model folder holds, without MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tallystick.core.errors import BadInput, Refused

__all__ = ["FILE_BYTES_MAX", "check_paths", "file_inside", "flavor", "has_flavor", "read_mlmodel"]

FILE_BYTES_MAX = 1024 * 1024
"""Bytes of an ``MLmodel`` file; real ones are of a few kilobytes."""

NOT_PATHS = frozenset({"uri", "model_config", "metadata"})
"""Keys whose values are the user's own words, and are not opened when a model is loaded."""


def read_mlmodel(folder: Path) -> Mapping[str, Any]:
    """The parsed ``MLmodel`` of ``folder``; BadInput when there is none or it is not what it should be."""
    import yaml

    where = str(folder / "MLmodel")
    try:
        with (folder / "MLmodel").open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as wrong:
        raise BadInput(f"no MLmodel can be read: {wrong.strerror}", where=where) from None
    if len(text) > FILE_BYTES_MAX:
        raise BadInput(f"an MLmodel of over {FILE_BYTES_MAX} bytes", where=where)
    try:
        said = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as wrong:
        raise BadInput(f"it is not plain YAML: {str(wrong)[:200]}", where=where) from None
    if not isinstance(said, dict) or not isinstance(said.get("flavors"), dict):
        raise BadInput("it has no flavors", where=where, hint="save the model with MLflow")
    return said


def has_flavor(folder: Path, name: str) -> bool:
    """True when ``folder`` holds an MLflow model with the flavor ``name``."""
    try:
        return isinstance(read_mlmodel(folder)["flavors"].get(name), dict)
    except BadInput:
        return False


def flavor(said: Mapping[str, Any], name: str, folder: Path) -> Mapping[str, Any]:
    """One flavor's settings; BadInput when the model has it not."""
    found = said["flavors"].get(name)
    if not isinstance(found, dict):
        raise BadInput(f"the model has no {name} flavor", where=str(folder / "MLmodel"))
    return found


def check_paths(said: Mapping[str, Any], folder: Path) -> None:
    """Refused when a flavor names a path that leaves ``folder``: absolute, with ``..``, or a URI."""
    for text in _texts(said["flavors"], set()):
        parts = text.replace("\\", "/").split("/")
        if ".." in parts or text.startswith(("/", "\\", "~")) or "://" in text or "\0" in text:
            raise Refused(f"it names {text[:200]!r}, outside the model", where=str(folder / "MLmodel"))


def _texts(value: Any, seen: set[int]) -> Iterator[str]:
    """Every string in a parsed YAML value, each shared part once (aliases may nest without end)."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list) and id(value) not in seen:
        seen.add(id(value))
        parts = value if isinstance(value, list) else [v for k, v in value.items() if k not in NOT_PATHS]
        for part in parts:
            yield from _texts(part, seen)


def file_inside(folder: Path, named: Any, where: str) -> Path:
    """The regular file ``named`` below ``folder``, symbolic links followed.

    BadInput when it is not a name or there is no such file, Refused when it lies outside.
    """
    if not isinstance(named, str) or not named or "\0" in named:
        # Its type and not itself: with aliases, a short YAML file can be a value without end.
        shown = repr(named[:100]) if isinstance(named, str) else f"a {type(named).__name__}"
        raise BadInput(f"{shown} is not a file name", where=where)
    root = folder.resolve()
    path = (root / named).resolve()
    if Path(named).is_absolute() or not path.is_relative_to(root):
        raise Refused(f"it names {named[:200]!r}, outside the model", where=where)
    if not path.is_file():
        raise BadInput(f"there is no file {named[:200]!r} in the model", where=where)
    return path
