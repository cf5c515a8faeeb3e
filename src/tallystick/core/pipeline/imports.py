"""Which modules are worth having before a step is forked, by what its source imports."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping

__all__ = ["MODULES", "STARTING_ONLY", "modules_of", "packages_in", "starts_differently"]

MODULES: Mapping[str, tuple[str, ...]] = {
    "numpy": ("numpy", "numpy.random"),
    "pandas": ("pandas",),
    "scipy": ("scipy.sparse", "scipy.stats"),
    "sklearn": (
        "sklearn.datasets",
        "sklearn.ensemble",
        "sklearn.linear_model",
        "sklearn.metrics",
        "sklearn.model_selection",
        "sklearn.pipeline",
        "sklearn.preprocessing",
    ),
}
"""By package that a step imports: what a zygote imports for it. None of them starts a thread by itself."""
STARTING_ONLY = (
    *(
        "PYTHON",
        "LD_",
        "LC_",
        "LANG",
        "MALLOC_",
        "GLIBC_",
        "JE_",
        "OMP_",
        "GOMP_",
        "KMP_",
        "OPENBLAS_",
        "MKL_",
    ),
    *("BLIS_", "GOTO_", "NUMEXPR_", "NPY_", "NUMPY_", "SCIPY_", "SKLEARN_", "PANDAS_", "ARROW_"),
)
"""How variables begin that Python or a library reads as it starts, and never again."""
_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import\b|import[ \t]+([\w.,\t ]+))", re.MULTILINE)


@functools.lru_cache(maxsize=256)
def packages_in(source: str) -> frozenset[str]:
    """The packages of :data:`MODULES` that ``source`` seems to import, anywhere.

    Only a guess is needed, so nothing is parsed: that would take the hub's time and stack for a source that
    somebody made for it.
    """
    found = set()
    for origin, names in _IMPORT.findall(source):
        for name in (origin or names).split(","):
            found.add(name.split()[0].partition(".")[0] if name.split() else "")
    return frozenset(found & MODULES.keys())


def modules_of(packages: Iterable[str]) -> frozenset[str]:
    """What a zygote imports for these packages."""
    return frozenset(module for package in packages for module in MODULES[package])


def starts_differently(env: Mapping[str, str], usual: Mapping[str, str]) -> bool:
    """Whether ``env`` sets a variable that would come too late for a process that runs already."""
    return any(name.startswith(STARTING_ONLY) and usual.get(name) != value for name, value in env.items())
