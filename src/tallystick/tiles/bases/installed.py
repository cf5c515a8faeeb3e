"""What is installed beside the hub: whether it satisfies a component, and what all of it is."""

from __future__ import annotations

import contextlib
import os
import platform
import stat
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution, distributions

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from tallystick.core.errors import NotSupported
from tallystick.core.values import Environment

__all__ = ["check_packages", "environment_stamp", "installed_environment"]

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


def environment_stamp() -> tuple[tuple[str, int], ...]:
    """Changes whenever a package is installed or removed: the folders of packages with their change times."""
    return tuple(_stamps())


def _stamps() -> Iterator[tuple[str, int]]:
    for entry in sys.path:
        with contextlib.suppress(OSError):
            status = os.stat(entry or ".")  # noqa: PTH116  reason: each step looks twice, and a Path is slow
            if stat.S_ISDIR(status.st_mode):
                yield entry, status.st_mtime_ns


def installed_environment() -> Environment:
    """Python, the platform, and all installed packages. About 50 ms for a hundred packages."""
    found = {canonicalize_name(d.name): d.version for d in distributions() if d.name}
    return Environment(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=f"{sys.platform} {platform.machine()}",
        packages=dict(sorted(found.items())),
    )
