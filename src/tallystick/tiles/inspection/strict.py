"""The strict inspection: every file by its content, every member of every archive; nothing is loaded.

What a thing is called can make it worse (an ``MLmodel``, a ``.py``) and never better. Whatever is not made
out is refused. The rules are in the modules beside this one and in :mod:`tallystick.evidence.files`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from tallystick.core.errors import BadInput
from tallystick.evidence.files.found import No
from tallystick.evidence.files.source import Source
from tallystick.evidence.supply import Inspected, Looked, Standing
from tallystick.ports.tile import Place
from tallystick.tiles.inspection.advisors import advise, advisor_versions
from tallystick.tiles.inspection.examine import Inquiry

__all__ = ["RULES_VERSION", "Strict", "open_tile"]

RULES_VERSION = "1"
FILES_MAX = 100_000


class File(Source):
    """A plain file, opened without following a link; No for anything else."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags)
        except OSError as wrong:
            raise No("unreadable", f"it cannot be opened: {wrong.strerror}") from None
        said = os.fstat(self._fd)
        if not stat.S_ISREG(said.st_mode):
            self.close()
            raise No("special", "it is no plain file")
        self.size = said.st_size

    def read_at(self, offset: int, count: int) -> bytes:
        """See :class:`Source`; Linux gives at most 2 GiB at once, and nobody asks for more."""
        return os.pread(self._fd, count, offset)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class Strict:
    """See the port. ``advisors`` says whether scanners that deny by list are asked as well."""

    def __init__(self, advisors: bool = True) -> None:
        self._advisors = advisors

    def inspect(self, folder: Path, progress: Callable[[float, str], None]) -> Inspected:
        """See the port."""
        if folder.is_symlink() or not folder.is_dir():
            raise BadInput("it is no folder", where=str(folder))
        paths, odd = _listed(folder)
        inquiry = Inquiry()
        total = sum(size for _, size in paths) or 1
        done = 0
        # Models before the rest: ONNX says which of the other files it keeps its tensors in.
        for path, size in sorted(paths, key=lambda item: (not item[0].endswith(".onnx"), item[0])):
            progress(0.9 * done / total, f"looking at {path}")
            _look(inquiry, folder, path)
            done += size
        inquiry.finish()
        found = sorted((*inquiry.looked, *odd), key=lambda looked: looked.path)
        # Only about what is not plain data: nobody else has anything to say of the rest.
        doubtful = sorted({f.path.partition("!")[0] for f in found if f.standing is not Standing.DATA})
        progress(0.95, "asking other scanners")
        advice, asked = advise(folder, doubtful) if self._advisors else ((), ())
        return Inspected(tuple(found), advice, asked)

    def versions(self) -> dict[str, str]:
        """See the port."""
        return {"strict": RULES_VERSION, **(advisor_versions() if self._advisors else {})}


def _listed(folder: Path) -> tuple[list[tuple[str, int]], list[Looked]]:
    """Plain files below ``folder`` with their sizes; what is neither file nor folder is refused."""
    files: list[tuple[str, int]] = []
    odd: list[Looked] = []
    for entry in _walk(folder):
        path = os.path.relpath(entry.path, folder)
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISREG(mode) and len(files) < FILES_MAX and _plain_name(path):
            files.append((path, entry.stat(follow_symlinks=False).st_size))
        elif not stat.S_ISDIR(mode):
            why = (
                "it is a link"
                if stat.S_ISLNK(mode)
                else "it is no plain file of a plain name, or one of too many"
            )
            shown = path.encode("utf-8", "backslashreplace").decode("utf-8")
            odd.append(Looked(shown, "special", Standing.REFUSED, "", 0, why))
            if len(odd) > 1000:
                break
    return files, odd


def _plain_name(path: str) -> bool:
    return path.isprintable() and "\\" not in path


def _walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def _look(inquiry: Inquiry, folder: Path, path: str) -> None:
    try:
        source = File(folder / path)
    except No as wrong:
        inquiry.looked.append(Looked(path, wrong.kind, Standing.REFUSED, "", 0, wrong.why))
        return
    try:
        inquiry.look(path, source)
    finally:
        source.close()


def open_tile(place: Place) -> Strict:
    """Option ``inspection_advisors`` (default true): whether installed scanners are asked for advice."""
    return Strict(bool(place.options.get("inspection_advisors", True)))
