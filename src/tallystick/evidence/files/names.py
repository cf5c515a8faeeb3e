"""Which globals a pickle may name, and which of them it may call: a list, and nothing but the list."""

from __future__ import annotations

import _compat_pickle
import re
from functools import cache
from importlib import resources

__all__ = ["allowed", "callable_names", "modern"]

LAYER = re.compile(r"torch\.nn\.modules\.[a-z_]+\.[A-Z][A-Za-z0-9]*", re.ASCII)
"""Layers as torch.save keeps a whole module; they are made without being called. Containers of the user's
own classes are not among them."""


@cache
def _listed() -> dict[str, bool]:
    """Every listed name, and whether it may be called."""
    found: dict[str, bool] = {}
    text = resources.files("tallystick.evidence.files").joinpath("names.txt").read_text("utf-8")
    for line in text.splitlines():
        module, colon, names = line.partition(":")
        if colon and not line.startswith("#"):
            found |= {f"{module}.{name.removesuffix('()')}": name.endswith("()") for name in names.split()}
    return found


def allowed(name: str) -> bool:
    """Whether a pickle may name ``module.Name`` at all."""
    return name in _listed() or bool(LAYER.fullmatch(name))


def callable_names(name: str) -> bool:
    """Whether a pickle may call it."""
    return _listed().get(name, False)


def modern(module: str, name: str) -> tuple[str, str]:
    """A global of Python 2 as Python 3 reads it in protocols 0 to 2."""
    if (module, name) in _compat_pickle.NAME_MAPPING:
        return _compat_pickle.NAME_MAPPING[module, name]
    return _compat_pickle.IMPORT_MAPPING.get(module, module), name
