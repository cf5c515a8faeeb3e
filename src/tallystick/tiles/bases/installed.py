"""What is installed beside the hub: whether it satisfies a component, and what all of it is."""

from __future__ import annotations

import contextlib
import os
import platform
import stat
import sys
from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution, distributions

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from tallystick.core.errors import NotSupported
from tallystick.core.values import Environment

__all__ = ["check_packages", "environment_stamp", "installed_environment"]

MARKS = (".dist-info", ".egg-info", ".egg-link", ".egg", ".pth")
"""Of an installed package, one of these lies beside it."""
EXTRAS_DEPTH_MAX = 5
"""Extras that name extras, as in ``all = ["this[one,two]"]``."""


def check_packages(packages: Sequence[str], where: str) -> None:
    """NotSupported, naming the first of ``packages`` that the installed ones do not satisfy."""
    for text in packages:
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            raise NotSupported(
                f"package {text[:100]!r} is not a plain requirement, like name==1.2",
                where=where,
                hint="write it like name==1.2; options, paths and addresses are not taken",
            ) from None
        if (wrong := _missing(wanted, EXTRAS_DEPTH_MAX)) is not None:
            raise NotSupported(
                f"it needs the package {text!r}, {wrong}",
                where=where,
                hint=f"an environment for each component: pip install 'tallystick[environments]'; "
                f"or pip install '{text}' beside tallystick",
            )


def _missing(wanted: Requirement, depth: int) -> str | None:
    """Why ``wanted`` is not satisfied, or None when it is."""
    if wanted.url:
        return "which is an address and is never fetched"
    if wanted.marker and not wanted.marker.evaluate():
        return None
    try:
        found = distribution(wanted.name)
    except PackageNotFoundError:
        return "which is not installed"
    if not wanted.specifier.contains(found.version, prereleases=True):
        return f"but {found.version} is installed"
    for extra in wanted.extras if depth else ():
        for line in found.requires or ():
            part = Requirement(line)
            if not (part.marker and part.marker.evaluate({"extra": extra})):
                continue
            if not part.marker.evaluate({"extra": ""}):  # it is this extra that asks for it
                part.marker = None
                if (wrong := _missing(part, depth - 1)) is not None:
                    return f"whose extra {extra!r} needs {part.name}, {wrong}"
    return None


def environment_stamp() -> Hashable:
    """Changes whenever a package is installed or removed: what of packages lies in which folder, since when.

    Other files come and go in such folders, as the one that a hub was started in is among them.
    """
    return tuple(_stamps())


def _stamps() -> Iterator[Hashable]:
    for entry in sys.path:
        with contextlib.suppress(OSError):
            status = os.stat(entry or ".")  # noqa: PTH116  reason: each step looks, and a Path is slow
            if stat.S_ISDIR(status.st_mode):
                yield _stamp(entry or ".", status.st_mtime_ns)


@lru_cache(maxsize=64)
def _stamp(folder: str, _: int) -> Hashable:
    """Looked at anew when the folder's time of change is another."""
    with os.scandir(folder) as found:
        marks = [one for one in found if one.name.endswith(MARKS)]
        return folder, frozenset((one.name, one.stat().st_mtime_ns) for one in marks)


def installed_environment() -> Environment:
    """Python, the platform, and all installed packages. About 50 ms for a hundred packages."""
    found = {canonicalize_name(d.name): d.version for d in distributions() if d.name}
    return Environment(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=f"{sys.platform} {platform.machine()}",
        packages=dict(sorted(found.items())),
    )
