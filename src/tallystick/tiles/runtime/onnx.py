"""ONNX models of MLflow, by ONNX Runtime alone: no MLflow, no code of the model's own.

One thread and fixed kernels unless the option ``threads`` says more, so the same request gives the
same answer, bit for bit. Whatever in the files points outside their folder is refused before ONNX
Runtime sees it, and so are libraries of custom operators.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallystick.core.errors import BadInput, Failed, MissingTile, NotSupported, Refused
from tallystick.core.model import TensorSpec
from tallystick.ports.tile import Place
from tallystick.tiles.runtime.mlmodel import check_paths, file_inside, flavor, has_flavor, read_mlmodel
from tallystick.tiles.runtime.tensors import as_bytes, as_text, check_inputs

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime

    from tallystick.gradient.across import Across
    from tallystick.gradient.model import Gradients

__all__ = ["OnnxPredictor", "OnnxRuntime", "open_tile"]

THREADS_MAX = 64

ONNX_TYPES: Mapping[str, str] = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}


class OnnxPredictor:
    """A session of ONNX Runtime; every output of the model is kept, ``probabilities`` beside ``label``."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        model: Path,
        again: Callable[[Any], onnxruntime.InferenceSession],
        across: Mapping[str, Any] | None = None,
    ) -> None:
        where = str(model)
        self._again, self._across = again, across
        self.inputs = tuple(_spec(node, where) for node in session.get_inputs())
        self.outputs = tuple(_spec(node, where) for node in session.get_outputs())
        self._session = session
        self._names = [spec.name for spec in self.outputs]
        self._texts = frozenset(spec.name for spec in self.inputs if spec.datatype == "BYTES")
        self._model = model
        self._where = where
        self._gradients: Gradients | Across | None = None
        self._inner: tuple[tuple[str, ...], onnxruntime.InferenceSession] | None = None

    def predict(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See the port."""
        check_inputs(self.inputs, inputs)
        feed = {n: as_text(a, f"input {n}") if n in self._texts else a for n, a in inputs.items()}
        try:
            answers = self._session.run(self._names, feed)
        except Exception as wrong:  # ONNX Runtime's errors share no base but Exception
            raise Failed(f"the model raised: {str(wrong)[:500]}", where=self._where) from wrong
        return {
            spec.name: as_bytes(answer) if spec.datatype == "BYTES" else answer
            for spec, answer in zip(self.outputs, answers, strict=True)
        }

    def pull(
        self, inputs: Mapping[str, np.ndarray], weigh: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        """See the port. What is worked for it is first compared with what ONNX Runtime says of the rows."""
        check_inputs(self.inputs, inputs)
        return self._differentiable().pull(inputs, weigh)

    def hidden(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """See the port."""
        check_inputs(self.inputs, inputs)
        found: np.ndarray = self._differentiable().hidden(inputs)
        return found

    def _differentiable(self) -> Gradients | Across:
        """The graph read again, for its gradients; only where somebody asks for them, as onnx weighs."""
        if self._gradients is None:
            try:
                from tallystick.gradient.graph import read
                from tallystick.gradient.model import Gradients

                graph = read(self._model)
            except ImportError:
                hint = "pip install 'tallystick[onnx]'"
                raise MissingTile("gradients need onnx", where="tile runtime/onnx", hint=hint) from None
            if self._across is None:
                self._gradients = Gradients(graph, self.inputs, self.outputs, self.predict)
            else:
                self._gradients = self._declared(graph, self._across)
        return self._gradients

    def _declared(self, graph: Any, said: Mapping[str, Any]) -> Across:
        """The gradients across a declared preprocessing; NotSupported for a model of several inputs."""
        from tallystick.gradient.across import Across, Declared

        if len(self.inputs) != 1:
            text = f"it has {len(self.inputs)} inputs, and a declared preprocessing is of one"
            raise NotSupported(text, where="preprocessing")
        return Across(graph, self.inputs[0], self.outputs, self.predict, self._between, Declared(**said))

    def _between(self, names: Sequence[str], inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        """What the tensors ``names`` of the graph are for these inputs, by ONNX Runtime."""
        from tallystick.gradient.graph import parsed

        key = tuple(names)
        try:
            if self._inner is None or self._inner[0] != key:
                model = parsed(self._model)
                known = {output.name for output in model.graph.output}
                for name in (name for name in names if name not in known):
                    model.graph.output.add().name = name
                self._inner = key, self._again(model.SerializeToString())
            found: Sequence[np.ndarray] = self._inner[1].run(list(names), dict(inputs))
        except Exception as wrong:  # ONNX Runtime's and protobuf's errors share no base but Exception
            raise NotSupported(f"what is worked on the way cannot be had: {str(wrong)[:300]}") from wrong
        return found


class OnnxRuntime:
    """Loads model folders whose ``MLmodel`` has the ``onnx`` flavor."""

    runs_code = False

    def __init__(self, threads: int = 1, across: Mapping[str, Any] | None = None) -> None:
        self.threads, self._across = threads, across

    def accepts(self, folder: Path) -> bool:
        """See the port."""
        return has_flavor(folder, "onnx")

    def load(self, folder: Path) -> OnnxPredictor:
        """See the port; Refused for files that reach outside ``folder`` or bring operators of their own."""
        where = str(folder / "MLmodel")
        said = read_mlmodel(folder)
        check_paths(said, folder)
        settings = flavor(said, "onnx", folder)
        _refuse_custom_operators(settings, where)
        model = file_inside(folder, settings.get("data"), where)
        if _may_have_external_data(model):
            _check_external_data(model)
        return OnnxPredictor(self._session(str(model)), model, self._session, self._across)

    def _session(self, model: str | bytes) -> onnxruntime.InferenceSession:
        try:
            import onnxruntime
        except ImportError:
            hint = "pip install 'tallystick[onnx]'"
            raise MissingTile("it needs onnxruntime", where="tile runtime/onnx", hint=hint) from None
        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        # Threads that wait actively take a core each between requests.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Neither by its ending nor by its first bytes may a file pass for ONNX Runtime's own format.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as wrong:  # ONNX Runtime's errors share no base but Exception
            where = model if isinstance(model, str) else "model"
            raise BadInput(f"ONNX Runtime cannot load it: {str(wrong)[:500]}", where=where) from wrong


def _spec(node: Any, where: str) -> TensorSpec:
    """From a node of a session: its name, type such as ``tensor(float)``, and shape."""
    kind = str(node.type)
    datatype = ONNX_TYPES.get(kind.removeprefix("tensor(").removesuffix(")"))
    if datatype is None or not kind.startswith("tensor("):
        hint = "convert with options={id(model): {'zipmap': False}}" if kind.startswith("seq(map") else ""
        raise NotSupported(f"{node.name!r} is a {kind}, not a plain tensor", where=where, hint=hint)
    return TensorSpec(node.name, datatype, tuple(d if isinstance(d, int) else -1 for d in node.shape))


def _refuse_custom_operators(settings: Mapping[str, Any], where: str) -> None:
    options = settings.get("onnx_session_options")
    keys = [*settings, *(options if isinstance(options, dict) else ())]
    named = " ".join(key for key in keys if isinstance(key, str))
    if "custom_op" in named.lower() or "library" in named.lower():
        hint = "export the model with the standard operators of ONNX"
        raise Refused("it brings a library of custom operators", where=where, hint=hint)


def _may_have_external_data(model: Path) -> bool:
    """False when no tensor can be stored outside: the word that would say where does not occur at all.

    The words of a protocol buffer are stored as they are, so looking for them is sound, and it spares
    importing onnx (0.15 s) and parsing large models twice.
    """
    if model.stat().st_size == 0:
        raise BadInput("it is empty", where=str(model))
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as bytes_:
        return bytes_.find(b"location") >= 0


def _check_external_data(model: Path) -> None:
    """Every tensor stored outside ``model`` must be in a file beside or below it; or else Refused."""
    try:
        import onnx
    except ImportError:
        hint = "pip install 'tallystick[onnx]'"
        raise MissingTile(
            "external data cannot be checked without onnx", where=str(model), hint=hint
        ) from None
    try:
        parsed = onnx.load(str(model), load_external_data=False)
    except Exception as wrong:  # those of protobuf, of which there is one for each of its own makings
        raise BadInput(f"it is not an ONNX model: {wrong}", where=str(model)) from wrong
    for location in _external_locations(parsed):
        file_inside(model.parent, location, str(model))


def _external_locations(message: Any) -> Iterator[str]:
    """Where any tensor in a protocol buffer message, subgraphs and functions included, has its data."""
    waiting = [message]
    while waiting:
        part = waiting.pop()
        if part.DESCRIPTOR.full_name == "onnx.TensorProto":
            yield from (entry.value for entry in part.external_data if entry.key == "location")
        for field, value in part.ListFields():
            if field.message_type is not None:
                waiting.extend([value] if hasattr(value, "ListFields") else value)


def open_tile(place: Place) -> OnnxRuntime:
    """Option ``threads``: how many work on one request, 1 (the default) to 64. ``across``: the fields of
    :class:`tallystick.gradient.across.Declared`, for gradients across a declared preprocessing.
    """
    threads = place.options.get("threads", 1)
    if type(threads) is not int or not 1 <= threads <= THREADS_MAX:
        raise BadInput(f"threads is {threads!r:.50}, not 1 to {THREADS_MAX}", where="tile runtime/onnx")
    return OnnxRuntime(threads, place.options.get("across"))
