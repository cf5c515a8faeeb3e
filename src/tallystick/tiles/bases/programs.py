"""What a container's command runs on: the programs of this machine that its words name.

A command may start anything that it finds, so this is what can be known before: each word of it, and each
word of a script in it, that is a program on its PATH or an absolute path of one. What is installed beside the
hub counts for a command that names a program from there, as ``python`` is. Files that nobody may run are not
read: what they hold is none of a pipeline's business.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from tallystick.core.pipeline.spec import Command
from tallystick.core.pipeline.words import words_of
from tallystick.core.values import Environment
from tallystick.ports.runs.bases import PROGRAMS

__all__ = ["command_environment"]

READ_BYTES_MAX = 256 * 2**20
"""Of all programs of a command; of a file that is more than is left, size and time stand for the content."""
FOLDERS_MAX = 100
"""Of a PATH; what is relative on it is relative to the step's own folder, where nothing is before it runs."""
PIECE_BYTES = 2**20
FIRST_LINE_BYTES = 256
SCRIPTS_DEEP = 3
RUNNERS_MAX = 4
"""Words of a script's first line: ``/usr/bin/env -S python3 -u`` has so many."""
_OURS = str(Path(sys.executable).parent)


def command_environment(command: Command, env: Mapping[str, str], here: Environment) -> Environment:
    """Its programs, each with the digest of its content; ``env`` is the component's own. It reads files.

    ``here`` is what is installed beside the hub.
    """
    path = env.get("PATH") or f"{_OURS}:{PROGRAMS}"
    folders = [folder for folder in path.split(os.pathsep) if folder.startswith("/")]
    search = _Search(os.pathsep.join(folders[:FOLDERS_MAX]))
    for word in sorted(words_of(command)):
        search.add(word, SCRIPTS_DEEP)
    found = search.found
    if any(os.path.dirname(name) == _OURS for name in found):  # noqa: PTH120  reason: of many words, for each step
        return Environment(here.python, here.platform, {**here.packages, **dict(sorted(found.items()))})
    return Environment("", here.platform, dict(sorted(found.items())))


class _Search:
    """The programs that words name, with what each is run by where it is a script; ``path`` is their PATH."""

    def __init__(self, path: str) -> None:
        self.found: dict[str, str] = {}
        self._path = path
        self._left = READ_BYTES_MAX

    def add(self, word: str, deep: int) -> None:
        """Look for one; most words are none."""
        named = word.startswith("/") or "/" not in word
        file = shutil.which(word, path=self._path) if named else None
        if file is None or file in self.found:
            return
        try:
            found = os.stat(file)  # noqa: PTH116  reason: as above
            if not stat.S_ISREG(
                found.st_mode
            ):  # to open a pipe waits for somebody, and a device may do anything
                return
            whole = found.st_size <= self._left
            digest, first = _read(file, found.st_size, found.st_mtime_ns, found.st_ino, whole)
        except OSError:  # nor could the step
            return
        self.found[file] = digest
        self._left -= found.st_size if whole else 0
        for runner in first.split()[:RUNNERS_MAX] if deep else ():
            self.add(runner, deep - 1)


@lru_cache(maxsize=1024)
def _read(file: str, size: int, mtime_ns: int, _: int, whole: bool) -> tuple[str, str]:
    """The digest of a file's content, and what its first line says to run it by."""
    # It may be another file by now, and grow while it is read.
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
        start = opened.read(FIRST_LINE_BYTES) or b""
        first = start.partition(b"\n")[0][2:].decode("utf-8", "replace") if start.startswith(b"#!") else ""
        if not whole:
            return f"{size} bytes of {mtime_ns}", first
        digest, left = hashlib.sha256(start), size - len(start)
        while left > 0 and (piece := opened.read(min(left, PIECE_BYTES))):
            digest.update(piece)
            left -= len(piece)
        return f"sha256:{digest.hexdigest()}", first
