"""The model to judge, however it is asked: loaded here where it is only data, else in another process or over
HTTP, and through a twin where that is seen to be its equal.

Code that came with a model never runs in this process, as it could write a result of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from tallystick.core.errors import BadInput, NotSupported, TallyError
from tallystick.core.facts import from_json, to_json
from tallystick.crew.judging.rows import Given
from tallystick.crew.judging.twins import differing, open_twin, prove_equal
from tallystick.crew.measure.remote import RemotePredictor
from tallystick.crew.measure.target import Seen
from tallystick.crew.serve import choose_runtime
from tallystick.evidence.domain import Domain
from tallystick.evidence.probe import Threat
from tallystick.evidence.threats import THROUGH
from tallystick.ports.models.attack import Needs, Victim, Weigh
from tallystick.ports.models.runtime import Predictor

__all__ = ["Opened", "Victims", "opened", "victims"]

LIBRARIES: Mapping[str, str] = {
    "onnxruntime": "onnxruntime",
    "mlflow": "mlflow",
    "sklearn": "scikit-learn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "torch": "torch",
    "tensorflow": "tensorflow",
}
"""Modules that models predict with, and the packages that say their version."""

THREADS_MAX = 8


@dataclass
class Opened:
    """A model that can be asked; ``file`` is its own ONNX file, where it was loaded from one.

    ``asked`` says how it is asked, for the evidence; ``waited`` what an endpoint had us wait for.
    """

    predictor: Predictor
    versions: dict[str, str]
    file: Path | None = None
    asked: str = ""
    waited: Callable[[], str] = str


@contextmanager
def opened(order: Mapping[str, Any]) -> Iterator[Opened]:
    """The model of the order: an ``endpoint`` (address), or ``folder``, then by itself or over ``socket``.

    BadInput for one that may run code and that no other process serves.
    """
    if "endpoint" in order:
        from tallystick.crew.judging.endpoint import EndpointPredictor

        with closing(EndpointPredictor(str(order["endpoint"]))) as far:
            yield Opened(
                far, {"runtime": "an endpoint"}, None, f"asked over HTTP at {far.address}", far.waited
            )
        return
    folder = Path(order["folder"])
    options = {"threads": min(int(order.get("threads", 1)), THREADS_MAX), **_across(order)}
    tile, runtime = choose_runtime(folder, "", options)
    named, across = {"runtime": f"tallystick {tile}"}, options.get("across")
    if not runtime.runs_code:
        found = runtime.load(folder)
        asked = "loaded as plain data" + (f", gradients taken {_past(across)}" if across else "")
        yield Opened(found, {**named, **_libraries(False)}, _onnx_file(folder), asked)
        return
    if "socket" not in order or "name" not in order:
        raise BadInput(
            f"the runtime {tile} may run code of the model's own, which is never run where it is measured",
            where="crew/judge",
            hint="the model's record says that it runs none: do not trust this model",
        )
    with closing(RemotePredictor(Path(order["socket"]), str(order["name"]))) as near:
        asked = "asked in a process of its own, behind a wall"
        asked += f"; its gradients are not taken {_past(across)}, which takes it as ONNX" if across else ""
        yield Opened(near, {**named, **_libraries(True)}, None, asked)


def _across(order: Mapping[str, Any]) -> dict[str, Any]:
    """The runtime's option for a preprocessing that the domain declares."""
    domain = from_json(Domain, order.get("domain", {}), "domain")
    if domain.preprocessing is None:
        return {}
    said = dict(to_json(domain.preprocessing))
    return {"across": {**said, "shape": domain.shape, "channels_first": domain.channels_first}}


def _past(across: Mapping[str, Any]) -> str:
    """In words."""
    window = f" of {across['size']} by {across['size']}" if across["stand_in"] == "mean" else ""
    until = f" until {across['until']}" if across["until"] else ""
    return f"across its declared preprocessing{until} by {across['stand_in']}{window} (Athalye et al. 2018)"


def _onnx_file(folder: Path) -> Path | None:
    """The one ONNX file of a model that was loaded as plain data, where it lies beside its ``MLmodel``."""
    files = [path for path in folder.rglob("*.onnx") if path.is_file() and not path.is_symlink()]
    return files[0] if len(files) == 1 else None


def _libraries(elsewhere: bool) -> dict[str, str]:
    """Versions of the libraries that came in as the model was loaded.

    Of a model that was loaded ``elsewhere`` nobody can say for certain which those were: then of all that
    are installed.
    """
    found: dict[str, str] = {}
    for module, package in LIBRARIES.items():
        if elsewhere or module in sys.modules:
            try:
                found[package] = version(package)
            except PackageNotFoundError:  # a build of its own name, such as one for a GPU, or not installed
                if module in sys.modules:
                    found[package] = str(getattr(sys.modules[module], "__version__", "unknown"))
    return found


