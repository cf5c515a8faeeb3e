"""The words of a container's command, each of which may name a program."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tallystick.core.pipeline.spec import Command

__all__ = ["words_of"]

WORDS_MAX = 1000
_WORD = re.compile(r"[\w./+@-]+")
_SHELLS = {"sh", "/bin/sh"}


def words_of(command: Command) -> set[str]:
    """The first ``WORDS_MAX``, those of a script in it included."""
    texts = [text for part in (*command.command, *command.args) for text in _texts(part)]
    words = [word for text in texts for word in _WORD.findall(text)][:WORDS_MAX]
    return {*words, *(["bash"] if _SHELLS & set(words) else [])}  # which may run in the place of sh


def _texts(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, list | tuple):
        for inner in part:
            yield from _texts(inner)
    elif isinstance(part, Mapping):
        for inner in part.values():
            yield from _texts(inner)
