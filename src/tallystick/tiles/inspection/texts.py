"""Texts: JSON, YAML, programs, and what is neither; judged by what a reader of models would make of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from tallystick.evidence.files.found import Found, No
from tallystick.evidence.files.source import Source
from tallystick.evidence.supply import Standing
from tallystick.tiles.inspection.jsons import judged_json

__all__ = ["is_text", "text", "yaml_value"]

YAML_BYTES_MAX = 1024 * 1024
YAML_EVENTS_MAX = 200_000
BOM = b"\xef\xbb\xbf"
"""What may stand before a text in UTF-8: Python reads JSON behind it, given as bytes."""

JSON_BYTES_MAX = 64 * 1024 * 1024
PROGRAMS = (".py", ".pyw", ".pyi", ".pyx", ".ipynb", ".pth", ".sh", ".bat", ".cmd", ".ps1", ".js", ".pl",
            ".rb", ".r", ".lua", ".jl")  # fmt: skip
_PYTHON_TAG = re.compile(rb"!!python/|yaml\.org,2002:python|^%TAG|!<[^>\n]{0,200}python", re.MULTILINE)
_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("null", "bool", "int", "float", "str", "seq", "map", "binary", "timestamp", "set", "omap")
)
_ODD = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


def is_text(source: Source) -> bool:
    """Whether all of it is UTF-8 without control characters."""
    carried = b""
    for chunk in source.chunks():
        if _ODD.search(chunk):
            return False
        whole = carried + chunk
        try:
            whole.decode("utf-8")
            carried = b""
        except UnicodeDecodeError as wrong:
            if wrong.start < len(whole) - 3 or len(whole) - wrong.start > 3:
                return False
            carried = whole[wrong.start :]
    return not carried


def text(source: Source, name: str, inside: bool = False) -> Found:
    """A text, whose file is called ``name``, ``inside`` an archive or not.

    No for a script, a tagged YAML, a Keras model with code in it.
    """
    head = source.read_at(0, 4096)
    program = name.lower().endswith(PROGRAMS)
    if head[:2] == b"#!" and not program:
        raise No("script", "it is a script, which is no part of a model")
    if program and inside:
        raise No("program", "it is a program in an archive, where MLflow keeps none")
    if program:
        return Found("program", Standing.CODE, "it is a program")
    stripped = head.removeprefix(BOM).lstrip()
    if not stripped or stripped[:1] in (b"{", b"["):  # readers of JSON pass over blanks without end
        found = _json(source)
        if found is not None:
            return found
    if head.startswith(b"tree\nversion="):
        return Found("lightgbm")
    if name.lower().endswith((".yaml", ".yml")):
        yaml_value(source)
        return Found("yaml")
    if _tagged(source):
        raise No("yaml", "it has a tag that makes a YAML reader call Python")
    return Found("csv" if name.lower().endswith(".csv") else "text")


def _tagged(source: Source) -> bool:
    before = b""
    for chunk in source.chunks():
        if _PYTHON_TAG.search(before[-256:] + chunk):
            return True
        before = chunk
    return False


def _json(source: Source) -> Found | None:
    """JSON as what it says; None where it is none."""
    if source.size > JSON_BYTES_MAX:
        raise No("json", f"it is JSON of over {JSON_BYTES_MAX} bytes: store numbers in a binary format")
    try:
        said = json.loads(source.read_at(0, source.size), object_pairs_hook=_with_repeats)
    except (ValueError, RecursionError):
        return None
    return judged_json(said)


def _with_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dict that does not forget what stood under a key before: readers differ in which one they take."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[f"{key}\0{len(found)}" if key in found else key] = value
    return found


def yaml_value(source: Source) -> Any:
    """What a plain YAML file says; No for a tag that is not YAML's own, and for one that never ends."""
    if source.size > YAML_BYTES_MAX:
        raise No("yaml", f"it is YAML of over {YAML_BYTES_MAX} bytes")
    import yaml

    data = source.read_at(0, source.size)
    try:
        for count, event in enumerate(yaml.parse(data, Loader=_loader())):
            tag = getattr(event, "tag", None)
            if tag is not None and tag not in _PLAIN_TAGS and tag != "!":
                raise No(
                    "yaml", f"it has the tag {str(tag)[:200]!r}, which makes a YAML reader call something"
                )
            if count > YAML_EVENTS_MAX or isinstance(event, yaml.AliasEvent):
                raise No("yaml", "it has aliases, or is without end")
        return yaml.load(data, Loader=_loader(safe=True))  # noqa: S506  reason: a safe loader, in C where there is one
    except (yaml.YAMLError, ValueError, RecursionError) as wrong:
        raise No("yaml", f"it cannot be read as YAML: {str(wrong)[:200]}") from None


def _loader(safe: bool = False) -> Any:
    import yaml

    fast: Callable[..., Any] | None = getattr(yaml, "CSafeLoader", None)
    return fast or yaml.SafeLoader
