"""What a step's process is made of, as a folder of links: this package and KFP's runtime, and nothing else.

Both need no other package. A step in an environment of its own finds them there, last on its path, and not
the rest of what is installed beside the hub.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from tallystick.core.errors import MissingTile

__all__ = ["NAMES", "PTH", "make_runtime", "targets"]

NAMES = ("tallystick", "kfp")
PTH = "zz-tallystick-runtime.pth"
"""In an environment's packages: where its runtime is. What such a file names comes last on Python's path."""


def targets() -> dict[str, Path]:
    """The folder of each package, wherever it is installed beside the hub."""
    found: dict[str, Path] = {}
    for name in NAMES:
        spec = find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise MissingTile(
                f"it needs the Python package {name}, for the runtime of components",
                where="environments/uv",
                hint=f"pip install --no-deps {name}",
            )
        found[name] = Path(next(iter(spec.submodule_search_locations))).resolve()
    return found


def make_runtime(folder: Path) -> tuple[Path, ...]:
    """Make the folder, or bring it up to date; where its links lead."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    found = targets()
    for name, target in found.items():
        link = folder / name
        if not link.is_symlink() or link.readlink() != target:
            aside = folder / f".{name}.{os.getpid()}"
            aside.unlink(missing_ok=True)
            aside.symlink_to(target)
            aside.replace(link)
    return tuple(found.values())
