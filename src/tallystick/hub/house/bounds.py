"""Bounds: how much may stand in the facts themselves, as what is large belongs into artifacts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tallystick.core.errors import TooLarge

__all__ = ["VALUES_BYTES_MAX", "check_values"]

VALUES_BYTES_MAX = 256 * 1024
"""Of all values of one step or run as JSON: every fact of the run records them again."""


def check_values(what: str, values: Mapping[str, Any], hint: str) -> None:
    """TooLarge, naming the largest, where JSON values take over ``VALUES_BYTES_MAX`` bytes together.

    ``what`` says what one of them is, for example ``output``; ``hint`` is the next step.
    """
    sizes = {name: _bytes(value) for name, value in values.items()}
    if sum(sizes.values()) <= VALUES_BYTES_MAX:
        return
    name = max(sizes, key=lambda n: sizes[n])
    most = f"{VALUES_BYTES_MAX // 1024} KiB"
    if sizes[name] > VALUES_BYTES_MAX:
        text = f"{what} {name!r} is {sizes[name]:,} bytes of JSON, and may be {most}"
    else:
        text = f"they are {sum(sizes.values()):,} bytes of JSON, {name!r} the largest, and may be {most}"
    raise TooLarge(text, where=f"{what} {name}", hint=hint)


def _bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