@dataclass
class Victims:
    """The model ``itself`` and, where an equal one is there, its ``twin``; ``notes`` say how it came out.

    ``aligned`` is the model with its classes as the twin has them, and ``apart`` says of rows (k, features)
    which of them the two answer differently, not by rounding: bool (k,).
    """

    itself: Seen
    twin: Seen | None = None
    notes: list[str] = field(default_factory=list)
    aligned: Victim | None = None
    apart: Callable[[np.ndarray], np.ndarray] = lambda rows: np.zeros(len(rows), bool)

    def for_(self, threat: Threat, needs: Needs) -> Seen:
        """The one that a probe about this threat asks; traces of poison are looked for inside, if need be
        inside of the twin.
        """
        through = threat in THROUGH and (needs.train or threat is not Threat.POISONING)
        return self.twin if self.twin is not None and through and not needs.itself else self.itself

    def wrong(self, rows: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Of ``rows`` (k, ...) of the classes ``y`` (k,): whether the model itself is wrong, bool (k,)."""
        return np.asarray(self.itself.scores(rows).argmax(axis=1) != y)


def victims(model: Opened, rows: Given, order: Mapping[str, Any], home: Path) -> Victims:
    """The model as a victim, beside the twin in the file ``twin`` of the order, if it is the model's equal.

    A twin that cannot be used is no error: then the model itself is asked all questions, which takes longer.
    """
    itself = Seen(model.predictor, rows.x, rows.truth)
    itself.twin = model.file
    found = Victims(itself, notes=[*rows.notes, *itself.notes])
    if "twin" in order:
        try:
            _add_twin(found, Path(order["twin"]), rows, int(order.get("seed", 0)), home)
        except TallyError as wrong:
            found.notes.append(f"its ONNX twin is not used: {wrong.what}")
    elif order.get("no_twin"):
        found.notes.append(f"it has no ONNX twin: {str(order['no_twin'])[:300]}")
    return found


def _add_twin(found: Victims, file: Path, rows: Given, seed: int, home: Path) -> None:
    folder, itself = home / "twin", found.itself
    folder.mkdir(mode=0o700)
    twin = Seen(open_twin(file, folder, rows.x.shape[1]), rows.x, rows.truth)
    model, labels_only = _in_order_of(twin, itself), itself.gives == "labels"
    same = prove_equal(twin.scores, model, rows.x, domain=rows.domain, labels_only=labels_only, seed=seed)
    if not same.equal:
        found.notes.append(f"its ONNX twin is not used, as it is another model: {same.says}")
        return
    found.notes.append(
        f"attacked through its ONNX twin, and what was found confirmed on the model: {same.says}"
    )
    twin.twin = folder / "twin.onnx"
    found.twin, found.aligned = twin, _Aligned(model, twin.classes, itself.gives)
    found.apart = lambda asked: differing(twin.scores, model, asked, labels_only=labels_only, seed=seed)


class _Aligned:
    """The model itself, with its classes as its twin has them, to be shown what was found there."""

    gradients = False
    twin: Path | None = None

    def __init__(self, says: Callable[[np.ndarray], np.ndarray], classes: int, gives: str) -> None:
        self._says, self.classes, self.gives = says, classes, gives

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """See the port; a model of labels alone may have a class more, for labels that its twin lacks."""
        return self._says(rows)

    def pull(self, rows: np.ndarray, weigh: Weigh) -> tuple[np.ndarray, np.ndarray]:
        """See the port."""
        raise NotSupported("it is asked to confirm, and not attacked", where="model")

    def hidden(self, rows: np.ndarray) -> np.ndarray:
        """See the port."""
        raise NotSupported("it is asked to confirm, and not attacked", where="model")


def _in_order_of(twin: Seen, itself: Seen) -> Callable[[np.ndarray], np.ndarray]:
    """The model's scores, its classes where the twin has them; of labels alone, one more for any other."""
    places = {name: place for place, name in enumerate(twin.names)}
    lacking = [name for name in itself.names if name not in places]
    if itself.gives != "labels":
        if lacking or len(places) != len(itself.names):
            raise BadInput("it has other classes than the model", where="twin")
        order = np.array([itself.names.index(name) for name in twin.names])
        return lambda rows: np.asarray(itself.scores(rows)[:, order])
    at = np.array([places.get(name, len(places)) for name in itself.names])

    def labels(rows: np.ndarray) -> np.ndarray:
        said = at[itself.scores(rows).argmax(axis=1)]
        return np.asarray(np.eye(len(places) + 1, dtype=np.float32)[said])

    return labels
