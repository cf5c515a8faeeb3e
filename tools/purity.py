"""What core may reach for: a list of the standard library, and no call that opens, prints or asks the time.

import-linter's contract `core-pure` names the modules of I/O, clocks and randomness; it cannot say "nothing
else", nor see a call. This is that other half. tools/ratchet.py runs it with the rest.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

ALLOWED_IN_CORE = frozenset({
    "__future__", "abc", "base64", "binascii", "bisect", "calendar", "collections", "contextlib", "copy",
    "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "graphlib", "hashlib", "heapq",
    "hmac", "itertools", "json", "keyword", "math", "numbers", "operator", "re", "statistics", "string",
    "struct", "textwrap", "types", "typing", "unicodedata", "zlib",
})  # fmt: skip
REFUSED_CALLS = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}
CLOCK_CALLS = {"now", "utcnow", "today"}
NEXT_STEP = "pass the value in, or return an effect"


def impurities(tree: ast.Module, where: str) -> Iterator[str]:
    """A line for each thing that a module of core reaches for and must not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module in imported(node):
                if not allowed(module):
                    yield f"{where}:{node.lineno}: core imports `{module}`, not on its list: {NEXT_STEP}"
        elif isinstance(node, ast.Call) and refused(node.func):
            yield f"{where}:{node.lineno}: core calls `{ast.unparse(node.func)}`: {NEXT_STEP}"


def imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    """The modules that one import statement names, the dots of a relative one included."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return ["." * node.level + (node.module or "")]


def allowed(module: str) -> bool:
    """Is it on the list, or core itself?"""
    inside = f"{module}.".startswith(("tallystick.core.", "tallystick.record."))
    return inside or module.partition(".")[0] in ALLOWED_IN_CORE


def refused(function: ast.expr) -> bool:
    """Is it open(), print() and their like, or a reading of the clock?"""
    if isinstance(function, ast.Name):
        return function.id in REFUSED_CALLS
    return (
        isinstance(function, ast.Attribute)
        and function.attr in CLOCK_CALLS
        and last_name(function.value) in {"datetime", "date"}
    )


def last_name(node: ast.expr) -> str:
    """``c`` of ``c``, ``b.c`` and ``a.b.c``; nothing of anything else."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
